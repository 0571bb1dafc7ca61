//! A log without threads, on seeded randomness: the same calls in the same order every time.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use courant_core::clock::Clock;
use courant_core::entropy::Entropy;
use courant_core::topic::TopicName;
use courant_log::batch::records::{self, NewRecord, Producer};
use courant_log::storage::Storage;
use courant_log::{
    AppendError, Appended, Batch, Codec, Log, LogConfig, NewTopic, PartitionId, Read, ReadError, Topic,
};
use uuid::Uuid;

use crate::random::Random;

/// Bytes of a read that takes all of a segment, or nearly.
const MANY_BYTES: usize = 256 * 1024;
/// Bytes of one that does not.
const FEW_BYTES: usize = 64 * 1024;

/// Each look at the time that passes takes a while, and the date goes with it.
#[derive(Default)]
struct SlowClock(AtomicU64);

impl Clock for SlowClock {
    fn now_ms(&self) -> i64 {
        1_700_000_000_000 + i64::try_from(self.0.load(Ordering::Relaxed)).unwrap_or(0)
    }

    fn elapsed_ms(&self) -> u64 {
        self.0.fetch_add(10, Ordering::Relaxed)
    }
}

struct SeededEntropy(AtomicU64);

impl Entropy for SeededEntropy {
    fn uuid(&self) -> Uuid {
        let mut random = Random(self.0.fetch_add(1, Ordering::Relaxed));
        Uuid::from_u64_pair(random.draw(), random.draw())
    }
}

/// A ring of 4 × 64 KiB and no threads.
pub fn tiny(seed: u64) -> LogConfig {
    let mut config =
        LogConfig::new(Arc::new(SlowClock::default()), Arc::new(SeededEntropy(AtomicU64::new(seed << 32))));
    config.journal_file_bytes = 64 * 1024;
    config.first_journal_file_bytes = 64 * 1024;
    config.reserve_bytes = 0;
    config.background = false;
    config
}

/// Opens the log in a storage.
///
/// # Panics
/// When it does not open.
pub fn open(storage: &(impl Storage + Clone), seed: u64) -> Log {
    Log::open(Arc::new(storage.clone()), tiny(seed)).expect("opens").0
}

/// Collects what a callback was given.
pub fn slot<T: Send + 'static>() -> (Arc<Mutex<Option<T>>>, impl FnOnce(T) + Send + 'static) {
    let slot = Arc::new(Mutex::new(None));
    let filled = slot.clone();
    (slot, move |value| *filled.lock().expect("lock") = Some(value))
}

/// What a callback was given.
///
/// # Panics
/// When it was not called.
pub fn taken<T>(slot: &Mutex<Option<T>>) -> T {
    slot.lock().expect("lock").take().expect("the callback was called")
}

/// Creates a topic and waits for it.
///
/// # Panics
/// When it is refused.
pub fn create(log: &Log, name: &str, partitions: u32, configs: &[(&str, &str)]) -> Arc<Topic> {
    let (slot, done) = slot();
    log.create_topic(new_topic(name, partitions, configs), done);
    while log.commit() {}
    taken(&slot).expect("created")
}

/// A topic that nobody has created yet.
///
/// # Panics
/// When the name is not a legal one.
pub fn new_topic(name: &str, partitions: u32, configs: &[(&str, &str)]) -> NewTopic {
    let configs = configs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    NewTopic {
        name: TopicName::new(name).expect("legal"),
        partitions,
        configs: configs.collect::<BTreeMap<_, _>>(),
    }
}

/// Appends a batch and waits for the answer.
///
/// # Errors
/// What the log answers.
pub fn append(log: &Log, partition: PartitionId, batch: Batch) -> Result<Appended, AppendError> {
    let (slot, done) = slot();
    log.append(partition, batch, done);
    while log.commit() {}
    taken(&slot)
}

/// A batch of `count` events, the values together about `bytes` long.
pub fn batch(tag: u64, count: usize, bytes: usize, producer: Option<Producer>) -> Batch {
    let mut random = Random(tag);
    let events: Vec<_> = (0..count)
        .map(|index| {
            let mut value = format!("{tag}/{index}/").into_bytes();
            while value.len() < bytes / count {
                value.extend_from_slice(&random.draw().to_le_bytes());
            }
            NewRecord {
                timestamp: 1_700_000_000_000 + i64::try_from(tag).expect("small"),
                value: Some(Bytes::from(value)),
                ..NewRecord::default()
            }
        })
        .collect();
    let bytes = records::encode(&events, Codec::None, producer).expect("encodes");
    Batch::validate(bytes).expect("valid")
}

/// Whole batches from the one that holds an offset, as a server reads what is not new: what is in memory, and where
/// that is not all, as whoever may wait. Only of files that are open anything is in memory, and the first read of a
/// segment may have to open it: so from every second offset on it is less than a segment.
///
/// # Errors
/// See [`ReadError`].
pub fn read_as_served(log: &Log, partition: PartitionId, offset: u64) -> Result<Read, ReadError> {
    let max_bytes = if offset.is_multiple_of(2) { FEW_BYTES } else { MANY_BYTES };
    match log.read_cached(partition, offset, max_bytes)? {
        Some(read) => Ok(read),
        None => log.read(partition, offset, max_bytes, true),
    }
}

/// Every stored batch of a partition: base offset, checksum and event count. No offset is missing.
pub fn stored(log: &Log, partition: PartitionId) -> Vec<(u64, u32, u64)> {
    let found = stored_before_gap(log, partition);
    let ends = log.offsets(partition).expect("exists");
    let end = found.last().map_or(ends.start, |(base, _, count)| base + count);
    assert_eq!(end, ends.high_watermark, "nothing at offset {end} below the watermark");
    found
}

/// As [`stored`], up to the first offset that is missing.
pub fn stored_before_gap(log: &Log, partition: PartitionId) -> Vec<(u64, u32, u64)> {
    let mut found = Vec::new();
    let ends = log.offsets(partition).expect("exists");
    let mut offset = ends.start;
    while offset < ends.high_watermark {
        let read = read_as_served(log, partition, offset).expect("reads");
        if read.bytes.is_empty() {
            break;
        }
        let mut bytes = &read.bytes[..];
        while !bytes.is_empty() {
            let header = courant_log::BatchHeader::parse(bytes).expect("a whole batch");
            let (one, rest) = bytes.split_at(header.total_bytes());
            courant_log::batch::verify_crc(one).expect("intact");
            let base = u64::try_from(header.base_offset).expect("positive");
            if base != offset {
                return found;
            }
            found.push((base, header.crc, u64::try_from(header.record_count).expect("positive")));
            offset = u64::try_from(header.last_offset()).expect("positive") + 1;
            bytes = rest;
        }
    }
    found
}
