//! Damage in a data directory, from its discovery to the gap: everything else is served meanwhile.

use std::fs::OpenOptions;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::process::Output;

use serde_json::{Value, json};
use tempfile::tempdir;

use crate::log_verify::{EVENTS, filled, stderr};
use crate::raw;
use crate::server::{Server, courant};

const KAFKA_STORAGE_ERROR: i16 = 56;

fn repair(data: &Path, more: &[&str]) -> Output {
    let data = data.to_str().expect("a path of text");
    courant(&[&["log", "repair", "-o", "json", "--data", data], more].concat(), "")
}

fn tail(server: &Server, from: usize, count: usize) -> Output {
    let (server, from, count) = (server.bootstrap(), from.to_string(), count.to_string());
    courant(&["tail", "orders", "--from", &from, "-n", &count, "-o", "jsonl", "--server", &server], "")
}

fn offsets(output: &Output) -> Vec<u64> {
    let lines = String::from_utf8_lossy(&output.stdout).into_owned();
    let offset = |line: &str| serde_json::from_str::<Value>(line).unwrap()["offset"].as_u64().unwrap();
    lines.lines().map(offset).collect()
}

#[test]
fn damaged_events_are_refused_the_rest_is_served_and_a_gap_is_passed() {
    let data = tempdir().unwrap();
    let segment = filled(data.path());
    let nothing = repair(data.path(), &["--accept-gap"]);
    assert!(nothing.status.success(), "{}", stderr(&nothing));
    assert!(stderr(&nothing).contains("nothing to give up"), "{}", stderr(&nothing));

    let file = OpenOptions::new().read(true).write(true).open(&segment).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, 200_000).unwrap();
    file.write_all_at(&[byte[0] ^ 1], 200_000).unwrap();
    let named = repair(data.path(), &[]);
    assert_eq!(named.status.code(), Some(1), "{}", stderr(&named));
    assert!(stderr(&named).contains("none was given up"), "{}", stderr(&named));
    let found: Value = serde_json::from_slice(&named.stdout).unwrap();
    let [first, end]: [usize; 2] = serde_json::from_value(found[0]["offsets"].clone()).unwrap();
    assert!(0 < first && first < end && end < EVENTS, "{found}");

    // A server goes on with all that is sound, and says what is not.
    let server = Server::start(data.path());
    assert_eq!(offsets(&tail(&server, 0, first)), (0..first as u64).collect::<Vec<_>>());
    assert_eq!(offsets(&tail(&server, end, 3)), [end as u64, end as u64 + 1, end as u64 + 2]);
    let mut consumer = raw::Connection::open(server.kafka());
    for offset in [first, end - 1] {
        consumer.send_fetch("orders", 0, i64::try_from(offset).unwrap(), 10_000).unwrap();
        let refused = consumer.fetched().unwrap();
        assert_eq!((refused.error, refused.records.len()), (KAFKA_STORAGE_ERROR, 0), "offset {offset}");
        assert_eq!(refused.high_watermark, -1);
    }
    let (status, ready) = server.ask("/readyz");
    assert_eq!(status, 200, "{ready}");
    let named = format!("damaged: orders/0 offsets {first} to {} (segments/", end - 1);
    assert!(ready.contains(&named), "{ready}");
    assert_eq!(server.counter("courant_log_damaged_places"), 1);
    let bootstrap = server.bootstrap();
    let published = courant(&["pub", "orders", "--server", &bootstrap], "one more");
    assert!(published.status.success(), "{}", stderr(&published));
    let used = repair(data.path(), &["--accept-gap"]);
    assert_eq!(used.status.code(), Some(4), "{}", stderr(&used));
    let (status, said) = server.stop();
    assert!(status.success(), "{said}");
    assert!(said.contains("events are damaged and are not served"), "{said}");

    let given_up = repair(data.path(), &["--accept-gap"]);
    assert!(given_up.status.success(), "{}", stderr(&given_up));
    assert_eq!(serde_json::from_slice::<Value>(&given_up.stdout).unwrap()[0]["offsets"], json!([first, end]));
    let server = Server::start(data.path());
    let all: Vec<u64> = (0..first as u64).chain(end as u64..=EVENTS as u64).collect();
    assert_eq!(offsets(&tail(&server, 0, all.len())), all);
    assert_eq!(offsets(&tail(&server, first, 1)), [end as u64]);
    assert!(server.get("/readyz").ends_with("ready\n"));
}
