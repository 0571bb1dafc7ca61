//! Beginnings that move: by a client's wish, by age, by size; files go, and nothing else does.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use courant_log::batch::records::{NewRecord, encode};
use courant_log::storage::{FaultyStorage, MemoryStorage, Storage};
use courant_log::{
    AddPartitionsError, AlterTopicError, Batch, Codec, DeleteRecordsError, Log, LogConfig, OpenError,
    PartitionId, ReadError,
};
use uuid::Uuid;

use courant_sim::tiny::{append, batch, create, open, slot, stored, taken, tiny};

/// The time of the log under test, as `support` sets it.
const NOW_MS: u64 = 1_700_000_000_000;

fn memory() -> MemoryStorage {
    MemoryStorage::new(64 * 1024 * 1024)
}

fn delete(log: &Log, partition: PartitionId, before: u64) -> Result<u64, DeleteRecordsError> {
    let (slot, done) = slot();
    log.delete_records(partition, before, done);
    while log.commit() {}
    taken(&slot)
}

/// Ten segments of one batch of ten events each.
fn ten_segments(log: &Log, configs: &[(&str, &str)]) -> PartitionId {
    let configs = [configs, &[("segment.bytes", "20000")]].concat();
    let partition = create(log, "orders", 1, &configs).partitions[0];
    for tag in 0..10 {
        append(log, partition, batch(tag, 10, 15_000, None)).expect("appends");
    }
    log.checkpoint().expect("stores");
    partition
}

fn files(storage: &MemoryStorage, partition: PartitionId) -> Vec<String> {
    let mut names = storage.list(&format!("segments/{:016x}", partition.0)).expect("lists");
    names.retain(|name| name.ends_with(".segment"));
    names.sort();
    names
}

#[test]
fn deleted_records_are_gone_for_readers_at_once_and_from_the_disk_after_a_checkpoint() {
    let storage = memory();
    let log = open(&storage, 1);
    let partition = ten_segments(&log, &[]);
    assert_eq!(files(&storage, partition).len(), 10);
    assert_eq!(delete(&log, partition, 35), Ok(35));
    assert!(matches!(
        log.read(partition, 34, 1000, true),
        Err(ReadError::OutOfRange { start: 35, end: 100 })
    ));
    let read = log.read(partition, 35, 1, true).expect("the batch that holds it");
    assert_eq!(courant_log::BatchHeader::parse(&read.bytes).expect("a batch").base_offset, 30);
    assert_eq!(log.offset_for_time(partition, 0).expect("finds").map(|found| found.offset), Some(35));
    assert_eq!(files(&storage, partition).len(), 10);
    log.checkpoint().expect("stores");
    assert_eq!(files(&storage, partition)[0], format!("{:020}.segment", 30));
    // Less than that is no wish for more, and what is not there cannot be deleted.
    assert_eq!(delete(&log, partition, 5), Ok(35));
    assert_eq!(delete(&log, partition, 101), Err(DeleteRecordsError::OutOfRange { start: 35, end: 100 }));
    assert_eq!(delete(&log, PartitionId(99), 1), Err(DeleteRecordsError::UnknownPartition));
}

/// Symptom: a replay from a time began behind events that were still there, or found none. Cause: in the batch that the
/// beginning of the partition is in, a look for the time met an event that was deleted, and passed over the whole batch.
/// Fix: it looks at the events from the beginning on.
#[test]
fn a_time_is_looked_for_among_what_is_left_of_a_batch() {
    let event = |second: i64| NewRecord {
        timestamp: second * 1_000,
        value: Some(vec![7; 3_000].into()),
        ..NewRecord::default()
    };
    let events: Vec<NewRecord> = [5, 1, 1, 2, 3].into_iter().map(event).collect();
    let bytes = encode(&events, Codec::Zstd, None).expect("encodes");
    // Where it cannot be unpacked, all that is left of the batch answers for it.
    for (unpacked_bytes_max, found) in
        [(1 << 20, [Some(2), Some(3), Some(4), None]), (4_000, [Some(2), Some(2), Some(2), Some(2)])]
    {
        let config = LogConfig { unpacked_bytes_max, unpacked_at_once: 1, ..tiny(1) };
        let (log, _) = Log::open(Arc::new(memory()), config).expect("opens");
        let partition = create(&log, "orders", 1, &[]).partitions[0];
        append(&log, partition, Batch::validate(bytes.clone()).expect("a good one")).expect("appends");
        assert_eq!(delete(&log, partition, 2), Ok(2));
        let first = |at_ms| log.offset_for_time(partition, at_ms).expect("finds").map(|found| found.offset);
        assert_eq!([0, 1_001, 2_001, 3_001].map(first), found, "{unpacked_bytes_max}");
        // A batch of which nothing is left answers for nothing, whatever its header says.
        assert_eq!(delete(&log, partition, 5), Ok(5));
        assert_eq!(first(0), None);
    }
}

/// Symptom: asked for its newest event (KIP-734), a partition said that it has none, and had events. Cause: DeleteRecords
/// had taken the newest, and segments and batches go on telling of its time, for which the log looked then. Fix: where
/// nothing is found, the log looks for the newest time of what is left.
#[test]
fn the_newest_event_is_one_of_those_that_are_left() {
    let event = |second: &i64| NewRecord {
        timestamp: second * 1_000,
        value: Some(vec![7; 3_000].into()),
        ..NewRecord::default()
    };
    let batch_of = |seconds: &[i64]| {
        let events: Vec<NewRecord> = seconds.iter().map(event).collect();
        let bytes = encode(&events, Codec::Zstd, None).expect("encodes");
        Batch::validate(bytes).expect("a good one")
    };
    // Where the first batch cannot be unpacked, all that is left of it answers for it.
    for (unpacked_bytes_max, left_of_the_first) in [(1 << 20, (3, 3_000)), (4_000, (2, 9_000))] {
        let config = LogConfig { unpacked_bytes_max, unpacked_at_once: 1, ..tiny(1) };
        let (log, _) = Log::open(Arc::new(memory()), config).expect("opens");
        let partition = create(&log, "orders", 1, &[]).partitions[0];
        let newest = || {
            let found = log.max_timestamp(partition).expect("finds");
            found.map(|found| (found.offset, found.timestamp_ms))
        };
        assert_eq!(newest(), None);
        append(&log, partition, batch_of(&[1, 9, 2, 3, 3])).expect("appends");
        append(&log, partition, batch_of(&[2, 2])).expect("appends");
        assert_eq!(newest().map(|(_, time_ms)| time_ms), Some(9_000));
        assert_eq!(delete(&log, partition, 2), Ok(2));
        assert_eq!(newest(), Some(left_of_the_first), "{unpacked_bytes_max}");
        // Of a batch that is gone, no header counts; the second one says what it has.
        assert_eq!(delete(&log, partition, 5), Ok(5));
        assert_eq!(newest(), Some((5, 2_000)), "{unpacked_bytes_max}");
        assert_eq!(delete(&log, partition, 6), Ok(6));
        assert_eq!(newest(), Some((6, 2_000)), "{unpacked_bytes_max}");
        append(&log, partition, batch_of(&[4])).expect("appends");
        assert_eq!(newest(), Some((7, 4_000)), "newer than what is left, and older than what was deleted");
        assert_eq!(delete(&log, partition, 8), Ok(8));
        assert_eq!(newest(), None);
    }
}

#[test]
fn the_newest_event_is_found_behind_many_newer_ones_that_were_deleted() {
    // Several blocks of one segment, and a segment for every few batches.
    let layouts: [&[(&str, &str)]; 2] = [&[], &[("segment.bytes", "20000")]];
    for configs in layouts {
        let log = open(&memory(), 1);
        let partition = create(&log, "orders", 1, configs).partitions[0];
        for tag in (0..60).rev() {
            append(&log, partition, batch(tag, 2, 6_000, None)).expect("appends");
        }
        for start in [1, 2, 37, 80, 118, 119] {
            assert_eq!(delete(&log, partition, start), Ok(start));
            let found = log.max_timestamp(partition).expect("finds").expect("it is there");
            let expected = (start, (NOW_MS + 59 - start / 2) as i64);
            assert_eq!((found.offset, found.timestamp_ms), expected, "{configs:?}");
        }
    }
}

/// Symptom: asked for the newest event behind many that were deleted, a partition read on to the end of a segment, each
/// time. Cause: where the time was that a block has in the index, nothing was left, and the look went on behind the block.
/// Fix: it looks into the blocks that can have the time, and into no block that ends before the partition begins.
#[test]
fn the_newest_event_is_found_without_reading_all_that_was_deleted() {
    let storage = FaultyStorage::new(1, 64 * 1024 * 1024);
    let log = open(&storage, 1);
    // One segment of more than 18 blocks.
    let partition = create(&log, "orders", 1, &[]).partitions[0];
    for tag in (0..60).rev() {
        append(&log, partition, batch(tag, 2, 20_000, None)).expect("appends");
    }
    for start in [1, 2, 37, 80, 119] {
        assert_eq!(delete(&log, partition, start), Ok(start));
        let newest = || log.max_timestamp(partition).expect("finds").map(|found| found.offset);
        // The first look compares blocks with their checksums, for which it reads them as a whole.
        assert_eq!(newest(), Some(start));
        let before = storage.reads();
        assert_eq!(newest(), Some(start));
        let reads = storage.reads() - before;
        assert!(reads <= 12, "{reads} reads from offset {start} on");
    }
}

#[test]
fn a_partition_without_records_goes_on_where_it_was() {
    let storage = memory();
    let log = open(&storage, 1);
    let partition = ten_segments(&log, &[]);
    assert_eq!(delete(&log, partition, 100), Ok(100));
    log.checkpoint().expect("stores");
    assert_eq!(files(&storage, partition), Vec::<String>::new());
    log.stop();
    let (log, report) = Log::open(Arc::new(storage.clone()), tiny(2)).expect("opens");
    assert_eq!(report.lost_and_found, Vec::<String>::new());
    assert_eq!(stored(&log, partition), []);
    assert_eq!(append(&log, partition, batch(11, 1, 10, None)).expect("appends").base_offset, 100);
    assert_eq!(append(&log, partition, batch(12, 1, 10, None)).expect("appends").log_start, 100);
}

#[test]
fn age_deletes_whole_segments_and_keeps_what_is_young() {
    let storage = memory();
    let mut now = tiny(1);
    now.clock = Arc::new(At(NOW_MS as i64));
    let log = Log::open(Arc::new(storage.clone()), now).expect("opens").0;
    // The event of tag t has the time NOW + t; the clock stands at NOW.
    let partition = ten_segments(&log, &[("retention.ms", "0")]);
    assert_eq!(log.enforce_retention(), 0, "nothing is older than now");
    log.stop();
    let mut later = tiny(2);
    later.clock = Arc::new(At(NOW_MS as i64 + 5));
    let log = Log::open(Arc::new(storage), later).expect("opens").0;
    assert_eq!(log.enforce_retention(), 1);
    while log.commit() {}
    assert_eq!(log.offsets(partition).expect("exists").start, 50);
    assert_eq!(log.enforce_retention(), 0);
}

#[test]
fn age_empties_a_partition_whose_last_segment_is_old() {
    let storage = memory();
    let log = open(&storage, 1);
    let partition = ten_segments(&log, &[("retention.ms", "1000")]);
    log.stop();
    let mut later = tiny(2);
    later.clock = Arc::new(At(NOW_MS as i64 + 5000));
    let log = Log::open(Arc::new(storage), later).expect("opens").0;
    log.enforce_retention();
    while log.commit() {}
    let ends = log.offsets(partition).expect("exists");
    assert_eq!((ends.start, ends.high_watermark), (100, 100));
}

#[test]
fn size_deletes_the_oldest_segments_and_never_the_last() {
    let log = open(&memory(), 1);
    let partition = ten_segments(&log, &[("retention.bytes", "50000")]);
    let bytes = log.partition_bytes(partition).expect("exists");
    assert!(bytes > 150_000, "{bytes}");
    log.enforce_retention();
    while log.commit() {}
    let bytes = log.partition_bytes(partition).expect("exists");
    assert!((50_000..70_000).contains(&bytes), "{bytes}");
    let (slot, done) = slot();
    let id = log.catalog().by_name("orders").expect("exists").id;
    log.alter_topic(id, vec![("retention.bytes".into(), Some("0".into()))], done);
    while log.commit() {}
    taken(&slot).expect("altered");
    log.enforce_retention();
    while log.commit() {}
    assert_eq!(log.offsets(partition).expect("exists").start, 90);
}

#[test]
fn topics_grow_and_change_and_say_why_not() {
    let storage = memory();
    let log = open(&storage, 1);
    let topic = create(&log, "orders", 2, &[]);
    let add = |id: Uuid, total: u32| {
        let (slot, done) = slot();
        log.add_partitions(id, total, done);
        while log.commit() {}
        taken(&slot).map(|topic| topic.partitions.len())
    };
    assert_eq!(add(topic.id, 5), Ok(5));
    assert_eq!(add(topic.id, 5), Err(AddPartitionsError::NotMore { have: 5 }));
    assert_eq!(add(topic.id, 10_001), Err(AddPartitionsError::TooMany { max: 10_000 }));
    assert_eq!(add(Uuid::from_u128(1), 3), Err(AddPartitionsError::Unknown));
    let alter = |id: Uuid, value: String| {
        let (slot, done) = slot();
        log.alter_topic(id, vec![("retention.ms".into(), Some(value))], done);
        while log.commit() {}
        taken(&slot).map(|topic| topic.configs.clone())
    };
    assert_eq!(alter(topic.id, "5".into()).expect("altered")["retention.ms"], "5");
    assert!(matches!(alter(topic.id, "5".repeat(5000)), Err(AlterTopicError::Configs { .. })));
    assert_eq!(alter(Uuid::from_u128(1), "5".into()), Err(AlterTopicError::Unknown));
    let newest = log.catalog().by_name("orders").expect("exists").partitions[4];
    append(&log, newest, batch(1, 1, 10, None)).expect("appends");
    log.stop();
    let again = open(&storage, 2);
    let topic = again.catalog().by_name("orders").expect("exists").clone();
    assert_eq!((topic.partitions.len(), topic.configs["retention.ms"].as_str()), (5, "5"));
    assert_eq!(stored(&again, topic.partitions[4]).len(), 1);
}

#[test]
fn an_older_format_is_raised_and_a_newer_one_refused() {
    let storage = memory();
    let log = open(&storage, 1);
    let partition = ten_segments(&log, &[]);
    let id = log.id();
    log.stop();
    let format = |text: &str| {
        let file = storage.open("FORMAT", courant_log::storage::OpenMode::Existing).expect("opens");
        file.write_at(&[text.as_bytes()], 0).expect("writes");
    };
    format(&format!("courant-log 1 {id}\n"));
    let log = open(&storage, 2);
    assert_eq!(stored(&log, partition).len(), 10);
    log.stop();
    let mut bytes = [0; 13];
    let file = storage.open("FORMAT", courant_log::storage::OpenMode::Existing).expect("opens");
    file.read_at(&mut bytes, 0).expect("reads");
    assert_eq!(&bytes, b"courant-log 4");
    format(&format!("courant-log 5 {id}\n"));
    let refused = Log::open(Arc::new(storage.clone()), tiny(3)).expect_err("refused");
    assert!(matches!(refused, OpenError::Newer { found: 5, known: 4 }), "{refused}");
}

struct At(i64);

impl courant_core::clock::Clock for At {
    fn now_ms(&self) -> i64 {
        self.0
    }

    fn elapsed_ms(&self) -> u64 {
        0
    }
}

/// Clocks that a test sets, the wall's and the other.
#[derive(Default)]
struct Set(AtomicI64, AtomicU64);

impl courant_core::clock::Clock for Set {
    fn now_ms(&self) -> i64 {
        self.0.load(Ordering::Relaxed)
    }

    fn elapsed_ms(&self) -> u64 {
        self.1.load(Ordering::Relaxed)
    }
}

/// Nobody knows how long a log was stopped. A start that finds years is not believed; the next one is,
/// when it finds the same clock.
#[test]
fn a_start_ten_years_ahead_deletes_nothing() {
    const YEARS_MS: i64 = 10 * 365 * 86_400_000;
    let began = 1_700_000_000_000;
    let storage = memory();
    let start = |at_ms: i64| {
        let mut config = tiny(1);
        config.clock = Arc::new(At(at_ms));
        Log::open(Arc::new(storage.clone()), config).expect("opens").0
    };
    let log = start(began);
    let partition = ten_segments(&log, &[("retention.ms", "1000000")]);
    log.stop();
    let log = start(began + YEARS_MS);
    assert_eq!(log.enforce_retention(), 0);
    log.stop();
    let log = start(began + YEARS_MS + 1);
    assert_eq!(log.enforce_retention(), 1, "a second start with that clock");
    while log.commit() {}
    assert!(log.offsets(partition).expect("exists").start > 0);
}

#[test]
fn a_clock_that_jumps_by_years_deletes_nothing() {
    const YEARS_MS: i64 = 10 * 365 * 86_400_000;
    const DAY_MS: i64 = 86_400_000;
    let began = 1_700_000_000_000;
    let clock = Arc::new(Set(AtomicI64::new(began), AtomicU64::new(0)));
    let storage = memory();
    let mut config = tiny(1);
    config.clock = clock.clone();
    let log = Log::open(Arc::new(storage), config).expect("opens").0;
    let week = (7 * DAY_MS).to_string();
    let partition = ten_segments(&log, &[("retention.ms", &week)]);
    let look = |wall: i64, elapsed: i64| {
        clock.0.store(wall, Ordering::Relaxed);
        clock.1.store(u64::try_from(elapsed).expect("positive"), Ordering::Relaxed);
        let begun = log.enforce_retention();
        while log.commit() {}
        begun
    };
    for jumped in [began + YEARS_MS, began - YEARS_MS, began + YEARS_MS] {
        assert_eq!(look(jumped, 1000), 0, "the clock says {jumped}");
    }
    assert_eq!(log.offsets(partition).expect("exists").start, 0);
    // Set right again, and time goes on: what is old goes.
    assert_eq!(look(began + 2000, 2000), 0);
    let later = 8 * DAY_MS;
    assert_eq!(look(began + later, later), 1);
    assert!(log.offsets(partition).expect("exists").start > 0);
}
