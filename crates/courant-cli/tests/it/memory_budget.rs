//! A server that is told how much memory it may take, and clients that want it to take more.

use std::fs;
use std::io::Write as _;
use std::iter;
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, Scope};
use std::time::Duration;

use tempfile::tempdir;

use crate::raw::{self, Body, Connection, batch};
use crate::server::{Launch, Server};
use crate::{PATIENCE, eventually, skip};

const MIB: u64 = 1 << 20;

/// The least that a server can be told, and what docs/guide/memory.md says of the program itself. What is stored here
/// is hardly anything.
const BUDGET: &str = "576MiB";
const MOST_BYTES: u64 = (576 + 32) * MIB;

/// The part of it that clients of the Kafka protocol have is less than this, and so is what the server takes with the
/// program when they alone press.
const KAFKA_BYTES: u64 = 192 * MIB;

const MEMORY: &str = "courant_kafka_memory_bytes";
const MEMORY_MAX: &str = "courant_kafka_memory_bytes_max";

/// Batches of the topic that is read. All of them together are 54 MB.
const BATCHES: i64 = 60;
const BATCH_BYTES: usize = 900_000;

/// Connections of each kind, all of them together fewer than the budget lets in.
const READERS: usize = 50;
const LARGE_REQUESTS: usize = 80;
const MANY_PARTITIONS: usize = 20;
const MANY_REQUESTS: usize = 10;

/// Of the API, fewer than the budget lets in: who looks at the metrics needs one, too.
const WHOLE_READERS: usize = 2;

/// Between two looks of a client, and looks until it begins anew.
const BREATH: Duration = Duration::from_millis(50);
const LOOKS: usize = 100;

/// How often the memory is looked at under full load.
const SAMPLES: u32 = 300;

/// The server's own pages, and its share of those that it has in common with others, in bytes.
fn pss(server: &Server) -> Option<u64> {
    let text = fs::read_to_string(format!("/proc/{}/smaps_rollup", server.pid())).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("Pss:"))?;
    Some(line.split_whitespace().next()?.parse::<u64>().ok()? * 1024)
}

/// A whole request, with its length.
fn request(api: i16, version: i16, body: &Body) -> Vec<u8> {
    let request = Body::default().i16(api).i16(version).i32(1).string("raw").raw(&body.0);
    let length = i32::try_from(request.0.len()).expect("a request below 2 GiB").to_be_bytes();
    [&length[..], &request.0].concat()
}

/// A Fetch of as many partitions of a topic, each from its beginning.
fn fetch(topic: &str, partitions: i32, max_wait_ms: i32) -> Vec<u8> {
    const MAX_BYTES: i32 = 8 << 20;
    let head = Body::default().i32(-1).i32(max_wait_ms).i32(1).i32(MAX_BYTES).i8(0);
    let head = head.i32(1).string(topic).i32(partitions);
    let body = (0..partitions).fold(head, |body, index| body.i32(index).i64(0).i32(MAX_BYTES));
    request(raw::FETCH, 4, &body)
}

/// Says that it is over, also when a test fails: its clients are waited for.
struct Over<'a>(&'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// A client that sends something, reads nothing, and does so again after a while.
fn press(server: SocketAddr, sent: &[u8], over: &AtomicBool) {
    while !over.load(Ordering::Relaxed) {
        if let Ok(mut stream) = TcpStream::connect(server) {
            stream.set_write_timeout(Some(10 * BREATH)).unwrap();
            // What the server has no memory for stays in the socket, or here.
            let _ = stream.write_all(sent);
            for _ in 0..LOOKS {
                if over.load(Ordering::Relaxed) {
                    return;
                }
                thread::park_timeout(BREATH);
            }
        } else {
            thread::park_timeout(BREATH);
        }
    }
}

/// So many clients that do so.
fn crowd<'scope>(
    scope: &'scope Scope<'scope, '_>,
    clients: usize,
    server: SocketAddr,
    sent: &'scope [u8],
    over: &'scope AtomicBool,
) {
    for _ in 0..clients {
        scope.spawn(move || press(server, sent, over));
    }
}

/// What the clients send, by kind.
struct Load {
    /// Reads of all that an answer may have.
    reads: Vec<u8>,
    /// A Produce of which the last byte never comes.
    large_request: Vec<u8>,
    /// Reads whose answers are long although there is nothing to read.
    many_partitions: Vec<u8>,
    /// A read that waits for an event which nobody sends, and more of them behind it.
    many_requests: Vec<u8>,
}

impl Load {
    fn new() -> Load {
        const LARGE_BYTES: usize = 2 << 20;
        let length = i32::try_from(LARGE_BYTES).unwrap().to_be_bytes();
        // API key 0 is Produce; nobody looks at what follows before all of it is there.
        let large_request = [&length[..], &vec![0; LARGE_BYTES - 1]].concat();
        let waits = fetch("quiet", 1, 60_000);
        let behind = iter::repeat_n(fetch("absent", 60, 0), 31).collect::<Vec<_>>().concat();
        Load {
            reads: fetch("heavy", 1, 60_000).repeat(4),
            large_request,
            many_partitions: fetch("absent", 50_000, 0).repeat(4),
            many_requests: [waits, behind].concat(),
        }
    }
}

/// What clients of the HTTP API send, by kind.
struct ApiLoad {
    /// Records that are shown whole, several times as long in JSON as they are.
    whole: Vec<u8>,
    /// A body of events of which the end never comes.
    body: Vec<u8>,
    /// Searches through all that there is, for something that is not there.
    searches: Vec<u8>,
}

impl ApiLoad {
    fn new(server: SocketAddr) -> ApiLoad {
        const BODY_BYTES: usize = 8 << 20;
        let head = |asked: &str, bytes: usize| {
            let what = format!("Content-Type: application/json\r\nContent-Length: {bytes}");
            format!("{asked} HTTP/1.1\r\nHost: {server}\r\n{what}\r\n\r\n").into_bytes()
        };
        let wanted = br#"{"topics":["heavy"],"where":{"contains":"nowhere"}}"#;
        let search = [head("POST /api/v1/searches", wanted.len()), wanted.to_vec()].concat();
        ApiLoad {
            whole: head(&format!("GET {WHOLE}"), 0).repeat(4),
            body: [head("POST /api/v1/topics/quiet/events", BODY_BYTES), vec![b' '; BODY_BYTES - 1]].concat(),
            searches: search.repeat(4),
        }
    }
}

/// The address of a large record.
const WHOLE: &str = "/api/v1/topics/heavy/records/0/0";

/// The API has its share of the budget, and answers what the load below asks it for.
fn assert_api_serves_within_the_budget(server: &Server) {
    let (status, record) = server.ask(WHOLE);
    assert_eq!(status, 200, "{record}");
    assert!(record.len() > BATCH_BYTES, "{} bytes", record.len());
    let (status, health) = server.ask("/api/v1/health");
    assert_eq!(status, 200, "{health}");
    let health: serde_json::Value = serde_json::from_str(&health).expect("JSON");
    let series = health["limits"]["history_series"].as_u64().expect("a number");
    assert!((64..200).contains(&series), "of a thousand series that it has without a budget: {series}");
}

/// A server with something to read.
fn filled(data: &Path, arguments: &[&str]) -> Server {
    let server = Launch::on(data).arguments(arguments).start();
    server.create_topic("heavy", 1);
    server.create_topic("quiet", 1);
    let value = vec![7; BATCH_BYTES];
    let records = batch(&[value.as_slice()]);
    let mut connection = Connection::open(server.kafka());
    for number in 0..BATCHES {
        assert_eq!(connection.produce("heavy", 0, &records).expect("an answer"), (0, number));
    }
    server
}

/// Clients that stop in the middle of large requests, leave large answers unread, ask for long ones and have much
/// under way do not make a server take more than it may, by whichever port. All of them press at once.
#[test]
fn a_budget_holds_under_clients_that_want_more() {
    const NAME: &str = "memory_budget::a_budget_holds_under_clients_that_want_more";
    let data = tempdir().unwrap();
    let server = filled(data.path(), &["--memory", BUDGET]);
    let Some(at_rest) = pss(&server) else {
        return skip(NAME, "the system does not say what a process takes of memory");
    };
    assert!(at_rest < MOST_BYTES, "{at_rest} bytes before anybody presses");
    assert_api_serves_within_the_budget(&server);
    let (load, over) = (Load::new(), AtomicBool::new(false));
    let api_load = ApiLoad::new(server.http());
    let most = thread::scope(|scope| {
        let _over = Over(&over);
        let address = server.kafka();
        crowd(scope, WHOLE_READERS, server.http(), &api_load.whole, &over);
        crowd(scope, 1, server.http(), &api_load.body, &over);
        crowd(scope, 1, server.http(), &api_load.searches, &over);
        crowd(scope, READERS, address, &load.reads, &over);
        // Before the requests of others have all memory for requests.
        eventually("answers lie unread", PATIENCE, || (server.counter(MEMORY) > 25 * MIB).then_some(()));
        crowd(scope, LARGE_REQUESTS, address, &load.large_request, &over);
        crowd(scope, MANY_PARTITIONS, address, &load.many_partitions, &over);
        crowd(scope, MANY_REQUESTS, address, &load.many_requests, &over);
        let (mut most, mut samples, mut is_pressed) = (0, 0, false);
        eventually("the clients have most of what they may have", 2 * PATIENCE, || {
            most = most.max(pss(&server).expect("the server runs"));
            assert!(most <= MOST_BYTES, "it takes {most} bytes");
            let (granted, granted_max) = (server.counter(MEMORY), server.counter(MEMORY_MAX));
            assert!(granted <= granted_max && granted_max < KAFKA_BYTES, "{granted} of {granted_max}");
            is_pressed |= granted >= granted_max / 2;
            samples += 1;
            (is_pressed && samples >= SAMPLES).then_some(())
        });
        most
    });
    assert!(most > at_rest, "nobody has pressed");
    server.assert_well("a load that wants more memory than there may be");
}

/// The twin: without a budget the same clients get more.
#[test]
fn without_a_budget_they_get_more() {
    const NAME: &str = "memory_budget::without_a_budget_they_get_more";
    let data = tempdir().unwrap();
    let server = filled(data.path(), &[]);
    if pss(&server).is_none() {
        return skip(NAME, "the system does not say what a process takes of memory");
    }
    let (load, over) = (Load::new(), AtomicBool::new(false));
    thread::scope(|scope| {
        let _over = Over(&over);
        let address = server.kafka();
        crowd(scope, READERS, address, &load.reads, &over);
        crowd(scope, LARGE_REQUESTS, address, &load.large_request, &over);
        eventually("it takes more than with a budget", PATIENCE, || {
            let is_more = server.counter(MEMORY) > KAFKA_BYTES;
            (is_more && pss(&server).expect("the server runs") > KAFKA_BYTES).then_some(())
        });
    });
    server.assert_well("a load without a budget");
}
