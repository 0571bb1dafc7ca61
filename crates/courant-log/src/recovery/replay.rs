//! Replaying the journal: from entries to the state that the committer had when it wrote them.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::PartitionId;
use crate::batch::BatchHeader;
use crate::groups::Groups;
use crate::journal::{AppendPart, Entry, ScanError};
use crate::partition::Reader;
use crate::segment::{FileKind, Handles, Reach, Segment, SegmentKey, SegmentState, WrittenBatch};
use crate::storage::Storage;
use crate::writer::{Dirty, Writer};

/// Applies journal entries to the state, as the committer did when it wrote them.
pub(super) struct Replay<'a> {
    pub(super) storage: &'a dyn Storage,
    pub(super) handles: &'a Handles,
    pub(super) writer: &'a mut Writer,
    pub(super) groups: &'a mut Groups,
    /// Partitions of which a compacted segment is missing.
    pub(super) uncompacted: &'a mut BTreeSet<PartitionId>,
    /// Segments of which the file is open, to be synced.
    pub(super) open: &'a mut Vec<SegmentKey>,
}

impl Replay<'_> {
    pub(super) fn entry(
        &mut self,
        generation: u64,
        position: u64,
        entry: Entry<'_>,
    ) -> Result<(), ScanError> {
        let contradiction = |what: String| ScanError::Contradiction { position, what };
        match entry {
            Entry::Append(parts) => {
                for part in parts {
                    self.append(generation, position, &part)?;
                }
            }
            Entry::TopicCreated { id, name, configs, first, count } => {
                if first.0 < self.writer.next_partition || self.writer.catalog.by_name(&name).is_some() {
                    return Err(contradiction(format!("topic {name} is created twice")));
                }
                self.writer.apply_topic_created(id, &name, configs, first, count, generation);
            }
            Entry::TopicConfigured { id, configs } => {
                let configured = self.writer.apply_topic_configured(&id, configs);
                configured.ok_or_else(|| contradiction(format!("topic {id} is set and does not exist")))?;
            }
            Entry::PartitionsAdded { id, first, count } => {
                let fresh = first.0 >= self.writer.next_partition;
                let added = fresh.then(|| self.writer.apply_partitions_added(&id, first, count, generation));
                added.flatten().ok_or_else(|| contradiction(format!("topic {id} cannot grow by {count}")))?;
            }
            Entry::TopicDeleted { id } => {
                let deleted = self.writer.apply_topic_deleted(&id);
                let deleted = deleted
                    .ok_or_else(|| contradiction(format!("topic {id} is deleted and does not exist")))?;
                self.groups.forget(&deleted.partitions);
            }
            Entry::RecordsDeleted { partition, start } => {
                let begun = self.writer.apply_records_deleted(partition, start, generation);
                let begun = begun
                    .ok_or_else(|| contradiction(format!("partition {partition} cannot begin at {start}")))?;
                self.writer.drop_segments(&begun, start);
            }
            Entry::Ceiling { partition, ceiling } => {
                let tail = self.writer.tails.get_mut(&partition);
                tail.ok_or_else(|| contradiction(format!("partition {partition} does not exist")))?.ceiling =
                    ceiling;
            }
            Entry::GapAccepted { partition, offsets } => {
                let tail = self.writer.tails.get(&partition).filter(|tail| offsets.end <= tail.next_offset);
                let tail =
                    tail.ok_or_else(|| contradiction(format!("partition {partition} has no such gap")))?;
                tail.shared.accept_gap(offsets);
            }
            Entry::SegmentsReplaced { partition, end_offset, product } => {
                self.replace(position, partition, end_offset, &product)?;
            }
            Entry::Group { name, change } => self.groups.apply(&name, change),
            Entry::SegmentCreated { partition, base_offset } => {
                let tail = self.writer.tails.get_mut(&partition);
                let tail = tail.filter(|tail| tail.next_offset == base_offset).ok_or_else(|| {
                    contradiction(format!("partition {partition} has no segment to begin at {base_offset}"))
                })?;
                tail.roll(generation);
            }
            Entry::ProducerIds { next } => {
                self.writer.next_producer_id = next;
                self.writer.producer_ids_end = next;
            }
        }
        Ok(())
    }

    /// Puts a compacted segment in the place of others, which are there as long as no checkpoint covers
    /// it. Where it is not there, they stay: it said the same in less room. A restored backup has none.
    /// Then all that the partition's later ones replace stays too: what they no longer hold may be what
    /// kept older events of a key away.
    fn replace(
        &mut self,
        position: u64,
        partition: PartitionId,
        end_offset: u64,
        product: &SegmentState,
    ) -> Result<(), ScanError> {
        let tail = self.writer.tails.get(&partition).map(|tail| tail.shared.clone());
        let contradiction = || ScanError::Contradiction {
            position,
            what: format!(
                "partition {partition} has no segments from {} to {end_offset}",
                product.base_offset
            ),
        };
        let shared = tail.ok_or_else(contradiction)?;
        if self.uncompacted.contains(&partition) {
            return Ok(());
        }
        let recorded = product.recorded(self.writer.log_id, partition, end_offset);
        let reopened = Segment::reopen(self.storage, self.handles, &recorded)?;
        let segment = Arc::new(reopened.segment);
        if reopened.flaw.is_some() {
            let path = segment.path(FileKind::Segment);
            tracing::warn!(path, "the compacted segment is not there; the ones that it was made of stay");
            self.uncompacted.insert(partition);
            return Ok(());
        }
        self.writer.apply_replaced(&shared, end_offset, segment.clone()).ok_or_else(contradiction)?;
        if reopened.is_sidecar_lost {
            self.writer.dirty.insert(segment.key(), Dirty::new(segment));
        }
        Ok(())
    }

    fn append(&mut self, generation: u64, position: u64, part: &AppendPart<'_>) -> Result<(), ScanError> {
        let contradiction = |what: String| ScanError::Contradiction { position, what };
        let partition = part.partition;
        let header = BatchHeader::parse(part.batch).map_err(|error| contradiction(error.to_string()))?;
        let tail = self.writer.tails.get_mut(&partition);
        let tail = tail.ok_or_else(|| contradiction(format!("partition {partition} does not exist")))?;
        if tail.next_offset != part.base_offset {
            let what =
                format!("partition {partition} is at offset {}, not {}", tail.next_offset, part.base_offset);
            return Err(contradiction(what));
        }
        let reader = Reader {
            storage: self.storage,
            handles: self.handles,
            partition: &tail.shared,
            reach: Reach::Disk,
        };
        if !reader.is_fit_to_grow(&tail.segment) {
            // Nothing is added behind damage.
            tail.roll(generation);
        }
        let placement = tail.place(&header, part.batch.len() as u64);
        let batch = WrittenBatch {
            offset: placement.base_offset,
            max_timestamp: header.newest_timestamp(),
            bytes: part.batch,
        };
        let segment = placement.segment;
        self.writer.write_replayed(self.storage, self.handles, self.open, &segment, batch)?;
        Ok(())
    }
}
