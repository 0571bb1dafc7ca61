//! What the entries of the journal change, without the events themselves.

use std::collections::BTreeMap;
use std::ops::Range;

use uuid::Uuid;

use super::NamedPartition;
use super::named::Named;
use crate::groups::GroupChange;
use crate::journal::Entry;
use crate::segment::FileKind;

/// An entry of the journal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InspectedEntry {
    /// Its position in the journal.
    pub position: u64,
    /// Its length, header included.
    pub bytes: u64,
    /// What it changes.
    pub change: InspectedChange,
}

/// What an entry changes. Names of topics are those that they have or had, none where no record that can
/// be read says so.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum InspectedChange {
    /// Batches that become readable together.
    Append(Vec<AppendedBatch>),
    /// A topic begins.
    TopicCreated {
        /// Its id.
        id: Uuid,
        /// Its name.
        name: String,
        /// How many partitions it has.
        partitions: u32,
        /// The configs that were set.
        configs: BTreeMap<String, String>,
    },
    /// A topic is no more.
    TopicDeleted {
        /// Its id.
        id: Uuid,
        /// Its name.
        name: Option<String>,
    },
    /// All configs that are set on a topic from here on.
    TopicConfigured {
        /// Its id.
        id: Uuid,
        /// Its name.
        name: Option<String>,
        /// The configs.
        configs: BTreeMap<String, String>,
    },
    /// A topic gets more partitions.
    PartitionsAdded {
        /// Its id.
        id: Uuid,
        /// Its name.
        name: Option<String>,
        /// How many come.
        partitions: u32,
    },
    /// The partition's next batch begins a new segment.
    SegmentCreated {
        /// The partition.
        partition: NamedPartition,
        /// Offset of the segment's first event.
        base_offset: u64,
    },
    /// Ids below this one may have been given to producers.
    ProducerIds {
        /// The id.
        next: u64,
    },
    /// A consumer group has come so far. What a client keeps beside an offset is not shown.
    OffsetsCommitted {
        /// Name of the group.
        group: String,
        /// The next offset of each partition.
        offsets: Vec<(NamedPartition, u64)>,
    },
    /// What the coordinator of a consumer group keeps has changed.
    GroupStored {
        /// Name of the group.
        group: String,
        /// Bytes of it.
        bytes: u64,
    },
    /// A consumer group forgets how far it has come.
    OffsetsDeleted {
        /// Name of the group.
        group: String,
        /// In these partitions.
        partitions: Vec<NamedPartition>,
    },
    /// A consumer group is no more.
    GroupDeleted {
        /// Name of the group.
        group: String,
    },
    /// The partition's oldest event has this offset from here on.
    RecordsDeleted {
        /// The partition.
        partition: NamedPartition,
        /// The offset.
        start: u64,
    },
    /// Offsets below it may be seen before they are durable.
    Ceiling {
        /// The partition.
        partition: NamedPartition,
        /// The first offset that may not.
        ceiling: u64,
    },
    /// Compaction has put one segment in the place of others.
    SegmentsReplaced {
        /// The partition.
        partition: NamedPartition,
        /// The offsets that they span, the last one excluded.
        offsets: Range<u64>,
        /// The new one, relative to the data directory.
        path: String,
        /// Its length.
        bytes: u64,
    },
    /// Damaged events were given up.
    GapAccepted {
        /// The partition.
        partition: NamedPartition,
        /// Their offsets, the last one excluded.
        offsets: Range<u64>,
    },
}

/// One batch of an append.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AppendedBatch {
    /// Where it belongs.
    pub partition: NamedPartition,
    /// Offset of its first event.
    pub base_offset: u64,
    /// Its length.
    pub bytes: u64,
}

impl InspectedChange {
    pub(super) fn of(entry: Entry<'_>, named: &Named) -> Self {
        match entry {
            Entry::Append(parts) => {
                let batches = parts.into_iter().map(|part| AppendedBatch {
                    partition: named.partition(part.partition),
                    base_offset: part.base_offset,
                    bytes: part.batch.len() as u64,
                });
                Self::Append(batches.collect())
            }
            Entry::TopicCreated { id, name, configs, count, .. } => {
                Self::TopicCreated { id, name, partitions: count, configs }
            }
            Entry::TopicDeleted { id } => Self::TopicDeleted { id, name: named.topic(&id) },
            Entry::TopicConfigured { id, configs } => {
                Self::TopicConfigured { id, name: named.topic(&id), configs }
            }
            Entry::PartitionsAdded { id, count, .. } => {
                Self::PartitionsAdded { id, name: named.topic(&id), partitions: count }
            }
            Entry::SegmentCreated { partition, base_offset } => {
                Self::SegmentCreated { partition: named.partition(partition), base_offset }
            }
            Entry::ProducerIds { next } => Self::ProducerIds { next },
            Entry::Group { name, change } => Self::of_group(name, change, named),
            Entry::RecordsDeleted { partition, start } => {
                Self::RecordsDeleted { partition: named.partition(partition), start }
            }
            Entry::Ceiling { partition, ceiling } => {
                Self::Ceiling { partition: named.partition(partition), ceiling }
            }
            Entry::SegmentsReplaced { partition, end_offset, product } => Self::SegmentsReplaced {
                partition: named.partition(partition),
                offsets: product.base_offset..end_offset,
                path: product.key(partition).path(FileKind::Segment),
                bytes: product.bytes,
            },
            Entry::GapAccepted { partition, offsets } => {
                Self::GapAccepted { partition: named.partition(partition), offsets }
            }
        }
    }

    fn of_group(group: String, change: GroupChange, named: &Named) -> Self {
        match change {
            GroupChange::Commit(offsets) => {
                let offsets = offsets.into_iter().map(|(id, at)| (named.partition(id), at.offset));
                Self::OffsetsCommitted { group, offsets: offsets.collect() }
            }
            GroupChange::Store(state) => Self::GroupStored { group, bytes: state.len() as u64 },
            GroupChange::DeleteOffsets(partitions) => {
                let partitions = partitions.into_iter().map(|id| named.partition(id)).collect();
                Self::OffsetsDeleted { group, partitions }
            }
            GroupChange::Delete => Self::GroupDeleted { group },
        }
    }
}
