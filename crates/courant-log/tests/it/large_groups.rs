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
