//! A file system of its own that is full: what makes the log grow is refused with an error that clients
//! repeat, everything else goes on, and it ends by itself when there is room.

use std::fs::{self, OpenOptions};
use std::io;
use std::path::PathBuf;
use std::thread;

use serde_json::{Value, json};

use crate::cli::{rows, run};
use crate::disk::Disk;
use crate::http_records::{JSON, post, send};
use crate::ledger::Ledger;
use crate::load::{Load, Plan, reading};
use crate::raw::{Answer, Body, Connection, batch};
use crate::server::{Launch, Server, courant};
use crate::{Dice, PATIENCE, eventually, seed};

const OFFSET_COMMIT: i16 = 8;
const OFFSET_FETCH: i16 = 9;
const DELETE_TOPICS: i16 = 20;
const DELETE_RECORDS: i16 = 21;
const INIT_PRODUCER_ID: i16 = 22;

const OFFSET_OUT_OF_RANGE: i16 = 1;
const UNKNOWN_TOPIC_OR_PARTITION: i16 = 3;
/// Clients repeat what was answered so.
const KAFKA_STORAGE_ERROR: i16 = 56;

/// Less than the server keeps free, and more than it needs for everything but events.
const LITTLE_BYTES: u64 = 32 << 20;
/// Events of about 1 MB: with them gone the disk has room again.
const OLD_EVENTS: i64 = 200;

/// A disk with a server that has filled two topics of one partition.
struct Filled {
    server: Server,
    connection: Connection,
    /// One event.
    event: Vec<u8>,
}

impl Filled {
    fn start(launch: &Launch, old: i64, kept: i64) -> Filled {
        let server = launch.start();
        let mut connection = Connection::open(server.kafka());
        let event = batch(&[&Dice::new(5).bytes(990_000)]);
        for (topic, events) in [("old", old), ("kept", kept)] {
            server.create_topic(topic, 1);
            for base in 0..events {
                assert_eq!(connection.produce(topic, 0, &event).unwrap(), (0, base));
            }
        }
        Filled { server, connection, event }
    }

    /// Appends one event to the topic that stays.
    fn produce(&mut self) -> (i16, i64) {
        self.connection.produce("kept", 0, &self.event).unwrap()
    }

    /// Fails unless events are refused, and whoever asks is told why.
    fn assert_refuses_events(&mut self) {
        let (error, _) = self.produce();
        assert_eq!(error, KAFKA_STORAGE_ERROR, "the server said:\n{}", self.server.stderr());
        let (status, reason) = self.server.ask("/readyz");
        assert_eq!(status, 503, "{reason}");
        assert!(reason.contains("the disk is full") && reason.contains("delete a topic"), "{reason}");
    }

    fn committed(&mut self) -> i64 {
        let body = Body::default().string("billing").i32(1).string("kept").i32(1).i32(0);
        let mut answer = self.connection.call(OFFSET_FETCH, 1, &body).unwrap();
        partition_of(&mut answer, "kept").unwrap();
        answer.i64().unwrap()
    }

    fn commit(&mut self, offset: i64) -> i16 {
        let body = Body::default()
            .string("billing")
            .i32(-1) // no generation,
            .string("") // no member
            .i64(-1) // and no retention of its own
            .i32(1)
            .string("kept")
            .i32(1)
            .i32(0)
            .i64(offset)
            .string("");
        let mut answer = self.connection.call(OFFSET_COMMIT, 2, &body).unwrap();
        partition_of(&mut answer, "kept").unwrap();
        answer.i16().unwrap()
    }

    fn delete_old(&mut self) -> i16 {
        let body = Body::default().i32(1).string("old").i32(30_000);
        let mut answer = self.connection.call(DELETE_TOPICS, 1, &body).unwrap();
        answer.i32().unwrap(); // throttle
        assert_eq!((answer.count().unwrap(), answer.string().unwrap()), (1, "old".to_owned()));
        answer.i16().unwrap()
    }

    /// Deletes the events of the topic that stays before an offset: where it begins then, and the error.
    fn delete_records(&mut self, before: i64) -> (i64, i16) {
        let body = Body::default().i32(1).string("kept").i32(1).i32(0).i64(before).i32(30_000);
        let mut answer = self.connection.call(DELETE_RECORDS, 0, &body).unwrap();
        answer.i32().unwrap(); // throttle
        partition_of(&mut answer, "kept").unwrap();
        (answer.i64().unwrap(), answer.i16().unwrap())
    }

    fn producer_id(&mut self) -> (i16, i64) {
        let body = Body::default().i16(-1).i32(1_000); // no transactional id
        let mut answer = self.connection.call(INIT_PRODUCER_ID, 0, &body).unwrap();
        answer.i32().unwrap(); // throttle
        (answer.i16().unwrap(), answer.i64().unwrap())
    }

    /// Error code and high watermark of a read; what is there is there in full.
    fn fetch(&mut self, topic: &str, offset: i64) -> (i16, i64) {
        self.connection.send_fetch(topic, 0, offset, 0).unwrap();
        let fetched = self.connection.fetched().unwrap();
        let is_whole = fetched.records.len() >= self.event.len();
        assert!(fetched.error != 0 || offset == fetched.high_watermark || is_whole, "{topic} at {offset}");
        (fetched.error, fetched.high_watermark)
    }

    /// The server is killed and started again.
    fn again(self, launch: &Launch) -> Filled {
        self.server.kill();
        let server = launch.start();
        let connection = Connection::open(server.kafka());
        Filled { server, connection, event: self.event }
    }
}

/// Goes to the one partition of the one topic in an answer.
fn partition_of(answer: &mut Answer, topic: &str) -> io::Result<()> {
    assert_eq!(answer.count()?, 1, "topics in the answer");
    assert_eq!(answer.string()?, topic);
    assert_eq!(answer.count()?, 1, "partitions in the answer");
    assert_eq!(answer.i32()?, 0, "partition");
    Ok(())
}

fn remove(ballast: Vec<PathBuf>) {
    for file in ballast {
        fs::remove_file(file).unwrap();
    }
}

/// Nobody needs to help but by deleting: the room that a topic leaves is enough, also after a restart in
/// between.
#[test]
fn a_deleted_topic_makes_room_and_writing_goes_on_by_itself() {
    let Some(disk) = Disk::for_test("full_disk::a_deleted_topic_makes_room_and_writing_goes_on_by_itself")
    else {
        return;
    };
    let launch = Launch::on(&disk.data());
    let mut filled = Filled::start(&launch, OLD_EVENTS, 1);
    let ballast = disk.fill();
    let largest = OpenOptions::new().write(true).open(&ballast[0]).unwrap();
    largest.set_len(largest.metadata().unwrap().len() - LITTLE_BYTES).unwrap();

    filled.assert_refuses_events();
    let created = filled.connection.create_topic("new", 1).unwrap();
    assert_eq!(created, KAFKA_STORAGE_ERROR, "a topic is in every later checkpoint");
    assert_eq!(filled.commit(1), 0);
    let mut filled = filled.again(&launch);
    // It is ready, and has said what will be refused before anybody sends it something.
    let said = filled.server.stderr();
    assert!(said.contains("the disk is full: events will be refused until there is room"), "{said}");
    filled.assert_refuses_events();
    assert_eq!((filled.fetch("old", OLD_EVENTS - 1), filled.fetch("kept", 0)), ((0, OLD_EVENTS), (0, 1)));
    assert_eq!(filled.committed(), 1);

    assert_eq!(filled.delete_old(), 0);
    eventually("there is room again", PATIENCE, || {
        let (error, base) = filled.produce();
        assert!(error == 0 || error == KAFKA_STORAGE_ERROR, "error {error}");
        (error == 0).then(|| assert_eq!(base, 1))
    });
    assert_eq!(filled.server.get("/readyz"), "ready\n");
    assert_eq!(filled.connection.create_topic("new", 1).unwrap(), 0);
    assert_eq!(filled.fetch("kept", 1), (0, 2));
    filled.server.assert_well("a full disk");
}

/// Where others have taken the last block, a deleted topic still gives its room back: there is room held
/// for the checkpoint that this takes.
#[test]
fn a_deleted_topic_makes_room_where_no_block_is_free() {
    let Some(disk) = Disk::for_test("full_disk::a_deleted_topic_makes_room_where_no_block_is_free") else {
        return;
    };
    let mut filled = Filled::start(&Launch::on(&disk.data()), OLD_EVENTS, 1);
    disk.fill();
    filled.assert_refuses_events();
    assert_eq!(filled.delete_old(), 0);
    eventually("there is room again", PATIENCE, || {
        let (error, base) = filled.produce();
        assert!(error == 0 || error == KAFKA_STORAGE_ERROR, "error {error}");
        (error == 0).then(|| assert_eq!(base, 1))
    });
    filled.server.assert_well("a disk without a free block");
}

/// On a disk without a single free block: what needs none is done and durable.
#[test]
fn commits_deletions_and_configs_need_no_room() {
    const KEPT: i64 = 20;
    let Some(disk) = Disk::for_test("full_disk::commits_deletions_and_configs_need_no_room") else {
        return;
    };
    let launch = Launch::on(&disk.data());
    let mut filled = Filled::start(&launch, 20, KEPT);
    let ballast = disk.fill();
    filled.assert_refuses_events();
    assert_eq!(filled.fetch("kept", 0), (0, KEPT));
    for offset in 0..50 {
        assert_eq!(filled.commit(offset), 0, "offset {offset}");
    }
    let (error, first_id) = filled.producer_id();
    assert_eq!(error, 0);
    assert_eq!(filled.delete_records(5), (5, 0));
    let config = "retention.ms=100000000";
    let altered =
        courant(&["topic", "alter", "kept", "--config", config, "--server", &filled.server.bootstrap()], "");
    assert!(altered.status.success(), "{}", String::from_utf8_lossy(&altered.stderr));
    assert_eq!(filled.delete_old(), 0);
    filled.assert_refuses_events();
    assert!(
        !filled.server.stderr().contains("read-only until it is restarted"),
        "{}",
        filled.server.stderr()
    );

    // A start needs some room; where there is none it says so, and has lost nothing.
    let Filled { server, event, .. } = filled;
    server.kill();
    match launch.try_start() {
        Ok(server) => drop(server),
        Err(refused) => {
            refused.assert_orderly();
            let said = &refused.stderr;
            assert!(
                said.contains("No space left on device") || said.contains("the disk is full"),
                "{refused}"
            );
        }
    }
    remove(ballast);
    let server = launch.start();
    let connection = Connection::open(server.kafka());
    let mut filled = Filled { server, connection, event };
    assert_eq!(filled.committed(), 49);
    assert_eq!(filled.fetch("old", 0).0, UNKNOWN_TOPIC_OR_PARTITION);
    assert_eq!(filled.fetch("kept", 4).0, OFFSET_OUT_OF_RANGE);
    assert_eq!(filled.fetch("kept", 5), (0, KEPT));
    let (error, second_id) = filled.producer_id();
    assert!(error == 0 && second_id > first_id, "{first_id}, then {second_id}");
    assert_eq!(filled.produce(), (0, KEPT));
    let configs = courant(&["topic", "configs", "kept", "--server", &filled.server.bootstrap()], "");
    let configs = String::from_utf8_lossy(&configs.stdout).into_owned();
    assert!(configs.contains("100000000"), "{configs}");
    filled.server.assert_well("a full disk");
}

/// What is changed by HTTP while no event is taken has its audit event when there is room again, in order.
#[test]
fn changes_by_http_are_audited_when_there_is_room_again() {
    let Some(disk) = Disk::for_test("full_disk::changes_by_http_are_audited_when_there_is_room_again") else {
        return;
    };
    let mut filled = Filled::start(&Launch::on(&disk.data()), OLD_EVENTS, 1);
    post(&filled.server, "/topics", &json!({ "name": "first" })).json(201);
    disk.fill();
    filled.assert_refuses_events();
    let publish = || send(&filled.server, "POST", "/topics/kept/events", &[JSON], "1");
    publish().assert_problem(503, "not_written");
    send(&filled.server, "DELETE", "/topics/old?confirm=old", &[], "").json(200);
    eventually("there is room again", PATIENCE, || (publish().status == 200).then_some(()));
    let events = rows(run(&filled.server, &["tail", "_courant.audit", "-o", "jsonl"]));
    let told: Vec<(String, String)> = events
        .iter()
        .map(|event| {
            let account: Value = serde_json::from_str(event["value"].as_str().unwrap()).unwrap();
            let word = |name: &str| account[name].as_str().unwrap().to_owned();
            (word("action"), word("result"))
        })
        .collect();
    let told: Vec<_> = told.iter().map(|(action, result)| (action.as_str(), result.as_str())).collect();
    let begin = [("topic.create", "done"), ("event.publish", "failed"), ("topic.delete", "done")];
    assert!(told.starts_with(&begin) && told.ends_with(&[("event.publish", "done")]), "{told:?}");
    filled.server.assert_well("changes on a full disk");
}

/// The error is one that real producers repeat, without losing or doubling an event.
#[test]
fn idempotent_producers_wait_until_there_is_room() {
    const TOPIC: &str = "waiting";
    const PARTITIONS: i32 = 3;
    let Some(disk) = Disk::for_test("full_disk::idempotent_producers_wait_until_there_is_room") else {
        return;
    };
    let server = Server::start(&disk.data());
    server.create_topic(TOPIC, PARTITIONS);
    let bootstrap = server.bootstrap();
    let ledger = Ledger::new(TOPIC);
    let plan = Plan { producers: 3, first_producer: 0, partitions: PARTITIONS, seed: seed() };
    let load = Load::start(&bootstrap, &ledger, plan);
    assert!(ledger.reaches(500, PATIENCE), "no progress; the server said:\n{}", server.stderr());

    for _ in 0..3 {
        let ballast = disk.fill();
        let target = ledger.acked_count() + 3_000;
        thread::scope(|scope| {
            // Producers send only a little ahead of what somebody waits for.
            let waiting = scope.spawn(|| ledger.reaches(target, PATIENCE));
            eventually("producers are refused", PATIENCE, || (server.ask("/readyz").0 == 503).then_some(()));
            assert!(ledger.acked_count() < target, "acknowledged on a full disk");
            remove(ballast);
            let went_on = waiting.join().expect("the ledger waits");
            assert!(went_on, "given up: {:?}; the server said:\n{}", ledger.failures(), server.stderr());
        });
    }

    load.finish();
    assert!(ledger.failures().is_empty(), "given up: {:?}", ledger.failures());
    ledger
        .check(&ledger.acked_now(), &reading(&bootstrap, TOPIC, PARTITIONS))
        .assert_clean("after three times without room");
    server.assert_well("three times without room");
}
