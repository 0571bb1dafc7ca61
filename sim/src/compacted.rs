//! What compaction may take away: an event that a newer one of its key supersedes, and a tombstone, if
//! no older event of its key is left. Everything else is there, at its offset.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use courant_log::batch::records::{self, NewRecord, Producer, Record};
use courant_log::{Batch, BatchHeader, Codec, Log, PartitionId};

use crate::ledger::{PartitionHistory, Sent};
use crate::random::Random;
use crate::tiny::append;

/// Keys of all events. Few, so that most events are superseded.
const KEYS: u64 = 20;
/// One of so many events is a tombstone.
const TOMBSTONES: u64 = 5;
const DECOMPRESSED_BYTES_MAX: usize = 1024 * 1024;

/// Configs of a topic whose segments are compacted as soon as they are sealed.
pub(crate) const CONFIGS: [(&str, &str); 4] = [
    ("cleanup.policy", "compact"),
    ("segment.bytes", "40000"),
    ("min.cleanable.dirty.ratio", "0"),
    ("delete.retention.ms", "0"),
];

/// What an event says, as far as it is compared: a rewritten batch has another checksum.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Event {
    key: u64,
    /// `None`: a tombstone.
    value: Option<String>,
}

fn event(tag: u64, index: usize) -> Event {
    let mut random = Random(tag * 1_000 + index as u64);
    let key = random.below(KEYS);
    let is_tombstone = random.below(TOMBSTONES) == 0;
    Event { key, value: (!is_tombstone).then(|| format!("{tag}/{index}")) }
}

/// A batch of `count` events with keys, about `bytes` long before it is compressed.
pub(crate) fn keyed_batch(tag: u64, count: usize, bytes: usize, producer: Option<Producer>) -> Batch {
    let record = |index: usize| {
        let Event { key, value } = event(tag, index);
        NewRecord {
            timestamp: 1_700_000_000_000 + i64::try_from(tag).expect("small"),
            key: Some(Bytes::from(format!("key-{key}"))),
            value: value.map(|value| Bytes::from(format!("{value:-<width$}", width = bytes / count))),
            ..NewRecord::default()
        }
    };
    let codec = if tag.is_multiple_of(3) { Codec::Lz4 } else { Codec::None };
    let events: Vec<_> = (0..count).map(record).collect();
    let bytes = records::encode(&events, codec, producer).expect("encodes");
    Batch::validate(bytes).expect("valid")
}

/// Looks at everything that a compacted partition has.
pub(crate) fn check(log: &Log, partition: PartitionId, history: &PartitionHistory) {
    let ends = log.offsets(partition).expect("exists");
    let starts = history.starts.possible();
    assert!(starts.contains(&ends.start), "begins at {}, which is none of {starts:?}", ends.start);
    let there = appended(history, ends.high_watermark);
    assert!(
        there.len() >= history.acknowledged,
        "lost: {} of {} acknowledged in {partition:?}",
        there.len(),
        history.acknowledged
    );
    let sent: Vec<Event> =
        there.iter().flat_map(|sent| (0..sent.count).map(|index| event(sent.tag, index))).collect();
    let mut found = BTreeSet::new();
    for record in records_of(log, partition) {
        let offset = u64::try_from(record.offset).expect("positive");
        let event = sent.get(offset as usize);
        assert_eq!(Some(&read(&record)), event, "offset {offset} was never sent so");
        assert!(found.insert(offset) && found.last() == Some(&offset), "offset {offset} comes twice or late");
    }
    let mut newest: BTreeMap<u64, u64> = BTreeMap::new();
    for (offset, event) in (0..).zip(&sent) {
        newest.insert(event.key, offset);
    }
    for (key, newest) in newest.into_iter().filter(|(_, newest)| *newest >= ends.start) {
        if found.contains(&newest) {
            continue;
        }
        assert_eq!(sent[newest as usize].value, None, "lost: the newest event of key {key}, at {newest}");
        let older = found.iter().find(|offset| sent[**offset as usize].key == key);
        assert_eq!(older, None, "key {key} was deleted at {newest}, and is back");
    }
}

/// The newest batch that was appended: the log must know it when it comes again.
pub(crate) fn check_repetition(log: &Log, partition: PartitionId, history: &PartitionHistory) {
    let before = log.offsets(partition).expect("exists");
    let there = appended(history, before.high_watermark);
    let Some(sent) = there.last().filter(|sent| sent.producer.is_some()) else {
        return;
    };
    let again = append(log, partition, keyed_batch(sent.tag, sent.count, sent.bytes, sent.producer));
    let base_offset = before.high_watermark - sent.count as u64;
    assert_eq!(again.expect("acknowledged again").base_offset, base_offset);
    assert_eq!(log.offsets(partition), Some(before), "a repetition was appended");
}

/// The batches below an offset, which is the end of one of them.
fn appended(history: &PartitionHistory, end: u64) -> &[Sent] {
    let mut offset = 0;
    let count = history
        .sent
        .iter()
        .take_while(|sent| {
            offset += sent.count as u64;
            offset <= end
        })
        .count();
    let there = &history.sent[..count];
    let events: usize = there.iter().map(|sent| sent.count).sum();
    assert_eq!(events as u64, end, "the partition ends within a batch, or with one that nobody sent");
    there
}

fn read(record: &Record) -> Event {
    let text = |bytes: &Bytes| String::from_utf8(bytes.to_vec()).expect("text");
    let key = text(record.key.as_ref().expect("a key"));
    let key = key.strip_prefix("key-").and_then(|key| key.parse().ok()).expect("a key that was sent");
    Event { key, value: record.value.as_ref().map(|value| text(value).trim_end_matches('-').to_owned()) }
}

/// Every event that a reader gets, in order.
fn records_of(log: &Log, partition: PartitionId) -> Vec<Record> {
    let mut found = Vec::new();
    let ends = log.offsets(partition).expect("exists");
    let mut offset = ends.start;
    while offset < ends.high_watermark {
        let mut bytes = log.read(partition, offset, 256 * 1024, true).expect("reads").bytes;
        if bytes.is_empty() {
            break;
        }
        while !bytes.is_empty() {
            let header = BatchHeader::parse(&bytes).expect("a whole batch");
            let one = bytes.split_to(header.total_bytes());
            let end = u64::try_from(header.last_offset()).expect("positive") + 1;
            assert!(end > offset, "a batch comes twice at {offset}");
            let records = records::decode(&one, DECOMPRESSED_BYTES_MAX).expect("intact");
            let is_wanted = |record: &Record| record.offset >= i64::try_from(ends.start).expect("small");
            found.extend(records.into_iter().filter(is_wanted));
            offset = end;
        }
    }
    found
}
