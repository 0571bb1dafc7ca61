//! Compaction of a log: the newest event of each key stays at its offset, readers go on whatever becomes
//! of the segments under them, and a start finds what the entries say.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};

use bytes::Bytes;
use courant_core::clock::Clock;
use courant_log::batch::records::{self, NewRecord, Producer, Record};
use courant_log::storage::{CrashMode, FaultyStorage, OpenMode, Storage};
use courant_log::{Batch, BatchHeader, Codec, CompactionReport, Log, PartitionId, inspect, verify};
use courant_sim::tiny::{append, create, open, tiny};

const COMPACTED: [(&str, &str); 3] =
    [("cleanup.policy", "compact"), ("segment.bytes", "4000"), ("min.cleanable.dirty.ratio", "0")];
const DAY_MS: i64 = 86_400_000;

/// A clock that the test moves; both times go together.
struct Hand(AtomicI64);

impl Clock for Hand {
    fn now_ms(&self) -> i64 {
        1_700_000_000_000 + self.0.load(Ordering::Relaxed)
    }

    fn elapsed_ms(&self) -> u64 {
        u64::try_from(self.0.load(Ordering::Relaxed)).expect("never back")
    }
}

fn storage() -> FaultyStorage {
    FaultyStorage::new(1, 64 * 1024 * 1024)
}

/// One event, about a thousand bytes long; no value: a tombstone.
fn event(key: &str, value: Option<u64>, at_ms: i64) -> NewRecord {
    NewRecord {
        timestamp: at_ms,
        key: Some(Bytes::from(key.to_owned())),
        value: value.map(|value| Bytes::from(format!("{value:>1000}"))),
        ..NewRecord::default()
    }
}

fn send(log: &Log, partition: PartitionId, events: &[NewRecord], producer: Option<Producer>) -> u64 {
    let bytes = records::encode(events, Codec::None, producer).expect("encodes");
    append(log, partition, Batch::validate(bytes).expect("valid")).expect("appends").base_offset
}

fn put(log: &Log, partition: PartitionId, key: &str, value: u64) -> u64 {
    send(log, partition, &[event(key, Some(value), 1_700_000_000_000)], None)
}

fn delete(log: &Log, partition: PartitionId, key: &str) -> u64 {
    send(log, partition, &[event(key, None, 1_700_000_000_000)], None)
}

/// Seals the newest segment with events of a key that no test looks at, and lets a checkpoint cover it.
fn seal(log: &Log, partition: PartitionId) {
    for value in 0..4 {
        put(log, partition, "filler", value);
    }
    log.checkpoint().expect("stores");
}

fn all(log: &Log, partition: PartitionId) -> Vec<Record> {
    from(log, partition, log.offsets(partition).expect("exists").start)
}

fn from(log: &Log, partition: PartitionId, mut offset: u64) -> Vec<Record> {
    let mut found = Vec::new();
    while offset < log.offsets(partition).expect("exists").high_watermark {
        let mut bytes = log.read(partition, offset, 3000, true).expect("reads").bytes;
        assert!(!bytes.is_empty(), "nothing at {offset}");
        while !bytes.is_empty() {
            let header = BatchHeader::parse(&bytes).expect("whole");
            found.extend(records::decode(&bytes.split_to(header.total_bytes()), 1 << 20).expect("intact"));
            offset = u64::try_from(header.last_offset()).expect("positive") + 1;
        }
    }
    found
}

/// Offset and value of what is left of each key but the filler.
fn left(log: &Log, partition: PartitionId) -> Vec<(String, i64, Option<u64>)> {
    let text = |bytes: &Bytes| String::from_utf8(bytes.to_vec()).expect("text");
    let read = |record: Record| {
        let value = record.value.as_ref().map(|value| text(value).trim().parse().expect("a number"));
        (text(record.key.as_ref().expect("a key")), record.offset, value)
    };
    all(log, partition).into_iter().map(read).filter(|(key, ..)| key != "filler").collect()
}

fn replaced(report: CompactionReport) -> u64 {
    report.replaced
}

#[test]
fn the_newest_event_of_each_key_stays_at_its_offset_also_after_a_restart() {
    let storage = storage();
    let log = open(&storage, 1);
    let partition = create(&log, "state", 1, &COMPACTED).partitions[0];
    for value in 0..40 {
        put(&log, partition, ["a", "b", "c"][(value % 3) as usize], value);
    }
    let last = [put(&log, partition, "b", 100), delete(&log, partition, "c"), put(&log, partition, "a", 101)];
    seal(&log, partition);
    let bytes = log.partition_bytes(partition).expect("exists");
    let end = log.offsets(partition).expect("exists").high_watermark;
    assert!(replaced(log.compact()) > 5);
    assert!(log.partition_bytes(partition).expect("exists") < bytes / 3);
    let expected: Vec<_> = ["b", "c", "a"]
        .into_iter()
        .zip(last)
        .zip([Some(100), None, Some(101)])
        .map(|((key, at), value)| (key.to_owned(), at as i64, value))
        .collect();
    assert_eq!(left(&log, partition), expected);
    // Any offset that was taken away leads to the next event.
    for offset in 0..end {
        let first = from(&log, partition, offset).first().map(|record| record.offset);
        assert!(
            first.is_none_or(|first| first >= offset as i64 || first == last[0] as i64),
            "{offset} {first:?}"
        );
    }
    assert_eq!(log.offsets(partition).expect("exists").high_watermark, end);
    assert_eq!(replaced(log.compact()), 0, "nothing is dirty");
    // Once only the journal knows of it, once a checkpoint does.
    let killed = storage.killed(1);
    for image in [killed, {
        log.stop();
        storage.clone()
    }] {
        let log = open(&image, 2);
        assert_eq!(left(&log, partition), expected);
        assert_eq!(log.offsets(partition).expect("exists").high_watermark, end);
        log.stop();
        let verified = verify(&(Arc::new(image.clone()) as Arc<dyn Storage>)).expect("reads");
        assert_eq!(verified.damage, []);
        let files = inspect::inspect(&(Arc::new(image.clone()) as Arc<dyn Storage>)).expect("reads");
        let strange = |file: &&inspect::StoredFile| matches!(file.content, inspect::Content::Unnamed);
        assert_eq!(files.files.iter().find(strange), None);
    }
}

#[test]
fn a_tombstone_goes_when_its_time_has_passed_and_its_key_does_not_come_back() {
    let storage = storage();
    let hand = Arc::new(Hand(AtomicI64::new(0)));
    let mut config = tiny(1);
    config.clock = hand.clone();
    let log = Log::open(Arc::new(storage.clone()), config).expect("opens").0;
    let partition = create(&log, "state", 1, &COMPACTED).partitions[0];
    put(&log, partition, "a", 1);
    seal(&log, partition);
    let at = delete(&log, partition, "a") as i64;
    seal(&log, partition);
    log.compact();
    assert_eq!(left(&log, partition), [("a".to_owned(), at, None)]);
    hand.0.store(DAY_MS, Ordering::Relaxed);
    seal(&log, partition);
    log.compact();
    assert_eq!(left(&log, partition).len(), 1, "a day is not over before it has passed");
    hand.0.store(DAY_MS + 1, Ordering::Relaxed);
    seal(&log, partition);
    log.compact();
    assert_eq!(left(&log, partition), []);
    log.checkpoint().expect("stores");
    drop(log);
    assert_eq!(left(&open(&storage.killed(3), 2), partition), []);
}

#[test]
fn what_the_newest_segment_holds_and_what_no_checkpoint_covers_is_left_alone() {
    let storage = storage();
    let log = open(&storage, 1);
    let partition = create(&log, "state", 1, &COMPACTED).partitions[0];
    for value in 0..10 {
        put(&log, partition, "a", value);
    }
    assert_eq!(replaced(log.compact()), 0, "no checkpoint covers it");
    log.checkpoint().expect("stores");
    assert!(replaced(log.compact()) > 0);
    let newest = left(&log, partition).last().cloned();
    assert_eq!(newest, Some(("a".to_owned(), 9, Some(9))));
}

#[test]
fn topics_that_are_not_compacted_are_left_alone_and_low_ratios_wait() {
    let storage = storage();
    let log = open(&storage, 1);
    let plain = create(&log, "plain", 1, &[("segment.bytes", "4000")]).partitions[0];
    let half =
        [("cleanup.policy", "compact"), ("segment.bytes", "4000"), ("min.cleanable.dirty.ratio", "0.9")];
    let half = create(&log, "half", 1, &half).partitions[0];
    for value in 0..20 {
        put(&log, plain, "a", value);
        put(&log, half, &value.to_string(), value);
    }
    log.checkpoint().expect("stores");
    assert!(replaced(log.compact()) > 0, "all of it is dirty");
    log.checkpoint().expect("stores");
    assert_eq!(all(&log, plain).len(), 20);
    for value in 0..8 {
        put(&log, half, "b", value);
    }
    log.checkpoint().expect("stores");
    assert_eq!(replaced(log.compact()), 0, "less than nine tenths are dirty");
}

#[test]
fn a_producer_is_known_although_nothing_of_it_is_left() {
    let storage = storage();
    let log = open(&storage, 1);
    let partition = create(&log, "state", 1, &COMPACTED).partitions[0];
    let of = |sequence| Some(Producer { id: 7, epoch: 0, base_sequence: sequence });
    let first = event("a", Some(1), 1_700_000_000_000);
    send(&log, partition, std::slice::from_ref(&first), of(0));
    let at = send(&log, partition, std::slice::from_ref(&first), of(1));
    put(&log, partition, "a", 2);
    seal(&log, partition);
    log.compact();
    assert_eq!(left(&log, partition).len(), 1);
    log.stop();
    let log = with_producers_rebuilt(&storage, 2);
    assert_eq!(send(&log, partition, std::slice::from_ref(&first), of(1)), at, "known as a repetition");
    let end = log.offsets(partition).expect("exists").high_watermark;
    assert_eq!(send(&log, partition, &[first], of(2)), end);
}

/// Opens a stopped log of which the snapshot of producers is lost.
fn with_producers_rebuilt(storage: &FaultyStorage, seed: u64) -> Log {
    let snapshots =
        storage.list("checkpoints").expect("lists").into_iter().filter(|name| name.ends_with(".producers"));
    snapshots.for_each(|name| storage.remove_file(&format!("checkpoints/{name}")).expect("removes"));
    let (log, report) = Log::open(Arc::new(storage.clone()), tiny(seed)).expect("opens");
    assert!(report.producers_rebuilt);
    log
}

/// A producer that comes again must not be told that it is unknown, nor be stored twice, because others have deleted
/// what it wrote.
#[test]
fn a_producer_is_known_although_all_of_it_was_deleted() {
    let storage = storage();
    let log = open(&storage, 1);
    let partition = create(&log, "state", 1, &COMPACTED).partitions[0];
    let of = |sequence| Some(Producer { id: 7, epoch: 0, base_sequence: sequence });
    let first = event("a", Some(1), 1_700_000_000_000);
    send(&log, partition, std::slice::from_ref(&first), of(0));
    let at = send(&log, partition, std::slice::from_ref(&first), of(1));
    // In the same segment, so that this one stays.
    let start = put(&log, partition, "b", 2);
    seal(&log, partition);
    log.delete_records(partition, start, move |deleted| assert_eq!(deleted, Ok(start)));
    while log.commit() {}
    assert!(replaced(log.compact()) > 0);
    assert_eq!(left(&log, partition), [("b".to_owned(), start as i64, Some(2))]);
    // A second round finds the header alone.
    seal(&log, partition);
    assert!(replaced(log.compact()) > 0);
    log.stop();
    let log = with_producers_rebuilt(&storage, 2);
    assert_eq!(send(&log, partition, std::slice::from_ref(&first), of(1)), at, "known as a repetition");
    let end = log.offsets(partition).expect("exists").high_watermark;
    assert_eq!(send(&log, partition, &[first], of(2)), end);
}

#[test]
fn time_leads_to_events_that_are_left() {
    let storage = storage();
    let log = open(&storage, 1);
    let partition = create(&log, "state", 1, &COMPACTED).partitions[0];
    // Two events of a producer, so that an emptied batch stays for it, with its old time.
    let producer = Some(Producer { id: 7, epoch: 0, base_sequence: 0 });
    send(&log, partition, &[event("a", Some(1), 9_000), event("a", Some(2), 9_100)], producer);
    let kept = send(&log, partition, &[event("b", Some(1), 5_000), event("a", Some(3), 1_000)], None);
    for value in 0..6 {
        send(&log, partition, &[event("filler", Some(value), 6_000)], None);
    }
    log.checkpoint().expect("stores");
    assert!(replaced(log.compact()) > 0);
    let found = log.offset_for_time(partition, 2_000).expect("reads").expect("found");
    assert_eq!((found.offset, found.timestamp_ms), (kept, 5_000));
    assert_eq!(log.offset_for_time(partition, 8_000).expect("reads"), None, "what had that time is gone");
    let newest = log.max_timestamp(partition).expect("reads").expect("found");
    assert_eq!(newest.timestamp_ms, 6_000);
}

#[test]
fn damage_ends_a_round_before_it_and_a_gap_that_was_accepted_is_passed_over() {
    let storage = storage();
    let log = open(&storage, 1);
    let partition =
        create(&log, "state", 1, &[COMPACTED[0], ("segment.bytes", "300000"), COMPACTED[2]]).partitions[0];
    for value in 0..900 {
        put(&log, partition, &(value % 200).to_string(), value);
    }
    log.stop();
    // In the middle of the second segment.
    let dir = "segments/0000000000000001";
    let mut names = storage.list(dir).expect("lists");
    names.retain(|name| name.ends_with(".segment"));
    names.sort();
    let file = storage.open(&format!("{dir}/{}", names[1]), OpenMode::Existing).expect("opens");
    file.write_at(&[&[0xff; 16]], 150_000).expect("writes");
    file.sync_data().expect("syncs");
    let log = open(&storage, 2);
    log.compact();
    assert_eq!(log.damage().len(), 1, "compaction has found it");
    let files = || {
        let mut names = storage.list(dir).expect("lists");
        names.retain(|name| name.ends_with(".segment"));
        names.len()
    };
    log.compact();
    log.checkpoint().expect("stores");
    assert!(files() >= 2, "the damaged one is still there");
    let events = log.damage()[0].events.clone().expect("events");
    let done = Arc::new(AtomicBool::new(false));
    let seen = done.clone();
    log.accept_gap(partition, events.offsets.clone(), move |accepted| {
        accepted.expect("accepted");
        seen.store(true, Ordering::Relaxed);
    });
    while log.commit() {}
    assert!(done.load(Ordering::Relaxed));
    assert!(replaced(log.compact()) > 0);
    let mut newest: BTreeMap<u64, u64> = BTreeMap::new();
    for value in (0..900).filter(|value| !events.offsets.contains(value)) {
        newest.insert(value % 200, value);
    }
    let found: BTreeMap<u64, u64> = left(&log, partition)
        .into_iter()
        .map(|(key, at, _)| (key.parse().expect("a number"), at as u64))
        .collect();
    assert_eq!(found, newest);
    assert_eq!(log.damage(), []);
}

/// Symptom: retention by age deleted nothing of a topic with `cleanup.policy=compact,delete` any more. Cause: its first
/// segment had no event left, and so no time, and what has none is not old. Fix: it goes with those behind it.
#[test]
fn age_passes_a_segment_of_which_compaction_has_left_no_event() {
    let hand = Arc::new(Hand(AtomicI64::new(0)));
    let mut config = tiny(1);
    config.clock = hand.clone();
    let (log, _) = Log::open(Arc::new(storage()), config).expect("opens");
    let configs =
        [("cleanup.policy", "compact,delete"), COMPACTED[1], COMPACTED[2], ("retention.ms", "1000")];
    let partition = create(&log, "state", 1, &configs).partitions[0];
    // Three events a segment.
    for value in 0..6 {
        put(&log, partition, "a", value);
    }
    let young = send(&log, partition, &[event("b", Some(6), 1_700_000_010_000)], None);
    log.checkpoint().expect("stores");
    assert_eq!(replaced(log.compact()), 2);
    assert_eq!(log.enforce_retention(), 0, "nothing is old");
    hand.0.store(5_000, Ordering::Relaxed);
    assert_eq!(log.enforce_retention(), 1);
    while log.commit() {}
    assert_eq!(log.offsets(partition).expect("exists").start, young);
}

/// Damage of deleted events is named nowhere, so nobody would mend what stands in the way of compaction for it.
#[test]
fn damage_of_deleted_events_does_not_stop_compaction() {
    let storage = storage();
    let log = open(&storage, 1);
    let partition =
        create(&log, "state", 1, &[COMPACTED[0], ("segment.bytes", "300000"), COMPACTED[2]]).partitions[0];
    let at_ms = 1_700_000_000_000;
    let events_from = |first: u64| {
        [first, first + 1, first + 2].map(|value| event(&(value % 200).to_string(), Some(value), at_ms))
    };
    // Of a producer that is known by a batch behind the damage.
    let producer = |first: u64| (first == 150).then_some(Producer { id: 7, epoch: 0, base_sequence: 0 });
    for first in (0..900).step_by(3) {
        send(&log, partition, &events_from(first), producer(first));
    }
    log.stop();
    let dir = "segments/0000000000000001";
    let file = storage.open(&format!("{dir}/{:020}.segment", 0), OpenMode::Existing).expect("opens");
    file.write_at(&[&[0xff; 16]], 100_000).expect("writes");
    file.sync_data().expect("syncs");
    let log = open(&storage, 2);
    // Within a batch of the damaged segment, behind the damaged block.
    log.delete_records(partition, 200, |deleted| assert_eq!(deleted, Ok(200)));
    while log.commit() {}
    assert_eq!(log.offsets(partition).expect("exists").start, 200);
    assert!(replaced(log.compact()) > 0);
    let expected: BTreeMap<u64, u64> = (700..900).map(|value| (value % 200, value)).collect();
    let found: BTreeMap<u64, u64> = left(&log, partition)
        .into_iter()
        .map(|(key, at, _)| (key.parse().expect("a number"), at as u64))
        .collect();
    assert_eq!(found, expected);
    log.scrub().expect("scrubs");
    assert_eq!(log.damage(), []);
    log.stop();
    let log = with_producers_rebuilt(&storage, 3);
    assert_eq!(send(&log, partition, &events_from(150), producer(150)), 150, "known as a repetition");
}

/// Symptom: where a read of compaction brought another offset for a batch, its events were gone or stood elsewhere
/// for good. Cause: no batch's checksum covers its offset, offsets may be missing where compaction was before, and
/// blocks that this process had written were not compared. Fix: compaction compares all that it reads.
#[test]
fn a_batch_that_is_read_with_another_offset_is_not_rewritten() {
    let storage = storage();
    let log = open(&storage, 1);
    let partition = create(&log, "state", 1, &COMPACTED).partitions[0];
    for value in 0..20 {
        put(&log, partition, ["a", "b"][(value % 2) as usize], value);
    }
    seal(&log, partition);
    assert!(replaced(log.compact()) > 0);
    put(&log, partition, "c", 100);
    seal(&log, partition);
    let expected = left(&log, partition);
    assert_eq!(expected.len(), 3);
    // The first batch of each segment that compaction has made comes from sixty-four offsets further on.
    let dir = "segments/0000000000000001";
    let mut flipped = 0;
    let mut flip = || {
        flipped = 0;
        for name in storage.list(dir).expect("lists").into_iter().filter(|name| name.contains('-')) {
            let file = storage.open(&format!("{dir}/{name}"), OpenMode::Existing).expect("opens");
            let mut byte = [0];
            if file.read_at(&mut byte, 64 + 7).expect("reads") == 1 {
                file.write_at(&[&[byte[0] ^ 64]], 64 + 7).expect("writes");
                flipped += 1;
            }
        }
    };
    flip();
    let failures = log.metrics().compaction_failures;
    log.compact();
    assert_eq!(log.metrics().compaction_failures, failures + 1, "it is seen");
    flip();
    assert!(flipped > 0, "the segments are still there");
    assert_eq!(left(&log, partition), expected, "and nothing of them is gone");
    assert!(replaced(log.compact()) > 0);
    assert_eq!(left(&log, partition), expected);
}

#[test]
fn a_missing_product_leaves_what_it_was_made_of() {
    let storage = storage();
    let log = open(&storage, 1);
    let partition = create(&log, "state", 1, &COMPACTED).partitions[0];
    for value in 0..12 {
        put(&log, partition, ["a", "b"][(value % 2) as usize], value);
    }
    seal(&log, partition);
    let before = left(&log, partition);
    log.compact();
    let after = left(&log, partition);
    assert!(after.len() < before.len());
    // A backup has what its checkpoint names, and the journal behind it.
    let image = storage.crash_image(CrashMode::KeepAll, 1);
    let dir = "segments/0000000000000001";
    for name in image.list(dir).expect("lists").into_iter().filter(|name| name.contains('-')) {
        image.remove_file(&format!("{dir}/{name}")).expect("removes");
    }
    let log = open(&image, 2);
    assert_eq!(left(&log, partition), before);
    assert_eq!(log.damage(), []);
    log.compact();
    assert_eq!(left(&log, partition), after);
}

#[test]
fn readers_go_on_while_segments_are_replaced_and_deleted_under_them() {
    let storage = storage();
    let mut config = tiny(1);
    config.background = true;
    config.compaction_interval_ms = 1;
    let log = Log::open(Arc::new(storage), config).expect("opens").0;
    let (created, topic) = std::sync::mpsc::channel();
    log.create_topic(courant_sim::tiny::new_topic("state", 1, &COMPACTED), move |topic| {
        created.send(topic.expect("created")).expect("sends");
    });
    let partition = topic.recv().expect("created").partitions[0];
    let done = Arc::new(AtomicBool::new(false));
    let readers: Vec<_> = (0..2)
        .map(|_| {
            let (log, done) = (log.clone(), done.clone());
            std::thread::spawn(move || {
                let mut rounds = 0;
                while !done.load(Ordering::Relaxed) || rounds == 0 {
                    let offsets: Vec<_> = all(&log, partition).iter().map(|record| record.offset).collect();
                    assert!(offsets.is_sorted_by(|a, b| a < b), "{offsets:?}");
                    rounds += 1;
                }
            })
        })
        .collect();
    let (answer, answered) = std::sync::mpsc::channel();
    for value in 0..2_000 {
        let events = [event(&(value % 7).to_string(), Some(value), 1_700_000_000_000)];
        let bytes = records::encode(&events, Codec::None, None).expect("encodes");
        let answer = answer.clone();
        log.append(partition, Batch::validate(bytes).expect("valid"), move |appended| {
            answer.send(appended.map(|_| ())).expect("sends");
        });
        answered.recv().expect("answers").expect("appends");
        if value % 50 == 0 {
            log.checkpoint().expect("stores");
        }
    }
    done.store(true, Ordering::Relaxed);
    for reader in readers {
        reader.join().expect("no reader failed");
    }
    log.compact();
    assert!(log.metrics().compactions > 0);
    assert_eq!(log.metrics().compaction_failures, 0);
    let newest: BTreeMap<_, _> = left(&log, partition).into_iter().map(|(key, at, _)| (key, at)).collect();
    let expected =
        (0..7).map(|key: i64| (key.to_string(), (1_993..2_000).find(|at| at % 7 == key).expect("one")));
    assert_eq!(newest, expected.collect());
    log.stop();
}
