//! Signals: the first one stops a server in order, the second one at once.

use std::io::{BufRead as _, BufReader};

use tempfile::tempdir;

use crate::cli::{rows, run, run_with, said, values};
use crate::raw::{Connection, batch};
use crate::server::{Server, command, courant, fixed_port, signal};
use crate::{Dice, PATIENCE, eventually};

const INTERRUPTED: i32 = 130;

const REQUESTS: &str = "courant_kafka_requests_total";

/// Requests whose answers nobody reads, each of about [`UNREAD_BYTES`].
const UNREAD_FETCHES: u64 = 4;

/// Together far more than the sockets' buffers take: sending stops at 4 MiB by default, receiving
/// stays at 128 KiB while nobody reads.
const UNREAD_BYTES: usize = 7_500_000;

/// A server that cannot end, because a client has yet to read what it asked for.
struct Busy {
    server: Server,
    unread: Connection,
    /// Its Fetch waits for records that do not come.
    waiting: Connection,
}

impl Busy {
    fn start(data: &std::path::Path) -> Busy {
        let server = Server::start(data);
        server.create_topic("large", 1);
        server.create_topic("empty", 1);
        let value = Dice::new(3).bytes(UNREAD_BYTES / 10);
        let records = batch(&[&value]);
        let mut unread = Connection::open(server.kafka());
        for base in 0..10 {
            assert_eq!(unread.produce("large", 0, &records).unwrap(), (0, base));
        }
        let mut waiting = Connection::open(server.kafka());
        let before = server.counter(REQUESTS);
        waiting.send_fetch("empty", 0, 0, 120_000).unwrap();
        // One after the other is asked for, none is read.
        for _ in 0..UNREAD_FETCHES {
            unread.send_fetch("large", 0, 0, 0).unwrap();
        }
        eventually("the server has what it must answer", PATIENCE, || {
            (server.counter(REQUESTS) == before + UNREAD_FETCHES + 1).then_some(())
        });
        Busy { server, unread, waiting }
    }

    /// SIGTERM, after which the server says that it is not ready before anything of it is gone.
    fn terminate(&self) {
        assert_eq!(self.server.ask("/readyz").0, 200);
        signal(self.server.pid(), "TERM");
        let reason = eventually("the server is not ready", PATIENCE, || {
            let (status, reason) = self.server.ask("/readyz");
            (status == 503).then_some(reason)
        });
        assert_eq!(reason, "stopping\n");
        assert_eq!(self.server.ask("/livez").0, 200);
    }
}

#[test]
fn sigterm_answers_what_was_asked_and_is_not_ready_before_it_ends() {
    let data = tempdir().unwrap();
    let mut busy = Busy::start(data.path());
    busy.terminate();
    // Waiting is over: an empty answer, and not a connection that breaks.
    let fetched = busy.waiting.fetched().unwrap();
    assert_eq!((fetched.error, fetched.records.len()), (0, 0));
    for _ in 0..UNREAD_FETCHES {
        let fetched = busy.unread.fetched().unwrap();
        assert_eq!(fetched.error, 0);
        assert!(fetched.records.len() > UNREAD_BYTES, "{} bytes", fetched.records.len());
    }
    let (status, stderr) = busy.server.wait();
    assert_eq!(status.code(), Some(0), "{status}\n{stderr}");
}

#[test]
fn a_second_signal_ends_a_stop_that_takes_long() {
    let data = tempdir().unwrap();
    let busy = Busy::start(data.path());
    busy.terminate();
    signal(busy.server.pid(), "TERM");
    // An orderly end, which comes when the client has run out of time, would be a success.
    let (status, stderr) = busy.server.wait();
    assert_eq!(status.code(), Some(INTERRUPTED), "{status}\n{stderr}");
    let server = Server::start(data.path());
    let stored: i32 =
        Connection::open(server.kafka()).batches("large", 0).iter().map(|batch| batch.records).sum();
    assert_eq!(stored, 10);
}

#[test]
fn sigterm_stops_in_order_and_the_next_start_finds_all() {
    let data = tempdir().unwrap();
    let server = Server::start(data.path());
    server.get("/readyz");
    server.get("/livez");
    said(run_with(&server, &["pub", "kept", "-l"], "a\nb\n"));
    let (status, stderr) = server.stop();
    assert!(status.success(), "{status}\n{stderr}");
    let server = Server::start(data.path());
    let read = rows(run(&server, &["tail", "kept", "-o", "jsonl"]));
    assert_eq!(values(&read), ["a", "b"]);
}

/// Symptom: after the end of `tee` in `courant serve 2>&1 | tee log` the next client was cut off, and nobody came in
/// any more. Cause: a line of the log that could not be written was told of on stderr, which panics where stderr is
/// gone, in the task that has logged. Fix: nobody tells of it.
#[test]
fn a_server_goes_on_when_nobody_reads_its_log_any_more() {
    let data = tempdir().unwrap();
    let place = data.path().to_str().expect("text");
    let address = format!("127.0.0.1:{}", fixed_port());
    let serve = ["serve", "--data", place, "--kafka", &address, "--http", "127.0.0.1:0"];
    let mut child = command(&serve).spawn().expect("the binary under test starts");
    let log = BufReader::new(child.stderr.take().expect("stderr is piped"));
    let is_ready = log.lines().map_while(Result::ok).any(|line| line == "ready");
    // The reader is gone with that. Each topic is a line of the log.
    let ask = |words: &[&str]| courant(&[words, &["--server", address.as_str()][..]].concat(), "");
    let created = ["one", "two", "three"].map(|topic| ask(&["topic", "create", topic]));
    let listed = ask(&["topic", "list", "-o", "jsonl"]);
    signal(child.id(), "TERM");
    let status = child.wait().expect("a child can be waited for");
    assert!(is_ready);
    for output in created {
        said(output);
    }
    assert_eq!(rows(listed).len(), 3);
    assert_eq!(status.code(), Some(0), "{status}");
}
