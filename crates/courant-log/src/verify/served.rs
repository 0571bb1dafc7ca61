//! What a start would serve: what the checkpoint names, and what the journal's entries behind it make of that.
//!
//! They are followed as a start follows them, and nothing is changed. Of segments that the journal has begun, a
//! start discards the bytes and writes them anew: there is nothing to look at but the journal. What compaction
//! has put in the place of others is in its files alone.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use uuid::Uuid;

use super::recorded;
use crate::batch::BatchHeader;
use crate::catalog::{Catalog, Topic};
use crate::checkpoint::Checkpoint;
use crate::journal::{AppendPart, Entry, ScanError};
use crate::limits::PARTITIONS_PER_TOPIC_MAX;
use crate::partition::{Damages, PartitionId};
use crate::segment::{FileKind, Handles, Recorded, Segment, SegmentState};
use crate::storage::{OpenMode, Storage};

/// A segment of a partition.
#[derive(Clone, Copy, Debug)]
struct Part {
    base_offset: u64,
    /// What its files must be; none where the journal alone says it.
    recorded: Option<Recorded>,
}

/// A partition as a start would have it.
#[derive(Debug, Default)]
struct Tail {
    /// In the order of their offsets; never none.
    parts: Vec<Part>,
    next_offset: u64,
    /// A compacted segment of it is not whole: none that was made after it counts either.
    is_uncompacted: bool,
    /// What of it was given up or deleted.
    damages: Damages,
}

impl Tail {
    fn begin_part(&mut self, base_offset: u64) {
        if self.parts.last().is_none_or(|newest| newest.base_offset != base_offset) {
            self.parts.push(Part { base_offset, recorded: None });
        }
    }

    /// The parts that begin with the one and end with the other offset.
    fn run_of(&self, offsets: &Range<u64>) -> Option<Range<usize>> {
        let at = |offset: u64| self.parts.binary_search_by_key(&offset, |part| part.base_offset).ok();
        let run = at(offsets.start)?..at(offsets.end)?;
        (!run.is_empty()).then_some(run)
    }
}

/// Topics, partitions and segments as a start would have them.
#[derive(Debug)]
pub(super) struct Served<'a> {
    storage: &'a dyn Storage,
    handles: Handles,
    log_id: Uuid,
    catalog: Catalog,
    tails: BTreeMap<PartitionId, Tail>,
    next_partition: u64,
    /// Compacted segments that are there and not whole, each with the offset behind it and its path. What they were
    /// made of is served in their place.
    pub(super) unusable: Vec<(PartitionId, u64, String)>,
}

impl<'a> Served<'a> {
    /// As the checkpoint has it.
    pub(super) fn of(storage: &'a dyn Storage, log_id: Uuid, checkpoint: &Checkpoint) -> Self {
        let mut catalog = Catalog::default();
        checkpoint.topics.iter().for_each(|topic| catalog.insert(Arc::new(topic.clone())));
        let tails = checkpoint.partitions.iter().map(|state| {
            let parts = recorded(log_id, state).map(|recorded| Part {
                base_offset: recorded.header.base_offset,
                recorded: Some(recorded).filter(|recorded| recorded.bytes > 0),
            });
            let parts = parts.collect();
            let gaps = checkpoint.gaps.iter().filter(|(partition, _)| *partition == state.id);
            let gaps = gaps.map(|(_, offsets)| offsets.clone()).collect();
            let damages = Damages::with_gaps(state.start, gaps);
            (state.id, Tail { parts, next_offset: state.next_offset, is_uncompacted: false, damages })
        });
        Self {
            storage,
            handles: Handles::default(),
            log_id,
            tails: tails.collect(),
            catalog,
            next_partition: checkpoint.next_partition,
            unusable: Vec::new(),
        }
    }

    /// In the order of names.
    pub(super) fn topics(&self) -> impl Iterator<Item = &Arc<Topic>> {
        self.catalog.topics()
    }

    /// Segments that have files to look at; none where no record says which segments the partition has.
    pub(super) fn segments(&self, partition: PartitionId) -> Option<impl Iterator<Item = &Recorded>> {
        Some(self.tails.get(&partition)?.parts.iter().filter_map(|part| part.recorded.as_ref()))
    }

    /// Whether all events that damage in a segment takes with it were given up or deleted: readers pass them.
    pub(super) fn is_given_up(
        &self,
        partition: PartitionId,
        damaged: Option<&Range<u64>>,
        segment: &Recorded,
    ) -> bool {
        let segment = segment.header.base_offset..segment.end_offset;
        self.tails.get(&partition).is_some_and(|tail| tail.damages.have_given_up(damaged, &segment))
    }

    /// Follows an entry behind the checkpoint.
    ///
    /// # Errors
    /// [`ScanError::Contradiction`] where a start would be refused, [`ScanError::Storage`].
    pub(super) fn learn(&mut self, position: u64, entry: Entry<'_>) -> Result<(), ScanError> {
        let contradiction = |what: String| ScanError::Contradiction { position, what };
        match entry {
            Entry::Append(parts) => parts.iter().try_for_each(|part| self.append(position, part)),
            Entry::TopicCreated { id, name, configs, first, count } => {
                if first.0 < self.next_partition || self.catalog.by_name(&name).is_some() {
                    return Err(contradiction(format!("topic {name} is created twice")));
                }
                let partitions = self.begin_partitions(first, count);
                self.catalog.insert(Arc::new(Topic { id, name, partitions, configs }));
                Ok(())
            }
            Entry::PartitionsAdded { id, first, count } => {
                let is_fresh = first.0 >= self.next_partition;
                let topic = self.catalog.by_id(&id).filter(|_| is_fresh).cloned();
                let topic =
                    topic.ok_or_else(|| contradiction(format!("topic {id} cannot grow by {count}")))?;
                let mut topic = Topic::clone(&topic);
                topic.partitions.extend(self.begin_partitions(first, count));
                self.catalog.insert(Arc::new(topic));
                Ok(())
            }
            Entry::TopicConfigured { id, .. } => match self.catalog.by_id(&id) {
                Some(_) => Ok(()),
                None => Err(contradiction(format!("topic {id} is set and does not exist"))),
            },
            Entry::TopicDeleted { id } => {
                let deleted = self.catalog.remove(&id);
                let deleted = deleted
                    .ok_or_else(|| contradiction(format!("topic {id} is deleted and does not exist")))?;
                deleted.partitions.iter().for_each(|partition| drop(self.tails.remove(partition)));
                self.unusable.retain(|(partition, ..)| !deleted.partitions.contains(partition));
                Ok(())
            }
            Entry::SegmentCreated { partition, base_offset } => {
                let tail = self.tail(position, partition)?;
                if tail.next_offset != base_offset {
                    let what = format!("partition {partition} has no segment to begin at {base_offset}");
                    return Err(contradiction(what));
                }
                tail.begin_part(base_offset);
                Ok(())
            }
            Entry::RecordsDeleted { partition, start } => self.delete_records(position, partition, start),
            Entry::SegmentsReplaced { partition, end_offset, product } => {
                self.replace(position, partition, end_offset, &product)
            }
            Entry::Ceiling { partition, .. } => self.tail(position, partition).map(|_| ()),
            Entry::GapAccepted { partition, offsets } => {
                let tail = self.tail(position, partition)?;
                if offsets.end > tail.next_offset {
                    return Err(contradiction(format!("partition {partition} has no such gap")));
                }
                tail.damages.accept(offsets);
                Ok(())
            }
            Entry::ProducerIds { .. } | Entry::Group { .. } => Ok(()),
        }
    }

    fn tail(&mut self, position: u64, partition: PartitionId) -> Result<&mut Tail, ScanError> {
        let what = || format!("partition {partition} does not exist");
        let tail = self.tails.get_mut(&partition);
        tail.ok_or_else(|| ScanError::Contradiction { position, what: what() })
    }

    fn begin_partitions(&mut self, first: PartitionId, count: u32) -> Vec<PartitionId> {
        let count = u64::from(count.min(PARTITIONS_PER_TOPIC_MAX));
        let end = first.0.saturating_add(count);
        let ids: Vec<_> = (first.0..end).map(PartitionId).collect();
        for id in &ids {
            let mut tail = Tail::default();
            tail.begin_part(0);
            self.tails.insert(*id, tail);
        }
        self.next_partition = end;
        ids
    }

    fn append(&mut self, position: u64, part: &AppendPart<'_>) -> Result<(), ScanError> {
        let contradiction = |what: String| ScanError::Contradiction { position, what };
        let header = BatchHeader::parse(part.batch).map_err(|error| contradiction(error.to_string()))?;
        let tail = self.tail(position, part.partition)?;
        if tail.next_offset != part.base_offset {
            let AppendPart { partition, base_offset, .. } = part;
            let next = tail.next_offset;
            return Err(contradiction(format!(
                "partition {partition} is at offset {next}, not {base_offset}"
            )));
        }
        let events = u64::try_from(header.last_offset_delta).unwrap_or(0).saturating_add(1);
        tail.next_offset = tail.next_offset.saturating_add(events);
        Ok(())
    }

    /// Segments whose successor begins at or below the new beginning are no more. Where that is the end of the
    /// partition, an empty one takes the place of the last.
    fn delete_records(&mut self, position: u64, partition: PartitionId, start: u64) -> Result<(), ScanError> {
        let tail = self.tail(position, partition)?;
        if start > tail.next_offset {
            let what = format!("partition {partition} cannot begin at {start}");
            return Err(ScanError::Contradiction { position, what });
        }
        if start == tail.next_offset {
            tail.begin_part(start);
        }
        tail.damages.begin_at(start);
        let begins_above = tail.parts.partition_point(|part| part.base_offset <= start);
        tail.parts.drain(..begins_above.saturating_sub(1));
        self.unusable.retain(|(other, end_offset, _)| *other != partition || *end_offset > start);
        Ok(())
    }

    /// A compacted segment counts where a start would take it. Where it is not there, nothing is wrong: a restored
    /// backup has none.
    fn replace(
        &mut self,
        position: u64,
        partition: PartitionId,
        end_offset: u64,
        product: &SegmentState,
    ) -> Result<(), ScanError> {
        if self.tail(position, partition)?.is_uncompacted {
            return Ok(());
        }
        let recorded = product.recorded(self.log_id, partition, end_offset);
        let is_whole = Segment::reopen(self.storage, &self.handles, &recorded)?.flaw.is_none();
        if !is_whole {
            let path = product.key(partition).path(FileKind::Segment);
            if self.storage.open(&path, OpenMode::Existing).is_ok() {
                self.unusable.push((partition, end_offset, path));
            }
        }
        let tail = self.tail(position, partition)?;
        tail.is_uncompacted = !is_whole;
        let offsets = product.base_offset..end_offset;
        let what = || format!("partition {partition} has no segments from {} to {end_offset}", offsets.start);
        match tail.run_of(&offsets) {
            _ if !is_whole => Ok(()),
            None => Err(ScanError::Contradiction { position, what: what() }),
            Some(run) => {
                let product = Part { base_offset: offsets.start, recorded: Some(recorded) };
                drop(tail.parts.splice(run, [product]));
                Ok(())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::MemoryStorage;

    const TOPIC: Uuid = Uuid::from_u128(7);
    const PARTITION: PartitionId = PartitionId(1);

    fn created() -> Entry<'static> {
        let (name, configs) = ("orders".to_owned(), BTreeMap::new());
        Entry::TopicCreated { id: TOPIC, name, configs, first: PARTITION, count: 2 }
    }

    #[test]
    fn what_a_start_would_refuse_contradicts() {
        let storage = MemoryStorage::new(1024);
        let mut served = Served {
            storage: &storage,
            handles: Handles::default(),
            log_id: Uuid::nil(),
            catalog: Catalog::default(),
            tails: BTreeMap::new(),
            next_partition: 1,
            unusable: Vec::new(),
        };
        served.learn(0, created()).expect("nothing is there");
        served.learn(0, Entry::SegmentCreated { partition: PARTITION, base_offset: 0 }).expect("it is empty");
        let (other, nobodys) = (Uuid::from_u128(8), PartitionId(9));
        let refused = [
            created(),
            Entry::PartitionsAdded { id: TOPIC, first: PARTITION, count: 1 },
            Entry::PartitionsAdded { id: other, first: nobodys, count: 1 },
            Entry::TopicConfigured { id: other, configs: BTreeMap::new() },
            Entry::TopicDeleted { id: other },
            Entry::SegmentCreated { partition: PARTITION, base_offset: 5 },
            Entry::RecordsDeleted { partition: PARTITION, start: 1 },
            Entry::Ceiling { partition: nobodys, ceiling: 1 },
            Entry::GapAccepted { partition: nobodys, offsets: 0..0 },
            Entry::GapAccepted { partition: PARTITION, offsets: 0..1 },
        ];
        for entry in refused {
            let shown = format!("{entry:?}");
            let learned = served.learn(3, entry);
            assert!(
                matches!(learned, Err(ScanError::Contradiction { position: 3, .. })),
                "{shown}: {learned:?}"
            );
        }
        served
            .learn(0, Entry::PartitionsAdded { id: TOPIC, first: PartitionId(3), count: 1 })
            .expect("it grows");
        let partitions = served.topics().next().map(|topic| topic.partitions.len());
        assert_eq!((partitions, served.segments(PartitionId(3)).map(Iterator::count)), (Some(3), Some(0)));
        served.learn(0, Entry::TopicDeleted { id: TOPIC }).expect("it is there");
        assert!(served.topics().next().is_none() && served.segments(PARTITION).is_none());
    }
}
