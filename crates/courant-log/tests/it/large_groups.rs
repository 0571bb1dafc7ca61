//! Groups that go past the page cache, on a disk.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use courant_log::storage::DiskStorage;
use courant_log::{Log, LogConfig};
use courant_sim::tiny::{append, batch, create, stored, tiny};

fn open(dir: &Path) -> Log {
    let storage = DiskStorage::open(dir).expect("opens");
    let bytes = 4 * 1024 * 1024;
    let config = LogConfig { journal_file_bytes: bytes, first_journal_file_bytes: bytes, ..tiny(1) };
    Log::open(Arc::new(storage), config).expect("opens").0
}

/// Copies the files of a process that could be killed now.
fn left_behind(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("a directory");
    for entry in fs::read_dir(from).expect("lists") {
        let entry = entry.expect("an entry");
        let to = to.join(entry.file_name());
        if entry.file_type().expect("a type").is_dir() {
            left_behind(&entry.path(), &to);
        } else {
            fs::copy(entry.path(), to).expect("copies");
        }
    }
}

/// The first large group grows the memory of groups, the next ones go to the disk from there, and a small one
/// comes behind them.
#[test]
fn a_start_finds_large_groups_in_the_journal() {
    let dir = tempfile::tempdir().expect("a directory");
    let (first, second) = (dir.path().join("first"), dir.path().join("second"));
    let log = open(&first);
    let partition = create(&log, "orders", 1, &[]).partitions[0];
    for (tag, bytes) in [700_000, 700_000, 300_000, 100].into_iter().enumerate() {
        append(&log, partition, batch(tag as u64, 2, bytes, None)).expect("appends");
    }
    left_behind(&first, &second);
    let again = open(&second);
    let found = stored(&again, partition);
    assert_eq!(found.len(), 4);
    assert_eq!(found, stored(&log, partition));
}

/// Large groups that are waited for go past the page cache, and those that are not go through it, in the same
/// file. A start finds all of them in their order, whichever way they went.
#[test]
fn a_start_finds_large_groups_between_those_that_nobody_waits_for() {
    let dir = tempfile::tempdir().expect("a directory");
    let (first, second) = (dir.path().join("first"), dir.path().join("second"));
    let log = open(&first);
    let strict = create(&log, "strict", 1, &[]).partitions[0];
    let relaxed = create(&log, "relaxed", 1, &[("courant.durability", "os")]).partitions[0];
    // The first two make sure of the offsets that may be given out, and let the memory of groups grow.
    let groups = [
        (relaxed, 100),
        (strict, 600_000),
        (relaxed, 5000),
        (strict, 600_000),
        (relaxed, 400_000),
        (strict, 300_000),
        (relaxed, 100),
        (relaxed, 300_000),
        (strict, 270_000),
        (relaxed, 100),
    ];
    for (tag, (partition, bytes)) in (0..).zip(groups) {
        append(&log, partition, batch(tag, 2, bytes, None)).expect("appends");
    }
    left_behind(&first, &second);
    let again = open(&second);
    for (partition, count) in [(strict, 4), (relaxed, 6)] {
        let found = stored(&again, partition);
        assert_eq!(found.len(), count);
        assert_eq!(found, stored(&log, partition));
    }
}
