//! `courant log inspect`: files, batches and groups of the journal are shown, and events are not.

use std::fs::OpenOptions;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::process::Output;

use serde_json::Value;
use tempfile::tempdir;

use crate::log_verify::{EVENTS, filled, stderr};
use crate::server::{Server, courant};

fn inspect(data: &Path, more: &[&str]) -> Output {
    let data = data.to_str().expect("a path of text");
    courant(&[&["log", "inspect", "-o", "json", "--data", data], more].concat(), "")
}

fn rows(output: &Output) -> Vec<Value> {
    assert!(output.status.success(), "{}", stderr(output));
    serde_json::from_slice(&output.stdout).expect("an array of objects")
}

fn text<'row>(row: &'row Value, field: &str) -> &'row str {
    row[field].as_str().expect("a text")
}

#[test]
fn files_are_listed_with_what_they_hold() {
    let data = tempdir().unwrap();
    let segment = filled(data.path());
    let found = rows(&inspect(data.path(), &[]));
    let kinds: Vec<&str> = found.iter().map(|row| text(row, "kind")).collect();
    for kind in ["format", "journal", "checkpoint", "producers", "segment", "blocks"] {
        assert!(kinds.contains(&kind), "no {kind} in {kinds:?}");
    }
    assert!(!found.iter().any(|row| text(row, "what").contains("no durable record")), "{found:?}");
    let path = segment.strip_prefix(data.path()).unwrap().to_str().unwrap();
    let row = found.iter().find(|row| row["path"] == path).expect("the segment");
    assert_eq!(row["bytes"].as_u64(), Some(segment.metadata().unwrap().len()));
    let events = format!("orders/0, offsets 0 to {}, ", EVENTS - 1);
    assert!(text(row, "what").starts_with(&events), "{row}");
    let used = found.iter().filter(|row| text(row, "what").ends_with("a start uses it"));
    assert_eq!(used.count(), 1, "{found:?}");

    let data_directory = data.path().to_str().unwrap();
    let table = courant(&["log", "inspect", "-o", "table", "--data", data_directory, "--limit", "1"], "");
    let lines = String::from_utf8(table.stdout.clone()).unwrap();
    assert_eq!(lines.lines().count(), 2, "{lines}");
    assert!(stderr(&table).contains("--limit"), "{}", stderr(&table));
}

#[test]
fn batches_are_shown_and_the_damaged_one_among_them() {
    let data = tempdir().unwrap();
    let segment = filled(data.path());
    let inside = segment.strip_prefix(data.path()).unwrap().to_str().unwrap();
    let sound = inspect(data.path(), &["--segment", inside]);
    let batches = rows(&sound);
    assert!(batches.iter().all(|row| row["checksum"] == "ok"), "{batches:?}");
    assert_eq!(batches[0]["position"], 64);
    assert_eq!(batches[0]["base_offset"], 0);
    assert_eq!(batches.last().unwrap()["last_offset"], EVENTS - 1);
    assert!(batches.iter().all(|row| row["codec"] == "none" && row["producer"]["epoch"].is_i64()));
    assert!(text(&batches[0], "newest").ends_with('Z'));
    let events: u64 = batches.iter().map(|row| row["events"].as_u64().unwrap()).sum();
    assert_eq!(events, EVENTS as u64);
    // An event is its number behind very many zeros.
    assert!(!String::from_utf8_lossy(&sound.stdout).contains("00000000000000000000000000000000"));

    // In the events of a batch in the middle.
    let middle = batches.len() / 2;
    let at = batches[middle]["position"].as_u64().unwrap() + 100;
    let file = OpenOptions::new().read(true).write(true).open(&segment).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, at).unwrap();
    file.write_all_at(&[byte[0] ^ 1], at).unwrap();
    // As a shell completes it.
    let whole = segment.to_str().unwrap();
    let damaged = rows(&inspect(data.path(), &["--segment", whole]));
    assert_eq!(damaged.len(), batches.len());
    for (number, row) in damaged.iter().enumerate() {
        let checksum = if number == middle { "damaged" } else { "ok" };
        assert_eq!(row["checksum"], checksum, "batch {number}: {row}");
    }
    let first = inspect(data.path(), &["--segment", inside, "--limit", "1"]);
    assert_eq!(rows(&first).len(), 1);
    assert!(stderr(&first).contains("More follow"), "{}", stderr(&first));
}

#[test]
fn the_journal_of_a_killed_server_is_shown_with_names() {
    let data = tempdir().unwrap();
    let server = Server::start(data.path());
    let bootstrap = server.bootstrap();
    for event in ["secret-1", "secret-2"] {
        let published = courant(&["pub", "orders", event, "--key", "hidden", "--server", &bootstrap], "");
        assert!(published.status.success(), "{}", stderr(&published));
    }
    server.kill();
    let files = rows(&inspect(data.path(), &[]));
    // The second file of the ring may still have been on its way: it is listed, and has no use.
    let is_used = |row: &&Value| row["kind"] == "journal" && text(row, "what").starts_with("generation ");
    let paths: Vec<&str> = files.iter().filter(is_used).map(|row| text(row, "path")).collect();
    let shown: Vec<Output> = paths.iter().map(|path| inspect(data.path(), &["--journal", *path])).collect();
    let found: Vec<Value> = shown.iter().flat_map(rows).collect();
    let of_kind = |kind: &str| found.iter().filter(|row| row["kind"] == kind).cloned().collect::<Vec<_>>();
    let created = of_kind("topic created");
    assert_eq!(created.len(), 1, "{found:?}");
    assert!(text(&created[0], "what").starts_with("orders, "), "{created:?}");
    let appends = of_kind("append");
    assert_eq!(appends.len(), 2, "{found:?}");
    assert!(appends.iter().all(|row| text(row, "what").starts_with("orders/")), "{appends:?}");
    for group in of_kind("group") {
        assert!(group["synced"].as_u64() <= group["position"].as_u64(), "{group}");
        assert!(text(&group, "what").starts_with("written 2"), "{group}");
    }
    for output in &shown {
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(!said.contains("secret") && !said.contains("hidden"), "{said}");
        assert!(stderr(output).contains("Generation "), "{}", stderr(output));
    }
}

#[test]
fn what_cannot_be_shown_is_said_with_the_reason() {
    let data = tempdir().unwrap();
    let server = Server::start(data.path());
    let used = inspect(data.path(), &[]);
    assert_eq!(used.status.code(), Some(4), "{}", stderr(&used));
    assert!(stderr(&used).contains("is using this data directory; stop it first"));
    server.assert_well("somebody who wanted to inspect");
    let (status, said) = server.stop();
    assert!(status.success(), "{said}");
    let absent = "segments/0000000000000001/00000000000000000000.segment";
    for (arguments, code, word) in [
        (["--segment", "FORMAT"], 2, "no segment"),
        (["--segment", "../FORMAT"], 2, "no segment"),
        (["--journal", "checkpoints/0000000000000001.checkpoint"], 2, "no journal file"),
        (["--segment", absent], 3, "there is no segments/"),
        (["--journal", "journal/99999999.journal"], 3, "there is no journal/"),
        (["--limit", "0"], 2, "--limit"),
    ] {
        let refused = inspect(data.path(), &arguments);
        assert_eq!(refused.status.code(), Some(code), "{arguments:?}: {}", stderr(&refused));
        assert!(stderr(&refused).contains(word), "{arguments:?}: {}", stderr(&refused));
        assert!(refused.stdout.is_empty());
    }
    let empty = tempdir().unwrap();
    let refused = inspect(empty.path(), &[]);
    assert_eq!(refused.status.code(), Some(3), "{}", stderr(&refused));
    let nowhere = inspect(&empty.path().join("nowhere"), &[]);
    assert_eq!(nowhere.status.code(), Some(3));
    assert!(!empty.path().join("nowhere").exists());
}
