//! `courant services`, and `courant dlq` through a service that runs: signed requests in a topic of the
//! server that the service is on.

use std::collections::BTreeSet;
use std::fs;
use std::process::Output;

use courant::channel::{Action, Change, OperationsKey, REQUESTS, Request, Signed, Which};
use serde_json::{Value, json};
use tempfile::{TempDir, tempdir};

use crate::cli::{assert_fails, rows, run, said};
use crate::dlq::Site;
use crate::http_records::post;
use crate::server::{Server, command, courant};
use crate::{PATIENCE, eventually};

const USAGE: i32 = 2;
const NOT_FOUND: i32 = 3;
const CONFLICT: i32 = 4;
const NOT_ALLOWED: i32 = 5;
const UNREACHABLE: i32 = 6;

const KEY: &str = "a key of the tests: 32 bytes or more";

/// A server with a service on it, and the key of the service in a file.
struct Asked {
    site: Site,
    url: String,
    key_file: String,
    server: Server,
    _data: TempDir,
}

impl Asked {
    fn new(test: &str) -> Option<Asked> {
        let data = tempdir().unwrap();
        let server = Server::start(data.path());
        let url = format!("courant://{}", server.bootstrap());
        let site = Site::with(&format!("channel::{test}"), &[url.as_str(), KEY])?;
        let key_file = site.path("billing.key");
        fs::write(&key_file, format!("{KEY}\n")).unwrap();
        let key_file = key_file.display().to_string();
        Some(Asked { site, url, key_file, server, _data: data })
    }

    fn words<'a>(&'a self, words: &[&'a str]) -> Vec<&'a str> {
        let mut all = vec!["dlq"];
        all.extend(words);
        all.extend(["--engine", self.url.as_str(), "--service", "billing"]);
        all.extend(["--key-file", self.key_file.as_str()]);
        all
    }

    /// Runs `courant dlq` through the service.
    fn dlq(&self, words: &[&str]) -> Output {
        courant(&self.words(words), "")
    }

    fn row(&self, words: &[&str]) -> Value {
        let mut rows = rows(self.dlq(words));
        assert_eq!(rows.len(), 1, "{rows:?}");
        rows.remove(0)
    }

    /// Waits until the service has said that it is there.
    fn is_there(&self) -> Value {
        eventually("the service says that it is there", PATIENCE, || self.services().into_iter().next())
    }

    fn services(&self) -> Vec<Value> {
        rows(courant(&["services", "--engine", self.url.as_str()], ""))
    }

    /// Sends a request as it is, in an event of this id.
    fn send(&self, id: &str, signed: &Signed) {
        self.send_text(id, &serde_json::to_string(signed).unwrap());
    }

    /// Sends whatever it is, as if it were a request.
    fn send_text(&self, id: &str, value: &str) {
        let headers: Vec<String> =
            Signed::headers(id, "a test").iter().map(|(name, value)| format!("{name}={value}")).collect();
        let mut all = vec!["pub", REQUESTS, value];
        headers.iter().for_each(|header| all.extend(["-H", header]));
        let server = self.server.bootstrap();
        all.extend(["--server", server.as_str()]);
        rows(courant(&all, ""));
    }

    /// Every answer to a request, in order.
    fn answers(&self, id: &str) -> Vec<Value> {
        let server = self.server.bootstrap();
        let tail =
            courant(&["tail", courant::channel::ANSWERS, "-o", "jsonl", "--server", server.as_str()], "");
        if !tail.status.success() {
            return Vec::new();
        }
        let answers = rows(tail).into_iter().filter(|row| row["key"] == id);
        answers.map(|row| serde_json::from_str(row["value"].as_str().expect("text")).unwrap()).collect()
    }

    /// The first answer to a request, when it is there.
    fn answer(&self, id: &str) -> Value {
        eventually("the request is answered", PATIENCE, || self.answers(id).into_iter().next())
    }
}

fn now_ms() -> i64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    i64::try_from(now.as_millis()).unwrap()
}

fn discard_all(id: &str, valid_ms: i64) -> Request {
    let which = Which { all: true, ..Which::default() };
    Request {
        version: 1,
        id: id.to_owned(),
        service: "billing".to_owned(),
        actor: "mallory".to_owned(),
        expires_ms: now_ms() + valid_ms,
        action: Action::Discard(Change { which, reason: "all of them".to_owned(), dry_run: false }),
    }
}

fn key(text: &str) -> OperationsKey {
    OperationsKey::new(text).unwrap()
}

/// A row without the times of its run.
fn timeless(mut row: Value) -> Value {
    for time in ["requested", "finished", "since", "event_id", "original_event_id", "first", "last"] {
        if let Some(there) = row.get_mut(time) {
            *there = json!("…");
        }
    }
    row
}

/// What is asked of the service has the result that it has in the store, and says the same.
#[test]
fn through_the_service_is_the_same_as_in_the_store() {
    let Some(asked) = Asked::new("through_the_service_is_the_same_as_in_the_store") else { return };
    let Some(other) = Site::with("channel::through_the_service_is_the_same_as_in_the_store", &[]) else {
        return;
    };
    let orders = ["ada 1 poison", "ada 2 fine", "bob 1 poison", "cat 1 poison", "eve 1 poison"];
    let (mut mine, mut theirs) = (asked.site.start(), other.start());
    mine.place(&orders);
    theirs.place(&orders);
    assert_eq!((asked.site.letters(4).len(), other.letters(4).len()), (4, 4));
    asked.is_there();
    let failures = eventually("the service tells of its failures", PATIENCE, || {
        let listed = rows(asked.dlq(&["list"]));
        listed.first().is_some_and(|failure| failure["letters"] == 4).then_some(listed)
    });
    let listed: Vec<Value> = other.rows(&["list"]).into_iter().map(timeless).collect();
    assert_eq!(failures.into_iter().map(timeless).collect::<Vec<_>>(), listed);

    let value = r#"{"customer":"eve","number":1,"text":"better"}"#;
    let (asks, stores) =
        (|words: &[&str]| timeless(asked.row(words)), |words: &[&str]| timeless(other.row(words)));
    for words in [
        &["redrive", "--all", "--dry-run"][..],
        &["discard", "2", "--reason", "paid by hand", "--by", "grace", "--dry-run"],
        &["discard", "2", "--reason", "paid by hand", "--by", "grace"],
        &["archive", "--key", "cat", "--reason", "for the auditors", "--by", "grace"],
        &["restore", "--key", "cat", "--reason", "not over yet", "--by", "grace", "--dry-run"],
        &["restore", "3", "--reason", "not over yet", "--by", "grace"],
        &["archive", "--key", "cat", "--reason", "for the auditors", "--by", "grace"],
        &["edit", "4", value, "--reason", "a typo", "--by", "grace"],
    ] {
        assert_eq!(asks(words), stores(words), "{words:?}");
    }
    let noted = |site: &Site| site.row(&["show", "2"])["notes"][0]["by"].clone();
    assert_eq!((noted(&asked.site), noted(&other)), (json!("grace"), json!("grace")));

    asked.site.repair();
    other.repair();
    let words = ["redrive", "--all", "--id", "till-repaired", "--by", "grace"];
    assert_eq!(asks(&words)["letters"], stores(&words)["letters"]);
    for site in [&asked.site, &other] {
        let mut billed = site.billed(3);
        billed.sort_unstable();
        assert_eq!(billed, ["ada 1", "ada 2", "eve 1"], "bob was given up, cat is kept");
    }
    let status = ["redrive", "--status", "till-repaired"];
    let done = eventually("the redrive is done", PATIENCE, || {
        let row = asks(&status);
        (row["state"] == "done").then_some(row)
    });
    assert_eq!(done, stores(&status));
    let results = ["redrive", "--status", "till-repaired", "--events"];
    let told: Vec<Value> = rows(asked.dlq(&results)).into_iter().map(timeless).collect();
    assert_eq!(told, other.rows(&results).into_iter().map(timeless).collect::<Vec<_>>());
    let again = asked.row(&words);
    assert_eq!(timeless(again), done, "under its id it is the same redrive");
}

/// A request takes effect once; one that has expired, that somebody else has signed or that is sent again
/// under another id takes none, and each is answered. What is no request leaves nothing.
#[test]
fn requests_that_are_not_to_be_followed_are_refused() {
    let Some(asked) = Asked::new("requests_that_are_not_to_be_followed_are_refused") else { return };
    let mut service = asked.site.start();
    service.place(&["ada 1 poison"]);
    let first = asked.site.letters(1);
    let refused = |id: &str| {
        let answer = asked.answer(id);
        assert_eq!(answer["outcome"]["kind"], "refused", "{answer}");
        assert_eq!(answer["service"], "billing");
        answer["outcome"]["why"].as_str().expect("a word").to_owned()
    };
    asked.send("expired", &Signed::new(&discard_all("expired", -1), &key(KEY)));
    assert_eq!(refused("expired"), "expired");
    asked.send("endless", &Signed::new(&discard_all("endless", 7_200_000), &key(KEY)));
    assert_eq!(refused("endless"), "valid_for_too_long");
    let stranger = key("somebody else's key, as long as any");
    asked.send_text("no-json", "{no json");
    asked.send("forged", &Signed::new(&discard_all("forged", 60_000), &stranger));
    assert_eq!(refused("forged"), "bad_signature");
    // What comes before it in the topic has had its turn, and is no dead letter itself.
    assert_eq!(asked.site.letters(1), first, "nothing has happened to the letter");
    let server = asked.server.bootstrap();
    let topics = rows(courant(&["topic", "list", "-o", "jsonl", "--server", server.as_str()], ""));
    let names: Vec<&str> = topics.iter().map(|topic| topic["name"].as_str().expect("a name")).collect();
    assert!(names.contains(&REQUESTS), "{names:?}");
    assert!(!names.iter().any(|name| name.starts_with("_courant.ops._")), "it has no copy: {names:?}");

    let followed = Signed::new(&discard_all("followed", 600_000), &key(KEY));
    asked.send("followed", &followed);
    assert_eq!(asked.answer("followed")["outcome"]["kind"], "decided");
    service.place(&["bob 1 poison"]);
    let second = asked.site.letters(1);
    assert_ne!(second, first);
    asked.send("followed", &followed);
    asked.send("replayed", &followed);
    // Requests are taken in their order, so the one before it has had its turn.
    assert_eq!(refused("replayed"), "other_id");
    assert_eq!(asked.answers("followed").len(), 1, "it was taken once");
    assert_eq!(asked.site.letters(1), second, "and does nothing to what has died since");

    let other = asked.site.path("other.key");
    fs::write(&other, "somebody else's key, as long as any").unwrap();
    let other = other.display().to_string();
    let line =
        ["dlq", "discard", "--all", "--reason", "r", "--engine", asked.url.as_str(), "--service", "billing"];
    let signed_by_another = courant(&[&line[..], &["--key-file", other.as_str()]].concat(), "");
    assert_fails(&signed_by_another, NOT_ALLOWED, "signature");
    assert_eq!(asked.site.letters(1), second);
}

/// Whoever is killed halfway, the command or the service: the redrive goes on, and nothing is done twice.
#[test]
fn a_redrive_that_is_asked_for_and_killed_halfway_does_nothing_twice() {
    const LETTERS: u64 = 40;
    let Some(asked) = Asked::new("a_redrive_that_is_asked_for_and_killed_halfway_does_nothing_twice") else {
        return;
    };
    let mut service = asked.site.start();
    let orders: Vec<String> = (0..LETTERS)
        .map(|n| format!("k{n} 1 poison{}", if n == LETTERS / 2 { " wait" } else { "" }))
        .collect();
    service.place(&orders.iter().map(String::as_str).collect::<Vec<_>>());
    asked.site.letters(usize::try_from(LETTERS).unwrap());
    asked.is_there();
    fs::write(asked.site.path("hold"), "").unwrap();
    asked.site.repair();
    let words = ["redrive", "--all", "--id", "all"];
    for _ in 0..3 {
        // Wherever it is: it has asked, or it has not.
        let mut child = command(&asked.words(&words)).spawn().expect("the binary under test starts");
        child.kill().expect("it runs");
        child.wait().expect("a child can be waited for");
    }
    assert_eq!(asked.row(&words)["letters"], LETTERS);
    let status = ["redrive", "--status", "all"];
    // The order in the middle holds the lock of the database, and the service takes no request meanwhile.
    eventually("half of them are billed", PATIENCE, || {
        (asked.site.row(&status)["handled"] == LETTERS / 2).then_some(())
    });
    service.kill();
    fs::remove_file(asked.site.path("hold")).unwrap();

    let _service = asked.site.start();
    // What is asked while nobody has the partition of the requests waits there.
    let done = eventually("the redrive ends", PATIENCE, || {
        let status = asked.dlq(&status);
        status.status.success().then(|| rows(status).remove(0)).filter(|row| row["state"] == "done")
    });
    assert_eq!((done["handled"].as_u64(), done["failed"].as_u64()), (Some(LETTERS), Some(0)));
    let billed = asked.site.billed(1);
    let different: BTreeSet<&String> = billed.iter().collect();
    assert_eq!((billed.len() as u64, different.len() as u64), (LETTERS, LETTERS));
}

/// A service says what it is and how it is, and nothing of what its events say; when it has ended in order,
/// it is gone.
#[test]
fn services_say_how_they_are_without_what_their_events_say() {
    let Some(asked) = Asked::new("services_say_how_they_are_without_what_their_events_say") else { return };
    assert!(asked.services().is_empty(), "nobody has said anything");
    let mut service = asked.site.start();
    service.place(&["canary 1 poison", "canary 2 fine"]);
    asked.site.letters(1);
    let state = eventually("the letter is told of", PATIENCE, || {
        let state = asked.is_there();
        (state["dead_letters"] == 1 && state["parked_events"] == 1).then_some(state)
    });
    assert_eq!((state["service"].as_str(), state["state"].as_str()), (Some("billing"), Some("running")));
    assert_eq!((state["code_version"].as_str(), state["engine"].as_str()), (Some("2.1"), Some("courant")));
    assert_eq!((&state["operations"], &state["parked_keys"]), (&json!(true), &json!(1)));
    let subscriptions = state["subscriptions"].as_array().expect("a list");
    assert_eq!(subscriptions.len(), 1, "the channel's own is none of them");
    assert_eq!(subscriptions[0]["consumer"], "billing");
    assert_eq!(subscriptions[0]["topics"], json!(["shop.orders"]));
    assert_eq!(subscriptions[0]["event_types"], json!(["shop.order-placed"]));
    assert_eq!(subscriptions[0]["policy"]["exhausted"], "park_key");
    let server = asked.server.bootstrap();
    let said = courant(&["tail", courant::channel::SERVICES, "-o", "jsonl", "--server", server.as_str()], "");
    let said = String::from_utf8(said.stdout).unwrap();
    for secret in ["canary", "poison", "declined"] {
        assert!(said.contains("billing") && !said.contains(secret), "{secret} in {said}");
    }

    assert_fails(&asked.dlq(&["show", "1"]), USAGE, "--store");
    assert_fails(&asked.dlq(&["list", "--letters"]), USAGE, "--store");
    what_is_parked_is_discarded_through_the_service(&asked);
    let line =
        ["dlq", "redrive", "--all", "--engine", asked.url.as_str(), "--key-file", asked.key_file.as_str()];
    let nobody = courant(&[&line[..], &["--service", "shipping"]].concat(), "");
    assert_fails(&nobody, NOT_FOUND, "shipping");
    assert_fails(&courant(&line, ""), USAGE, "--service");
    service.stop();
    assert!(asked.services().is_empty(), "it has ended in order");
    let late = asked.dlq(&["redrive", "--all"]);
    assert_fails(&late, NOT_FOUND, "--store");
}

/// The service counts what waits behind the letter, gives it up, and says that nothing else is left.
fn what_is_parked_is_discarded_through_the_service(asked: &Asked) {
    let discard = |more: &[&'static str]| -> Vec<&'static str> {
        let of = ["discard-parked", "--consumer", "billing", "--topic", "shop.orders", "--partition", "0"];
        [&of[..], &["--reason", "no orders any more", "--by", "grace"], more].concat()
    };
    assert_fails(&asked.dlq(&discard(&["--all"])), USAGE, "--yes does it");
    let meant = asked.row(&discard(&["--all", "--dry-run"]));
    assert_eq!((&meant["events"], &meant["all"], &meant["dry_run"]), (&json!(1), &json!(true), &json!(true)));
    let given_up = asked.row(&discard(&["--key", "canary", "--yes"]));
    assert_eq!((&given_up["events"], &given_up["key"]), (&json!(1), &json!("canary")));
    let again = asked.dlq(&discard(&["--all", "--yes"]));
    assert_fails(&again, CONFLICT, "nothing waits there but dead letters");
    assert_fails(&asked.dlq(&discard(&["--key", "eve", "--yes"])), NOT_FOUND, "of this key");
    let discarded = asked.site.rows(&["list", "--state", "discarded"]);
    let noted = asked.site.row(&["show", &discarded[0]["id"].to_string()])["notes"][0].clone();
    assert_eq!((discarded.len(), &noted["by"]), (1, &json!("grace")));
    assert_eq!(asked.site.letters(1).len(), 1, "the letter that keeps the key parked stays");
}

/// A service that was killed is not gone: it is asked in vain, and the request is over with the wait.
#[test]
fn a_service_that_does_not_answer_is_not_waited_for_any_longer_than_said() {
    let Some(asked) = Asked::new("a_service_that_does_not_answer_is_not_waited_for_any_longer_than_said")
    else {
        return;
    };
    let mut service = asked.site.start();
    service.place(&["ada 1 poison"]);
    asked.site.letters(1);
    asked.is_there();
    service.kill();
    // Long enough to send the request on a busy machine: it is the answer that does not come.
    let late = asked.dlq(&["discard", "1", "--reason", "r", "--timeout", "6s"]);
    assert_fails(&late, UNREACHABLE, "has not answered");
    assert_eq!(asked.site.letters(1), [1]);
}

/// The progress of a service is in its database, and the server has a copy of it. To set the copy would change
/// nothing, so that is refused, by the command line and by HTTP, planned or done. Another group is set as ever.
#[test]
fn the_copy_of_a_services_progress_is_not_set() {
    let Some(asked) = Asked::new("the_copy_of_a_services_progress_is_not_set") else { return };
    let mut service = asked.site.start();
    service.place(&["ada 1 fine"]);
    asked.site.billed(1);
    service.stop();
    let reset = |group: &str, more: &[&str]| {
        let words = ["group", "reset", group, "--topic", "shop.orders", "--to", "start"];
        run(&asked.server, &[&words[..], more].concat())
    };
    let refused = eventually("the service has left its group", PATIENCE, || {
        let output = reset("billing", &["--execute"]);
        (!String::from_utf8_lossy(&output.stderr).contains("has members")).then_some(output)
    });
    assert_fails(&refused, CONFLICT, ".generation(");
    assert_fails(&reset("billing", &[]), CONFLICT, ".generation(");
    let body = json!({ "topic": "shop.orders", "to": "start", "execute": true });
    let refused = post(&asked.server, "/groups/billing/reset", &body);
    refused.assert_problem(409, "progress_elsewhere");
    assert!(refused.text.contains(".generation("), "{}", refused.text);
    said(reset("audit", &["--execute"]));
    let shown = said(run(&asked.server, &["group", "show", "billing", "-o", "json"]));
    let shown: Value = serde_json::from_str(&shown).expect("a document");
    assert_eq!(shown["total"]["events"], 0, "the copy says that it has everything");
}
