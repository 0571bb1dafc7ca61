//! The writing end of the journal ring.
//!
//! Invariants: `synced <= position`; a file is switched only when `synced == position`, so a file
//! header vouches for everything before its start; what is acknowledged and not synced is of a relaxed
//! class; a file is written again only after a durable checkpoint covers all of it.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;

use uuid::Uuid;

use super::group::{GroupBuffer, GroupHeader};
use super::{FileHeader, RingFile, Seed, successor};
use crate::durability::Durability;
use crate::limits::{BLOCK_BYTES, JOURNAL_BEGUN_BYTES};
use crate::planted::{Defect, is_planted};
use crate::storage::{File, StorageError};

#[derive(Debug)]
struct Current {
    ring: RingFile,
    seed: Seed,
    start: u64,
}

/// Bytes of a ring file that no sync has brought on disk.
#[derive(Debug)]
pub(crate) struct Unsynced {
    file: Arc<dyn File>,
    range: Range<u64>,
}

impl Unsynced {
    /// Tells the disk of them. They are as durable as before.
    pub(crate) fn begin(self) {
        self.file.begin_sync(self.range);
    }
}

/// Appends groups to the ring.
#[derive(Debug)]
pub(crate) struct JournalWriter {
    log_id: Uuid,
    current: Option<Current>,
    free: VecDeque<RingFile>,
    /// Full files, oldest first, each with the generation of its use.
    held: VecDeque<(RingFile, u64)>,
    position: u64,
    synced: u64,
    /// The disk was told of what stands before it. Nothing is believed for that.
    begun: u64,
    generation: u64,
    /// The newest group is an empty one that vouches for everything before it.
    sealed: bool,
    pub(crate) checkpoint: u64,
}

impl JournalWriter {
    /// A writer that goes on at `position` in a use numbered above `generation`, over files none of
    /// which is needed any more, once `held` is released.
    pub(crate) fn new(
        log_id: Uuid,
        position: u64,
        generation: u64,
        free: Vec<RingFile>,
        held: Vec<RingFile>,
    ) -> Self {
        let held = held.into_iter().map(|file| (file, generation)).collect();
        Self {
            log_id,
            current: None,
            free: free.into(),
            held,
            position,
            synced: position,
            begun: position,
            generation,
            sealed: false,
            checkpoint: 0,
        }
    }

    pub(crate) fn position(&self) -> u64 {
        self.position
    }

    pub(crate) fn generation(&self) -> u64 {
        self.generation
    }

    /// Whether something was written and not synced.
    pub(crate) fn is_behind(&self) -> bool {
        self.synced < self.position
    }

    /// Whether so much was written, and neither synced nor begun to be, that it is time to begin.
    pub(crate) fn is_begin_due(&self) -> bool {
        self.position - self.begun.max(self.synced) >= JOURNAL_BEGUN_BYTES
    }

    /// What is due to be begun, which counts as begun from here on.
    pub(crate) fn take_unbegun(&mut self) -> Option<Unsynced> {
        let current = self.current.as_ref().filter(|_| self.is_begin_due())?;
        // A file is switched only when everything is synced: all of this is in the current one.
        let at = |position: u64| BLOCK_BYTES as u64 + (position - current.start);
        let range = at(self.begun.max(self.synced))..at(self.position);
        let unsynced = Unsynced { file: current.ring.file.clone(), range };
        self.begun = self.position;
        Some(unsynced)
    }

    pub(crate) fn sealed(&self) -> bool {
        self.sealed
    }

    pub(crate) fn files(&self) -> usize {
        self.free.len() + self.held.len() + usize::from(self.current.is_some())
    }

    pub(crate) fn free_files(&self) -> usize {
        self.free.len()
    }

    /// Bytes of the largest group that every file of the ring can take.
    pub(crate) fn group_bytes_max(&self) -> u64 {
        let held = self.held.iter().map(|(file, _)| file.capacity());
        let free = self.free.iter().map(RingFile::capacity);
        let current = self.current.iter().map(|current| current.ring.capacity());
        held.chain(free).chain(current).min().unwrap_or(0)
    }

    pub(crate) fn add_free(&mut self, file: RingFile) {
        self.free.push_back(file);
    }

    /// Bytes still free in the current file.
    pub(crate) fn room(&self) -> u64 {
        self.current.as_ref().map_or(0, |current| current.start + current.ring.capacity() - self.position)
    }

    /// Whether more than half of the current file is used.
    pub(crate) fn is_half_full(&self) -> bool {
        self.current.as_ref().is_some_and(|current| self.room() < current.ring.capacity() / 2)
    }

    /// Goes on in the next free file. False when there is none. The file's header is durable before
    /// anything names its generation: a checkpoint may do so before the first group is written.
    ///
    /// # Errors
    /// What the storage says; the writer must end then.
    pub(crate) fn switch(&mut self, salt: u64) -> Result<bool, StorageError> {
        assert_eq!(self.synced, self.position, "a file header vouches for everything before it");
        let Some(ring) = self.free.pop_front() else {
            return Ok(false);
        };
        self.generation += 1;
        let seed = Seed { salt, generation: self.generation };
        let header =
            FileHeader { log_id: self.log_id, seed, start: self.position, capacity: ring.capacity() };
        let written = ring.file.write_at(&[&header.encode()], 0).and_then(|()| ring.file.sync_data());
        written.map_err(|source| StorageError::new("sync the header of", &ring.path, source))?;
        let current = Current { ring, seed, start: self.position };
        if let Some(full) = self.current.replace(current) {
            // From here on the new file cannot get lost unnoticed. Nothing is acknowledged in it before.
            let at = BLOCK_BYTES as u64 + full.ring.capacity();
            let block = successor::encode(full.seed, self.generation);
            let written = full.ring.file.write_at(&[&block], at).and_then(|()| full.ring.file.sync_data());
            written.map_err(|source| StorageError::new("sync the end of", &full.ring.path, source))?;
            self.held.push_back((full.ring, full.seed.generation));
        }
        Ok(true)
    }

    /// Writes a group, whose strongest class is `needs`, at the end of the current file, which has room for it.
    ///
    /// # Errors
    /// What the storage says; the writer must end then.
    pub(crate) fn write(
        &mut self,
        group: &mut GroupBuffer,
        needs: Durability,
        now_ms: i64,
    ) -> Result<(), StorageError> {
        let Some(current) = &self.current else {
            return Ok(());
        };
        let header = GroupHeader {
            position: self.position,
            synced: self.synced,
            body_bytes: group.body_bytes(),
            entries: group.entries(),
            seal: group.is_empty(),
            checkpoint: self.checkpoint,
            written_ms: now_ms,
        };
        let bytes = group.seal_for(current.seed, header);
        assert!(
            self.position + bytes.len() as u64 <= current.start + current.ring.capacity(),
            "a group never crosses the end of its file"
        );
        let at = BLOCK_BYTES as u64 + (self.position - current.start);
        let file = &current.ring.file;
        let written = match needs {
            Durability::Sync => file.write_to_sync(bytes, at).map(|_| ()),
            // The disk is not waited for.
            Durability::Interval | Durability::Os => file.write_at(&[bytes], at),
        };
        written.map_err(|source| StorageError::new("write", &current.ring.path, source))?;
        self.position += bytes.len() as u64;
        self.sealed = header.seal;
        Ok(())
    }

    /// Makes every written group durable.
    ///
    /// # Errors
    /// What the storage says. It is never called again after an error: what is on disk is unknown.
    pub(crate) fn sync(&mut self) -> Result<(), StorageError> {
        if let Some(current) = &self.current {
            let file = &current.ring.file;
            let synced = file.sync_data().or_else(|error| {
                if is_planted(Defect::RetryAfterFailedSync) { file.sync_data() } else { Err(error) }
            });
            synced.map_err(|source| StorageError::new("sync", &current.ring.path, source))?;
        }
        self.synced = self.position;
        Ok(())
    }

    /// Frees the files of generations before the one that a durable checkpoint names, oldest first.
    /// The named file itself stays, even if nothing behind the checkpoint stands in it: recovery
    /// begins there. Files above `files_max` are returned, to be unlinked off the committer.
    pub(crate) fn release(&mut self, generation: u64, files_max: usize) -> Vec<RingFile> {
        while let Some((file, of)) = self.held.pop_front() {
            if of >= generation {
                self.held.push_front((file, of));
                break;
            }
            self.free.push_back(file);
        }
        let mut surplus = Vec::new();
        while self.files() > files_max {
            let Some(file) = self.free.pop_front() else {
                break;
            };
            surplus.push(file);
        }
        surplus
    }

    /// Takes out a free file with fewer than `file_bytes`, to be unlinked off the committer, unless groups would
    /// have no free file without it.
    pub(crate) fn give_up_small(&mut self, file_bytes: u64) -> Option<RingFile> {
        let small = self.free.iter().position(|file| file.file_bytes < file_bytes)?;
        if self.free.len() > 1 { self.free.remove(small) } else { None }
    }

    /// Journal bytes that a checkpoint now would free, counted from `position`.
    pub(crate) fn bytes_since(&self, position: u64) -> u64 {
        self.position - position
    }

    /// Bytes that all files of the ring can hold.
    pub(crate) fn ring_bytes(&self) -> u64 {
        let held = self.held.iter().map(|(file, _)| file.capacity());
        let free = self.free.iter().map(RingFile::capacity);
        let current = self.current.iter().map(|current| current.ring.capacity());
        held.chain(free).chain(current).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::PartitionId;
    use crate::journal::EntryWriter;
    use crate::storage::{MemoryStorage, Storage};

    /// The disk is told of each byte once, and of none that is on it. That nothing is believed for it, `synced` shows,
    /// which the next group's header says.
    #[test]
    fn what_nobody_waits_for_is_begun_in_steps() {
        const BLOCK: u64 = BLOCK_BYTES as u64;
        let storage = MemoryStorage::new(64 * 1024 * 1024);
        storage.create_dir(super::super::DIR).expect("creates");
        let ring = RingFile::create(&storage, 1, 4 * JOURNAL_BEGUN_BYTES).expect("creates");
        let mut journal = JournalWriter::new(Uuid::from_u128(1), 0, 0, vec![ring], Vec::new());
        assert!(journal.switch(7).expect("switches"));
        let mut group = GroupBuffer::new();
        let half = vec![7; JOURNAL_BEGUN_BYTES as usize / 2];
        let mut write = |journal: &mut JournalWriter| {
            EntryWriter(&mut group).append(PartitionId(3), 42, &half);
            journal.write(&mut group, Durability::Interval, 0).expect("writes");
            group.end();
        };
        write(&mut journal);
        assert!(journal.take_unbegun().is_none());
        write(&mut journal);
        let first = journal.take_unbegun().expect("that much was written");
        assert_eq!(first.range, BLOCK..BLOCK + journal.position());
        assert!(journal.take_unbegun().is_none(), "once is enough");
        assert_eq!(journal.synced, 0);
        write(&mut journal);
        write(&mut journal);
        journal.sync().expect("syncs");
        assert!(journal.take_unbegun().is_none(), "it is on disk");
        let before = journal.position();
        write(&mut journal);
        write(&mut journal);
        let second = journal.take_unbegun().expect("that much again");
        assert_eq!(second.range, BLOCK + before..BLOCK + journal.position());
        second.begin();
        assert_eq!(journal.synced, before);
    }

    /// A checkpoint is captured at the very end of a file, the committer goes on in the next one, and
    /// only then the checkpoint becomes durable: recovery will begin in the file that it names.
    #[test]
    fn the_file_that_a_checkpoint_names_is_not_freed() {
        let storage = MemoryStorage::new(1024 * 1024);
        storage.create_dir(super::super::DIR).expect("creates");
        let file = |number| RingFile::create(&storage, number, 65_536).expect("creates");
        let free = vec![file(1), file(2), file(3)];
        let mut journal = JournalWriter::new(Uuid::from_u128(1), 0, 0, free, Vec::new());
        assert!(journal.switch(7).expect("switches"));
        let captured = journal.generation();
        assert!(journal.switch(8).expect("switches"));
        assert!(journal.release(captured, 4).is_empty());
        assert_eq!(journal.free_files(), 1, "the named file is held");
        journal.release(journal.generation(), 4);
        assert_eq!(journal.free_files(), 2);
    }

    #[test]
    fn a_small_file_is_given_up_while_another_one_is_free() {
        let storage = MemoryStorage::new(1024 * 1024);
        storage.create_dir(super::super::DIR).expect("creates");
        let file = |number, bytes| RingFile::create(&storage, number, bytes).expect("creates");
        let free = vec![file(1, 65_536), file(2, 131_072), file(3, 65_536)];
        let mut journal = JournalWriter::new(Uuid::from_u128(1), 0, 0, free, Vec::new());
        assert!(journal.switch(7).expect("switches"), "the first one is in use");
        assert!(journal.give_up_small(65_536).is_none(), "none is smaller than that");
        let small = journal.give_up_small(131_072).expect("the third one");
        assert_eq!((small.path, small.file_bytes), (super::super::path_of(3), 65_536));
        assert_eq!((journal.files(), journal.free_files()), (2, 1));
        assert!(journal.switch(8).expect("switches"));
        journal.release(journal.generation(), 4);
        assert!(journal.give_up_small(131_072).is_none(), "it is the only one that is free");
    }
}
