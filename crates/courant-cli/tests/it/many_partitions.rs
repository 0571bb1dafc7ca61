//! Ten thousand partitions with an event in each: what a start reads is the journal and the checkpoint,
//! and not what is stored. Reads are counted, not timed.

use std::fs;
use std::path::Path;

use tempfile::tempdir;

use crate::raw::{Body, Connection, FETCH, PRODUCE, batch};
use crate::server::{Launch, Server};
use crate::skip;

const TOPICS: [&str; 4] = ["north", "east", "south", "west"];
/// Of each topic.
const PARTITIONS: i32 = 2_500;
const ALL: usize = 10_000;

/// Partitions in one request.
const AT_ONCE: i32 = 500;

/// Bytes that every process reads of libraries and of what the system says of itself, by a wide margin.
const OTHER_BYTES: u64 = 1 << 20;
/// Reads of every start, however much is stored, by a wide margin.
const OTHER_READS: usize = 1_000;

/// What a process has read since it began.
#[derive(Debug)]
struct Reads {
    bytes: u64,
    calls: usize,
}

impl Reads {
    fn of(server: &Server) -> Reads {
        let io = fs::read_to_string(format!("/proc/{}/io", server.pid())).expect("the kernel counts");
        let figure = |name: &str| -> u64 {
            let value = io.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
            value.and_then(|value| value.parse().ok()).expect("a number")
        };
        Reads { bytes: figure("rchar"), calls: usize::try_from(figure("syscr")).unwrap() }
    }
}

fn bytes_in(folder: &Path) -> u64 {
    let files = fs::read_dir(folder).expect("a folder of the log").flatten();
    files.map(|file| file.metadata().expect("a file of the log").len()).sum()
}

fn bytes_in_segments(data: &Path) -> u64 {
    let partitions = fs::read_dir(data.join("segments")).expect("the segments").flatten();
    partitions.map(|partition| bytes_in(&partition.path())).sum()
}

/// The most that a start may read: the journal, which is looked at before anything is changed and then
/// replayed, and a checkpoint.
fn bound(data: &Path) -> u64 {
    2 * bytes_in(&data.join("journal")) + bytes_in(&data.join("checkpoints")) + OTHER_BYTES
}

/// Requests for parts of a topic's partitions.
fn parts() -> impl Iterator<Item = std::ops::Range<i32>> {
    (0..PARTITIONS / AT_ONCE).map(|part| part * AT_ONCE..(part + 1) * AT_ONCE)
}

/// Adds an event to every partition.
fn produce_to_all(server: &Server) {
    let mut connection = Connection::open(server.kafka());
    let records = batch(&[b"an event"]);
    for topic in TOPICS {
        for part in parts() {
            let mut body = Body::default()
                .i16(-1) // no transactional id
                .i16(-1) // acks
                .i32(60_000)
                .i32(1)
                .string(topic)
                .i32(AT_ONCE);
            for partition in part {
                body = body.i32(partition).bytes(&records);
            }
            let mut answer = connection.call(PRODUCE, 3, &body).expect("an answer to Produce");
            assert_eq!(answer.count().unwrap(), 1, "topics in the answer");
            answer.string().unwrap();
            for _ in 0..answer.count().unwrap() {
                let partition = answer.i32().unwrap();
                assert_eq!(answer.i16().unwrap(), 0, "{topic}/{partition}");
                answer.i64().unwrap(); // base offset
                answer.i64().unwrap(); // time
            }
        }
    }
}

/// How many events each partition has, of which the first can be read.
fn events_of_each(server: &Server) -> Vec<i64> {
    let mut connection = Connection::open(server.kafka());
    let mut events = Vec::new();
    for topic in TOPICS {
        for part in parts() {
            let mut body = Body::default()
                .i32(-1) // a consumer
                .i32(0) // does not wait
                .i32(1)
                .i32(50 << 20)
                .i8(0)
                .i32(1)
                .string(topic)
                .i32(AT_ONCE);
            for partition in part {
                body = body.i32(partition).i64(0).i32(1 << 20);
            }
            let mut answer = connection.call(FETCH, 4, &body).expect("an answer to Fetch");
            answer.i32().unwrap(); // throttle
            assert_eq!(answer.count().unwrap(), 1, "topics in the answer");
            answer.string().unwrap();
            for _ in 0..answer.count().unwrap() {
                let partition = answer.i32().unwrap();
                assert_eq!(answer.i16().unwrap(), 0, "{topic}/{partition}");
                events.push(answer.i64().unwrap());
                answer.i64().unwrap(); // last stable offset
                assert_eq!(answer.count().unwrap(), 0, "no transactions");
                assert!(!answer.bytes().unwrap().is_empty(), "{topic}/{partition}");
            }
        }
    }
    events
}

#[test]
fn a_start_reads_what_the_journal_holds_and_no_segment() {
    const NAME: &str = "many_partitions::a_start_reads_what_the_journal_holds_and_no_segment";
    if !Path::new("/proc/self/io").exists() {
        skip(NAME, "the kernel does not count what a process reads");
        return;
    }
    let data = tempdir().unwrap();
    // The index of traces reads all that is there from the moment on in which a server is ready: without it all reads
    // are the start's.
    let launch = Launch::on(data.path()).arguments(&["--trace-index-events", "0"]);
    let server = launch.start();
    for topic in TOPICS {
        server.create_topic(topic, PARTITIONS);
    }
    produce_to_all(&server);
    let (status, said) = server.stop();
    assert!(status.success(), "an orderly stop: {status}\n{said}");

    // Each of them would take a read at least.
    let limit = bound(data.path());
    let server = launch.start();
    let reads = Reads::of(&server);
    assert!(reads.bytes <= limit && reads.calls < OTHER_READS, "of {limit} bytes: {reads:?}");
    assert!(!server.stderr().contains("replayed"), "nothing to replay:\n{}", server.stderr());
    let events = events_of_each(&server);
    assert_eq!(events.iter().filter(|events| **events == 1).count(), ALL);

    // One event was not in the checkpoint: only its segment is looked at.
    let mut connection = Connection::open(server.kafka());
    let answer = connection.produce("north", 7, &batch(&[b"one more"])).expect("an answer");
    assert_eq!(answer, (0, 1));
    server.kill();
    let limit = bound(data.path());
    let server = launch.start();
    let reads = Reads::of(&server);
    assert!(reads.bytes <= limit && reads.calls < OTHER_READS, "of {limit} bytes: {reads:?}");
    assert!(server.stderr().contains("replayed"), "something to replay:\n{}", server.stderr());

    // All of them at the most: the end of each, before something is added to it.
    let answer = Connection::open(server.kafka()).produce("north", 7, &batch(&[b"one more"]));
    assert_eq!(answer.expect("an answer"), (0, 2));
    produce_to_all(&server);
    server.kill();
    let limit = bound(data.path()) + bytes_in_segments(data.path());
    let server = launch.start();
    let reads = Reads::of(&server);
    assert!(reads.bytes <= limit && reads.calls < ALL + OTHER_READS, "of {limit} bytes: {reads:?}");
    let events = events_of_each(&server);
    assert_eq!(events.iter().filter(|events| **events == 2).count(), ALL - 1);
    assert_eq!(events.iter().filter(|events| **events == 4).count(), 1);
    server.assert_well("ten thousand partitions");
}
