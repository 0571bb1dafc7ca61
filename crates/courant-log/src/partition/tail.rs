//! The end of a partition as the committer sees it: queued state, ahead of what readers see by at
//! most the group under way.

use std::sync::Arc;

use super::{Partition, PartitionId, Producers};
use crate::batch::BatchHeader;
use crate::segment::{HEADER_BYTES, Segment, SegmentHeader};

/// The writable end of one partition.
#[derive(Debug)]
pub(crate) struct Tail {
    pub(crate) shared: Arc<Partition>,
    pub(crate) next_offset: u64,
    pub(crate) segment: Arc<Segment>,
    pub(crate) producers: Producers,
    /// Bytes of the segment with everything that is queued for it; 0 before its first batch.
    filled: u64,
    segment_bytes_max: u64,
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
        segment_bytes_max: u64,
    ) -> Self {
        let filled = segment.published();
        Self { shared, next_offset, segment, producers, filled, segment_bytes_max }
    }

    pub(crate) fn id(&self) -> PartitionId {
        self.shared.id
    }

    /// Whether a batch of that many bytes begins a new segment. A segment takes at least one batch.
    pub(crate) fn is_full_for(&self, batch_bytes: u64) -> bool {
        self.filled > 0 && self.filled + batch_bytes > self.segment_bytes_max
    }

    /// Begins a new segment with the next offset.
    pub(crate) fn roll(&mut self, generation: u64) {
        let header = SegmentHeader { base_offset: self.next_offset, generation, ..self.segment.header };
        self.segment = Arc::new(Segment::new(header));
        self.shared.add_segment(self.segment.clone());
        self.filled = 0;
    }

    /// Gives a batch its offset and place.
    pub(crate) fn place(&mut self, header: &BatchHeader, batch_bytes: u64) -> Placement {
        if self.filled == 0 {
            self.filled = HEADER_BYTES as u64;
        }
        let base_offset = self.next_offset;
        let placement = Placement { segment: self.segment.clone(), position: self.filled, base_offset };
        self.producers.record(header, base_offset);
        self.next_offset += u64::try_from(header.last_offset_delta).unwrap_or(0) + 1;
        self.filled += batch_bytes;
        placement
    }
}
