//! Classes of durability: what is acknowledged when, and what a power cut and a kill leave of it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use courant_core::clock::Clock;
use courant_log::storage::{CrashMode, Failure, FaultyStorage, ReadFailure};
use courant_log::{Log, OpenError, PartitionId};

use courant_sim::tiny::{append, batch, create, open, slot, stored, stored_before_gap, taken, tiny};

const STEP: u64 = 1_000_000;

/// Stands until the test moves it.
#[derive(Default)]
struct Standing(AtomicU64);

impl Standing {
    fn pass(&self, ms: u64) {
        self.0.fetch_add(ms, Ordering::Relaxed);
    }
}

impl Clock for Standing {
    fn now_ms(&self) -> i64 {
        1_700_000_000_000
    }

    fn elapsed_ms(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

fn storage() -> FaultyStorage {
    FaultyStorage::new(1, 64 * 1024 * 1024)
}

fn topic(log: &Log, durability: &str) -> PartitionId {
    let partition = create(log, durability, 1, &[("courant.durability", durability)]).partitions[0];
    // The first append makes sure of the offsets that may be given out.
    append(log, partition, batch(1, 10, 100, None)).expect("appends");
    partition
}

fn high_watermark(log: &Log, partition: PartitionId) -> u64 {
    log.offsets(partition).expect("exists").high_watermark
}

#[test]
fn only_the_class_sync_waits_for_the_disk() {
    let log = open(&storage(), 1);
    for (durability, expected) in [("sync", 4), ("os", 0)] {
        let partition = topic(&log, durability);
        let before = log.metrics().syncs;
        for tag in 2..6 {
            append(&log, partition, batch(tag, 1, 100, None)).expect("appends");
        }
        assert_eq!(log.metrics().syncs - before, expected, "{durability}");
        assert_eq!(high_watermark(&log, partition), 14, "readable when acknowledged");
    }
}

/// Symptom: a power cut took events of the class `interval` that had been acknowledged minutes before.
/// Cause: each group was asked for its own class alone, and behind them there was nothing but events of
/// the class `os`, often enough that the log was never idle. Fix: the writer knows what still waits.
#[test]
fn an_event_of_the_class_interval_waits_for_a_tenth_of_a_second_whatever_comes_behind_it() {
    let (storage, clock) = (storage(), Arc::new(Standing::default()));
    let mut config = tiny(1);
    config.clock = clock.clone();
    let log = Log::open(Arc::new(storage.clone()), config).expect("opens").0;
    let (interval, os) = (topic(&log, "interval"), topic(&log, "os"));
    let after_power_cut = |partition| {
        let log = open(&storage.crash_image(CrashMode::LoseAll, 1), 2);
        stored_before_gap(&log, partition).len()
    };
    let put = |partition, tag| append(&log, partition, batch(tag, 1, 100, None)).expect("appends");

    let before = log.metrics().syncs;
    put(interval, 2);
    // Less than 50 ms later: until the log is sealed because nothing comes, another 50 may pass.
    clock.pass(49);
    put(os, 3);
    assert_eq!((log.metrics().syncs - before, after_power_cut(interval)), (0, 1));
    clock.pass(1);
    put(os, 4);
    assert_eq!((log.metrics().syncs - before, after_power_cut(interval)), (1, 2));
    assert_eq!(after_power_cut(os), 3, "what came before is on disk with it");

    // Nothing of that class waits any more.
    clock.pass(10_000);
    put(os, 5);
    assert_eq!((log.metrics().syncs - before, after_power_cut(os)), (1, 3));
    // After a long time without a sync it does not wait at all.
    put(interval, 6);
    assert_eq!((log.metrics().syncs - before, after_power_cut(interval)), (2, 3));
}

/// Symptom: as above, while a client sent again and again what the log refuses. Cause: only a group that is
/// written was asked whether a sync is due, and a log that refuses is not idle either, so nothing sealed it. Fix:
/// whatever the committer is woken for, it looks.
#[test]
fn an_event_of_the_class_interval_waits_no_longer_because_of_what_is_refused() {
    const ROOM: u64 = 64 * 1024 * 1024;
    let (storage, clock) = (storage(), Arc::new(Standing::default()));
    let mut config = tiny(1);
    config.clock = clock.clone();
    let log = Log::open(Arc::new(storage.clone()), config).expect("opens").0;
    let interval = topic(&log, "interval");
    let after_power_cut = || {
        storage.set_free_bytes(ROOM);
        stored_before_gap(&open(&storage.crash_image(CrashMode::LoseAll, 1), 2), interval).len()
    };
    let refused_everywhere = || {
        append(&log, PartitionId(u64::MAX), batch(9, 1, 100, None)).expect_err("there is no such partition");
    };
    let refused_when_full = || {
        storage.set_free_bytes(0);
        append(&log, interval, batch(9, 1, 100, None)).expect_err("there is no room");
    };

    let before = log.metrics().syncs;
    let syncs = || log.metrics().syncs - before;
    let refusals: [&dyn Fn(); 2] = [&refused_everywhere, &refused_when_full];
    for (round, refuse) in (1..).zip(refusals) {
        append(&log, interval, batch(round, 1, 100, None)).expect("appends");
        clock.pass(49);
        refuse();
        assert_eq!((syncs(), after_power_cut() as u64), (round - 1, round));
        clock.pass(1);
        refuse();
        assert_eq!((syncs(), after_power_cut() as u64), (round, round + 1));
    }
    clock.pass(10_000);
    refused_everywhere();
    assert_eq!(syncs(), 2, "nothing waits any more");
}

#[test]
fn one_sync_makes_everything_before_it_durable() {
    let storage = storage();
    let log = open(&storage, 1);
    let relaxed = topic(&log, "os");
    let strict = topic(&log, "sync");
    append(&log, relaxed, batch(2, 5, 100, None)).expect("appends");
    append(&log, strict, batch(3, 5, 100, None)).expect("appends");
    let log = open(&storage.crash_image(CrashMode::LoseAll, 1), 2);
    assert_eq!(stored_before_gap(&log, relaxed).len(), 2);
    assert_eq!(stored(&log, strict).len(), 2);
}

/// Symptom: after a failed sync and a restart, new events got the offsets of others that readers of a
/// relaxed topic had seen. Cause: a failed sync drops what it was to write, and the start took only a
/// new boot of the machine for a reason to resume at the ceiling. Fix: the writer leaves a note.
#[test]
fn after_a_failed_sync_the_offsets_that_were_seen_are_not_given_out_again() {
    let storage = storage();
    let log = open(&storage, 1);
    let relaxed = topic(&log, "os");
    let strict = topic(&log, "sync");
    append(&log, relaxed, batch(2, 5, 100, None)).expect("appends");
    storage.fail_call(storage.calls() + 1, Failure::FsyncEio);
    append(&log, strict, batch(3, 5, 100, None)).expect_err("the sync fails");
    assert_eq!(high_watermark(&log, relaxed), 15, "it was seen");
    drop(log);
    let restarted = storage.killed(2);
    let log = open(&restarted, 2);
    assert_eq!(stored_before_gap(&log, relaxed).len(), 1, "the failed sync has dropped the other");
    let next = append(&log, relaxed, batch(4, 1, 100, None)).expect("appends").base_offset;
    assert_eq!(next, 10 + STEP);
    drop(log);
    // It was settled: the next start has no doubt.
    let log = open(&restarted.killed(3), 3);
    assert_eq!(high_watermark(&log, relaxed), 11 + STEP);
}

/// Symptom: as above, after a start whose sync of the journal had failed. Cause: what a killed process had
/// left in memory was gone then, and only the writer left a note. Fix: such a start leaves one too.
#[test]
fn after_a_start_with_a_failed_sync_the_offsets_that_were_seen_are_not_given_out_again() {
    let storage = storage();
    let log = open(&storage, 1);
    let relaxed = topic(&log, "os");
    append(&log, relaxed, batch(2, 5, 100, None)).expect("appends");
    assert_eq!(high_watermark(&log, relaxed), 15, "it was seen");
    let clean = storage.killed(2);
    let started = open(&clean, 2);
    let calls = clean.calls();
    drop(started);
    let mut dropped = 0;
    for call in 1..=calls {
        let restarted = storage.killed(2);
        restarted.fail_call(call, Failure::FsyncEio);
        // Refused, or the call was none that syncs and a later one is.
        drop(Log::open(Arc::new(restarted.clone()), tiny(2)));
        let log = open(&restarted.killed(3), 3);
        dropped += usize::from(stored_before_gap(&log, relaxed).len() == 1);
        let next = append(&log, relaxed, batch(3, 1, 100, None)).expect("appends").base_offset;
        assert!(next >= 15, "call {call}: {next} was seen with another event");
    }
    assert!(dropped > 0, "none of {calls} calls that fail has dropped anything");
}

/// What a killed process has left in memory is written by the system whenever it likes. Where that fails while a
/// start reads the journal, the second look at it finds less than the first, and the next start nothing of it.
#[test]
fn after_a_start_that_finds_another_journal_the_second_time_no_offset_is_given_out_again() {
    let storage = storage();
    let log = open(&storage, 1);
    let relaxed = topic(&log, "os");
    append(&log, relaxed, batch(2, 5, 100, None)).expect("appends");
    assert_eq!(high_watermark(&log, relaxed), 15, "it was seen");
    let clean = storage.killed(2);
    drop(open(&clean, 2));
    let mut differed = 0;
    for read in 1..=clean.reads() {
        let restarted = storage.killed(2);
        restarted.fail_read(read, ReadFailure::Misdirected);
        let opened = Log::open(Arc::new(restarted.clone()), tiny(2));
        if !matches!(opened, Err(OpenError::FoundLate { what }) if what.contains("when it is read again")) {
            continue;
        }
        differed += 1;
        let log = open(&restarted.killed(3), 3);
        let next = append(&log, relaxed, batch(3, 1, 100, None)).expect("appends").base_offset;
        assert_eq!(next, 10 + STEP, "read {read}");
    }
    assert!(differed > 0, "no read of {} that goes wrong is the second of the journal", clean.reads());
}

#[test]
fn a_power_cut_takes_the_newest_and_their_offsets_are_not_given_out_again() {
    let storage = storage();
    let log = open(&storage, 1);
    let partition = topic(&log, "os");
    append(&log, partition, batch(2, 5, 100, None)).expect("appends");
    let ceiling = 10 + STEP;
    let image = storage.crash_image(CrashMode::LoseAll, 1);
    let log = open(&image, 2);
    assert_eq!(stored_before_gap(&log, partition).len(), 1, "the second batch is gone");
    assert_eq!(high_watermark(&log, partition), ceiling);
    // A consumer that has seen offset 14 goes on; one that asks for a lost one gets what follows.
    assert!(log.read(partition, 15, 1000, true).expect("there is nothing yet").bytes.is_empty());
    assert_eq!(append(&log, partition, batch(3, 1, 100, None)).expect("appends").base_offset, ceiling);
    for offset in [10, 14, 15, ceiling] {
        let read = log.read(partition, offset, 1000, true).expect("reads");
        let header = courant_log::BatchHeader::parse(&read.bytes).expect("a batch");
        assert_eq!(header.base_offset as u64, ceiling, "from offset {offset}");
    }
    // Once more, from the checkpoint that this start has stored.
    let again = open(&image.crash_image(CrashMode::LoseAll, 2), 3);
    assert!(high_watermark(&again, partition) > ceiling);
}

#[test]
fn a_kill_and_an_orderly_stop_take_nothing() {
    let storage = storage();
    let log = open(&storage, 1);
    let partition = topic(&log, "os");
    append(&log, partition, batch(2, 5, 100, None)).expect("appends");
    let killed = open(&storage.killed(1), 2);
    assert_eq!((stored(&killed, partition).len(), high_watermark(&killed, partition)), (2, 15));
    log.stop();
    let after_power_cut = open(&storage.crash_image(CrashMode::LoseAll, 1), 3);
    assert_eq!(
        (stored(&after_power_cut, partition).len(), high_watermark(&after_power_cut, partition)),
        (2, 15)
    );
}

#[test]
fn a_topic_that_becomes_strict_leaves_no_gap() {
    let storage = storage();
    let log = open(&storage, 1);
    let partition = topic(&log, "os");
    append(&log, partition, batch(2, 5, 100, None)).expect("appends");
    let (slot, done) = slot();
    let id = log.catalog().by_name("os").expect("exists").id;
    log.alter_topic(id, vec![("courant.durability".into(), Some("sync".into()))], done);
    while log.commit() {}
    taken(&slot).expect("altered");
    append(&log, partition, batch(3, 5, 100, None)).expect("appends");
    let log = open(&storage.crash_image(CrashMode::LoseAll, 1), 2);
    assert_eq!((stored(&log, partition).len(), high_watermark(&log, partition)), (3, 20));
}
