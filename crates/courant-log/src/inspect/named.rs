//! What durable records name: the newest checkpoint that verifies, and the journal behind it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use uuid::Uuid;

use super::NamedPartition;
use crate::batch::BatchHeader;
use crate::checkpoint::{self, Checkpoint, CheckpointError};
use crate::journal::{self, AppendPart, Entry, ScanError};
use crate::limits::PARTITIONS_PER_TOPIC_MAX;
use crate::segment::{FirstBatch, Handles, Segment, SegmentKey, SegmentState};
use crate::storage::{Storage, StorageError};
use crate::{PartitionId, Topic};

/// The checkpoint that a start would use.
#[derive(Clone, Copy, Debug)]
pub(super) struct Newest {
    pub(super) sequence: u64,
    pub(super) generation: u64,
    pub(super) position: u64,
}

/// What the checkpoint says of a segment; nothing, for one that the journal has begun.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Covered {
    pub(super) bytes: u64,
    /// Where in the block that was still filling the first batch begins.
    pub(super) open: Option<FirstBatch>,
}

/// What records say of a segment.
#[derive(Clone, Copy, Debug)]
pub(super) enum Standing {
    Named(Covered),
    /// A durable record has deleted it; its files go with the next checkpoint.
    Deleted,
    Nobodys,
    /// Nothing names it, and not all records can be read.
    Unknown,
}

/// Everything that records name.
#[derive(Debug, Default)]
pub(super) struct Named {
    pub(super) newest: Option<Newest>,
    /// Why there may be more than is known here.
    pub(super) problem: Option<String>,
    topics: BTreeMap<Uuid, Topic>,
    owners: BTreeMap<PartitionId, (String, u32)>,
    segments: BTreeMap<SegmentKey, Covered>,
    /// Offsets behind the last events.
    ends: BTreeMap<PartitionId, u64>,
    deleted: BTreeSet<PartitionId>,
    deleted_segments: BTreeSet<SegmentKey>,
    /// Partitions of which a compacted segment is not whole: what it was made of stays, and so does what later ones of
    /// the partition were made of.
    uncompacted: BTreeSet<PartitionId>,
}

impl Named {
    /// Reads checkpoint and journal. Damage there is a `problem` and no error.
    pub(super) fn load(storage: &Arc<dyn Storage>, log_id: Uuid) -> Result<Self, StorageError> {
        let mut named = Self::default();
        let checkpoint = match checkpoint::load(&**storage, log_id) {
            Ok((checkpoint, _)) => checkpoint,
            Err(CheckpointError::Storage(error)) => return Err(error),
            Err(error) => return Ok(Self { problem: Some(error.to_string()), ..named }),
        };
        let from = (checkpoint.generation, checkpoint.position);
        named.take(checkpoint);
        let handles = Handles::default();
        let scanned = journal::scan(storage, log_id, from, |_, _, entry| {
            if named.is_followed(&**storage, &handles, log_id, &entry)? {
                named.learn(&entry);
            }
            Ok(())
        });
        match scanned {
            Ok(_) => {}
            Err(ScanError::Storage(error)) => return Err(error),
            Err(error) => named.problem = Some(error.to_string()),
        }
        Ok(named)
    }

    /// The partition with the name that it has or had.
    pub(super) fn partition(&self, id: PartitionId) -> NamedPartition {
        NamedPartition { id, topic: self.owners.get(&id).cloned() }
    }

    /// The name that the topic has or had.
    pub(super) fn topic(&self, id: &Uuid) -> Option<String> {
        self.topics.get(id).map(|topic| topic.name.clone())
    }

    pub(super) fn segment(&self, key: SegmentKey) -> Standing {
        if self.deleted.contains(&key.partition) || self.deleted_segments.contains(&key) {
            return Standing::Deleted;
        }
        match self.segments.get(&key) {
            Some(covered) => Standing::Named(*covered),
            None if self.problem.is_some() => Standing::Unknown,
            None => Standing::Nobodys,
        }
    }

    /// Notes the names that an entry gives, and nothing else: so entries from before the checkpoint may
    /// come, and those that are known.
    pub(super) fn learn_names(&mut self, entry: &Entry<'_>) {
        match entry {
            Entry::TopicCreated { id, name, configs, first, count } => {
                let (name, configs) = (name.clone(), configs.clone());
                let topic = Topic { id: *id, name, partitions: Vec::new(), configs };
                self.topics.entry(*id).or_insert(topic);
                self.add_partitions(id, *first, *count);
            }
            Entry::PartitionsAdded { id, first, count } => self.add_partitions(id, *first, *count),
            _ => {}
        }
    }

    fn take(&mut self, checkpoint: Checkpoint) {
        let Checkpoint { sequence, generation, position, .. } = checkpoint;
        self.newest = Some(Newest { sequence, generation, position });
        for topic in checkpoint.topics {
            for (number, partition) in (0..).zip(&topic.partitions) {
                self.owners.insert(*partition, (topic.name.clone(), number));
            }
            self.topics.insert(topic.id, topic);
        }
        for state in checkpoint.partitions {
            self.ends.insert(state.id, state.next_offset);
            for segment in state.segments {
                let covered = Covered { bytes: segment.bytes, open: segment.open.first };
                self.segments.insert(segment.key(state.id), covered);
            }
        }
        self.deleted.extend(checkpoint.deleted);
        self.deleted_segments.extend(checkpoint.deleted_segments);
    }

    /// Whether a start follows an entry: it puts no compacted segment in the place of others that is not whole.
    fn is_followed(
        &mut self,
        storage: &dyn Storage,
        handles: &Handles,
        log_id: Uuid,
        entry: &Entry<'_>,
    ) -> Result<bool, StorageError> {
        let Entry::SegmentsReplaced { partition, end_offset, product } = entry else { return Ok(true) };
        if self.uncompacted.contains(partition) {
            return Ok(false);
        }
        let recorded = product.recorded(log_id, *partition, *end_offset);
        let is_whole = Segment::reopen(storage, handles, &recorded)?.flaw.is_none();
        if !is_whole {
            self.uncompacted.insert(*partition);
        }
        Ok(is_whole)
    }

    /// Follows an entry behind the checkpoint.
    fn learn(&mut self, entry: &Entry<'_>) {
        self.learn_names(entry);
        match entry {
            Entry::TopicCreated { first, count, .. } | Entry::PartitionsAdded { first, count, .. } => {
                for partition in ids(*first, *count) {
                    self.begin_segment(partition, 0);
                }
            }
            Entry::Append(parts) => parts.iter().for_each(|part| self.append(part)),
            Entry::SegmentCreated { partition, base_offset } => self.begin_segment(*partition, *base_offset),
            Entry::RecordsDeleted { partition, start } => self.delete_records(*partition, *start),
            Entry::SegmentsReplaced { partition, end_offset, product } => {
                self.replace_segments(*partition, *end_offset, product);
            }
            Entry::TopicDeleted { id } => {
                let topic = self.topics.get(id);
                self.deleted.extend(topic.iter().flat_map(|topic| topic.partitions.iter().copied()));
            }
            // These name no files.
            Entry::TopicConfigured { .. }
            | Entry::ProducerIds { .. }
            | Entry::Group { .. }
            | Entry::Ceiling { .. }
            | Entry::GapAccepted { .. } => {}
        }
    }

    fn add_partitions(&mut self, id: &Uuid, first: PartitionId, count: u32) {
        let Some(topic) = self.topics.get_mut(id).filter(|_| !self.owners.contains_key(&first)) else {
            return;
        };
        for partition in ids(first, count) {
            let number = u32::try_from(topic.partitions.len()).unwrap_or(u32::MAX);
            self.owners.insert(partition, (topic.name.clone(), number));
            topic.partitions.push(partition);
        }
    }

    fn begin_segment(&mut self, partition: PartitionId, base_offset: u64) {
        self.segments.entry(SegmentKey { partition, base_offset, number: 0 }).or_default();
    }

    fn append(&mut self, part: &AppendPart<'_>) {
        if let Ok(header) = BatchHeader::parse(part.batch) {
            let events = u64::try_from(header.last_offset_delta).unwrap_or(0).saturating_add(1);
            self.ends.insert(part.partition, part.base_offset.saturating_add(events));
        }
    }

    /// Segments whose successor begins at or below the partition's new beginning are no more. Where that
    /// is its end, an empty one takes the place of the last.
    fn delete_records(&mut self, partition: PartitionId, start: u64) {
        let mut known = self.segments_from(partition, 0);
        let is_end = self.ends.get(&partition) == Some(&start);
        if is_end && known.last().is_some_and(|newest| newest.base_offset < start) {
            self.begin_segment(partition, start);
            known.push(SegmentKey { partition, base_offset: start, number: 0 });
        }
        for (segment, next) in known.iter().zip(known.iter().skip(1)) {
            if next.base_offset <= start {
                self.delete_segment(*segment);
            }
        }
    }

    /// The old ones are there until a checkpoint covers it.
    fn replace_segments(&mut self, partition: PartitionId, end_offset: u64, product: &SegmentState) {
        for old in self.segments_from(partition, product.base_offset) {
            if old.base_offset < end_offset {
                self.delete_segment(old);
            }
        }
        let covered = Covered { bytes: product.bytes, open: product.open.first };
        self.segments.insert(product.key(partition), covered);
    }

    fn delete_segment(&mut self, segment: SegmentKey) {
        self.segments.remove(&segment);
        self.deleted_segments.insert(segment);
    }

    fn segments_from(&self, partition: PartitionId, base_offset: u64) -> Vec<SegmentKey> {
        let from = SegmentKey { partition, base_offset, number: 0 };
        let known = self.segments.range(from..).map(|(segment, _)| *segment);
        known.take_while(|segment| segment.partition == partition).collect()
    }
}

/// Ids that are given together, never more than a topic may have.
fn ids(first: PartitionId, count: u32) -> impl Iterator<Item = PartitionId> {
    let count = u64::from(count.min(PARTITIONS_PER_TOPIC_MAX));
    (0..count).map(move |index| PartitionId(first.0.saturating_add(index)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::segment::OpenBlock;

    const TOPIC: Uuid = Uuid::from_u128(7);
    const PARTITION: PartitionId = PartitionId(3);

    fn created() -> Named {
        let mut named = Named::default();
        let (name, configs) = ("orders".to_owned(), BTreeMap::new());
        named.learn(&Entry::TopicCreated { id: TOPIC, name, configs, first: PARTITION, count: 2 });
        named
    }

    fn key(partition: PartitionId, base_offset: u64) -> SegmentKey {
        SegmentKey { partition, base_offset, number: 0 }
    }

    fn is_named(named: &Named, base_offset: u64) -> bool {
        matches!(named.segment(key(PARTITION, base_offset)), Standing::Named(_))
    }

    #[test]
    fn partitions_have_names_also_when_they_are_told_of_twice() {
        let mut named = created();
        for _ in 0..2 {
            named.learn(&Entry::PartitionsAdded { id: TOPIC, first: PartitionId(9), count: 1 });
        }
        assert_eq!(named.partition(PartitionId(4)).topic, Some(("orders".to_owned(), 1)));
        assert_eq!(named.partition(PartitionId(9)).to_string(), "orders/2");
        assert_eq!(named.partition(PartitionId(10)).to_string(), "partition id 10");
        assert!(is_named(&named, 0));
        assert!(matches!(named.segment(key(PARTITION, 1)), Standing::Nobodys));
        named.learn(&Entry::TopicDeleted { id: TOPIC });
        assert!(matches!(named.segment(key(PartitionId(9), 0)), Standing::Deleted));
        assert_eq!(named.topic(&TOPIC), Some("orders".to_owned()), "what is gone had a name");
    }

    #[test]
    fn segments_below_the_beginning_are_deleted_and_the_last_one_only_at_the_end() {
        let mut named = created();
        for base_offset in [10, 20] {
            named.learn(&Entry::SegmentCreated { partition: PARTITION, base_offset });
        }
        named.ends.insert(PARTITION, 30);
        named.learn(&Entry::RecordsDeleted { partition: PARTITION, start: 15 });
        assert!(matches!(named.segment(key(PARTITION, 0)), Standing::Deleted));
        assert!(is_named(&named, 10) && is_named(&named, 20));
        assert!(!is_named(&named, 15));
        let first = Some(FirstBatch { at: 64, offset: 12 });
        let product = SegmentState {
            base_offset: 10,
            generation: 1,
            bytes: 500,
            done_crc: 0,
            open: OpenBlock { crc_state: 0, first, max_timestamp: 0 },
            number: 1,
            compacted_ms: 7,
        };
        named.learn(&Entry::SegmentsReplaced { partition: PARTITION, end_offset: 20, product });
        assert!(matches!(named.segment(key(PARTITION, 10)), Standing::Deleted));
        let compacted = SegmentKey { number: 1, ..key(PARTITION, 10) };
        assert!(matches!(named.segment(compacted), Standing::Named(Covered { bytes: 500, .. })));
        named.learn(&Entry::RecordsDeleted { partition: PARTITION, start: 30 });
        assert!(matches!(named.segment(compacted), Standing::Deleted));
        assert!(matches!(named.segment(key(PARTITION, 20)), Standing::Deleted));
        assert!(is_named(&named, 30));
    }
}
