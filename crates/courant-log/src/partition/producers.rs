//! Sequences of idempotent producers (KIP-98): which batch is new, which is a repetition.
//!
//! For each producer id the last five batches are remembered, because clients keep at most five
//! requests in flight. The state follows what is queued, not only what is durable: the committer
//! checks in arrival order, and a repetition is acknowledged together with or after its original.

use std::collections::{BTreeMap, VecDeque};

use crate::batch::BatchHeader;
use crate::limits::{BATCHES_PER_PRODUCER, PRODUCERS_PER_PARTITION_MAX};

/// One remembered batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ProducerBatch {
    pub(crate) first_sequence: i32,
    pub(crate) last_sequence: i32,
    pub(crate) base_offset: u64,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Producer {
    epoch: i16,
    batches: VecDeque<ProducerBatch>,
    /// Offset of the newest batch: who has written last is forgotten last.
    last_offset: u64,
}

/// An idempotent producer as a partition knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProducerState {
    /// Its id.
    pub id: i64,
    /// Its epoch.
    pub epoch: i16,
    /// Sequence of its newest event; -1 when its batches are not remembered.
    pub last_sequence: i32,
    /// Offset of its newest event.
    pub last_offset: u64,
}

/// What to do with a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Append,
    /// The batch is in the log already, at this offset.
    Duplicate {
        base_offset: u64,
    },
    OutOfOrder {
        expected: i32,
    },
    StaleEpoch,
    /// The producer's sequences are not known, and this is not its first batch.
    Unknown,
}

/// All producers of one partition.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Producers {
    by_id: BTreeMap<i64, Producer>,
}

impl Producers {
    pub(crate) fn check(&self, header: &BatchHeader) -> Verdict {
        if !header.has_producer() {
            return Verdict::Append;
        }
        let first = header.base_sequence;
        let Some(producer) = self.by_id.get(&header.producer_id) else {
            return if first == 0 { Verdict::Append } else { Verdict::Unknown };
        };
        if header.producer_epoch < producer.epoch {
            return Verdict::StaleEpoch;
        }
        if header.producer_epoch > producer.epoch {
            return if first == 0 { Verdict::Append } else { Verdict::OutOfOrder { expected: 0 } };
        }
        let same = |batch: &&ProducerBatch| {
            batch.first_sequence == first && batch.last_sequence == header.last_sequence()
        };
        if let Some(batch) = producer.batches.iter().find(same) {
            return Verdict::Duplicate { base_offset: batch.base_offset };
        }
        let expected = producer.batches.back().map_or(0, |batch| next_sequence(batch.last_sequence));
        if first == expected { Verdict::Append } else { Verdict::OutOfOrder { expected } }
    }

    /// Every producer, by id.
    pub(crate) fn states(&self) -> Vec<ProducerState> {
        let state = |(id, producer): (&i64, &Producer)| ProducerState {
            id: *id,
            epoch: producer.epoch,
            last_sequence: producer.batches.back().map_or(-1, |batch| batch.last_sequence),
            last_offset: producer.last_offset,
        };
        let mut states: Vec<_> = self.by_id.iter().map(state).collect();
        states.sort_unstable_by_key(|state| state.id);
        states
    }

    /// Remembers a batch that was given its offset.
    pub(crate) fn record(&mut self, header: &BatchHeader, base_offset: u64) {
        if !header.has_producer() {
            return;
        }
        let batch = ProducerBatch {
            first_sequence: header.base_sequence,
            last_sequence: header.last_sequence(),
            base_offset,
        };
        let last_offset = base_offset + u64::try_from(header.last_offset_delta).unwrap_or(0);
        self.insert(header.producer_id, header.producer_epoch, batch, last_offset);
        if self.by_id.len() > PRODUCERS_PER_PARTITION_MAX {
            self.forget_oldest();
        }
    }

    fn insert(&mut self, id: i64, epoch: i16, batch: ProducerBatch, last_offset: u64) {
        let fresh =
            || Producer { epoch, batches: VecDeque::with_capacity(BATCHES_PER_PRODUCER), last_offset };
        let producer = self.by_id.entry(id).or_insert_with(fresh);
        if producer.epoch != epoch {
            producer.epoch = epoch;
            producer.batches.clear();
        }
        if producer.batches.len() == BATCHES_PER_PRODUCER {
            producer.batches.pop_front();
        }
        producer.batches.push_back(batch);
        producer.last_offset = last_offset;
    }

    /// Forgets the tenth that has been silent longest, so that the cost of looking is paid rarely.
    fn forget_oldest(&mut self) {
        let mut last: Vec<_> = self.by_id.values().map(|producer| producer.last_offset).collect();
        last.sort_unstable();
        let oldest_kept = last[last.len() / 10];
        self.by_id.retain(|_, producer| producer.last_offset >= oldest_kept);
    }

    /// Every producer with its epoch, last offset and batches, oldest batch first; for a snapshot.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (i64, i16, u64, &VecDeque<ProducerBatch>)> {
        let producers = self.by_id.iter();
        producers.map(|(id, producer)| (*id, producer.epoch, producer.last_offset, &producer.batches))
    }

    pub(crate) fn len(&self) -> usize {
        self.by_id.len()
    }

    /// Takes over one producer of a snapshot.
    pub(crate) fn restore(
        &mut self,
        id: i64,
        epoch: i16,
        last_offset: u64,
        batches: VecDeque<ProducerBatch>,
    ) {
        self.by_id.insert(id, Producer { epoch, batches, last_offset });
    }
}

/// Sequences wrap to 0 behind `i32::MAX`.
fn next_sequence(last: i32) -> i32 {
    if last == i32::MAX { 0 } else { last + 1 }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(producer_id: i64, producer_epoch: i16, base_sequence: i32, record_count: i32) -> BatchHeader {
        BatchHeader {
            base_offset: 0,
            batch_length: 49,
            leader_epoch: 0,
            crc: 0,
            attributes: 0,
            last_offset_delta: record_count - 1,
            base_timestamp: 0,
            max_timestamp: 0,
            producer_id,
            producer_epoch,
            base_sequence,
            record_count,
        }
    }

    fn after(batches: &[(i32, i32)]) -> Producers {
        let mut producers = Producers::default();
        let mut offset = 100;
        for (sequence, count) in batches {
            producers.record(&header(7, 1, *sequence, *count), offset);
            offset += u64::try_from(*count).expect("positive");
        }
        producers
    }

    #[test]
    fn verdicts() {
        let producers = after(&[(0, 10), (10, 5), (15, 1)]);
        let cases = [
            (header(7, 1, 16, 4), Verdict::Append),
            (header(7, 1, 10, 5), Verdict::Duplicate { base_offset: 110 }),
            (header(7, 1, 10, 4), Verdict::OutOfOrder { expected: 16 }),
            (header(7, 1, 17, 1), Verdict::OutOfOrder { expected: 16 }),
            (header(7, 0, 16, 1), Verdict::StaleEpoch),
            (header(7, 2, 0, 1), Verdict::Append),
            (header(7, 2, 16, 1), Verdict::OutOfOrder { expected: 0 }),
            (header(8, 0, 0, 1), Verdict::Append),
            (header(8, 0, 3, 1), Verdict::Unknown),
            (header(-1, -1, -1, 1), Verdict::Append),
        ];
        for (header, verdict) in cases {
            assert_eq!(producers.check(&header), verdict, "{header:?}");
        }
    }

    #[test]
    fn the_sixth_last_batch_is_forgotten() {
        let producers = after(&[(0, 1), (1, 1), (2, 1), (3, 1), (4, 1), (5, 1)]);
        assert_eq!(producers.check(&header(7, 1, 0, 1)), Verdict::OutOfOrder { expected: 6 });
        assert_eq!(producers.check(&header(7, 1, 1, 1)), Verdict::Duplicate { base_offset: 101 });
    }

    #[test]
    fn sequences_wrap() {
        let producers = after(&[(i32::MAX - 1, 2)]);
        assert_eq!(producers.check(&header(7, 1, 0, 3)), Verdict::Append);
        let producers = after(&[(i32::MAX, 2)]);
        assert_eq!(producers.check(&header(7, 1, 1, 3)), Verdict::Append);
    }

    #[test]
    fn the_number_of_producers_is_bounded() {
        let mut producers = Producers::default();
        for id in 0..(PRODUCERS_PER_PARTITION_MAX as i64 * 2) {
            producers.record(&header(id, 0, 0, 1), id as u64);
        }
        assert!(producers.len() <= PRODUCERS_PER_PARTITION_MAX);
        let newest = PRODUCERS_PER_PARTITION_MAX as i64 * 2 - 1;
        assert!(matches!(producers.check(&header(newest, 0, 0, 1)), Verdict::Duplicate { .. }));
    }
}
