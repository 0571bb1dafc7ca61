//! Reads get memory that is used again.

use std::sync::Arc;

use courant_log::limits::{BUFFERED_BYTES_MIN, READ_BUFFERS};
use courant_log::storage::{FaultyStorage, MemoryStorage, OpenMode, Storage as _};
use courant_log::{Log, LogConfig};
use courant_sim::CAP_BYTES;
use courant_sim::tiny::{append, batch, create, open, tiny};

/// More reads are held than there are buffers: none of them changes, and none is waited for. The memory of the
/// one that is dropped is that of the next one.
#[test]
fn what_somebody_holds_of_a_read_stays_as_it_is() {
    let log = open(&FaultyStorage::new(1, CAP_BYTES), 1);
    let partition = create(&log, "orders", 1, &[]).partitions[0];
    for tag in 0..10 {
        append(&log, partition, batch(tag, 1, 20_000, None)).expect("appends");
    }
    let read = |offset| log.read(partition, offset, 100_000, true).expect("reads").bytes;
    let first = read(0);
    assert!(first.len() >= BUFFERED_BYTES_MIN);
    let copy = first.to_vec();
    let held: Vec<_> = (0..2 * READ_BUFFERS).map(|_| read(5)).collect();
    assert!(first == copy, "a read was written over");
    assert!(held.iter().all(|other| *other == held[0] && *other != first));
    let memory = first.as_ptr_range();
    drop(first);
    let again = read(0);
    assert!(memory.contains(&again.as_ptr()) && again == copy);
    // Nothing is coming, so nothing is kept; what somebody holds is.
    log.seal();
    assert!(again == copy && held.iter().all(|other| *other == held[0]));
}

/// A batch that is larger than what was asked for is read once more, and has not two places in memory meanwhile:
/// whoever asks has counted one.
#[test]
fn a_batch_that_is_read_again_takes_the_place_of_what_was_read_of_it() {
    const FILE_BYTES: u64 = 1024 * 1024;
    let config =
        LogConfig { journal_file_bytes: FILE_BYTES, first_journal_file_bytes: FILE_BYTES, ..tiny(1) };
    let (log, _) = Log::open(Arc::new(MemoryStorage::new(64 * FILE_BYTES)), config).expect("opens");
    let partition = create(&log, "orders", 1, &[]).partitions[0];
    append(&log, partition, batch(1, 1, 200_000, None)).expect("appends");
    let read = |max_bytes| log.read(partition, 0, max_bytes, true).expect("reads").bytes;
    // One buffer is left.
    let held: Vec<_> = (1..READ_BUFFERS).map(|_| read(300_000)).collect();
    let last = read(300_000);
    let memory = last.as_ptr_range();
    drop(last);
    let again = read(100_000);
    assert!(again == held[0], "all of the batch comes");
    assert!(memory.contains(&again.as_ptr()), "what was read first still had the buffer");
}

/// Of a file that was cut, less comes than was asked for. What stands behind that in the memory is of whoever had it
/// before, here batches of the same sizes and offsets, which would pass for those that are gone.
#[test]
fn a_read_that_comes_short_shows_nothing_of_the_one_before() {
    const LEFT: u64 = 140_000;
    let storage = FaultyStorage::new(1, CAP_BYTES);
    let log = open(&storage, 1);
    let topic = create(&log, "orders", 2, &[]);
    let (mine, other) = (topic.partitions[0], topic.partitions[1]);
    for tag in 10..20 {
        append(&log, mine, batch(tag, 1, 20_000, None)).expect("appends");
        append(&log, other, batch(tag + 10, 1, 20_000, None)).expect("appends");
    }
    let read = |partition| log.read(partition, 0, 300_000, true).expect("reads").bytes;
    let whole = read(mine).to_vec();
    let others = read(other);
    assert!(others.len() == whole.len() && others.len() as u64 > LEFT && others != whole);
    let memory = others.as_ptr_range();
    drop(others);

    let folder = format!("segments/{:016x}", mine.0);
    for name in storage.list(&folder).expect("lists") {
        let file = storage.open(&format!("{folder}/{name}"), OpenMode::Existing).expect("opens");
        if file.len().expect("measures") > LEFT {
            file.set_len(LEFT).expect("cuts");
        }
    }
    let short = read(mine);
    assert!(memory.contains(&short.as_ptr()), "the memory is not the one that the other read had");
    assert!(short.len() >= BUFFERED_BYTES_MIN && (short.len() as u64) < LEFT, "{}", short.len());
    assert!(whole.starts_with(&short), "it shows what is not the partition's");
    assert!(log.read(mine, 9, 300_000, true).is_err(), "what is gone is refused");
}
