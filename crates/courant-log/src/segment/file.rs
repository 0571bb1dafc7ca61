//! A segment's files: the batches, the sidecar of block entries, and the handles that are kept open.

use std::collections::{BTreeSet, HashMap};
use std::io;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use super::blocks::{Block, Blocks, ENTRY_BYTES, OpenBlock};
use super::header::{FileKind, HEADER_BYTES, SegmentHeader};
use super::{DIR, partition_dir};
use crate::limits::{OPEN_FILES_MAX, SEGMENT_BLOCK_BYTES};
use crate::planted::{Defect, is_planted};
use crate::storage::{File, OpenMode, Storage, StorageError};
use crate::{PartitionId, lock};

/// One segment, shared by the committer that fills it, readers, and the checkpointer.
#[derive(Debug)]
pub(crate) struct Segment {
    pub(crate) header: SegmentHeader,
    blocks: Mutex<Blocks>,
    /// Bytes that readers may see: they are in the file and durable in the journal.
    published: AtomicU64,
    max_timestamp: AtomicI64,
    /// Whether the files are there. A segment without batches has none.
    exists: AtomicBool,
    /// Entries that the sidecar on disk holds.
    sidecar_entries: AtomicU64,
}

impl Segment {
    /// A segment without batches, not on disk yet.
    pub(crate) fn new(header: SegmentHeader) -> Self {
        Self {
            header,
            blocks: Mutex::new(Blocks::new(header.partition, header.base_offset)),
            published: AtomicU64::new(0),
            max_timestamp: AtomicI64::new(i64::MIN),
            exists: AtomicBool::new(false),
            sidecar_entries: AtomicU64::new(0),
        }
    }

    /// A segment as a checkpoint left it: `bytes` long, its open block as recorded, the whole blocks
    /// in the sidecar. Nothing is changed yet: see [`Self::cut`].
    pub(crate) fn reopen(
        storage: &dyn Storage,
        header: SegmentHeader,
        bytes: u64,
        open: OpenBlock,
        done_crc: u32,
    ) -> Result<Self, SegmentError> {
        let mut segment = Self::new(header);
        if bytes == 0 {
            return Ok(segment);
        }
        let path = segment.path(FileKind::Segment);
        let at = |what| {
            let path = path.clone();
            move |source| StorageError::new(what, &path, source)
        };
        let file = storage.open(&path, OpenMode::Existing).map_err(at("open"))?;
        let found = file.len().map_err(at("measure"))?;
        if found < bytes {
            return Err(SegmentError::Short { path, found, expected: bytes });
        }
        let done = segment.read_sidecar(storage, (bytes / SEGMENT_BLOCK_BYTES) as usize)?;
        let blocks = Blocks::resume(header.partition, header.base_offset, done, open, bytes);
        if blocks.done_crc() != done_crc {
            return Err(SegmentError::Sidecar { path: segment.path(FileKind::Sidecar) });
        }
        segment.sidecar_entries = AtomicU64::new(blocks.done().len() as u64);
        segment.publish(bytes, blocks.max_timestamp().unwrap_or(i64::MIN));
        segment.blocks = Mutex::new(blocks);
        segment.exists = AtomicBool::new(true);
        Ok(segment)
    }

    /// Cuts off what stands behind the checkpointed end: the journal is the only evidence of what
    /// belongs there.
    pub(crate) fn cut(&self, storage: &dyn Storage) -> Result<(), StorageError> {
        let bytes = self.published();
        if bytes == 0 || is_planted(Defect::SegmentTailTrusted) {
            return Ok(());
        }
        let path = self.path(FileKind::Segment);
        let at = |what| {
            let path = path.clone();
            move |source| StorageError::new(what, &path, source)
        };
        let file = storage.open(&path, OpenMode::Existing).map_err(at("open"))?;
        if file.len().map_err(at("measure"))? > bytes {
            file.set_len(bytes).map_err(at("cut"))?;
        }
        Ok(())
    }

    pub(super) fn read_sidecar(
        &self,
        storage: &dyn Storage,
        count: usize,
    ) -> Result<Vec<Block>, SegmentError> {
        if count == 0 {
            return Ok(Vec::new());
        }
        let path = self.path(FileKind::Sidecar);
        let damaged = || SegmentError::Sidecar { path: path.clone() };
        let file = storage.open(&path, OpenMode::Existing);
        let file = file.map_err(|source| StorageError::new("open", &path, source))?;
        let mut bytes = vec![0; HEADER_BYTES + count * ENTRY_BYTES];
        let read = file.read_at(&mut bytes, 0).map_err(|source| StorageError::new("read", &path, source))?;
        if read < bytes.len() || SegmentHeader::decode(FileKind::Sidecar, &bytes) != Some(self.header) {
            return Err(damaged());
        }
        let entries = bytes[HEADER_BYTES..].chunks_exact(ENTRY_BYTES).enumerate();
        entries.map(|(number, entry)| Block::decode(number as u64, entry).map_err(|_| damaged())).collect()
    }

    pub(crate) fn key(&self) -> (PartitionId, u64) {
        (self.header.partition, self.header.base_offset)
    }

    pub(crate) fn path(&self, kind: FileKind) -> String {
        segment_path(self.header.partition, self.header.base_offset, kind)
    }

    /// Bytes that readers may see.
    pub(crate) fn published(&self) -> u64 {
        self.published.load(Ordering::Acquire)
    }

    /// Lets readers see the first `bytes`, whose greatest timestamp is at least `max_timestamp`.
    pub(crate) fn publish(&self, bytes: u64, max_timestamp: i64) {
        self.max_timestamp.fetch_max(max_timestamp, Ordering::AcqRel);
        self.published.store(bytes, Ordering::Release);
    }

    /// Greatest timestamp of what readers may see.
    pub(crate) fn max_timestamp(&self) -> Option<i64> {
        Some(self.max_timestamp.load(Ordering::Acquire)).filter(|max| *max != i64::MIN)
    }

    pub(crate) fn blocks(&self) -> std::sync::MutexGuard<'_, Blocks> {
        lock(&self.blocks)
    }

    /// Writes batches at the end of the segment. Returns the file, which must stay open until it is
    /// synced, and whether it was created.
    pub(crate) fn write(
        &self,
        storage: &dyn Storage,
        handles: &Handles,
        batches: &[WrittenBatch<'_>],
    ) -> Result<(Arc<dyn File>, bool), StorageError> {
        let created = !self.exists.load(Ordering::Acquire);
        let file = if created { self.create(storage, handles)? } else { handles.segment(storage, self)? };
        let header = self.header.encode(FileKind::Segment);
        let mut blocks = self.blocks();
        let position = blocks.filled();
        let mut parts: Vec<&[u8]> = Vec::with_capacity(batches.len() + 1);
        if created {
            blocks.header(&header);
            parts.push(&header);
        }
        for batch in batches {
            blocks.batch(batch.offset, batch.max_timestamp, batch.bytes);
            parts.push(batch.bytes);
        }
        drop(blocks);
        if is_planted(Defect::SegmentTailTrusted) {
            let end = position + parts.iter().map(|part| part.len() as u64).sum::<u64>();
            if file.len().is_ok_and(|len| len >= end) {
                return Ok((file, created));
            }
        }
        let written = file.write_at(&parts, position);
        written.map_err(|source| StorageError::new("write", &self.path(FileKind::Segment), source))?;
        Ok((file, created))
    }

    /// Creates the file, or empties one that a crash left behind before it was ever recorded.
    fn create(&self, storage: &dyn Storage, handles: &Handles) -> Result<Arc<dyn File>, StorageError> {
        let path = self.path(FileKind::Segment);
        let dir = partition_dir(self.header.partition);
        storage.create_dir(&dir).map_err(|source| StorageError::new("create", &dir, source))?;
        let file = create_empty(storage, &path)?;
        handles.keep(self, file.clone());
        self.exists.store(true, Ordering::Release);
        Ok(file)
    }

    /// Makes the batches durable, then brings the sidecar up to them and makes it durable too,
    /// unless the caller syncs the whole storage afterwards. Returns whether the sidecar was created:
    /// its name is not durable yet then.
    pub(crate) fn checkpoint(
        &self,
        storage: &dyn Storage,
        file: &dyn File,
        done: usize,
        sync: bool,
    ) -> Result<bool, StorageError> {
        if sync {
            let synced = file.sync_data();
            synced.map_err(|source| StorageError::new("sync", &self.path(FileKind::Segment), source))?;
        }
        let have = self.sidecar_entries.load(Ordering::Acquire) as usize;
        if done <= have {
            return Ok(false);
        }
        let path = self.path(FileKind::Sidecar);
        let mut bytes = Vec::new();
        let (file, position) = if have == 0 {
            bytes.extend_from_slice(&self.header.encode(FileKind::Sidecar));
            (create_empty(storage, &path)?, 0)
        } else {
            let file = storage.open(&path, OpenMode::Existing);
            let file = file.map_err(|source| StorageError::new("open", &path, source))?;
            (file, (HEADER_BYTES + have * ENTRY_BYTES) as u64)
        };
        for (number, block) in self.blocks().done()[..done].iter().enumerate().skip(have) {
            bytes.extend_from_slice(&block.encode(number as u64));
        }
        file.write_at(&[&bytes], position).map_err(|source| StorageError::new("write", &path, source))?;
        if sync {
            file.sync_data().map_err(|source| StorageError::new("sync", &path, source))?;
        }
        Ok(have == 0)
    }

    /// Notes that the sidecar's entries are durable. Until then they are written again.
    pub(crate) fn sidecar_has(&self, done: usize) {
        self.sidecar_entries.fetch_max(done as u64, Ordering::AcqRel);
    }

    /// Reads up to `buf.len()` published bytes from `position`.
    pub(crate) fn read(
        &self,
        storage: &dyn Storage,
        handles: &Handles,
        buf: &mut [u8],
        position: u64,
    ) -> io::Result<usize> {
        let end = self.published();
        let count = end.saturating_sub(position).min(buf.len() as u64) as usize;
        if count == 0 {
            return Ok(0);
        }
        let file = handles.segment(storage, self).map_err(|error| io::Error::new(error.kind(), error))?;
        file.read_at(&mut buf[..count], position)
    }
}

/// The name of one of a segment's files.
pub(crate) fn segment_path(partition: PartitionId, base_offset: u64, kind: FileKind) -> String {
    let extension = match kind {
        FileKind::Segment => "segment",
        FileKind::Sidecar => "blocks",
    };
    format!("{}/{base_offset:020}.{extension}", partition_dir(partition))
}

fn create_empty(storage: &dyn Storage, path: &str) -> Result<Arc<dyn File>, StorageError> {
    match storage.open(path, OpenMode::CreateNew) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            let file = storage.open(path, OpenMode::Existing);
            let file = file.map_err(|source| StorageError::new("open", path, source))?;
            file.set_len(0).map_err(|source| StorageError::new("empty", path, source))?;
            Ok(file)
        }
        created => created.map_err(|source| StorageError::new("create", path, source)),
    }
}

/// One batch on its way into a segment.
#[derive(Clone, Copy, Debug)]
pub(crate) struct WrittenBatch<'a> {
    pub(crate) offset: u64,
    pub(crate) max_timestamp: i64,
    pub(crate) bytes: &'a [u8],
}

/// Why a segment is not what its checkpoint says.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SegmentError {
    #[error(transparent)]
    Storage(#[from] StorageError),
    #[error(
        "{path} has {found} bytes, but {expected} were checkpointed: acknowledged events are missing from it"
    )]
    Short { path: String, found: u64, expected: u64 },
    #[error("{path} is damaged: its block entries do not match the checkpoint")]
    Sidecar { path: String },
}

/// Open segment files, at most [`OPEN_FILES_MAX`]; those not used for longest are closed first.
#[derive(Debug, Default)]
pub(crate) struct Handles {
    open: Mutex<Open>,
}

#[derive(Debug, Default)]
struct Open {
    files: HashMap<(PartitionId, u64), (Arc<dyn File>, u64)>,
    uses: u64,
}

impl Handles {
    fn segment(&self, storage: &dyn Storage, segment: &Segment) -> Result<Arc<dyn File>, StorageError> {
        let key = (segment.header.partition, segment.header.base_offset);
        {
            let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
            open.uses += 1;
            let uses = open.uses;
            if let Some((file, used)) = open.files.get_mut(&key) {
                *used = uses;
                return Ok(file.clone());
            }
        }
        let path = segment.path(FileKind::Segment);
        let file = storage.open(&path, OpenMode::Existing);
        let file = file.map_err(|source| StorageError::new("open", &path, source))?;
        self.keep(segment, file.clone());
        Ok(file)
    }

    fn keep(&self, segment: &Segment, file: Arc<dyn File>) {
        let mut open = lock(&self.open);
        open.uses += 1;
        let uses = open.uses;
        open.files.insert((segment.header.partition, segment.header.base_offset), (file, uses));
        if open.files.len() > OPEN_FILES_MAX {
            let mut by_use: Vec<_> = open.files.values().map(|(_, used)| *used).collect();
            by_use.sort_unstable();
            let oldest_kept = by_use[by_use.len() / 4];
            open.files.retain(|_, (_, used)| *used >= oldest_kept);
        }
    }

    /// Closes the file of a segment that is going away.
    pub(crate) fn forget_segment(&self, key: (PartitionId, u64)) {
        lock(&self.open).files.remove(&key);
    }

    /// Closes the files of a partition that is going away.
    pub(crate) fn forget(&self, partition: PartitionId) {
        lock(&self.open).files.retain(|(of, _), _| *of != partition);
    }
}

/// Unlinks every file of partitions that a durable entry deleted, and returns those that are gone.
/// Files that are gone already are no error: a crash may have interrupted this before.
pub(crate) fn remove_partitions(storage: &dyn Storage, partitions: &[PartitionId]) -> Vec<PartitionId> {
    let mut removed = Vec::with_capacity(partitions.len());
    for partition in partitions {
        match remove_partition(storage, *partition) {
            Ok(()) => removed.push(*partition),
            Err(error) => tracing::warn!(%error, "a deleted partition's files stay for now"),
        }
    }
    match storage.sync_dir(DIR) {
        Ok(()) => removed,
        Err(error) => {
            tracing::warn!(%error, "the removal of deleted partitions is not durable yet");
            Vec::new()
        }
    }
}

/// Unlinks the files of segments that a durable entry deleted, and returns those that are gone. As
/// with partitions, files may be gone already.
pub(crate) fn remove_segments(
    storage: &dyn Storage,
    segments: &[(PartitionId, u64)],
) -> BTreeSet<(PartitionId, u64)> {
    let mut removed = BTreeSet::new();
    for (partition, base_offset) in segments {
        let paths =
            [FileKind::Segment, FileKind::Sidecar].map(|kind| segment_path(*partition, *base_offset, kind));
        match paths.iter().try_for_each(|path| remove_if_there(storage, path)) {
            Ok(()) => {
                removed.insert((*partition, *base_offset));
            }
            Err(error) => tracing::warn!(%error, "a deleted segment's files stay for now"),
        }
    }
    let dirs: BTreeSet<_> = removed.iter().map(|(partition, _)| *partition).collect();
    for partition in dirs {
        let dir = partition_dir(partition);
        match storage.sync_dir(&dir) {
            Ok(()) => {}
            // Without a first batch a partition has no folder.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => {
                tracing::warn!(%dir, %error, "the removal of deleted segments is not durable yet");
                removed.retain(|(of, _)| *of != partition);
            }
        }
    }
    removed
}

fn remove_if_there(storage: &dyn Storage, path: &str) -> Result<(), StorageError> {
    match storage.remove_file(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        removed => removed.map_err(|source| StorageError::new("remove", path, source)),
    }
}

fn remove_partition(storage: &dyn Storage, partition: PartitionId) -> Result<(), StorageError> {
    let dir = partition_dir(partition);
    let gone = |result: io::Result<()>| match result {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    };
    let names = match storage.list(&dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        listed => listed.map_err(|source| StorageError::new("list", &dir, source))?,
    };
    for name in names {
        let path = format!("{dir}/{name}");
        gone(storage.remove_file(&path)).map_err(|source| StorageError::new("remove", &path, source))?;
    }
    gone(storage.remove_dir(&dir)).map_err(|source| StorageError::new("remove", &dir, source))
}
