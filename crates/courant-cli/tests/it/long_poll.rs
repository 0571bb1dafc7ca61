//! Consumers that wait cost nothing, and an append wakes exactly those that wait for it.

use std::time::{Duration, Instant};

use tempfile::tempdir;

use crate::raw::{Connection, batch};
use crate::server::{Launch, Server};
use crate::{PATIENCE, eventually};

const CONSUMERS: usize = 100;

/// How many of them wait for the partition that gets something.
const AWAITED: usize = 10;

/// How long idleness is watched. It is the subject here, not a way to wait for something.
const IDLE: Duration = Duration::from_secs(10);

const READS: &str = "courant_log_reads_total";
const WAKES: &str = "courant_log_wakes_total";
const REQUESTS: &str = "courant_kafka_requests_total";

/// A server with one record in each of two topics.
fn server_with_topics(data: &std::path::Path) -> Server {
    // The index of traces reads what was appended, a moment later: without it all reads are consumers'.
    let server = Launch::on(data).arguments(&["--trace-index-events", "0"]).start();
    for topic in ["quiet", "awaited"] {
        server.create_topic(topic, 1);
        let written = Connection::open(server.kafka()).produce(topic, 0, &batch(&[b"first"]));
        assert_eq!(written.unwrap(), (0, 0));
    }
    server
}

fn consumers(server: &Server) -> Vec<Connection> {
    (0..CONSUMERS).map(|_| Connection::open(server.kafka())).collect()
}

#[test]
fn idle_consumers_cause_no_log_reads() {
    // What librdkafka asks for: an answer after 500 ms at the latest.
    const MAX_WAIT_MS: i32 = 500;
    let data = tempdir().unwrap();
    let server = server_with_topics(data.path());
    let mut consumers = consumers(&server);
    let reads = server.counter(READS);
    let begin = Instant::now();
    let mut rounds = 0;
    while begin.elapsed() < IDLE {
        for consumer in &mut consumers {
            consumer.send_fetch("quiet", 0, 1, MAX_WAIT_MS).unwrap();
        }
        for consumer in &mut consumers {
            let fetched = consumer.fetched().unwrap();
            assert_eq!((fetched.error, fetched.high_watermark), (0, 1));
            assert!(fetched.records.is_empty());
        }
        rounds += 1;
    }
    assert!(
        rounds <= 1 + IDLE.as_millis() / MAX_WAIT_MS.unsigned_abs() as u128,
        "{rounds} rounds: a fetch did not wait"
    );
    assert_eq!(server.counter(READS), reads, "reads by idle consumers");
}

#[test]
fn an_append_wakes_exactly_its_waiters() {
    const MAX_WAIT_MS: i32 = 120_000;
    let data = tempdir().unwrap();
    let server = server_with_topics(data.path());
    let mut consumers = consumers(&server);
    let requests = server.counter(REQUESTS);
    for (number, consumer) in consumers.iter_mut().enumerate() {
        let topic = if number < AWAITED { "awaited" } else { "quiet" };
        consumer.send_fetch(topic, 0, 1, MAX_WAIT_MS).unwrap();
    }
    eventually("all consumers wait", PATIENCE, || {
        let waiting = server.counter(REQUESTS) - requests;
        (waiting == CONSUMERS as u64).then_some(())
    });
    // A request is counted when it was read, and waits a moment later.
    server.comes_to_rest();
    let wakes = server.counter(WAKES);

    let written = Connection::open(server.kafka()).produce("awaited", 0, &batch(&[b"second"]));
    assert_eq!(written.unwrap(), (0, 1));
    for consumer in &mut consumers[..AWAITED] {
        let fetched = consumer.fetched().unwrap();
        assert_eq!((fetched.error, fetched.high_watermark), (0, 2));
        assert!(!fetched.records.is_empty());
    }
    // A wake-up is counted just after it.
    server.comes_to_rest();
    assert_eq!(server.counter(WAKES) - wakes, AWAITED as u64);
    // The others are still waiting: nothing has come, and nothing was closed.
    for consumer in &mut consumers[AWAITED..] {
        let stream = consumer.stream();
        stream.set_nonblocking(true).unwrap();
        let nothing = stream.peek(&mut [0]);
        assert_eq!(nothing.map_err(|error| error.kind()), Err(std::io::ErrorKind::WouldBlock));
    }
}
