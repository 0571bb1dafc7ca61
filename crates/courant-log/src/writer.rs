//! The state that the committer owns: what is queued, ahead of what is durable by one group at most.

mod dirty;
mod records;
mod topics;

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::Arc;

use courant_core::clock::Clock;
use uuid::Uuid;

use crate::batch::Batch;
use crate::catalog::{Catalog, Topic};
use crate::durability::{Durability, SYNC_AGAIN_AFTER_MS};
use crate::error::{
    AcceptGapError, AppendError, CreateTopicError, DeleteRecordsError, DeleteTopicError, GroupError,
    ReplaceError, WriterError,
};
use crate::groups::GroupChange;
use crate::journal::{EntryWriter, GROUP_HEADER_BYTES, GroupBuffer, JournalWriter, RingFile, capacity_of};
use crate::limits::{GROUP_BYTES_MAX, PRODUCER_ID_BLOCK};
use crate::partition::{Partition, Tail, Verdict};
use crate::queue::{Command, Done};
use crate::segment::{Segment, SegmentKey};
use crate::storage::{File, StorageError};
use crate::{Appended, PartitionId};

pub(crate) use self::dirty::sync_segments;

/// Everything that only the holder of the writer's lock may touch.
#[derive(Debug)]
pub(crate) struct Writer {
    pub(crate) log_id: Uuid,
    pub(crate) journal: JournalWriter,
    pub(crate) tails: BTreeMap<PartitionId, Tail>,
    pub(crate) catalog: Catalog,
    pub(crate) next_partition: u64,
    pub(crate) next_producer_id: u64,
    /// Producer ids below this one are covered by a journal entry.
    pub(crate) producer_ids_end: u64,
    pub(crate) group: GroupBuffer,
    /// The strongest class of the group's entries.
    pub(crate) needs: Durability,
    /// When everything that was written was on disk.
    pub(crate) synced_at_ms: u64,
    /// Events of the class `interval` were written since then.
    pub(crate) interval_waits: bool,
    /// Segments with bytes that no checkpoint covers.
    pub(crate) dirty: BTreeMap<SegmentKey, Dirty>,
    /// The most unsynced bytes that an append has left in one of them, since they were last looked at.
    pub(crate) unsynced_most: u64,
    /// From when on one of them is synced ahead of a checkpoint although it has few unsynced bytes.
    pub(crate) write_back_early_at_ms: u64,
    /// Partitions in whose directory a file was created since the last checkpoint.
    pub(crate) new_names: BTreeSet<PartitionId>,
    /// Partitions whose deletion is durable and whose files may still be there.
    pub(crate) deleted: Vec<PartitionId>,
    /// Segments of which the same is true.
    pub(crate) deleted_segments: Vec<SegmentKey>,
    /// Compacted segments that no checkpoint covers. They are durable, and so is the entry that names them.
    pub(crate) products: Vec<Arc<Segment>>,
    pub(crate) checkpoint: LastCheckpoint,
    pub(crate) next_file_number: u64,
    /// Bytes of the smallest file that the ring may grow by.
    pub(crate) smallest_file_bytes: u64,
    /// The ring grew by a file of full size when it was last to grow, or has not had to yet.
    pub(crate) ring_grows: bool,
    /// An append has waited for a ring that had all of its files.
    pub(crate) ran_dry: bool,
}

/// A segment that no checkpoint covers as it is.
#[derive(Clone, Debug)]
pub(crate) struct Dirty {
    pub(crate) segment: Arc<Segment>,
    /// Open since before the first byte that is to be synced: an error of writing it back is told only to
    /// those who have it open when it happens. `None` when there are no bytes to sync, and perhaps a
    /// sidecar to write.
    pub(crate) file: Option<Arc<dyn File>>,
    /// About how many bytes were written to it since it was synced.
    pub(crate) unsynced_bytes: u64,
}

impl Dirty {
    /// A segment without bytes to sync, as far as is known.
    pub(crate) fn new(segment: Arc<Segment>) -> Self {
        Self { segment, file: None, unsynced_bytes: 0 }
    }
}

/// The newest durable checkpoint.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct LastCheckpoint {
    pub(crate) sequence: u64,
    pub(crate) crc: u32,
    pub(crate) position: u64,
}

/// What a prepared command does once its group is durable.
pub(crate) enum Effect {
    Appended(AppendEffect),
    Duplicate {
        base_offset: u64,
        partition: Arc<Partition>,
        done: Done<Appended, AppendError>,
    },
    Created {
        topic: Arc<Topic>,
        partitions: Vec<Arc<Partition>>,
        done: Done<Arc<Topic>, CreateTopicError>,
    },
    Changed {
        topic: Arc<Topic>,
        partitions: Vec<Arc<Partition>>,
        done: Done<Arc<Topic>, WriterError>,
    },
    Deleted {
        topic: Arc<Topic>,
        done: Done<(), DeleteTopicError>,
    },
    RecordsDeleted {
        partition: Arc<Partition>,
        start: u64,
        done: Done<u64, DeleteRecordsError>,
    },
    GroupChanged {
        name: String,
        change: GroupChange,
        done: Done<(), GroupError>,
    },
    SegmentsReplaced {
        partition: Arc<Partition>,
        end_offset: u64,
        product: Arc<Segment>,
        done: Done<(), ReplaceError>,
    },
    GapAccepted {
        partition: Arc<Partition>,
        offsets: Range<u64>,
        done: Done<(), AcceptGapError>,
    },
    ProducerId {
        id: i64,
        done: Done<i64, WriterError>,
    },
    /// Nothing follows but an answer. It was found in the queued state, which others in the group may have changed, so
    /// it waits for what becomes of the group.
    Answer(Box<dyn FnOnce(Result<(), WriterError>) + Send>),
}

impl Effect {
    /// Answers what was found in the queued state; where the group does not get on disk, that it does not.
    fn answer<T, E>(done: Done<T, E>, found: Result<T, E>) -> Self
    where
        T: Send + 'static,
        E: From<WriterError> + Send + 'static,
    {
        Self::Answer(Box::new(move |group| done(group.map_err(E::from).and(found))))
    }
}

/// One batch of the group.
pub(crate) struct AppendEffect {
    pub(crate) partition: Arc<Partition>,
    pub(crate) segment: Arc<Segment>,
    pub(crate) position: u64,
    pub(crate) base_offset: u64,
    pub(crate) end_offset: u64,
    pub(crate) max_timestamp: i64,
    pub(crate) events: u64,
    /// Where in the group the stored bytes are.
    pub(crate) stored: Range<usize>,
    pub(crate) done: Done<Appended, AppendError>,
}

impl Writer {
    /// Puts a command into the group and says what follows from it. Refusals change nothing.
    pub(crate) fn prepare(
        &mut self,
        command: Command,
        entropy: &dyn courant_core::entropy::Entropy,
    ) -> Effect {
        if !matches!(command, Command::Append { .. }) {
            self.needs = Durability::Sync;
        }
        match command {
            Command::Append { partition, batch, done } => self.append(partition, &batch, done),
            Command::CreateTopic { new, done } => self.create_topic(new, entropy.uuid(), done),
            Command::AlterTopic { id, seen, changes, done } => {
                self.alter_topic(id, seen.as_deref(), changes, done)
            }
            Command::AddPartitions { id, total, done } => self.add_partitions(id, total, done),
            Command::DeleteTopic { id, done } => self.delete_topic(id, done),
            Command::DeleteRecords { partition, before, done } => {
                self.delete_records(partition, before, done)
            }
            Command::AcceptGap { partition, offsets, done } => self.accept_gap(partition, offsets, done),
            Command::ReplaceSegments { partition, end_offset, product, done } => {
                self.replace_segments(partition, end_offset, product, done)
            }
            Command::ChangeGroup { name, change, done } => self.change_group(name, change, done),
            Command::AllocateProducerId { done } => self.allocate_producer_id(done),
        }
    }

    fn append(&mut self, partition: PartitionId, batch: &Batch, done: Done<Appended, AppendError>) -> Effect {
        let generation = self.journal.generation();
        let Some(tail) = self.tails.get_mut(&partition) else {
            return Effect::answer(done, Err(AppendError::UnknownPartition));
        };
        let header = batch.header();
        let bytes = batch.bytes();
        let got = header.base_sequence;
        match tail.producers.check(header) {
            Verdict::Append => {}
            Verdict::Duplicate { base_offset } => {
                return Effect::Duplicate { base_offset, partition: tail.shared.clone(), done };
            }
            Verdict::OutOfOrder { expected } => {
                return Effect::answer(done, Err(AppendError::OutOfOrderSequence { expected, got }));
            }
            Verdict::StaleEpoch => return Effect::answer(done, Err(AppendError::StaleEpoch)),
            Verdict::Unknown => {
                let log_start = tail.start;
                return Effect::answer(done, Err(AppendError::UnknownProducer { log_start }));
            }
        }
        if tail.is_full_for(header, bytes.len() as u64) {
            EntryWriter(&mut self.group).segment_created(partition, tail.next_offset);
            tail.roll(generation);
        }
        self.needs = self.needs.max(tail.rules.durability);
        if let Some(ceiling) = tail.next_ceiling(header) {
            EntryWriter(&mut self.group).ceiling(partition, ceiling);
            tail.ceiling = ceiling;
            self.needs = Durability::Sync;
        }
        let placement = tail.place(header, bytes.len() as u64);
        let stored = EntryWriter(&mut self.group).append(partition, placement.base_offset, bytes);
        Effect::Appended(AppendEffect {
            partition: tail.shared.clone(),
            segment: placement.segment,
            position: placement.position,
            base_offset: placement.base_offset,
            end_offset: tail.next_offset,
            max_timestamp: header.newest_timestamp(),
            events: u64::try_from(header.record_count).unwrap_or(0),
            stored,
            done,
        })
    }

    /// Nothing is committed for a partition whose deletion is queued or done.
    fn change_group(&mut self, name: String, mut change: GroupChange, done: Done<(), GroupError>) -> Effect {
        if let GroupChange::Commit(offsets) = &mut change {
            offsets.retain(|(partition, _)| self.tails.contains_key(partition));
            if offsets.is_empty() {
                return Effect::answer(done, Ok(()));
            }
        }
        EntryWriter(&mut self.group).group(&name, &change);
        Effect::GroupChanged { name, change, done }
    }

    fn allocate_producer_id(&mut self, done: Done<i64, WriterError>) -> Effect {
        if self.next_producer_id == self.producer_ids_end {
            self.producer_ids_end += PRODUCER_ID_BLOCK;
            EntryWriter(&mut self.group).producer_ids(self.producer_ids_end);
        }
        let id = self.next_producer_id;
        self.next_producer_id += 1;
        Effect::ProducerId { id: i64::try_from(id).unwrap_or(i64::MAX), done }
    }

    /// Whether the group that was just written is to be synced before it is answered. What an earlier
    /// group has promised counts as well: behind events of the class `interval` there may be nothing but
    /// such of the class `os` for a long time.
    pub(crate) fn is_sync_due(&mut self, clock: &dyn Clock) -> bool {
        if self.needs == Durability::Sync {
            return true;
        }
        self.interval_waits |= self.needs == Durability::Interval;
        self.is_interval_over(clock)
    }

    /// Whether events of the class `interval` wait, and the last sync is so long ago that nothing else is to be
    /// waited for.
    pub(crate) fn is_interval_over(&self, clock: &dyn Clock) -> bool {
        self.interval_waits && clock.elapsed_ms().saturating_sub(self.synced_at_ms) >= SYNC_AGAIN_AFTER_MS
    }

    /// Puts everything that was written on disk.
    pub(crate) fn sync_journal(&mut self, clock: &dyn Clock) -> Result<(), StorageError> {
        self.journal.sync()?;
        self.synced_at_ms = clock.elapsed_ms();
        self.interval_waits = false;
        Ok(())
    }

    /// Takes the ring files that no durable checkpoint needs any more, once one names `generation`, and returns
    /// those that are to be unlinked: files above `files`, and one of those that a log begins with, where the ring
    /// is too small for what comes. It grows by one of `grows_by` bytes then, as it has grown before. `None`: there
    /// is no room for that.
    pub(crate) fn release(&mut self, generation: u64, files: usize, grows_by: Option<u64>) -> Vec<RingFile> {
        let mut surplus = self.journal.release(generation, files);
        // Where there is no room for a file, or was none the last time, a small one is better than none.
        if let Some(file_bytes) = grows_by
            && self.ran_dry
            && self.ring_grows
            && self.journal.files() >= files
        {
            surplus.extend(self.journal.give_up_small(file_bytes));
        }
        surplus
    }

    /// Bytes of entries that fit, with their header, into every journal file. Files are whole blocks, so
    /// the padding fits too.
    pub(crate) fn group_bytes_max(&self) -> usize {
        let journal = self.journal.group_bytes_max().min(capacity_of(self.smallest_file_bytes));
        let journal = usize::try_from(journal).unwrap_or(usize::MAX);
        journal.saturating_sub(GROUP_HEADER_BYTES).min(GROUP_BYTES_MAX)
    }
}
