//! `courant dlq foreign` on dead letters as other frameworks write them: what is listed, what is sent back,
//! and that a redrive that was killed publishes nothing twice.

use std::collections::BTreeMap;

use serde_json::Value;
use tempfile::{TempDir, tempdir};

use crate::cli::{assert_fails, rows, run, run_with, said};
use crate::server::{Server, command, signal};
use crate::{PATIENCE, eventually};

const USAGE: i32 = 2;
const NOT_FOUND: i32 = 3;
const CONFLICT: i32 = 4;

/// A server with a topic and one for its dead letters.
struct Place {
    server: Server,
    _data: TempDir,
}

impl Place {
    fn new() -> Place {
        let data = tempdir().unwrap();
        let server = Server::start(data.path());
        server.create_topic("orders", 2);
        server.create_topic("orders-dlt", 2);
        Place { server, _data: data }
    }

    /// Publishes events with these headers, one for each line.
    fn publish(&self, topic: &str, headers: &[&str], more: &[&str], lines: &str) {
        let mut words = vec!["pub", topic, "-l", "-q"];
        for header in headers {
            words.extend(["-H", *header]);
        }
        words.extend(more);
        said(run_with(&self.server, &words, lines));
    }

    /// Runs `courant dlq foreign` with these words.
    fn dlq(&self, words: &[&str]) -> std::process::Output {
        run(&self.server, &[&["dlq", "foreign"][..], words].concat())
    }

    fn rows(&self, words: &[&str]) -> Vec<Value> {
        rows(self.dlq(words))
    }

    fn row(&self, words: &[&str]) -> Value {
        let mut rows = self.rows(words);
        assert_eq!(rows.len(), 1, "{rows:?}");
        rows.remove(0)
    }

    /// The events of a topic.
    fn events(&self, topic: &str) -> Vec<Value> {
        rows(run(&self.server, &["tail", topic]))
    }
}

const SPRING: [&str; 5] = [
    "kafka_dlt-original-topic=orders",
    "kafka_dlt-exception-fqcn=org.springframework.kafka.listener.ListenerExecutionFailedException",
    "kafka_dlt-exception-cause-fqcn=java.lang.IllegalStateException",
    "kafka_dlt-original-consumer-group=desk",
    "source=shop",
];
const CONNECT: [&str; 5] = [
    "__connect.errors.topic=orders",
    "__connect.errors.partition=1",
    "__connect.errors.offset=99",
    "__connect.errors.exception.class.name=org.apache.kafka.connect.errors.DataException",
    "__connect.errors.connector.name=sink",
];
const OWN: [&str; 3] =
    ["courant-dead-topic=orders", "courant-dead-consumer=billing", "courant-dead-error-type=Declined"];

/// Letters with one error of one consumer from one topic are one failure, whoever has written them.
#[test]
fn letters_of_every_framework_are_listed_by_their_failure() {
    let place = Place::new();
    place.publish("orders-dlt", &SPRING, &["--partition", "0"], "a\nb\n");
    place.publish("orders-dlt", &CONNECT, &["--partition", "1"], "c\n");
    place.publish("orders-dlt", &OWN, &["--partition", "1"], "d\n");
    place.publish("orders-dlt", &[], &["--partition", "1"], "e\n");
    let groups = place.rows(&["list", "orders-dlt"]);
    let mut found: Vec<_> = groups
        .iter()
        .map(|row| (row["framework"].as_str().unwrap(), row["consumer"].as_str(), row["letters"].as_u64()))
        .collect();
    found.sort_unstable();
    let expected = [
        ("courant", Some("billing"), Some(1)),
        ("kafka-connect", Some("sink"), Some(1)),
        ("spring-kafka", Some("desk"), Some(2)),
        ("unknown", None, Some(1)),
    ];
    assert_eq!(found, expected);
    assert_eq!(groups[0]["letters"], 2, "the largest comes first");
    let group = groups[0]["group"].as_str().unwrap();
    let letters = place.rows(&["list", "orders-dlt", "--group", group]);
    let letters: Vec<_> = letters.iter().map(|row| row["letter"].as_str().unwrap()).collect();
    assert_eq!(letters, ["0@0", "0@1"]);
    let shown = place.row(&["show", "orders-dlt", "1@0"]);
    assert_eq!(shown["original_partition"], 1);
    assert_eq!(shown["original_offset"], 99);
    assert_eq!(shown["value"], "c");
    assert_fails(&place.dlq(&["show", "orders-dlt", "1@7"]), NOT_FOUND, "1@7");
}

/// A letter goes to the partition that it comes from, as the event that it was.
#[test]
fn a_redrive_publishes_the_event_that_the_letter_was() {
    let place = Place::new();
    place.publish("orders-dlt", &CONNECT, &["-H", "source=shop", "--key", "k"], "c\n");
    assert_fails(&place.dlq(&["redrive", "orders-dlt", "--all"]), USAGE, "every consumer");
    assert_fails(&place.dlq(&["redrive", "orders-dlt", "--yes"]), USAGE, "--all");
    let planned = place.row(&["redrive", "orders-dlt", "--all", "--dry-run"]);
    assert_eq!((planned["to"].as_str(), planned["letters"].as_u64()), (Some("orders"), Some(1)));
    assert_eq!(place.events("orders").len(), 0, "nothing is published by a dry run");
    let done = place.row(&["redrive", "orders-dlt", "--all", "--id", "priced", "--yes"]);
    assert_eq!((done["state"].as_str(), done["published"].as_u64()), (Some("done"), Some(1)));
    let events = place.events("orders");
    assert_eq!(events.len(), 1);
    assert_eq!(events[0]["partition"], 1, "where it comes from");
    assert_eq!(events[0]["key"], "k");
    assert_eq!(events[0]["value"], "c");
    let headers = events[0]["headers"].as_array().unwrap();
    let names: Vec<_> = headers.iter().map(|header| header["key"].as_str().unwrap()).collect();
    assert_eq!(names, ["source", "courant-redrive", "courant-redrive-of"]);
    // It was decided about: nobody sends it back a second time by accident.
    assert_eq!(place.rows(&["list", "orders-dlt"]).len(), 0);
    assert_fails(&place.dlq(&["redrive", "orders-dlt", "--all", "--yes"]), NOT_FOUND, "nobody has decided");
    let decided = place.row(&["list", "orders-dlt", "--letters", "--decided"]);
    assert_eq!(decided["state"], "redriven");
}

#[test]
fn what_cannot_be_sent_back_says_why_and_nothing_is_sent() {
    let place = Place::new();
    place.publish("orders-dlt", &OWN, &["--partition", "0"], "own\n");
    place.publish("orders-dlt", &[], &["--partition", "1"], "whose\n");
    let redrive = |more: &[&str]| place.dlq(&[&["redrive", "orders-dlt", "--yes"][..], more].concat());
    assert_fails(&redrive(&["0@0"]), CONFLICT, "store");
    assert_fails(&redrive(&["1@0"]), USAGE, "--to");
    assert_fails(&redrive(&["1@0", "--to", "orders-dlt"]), USAGE, "--to");
    assert_fails(&redrive(&["1@0", "--to", "nowhere"]), NOT_FOUND, "nowhere");
    assert_fails(&redrive(&["1@5", "--to", "orders"]), NOT_FOUND, "1@5");
    assert_eq!(place.events("orders").len(), 0);
    said(redrive(&["1@0", "--to", "orders"]));
    assert_eq!(place.events("orders")[0]["value"], "whose");
}

#[test]
fn a_letter_that_was_given_up_is_not_meant_again() {
    let place = Place::new();
    place.publish("orders-dlt", &SPRING, &["--partition", "0"], "a\nb\n");
    let discard = ["discard", "orders-dlt", "0@0", "--reason", "a test order", "--by", "me"];
    let rehearsed = place.row(&[&discard[..], &["--dry-run"]].concat());
    assert_eq!(rehearsed["dry_run"], true);
    assert_eq!(place.row(&discard)["letter"], "0@0");
    assert_fails(&place.dlq(&discard), CONFLICT, "discarded by me");
    let shown = place.row(&["show", "orders-dlt", "0@0"]);
    assert_eq!(shown["state"], "discarded");
    assert_eq!(shown["decision"]["reason"], "a test order");
    said(place.dlq(&["redrive", "orders-dlt", "--all", "--yes"]));
    let events = place.events("orders");
    assert_eq!(events.len(), 1);
    assert_eq!(events[0]["value"], "b");
    let exported = place.rows(&["export", "orders-dlt", "--decided"]);
    let states: BTreeMap<_, _> =
        exported.iter().map(|row| (row["value"].as_str().unwrap(), row["state"].as_str().unwrap())).collect();
    assert_eq!(states, BTreeMap::from([("a", "discarded"), ("b", "redriven")]));
}

/// Letters of a redrive that is killed. At five in a second there is much time to do that in, also for a machine that
/// starts a program slowly.
const LETTERS: usize = 90;

/// Killed in the middle, and with a letter that was published and not written down: the same command goes
/// on, and every letter is there once.
#[test]
fn a_redrive_that_was_killed_goes_on_and_publishes_nothing_twice() {
    let place = Place::new();
    for partition in ["0", "1"] {
        let lines: String = (0..LETTERS / 2).map(|n| format!("{partition}-{n}\n")).collect();
        place.publish("orders-dlt", &SPRING, &["--partition", partition], &lines);
    }
    let bootstrap = place.server.bootstrap();
    let redrive = ["dlq", "foreign", "redrive", "orders-dlt", "--all", "--id", "r", "--yes"];
    let slowly = [&redrive[..], &["--rate", "5", "--server", bootstrap.as_str()]].concat();
    let mut child = command(&slowly).spawn().expect("the binary under test starts");
    eventually("some are published", PATIENCE, || (place.events("orders").len() >= 3).then_some(()));
    signal(child.id(), "KILL");
    child.wait().expect("a child can be waited for");
    let published = place.events("orders");
    assert!(published.len() < LETTERS, "it was killed in the middle");

    let other = place.dlq(&["redrive", "orders-dlt", "--all", "--id", "s", "--yes"]);
    assert_fails(&other, CONFLICT, "the redrive r");
    // As if it had been killed between the acknowledgement and the decision.
    let is_there = |value: &str| published.iter().any(|event| event["value"] == value);
    let letters = place.rows(&["export", "orders-dlt", "--decided"]);
    let letter =
        letters.iter().rev().find(|row| !is_there(row["value"].as_str().unwrap())).expect("one is left");
    let of = format!("courant-redrive-of=orders-dlt/{}", letter["letter"].as_str().unwrap());
    let value = format!("{}\n", letter["value"].as_str().unwrap());
    place.publish("orders", &["courant-redrive=r", &of], &[], &value);

    let done = place.row(&redrive[2..]);
    assert_eq!(done["state"], "done");
    assert!(done["found"].as_u64() >= Some(1), "{done}");
    let mut values: Vec<_> =
        place.events("orders").iter().map(|event| event["value"].as_str().unwrap().to_owned()).collect();
    values.sort_unstable();
    let mut expected: Vec<_> = letters.iter().map(|row| row["value"].as_str().unwrap().to_owned()).collect();
    expected.sort_unstable();
    assert_eq!(expected.len(), LETTERS);
    assert_eq!(values, expected, "every letter is there once");
    assert_fails(&place.dlq(&redrive[2..]), NOT_FOUND, "nobody has decided");
    assert_eq!(place.events("orders").len(), LETTERS);
}

/// Whoever does not want to go on says so: what was published stays known, and another redrive may begin. Until
/// then nothing of it is given up.
#[test]
fn a_redrive_that_was_killed_can_be_cancelled() {
    let place = Place::new();
    let lines: String = (0..LETTERS).map(|n| format!("{n}\n")).collect();
    place.publish("orders-dlt", &SPRING, &["--partition", "0"], &lines);
    let bootstrap = place.server.bootstrap();
    let slowly = ["dlq", "foreign", "redrive", "orders-dlt", "--all", "--id", "r", "--yes", "--rate", "5"];
    let mut child = command(&[&slowly[..], &["--server", bootstrap.as_str()]].concat())
        .spawn()
        .expect("the binary starts");
    eventually("some are published", PATIENCE, || (place.events("orders").len() >= 2).then_some(()));
    signal(child.id(), "KILL");
    child.wait().expect("a child can be waited for");
    // Nobody knows yet what it has published: giving that up would say that it was not.
    let discard = ["discard", "orders-dlt", "--all", "--reason", "test orders"];
    assert_fails(&place.dlq(&discard), CONFLICT, "the redrive r");
    assert_fails(&place.dlq(&[&discard[..], &["--dry-run"]].concat()), CONFLICT, "--cancel");
    let cancelled = place.row(&["redrive", "orders-dlt", "--id", "r", "--cancel"]);
    assert_eq!(cancelled["state"], "cancelled");
    let left = place.rows(&["list", "orders-dlt", "--letters"]).len();
    assert_eq!(left + place.events("orders").len(), LETTERS, "each was published, or is left");
    assert_eq!(
        place.rows(&[&discard[..], &["--dry-run"]].concat()).len(),
        left,
        "what is left can be given up"
    );
    assert_fails(&place.dlq(&["redrive", "orders-dlt", "--id", "r", "--cancel"]), NOT_FOUND, "cancel");
    said(place.dlq(&["redrive", "orders-dlt", "--all", "--id", "s", "--yes"]));
    assert_eq!(place.events("orders").len(), LETTERS);
}
