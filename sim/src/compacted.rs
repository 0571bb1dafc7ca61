//! What compaction may take away: an event that a newer one of its key supersedes, and a tombstone, if
//! no older event of its key is left. Everything else is there, at its offset.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use bytes::Bytes;
use courant_log::batch::records::{self, NewRecord, Producer, Record};
use courant_log::{Batch, BatchHeader, Codec, Log, Offsets, PartitionId};

use crate::ledger::{PartitionHistory, Sent};
use crate::random::Random;
use crate::tiny::{append, read_as_served};

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
    timestamp: i64,
    key: u64,
    /// How it begins, and how long it is; `None`: a tombstone.
    value: Option<(String, usize)>,
}

/// One event of a batch, with a value of at least `width` bytes.
fn event(tag: u64, index: usize, width: usize) -> Event {
    let mut random = Random(tag * 1_000 + index as u64);
    let key = random.below(KEYS);
    let is_tombstone = random.below(TOMBSTONES) == 0;
    let value = (!is_tombstone).then(|| format!("{tag}/{index}"));
    let value = value.map(|value| {
        let len = value.len().max(width);
        (value, len)
    });
    Event { timestamp: 1_700_000_000_000 + i64::try_from(tag).expect("small"), key, value }
}

/// A batch of `count` events with keys, about `bytes` long before it is compressed.
pub(crate) fn keyed_batch(tag: u64, count: usize, bytes: usize, producer: Option<Producer>) -> Batch {
    let record = |index: usize| {
        let Event { timestamp, key, value } = event(tag, index, bytes / count);
        NewRecord {
            timestamp,
            key: Some(Bytes::from(format!("key-{key}"))),
            value: value.map(|(value, len)| Bytes::from(format!("{value:-<len$}"))),
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
    judge(ends, history, &records_of(log, partition), &[]);
}

/// Looks at every record that a reader got of a compacted partition, in the order in which it got them, and
/// at the offsets that it was refused. An event that a newer one supersedes may be there or not.
///
/// # Panics
/// When a record was never appended so, or the newest of a key is neither there nor refused.
pub(crate) fn judge(ends: Offsets, history: &PartitionHistory, records: &[Record], refused: &[Range<u64>]) {
    let starts = history.starts.possible();
    assert!(starts.contains(&ends.start), "begins at {}, which is none of {starts:?}", ends.start);
    let there = appended(history, ends.high_watermark);
    assert!(
        there.len() >= history.acknowledged,
        "lost: {} of {} acknowledged",
        there.len(),
        history.acknowledged
    );
    let events = |sent: &Sent| {
        let Sent { tag, count, bytes, .. } = *sent;
        (0..count).map(move |index| event(tag, index, bytes / count))
    };
    let sent: Vec<Event> = there.iter().flat_map(events).collect();
    let mut found = BTreeSet::new();
    for record in records {
        let offset = u64::try_from(record.offset).expect("positive");
        // A batch may begin before the partition does.
        if offset < ends.start {
            continue;
        }
        let event = sent.get(offset as usize);
        assert_eq!(Some(&read(record)), event, "offset {offset} was never sent so");
        assert!(found.insert(offset) && found.last() == Some(&offset), "offset {offset} comes twice or late");
    }
    let mut newest: BTreeMap<u64, u64> = BTreeMap::new();
    for (offset, event) in (0..).zip(&sent) {
        newest.insert(event.key, offset);
    }
    for (key, newest) in newest.into_iter().filter(|(_, newest)| *newest >= ends.start) {
        if found.contains(&newest) || refused.iter().any(|refused| refused.contains(&newest)) {
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
    let value = record.value.as_ref();
    let value = value.map(|value| (text(value).trim_end_matches('-').to_owned(), value.len()));
    Event { timestamp: record.timestamp, key, value }
}

/// The records of a whole batch.
pub(crate) fn records_in(batch: &[u8]) -> Vec<Record> {
    records::decode(batch, DECOMPRESSED_BYTES_MAX).expect("intact")
}

/// Every batch that a reader gets, record by record, in order.
fn records_of(log: &Log, partition: PartitionId) -> Vec<Record> {
    let mut found = Vec::new();
    let ends = log.offsets(partition).expect("exists");
    let mut offset = ends.start;
    while offset < ends.high_watermark {
        let mut bytes = read_as_served(log, partition, offset).expect("reads").bytes;
        if bytes.is_empty() {
            break;
        }
        while !bytes.is_empty() {
            let header = BatchHeader::parse(&bytes).expect("a whole batch");
            let one = bytes.split_to(header.total_bytes());
            let end = u64::try_from(header.last_offset()).expect("positive") + 1;
            assert!(end > offset, "a batch comes twice at {offset}");
            found.extend(records_in(&one));
            offset = end;
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use courant_log::storage::FaultyStorage;

    use super::*;
    use crate::tiny::{create, open};
    use crate::{CAP_BYTES, caught};

    /// A partition of which nothing is compacted yet, and what a reader gets of it.
    struct Filled {
        ends: Offsets,
        history: PartitionHistory,
        records: Vec<Record>,
    }

    impl Filled {
        fn new() -> Self {
            let log = open(&FaultyStorage::new(1, CAP_BYTES), 1);
            let partition = create(&log, "orders", 1, &CONFIGS).partitions[0];
            let mut history = PartitionHistory::default();
            for tag in 1..=10 {
                append(&log, partition, keyed_batch(tag, 10, 1_000, None)).expect("appended");
                history.sent.push(Sent { tag, count: 10, bytes: 1_000, producer: None, crc: 0 });
                history.acknowledged += 1;
            }
            let ends = log.offsets(partition).expect("exists");
            Self { ends, history, records: records_of(&log, partition) }
        }

        /// Judges those records that stay, of which some may be refused.
        fn judged(&self, stays: impl Fn(&Record) -> bool, refused: Option<Range<u64>>) -> Result<(), String> {
            let records: Vec<_> = self.records.iter().filter(|record| stays(record)).cloned().collect();
            caught(|| judge(self.ends, &self.history, &records, refused.as_slice()))
        }

        /// The newest record of one key that was deleted in the end, or of one that was not.
        fn newest(&self, is_tombstone: bool) -> &Record {
            let mut of_kind = self.records.iter().filter(|record| record.value.is_none() == is_tombstone);
            of_kind.rfind(|record| self.is_newest(record)).expect("there is such a key")
        }

        fn is_newest(&self, record: &Record) -> bool {
            self.records.iter().all(|other| other.key != record.key || other.offset <= record.offset)
        }
    }

    #[test]
    fn what_is_superseded_may_be_there_or_not() {
        let filled = Filled::new();
        let superseded = filled.records.iter().filter(|record| !filled.is_newest(record)).count();
        assert!(superseded > 50, "{superseded}");
        assert_eq!(filled.judged(|_| true, None), Ok(()));
        assert_eq!(filled.judged(|record| filled.is_newest(record), None), Ok(()));
        let is_even_or_newest = |record: &Record| record.offset % 2 == 0 || filled.is_newest(record);
        assert_eq!(filled.judged(is_even_or_newest, None), Ok(()));
    }

    #[test]
    fn the_last_value_of_a_key_is_there_or_refused() {
        let filled = Filled::new();
        let newest = filled.newest(false);
        let offset = u64::try_from(newest.offset).unwrap();
        let lost = filled.judged(|record| record != newest, None).unwrap_err();
        assert!(lost.contains("lost: the newest event of key"), "{lost}");
        // Also where all other keys have their last values and no more.
        let lost = filled.judged(|record| record != newest && filled.is_newest(record), None).unwrap_err();
        assert!(lost.contains("lost: the newest event of key"), "{lost}");
        assert_eq!(filled.judged(|record| record != newest, Some(offset..offset + 1)), Ok(()));
        for elsewhere in [offset + 1..offset + 2, 0..offset] {
            assert!(filled.judged(|record| record != newest, Some(elsewhere)).is_err());
        }
    }

    #[test]
    fn a_tombstone_goes_after_what_it_deletes() {
        let filled = Filled::new();
        let tombstone = filled.newest(true);
        assert_eq!(filled.judged(|record| record.key != tombstone.key, None), Ok(()));
        let back = filled.judged(|record| record != tombstone, None).unwrap_err();
        assert!(back.contains("was deleted at") && back.contains("is back"), "{back}");
    }

    #[test]
    fn every_record_is_as_it_was_appended_and_in_its_place() {
        let never_sent = |change: fn(&mut [Record])| {
            let mut filled = Filled::new();
            change(&mut filled.records);
            filled.judged(|_| true, None).unwrap_err()
        };
        let changes: [fn(&mut [Record]); 4] = [
            |records| records[5].offset += 1,
            |records| records[5].timestamp += 1,
            |records| records[5].key = Some(Bytes::from("key-99")),
            |records| records[5].value = Some(Bytes::from("1/50")),
        ];
        for change in changes {
            let reason = never_sent(change);
            assert!(reason.contains("was never sent so"), "{reason}");
        }
        let late = never_sent(|records| records.swap(5, 6));
        assert!(late.contains("comes twice or late"), "{late}");
    }
}
