//! `courant relay` beside programs of others, which write their rows and their events in transactions of
//! their own: everything that was committed is published and nothing else, whoever is killed meanwhile.

use std::collections::BTreeSet;
use std::fs;
use std::net::TcpListener;

use tempfile::tempdir;

use crate::cli::{assert_fails, rows};
use crate::relay_support::{Database, Relay, Writers, django, jdbc, judge, published};
use crate::server::{Server, courant, signal};
use crate::{PATIENCE, eventually, rounds, seed};

const USAGE: i32 = 2;
const NOT_FOUND: i32 = 3;
const UNREACHABLE: i32 = 6;
const PARTLY: i32 = 7;
const INTERRUPTED: i32 = 130;

/// Waits until the business has so many changes.
fn changed(database: &Database, count: usize) {
    eventually("changes are committed", PATIENCE, || (database.changes().len() >= count).then_some(()));
}

/// Waits until nothing is left to be published, and judges.
fn settled(database: &Database, server: &Server) {
    eventually("the outbox is empty", PATIENCE, || (database.left() == 0).then_some(()));
    let (committed, published) = (database.changes(), published(server));
    assert!(committed.len() > 50, "{}", committed.len());
    if let Err(said) = judge(&committed, &published) {
        panic!("seed {}: {said}", seed());
    }
}

/// Writers and relay are killed in the middle, each at another time, and started again.
fn survives(database: &Database, words: impl Fn(u32) -> Vec<String>) {
    let data = tempdir().unwrap();
    let server = Server::start(data.path());
    let relay = Relay::start(database, &server);
    let writers = Writers::start(&words(10_000));
    let mut relay = Some(relay);
    for round in 1..=rounds("COURANT_TEST_RELAY_ROUNDS", 3) {
        changed(database, round as usize * 30);
        relay.take().expect("it runs").kill();
        changed(database, round as usize * 30 + 15);
        relay = Some(Relay::start(database, &server));
    }
    writers.kill();
    Writers::start(&words(5)).finish();
    settled(database, &server);
    assert!(relay.expect("it runs").stop().success());
}

/// A relay is stopped where it is, another one takes over, and the first one wakes: it may send again what it had
/// in hand, under the same ids, and moves nothing on.
#[cfg(any(feature = "mariadb", feature = "postgres"))]
fn wakes_too_late(database: &Database, words: &[String]) {
    let data = tempdir().unwrap();
    let server = Server::start(data.path());
    let mut relay = Relay::start(database, &server);
    let writers = Writers::start(words);
    for round in 1..=rounds("COURANT_TEST_RELAY_ROUNDS", 3) {
        changed(database, round as usize * 40);
        relay.signal("STOP");
        let next = Relay::start(database, &server);
        // The successor publishes while the first one stands still.
        let before = published_count(&server);
        eventually("the successor publishes", PATIENCE, || (published_count(&server) > before).then_some(()));
        relay.signal("CONT");
        relay.says("stands by");
        relay = next;
    }
    writers.kill();
    settled(database, &server);
}

/// How many events there are; none before there is a topic.
#[cfg(any(feature = "mariadb", feature = "postgres"))]
fn published_count(server: &Server) -> usize {
    let read = crate::cli::run(server, &["tail", "shop.changes", "-o", "jsonl"]);
    String::from_utf8_lossy(&read.stdout).lines().count()
}

#[test]
fn what_django_commits_to_sqlite_is_published() {
    let database = Database::sqlite();
    let test = "what_django_commits_to_sqlite_is_published";
    if django(test, &database, 1).is_some() {
        survives(&database, |transactions| django(test, &database, transactions).expect("it is here"));
    }
}

#[test]
fn what_jdbc_commits_to_sqlite_is_published() {
    let database = Database::sqlite();
    let test = "what_jdbc_commits_to_sqlite_is_published";
    if jdbc(test, &database, 1).is_some() {
        survives(&database, |transactions| jdbc(test, &database, transactions).expect("it is here"));
    }
}

#[cfg(feature = "mariadb")]
mod on_mariadb {
    use super::*;

    #[test]
    fn what_jdbc_commits_to_mariadb_is_published() {
        let test = "what_jdbc_commits_to_mariadb_is_published";
        let Some(database) = Database::mariadb("jdbc") else { return };
        if jdbc(test, &database, 1).is_some() {
            survives(&database, |transactions| jdbc(test, &database, transactions).expect("it is here"));
        }
    }

    /// O4 on MariaDB: a relay that was stopped while another one took over.
    #[test]
    fn a_relay_of_mariadb_that_wakes_too_late_does_no_harm() {
        let test = "a_relay_of_mariadb_that_wakes_too_late_does_no_harm";
        let Some(database) = Database::mariadb("stopped") else { return };
        let Some(words) = jdbc(test, &database, 10_000) else { return };
        wakes_too_late(&database, &words);
    }
}

#[cfg(feature = "postgres")]
mod on_postgres {
    use super::*;

    #[test]
    fn what_django_commits_is_published() {
        let test = "what_django_commits_is_published";
        let Some(database) = Database::postgres("django") else { return };
        if django(test, &database, 1).is_some() {
            survives(&database, |transactions| django(test, &database, transactions).expect("it is here"));
        }
    }

    #[test]
    fn what_jdbc_commits_is_published() {
        let test = "what_jdbc_commits_is_published";
        let Some(database) = Database::postgres("jdbc") else { return };
        if jdbc(test, &database, 1).is_some() {
            survives(&database, |transactions| jdbc(test, &database, transactions).expect("it is here"));
        }
    }

    /// O4 on Postgres: a relay that was stopped while another one took over.
    #[test]
    fn a_relay_that_wakes_after_its_successor_has_begun_does_no_harm() {
        let test = "a_relay_that_wakes_after_its_successor_has_begun_does_no_harm";
        let Some(database) = Database::postgres("stopped") else { return };
        let Some(words) = django(test, &database, 10_000) else { return };
        wakes_too_late(&database, &words);
    }

    /// A reader that goes on behind the last number it has seen loses what is committed out of order: the
    /// same judgement says so. It shows that the writers do what a relay has to stand.
    #[test]
    fn a_reader_with_a_cursor_fails_the_judgement() {
        let test = "a_reader_with_a_cursor_fails_the_judgement";
        let Some(database) = Database::postgres("cursor") else { return };
        let Some(words) = django(test, &database, 10_000) else { return };
        let writers = Writers::start(&words);
        let mut reader = Cursor { last: 0, known: BTreeSet::new(), seen: Vec::new() };
        eventually("a row comes out of order", PATIENCE, || reader.read(&database).then_some(()));
        writers.kill();
        reader.read(&database);
        let committed = database.changes();
        let said = judge(&committed, &reader.seen).expect_err("a cursor loses rows");
        assert!(said.contains("lost: [("), "{said}");
    }

    struct Cursor {
        last: i64,
        /// The numbers of the rows that it has seen.
        known: BTreeSet<i64>,
        seen: Vec<((i64, i64), String)>,
    }

    impl Cursor {
        /// Reads on. Whether there is a row that it has passed over.
        fn read(&mut self, database: &Database) -> bool {
            let changes = "SELECT id, (event_value::json ->> 'account')::bigint * 1000000 \
                           + (event_value::json ->> 'number')::bigint FROM courant_outbox_submit ORDER BY id";
            let mut has_missed = false;
            for (id, change) in database.pairs(changes) {
                if id > self.last {
                    self.last = id;
                    self.known.insert(id);
                    self.seen.push(((change / 1_000_000, change % 1_000_000), id.to_string()));
                }
                has_missed |= !self.known.contains(&id);
            }
            has_missed
        }
    }
}

/// The judgement itself: it tells every way in which a relay can be wrong.
#[test]
fn the_judgement_tells_what_is_wrong() {
    let committed: BTreeSet<(i64, i64)> = [(1, 1), (1, 2), (2, 1)].into();
    let event = |account, number, id: &str| ((account, number), id.to_owned());
    let right = [event(1, 1, "a"), event(2, 1, "b"), event(1, 2, "c")];
    assert_eq!(judge(&committed, &right), Ok(()));
    let twice = [event(1, 1, "a"), event(1, 2, "c"), event(1, 1, "a"), event(2, 1, "b")];
    assert_eq!(judge(&committed, &twice), Ok(()), "the same id again");
    for (wrong, word) in [
        (vec![event(1, 1, "a"), event(2, 1, "b")], "lost: [(1, 2)]"),
        (vec![event(1, 2, "c"), event(1, 1, "a"), event(2, 1, "b")], "order"),
        (vec![event(1, 1, "a"), event(1, 2, "c"), event(2, 1, "b"), event(2, 2, "d")], "never committed"),
        (vec![event(1, 1, "a"), event(1, 1, "again"), event(1, 2, "c"), event(2, 1, "b")], "order"),
        (vec![event(1, 1, "a"), event(1, 2, "a"), event(2, 1, "b")], "a is"),
    ] {
        let said = judge(&committed, &wrong).expect_err(word);
        assert!(said.contains(word), "{said}");
    }
}

/// `--once` from a database without tables, to a directory: what waits is published, and rows that can be
/// no event are told of.
#[test]
fn once_publishes_what_waits_and_ends() {
    let database = Database::sqlite();
    let directory = tempdir().unwrap();
    let events = directory.path().join("events");
    let (outbox, to) = (database.url(), format!("embedded:{}", events.display()));
    let once = ["relay", "--outbox", &outbox, "--to", &to, "--once", "-o", "jsonl", "-q"];
    let insert = |topic: &str, value: &str| {
        format!(
            "INSERT INTO courant_outbox_submit (topic, event_key, event_value) VALUES ('{topic}', 'k', '{value}')"
        )
    };
    database.submit(&[insert("orders", "1"), insert("orders", "2")]);
    let done = rows(courant(&once, ""));
    assert_eq!((done[0]["published"].as_u64(), done[0]["refused"].as_u64()), (Some(2), Some(0)));
    database.submit(&[insert("no topic!", "3"), insert("orders", "4")]);
    let partly = courant(&once, "");
    assert_eq!(partly.status.code(), Some(PARTLY));
    let said = String::from_utf8_lossy(&partly.stderr).into_owned();
    assert!(said.contains("courant_outbox_refused") && said.contains("topic: "), "{said}");
    assert_eq!(database.left(), 0);
    // The directory is one of `courant serve`.
    let server = Server::start(&events);
    let events = rows(crate::cli::run(&server, &["tail", "orders", "-o", "jsonl"]));
    assert_eq!(crate::cli::values(&events), ["1", "2", "4"]);
}

/// Symptom: a relay whose server did not answer could be ended by SIGKILL alone, for as long as the engine waits. Cause:
/// nobody heard a signal during the orderly end. Fix: the second one ends it where it is, and the next relay goes on.
#[test]
fn a_second_signal_ends_a_relay_whose_server_does_not_answer() {
    let database = Database::sqlite();
    let data = tempdir().unwrap();
    let server = Server::start(data.path());
    let relay = Relay::start(&database, &server);
    signal(server.pid(), "STOP");
    let row = "INSERT INTO courant_outbox_submit (topic, event_key, event_value) VALUES ('orders', 'k', '1')";
    database.submit(&[row.to_owned()]);
    // It is on the way to the server from here on, and a signal does not end that.
    eventually("the relay has begun", PATIENCE, || (database.waiting() == [(0, 1)]).then_some(()));
    relay.signal("TERM");
    relay.says("a second signal stops at once");
    relay.signal("TERM");
    // An orderly end, which comes when the engine gives up, would be a success.
    let status = relay.ends();
    assert_eq!(status.code(), Some(INTERRUPTED), "{status}");
    assert_eq!(database.left(), 1);

    signal(server.pid(), "CONT");
    let next = Relay::start(&database, &server);
    eventually("the outbox is empty", PATIENCE, || (database.left() == 0).then_some(()));
    assert!(next.stop().success());
    let events = rows(crate::cli::run(&server, &["tail", "orders", "--from", "start", "-o", "jsonl"]));
    // It may have been on the way when the first one was ended.
    let mut values = crate::cli::values(&events);
    values.dedup();
    assert_eq!(values, ["1"]);
}

/// A signal before the engine is open ends a relay that has begun nothing.
#[test]
fn a_signal_ends_a_relay_that_waits_for_its_server() {
    let database = Database::sqlite();
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    silent.set_nonblocking(true).unwrap();
    let relay = Relay::spawn(&database, &silent.local_addr().unwrap().to_string());
    // When it connects it hears signals, and nobody answers it.
    let connection = eventually("the relay connects", PATIENCE, || silent.accept().ok());
    relay.signal("TERM");
    relay.says("Stopped before it was ready.");
    let status = relay.ends();
    assert!(status.success(), "{status}");
    drop(connection);
}

/// Symptom: in a container, where a process that is the first one ends by no signal unless it hears it, a relay whose
/// database did not answer was killed. Cause: it heard signals only when it was connected.
#[cfg(feature = "postgres")]
#[test]
fn a_signal_ends_a_relay_that_waits_for_its_database() {
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    silent.set_nonblocking(true).unwrap();
    let outbox = format!("postgres://nobody@{}/none?sslmode=disable", silent.local_addr().unwrap());
    let relay = Relay::spawn_from(&outbox, "127.0.0.1:1");
    let connection = eventually("the relay connects", PATIENCE, || silent.accept().ok());
    relay.signal("TERM");
    relay.says("Stopped before it was ready.");
    let status = relay.ends();
    assert!(status.success(), "{status}");
    drop(connection);
}

/// What is wrong is said in one sentence, with what to do and an exit code.
#[test]
fn what_is_wrong_is_said() {
    let database = Database::sqlite();
    let directory = tempdir().unwrap();
    let missing = format!("sqlite:{}", directory.path().join("missing.db").display());
    let relay = |outbox: &str, to: &str| {
        courant(&["relay", "--outbox", outbox, "--to", to, "--once", "--timeout", "1s"], "")
    };
    assert_fails(&relay(&missing, "memory:"), NOT_FOUND, "--install");
    assert_fails(&relay("shop.db", "memory:"), USAGE, "sqlite:PATH");
    assert_fails(&relay(&database.url(), "nowhere"), USAGE, "nowhere");
    assert_fails(&relay(&database.url(), "courant://127.0.0.1:1"), UNREACHABLE, "127.0.0.1:1");
    let empty = directory.path().join("empty.db");
    fs::write(&empty, "").unwrap();
    let empty = format!("sqlite:{}", empty.display());
    assert_fails(&relay(&empty, "memory:"), NOT_FOUND, "--install");
    assert_fails(&relay(&database.url(), "memory:"), USAGE, "embedded:PATH");
    let events = format!("embedded:{}", directory.path().join("events").display());
    let installed = courant(&["relay", "--outbox", &missing, "--to", &events, "--once", "--install"], "");
    assert!(installed.status.success(), "{}", String::from_utf8_lossy(&installed.stderr));
}
