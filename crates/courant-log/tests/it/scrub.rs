//! Looking at everything that is stored, step by step, while the log is in use.

use std::sync::Arc;

use courant_log::storage::{CrashMode, FaultyStorage, OpenMode, ReadFailure, Storage};
use courant_log::{Log, PartitionId, Scrub};

use courant_sim::CAP_BYTES;
use courant_sim::tiny::{append, batch, create, open, slot, stored, taken};

const BLOCK_BYTES: u64 = 65_536;

/// A log of two topics with some segments each, as the next start finds it, so that every byte has its
/// checksum.
fn filled() -> (FaultyStorage, Log, Vec<PartitionId>) {
    let storage = FaultyStorage::new(1, CAP_BYTES);
    let log = open(&storage, 1);
    let mut partitions = Vec::new();
    for topic in ["orders", "payments"] {
        partitions.extend(create(&log, topic, 2, &[("segment.bytes", "200000")]).partitions.clone());
    }
    for tag in 0..60 {
        append(&log, partitions[tag as usize % 4], batch(tag, 2, 40_000, None)).expect("appends");
    }
    log.stop();
    drop(log);
    let log = open(&storage, 2);
    (storage, log, partitions)
}

fn segments(storage: &FaultyStorage, partition: PartitionId) -> Vec<String> {
    let dir = format!("segments/{:016x}", partition.0);
    let names = storage.list(&dir).expect("lists").into_iter().filter(|name| name.ends_with(".segment"));
    names.map(|name| format!("{dir}/{name}")).collect()
}

fn flip(storage: &FaultyStorage, path: &str, at: u64) {
    let file = storage.open(path, OpenMode::Existing).expect("opens");
    let mut byte = [0];
    file.read_at(&mut byte, at).expect("reads");
    file.write_at(&[&[byte[0] ^ 0x10]], at).expect("writes");
}

/// Makes all steps; returns how many bytes were compared, and how many steps failed.
fn finish(scrub: &mut Scrub, step_bytes: u64) -> (u64, u64) {
    let (mut bytes, mut failed) = (0, 0);
    loop {
        match scrub.step(step_bytes) {
            Ok(Some(compared)) => {
                assert!(compared <= step_bytes.max(BLOCK_BYTES), "{compared} bytes in one step");
                bytes += compared;
            }
            Ok(None) => return (bytes, failed),
            Err(_) => failed += 1,
        }
    }
}

#[test]
fn every_byte_is_looked_at_whatever_the_steps_are() {
    let (_storage, log, partitions) = filled();
    let stored: u64 = partitions.iter().filter_map(|partition| log.partition_bytes(*partition)).sum();
    assert!(stored > 10 * BLOCK_BYTES, "{stored}");
    for step_bytes in [0, 1, BLOCK_BYTES, 3 * BLOCK_BYTES + 7, 1 << 30] {
        for turn in [0, 3, u64::MAX] {
            let mut scrub = log.begin_scrub(turn);
            assert_eq!(scrub.bytes(), stored);
            assert_eq!(finish(&mut scrub, step_bytes), (stored, 0), "steps of {step_bytes} bytes");
            assert!(matches!(scrub.step(step_bytes), Ok(None)), "it goes on after its end");
        }
    }
    assert!(log.damage().is_empty());
}

#[test]
fn damage_that_no_reader_has_met_is_named_and_everything_else_is_served() {
    let (storage, log, partitions) = filled();
    let paths = segments(&storage, partitions[1]);
    assert!(paths.len() > 1, "{paths:?}");
    flip(&storage, &paths[0], 10_000);
    let mut last = segments(&storage, partitions[2]);
    let last = last.pop().expect("a segment");
    flip(&storage, &last, 100);
    assert!(log.damage().is_empty(), "nobody has looked");
    assert_eq!(finish(&mut log.begin_scrub(0), BLOCK_BYTES).1, 0);
    let mut named: Vec<String> = log.damage().into_iter().map(|damage| damage.path).collect();
    named.sort();
    let mut expected = vec![paths[0].clone(), last];
    expected.sort();
    assert_eq!(named, expected);
    // Once more, nothing is news.
    finish(&mut log.begin_scrub(1), 1 << 30);
    assert_eq!(log.damage().len(), 2);
    for sound in [partitions[0], partitions[3]] {
        assert_eq!(stored(&log, sound).len(), 15);
    }
}

/// Two damaged blocks of one segment, of which the second is the last: none of them ends the look.
#[test]
fn what_stands_behind_damage_is_looked_at() {
    let (storage, log, partitions) = filled();
    let path = segments(&storage, partitions[0]).swap_remove(0);
    let len = storage.open(&path, OpenMode::Existing).and_then(|file| file.len()).expect("a length");
    assert!(len > 2 * BLOCK_BYTES, "{len}");
    flip(&storage, &path, 0);
    flip(&storage, &path, len - 1);
    finish(&mut log.begin_scrub(0), 1 << 30);
    let mut found: Vec<u64> =
        log.damage().iter().map(|damage| damage.bytes.clone().expect("some bytes").start).collect();
    found.sort_unstable();
    assert_eq!(found, [0, (len - 1) / BLOCK_BYTES * BLOCK_BYTES]);
}

/// Symptom: damage at the end of a segment that was filled since the start was not found before the next one, and
/// compaction came no further than there. Cause: the sidecar has no checksum of a block that is not full. Fix: it is
/// compared with the one that the next checkpoint gets.
#[test]
fn the_end_of_what_was_written_since_the_start_is_looked_at() {
    for in_steps in [true, false] {
        let storage = FaultyStorage::new(1, CAP_BYTES);
        let log = open(&storage, 1);
        let partition = create(&log, "orders", 1, &[("segment.bytes", "100000")]).partitions[0];
        for tag in 0..7 {
            append(&log, partition, batch(tag, 2, 40_000, None)).expect("appends");
        }
        let look = || {
            if in_steps {
                assert_eq!(finish(&mut log.begin_scrub(0), BLOCK_BYTES).1, 0);
            } else {
                log.scrub().expect("scrubs");
            }
        };
        look();
        assert_eq!(log.damage(), [], "everything is sound");
        let mut paths = segments(&storage, partition);
        paths.sort();
        assert_eq!(paths.len(), 4, "{paths:?}");
        let len = |path: &str| storage.open(path, OpenMode::Existing).and_then(|file| file.len());
        for path in &paths {
            flip(&storage, path, len(path).expect("a length") - 1);
        }
        look();
        let mut found = log.damage();
        found.sort_by(|one, other| one.path.cmp(&other.path));
        assert_eq!(found.iter().map(|damage| damage.path.clone()).collect::<Vec<_>>(), paths);
        for damage in &found {
            let len = len(&damage.path).expect("a length");
            assert_eq!(damage.bytes, Some(len / BLOCK_BYTES * BLOCK_BYTES..len), "{damage:?}");
        }
        // The first batch of the first segment is not in its last block.
        log.read(partition, 0, 1, true).expect("is served");
        log.read(partition, 2, 1, true).expect_err("is refused");
    }
}

#[test]
fn a_topic_that_is_deleted_meanwhile_is_passed_over() {
    let (_storage, log, partitions) = filled();
    let mut scrub = log.begin_scrub(0);
    assert!(matches!(scrub.step(BLOCK_BYTES), Ok(Some(_))));
    let orders = log.catalog().by_name("orders").expect("it is there").id;
    let (gone, done) = slot();
    log.delete_topic(orders, done);
    while log.commit() {}
    taken(&gone).expect("deleted");
    log.checkpoint().expect("stores");
    assert_eq!(finish(&mut scrub, BLOCK_BYTES).1, 0);
    assert!(log.damage().is_empty());
    assert_eq!(stored(&log, partitions[3]).len(), 15);
}

/// An input/output error is about the bytes that were asked for. It is met once here, and the look goes on.
#[test]
fn an_input_output_error_is_damage_where_it_is_met_and_nowhere_else() {
    let (storage, log, _) = filled();
    let mut damaged = 0;
    for number in 1..20 {
        let image = storage.crash_image(CrashMode::KeepAll, number);
        let log = open(&image, 3);
        image.fail_read(image.reads() + number, ReadFailure::Eio);
        finish(&mut log.begin_scrub(0), BLOCK_BYTES);
        damaged += log.damage().len();
    }
    assert!(damaged > 0 && damaged <= 19, "{damaged}");
    finish(&mut log.begin_scrub(0), BLOCK_BYTES);
    assert!(log.damage().is_empty());
}

/// The owner may stop in the middle: nothing keeps the data directory.
#[test]
fn a_look_that_is_given_up_holds_nothing() {
    let (storage, log, _) = filled();
    let mut scrub = log.begin_scrub(0);
    assert!(matches!(scrub.step(1), Ok(Some(BLOCK_BYTES))));
    log.stop();
    drop(scrub);
    drop(log);
    assert!(Log::open(Arc::new(storage), courant_sim::tiny::tiny(4)).is_ok());
}
