//! The end of a partition as the committer sees it: queued state, ahead of what readers see by at
//! most the group under way.

use std::sync::Arc;

use super::{Partition, PartitionId, Producers};
use crate::batch::BatchHeader;
use crate::durability::{CEILING_STEP, PartitionRules};
use crate::segment::{HEADER_BYTES, Segment, SegmentHeader};

/// The writable end of one partition.
#[derive(Debug)]
pub(crate) struct Tail {
    pub(crate) shared: Arc<Partition>,
    /// Offset of the oldest event.
    pub(crate) start: u64,
    pub(crate) next_offset: u64,
    pub(crate) segment: Arc<Segment>,
    pub(crate) producers: Producers,
    pub(crate) rules: PartitionRules,
    /// Offsets below it may have been given out and seen without being on disk; 0 where all are.
    pub(crate) ceiling: u64,
    /// Bytes of the segment with everything that is queued for it; 0 before its first batch.
    filled: u64,
    /// Timestamp at which the segment began, as far as its batches say.
    began_ms: Option<i64>,
}

/// Where a batch goes.
#[derive(Debug)]
pub(crate) struct Placement {
    pub(crate) segment: Arc<Segment>,
    pub(crate) position: u64,
    pub(crate) base_offset: u64,
}

impl Tail {
    pub(crate) fn new(
        shared: Arc<Partition>,
        next_offset: u64,
        segment: Arc<Segment>,
        producers: Producers,
        rules: PartitionRules,
    ) -> Self {
        let filled = segment.published();
        let began_ms = segment.blocks().first_timestamp();
        let start = shared.offsets().start;
        Self { shared, start, next_offset, segment, producers, rules, ceiling: 0, filled, began_ms }
    }

    pub(crate) fn id(&self) -> PartitionId {
        self.shared.id
    }

    /// Whether the segment has no batch yet.
    pub(crate) fn is_empty(&self) -> bool {
        self.filled == 0
    }

    /// Whether a batch begins a new segment: because of its bytes, because the segment is old, or because
    /// its end is damaged. A segment takes at least one batch.
    pub(crate) fn is_full_for(&self, header: &BatchHeader, batch_bytes: u64) -> bool {
        let age_ms = self.began_ms.map_or(0, |began| header.newest_timestamp().saturating_sub(began));
        let limits = self.rules.segment;
        let is_full = self.filled + batch_bytes > limits.bytes || age_ms > limits.age_ms;
        !self.is_empty() && (is_full || self.segment.is_closed())
    }

    /// The ceiling that has to be on disk before a batch is seen; `None`: it is.
    pub(crate) fn next_ceiling(&self, header: &BatchHeader) -> Option<u64> {
        let end = self.next_offset + u64::try_from(header.last_offset_delta).unwrap_or(0) + 1;
        let is_needed = self.rules.durability.is_relaxed() && end > self.ceiling;
        is_needed.then(|| end.saturating_add(CEILING_STEP))
    }

    /// After the machine was started anew: what was given out and is not there any more is never given
    /// out again.
    pub(crate) fn resume_at_ceiling(&mut self, generation: u64) {
        if self.ceiling > self.next_offset {
            self.next_offset = self.ceiling;
            self.roll(generation);
        }
    }

    /// Begins a new segment with the next offset, unless an empty one begins there already.
    pub(crate) fn roll(&mut self, generation: u64) {
        if self.is_empty() && self.segment.header.base_offset == self.next_offset {
            return;
        }
        let header =
            SegmentHeader { base_offset: self.next_offset, generation, number: 0, ..self.segment.header };
        self.segment = Arc::new(Segment::new(header));
        self.shared.add_segment(self.segment.clone());
        self.filled = 0;
        self.began_ms = None;
    }

    /// Gives a batch its offset and place.
    pub(crate) fn place(&mut self, header: &BatchHeader, batch_bytes: u64) -> Placement {
        if self.filled == 0 {
            self.filled = HEADER_BYTES as u64;
            self.began_ms = Some(header.newest_timestamp()).filter(|began| *began >= 0);
        }
        let base_offset = self.next_offset;
        let placement = Placement { segment: self.segment.clone(), position: self.filled, base_offset };
        self.producers.record(header, base_offset);
        self.next_offset += u64::try_from(header.last_offset_delta).unwrap_or(0) + 1;
        self.filled += batch_bytes;
        placement
    }
}
