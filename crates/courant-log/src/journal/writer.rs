//! The writing end of the journal ring.
//!
//! Invariants: `synced <= position`; a file is switched only when `synced == position`, so a file
//! header vouches for everything before its start; at most one group is written and not synced; a
//! file is written again only after a durable checkpoint covers all of it.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;

use uuid::Uuid;

use super::group::{GroupBuffer, GroupHeader};
use super::{FileHeader, Seed};
use crate::limits::BLOCK_BYTES;
use crate::storage::{File, OpenMode, Storage, StorageError};

/// One file of the ring.
#[derive(Clone, Debug)]
pub(crate) struct RingFile {
    pub(crate) path: String,
    pub(crate) file: Arc<dyn File>,
    pub(crate) file_bytes: u64,
}

impl RingFile {
    /// Creates a ring file: temporary name, zeros if the storage wants them, sync, rename, sync of
    /// the directory (LOG.md 4).
    pub(crate) fn create(
        storage: &dyn Storage,
        number: u64,
        file_bytes: u64,
    ) -> Result<Self, StorageError> {
        let path = format!("{}/{number:08}.journal", super::DIR);
        let temporary = format!("{path}.new");
        let at = |what| {
            move |source| {
                StorageError::new(what, &format!("{}/{number:08}.journal", super::DIR), source)
            }
        };
        match storage.remove_file(&temporary) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(at("remove")(error));
            }
            _ => {}
        }
        let file = storage
            .open(&temporary, OpenMode::CreateNew)
            .map_err(at("create"))?;
        if storage.wants().prefill {
            let zeros = vec![0u8; 1024 * 1024];
            let mut position = 0;
            while position < file_bytes {
                let count = (file_bytes - position).min(zeros.len() as u64);
                file.write_at(&[&zeros[..count as usize]], position)
                    .map_err(at("fill"))?;
                position += count;
            }
        } else {
            file.set_len(file_bytes).map_err(at("extend"))?;
        }
        file.sync_data().map_err(at("sync"))?;
        storage.rename(&temporary, &path).map_err(at("rename"))?;
        storage
            .sync_dir(super::DIR)
            .map_err(at("sync the directory of"))?;
        Ok(Self {
            path,
            file,
            file_bytes,
        })
    }

    pub(crate) fn capacity(&self) -> u64 {
        self.file_bytes.saturating_sub(BLOCK_BYTES as u64)
    }
}

#[derive(Debug)]
struct Current {
    ring: RingFile,
    seed: Seed,
    start: u64,
}

/// Appends groups to the ring.
#[derive(Debug)]
pub(crate) struct JournalWriter {
    log_id: Uuid,
    current: Option<Current>,
    free: VecDeque<RingFile>,
    /// Full files, oldest first, each with the position behind its last byte.
    held: VecDeque<(RingFile, u64)>,
    position: u64,
    synced: u64,
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
        let held = held.into_iter().map(|file| (file, position)).collect();
        Self {
            log_id,
            current: None,
            free: free.into(),
            held,
            position,
            synced: position,
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
        self.current.as_ref().map_or(0, |current| {
            current.start + current.ring.capacity() - self.position
        })
    }

    /// Goes on in the next free file. False when there is none.
    ///
    /// # Errors
    /// What the storage says; the writer must end then.
    pub(crate) fn switch(&mut self, salt: u64) -> Result<bool, StorageError> {
        assert_eq!(
            self.synced, self.position,
            "a file header vouches for everything before it"
        );
        let Some(ring) = self.free.pop_front() else {
            return Ok(false);
        };
        self.generation += 1;
        let seed = Seed {
            salt,
            generation: self.generation,
        };
        let header = FileHeader {
            log_id: self.log_id,
            seed,
            start: self.position,
            capacity: ring.capacity(),
        };
        ring.file
            .write_at(&[&header.encode()], 0)
            .map_err(|source| StorageError::new("write the header of", &ring.path, source))?;
        let current = Current {
            ring,
            seed,
            start: self.position,
        };
        if let Some(full) = self.current.replace(current) {
            self.held.push_back((full.ring, self.position));
        }
        Ok(true)
    }

    /// Writes a group at the end of the current file, which has room for it.
    ///
    /// # Errors
    /// What the storage says; the writer must end then.
    pub(crate) fn write(
        &mut self,
        group: &mut GroupBuffer,
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
        current
            .ring
            .file
            .write_at(&[bytes], at)
            .map_err(|source| StorageError::new("write", &current.ring.path, source))?;
        self.position += bytes.len() as u64;
        self.sealed = header.seal;
        Ok(())
    }

    /// Makes every written group durable.
    ///
    /// # Errors
    /// What the storage says. It is never called again after an error: the writer ends (LOG.md 10).
    pub(crate) fn sync(&mut self) -> Result<(), StorageError> {
        if let Some(current) = &self.current {
            let synced = current.ring.file.sync_data();
            synced.map_err(|source| StorageError::new("sync", &current.ring.path, source))?;
        }
        self.synced = self.position;
        Ok(())
    }

    /// Frees the files that a durable checkpoint at `position` covers. Files above `files_max` are
    /// returned, to be unlinked off the committer.
    pub(crate) fn release(&mut self, position: u64, files_max: usize) -> Vec<RingFile> {
        while let Some((file, end)) = self.held.pop_front() {
            if end > position {
                self.held.push_front((file, end));
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
