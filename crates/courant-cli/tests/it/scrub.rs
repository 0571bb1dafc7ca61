//! Damage that is found before a reader comes to it, on a server that goes on meanwhile.

use std::fs::{self, OpenOptions};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use tempfile::tempdir;

use crate::cli::{run, said};
use crate::raw::{Connection, batch};
use crate::server::{Launch, Server};
use crate::{Dice, PATIENCE, eventually};

const TOPIC: &str = "orders";
const EVENTS: i64 = 4;
const KAFKA_STORAGE_ERROR: i16 = 56;

/// A data directory with one event in each of some segments of a partition, written by a server that has
/// stopped. The segments are sealed but for the last one; returns them in order.
fn filled(data: &Path) -> Vec<PathBuf> {
    let server = Server::start(data);
    said(run(&server, &["topic", "create", TOPIC, "--config", "segment.bytes=1048576"]));
    let mut connection = Connection::open(server.kafka());
    let event = batch(&[&Dice::new(9).bytes(900_000)]);
    for base in 0..EVENTS {
        assert_eq!(connection.produce(TOPIC, 0, &event).unwrap(), (0, base));
    }
    let (status, said) = server.stop();
    assert!(status.success(), "{said}");
    let partition = fs::read_dir(data.join("segments")).unwrap().next().unwrap().unwrap().path();
    let files = fs::read_dir(partition).unwrap().map(|entry| entry.unwrap().path());
    let mut segments: Vec<PathBuf> =
        files.filter(|path| path.extension().is_some_and(|is| is == "segment")).collect();
    segments.sort();
    assert_eq!(segments.len(), 4, "{segments:?}");
    segments
}

fn flip(path: &Path, at: u64) {
    let file = OpenOptions::new().read(true).write(true).open(path).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, at).unwrap();
    file.write_all_at(&[byte[0] ^ 1], at).unwrap();
}

fn passes(server: &Server) -> u64 {
    server.counter("courant_log_scrub_passes_total")
}

#[test]
fn a_running_server_finds_rot_that_nobody_has_read() {
    let data = tempdir().unwrap();
    let segments = filled(data.path());
    // The index of traces reads what there is when a server starts, and here nobody does.
    let flags = ["--scrub-interval-seconds", "1", "--trace-index-events", "0"];
    let server = Launch::on(data.path()).arguments(&flags).start();
    eventually("a first look at everything", PATIENCE, || (passes(&server) > 0).then_some(()));
    let stored: u64 = segments.iter().map(|path| fs::metadata(path).unwrap().len()).sum();
    assert!(server.counter("courant_log_scrub_bytes_total") >= stored);
    assert_eq!(server.counter("courant_log_scrub_pass_bytes_expected"), stored);
    assert!(server.counter("courant_log_scrub_last_pass_ended_seconds") > 1_700_000_000);
    assert_eq!(server.counter("courant_log_damaged_places"), 0);
    assert_eq!(server.get("/readyz"), "ready\n");

    // Byte 500,000 of the second segment: in the middle of the second event.
    flip(&segments[1], 500_000);
    let ready = eventually("the damage is named", PATIENCE, || {
        Some(server.get("/readyz")).filter(|ready| ready != "ready\n")
    });
    assert_eq!(ready.lines().count(), 2, "{ready}");
    assert!(ready.contains("damaged: orders/0 offsets 1 to 1 (segments/"), "{ready}");
    assert_eq!(server.counter("courant_log_damaged_places"), 1);
    assert_eq!(server.counter("courant_log_reads_total"), 0, "somebody has read");
    // It is known before it is told, and what is told is still on its way here.
    eventually("a line on the damage", PATIENCE, || {
        server.log().contains("events are damaged and are not served").then_some(())
    });

    // All others are served, and looking again finds no more.
    let mut connection = Connection::open(server.kafka());
    for offset in 0..EVENTS {
        connection.send_fetch(TOPIC, 0, offset, 0).unwrap();
        let error = connection.fetched().unwrap().error;
        assert_eq!(error, if offset == 1 { KAFKA_STORAGE_ERROR } else { 0 }, "offset {offset}");
    }
    let event = batch(&[b"one more"]);
    assert_eq!(connection.produce(TOPIC, 0, &event).unwrap(), (0, EVENTS));
    let before = passes(&server);
    eventually("two looks more", PATIENCE, || (passes(&server) >= before + 2).then_some(()));
    assert_eq!(server.counter("courant_log_damaged_places"), 1);
    assert_eq!(server.counter("courant_log_scrub_failures_total"), 0);
    let (status, said) = server.stop();
    assert!(status.success(), "{said}");
    assert_eq!(said.matches("events are damaged and are not served").count(), 1, "{said}");
}

/// 3.6 MB at 64 KiB in a second are most of a minute: the end does not wait for it.
#[test]
fn a_server_stops_in_the_middle_of_a_look() {
    let data = tempdir().unwrap();
    filled(data.path());
    let slow = ["--scrub-interval-seconds", "1", "--scrub-bytes-per-second", "65536"];
    let server = Launch::on(data.path()).arguments(&slow).start();
    eventually("a look is under way", PATIENCE, || {
        (server.counter("courant_log_scrub_pass_bytes") > 0).then_some(())
    });
    assert_eq!(server.counter("courant_log_scrub_running"), 1);
    assert_eq!(passes(&server), 0);
    let compared = server.counter("courant_log_scrub_pass_bytes");
    assert!(compared < server.counter("courant_log_scrub_pass_bytes_expected") / 2, "{compared} bytes");
    let (status, said) = server.stop();
    assert!(status.success() && !said.contains("everything stored was compared"), "{said}");
}

#[test]
fn who_wants_none_has_none() {
    let data = tempdir().unwrap();
    let server = Launch::on(data.path()).arguments(&["--scrub-interval-seconds", "0"]).start();
    assert!(!server.get("/metrics").contains("courant_log_scrub"));
    assert_eq!(server.counter("courant_log_damaged_places"), 0);
}
