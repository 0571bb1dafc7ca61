//! Events on their way into batches: one queue per partition, each batch within bounds.

use super::{PublishError, Refusal};
use bytes::Bytes;
use courant_log::batch::records::NewRecord;
use std::collections::{BTreeMap, VecDeque};

/// Bytes of keys, values and headers that go into one batch. Below the default `max.message.bytes`
/// (1,048,588) with room for what the format adds. A larger event goes alone.
const BATCH_BYTES_MAX: usize = 900_000;

/// Records in one batch.
const BATCH_RECORDS_MAX: usize = 10_000;

/// Bytes that the format adds to a record, at most, beside its headers.
const RECORD_OVERHEAD_BYTES: usize = 40;

/// What is published.
#[derive(Clone, Debug, Default)]
pub struct Event {
    /// Events with the same key go to the same partition.
    pub key: Option<Bytes>,
    /// `None` is a tombstone.
    pub value: Option<Bytes>,
    /// Names (UTF-8) and values.
    pub headers: Vec<(Bytes, Option<Bytes>)>,
    /// Milliseconds since 1970.
    pub timestamp_ms: i64,
    /// A partition; `None` lets the key decide.
    pub partition: Option<i32>,
}

impl Event {
    fn bytes(&self) -> usize {
        let length = |bytes: &Option<Bytes>| bytes.as_ref().map_or(0, Bytes::len);
        let headers: usize = self.headers.iter().map(|(name, value)| name.len() + length(value) + 10).sum();
        length(&self.key) + length(&self.value) + headers + RECORD_OVERHEAD_BYTES
    }
}

/// Batches that wait, by partition; the first of each may be on its way.
pub(super) type Queues = BTreeMap<i32, VecDeque<Vec<NewRecord>>>;

/// Queues while they are filled.
#[derive(Debug, Default)]
pub(super) struct Filling {
    pub(super) queues: Queues,
    /// Bytes in the last batch of each partition.
    last_bytes: BTreeMap<i32, usize>,
}

impl Filling {
    /// Adds an event to the last batch of its partition, or to a new one when that is full.
    pub(super) fn add(&mut self, partition: i32, event: Event) {
        let bytes = event.bytes();
        let last = self.last_bytes.entry(partition).or_insert(0);
        let batches = self.queues.entry(partition).or_default();
        match batches.back_mut() {
            Some(batch) if *last + bytes <= BATCH_BYTES_MAX && batch.len() < BATCH_RECORDS_MAX => {
                batch.push(new_record(event));
                *last += bytes;
            }
            _ => {
                batches.push_back(vec![new_record(event)]);
                *last = bytes;
            }
        }
    }
}

fn new_record(event: Event) -> NewRecord {
    NewRecord { timestamp: event.timestamp_ms, key: event.key, value: event.value, headers: event.headers }
}

/// Replaces the first batch by its two halves.
pub(super) fn split_first(
    batches: &mut VecDeque<Vec<NewRecord>>,
    topic: &str,
    refusal: Refusal,
) -> Result<(), PublishError> {
    let Some(mut first) = batches.pop_front() else {
        return Ok(());
    };
    if first.len() < 2 {
        let length = |bytes: &Option<Bytes>| bytes.as_ref().map_or(0, Bytes::len);
        let bytes = first.iter().map(|r| length(&r.key) + length(&r.value)).sum();
        return Err(PublishError::TooLarge { topic: topic.to_owned(), bytes, refusal });
    }
    let second = first.split_off(first.len() / 2);
    batches.push_front(second);
    batches.push_front(first);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::ErrorCode;

    #[test]
    fn batches_stay_within_their_bounds_and_a_large_event_goes_alone() {
        let event = |bytes: usize| Event { value: Some(Bytes::from(vec![0; bytes])), ..Event::default() };
        let mut filling = Filling::default();
        for bytes in [10, 2_000_000, 10, 500_000, 500_000] {
            filling.add(0, event(bytes));
        }
        filling.add(1, event(10));
        let sizes =
            |partition: i32| -> Vec<usize> { filling.queues[&partition].iter().map(Vec::len).collect() };
        assert_eq!(sizes(0), [1, 1, 2, 1]);
        assert_eq!(sizes(1), [1]);
        let mut many = Filling::default();
        for _ in 0..=BATCH_RECORDS_MAX {
            many.add(0, event(0));
        }
        assert_eq!(many.queues[&0].len(), 2);
    }

    #[test]
    fn a_batch_that_is_too_large_is_halved_and_one_event_is_an_error() {
        let refusal = Refusal::new(ErrorCode::MESSAGE_TOO_LARGE.0, None);
        let record = |n: u8| new_record(Event { value: Some(Bytes::from(vec![n])), ..Event::default() });
        let mut batches = VecDeque::from([vec![record(1), record(2), record(3)], vec![record(4)]]);
        split_first(&mut batches, "t", refusal.clone()).expect("three can be halved");
        let values: Vec<Vec<u8>> = batches
            .iter()
            .map(|batch| batch.iter().filter_map(|r| Some(r.value.as_ref()?[0])).collect())
            .collect();
        assert_eq!(values, [vec![1], vec![2, 3], vec![4]], "order is kept");
        assert!(matches!(
            split_first(&mut batches, "t", refusal),
            Err(PublishError::TooLarge { bytes: 1, .. })
        ));
    }
}
