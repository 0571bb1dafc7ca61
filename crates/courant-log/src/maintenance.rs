//! Checkpoints and new journal files, off the committer: it waits for them only when the ring is full.

use std::collections::BTreeSet;
use std::sync::{Condvar, Mutex, PoisonError};

use crate::checkpoint::{self, Checkpoint, PartitionState, SegmentState, encode_producers};
use crate::error::WriterError;
use crate::inner::Inner;
use crate::journal::RingFile;
use crate::limits::DIRTY_FILES_SYNCED_EACH;
use crate::lock;
use crate::metrics::add;
use crate::segment::{self, Segment, partition_dir, remove_partition};
use crate::storage::StorageError;
use crate::writer::{LastCheckpoint, Writer};

/// What the maintenance thread is asked for, and the signal that something was done.
#[derive(Debug, Default)]
pub(crate) struct Maintenance {
    asked: Mutex<Asked>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Asked {
    checkpoint: bool,
    file: bool,
    stop: bool,
    /// Counts what was done, so that a waiter does not miss it.
    rounds: u64,
    busy: bool,
    /// How the last checkpoint failed, if it did.
    failed: Option<WriterError>,
}

impl Maintenance {
    pub(crate) fn notify(&self) {
        let _asked = lock(&self.asked);
        self.changed.notify_all();
    }

    pub(crate) fn stop(&self) {
        lock(&self.asked).stop = true;
        self.changed.notify_all();
    }
}

/// The state of the log at a group boundary, and what must be synced before it is true on disk.
struct Capture {
    checkpoint: Checkpoint,
    producers: Vec<u8>,
    /// Segments to sync, each with the number of whole blocks that its sidecar must have.
    dirty: Vec<(std::sync::Arc<Segment>, usize)>,
    new_names: BTreeSet<crate::PartitionId>,
}

impl Inner {
    /// The maintenance thread.
    pub(crate) fn run_maintenance(&self) {
        loop {
            let (checkpoint, file) = {
                let mut asked = lock(&self.maintenance.asked);
                while !asked.stop && !asked.checkpoint && !asked.file {
                    asked = self
                        .maintenance
                        .changed
                        .wait(asked)
                        .unwrap_or_else(PoisonError::into_inner);
                }
                if asked.stop {
                    return;
                }
                asked.busy = true;
                (
                    std::mem::take(&mut asked.checkpoint),
                    std::mem::take(&mut asked.file),
                )
            };
            if file {
                self.grow_ring();
            }
            // An error is kept: every append that needs the journal's room names it.
            let failed = if checkpoint {
                self.checkpoint().err()
            } else {
                None
            };
            let mut asked = lock(&self.maintenance.asked);
            asked.rounds += 1;
            asked.busy = false;
            if checkpoint {
                asked.failed = failed;
            }
            drop(asked);
            self.maintenance.changed.notify_all();
        }
    }

    /// Asks for what the next groups will need, early enough that they need not wait for it.
    pub(crate) fn ask_for_maintenance(&self, writer: &Writer) {
        if !self.config.background {
            return;
        }
        let journal = &writer.journal;
        let grow = journal.files() < self.config.journal_files && journal.free_files() == 0;
        let since = journal.bytes_since(writer.checkpoint.position);
        let checkpoint = !grow && since > journal.ring_bytes() / 2;
        if grow || checkpoint {
            self.ask(checkpoint, grow);
        }
    }

    fn ask(&self, checkpoint: bool, file: bool) {
        let mut asked = lock(&self.maintenance.asked);
        let news = (checkpoint && !asked.checkpoint) || (file && !asked.file);
        asked.checkpoint |= checkpoint;
        asked.file |= file;
        drop(asked);
        if news {
            self.maintenance.changed.notify_all();
        }
    }

    /// Asks for a checkpoint soon; nobody waits for it.
    pub(crate) fn request_checkpoint(&self) {
        if self.config.background {
            self.ask(true, false);
        }
    }

    /// Returns when a journal file may have become free.
    pub(crate) fn wait_for_journal_file(&self) -> Result<(), WriterError> {
        let can_grow = lock(&self.writer).journal.files() < self.config.journal_files;
        let failed = if self.config.background {
            self.await_maintenance(can_grow)
        } else {
            if can_grow {
                self.grow_ring();
            }
            let helped = lock(&self.writer).journal.free_files() > 0;
            if helped {
                None
            } else {
                self.checkpoint().err()
            }
        };
        self.check_ended()?;
        if lock(&self.writer).journal.free_files() > 0 {
            return Ok(());
        }
        // Neither a checkpoint nor a new file helped: there is no room for either.
        Err(failed.unwrap_or_else(|| self.disk_full()))
    }

    /// Waits for a round of the maintenance thread; returns how its checkpoint failed, if it did.
    fn await_maintenance(&self, file: bool) -> Option<WriterError> {
        let mut asked = lock(&self.maintenance.asked);
        // The round under way may have begun before there was anything to free.
        let rounds = asked.rounds + if asked.busy { 2 } else { 1 };
        asked.checkpoint = true;
        asked.file |= file;
        self.maintenance.changed.notify_all();
        while asked.rounds < rounds && self.ended.get().is_none() {
            asked = self
                .maintenance
                .changed
                .wait(asked)
                .unwrap_or_else(PoisonError::into_inner);
        }
        asked.failed.clone()
    }

    fn disk_full(&self) -> WriterError {
        let free_bytes = self.storage.free_bytes().unwrap_or(0);
        let needed_bytes = self.config.reserve_bytes + self.config.first_journal_file_bytes;
        WriterError::DiskFull {
            free_bytes,
            needed_bytes: needed_bytes.max(free_bytes + 1),
        }
    }

    /// Adds a file to the ring. Without room on the storage the ring stays as small as it is.
    fn grow_ring(&self) {
        let number = {
            let mut writer = lock(&self.writer);
            if writer.journal.files() >= self.config.journal_files {
                return;
            }
            writer.next_file_number += 1;
            writer.next_file_number - 1
        };
        // On a storage that is nearly full the ring makes do with small files.
        let free = self
            .storage
            .free_bytes()
            .unwrap_or(0)
            .saturating_sub(self.config.reserve_bytes);
        let sizes = [
            self.config.journal_file_bytes,
            self.config.first_journal_file_bytes,
        ];
        let Some(file_bytes) = sizes.into_iter().find(|bytes| *bytes <= free) else {
            tracing::debug!("no room for another journal file; a checkpoint will free one");
            self.request_checkpoint();
            return;
        };
        match RingFile::create(&*self.storage, number, file_bytes) {
            Ok(file) => lock(&self.writer).journal.add_free(file),
            Err(error) if error.is_full() => {
                tracing::warn!(%error, "no room for another journal file; a checkpoint will free one");
                self.request_checkpoint();
            }
            Err(error) => {
                self.end(&error);
            }
        }
    }

    /// Makes everything that is committed durable in the segments and frees the journal behind it.
    ///
    /// A full storage only puts the checkpoint off: nothing was lost, the journal still has it all,
    /// and it is tried again when the journal needs the room. Every other error ends the writer.
    pub(crate) fn checkpoint(&self) -> Result<(), WriterError> {
        let _one_at_a_time = lock(&self.checkpointing);
        self.check_ended()?;
        let capture = self.capture();
        let stored = self.store(&capture);
        let error = match stored {
            Ok(()) => return Ok(()),
            Err(error) if error.is_full() => error,
            Err(error) => return Err(self.end(&error)),
        };
        tracing::warn!(%error, "no room for a checkpoint; it is tried again later");
        let mut writer = lock(&self.writer);
        let again = capture
            .dirty
            .into_iter()
            .map(|(segment, _)| (segment.key(), segment));
        let again = again
            .filter(|((partition, _), _)| writer.tails.contains_key(partition))
            .collect::<Vec<_>>();
        writer.dirty.extend(again);
        let names = capture
            .new_names
            .into_iter()
            .filter(|partition| writer.tails.contains_key(partition));
        let names = names.collect::<Vec<_>>();
        writer.new_names.extend(names);
        drop(writer);
        Err(self.disk_full())
    }

    /// Takes the state at a group boundary: the writer's lock is held from prepare to publish.
    fn capture(&self) -> Capture {
        let mut writer = lock(&self.writer);
        let sequence = writer.checkpoint.sequence + 1;
        let mut partitions: Vec<_> = writer.tails.values().map(partition_state).collect();
        partitions.sort_by_key(|partition| partition.id);
        let producers = encode_producers(
            sequence,
            writer
                .tails
                .values()
                .map(|tail| (tail.id(), &tail.producers)),
        );
        let dirty = std::mem::take(&mut writer.dirty).into_values();
        let dirty = dirty.map(|segment| {
            let done = segment.blocks().done().len();
            (segment, done)
        });
        Capture {
            dirty: dirty.collect(),
            new_names: std::mem::take(&mut writer.new_names),
            producers,
            checkpoint: Checkpoint {
                log_id: self.id,
                sequence,
                previous_crc: writer.checkpoint.crc,
                generation: writer.journal.generation(),
                position: writer.journal.position(),
                next_partition: writer.next_partition,
                next_producer_id: writer.producer_ids_end,
                topics: writer
                    .catalog
                    .topics()
                    .map(|topic| (**topic).clone())
                    .collect(),
                partitions,
                deleted: writer.deleted.clone(),
            },
        }
    }

    fn store(&self, capture: &Capture) -> Result<(), StorageError> {
        let storage = &*self.storage;
        let checkpoint = &capture.checkpoint;
        let each = capture.dirty.len() <= DIRTY_FILES_SYNCED_EACH;
        let mut new_names = capture.new_names.clone();
        for (segment, done) in &capture.dirty {
            if segment.checkpoint(storage, &self.handles, *done, each)? {
                new_names.insert(segment.header.partition);
            }
        }
        if each {
            for partition in new_names {
                let dir = partition_dir(partition);
                storage
                    .sync_dir(&dir)
                    .map_err(|source| StorageError::new("sync", &dir, source))?;
            }
            if !capture.dirty.is_empty() {
                let synced = storage.sync_dir(segment::DIR);
                synced.map_err(|source| StorageError::new("sync", segment::DIR, source))?;
            }
        } else {
            storage
                .sync_all()
                .map_err(|source| StorageError::new("sync", "the data directory", source))?;
        }
        let bytes = checkpoint.encode();
        checkpoint::store(storage, &bytes, checkpoint.sequence, &capture.producers)?;
        add(&self.counters.checkpoints, 1);
        let crc = bytes
            .last_chunk::<4>()
            .map_or(0, |crc| u32::from_le_bytes(*crc));
        let surplus = {
            let mut writer = lock(&self.writer);
            writer.checkpoint = LastCheckpoint {
                sequence: checkpoint.sequence,
                crc,
                position: checkpoint.position,
            };
            writer.journal.checkpoint = checkpoint.sequence;
            writer
                .deleted
                .retain(|partition| !checkpoint.deleted.contains(partition));
            writer
                .journal
                .release(checkpoint.position, self.config.journal_files)
        };
        for file in surplus {
            storage
                .remove_file(&file.path)
                .map_err(|source| StorageError::new("remove", &file.path, source))?;
        }
        for partition in &checkpoint.deleted {
            self.handles.forget(*partition);
            remove_partition(storage, *partition)?;
        }
        Ok(())
    }
}

fn partition_state(tail: &crate::partition::Tail) -> PartitionState {
    let segments = tail.shared.segments();
    let segments = segments.iter().map(|segment| {
        let blocks = segment.blocks();
        SegmentState {
            base_offset: segment.header.base_offset,
            generation: segment.header.generation,
            bytes: blocks.filled(),
            done_crc: blocks.done_crc(),
            open: blocks.open(),
        }
    });
    PartitionState {
        id: tail.id(),
        start: tail.shared.offsets().start,
        next_offset: tail.next_offset,
        segments: segments.collect(),
    }
}
