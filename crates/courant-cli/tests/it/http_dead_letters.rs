//! Services and their dead letters by HTTP: a service on a server that has its key, which is asked by signed
//! requests and keeps what its events say to itself.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::process::Command;
use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{BaseRecord, Producer as _, ThreadedProducer};
use serde_json::{Value, json};
use tempfile::{TempDir, tempdir};

use crate::cli::{rows, run, run_with, said};
use crate::console::{steps, walk};
use crate::dlq::Site;
use crate::http_api::{differs, operations};
use crate::http_records::{Answer, JSON, get, post, send};
use crate::server::{Launch, Server};
use crate::{PATIENCE, eventually, rounds};

const KEY: &str = "a key of the tests: 32 bytes or more";
const OTHER_KEY: &str = "somebody else's key, as long as any";

/// The answer where a service has not answered in time.
const UNANSWERED: u16 = 504;

/// How long a service may take for all letters of a bad day.
const DAY: Duration = Duration::from_secs(600);

/// A server that has a key of the service, and where that service lives.
struct Watched {
    site: Site,
    server: Server,
    /// The operations of the OpenAPI document, and the document itself.
    operations: BTreeMap<String, (String, String, Value)>,
    document: Value,
    _data: TempDir,
}

impl Watched {
    /// `None` where the service was not built.
    fn new(test: &str, key: &str) -> Option<Watched> {
        let data = tempdir().unwrap();
        let keys = data.path().join("keys");
        fs::write(&keys, format!("# of the tests\nbilling {key}\n")).unwrap();
        let log = data.path().join("data");
        let keys = keys.display().to_string();
        let server = Launch::on(&log).arguments(&["--api-service-key-file", keys.as_str()]).start();
        let url = format!("courant://{}", server.bootstrap());
        let site = Site::with(&format!("http_dead_letters::{test}"), &[url.as_str(), KEY])?;
        let document = get(&server, "/openapi.json").json(200);
        let operations = operations(&document);
        Some(Watched { site, server, operations, document, _data: data })
    }

    /// The answer of an operation, which must be as it is documented.
    #[track_caller]
    fn documented(&self, id: &str, answer: &Answer) -> Value {
        let answer = answer.json(200);
        let (_, _, operation) = &self.operations[id];
        let schema = &operation["responses"]["200"]["content"]["application/json"]["schema"];
        assert!(schema.is_object(), "{id}: {operation}");
        assert_eq!(differs(&self.document, schema, &answer, id), None);
        answer
    }

    /// The answer of a service that has had its turn. The server waits for ten seconds for it, which on a busy machine
    /// may be over before; then the service does not follow the request any more, and it is asked again. What it has
    /// done all the same it would not do, or answer so, a second time.
    fn answered(&self, ask: impl Fn(&Server) -> Answer) -> Answer {
        eventually("the service answers", PATIENCE, || {
            Some(ask(&self.server)).filter(|answer| answer.status != UNANSWERED)
        })
    }

    #[track_caller]
    fn get(&self, id: &str, path: &str) -> Value {
        self.documented(id, &self.answered(|server| get(server, path)))
    }

    #[track_caller]
    fn post(&self, id: &str, path: &str, body: &Value) -> Value {
        self.documented(id, &self.answered(|server| post(server, path, body)))
    }

    /// Fails unless what is asked for is this problem.
    #[track_caller]
    fn is_refused(&self, path: &str, body: &Value, status: u16, code: &str) {
        self.answered(|server| post(server, path, body)).assert_problem(status, code);
    }

    /// Waits until the service tells of so many letters, and gives back its failures.
    fn failures(&self, letters: u64) -> Vec<Value> {
        eventually("the service tells of its failures", PATIENCE, || {
            let told = self.get("list_failures", "/dead-letters");
            let is_there = told["letters"] == letters && told["unknown"] == json!([]);
            is_there.then(|| told["groups"].as_array().expect("a list").clone())
        })
    }

    /// The accounts of all audit events, in order, but for what the service was asked in vain.
    fn audit(&self) -> Vec<Value> {
        let tail = run(&self.server, &["tail", "_courant.audit", "-o", "jsonl"]);
        if !tail.status.success() {
            return Vec::new();
        }
        let account = |event: &Value| serde_json::from_str(event["value"].as_str().expect("text")).unwrap();
        let accounts = rows(tail).iter().map(account).collect::<Vec<Value>>();
        accounts.into_iter().filter(|account| account["code"] != "service_unanswered").collect()
    }
}

fn numbers(letters: &Value) -> Vec<i64> {
    let letters = letters["letters"].as_array().expect("a list").iter();
    letters.map(|letter| letter["letter"].as_i64().expect("a number")).collect()
}

/// From the failure to the event, its cause and the redrive, whose result is told for each letter; and every
/// change is in the audit, with who has made it.
#[test]
fn a_failure_is_seen_understood_and_sent_back() {
    let Some(watched) = Watched::new("a_failure_is_seen_understood_and_sent_back", KEY) else { return };
    let mut service = watched.site.start();
    service.place(&["zoe 1 poison", "zoe 2 fine", "bob 1 poison"]);
    assert_eq!(watched.site.letters(2).len(), 2);
    let failures = watched.failures(2);
    assert_eq!(failures.len(), 1, "{failures:?}");
    let failure = &failures[0];
    assert_eq!((&failure["service"], &failure["consumer"]), (&json!("billing"), &json!("billing")));
    assert_eq!((&failure["topics"], &failure["operable"]), (&json!(["shop.orders"]), &json!(true)));
    let group = failure["group"].as_str().expect("a name");
    let shown = watched.get("show_failure", &format!("/dead-letters/billing/groups/{group}"));
    assert_eq!(shown["letters"], 2);
    // What is parked is looked at before what is dead.
    let shown = eventually("both keys are told of", PATIENCE, || {
        let shown = watched.get("show_service", "/services/billing");
        (shown["parked_keys"] == 2 && shown["dead_letters"] == 2).then_some(shown)
    });
    assert_eq!((&shown["state"], &shown["dead_letters"]), (&json!("running"), &json!(2)));
    assert_eq!((&shown["parked_keys"], &shown["parked_events"]), (&json!(2), &json!(1)));
    assert_eq!(shown["instances"][0]["code_version"], "2.1");
    assert_eq!(watched.get("list_services", "/services?filter=BILL")["total"], 1);
    let whole = &shown["instances"][0]["subscriptions"][0];
    assert!(whole["partitions"] != json!([]) && whole["topics"] != json!([]), "{whole}");
    let brief = watched.get("list_services", "/services?brief=true")["services"][0].clone();
    let brief = &brief["instances"][0]["subscriptions"][0];
    assert_eq!((&brief["partitions"], &brief["topics"]), (&json!([]), &json!([])));
    assert_eq!((&brief["dead"]["letters"], &brief["dead"]["failures"]), (&json!(2), &json!([])));
    assert_eq!((&brief["parked"]["keys"], &brief["policy"]), (&json!(2), &whole["policy"]));

    let path = format!("/dead-letters/billing/letters?group={group}");
    let listed = watched.answered(|server| get(server, &path));
    for secret in ["zoe", "poison", "declined"] {
        assert!(!listed.text.contains(secret), "{secret} in {}", listed.text);
    }
    let letters = numbers(&watched.documented("list_dead_letters", &listed));
    assert_eq!(letters.len(), 2);
    let first = watched.get("list_dead_letters", "/dead-letters/billing/letters?limit=1");
    assert_eq!(numbers(&first), letters[..1]);
    let next = first["next"].as_str().expect("there is more");
    let second =
        watched.get("list_dead_letters", &format!("/dead-letters/billing/letters?limit=1&after={next}"));
    assert_eq!((numbers(&second), &second["next"]), (letters[1..].to_vec(), &Value::Null));
    let none = watched.get("list_dead_letters", "/dead-letters/billing/letters?state=archived");
    assert_eq!((numbers(&none), &none["next"]), (Vec::new(), &Value::Null));
    let of_zoe = watched.get("list_dead_letters", "/dead-letters/billing/letters?key=zoe");
    assert_eq!(of_zoe["letters"][0]["blocks_key"], true);

    let path = format!("/dead-letters/billing/letters/{}", numbers(&of_zoe)[0]);
    let whole = eventually("the copy of the letter is published", PATIENCE, || {
        let whole = watched.get("show_dead_letter", &path);
        whole["copy"].is_object().then_some(whole)
    });
    let value: Value = serde_json::from_str(whole["record"]["value"].as_str().expect("text")).unwrap();
    assert_eq!((&value["customer"], &value["text"]), (&json!("zoe"), &json!("poison")));
    assert_eq!((&whole["record"]["topic"], &whole["record_missing"]), (&json!("shop.orders"), &Value::Null));
    assert_eq!(whole["message"], "the order cannot be billed: the card of zoe was declined");
    assert_eq!(whole["copy"]["topic"], "shop.orders.billing.dlq");
    assert_eq!((&whole["letter"]["edited"], &whole["notes"]), (&json!(false), &json!([])));

    let redrives = "/dead-letters/billing/redrives";
    let trial = json!({ "which": { "group": group } });
    let planned = watched.post("redrive_dead_letters", redrives, &trial);
    assert_eq!((&planned["dry_run"], &planned["letters"]), (&json!(true), &json!(2)));
    assert_eq!((&planned["planned"][0]["topic"], &planned["redrive"]), (&json!("shop.orders"), &Value::Null));
    assert_eq!((watched.site.letters(2).len(), watched.audit().len()), (2, 0), "nothing was changed");

    watched.site.repair();
    let real = json!({ "which": { "group": group }, "id": "till-repaired", "by": "grace", "execute": true });
    let begun = watched.post("redrive_dead_letters", redrives, &real);
    assert_eq!(
        (&begun["dry_run"], &begun["letters"], &begun["was_known"]),
        (&json!(false), &json!(2), &json!(false))
    );
    let path = format!("{redrives}/till-repaired");
    let done = eventually("the redrive is done", PATIENCE, || {
        let redrive = watched.get("show_redrive", &path);
        (redrive["state"] == "done").then_some(redrive)
    });
    assert_eq!((&done["handled"], &done["requested_by"]), (&json!(2), &json!("grace")));
    let results = watched.get("list_redrive_results", &format!("{path}/results?limit=1"));
    assert_eq!((&results["total"], &results["results"][0]["result"]), (&json!(2), &json!("handled")));
    assert_eq!(results["results"][0]["state"], "redriven");
    let again = watched.post("redrive_dead_letters", redrives, &real);
    assert_eq!((&again["was_known"], &again["redrive"]["handled"]), (&json!(true), &json!(2)));
    let mut billed = watched.site.billed(3);
    billed.sort_unstable();
    assert_eq!(billed, ["bob 1", "zoe 1", "zoe 2"]);
    assert!(watched.failures(0).is_empty(), "nobody has to decide about anything");
    let gone = get(&watched.server, &format!("/dead-letters/billing/groups/{group}"));
    gone.assert_problem(404, "failure_not_found");

    let accounts = watched.audit();
    let told: Vec<_> = accounts.iter().map(|one| (&one["action"], &one["target"], &one["result"])).collect();
    let redriven = (&json!("dead_letters.redrive"), &json!("billing"), &json!("done"));
    assert_eq!(told, [redriven, redriven]);
    assert_eq!(
        (&accounts[0]["detail"]["by"], &accounts[0]["detail"]["redrive"]),
        (&json!("grace"), &json!("till-repaired"))
    );
}

/// What people decide is kept with each letter, with who and why; a trial changes nothing, and what is not
/// there or makes no sense is refused and said.
#[test]
fn letters_are_given_up_kept_and_edited() {
    let Some(watched) = Watched::new("letters_are_given_up_kept_and_edited", KEY) else { return };
    let mut service = watched.site.start();
    service.place(&["ada 1 poison", "bob 1 poison", "cat 1 poison"]);
    let letters = watched.site.letters(3);
    watched.failures(3);
    let at = |letter: i64| format!("/dead-letters/billing/letters/{letter}");
    let (discard, archive) = ("/dead-letters/billing/discard", "/dead-letters/billing/archive");

    let mut body =
        json!({ "which": { "letters": [letters[0], 999] }, "reason": "paid by hand", "by": "grace" });
    let tried = watched.post("discard_dead_letters", discard, &body);
    assert_eq!(
        (&tried["dry_run"], &tried["count"], &tried["action"]),
        (&json!(true), &json!(1), &json!("discard"))
    );
    assert_eq!(watched.site.letters(3), letters, "nothing was changed");
    body["execute"] = json!(true);
    let decided = watched.post("discard_dead_letters", discard, &body);
    assert_eq!(numbers(&decided), letters[..1]);
    assert!(decided["others"][0].as_str().expect("a sentence").contains("999"), "{decided}");
    let noted = watched.get("show_dead_letter", &at(letters[0]));
    assert_eq!((&noted["letter"]["state"], &noted["notes"][0]["by"]), (&json!("discarded"), &json!("grace")));

    let by_key = json!({ "which": { "key": "bob" }, "reason": "for the auditors", "execute": true });
    let kept = watched.post("archive_dead_letters", archive, &by_key);
    assert_eq!(numbers(&kept), letters[1..2]);
    let archived = watched.get("list_dead_letters", "/dead-letters/billing/letters?state=archived");
    assert_eq!(numbers(&archived), letters[1..2]);
    let group = archived["letters"][0]["group"].as_str().expect("a name");
    let restore = "/dead-letters/billing/restore";
    let mut back = json!({ "which": { "group": group }, "reason": "not over yet", "by": "grace" });
    let tried = watched.post("restore_dead_letters", restore, &back);
    assert_eq!((numbers(&tried), &tried["dry_run"]), (letters[1..2].to_vec(), &json!(true)));
    back["execute"] = json!(true);
    assert_eq!(numbers(&watched.post("restore_dead_letters", restore, &back)), letters[1..2]);
    assert_eq!(watched.site.letters(2), letters[1..], "somebody has to decide about it again");
    let noted = watched.get("show_dead_letter", &at(letters[1]));
    assert_eq!(
        (&noted["notes"][1]["action"], &noted["notes"][1]["by"]),
        (&json!("restored"), &json!("grace"))
    );
    watched.is_refused(restore, &back, 404, "letter_not_found");
    watched.post("archive_dead_letters", archive, &by_key);
    let any = watched.get("list_dead_letters", "/dead-letters/billing/letters?state=any");
    assert_eq!(numbers(&any), letters);

    let exported = watched.get("export_dead_letters", "/dead-letters/billing/export?state=any&limit=2");
    let whole = exported["letters"].as_array().expect("a list");
    let inner: Vec<&Value> = whole.iter().map(|one| &one["letter"]["letter"]).collect();
    assert_eq!(inner, [&json!(letters[0]), &json!(letters[1])]);
    assert!(exported["next"].is_string(), "there is more: {exported}");
    assert!(whole[0]["record"]["value"].as_str().is_some_and(|value| value.contains("poison")), "{exported}");
    assert_eq!(
        (&whole[0]["notes"][0]["action"], &whole[1]["notes"][1]["action"]),
        (&json!("discarded"), &json!("restored"))
    );
    let edit = format!("{}/edit", at(letters[2]));
    let value = r#"{"customer":"cat","number":1,"text":"better"}"#;
    let mut body = json!({ "value": value, "reason": "a typo", "by": "grace" });
    let tried = watched.post("edit_dead_letter", &edit, &body);
    assert_eq!((&tried["dry_run"], &tried["event_id"]), (&json!(true), &Value::Null));
    body["execute"] = json!(true);
    let edited = watched.post("edit_dead_letter", &edit, &body);
    assert_ne!(edited["event_id"], edited["original_event_id"]);
    let shown = watched.get("show_dead_letter", &at(letters[2]));
    assert_eq!(
        (&shown["letter"]["edited"], &shown["letter"]["event_id"]),
        (&json!(true), &edited["event_id"])
    );
    assert!(shown["record"]["value"].as_str().expect("the original").contains("poison"), "{shown}");
    let refused = json!({ "value": "no JSON", "reason": "r", "execute": true });
    watched.is_refused(&edit, &refused, 422, "invalid");
    let all = json!({ "which": { "all": true }, "execute": true });
    let redriven = watched.post("redrive_dead_letters", "/dead-letters/billing/redrives", &all);
    assert_eq!(redriven["letters"], 1, "{redriven}");
    assert_eq!(watched.site.billed(1), ["cat 1"]);
    let id = redriven["redrive"]["id"].as_str().expect("an id");
    let cancel = format!("/dead-letters/billing/redrives/{id}/cancel");
    assert_eq!(watched.post("cancel_redrive", &cancel, &json!({}))["id"], id);
    // What an event says is nobody's business who reads the audit.
    let accounts = json!(watched.audit()).to_string();
    assert!(accounts.contains("dead_letters.edit") && !accounts.contains("better"), "{accounts}");

    let server = &watched.server;
    let why = |which: Value| json!({ "which": which, "reason": "r", "execute": true });
    watched.is_refused(discard, &why(json!({})), 422, "invalid");
    watched.is_refused(discard, &why(json!({ "grup": "x" })), 400, "bad_request");
    let no_reason = json!({ "which": { "all": true }, "reason": " " });
    watched.is_refused(discard, &no_reason, 422, "invalid");
    watched.is_refused(discard, &why(json!({ "letters": [999] })), 404, "letter_not_found");
    watched.is_refused(discard, &why(json!({ "group": "00000000" })), 404, "letter_not_found");
    let looked = |path: &str| watched.answered(|server| get(server, path));
    looked(&at(999)).assert_problem(404, "letter_not_found");
    looked("/dead-letters/billing/letters/first").assert_problem(400, "bad_request");
    looked("/dead-letters/billing/letters?state=gone").assert_problem(400, "bad_request");
    looked("/dead-letters/billing/redrives/none").assert_problem(404, "redrive_not_found");
    get(server, "/dead-letters/shipping/letters").assert_problem(404, "service_not_found");
    get(server, "/services/shipping").assert_problem(404, "service_not_found");
    let origin = [JSON, ("Origin", "http://evil.example")];
    send(server, "POST", discard, &origin, body.to_string()).assert_problem(403, "origin_not_allowed");
}

/// What waits behind a dead letter is counted first, and given up for good with a reason, which each of the letters has
/// that it becomes. The letter stays.
#[test]
fn what_waits_behind_a_letter_is_given_up() {
    let Some(watched) = Watched::new("what_waits_behind_a_letter_is_given_up", KEY) else { return };
    let mut service = watched.site.start();
    service.place(&["zoe 1 poison", "zoe 2 fine", "zoe 3 fine", "bob 1 poison"]);
    let letters = watched.site.letters(2);
    watched.failures(2);
    eventually("both events wait", PATIENCE, || {
        let shown = watched.get("show_service", "/services/billing");
        (shown["parked_events"] == 2).then_some(())
    });
    let path = "/dead-letters/billing/discard-parked";
    let meant = |more: Value| {
        let mut which = json!({ "consumer": "billing", "topic": "shop.orders", "partition": 0 });
        let more = more.as_object().expect("an object").clone();
        which.as_object_mut().expect("an object").extend(more);
        json!({ "which": which, "reason": "no orders any more", "by": "grace" })
    };
    let mut of_zoe = meant(json!({ "key": "zoe" }));
    let tried = watched.post("discard_parked_events", path, &of_zoe);
    assert_eq!((&tried["count"], &tried["letters"], &tried["dry_run"]), (&json!(2), &json!(1), &json!(true)));
    let all = watched.post("discard_parked_events", path, &meant(json!({ "all": true })));
    assert_eq!((&all["count"], &all["letters"], &all["has_more"]), (&json!(2), &json!(2), &json!(false)));
    assert_eq!((watched.site.letters(2), watched.audit().len()), (letters.clone(), 0), "nothing was changed");

    of_zoe["execute"] = json!(true);
    of_zoe["at_most"] = tried["count"].clone();
    let given_up = watched.post("discard_parked_events", path, &of_zoe);
    assert_eq!((&given_up["count"], &given_up["dry_run"]), (&json!(2), &json!(false)));
    let accounts = watched.audit();
    assert_eq!(
        (&accounts[0]["action"], &accounts[0]["result"]),
        (&json!("dead_letters.discard_parked"), &json!("done"))
    );
    let detail = &accounts[0]["detail"];
    assert_eq!((&detail["which"]["key"], &detail["by"]), (&json!("zoe"), &json!("grace")));
    assert_eq!(watched.site.letters(2), letters, "the letters stay");
    let gone = watched.get("list_dead_letters", "/dead-letters/billing/letters?state=discarded");
    assert_eq!(numbers(&gone).len(), 2);
    for letter in numbers(&gone) {
        let shown = watched.get("show_dead_letter", &format!("/dead-letters/billing/letters/{letter}"));
        let note = &shown["notes"][0];
        assert_eq!((&note["by"], &note["reason"]), (&json!("grace"), &json!("no orders any more")));
        assert!(shown["record"]["value"].as_str().expect("the event").contains("fine"), "{shown}");
    }

    watched.is_refused(path, &of_zoe, 409, "conflict");
    watched.is_refused(path, &meant(json!({ "key": "eve" })), 404, "parked_not_found");
    watched.is_refused(path, &meant(json!({ "key": "zoe", "generation": 2 })), 404, "parked_not_found");
    watched.is_refused(path, &meant(json!({})), 422, "invalid");
    watched.is_refused(path, &meant(json!({ "key": "zoe", "all": true })), 422, "invalid");
    watched.is_refused(
        path,
        &meant(json!({ "all": true, "consumer": "_courant.ops.billing" })),
        422,
        "invalid",
    );
    watched.is_refused(path, &meant(json!({ "keys": ["zoe"] })), 400, "bad_request");
    of_zoe["reason"] = json!(" ");
    watched.is_refused(path, &of_zoe, 422, "invalid");
    post(&watched.server, "/dead-letters/shipping/discard-parked", &meant(json!({ "all": true })))
        .assert_problem(404, "service_not_found");
    service.stop();
}

/// Without the service's key its letters are seen and not touched, with a wrong one neither.
#[test]
fn nothing_is_asked_without_the_key_of_the_service() {
    let test = "nothing_is_asked_without_the_key_of_the_service";
    let Some(watched) = Watched::new(test, OTHER_KEY) else { return };
    let mut service = watched.site.start();
    service.place(&["ada 1 poison"]);
    watched.failures(1);
    let all = json!({ "which": { "all": true }, "reason": "r", "execute": true });
    let discard = "/dead-letters/billing/discard";
    watched.is_refused(discard, &all, 409, "service_refused");
    let accounts = watched.audit();
    assert_eq!((&accounts[0]["result"], &accounts[0]["code"]), (&json!("failed"), &json!("service_refused")));
    assert_eq!(watched.site.letters(1).len(), 1);
    service.stop();

    let data = tempdir().unwrap();
    let server = Server::start(data.path());
    let nobody = get(&server, "/services").json(200);
    assert_eq!((&nobody["services"], &nobody["total"]), (&json!([]), &json!(0)));
    let nothing = get(&server, "/dead-letters").json(200);
    assert_eq!(
        (&nothing["groups"], &nothing["total"], &nothing["unknown"]),
        (&json!([]), &json!(0), &json!([]))
    );
    let url = format!("courant://{}", server.bootstrap());
    let Some(site) = Site::with(&format!("http_dead_letters::{test}"), &[url.as_str(), KEY]) else { return };
    let _service = site.start();
    let shown = eventually("the service says that it is there", PATIENCE, || {
        get(&server, "/services").json(200)["services"].as_array().expect("a list").first().cloned()
    });
    assert_eq!((&shown["operable"], &shown["not_operable"]), (&json!(false), &json!("no_key")));
    get(&server, "/dead-letters/billing/letters").assert_problem(403, "no_service_key");
    post(&server, discard, &all).assert_problem(403, "no_service_key");
}

/// A file of keys that is none is said with its line, and without what stands in it.
#[test]
fn a_file_of_keys_is_checked_before_the_server_starts() {
    let data = tempdir().unwrap();
    let keys = data.path().join("keys");
    fs::write(&keys, "billing hunter2\n").unwrap();
    let keys = keys.display().to_string();
    let log = data.path().join("data");
    let started = Launch::on(&log).arguments(&["--api-service-key-file", keys.as_str()]).try_start();
    let Err(refused) = started else { panic!("it started") };
    assert!(refused.stderr.contains("line 1"), "{}", refused.stderr);
    assert!(!refused.stderr.contains("hunter2"), "{}", refused.stderr);
    assert_eq!(refused.status.code(), Some(2), "{}", refused.stderr);
}

/// Dead letters of others are found by the names of their topics, and told by their failures; what somebody
/// has decided about with the command line is out of the way here, too.
#[test]
fn dead_letters_of_others_are_seen() {
    let data = tempdir().unwrap();
    let server = Server::start(data.path());
    let document = get(&server, "/openapi.json").json(200);
    let operations = operations(&document);
    let documented = |id: &str, path: &str| {
        let answer = get(&server, path).json(200);
        let schema = &operations[id].2["responses"]["200"]["content"]["application/json"]["schema"];
        assert_eq!(differs(&document, schema, &answer, id), None);
        answer
    };
    for topic in ["orders", "orders-dlt", "shop.orders.billing.dlq"] {
        server.create_topic(topic, 2);
    }
    let publish = |topic: &str, partition: &str, headers: &[&str], lines: &str| {
        let mut words = vec!["pub", topic, "-l", "-q", "--partition", partition];
        headers.iter().for_each(|header| words.extend(["-H", *header]));
        said(run_with(&server, &words, lines));
    };
    let spring = ["kafka_dlt-original-topic=orders", "kafka_dlt-exception-fqcn=NoPrice"];
    let connect = ["__connect.errors.topic=orders", "__connect.errors.offset=9007199254740993"];
    publish("orders-dlt", "0", &spring, "a\nb\nc\n");
    publish("orders-dlt", "1", &connect, "d\n");
    publish("shop.orders.billing.dlq", "0", &["courant-dead-topic=shop.orders"], "e\n");
    let topics = documented("list_foreign_topics", "/foreign-dead-letters");
    assert_eq!(topics["topics"], json!([{ "topic": "orders-dlt", "records": 4 }]));
    let failures = documented("list_foreign_failures", "/foreign-dead-letters/orders-dlt");
    assert_eq!((&failures["scanned"], &failures["is_complete"]), (&json!(4), &json!(true)));
    let first = &failures["groups"][0];
    assert_eq!(
        (&first["letters"], &first["framework"], &first["error"]),
        (&json!(3), &json!("spring-kafka"), &json!("NoPrice"))
    );
    assert_eq!(first["newest"], json!({ "partition": 0, "offset": 2 }));

    let letters = "/foreign-dead-letters/orders-dlt/letters";
    let names = |page: &Value| -> Vec<String> {
        let letters = page["letters"].as_array().expect("a list").iter();
        letters.map(|letter| letter["letter"].as_str().expect("a name").to_owned()).collect()
    };
    let page = documented("list_foreign_dead_letters", &format!("{letters}?limit=3"));
    assert_eq!(
        (names(&page), &page["next"]),
        (vec!["0@0".to_owned(), "0@1".to_owned(), "0@2".to_owned()], &json!("0@2"))
    );
    let page = documented("list_foreign_dead_letters", &format!("{letters}?limit=3&after=0@2"));
    assert_eq!((names(&page), &page["next"]), (vec!["1@0".to_owned()], &Value::Null));
    assert_eq!(page["letters"][0]["original_offset"].to_string(), "9007199254740993");
    let group = first["group"].as_str().expect("a name");
    said(run(&server, &["dlq", "foreign", "discard", "orders-dlt", "0@1", "--reason", "r"]));
    let page = documented("list_foreign_dead_letters", &format!("{letters}?group={group}"));
    assert_eq!(names(&page), ["0@0", "0@2"]);
    let discard = "/foreign-dead-letters/orders-dlt/discard";
    let named = json!({ "which": { "letters": ["0@0", "0@1"] }, "reason": "a test order", "by": "grace" });
    let tried = post(&server, discard, &named).json(200);
    assert_eq!((&tried["letters"], &tried["dry_run"]), (&json!(["0@0"]), &json!(true)));
    assert!(tried["others"][0].as_str().is_some_and(|said| said.contains("0@1")), "{tried}");
    let of_group = json!({ "which": { "group": group }, "reason": "a test order", "execute": true });
    let done = post(&server, discard, &of_group).json(200);
    assert_eq!((&done["letters"], &done["count"]), (&json!(["0@0", "0@2"]), &json!(2)));
    assert_eq!(names(&documented("list_foreign_dead_letters", letters)), ["1@0"]);
    post(&server, discard, &of_group).assert_problem(404, "letter_not_found");
    post(&server, discard, &json!({ "which": {}, "reason": "r" })).assert_problem(422, "invalid");
    let of_all = json!({ "which": { "all": true }, "reason": "r", "execute": true });
    let own = "/foreign-dead-letters/_courant.audit/discard";
    post(&server, own, &of_all).assert_problem(403, "internal_topic");
    // The command line knows it as well.
    let left = rows(run(&server, &["dlq", "foreign", "list", "orders-dlt", "--letters", "-o", "jsonl"]));
    assert_eq!(left.len(), 1, "{left:?}");
    get(&server, "/foreign-dead-letters/none").assert_problem(404, "topic_not_found");
    get(&server, &format!("{letters}?after=x")).assert_problem(400, "bad_request");
}

/// Orders of that many customers, none of which can be billed.
fn place_many(server: &Server, many: usize) {
    eventually("the service has made its topic", PATIENCE, || {
        (get(server, "/topics/shop.orders").status == 200).then_some(())
    });
    let producer: ThreadedProducer<_> =
        ClientConfig::new().set("bootstrap.servers", server.bootstrap()).create().expect("a producer");
    for number in 0..many {
        let (id, customer) = (format!("order-{number}"), format!("c{number}"));
        let value = format!(r#"{{"customer":"{customer}","number":1,"text":"poison"}}"#);
        let mut headers = OwnedHeaders::new();
        for (key, value) in [
            ("ce_specversion", "1.0"),
            ("ce_id", id.as_str()),
            ("ce_source", "/shop"),
            ("ce_type", "shop.order-placed"),
            ("content-type", "application/json"),
        ] {
            headers = headers.insert(Header { key, value: Some(value) });
        }
        let record = BaseRecord::to("shop.orders").key(&customer).payload(&value).headers(headers);
        producer.send(record).map_err(|(error, _)| error).expect("queued");
    }
    producer.flush(PATIENCE).expect("all are acknowledged");
}

/// More letters than one page has: all of them are counted, listed page by page, shown in the console and sent
/// back, and each has its effect once. `COURANT_TEST_LETTERS=10000` makes a bad day of it.
#[test]
fn letters_of_many_pages_are_listed_and_sent_back() {
    let test = "letters_of_many_pages_are_listed_and_sent_back";
    let many = rounds("COURANT_TEST_LETTERS", 1_100) as usize;
    let Some(watched) = Watched::new(test, KEY) else { return };
    let service = watched.site.start();
    place_many(&watched.server, many);
    let told = eventually("the service tells of all of them", DAY, || {
        let told = get(&watched.server, "/dead-letters").json(200);
        (told["letters"] == many).then_some(told)
    });
    assert_eq!(told["total"], 1, "one failure: {told}");
    let group = told["groups"][0]["group"].as_str().expect("a name");

    let path = format!("/dead-letters/billing/letters?group={group}&limit=1000");
    let (mut listed, mut after) = (Vec::new(), String::new());
    loop {
        let page = watched.get("list_dead_letters", &format!("{path}{after}"));
        listed.extend(numbers(&page));
        let Some(next) = page["next"].as_str() else { break };
        after = format!("&after={next}");
    }
    assert!(listed.is_sorted_by(|a, b| a < b) && listed.len() == many, "{} letters", listed.len());

    if let Some(steps) = steps(&format!("http_dead_letters::{test}")) {
        let (http, count) = (watched.server.http().to_string(), many.to_string());
        let words = [http.as_str(), group, count.as_str()];
        walk(Command::new("node").arg(steps.join("letters.mjs")).args(words));
    }

    let redrives = "/dead-letters/billing/redrives";
    let mut all = json!({ "which": { "group": group }, "id": "all", "by": "grace" });
    let planned = watched.post("redrive_dead_letters", redrives, &all);
    assert_eq!((&planned["letters"], &planned["planned"][0]["letters"]), (&json!(many), &json!(many)));
    watched.site.repair();
    all["execute"] = json!(true);
    let begun = watched.post("redrive_dead_letters", redrives, &all);
    assert_eq!(begun["letters"], many);
    // The service says it by itself: asking for the redrive would be work for it.
    eventually("nothing is parked any more", DAY, || {
        let shown = get(&watched.server, "/services/billing").json(200);
        (shown["parked_keys"] == 0).then_some(())
    });
    let done = eventually("the redrive is done", PATIENCE, || {
        let redrive = watched.get("show_redrive", &format!("{redrives}/all"));
        (redrive["state"] == "done").then_some(redrive)
    });
    assert_eq!((&done["handled"], &done["failed"]), (&json!(many), &json!(0)));
    let results = watched.get("list_redrive_results", &format!("{redrives}/all/results?limit=1000"));
    assert_eq!((&results["total"], results["results"].as_array().map(Vec::len)), (&json!(many), Some(1_000)));
    let (mut told, mut next) = (1_000, results["next"].as_str().map(str::to_owned));
    while let Some(after) = next {
        let path = format!("{redrives}/all/results?limit=1000&after={after}");
        let page = watched.get("list_redrive_results", &path);
        let shown = page["results"].as_array().expect("a page");
        assert!(!shown.is_empty(), "behind {after} there is nothing");
        told += shown.len();
        next = page["next"].as_str().map(str::to_owned);
    }
    assert_eq!(told, many, "each result was told once");
    let billed = watched.site.billed(many);
    let customers: BTreeSet<&String> = billed.iter().collect();
    assert_eq!((billed.len(), customers.len()), (many, many), "each was billed once");
    assert_eq!(get(&watched.server, "/dead-letters").json(200)["letters"], 0);
    service.stop();
}
