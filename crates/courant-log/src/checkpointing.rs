//! Taking a checkpoint: the state at a group boundary, then everything that must be on disk for it to
//! be true, then the checkpoint itself, then what it makes superfluous.

use std::collections::BTreeSet;
use std::ops::Range;
use std::sync::{Arc, PoisonError};

use uuid::Uuid;

use crate::PartitionId;
use crate::checkpoint::{self, Checkpoint, NO_BOOT, PartitionState, encode_producers};
use crate::error::WriterError;
use crate::inner::Inner;
use crate::limits::{BLOCK_BYTES, WRITE_BACK_EARLY_AFTER_MS, WRITE_BACK_REST_TIMES};
use crate::lock;
use crate::metrics::add;
use crate::partition::Tail;
use crate::planted::{Defect, is_planted};
use crate::reserve;
use crate::segment::{FileKind, Segment, SegmentState, remove_partitions, remove_segments};
use crate::storage::StorageError;
use crate::writer::{Dirty, LastCheckpoint, Writer, sync_segments};

/// The state of the log at a group boundary, and what must be synced before it is true on disk.
struct Capture {
    checkpoint: Checkpoint,
    producers: Vec<u8>,
    dirty: Vec<Captured>,
    new_names: BTreeSet<PartitionId>,
    /// Segments that are durable already, and that this checkpoint is the first to name.
    products: Vec<Arc<Segment>>,
}

/// A segment to sync.
struct Captured {
    dirty: Dirty,
    /// Whole blocks that its sidecar must have.
    done: usize,
    /// Bytes that the checkpoint covers.
    bytes: u64,
}

impl Inner {
    /// Makes everything that is committed durable in the segments and frees the journal behind it.
    ///
    /// A full storage only puts the checkpoint off, and so does a process that may open no more files:
    /// nothing was lost, the journal still has it all, and it is tried again when the journal needs the
    /// room, and from time to time. Every other error ends the writer.
    pub(crate) fn checkpoint(&self) -> Result<(), WriterError> {
        let _one_at_a_time = lock(&self.checkpointing);
        let capture = {
            let mut writer = lock(&self.writer);
            if self.is_closed() {
                return Err(WriterError::Stopped);
            }
            // A group that failed has ended the writer before it gave its lock back, and one that
            // panicked has poisoned it: what they had queued must never be taken for committed.
            self.check_whole()?;
            if writer.journal.is_behind() {
                // Nothing in a checkpoint is ahead of the journal.
                writer.sync_journal(&*self.config.clock).map_err(|error| self.end(&error))?;
                add(&self.counters.syncs, 1);
            }
            self.capture(&mut writer)
        };
        let mut stored = self.handles.making_room(|| self.store(&capture));
        if stored.as_ref().is_err_and(StorageError::is_full) && reserve::give_up(&*self.storage) {
            stored = self.handles.making_room(|| self.store(&capture));
        }
        match stored {
            Ok(()) => Ok(()),
            Err(error) if error.is_full() => {
                tracing::warn!(%error, "no room for a checkpoint; it is tried again later");
                self.put_off(capture);
                Err(self.disk_full())
            }
            Err(error) if error.is_out_of_files() => {
                tracing::warn!(%error, "no file is left for a checkpoint; it is tried again later");
                // Its own may be there already, under its number: the next one gets another, so that
                // neither stands beside the other's snapshot.
                lock(&self.writer).checkpoint.sequence += 1;
                self.put_off(capture);
                Err(WriterError::OutOfFiles)
            }
            Err(error) => Err(self.end(&error)),
        }
    }

    /// Takes the state at a group boundary: the writer's lock is held from prepare to publish.
    fn capture(&self, writer: &mut Writer) -> Capture {
        let sequence = writer.checkpoint.sequence + 1;
        let mut partitions: Vec<_> = writer.tails.values().map(partition_state).collect();
        partitions.sort_by_key(|partition| partition.id);
        let tails = writer.tails.values().map(|tail| (tail.id(), &tail.producers));
        let producers = encode_producers(sequence, tails);
        writer.unsynced_most = 0;
        let dirty = std::mem::take(&mut writer.dirty).into_values();
        let dirty = dirty.map(|dirty| {
            let blocks = dirty.segment.blocks();
            let (done, bytes) = (blocks.done().len(), blocks.filled());
            drop(blocks);
            Captured { dirty, done, bytes }
        });
        Capture {
            dirty: dirty.collect(),
            new_names: std::mem::take(&mut writer.new_names),
            products: std::mem::take(&mut writer.products),
            producers,
            checkpoint: Checkpoint {
                log_id: self.id,
                sequence,
                previous_crc: writer.checkpoint.crc,
                generation: writer.journal.generation(),
                position: writer.journal.position(),
                next_partition: writer.next_partition,
                next_producer_id: writer.producer_ids_end,
                topics: writer.catalog.topics().map(|topic| (**topic).clone()).collect(),
                partitions,
                deleted: writer.deleted.clone(),
                deleted_segments: writer.deleted_segments.clone(),
                ceilings: ceilings(writer),
                gaps: gaps(writer),
                boot: if self.is_stopped() { Uuid::nil() } else { self.storage.boot().unwrap_or(NO_BOOT) },
                groups: self.groups.read().unwrap_or_else(PoisonError::into_inner).clone(),
            },
        }
    }

    /// Syncs the segments that have grown much since they were synced, so that a checkpoint finds little left
    /// to do. Changes nothing of what recovery believes: see `docs/decisions/0009-segments-are-synced-ahead.md`.
    ///
    /// A checkpoint must not sync the same files meanwhile: who syncs second is not told of an error.
    pub(crate) fn write_back(&self) {
        let _no_checkpoint = lock(&self.checkpointing);
        let clock = &*self.config.clock;
        let grown = {
            let mut writer = lock(&self.writer);
            if !writer.is_write_back_due(clock) || self.is_closed() || self.ended.get().is_some() {
                return;
            }
            writer.take_grown()
        };
        let begun_ms = clock.elapsed_ms();
        for (segment, file) in grown {
            if let Err(source) = file.sync_data() {
                if is_planted(Defect::ErrorAheadPassedOver) {
                    continue;
                }
                self.end(&StorageError::new("sync", &segment.path(FileKind::Segment), source));
                return;
            }
        }
        let ended_ms = clock.elapsed_ms();
        let rest_ms = ended_ms.saturating_sub(begun_ms).saturating_mul(WRITE_BACK_REST_TIMES);
        lock(&self.writer).write_back_early_at_ms =
            ended_ms.saturating_add(rest_ms.max(WRITE_BACK_EARLY_AFTER_MS));
    }

    /// Everything captured is still to be synced, the names of its files included.
    fn put_off(&self, capture: Capture) {
        let mut writer = lock(&self.writer);
        let mut again: Vec<_> = capture.dirty.into_iter().map(|captured| captured.dirty).collect();
        // What was deleted in the meantime is not synced again: its files may go at any time.
        again.retain(|Dirty { segment, .. }| {
            let tail = writer.tails.get(&segment.header.partition);
            tail.is_some_and(|tail| tail.shared.has_segment(segment.key()))
        });
        for Dirty { segment, file, unsynced_bytes } in again {
            writer.new_names.insert(segment.header.partition);
            let newer = writer.dirty.remove(&segment.key()).unwrap_or_else(|| Dirty::new(segment.clone()));
            let (file, unsynced_bytes) = (file.or(newer.file), unsynced_bytes + newer.unsynced_bytes);
            writer.dirty.insert(segment.key(), Dirty { segment, file, unsynced_bytes });
        }
        let mut names = capture.new_names;
        names.retain(|partition| writer.tails.contains_key(partition));
        writer.new_names.extend(names);
        writer.products.extend(capture.products);
    }

    fn store(&self, capture: &Capture) -> Result<(), StorageError> {
        let checkpoint = &capture.checkpoint;
        self.sync_segments(capture)?;
        let bytes = checkpoint.encode();
        checkpoint::store(&*self.storage, &bytes, checkpoint.sequence, &capture.producers)?;
        add(&self.counters.checkpoints, 1);
        for Captured { dirty, done, bytes } in &capture.dirty {
            dirty.segment.sidecar_has(*done);
            dirty.segment.checkpoint_covers(*bytes);
        }
        for product in &capture.products {
            product.checkpoint_covers(product.published());
        }
        let crc = bytes.last_chunk::<4>().map_or(0, |crc| u32::from_le_bytes(*crc));
        let grows_by = self.has_room_for_a_file().then_some(self.config.journal_file_bytes);
        let surplus = {
            let mut writer = lock(&self.writer);
            let Checkpoint { sequence, position, generation, .. } = *checkpoint;
            writer.checkpoint = LastCheckpoint { sequence, crc, position };
            writer.journal.checkpoint = sequence;
            writer.release(generation, self.config.journal_files, grows_by)
        };
        // From here on everything is durable: what cannot be removed only takes room.
        for file in surplus {
            if let Err(error) = self.storage.remove_file(&file.path) {
                tracing::warn!(path = %file.path, %error, "a journal file too many stays");
            }
        }
        self.remove_deleted(checkpoint);
        // A new sidecar takes a block.
        let room = bytes.len() + capture.producers.len() + capture.dirty.len() * BLOCK_BYTES;
        self.keep_reserve(room as u64);
        Ok(())
    }

    fn sync_segments(&self, capture: &Capture) -> Result<(), StorageError> {
        let dirty: Vec<_> = capture.dirty.iter().map(|captured| (&captured.dirty, captured.done)).collect();
        sync_segments(&*self.storage, &dirty, &capture.new_names)
    }

    /// Removes the files of partitions and segments whose deletion the durable checkpoint records. What
    /// fails is tried again after the next one.
    fn remove_deleted(&self, checkpoint: &Checkpoint) {
        if !checkpoint.deleted.is_empty() {
            for partition in &checkpoint.deleted {
                self.handles.forget(*partition);
            }
            let removed = remove_partitions(&*self.storage, &checkpoint.deleted);
            lock(&self.writer).deleted.retain(|partition| !removed.contains(partition));
        }
        if !checkpoint.deleted_segments.is_empty() {
            self.handles.forget_segments(&checkpoint.deleted_segments);
            let removed = remove_segments(&*self.storage, &checkpoint.deleted_segments);
            lock(&self.writer).deleted_segments.retain(|key| !removed.contains(key));
        }
    }
}

/// The partitions that may have given out offsets of events that are not durable.
fn ceilings(writer: &Writer) -> Vec<(PartitionId, u64)> {
    let above = writer.tails.values().filter(|tail| tail.ceiling > 0);
    let mut ceilings: Vec<_> = above.map(|tail| (tail.id(), tail.ceiling)).collect();
    ceilings.sort_unstable();
    ceilings
}

/// Damaged events that were given up.
fn gaps(writer: &Writer) -> Vec<(PartitionId, Range<u64>)> {
    let gaps = |tail: &Tail| {
        let id = tail.id();
        tail.shared.gaps().into_iter().map(move |gap| (id, gap))
    };
    writer.tails.values().flat_map(gaps).collect()
}

fn partition_state(tail: &Tail) -> PartitionState {
    let segments = tail.shared.segments();
    let segments = segments.iter().map(|segment| SegmentState::of(segment));
    PartitionState {
        id: tail.id(),
        start: tail.shared.offsets().start,
        next_offset: tail.next_offset,
        segments: segments.collect(),
    }
}
