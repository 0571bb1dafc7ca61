//! Segments that are synced ahead of a checkpoint.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use courant_core::clock::Clock;
use courant_log::limits::{WRITE_BACK_EARLY_AFTER_MS, WRITE_BACK_EARLY_BYTES};
use courant_log::storage::{CrashMode, Failure, FaultyStorage, OpenMode, Storage as _};
use courant_log::{Health, Log, PartitionId};

use courant_sim::tiny::{append, batch, create, open, stored, tiny};

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

/// Bytes of an event, of which `EARLY` are synced early and not one fewer.
const EVENT_BYTES: usize = 32 * 1024;
const EARLY: u64 = WRITE_BACK_EARLY_BYTES / EVENT_BYTES as u64;

/// Goes when it is told to.
#[derive(Default)]
struct ToldClock(AtomicU64);

impl ToldClock {
    fn pass(&self, ms: u64) {
        self.0.fetch_add(ms, Ordering::Relaxed);
    }
}

impl Clock for ToldClock {
    fn now_ms(&self) -> i64 {
        1_700_000_000_000 + i64::try_from(self.elapsed_ms()).expect("small")
    }

    fn elapsed_ms(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// A log with so many partitions, whose names are on disk. A step of its ring, 1 MiB, is more than a test appends.
fn with_a_large_ring(
    storage: &FaultyStorage,
    clock: &Arc<ToldClock>,
    partitions: u32,
) -> (Log, Vec<PartitionId>) {
    let mut config = tiny(1);
    (config.first_journal_file_bytes, config.journal_file_bytes) = (4 * 1024 * 1024, 4 * 1024 * 1024);
    config.clock = clock.clone();
    let log = Log::open(Arc::new(storage.clone()), config).expect("opens").0;
    let partitions = create(&log, "orders", partitions, &[]).partitions.clone();
    for partition in &partitions {
        append(&log, *partition, batch(1, 1, 100, None)).expect("appends");
    }
    log.checkpoint().expect("stores");
    (log, partitions)
}

fn append_events(log: &Log, partition: PartitionId, count: u64) {
    for tag in 0..count {
        append(log, partition, batch(tag, 1, EVENT_BYTES, None)).expect("appends");
    }
}

/// Symptom: single events waited for some milliseconds whenever a checkpoint was taken. Cause: what a segment had grown
/// by since the last one was synced at once, and the syncs of the journal stood behind it. Fix: a segment that grows
/// slowly is synced a little at a time, when the disk has been left alone for a while.
#[test]
fn a_segment_that_grows_slowly_is_synced_a_little_at_a_time() {
    let storage = FaultyStorage::new(1, 64 * 1024 * 1024);
    let clock = Arc::new(ToldClock::default());
    let (log, partitions) = with_a_large_ring(&storage, &clock, 1);
    let partition = partitions[0];
    let found = || on_disk(&storage, partition);
    let (before, checkpoints) = (found(), log.metrics().checkpoints);
    append_events(&log, partition, EARLY - 1);
    assert_eq!(found(), before, "it is not worth a sync yet");
    append_events(&log, partition, 1);
    let first = found();
    assert!(first - before >= WRITE_BACK_EARLY_BYTES, "{} bytes", first - before);

    append_events(&log, partition, 2 * EARLY);
    clock.pass(WRITE_BACK_EARLY_AFTER_MS - 1);
    append_events(&log, partition, 1);
    assert_eq!(found(), first, "the disk is left alone for a while");
    clock.pass(1);
    append_events(&log, partition, 1);
    assert!(found() - first >= 2 * WRITE_BACK_EARLY_BYTES, "{} bytes", found() - first);
    assert_eq!(log.metrics().checkpoints, checkpoints, "there was room in the ring");
}

/// A sync of each of thousands that grow slowly would cost more than it saves.
#[test]
fn of_segments_that_grow_slowly_one_at_a_time_is_synced() {
    let storage = FaultyStorage::new(1, 64 * 1024 * 1024);
    let clock = Arc::new(ToldClock::default());
    let (log, partitions) = with_a_large_ring(&storage, &clock, 2);
    let [one, other] = partitions[..] else { panic!("{partitions:?}") };
    let found = || [one, other].map(|partition| on_disk(&storage, partition));
    let before = found();
    append_events(&log, other, EARLY - 1);
    append_events(&log, one, EARLY);
    append_events(&log, other, 1);
    let first = found();
    assert!(first[0] > before[0] && first[1] == before[1], "{before:?}, {first:?}");
    clock.pass(WRITE_BACK_EARLY_AFTER_MS);
    append_events(&log, one, 1);
    let second = found();
    assert!(second[0] == first[0] && second[1] > first[1], "the one that has most: {first:?}, {second:?}");
}

/// On a disk whose syncs take long these ones would take much of its time from those of the journal.
#[test]
fn a_slow_disk_is_left_alone_for_longer() {
    const SYNC_MS: u64 = 50;
    let storage = FaultyStorage::new(1, 64 * 1024 * 1024);
    let clock = Arc::new(ToldClock::default());
    let (log, partitions) = with_a_large_ring(&storage, &clock, 1);
    let partition = partitions[0];
    append_events(&log, partition, EARLY);
    let first = on_disk(&storage, partition);
    // From here on each sync takes a while, that of the segment as those of the journal.
    let slow = clock.clone();
    storage.set_hook(Box::new(move |_, _, what| {
        if what == "sync_data" {
            slow.pass(SYNC_MS);
        }
    }));
    append_events(&log, partition, EARLY);
    let second = on_disk(&storage, partition);
    assert!(second > first, "the while after the first one is over");
    append_events(&log, partition, EARLY);
    assert_eq!(on_disk(&storage, partition), second, "{SYNC_MS} ms are a tenth of what it is left for");
    append_events(&log, partition, 2);
    assert!(on_disk(&storage, partition) > second);
    storage.clear_hook();
}
