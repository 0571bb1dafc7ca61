//! Reads that must not wait for the disk.

use std::sync::Arc;

use courant_log::storage::{FaultyStorage, MemoryStorage, OpenMode, Storage as _};
use courant_log::{Log, LogConfig, PartitionId, ReadError};
use courant_sim::CAP_BYTES;
use courant_sim::tiny::{append, batch, create, open, tiny};

const BATCHES: u64 = 30;

const FILE_BYTES: u64 = 1024 * 1024;

fn config(seed: u64) -> LogConfig {
    LogConfig { journal_file_bytes: FILE_BYTES, first_journal_file_bytes: FILE_BYTES, ..tiny(seed) }
}

/// A log in memory, with so many batches of 20,000 bytes.
fn filled() -> (Arc<MemoryStorage>, Log, PartitionId) {
    let storage = Arc::new(MemoryStorage::new(64 * FILE_BYTES));
    let log = Log::open(storage.clone(), config(1)).expect("opens").0;
    let partition = create(&log, "orders", 1, &[]).partitions[0];
    for tag in 0..BATCHES {
        append(&log, partition, batch(tag, 1, 20_000, None)).expect("appends");
    }
    (storage, log, partition)
}

#[test]
fn what_is_in_memory_is_what_any_read_gives() {
    let (_storage, log, partition) = filled();
    let before = log.metrics().reads;
    for offset in 0..BATCHES {
        let cached = log.read_cached(partition, offset, 100_000).expect("reads").expect("all is in memory");
        let read = log.read(partition, offset, 100_000, true).expect("reads");
        assert_eq!(cached.bytes, read.bytes, "from {offset} on");
        assert_eq!((cached.high_watermark, cached.log_start), (BATCHES, 0));
    }
    assert_eq!(log.metrics().reads - before, 2 * BATCHES);
    // Not one whole batch, and nothing at all: somebody else has the answer.
    assert!(log.read_cached(partition, 0, 10_000).expect("no error").is_none());
    assert!(log.read_cached(partition, BATCHES, 100_000).expect("no error").is_none());
    let behind = log.read_cached(partition, BATCHES + 1, 100_000);
    assert!(matches!(behind, Err(ReadError::OutOfRange { start: 0, end: BATCHES })), "{behind:?}");
}

/// Nothing was compared since the start, so a read looks at whole blocks where it begins and ends. Those are in memory,
/// too.
#[test]
fn what_nobody_has_looked_at_is_compared_in_memory() {
    let (storage, log, partition) = filled();
    drop(log);
    let log = Log::open(storage, config(2)).expect("opens").0;
    // Who may wait opens the file.
    let first = log.read(partition, 0, 50_000, true).expect("reads");
    let cached = log.read_cached(partition, 0, 50_000).expect("reads").expect("the file is open");
    assert_eq!(cached.bytes, first.bytes);
    let cached = log.read_cached(partition, 9, 100_000).expect("reads").expect("all is in memory");
    assert_eq!(cached.bytes, log.read(partition, 9, 100_000, true).expect("reads").bytes);
}

#[test]
fn damage_is_not_served_from_memory() {
    const DAMAGED_AT: u64 = 5_000;
    let (storage, log, partition) = filled();
    let folder = format!("segments/{:016x}", partition.0);
    for name in storage.list(&folder).expect("lists") {
        let file = storage.open(&format!("{folder}/{name}"), OpenMode::Existing).expect("opens");
        let mut byte = [0];
        if file.read_at(&mut byte, DAMAGED_AT).expect("reads") == 1 {
            file.write_at(&[&[!byte[0]]], DAMAGED_AT).expect("writes");
        }
    }
    for _ in 0..2 {
        assert!(log.read_cached(partition, 0, 100_000).is_err());
    }
    assert!(!log.damage().is_empty(), "nobody is told");
    let behind = log.read_cached(partition, BATCHES - 1, 100_000).expect("it is sound");
    assert!(behind.is_some());
}

/// Of some reads all is in memory, of some a part, of some nothing: the answer is that of any other read, or none.
#[test]
fn a_part_that_is_in_memory_is_no_answer() {
    let log = open(&FaultyStorage::new(1, CAP_BYTES), 1);
    let partition = create(&log, "orders", 1, &[]).partitions[0];
    for tag in 0..BATCHES {
        append(&log, partition, batch(tag, 1, 20_000, None)).expect("appends");
    }
    let (mut yes, mut no) = (0, 0);
    for offset in (0..BATCHES).cycle().take(200) {
        let read = log.read(partition, offset, 100_000, true).expect("reads");
        match log.read_cached(partition, offset, 100_000).expect("no error") {
            Some(cached) => {
                assert_eq!(cached.bytes, read.bytes, "from {offset} on");
                yes += 1;
            }
            None => no += 1,
        }
    }
    assert!(yes > 20 && no > 20, "{yes} and {no}");
    assert!(log.damage().is_empty(), "what is not in memory is no damage");
}

/// A storage that does not know what is in memory says that nothing is.
#[test]
fn where_nobody_knows_what_is_in_memory_others_read() {
    let storage = FaultyStorage::new(1, CAP_BYTES);
    storage.keep_nothing_in_memory();
    let log = open(&storage, 1);
    let partition = create(&log, "orders", 1, &[]).partitions[0];
    append(&log, partition, batch(1, 1, 20_000, None)).expect("appends");
    assert!(log.read_cached(partition, 0, 100_000).expect("no error").is_none());
    assert!(log.damage().is_empty());
    assert!(!log.read(partition, 0, 100_000, true).expect("reads").bytes.is_empty());
}
