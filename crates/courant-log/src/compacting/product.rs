//! A compacted segment on its way: written aside, then put in its place.

use std::sync::Arc;

use crate::batch::BatchHeader;
use crate::planted::{Defect, is_planted};
use crate::segment::{
    Blocks, Compacted, FileKind, HEADER_BYTES, Segment, SegmentHeader, create_empty, indexed_timestamp,
    partition_dir,
};
use crate::storage::{File, Storage, StorageError};

/// Files on their way. No record ever names them: a start removes what it finds there.
pub(crate) const DIR: &str = "compaction";
/// Bytes that are written at a time.
const WRITE_BYTES: usize = 1024 * 1024;

/// The name of a file on its way; there is one product at a time.
pub(super) fn aside(kind: FileKind) -> String {
    match kind {
        FileKind::Segment => format!("{DIR}/segment"),
        FileKind::Sidecar => format!("{DIR}/blocks"),
    }
}

/// A segment that is being written. Dropped before it has its place, it leaves nothing that counts.
pub(super) struct Product<'a> {
    storage: &'a dyn Storage,
    header: SegmentHeader,
    compacted: Compacted,
    file: Arc<dyn File>,
    blocks: Blocks,
    /// What is not in the file yet.
    buffer: Vec<u8>,
    written: u64,
}

impl<'a> Product<'a> {
    pub(super) fn begin(
        storage: &'a dyn Storage,
        header: SegmentHeader,
        compacted: Compacted,
    ) -> Result<Self, StorageError> {
        storage.create_dir(DIR).map_err(|source| StorageError::new("create", DIR, source))?;
        let file = create_empty(storage, &aside(FileKind::Segment))?;
        let mut blocks = Blocks::new(&header);
        let buffer = header.encode(FileKind::Segment).to_vec();
        blocks.header(&buffer);
        Ok(Self { storage, header, compacted, file, blocks, buffer, written: 0 })
    }

    /// Adds a batch. Batches come in the order of their offsets.
    pub(super) fn add(&mut self, header: &BatchHeader, batch: &[u8]) -> Result<(), StorageError> {
        let offset = u64::try_from(header.base_offset).unwrap_or(0);
        self.blocks.batch(offset, indexed_timestamp(header), batch);
        self.buffer.extend_from_slice(batch);
        if self.buffer.len() >= WRITE_BYTES { self.flush() } else { Ok(()) }
    }

    fn flush(&mut self) -> Result<(), StorageError> {
        let path = aside(FileKind::Segment);
        let written = self.file.write_at(&[&self.buffer], self.written);
        written.map_err(|source| StorageError::new("write", &path, source))?;
        self.written += self.buffer.len() as u64;
        self.buffer.clear();
        Ok(())
    }

    /// Makes all of it durable, under the names that do not count yet.
    pub(super) fn finish(&mut self) -> Result<(), StorageError> {
        self.flush()?;
        sync(&*self.file, &aside(FileKind::Segment))?;
        if self.blocks.done().is_empty() {
            return Ok(());
        }
        let path = aside(FileKind::Sidecar);
        let sidecar = create_empty(self.storage, &path)?;
        let mut bytes = self.header.encode(FileKind::Sidecar).to_vec();
        for (number, block) in self.blocks.done().iter().enumerate() {
            bytes.extend_from_slice(&block.encode(number as u64));
        }
        sidecar.write_at(&[&bytes], 0).map_err(|source| StorageError::new("write", &path, source))?;
        sync(&*sidecar, &path)
    }

    /// Bytes of the segment.
    pub(super) fn bytes(&self) -> u64 {
        self.blocks.filled()
    }

    /// Gives a finished segment its names, and makes them durable. They count once an entry of the
    /// journal says so.
    ///
    /// An error may be that of another file in the same directory: what is durable there is not known.
    pub(super) fn place(self) -> Result<Placed<'a>, StorageError> {
        let key = self.header.key();
        let dir = partition_dir(key.partition);
        // Segments without events have no files, and a partition of such has no directory.
        self.storage.create_dir(&dir).map_err(|source| StorageError::new("create", &dir, source))?;
        let has_sidecar = !self.blocks.done().is_empty();
        let kinds = [FileKind::Sidecar, FileKind::Segment];
        for kind in kinds.into_iter().filter(|kind| has_sidecar || *kind == FileKind::Segment) {
            let path = key.path(kind);
            let renamed = self.storage.rename(&aside(kind), &path);
            renamed.map_err(|source| StorageError::new("rename", &path, source))?;
        }
        for dir in [crate::segment::DIR, &dir] {
            self.storage.sync_dir(dir).map_err(|source| StorageError::new("sync", dir, source))?;
        }
        let segment = Arc::new(Segment::finished(self.header, self.blocks, self.compacted));
        Ok(Placed { storage: self.storage, segment })
    }
}

fn sync(file: &dyn File, path: &str) -> Result<(), StorageError> {
    if is_planted(Defect::CompactedNotSynced) {
        return Ok(());
    }
    file.sync_data().map_err(|source| StorageError::new("sync", path, source))
}

/// A segment whose files have their names.
pub(super) struct Placed<'a> {
    storage: &'a dyn Storage,
    segment: Arc<Segment>,
}

impl Placed<'_> {
    pub(super) fn segment(&self) -> Arc<Segment> {
        self.segment.clone()
    }

    /// Takes the files away again: nothing names them, and nothing will.
    pub(super) fn remove(self) {
        for kind in [FileKind::Segment, FileKind::Sidecar] {
            let path = self.segment.path(kind);
            match self.storage.remove_file(&path) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                    tracing::warn!(path, %error, "a segment that was compacted in vain stays for now");
                }
                _ => {}
            }
        }
    }
}

const _: () = assert!(WRITE_BYTES > HEADER_BYTES);
