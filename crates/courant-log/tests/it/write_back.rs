//! Segments that are synced ahead of a checkpoint.

use courant_log::storage::{CrashMode, Failure, FaultyStorage, OpenMode, Storage as _};
use courant_log::{Health, Log, PartitionId};

use courant_sim::tiny::{append, batch, create, open, stored};

/// Appends that a segment is filled with; together they are several steps and fewer than the ring takes.
const APPENDS: u64 = 10;

/// A log with one partition, of which one batch is stored and covered by a checkpoint: the name of its segment
/// is on disk.
fn begun(storage: &FaultyStorage) -> (Log, PartitionId) {
    let log = open(storage, 1);
    let partition = create(&log, "orders", 1, &[]).partitions[0];
    append(&log, partition, batch(1, 1, 1000, None)).expect("appends");
    log.checkpoint().expect("stores");
    (log, partition)
}

/// Bytes of the segment that a power cut would leave.
fn on_disk(storage: &FaultyStorage, partition: PartitionId) -> u64 {
    let image = storage.crash_image(CrashMode::LoseAll, 7);
    let path = format!("segments/{:016x}/{:020}.segment", partition.0, 0);
    image.open(&path, OpenMode::Existing).expect("its name is on disk").len().expect("measures")
}

#[test]
fn a_segment_that_grows_is_synced_before_a_checkpoint_asks_for_it() {
    let storage = FaultyStorage::new(1, 64 * 1024 * 1024);
    let (log, partition) = begun(&storage);
    let (before, checkpoints) = (on_disk(&storage, partition), log.metrics().checkpoints);
    let mut steps = 0;
    let mut found = before;
    for tag in 0..APPENDS {
        append(&log, partition, batch(2 + tag, 1, 5000, None)).expect("appends");
        let now = on_disk(&storage, partition);
        steps += u64::from(now > found);
        found = now;
    }
    assert_eq!(log.metrics().checkpoints, checkpoints, "there was room in the ring");
    assert!(found - before > APPENDS * 5000 / 2, "{} bytes of {}", found - before, APPENDS * 5000);
    assert!((1..APPENDS / 2).contains(&steps), "{steps} syncs for {APPENDS} appends");
}

/// Nobody is told of the error a second time: a checkpoint that came after it would take what is lost for
/// stored.
#[test]
fn where_such_a_sync_fails_the_log_ends_and_nothing_is_lost() {
    let storage = FaultyStorage::new(1, 64 * 1024 * 1024);
    let (log, partition) = begun(&storage);
    let before = on_disk(&storage, partition);
    let mut appended = 1;
    while on_disk(&storage, partition) == before {
        appended += 1;
        append(&log, partition, batch(appended, 1, 5000, None)).expect("appends");
    }
    // The last call was that sync. The same again, until there.
    let call = storage.calls();
    let storage = FaultyStorage::new(1, 64 * 1024 * 1024);
    let (log, partition) = begun(&storage);
    storage.fail_call(call, Failure::FsyncEio);
    for tag in 2..=appended {
        append(&log, partition, batch(tag, 1, 5000, None)).expect("it is in the journal");
    }
    assert!(matches!(log.health(), Health::ReadOnly { .. }), "{:?}", log.health());
    append(&log, partition, batch(99, 1, 10, None)).expect_err("the log has ended");
    log.checkpoint().expect_err("nothing is taken for stored after that");
    let log = open(&storage.crash_image(CrashMode::LoseAll, 8), 2);
    assert_eq!(stored(&log, partition).len() as u64, appended);
}
