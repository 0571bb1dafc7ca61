//! `courant dlq` on the store of a service that runs, that does not, and that is killed: the example
//! `dlq-service` of the crate `courant`, which bills orders.

use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, Command, Output, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;

use courant_sql::{Sqlite, sqlx};
use serde_json::Value;
use tempfile::{TempDir, tempdir};

use crate::cli::{assert_fails, rows, said};
use crate::server::{command, courant, signal, unread};
use crate::{PATIENCE, eventually, example, skip};

const FAILED: i32 = 1;
const USAGE: i32 = 2;
const NOT_FOUND: i32 = 3;
const CONFLICT: i32 = 4;
const PARTLY: i32 = 7;
const INTERRUPTED: i32 = 130;

/// Where the service lives, with its events and its database.
pub(crate) struct Site {
    directory: TempDir,
    program: PathBuf,
    /// What the service is started with.
    arguments: Vec<String>,
}

/// What was billed.
#[derive(Debug)]
struct Bill {
    customer: String,
    number: i64,
    text: String,
    event: String,
    cause: String,
}

impl Site {
    /// None where the service was not built.
    fn new(test: &str) -> Option<Site> {
        Self::with(&format!("dlq::{test}"), &[])
    }

    /// A service that is started with these words: an engine, and a key.
    pub(crate) fn with(test: &str, arguments: &[&str]) -> Option<Site> {
        let program = example("dlq-service");
        if !program.is_file() {
            skip(test, "the example dlq-service was not built; build the workspace");
            return None;
        }
        let arguments = arguments.iter().map(|word| (*word).to_owned()).collect();
        Some(Site { directory: tempdir().unwrap(), program, arguments })
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// What poisoned orders wait for.
    pub(crate) fn repair(&self) {
        fs::write(self.path("repaired"), "").unwrap();
    }

    /// Starts the service, and waits until it runs.
    pub(crate) fn start(&self) -> Service {
        let log = fs::File::create(self.path("service.log")).unwrap();
        let mut child = Command::new(&self.program)
            .args(&self.arguments)
            .current_dir(self.directory.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .expect("the service starts");
        let printed = Arc::new(Mutex::new(Vec::new()));
        let (lines, stdout) = (Arc::clone(&printed), child.stdout.take().expect("stdout is piped"));
        thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                lines.lock().unwrap().push(line);
            }
        });
        let stdin = child.stdin.take();
        let service = Service { child, stdin, printed };
        service.says("ready");
        service
    }

    fn url(&self) -> String {
        format!("sqlite:{}", self.path("billing.db").display())
    }

    fn arguments<'a>(words: &[&'a str], url: &'a str) -> Vec<&'a str> {
        let mut all = vec!["dlq"];
        all.extend(words);
        all.extend(["--store", url]);
        all
    }

    /// Runs `courant dlq` with these words.
    fn dlq(&self, words: &[&str]) -> Output {
        courant(&Self::arguments(words, &self.url()), "")
    }

    pub(crate) fn rows(&self, words: &[&str]) -> Vec<Value> {
        rows(self.dlq(words))
    }

    /// The one line of what it says.
    pub(crate) fn row(&self, words: &[&str]) -> Value {
        let mut rows = self.rows(words);
        assert_eq!(rows.len(), 1, "{rows:?}");
        rows.remove(0)
    }

    /// Waits until so many letters are undecided; their numbers.
    pub(crate) fn letters(&self, count: usize) -> Vec<i64> {
        let all = ["list", "--letters"];
        let found = eventually("letters are dead", PATIENCE, || {
            let rows = self.rows(&all);
            (rows.len() == count).then_some(rows)
        });
        found.iter().map(|row| row["id"].as_i64().expect("a number")).collect()
    }

    /// What a redrive says of itself.
    fn status(&self, id: &str) -> Value {
        self.row(&["redrive", "--status", id])
    }

    /// Everything that was billed, in the order of the commits.
    fn bills(&self) -> Vec<Bill> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let store = Sqlite::open(&self.path("billing.db")).await.expect("opens");
            let mut reader = store.read().await.expect("reads");
            let sql = "select customer, number, text, event, cause from bills order by rowid";
            let rows: Vec<(String, i64, String, String, String)> =
                sqlx::query_as(sql).fetch_all(&mut *reader).await.expect("selects");
            let bills = rows.into_iter();
            bills
                .map(|(customer, number, text, event, cause)| Bill { customer, number, text, event, cause })
                .collect()
        })
    }

    /// Waits until so much was billed; customer and number of each.
    pub(crate) fn billed(&self, count: usize) -> Vec<String> {
        let bills = eventually("orders are billed", PATIENCE, || {
            let bills = self.bills();
            (bills.len() >= count).then_some(bills)
        });
        bills.iter().map(|bill| format!("{} {}", bill.customer, bill.number)).collect()
    }
}

/// Words of a command line, one after the other.
fn with<'a>(words: &[&'a str], more: &[&'a str]) -> Vec<&'a str> {
    [words, more].concat()
}

/// A running service. It is killed when dropped.
pub(crate) struct Service {
    child: Child,
    stdin: Option<ChildStdin>,
    printed: Arc<Mutex<Vec<String>>>,
}

impl Service {
    fn says(&self, line: &str) {
        eventually(line, PATIENCE, || {
            self.printed.lock().unwrap().iter().any(|said| said == line).then_some(())
        });
    }

    /// How often it has said something.
    pub(crate) fn has_said(&self, line: &str) -> usize {
        self.printed.lock().unwrap().iter().filter(|said| *said == line).count()
    }

    /// Places orders, and waits until the log has them.
    pub(crate) fn place(&mut self, orders: &[&str]) {
        let stdin = self.stdin.as_mut().expect("stdin is piped");
        for order in orders {
            writeln!(stdin, "{order}").expect("the service reads");
        }
        stdin.flush().expect("the service reads");
        for order in orders {
            self.says(&format!("placed {order}"));
        }
    }

    /// SIGKILL.
    pub(crate) fn kill(mut self) {
        self.child.kill().expect("the service runs");
        self.child.wait().expect("a child can be waited for");
    }

    /// SIGTERM, and the orderly end that follows.
    pub(crate) fn stop(mut self) {
        signal(self.child.id(), "TERM");
        let status = eventually("the service ends after a signal", PATIENCE, || {
            self.child.try_wait().expect("a child can be waited for")
        });
        assert!(status.success(), "{status}");
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// D9: failures are found by what and where they are, and a letter says all that is known: also when no
/// service runs.
#[test]
fn letters_are_listed_and_shown_with_their_cause() {
    let Some(site) = Site::new("letters_are_listed_and_shown_with_their_cause") else { return };
    let mut service = site.start();
    service.place(&["ada 1 poison", "ada 2 fine", "bob 1 poison", "cat 1 fine"]);
    site.letters(2);
    assert_eq!(site.billed(1), ["cat 1"], "ada 2 waits behind ada 1");

    let failure = site.row(&["list"]);
    assert_eq!((failure["letters"].as_u64(), failure["consumer"].as_str()), (Some(2), Some("billing")));
    assert!(failure["error"].as_str().is_some_and(|error| error.ends_with("NotBilled")), "{failure}");
    assert!(failure["place"].as_str().is_some_and(|place| place.ends_with("bill")), "{failure}");
    assert!(
        failure["first"].as_str() <= failure["last"].as_str() && failure["first"].is_string(),
        "{failure}"
    );
    let group = failure["group"].as_str().expect("a name");
    assert_eq!(site.rows(&["list", "--group", group]).len(), 2);
    assert_eq!(site.rows(&["list", "--consumer", "billing", "--since", "@-1h"]).len(), 2);
    assert!(site.rows(&["list", "--until", "@-1h"]).is_empty());
    assert!(site.rows(&["list", "--consumer", "shipping"]).is_empty());
    assert_fails(&site.dlq(&["list", "--group", "00000000"]), NOT_FOUND, "00000000");

    service.stop();
    let letter = site.row(&["list", "--key", "ada"]);
    assert_eq!((letter["topic"].as_str(), letter["partition"].as_u64()), (Some("shop.orders"), Some(0)));
    assert_eq!((letter["offset"].as_u64(), letter["attempts"].as_u64()), (Some(0), Some(1)));
    assert_eq!((letter["state"].as_str(), letter["reason"].as_str()), (Some("dead"), Some("exhausted")));
    assert_eq!(letter["blocks_key"].as_bool(), Some(true));
    assert_eq!(letter["message"], "the order cannot be billed: the card of ada was declined");
    assert_eq!(letter["code_version"], "2.1");

    let id = letter["id"].to_string();
    let whole: Value = serde_json::from_str(&said(site.dlq(&["show", &id, "-o", "json"]))).unwrap();
    let value: Value = serde_json::from_str(whole["value"].as_str().expect("text")).unwrap();
    assert_eq!((value["customer"].as_str(), value["text"].as_str()), (Some("ada"), Some("poison")));
    let headers = whole["headers"].as_array().expect("a list");
    assert!(
        headers.iter().any(|header| header["key"] == "ce_type" && header["value"] == "shop.order-placed")
    );
    assert_eq!(whole["notes"], Value::Array(Vec::new()));
    let table = said(site.dlq(&["show", &id, "-o", "table"]));
    assert!(table.contains("the card of ada was declined") && table.contains("shop.orders/0@0"), "{table}");
    let exported = site.rows(&["export", "--key", "ada"]);
    assert_eq!(exported, [whole], "what show says, in one line");
    assert_fails(&site.dlq(&["show", "999"]), NOT_FOUND, "999");
}

/// D4, from outside: a running service finds the request, and delivers what was parked before what is newer.
#[test]
fn a_redrive_beside_a_running_service_keeps_the_order_of_each_key() {
    let Some(site) = Site::new("a_redrive_beside_a_running_service_keeps_the_order_of_each_key") else {
        return;
    };
    let mut service = site.start();
    service.place(&["ada 1 poison", "ada 2 fine", "ada 3 fine"]);
    site.letters(1);
    site.repair();
    let asked = site.row(&["redrive", "--all", "--id", "till-repaired", "--by", "grace"]);
    assert_eq!((asked["letters"].as_u64(), asked["requested_by"].as_str()), (Some(1), Some("grace")));
    service.place(&["ada 4 fine"]);
    assert_eq!(site.billed(4), ["ada 1", "ada 2", "ada 3", "ada 4"]);

    let done = site.status("till-repaired");
    assert_eq!((done["state"].as_str(), done["handled"].as_u64()), (Some("done"), Some(1)));
    let result = site.row(&["redrive", "--status", "till-repaired", "--events"]);
    assert_eq!((result["result"].as_str(), result["state"].as_str()), (Some("handled"), Some("redriven")));
    let again = site.row(&["redrive", "--all", "--id", "till-repaired", "--by", "heidi"]);
    assert_eq!(again, done, "it is the same request");
    assert_fails(&site.dlq(&["redrive", "--all"]), NOT_FOUND, "no dead letter");
    service.stop();
    assert_eq!(site.billed(4).len(), 4);
}

/// The command is killed while it asks, the service while it is halfway. The redrive goes on where it was,
/// and each of 200 orders is billed once.
#[test]
fn a_redrive_that_is_killed_halfway_goes_on_and_does_nothing_twice() {
    let Some(site) = Site::new("a_redrive_that_is_killed_halfway_goes_on_and_does_nothing_twice") else {
        return;
    };
    const LETTERS: u64 = 200;
    let mut service = site.start();
    let orders: Vec<String> = (0..LETTERS)
        .map(|n| format!("k{n} 1 poison{}", if n == LETTERS / 2 { " wait" } else { "" }))
        .collect();
    service.place(&orders.iter().map(String::as_str).collect::<Vec<_>>());
    eventually("every order is a letter", PATIENCE, || {
        let failures = site.rows(&["list"]);
        (failures.first()?["letters"] == LETTERS).then_some(())
    });
    fs::write(site.path("hold"), "").unwrap();
    site.repair();

    let url = site.url();
    let asking = Site::arguments(&["redrive", "--all", "--id", "all"], &url);
    for _ in 0..3 {
        // Wherever it is: it has asked for everything, or for nothing.
        let mut child = command(&asking).spawn().expect("the binary under test starts");
        child.kill().expect("it runs");
        child.wait().expect("a child can be waited for");
    }
    let asked = site.row(&["redrive", "--all", "--id", "all"]);
    assert_eq!(asked["letters"], LETTERS);
    // The order in the middle is not done before the service is killed, and so is none behind it.
    let halfway = eventually("half of them are billed", PATIENCE, || {
        let status = site.status("all");
        (status["handled"] == LETTERS / 2).then_some(status)
    });
    assert_eq!(
        (halfway["state"].as_str(), halfway["delivering"].as_u64()),
        (Some("running"), Some(LETTERS / 2))
    );
    service.kill();
    fs::remove_file(site.path("hold")).unwrap();
    assert_eq!(site.bills().len() as u64, LETTERS / 2);

    let service = site.start();
    let done = eventually("the redrive ends", PATIENCE, || {
        let status = site.status("all");
        (status["state"] == "done").then_some(status)
    });
    assert_eq!((done["handled"].as_u64(), done["failed"].as_u64()), (Some(LETTERS), Some(0)));
    let again = site.row(&["redrive", "--all", "--id", "all"]);
    assert_eq!(again, done, "it is the same request");
    service.stop();
    let billed = site.billed(1);
    let different: BTreeSet<&String> = billed.iter().collect();
    assert_eq!((billed.len() as u64, different.len() as u64), (LETTERS, LETTERS));
}

/// D7: what was given up holds nothing back, and keeps who has decided that, and why.
#[test]
fn a_letter_that_is_discarded_lets_its_key_go_on() {
    let Some(site) = Site::new("a_letter_that_is_discarded_lets_its_key_go_on") else { return };
    let mut service = site.start();
    service.place(&["bob 1 poison", "bob 2 fine"]);
    let id = site.letters(1)[0].to_string();
    let because = ["--reason", "paid by hand", "--by", "grace"];
    assert_fails(&site.dlq(&["discard", "--reason", "all of them"]), USAGE, "--all");
    assert_fails(&site.dlq(&["discard", &id]), USAGE, "--reason");

    let dry = site.row(&with(&["discard", &id, "--dry-run"], &because));
    assert_eq!(dry["dry_run"].as_bool(), Some(true));
    assert_eq!(site.letters(1)[0].to_string(), id);
    // Whether anybody reads what was done has no part in it.
    let partly = unread(&Site::arguments(&with(&["discard", &id, "999"], &because), &site.url()));
    assert_eq!(partly.status.code(), Some(PARTLY), "{}", String::from_utf8_lossy(&partly.stderr));
    assert!(String::from_utf8_lossy(&partly.stderr).contains("999"));
    assert_eq!(site.billed(1), ["bob 2"]);

    let letter = site.row(&["show", &id]);
    assert_eq!(letter["state"], "discarded");
    let note = &letter["notes"][0];
    assert_eq!((note["action"].as_str(), note["by"].as_str()), (Some("discarded"), Some("grace")));
    assert_eq!(note["reason"], "paid by hand");
    let again = with(&["archive", &id], &because);
    assert_fails(&site.dlq(&again), CONFLICT, "discarded");
    assert_fails(&site.dlq(&with(&["archive", "999"], &because)), NOT_FOUND, "999");
    assert_eq!(site.rows(&["list", "--state", "discarded"]).len(), 1);
    service.stop();
}

/// Symptom: Ctrl-C did not end a `courant dlq edit` that was waiting for its value, and Ctrl-D, which did, made an empty
/// value of the letter first. Cause: the thread that hears the signal was the one that read stdin. Fix: another thread
/// reads it.
#[test]
fn an_edit_that_waits_for_its_value_is_interrupted_and_changes_nothing() {
    let Some(site) = Site::new("an_edit_that_waits_for_its_value_is_interrupted_and_changes_nothing") else {
        return;
    };
    let mut service = site.start();
    service.place(&["ada 1 poison"]);
    let id = site.letters(1)[0].to_string();
    service.stop();
    let url = site.url();
    let words = ["edit", &id, "--reason", "by mistake", "--by", "grace"];
    let mut editing = command(&Site::arguments(&words, &url)).spawn().expect("the binary under test starts");
    let mut stdin = editing.stdin.take().expect("stdin is piped");
    // More than a pipe holds: when this is written, the command reads.
    stdin.write_all(&vec![b' '; 256 * 1024]).expect("the command reads");
    signal(editing.id(), "INT");
    // Should it go on, it ends with its input, and that with this test.
    let status = eventually("the command ends after SIGINT", PATIENCE, || {
        editing.try_wait().expect("a child can be waited for")
    });
    assert_eq!(status.code(), Some(INTERRUPTED), "{status}");
    drop(stdin);
    assert_eq!(site.row(&["show", &id])["notes"], Value::Array(Vec::new()));
}

/// D6: the new event is billed once, under its own id, caused by the original, whose bytes are kept.
#[test]
fn a_letter_that_is_edited_is_billed_as_it_is_now() {
    let Some(site) = Site::new("a_letter_that_is_edited_is_billed_as_it_is_now") else { return };
    let mut service = site.start();
    service.place(&["eve 1 poison", "eve 2 fine"]);
    let id = site.letters(1)[0].to_string();
    let original = site.row(&["show", &id]);
    let because = ["--reason", "a typo", "--by", "grace"];
    let broken = with(&["edit", &id, "{\"customer\":"], &because);
    assert_fails(&site.dlq(&broken), USAGE, "JSON");
    let value = r#"{"customer":"eve","number":1,"text":"better"}"#;
    let edited = site.row(&with(&["edit", &id, value], &because));
    assert_eq!(edited["original_event_id"], original["event_id"]);
    assert_ne!(edited["event_id"], original["event_id"]);

    let letter = site.row(&["show", &id]);
    assert_eq!((letter["state"].as_str(), letter["value"].as_str()), (Some("dead"), Some(value)));
    let note = &letter["notes"][0];
    assert_eq!((note["action"].as_str(), note["by"].as_str()), (Some("edited"), Some("grace")));
    assert_eq!(note["original"]["value"], original["value"]);
    assert_eq!(note["original"]["headers"], original["headers"]);

    said(site.dlq(&["redrive", &id]));
    assert_eq!(site.billed(2), ["eve 1", "eve 2"]);
    let bill = &site.bills()[0];
    assert_eq!(bill.text, "better");
    assert_eq!(edited["event_id"], bill.event.as_str());
    assert_eq!(original["event_id"], bill.cause.as_str());
    assert_fails(&site.dlq(&broken), USAGE, "JSON");
    let late = with(&["edit", &id, value], &because);
    assert_fails(&site.dlq(&late), CONFLICT, "redriven");
    service.stop();
}

/// A dry run says what is meant and what may repeat, and leaves everything as it is.
#[test]
fn a_dry_run_changes_nothing() {
    let Some(site) = Site::new("a_dry_run_changes_nothing") else { return };
    let mut service = site.start();
    service.place(&["ada 1 poison", "bob 1 poison"]);
    site.letters(2);
    let before = site.rows(&["export", "--state", "any"]);
    let plan = site.row(&["redrive", "--all", "--dry-run", "--id", "planned"]);
    assert_eq!((plan["letters"].as_u64(), plan["attempts"].as_u64()), (Some(2), Some(2)));
    assert_eq!(plan["repeats"], "calls to other systems");
    let some = site.dlq(&["redrive", "--key", "bob", "--dry-run"]);
    let said = String::from_utf8_lossy(&some.stderr).into_owned();
    assert!(said.starts_with("1 letter; nothing was sent back (--dry-run)."), "{said}");
    let some = rows(some);
    assert_eq!((some.len(), some[0]["letters"].as_u64()), (1, Some(1)));
    assert_fails(&site.dlq(&["redrive", "--key", "cat", "--dry-run"]), NOT_FOUND, "no dead letter");
    assert_fails(&site.dlq(&["redrive", "--status", "planned"]), NOT_FOUND, "planned");
    assert_fails(&site.dlq(&["redrive"]), USAGE, "--all");
    service.stop();
    assert_eq!(site.rows(&["export", "--state", "any"]), before);
}

/// Without a service a request waits, can be cancelled, and is followed at the next start.
#[test]
fn a_request_waits_for_the_next_start() {
    let Some(site) = Site::new("a_request_waits_for_the_next_start") else { return };
    let mut service = site.start();
    service.place(&["ada 1 poison", "bob 1 poison", "cat 1 poison"]);
    let ids = site.letters(3);
    service.stop();
    site.repair();
    let asked = site.row(&["redrive", "--since", "@-1h", "--id", "first", "--rate", "1"]);
    assert_eq!((asked["letters"].as_u64(), asked["pending"].as_u64()), (Some(3), Some(3)));
    let cancelled = site.row(&["redrive", "--cancel", "first"]);
    assert_eq!((cancelled["state"].as_str(), cancelled["cancelled"].as_u64()), (Some("cancelled"), Some(3)));
    assert_fails(&site.dlq(&["redrive", "--cancel", "second"]), NOT_FOUND, "second");

    let named = [ids[0].to_string(), ids[2].to_string()];
    site.row(&["redrive", &named[0], &named[1], "--id", "second"]);
    assert_eq!(site.status("second")["pending"].as_u64(), Some(2));
    let service = site.start();
    assert_eq!(site.billed(2), ["ada 1", "cat 1"]);
    assert_eq!(site.letters(1), [ids[1]], "nobody has asked for this one");
    service.stop();
}

/// What is no store, is not there, or is something else is said, and nothing is made of it.
#[test]
fn other_stores_are_refused() {
    let directory = tempdir().unwrap();
    let list = |url: &str| courant(&["dlq", "list", "--store", url], "");
    if !cfg!(feature = "postgres") {
        for url in ["postgres://me:secret@127.0.0.1/billing", "postgresql:///billing"] {
            assert_fails(&list(url), USAGE, "built without Postgres");
            assert_fails(&list(url), USAGE, "--features postgres");
        }
    }
    assert_fails(&list("redis://127.0.0.1/billing"), USAGE, "sqlite:PATH");
    assert_fails(&list("sqlite::memory:"), USAGE, "in memory");
    assert_fails(&courant(&["dlq", "list"], ""), USAGE, "--store");

    let missing = directory.path().join("missing.db");
    assert_fails(&list(&format!("sqlite:{}", missing.display())), NOT_FOUND, "no such database");
    assert!(!missing.exists(), "a wrong name makes no database");
    let empty = directory.path().join("empty.db");
    fs::write(&empty, "").unwrap();
    assert_fails(&list(&format!("sqlite:{}", empty.display())), NOT_FOUND, "no tables");
    let other = directory.path().join("other.db");
    fs::write(&other, "no database ".repeat(1000)).unwrap();
    assert_fails(&list(&format!("sqlite:{}", other.display())), FAILED, "no database of this kind");
}
