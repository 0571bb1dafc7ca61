//! The beginning of a partition in the queued state: it moves forward, by retention or because a
//! client asks, and whole segments go with it.

use std::ops::Range;
use std::sync::Arc;

use super::{Effect, Writer};
use crate::PartitionId;
use crate::error::{AcceptGapError, DeleteRecordsError, ReplaceError};
use crate::journal::EntryWriter;
use crate::partition::Partition;
use crate::queue::Done;
use crate::segment::{Segment, SegmentKey, SegmentState};

impl Writer {
    pub(super) fn delete_records(
        &mut self,
        partition: PartitionId,
        before: u64,
        done: Done<u64, DeleteRecordsError>,
    ) -> Effect {
        let Some(tail) = self.tails.get(&partition) else {
            return Effect::answer(done, Err(DeleteRecordsError::UnknownPartition));
        };
        let (start, end) = (tail.start, tail.shared.offsets().high_watermark);
        if before > end {
            return Effect::answer(done, Err(DeleteRecordsError::OutOfRange { start, end }));
        }
        if before <= start {
            return Effect::answer(done, Ok(start));
        }
        EntryWriter(&mut self.group).records_deleted(partition, before);
        match self.apply_records_deleted(partition, before, self.journal.generation()) {
            Some(partition) => Effect::RecordsDeleted { partition, start: before, done },
            None => Effect::answer(done, Err(DeleteRecordsError::UnknownPartition)),
        }
    }

    pub(super) fn accept_gap(
        &mut self,
        partition: PartitionId,
        offsets: Range<u64>,
        done: Done<(), AcceptGapError>,
    ) -> Effect {
        let Some(tail) = self.tails.get(&partition) else {
            return Effect::answer(done, Err(AcceptGapError::UnknownPartition));
        };
        // Nothing that can be read is ever given up.
        let damage = tail.shared.quarantined();
        let is_damaged = |damage: &Range<u64>| damage.start <= offsets.start && offsets.end <= damage.end;
        if offsets.is_empty() || !damage.iter().any(|damage| is_damaged(&damage.offsets)) {
            return Effect::answer(done, Err(AcceptGapError::NotDamaged));
        }
        EntryWriter(&mut self.group).gap_accepted(partition, &offsets);
        Effect::GapAccepted { partition: tail.shared.clone(), offsets, done }
    }

    /// Refuses what deletions that are queued before it would take away.
    pub(super) fn replace_segments(
        &mut self,
        partition: PartitionId,
        end_offset: u64,
        product: Arc<Segment>,
        done: Done<(), ReplaceError>,
    ) -> Effect {
        let tail = self.tails.get(&partition);
        let shared = tail.filter(|tail| tail.shared.can_replace(&product, end_offset, tail.start));
        let Some(shared) = shared.map(|tail| tail.shared.clone()) else {
            return Effect::answer(done, Err(ReplaceError::Gone));
        };
        EntryWriter(&mut self.group).segments_replaced(partition, end_offset, &SegmentState::of(&product));
        Effect::SegmentsReplaced { partition: shared, end_offset, product, done }
    }

    /// Puts a compacted segment in its place, once that is durable. The files of the old ones go once a
    /// checkpoint covers it. `None`, and nothing is changed, when there are none.
    pub(crate) fn apply_replaced(
        &mut self,
        partition: &Partition,
        end_offset: u64,
        product: Arc<Segment>,
    ) -> Option<Vec<SegmentKey>> {
        let replaced = partition.replace_segments(end_offset, product.clone())?;
        self.products.push(product);
        let replaced: Vec<_> = replaced.iter().map(|segment| segment.key()).collect();
        for key in &replaced {
            self.dirty.remove(key);
        }
        self.deleted_segments.extend(&replaced);
        Some(replaced)
    }

    /// Moves the beginning of a partition in the queued state. `None` when there is no such partition,
    /// or when it does not have that offset.
    pub(crate) fn apply_records_deleted(
        &mut self,
        partition: PartitionId,
        start: u64,
        generation: u64,
    ) -> Option<Arc<Partition>> {
        let tail = self.tails.get_mut(&partition).filter(|tail| start <= tail.next_offset)?;
        tail.start = start;
        if start == tail.next_offset && !tail.is_empty() {
            // A partition always has a segment: an empty one takes the place of the last.
            tail.roll(generation);
        }
        Some(tail.shared.clone())
    }

    /// Takes segments that are wholly below a partition's beginning out of it, once that is durable.
    /// Their files go once a checkpoint covers it.
    pub(crate) fn drop_segments(&mut self, partition: &Partition, start: u64) -> Vec<SegmentKey> {
        let dropped: Vec<_> = partition.begin_at(start).iter().map(|segment| segment.key()).collect();
        for key in &dropped {
            self.dirty.remove(key);
        }
        self.deleted_segments.extend(&dropped);
        dropped
    }
}
