//! A segment's files: the batches and the sidecar of block entries.

use std::io;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use super::blocks::{Block, Blocks, ENTRY_BYTES};
use super::compare::{Expected, ExpectedCrc, Reach, is_of_the_bytes};
use super::handles::Handles;
use super::header::{FileKind, HEADER_BYTES, SegmentHeader};
use super::key::SegmentKey;
use super::partition_dir;
use super::verify::Recorded;
use crate::limits::SEGMENT_BLOCK_BYTES;
use crate::lock;
use crate::planted::{Defect, is_planted};
use crate::storage::{File, OpenMode, Storage, StorageError};

/// One segment, shared by the committer that fills it, readers, and the checkpointer.
#[derive(Debug)]
pub(crate) struct Segment {
    pub(crate) header: SegmentHeader,
    blocks: Mutex<Blocks>,
    /// Bytes that readers may see: they are in the file and durable in the journal.
    published: AtomicU64,
    max_timestamp: AtomicI64,
    compacted: Option<Compacted>,
    /// Whether the files are there. A segment without batches has none.
    exists: AtomicBool,
    /// Bytes that the newest checkpoint covers.
    checkpointed: AtomicU64,
    /// Entries that the sidecar on disk holds.
    sidecar_entries: AtomicU64,
    /// Nothing is added to it any more: what stands at its end is damaged.
    closed: AtomicBool,
    /// As it was found at the start.
    found: Found,
    /// A read has shown damage: what this process has written is not taken as it is any more either.
    suspect: AtomicBool,
    /// The blocks that have been compared; 64 in each number.
    trusted: Mutex<Vec<u64>>,
}

/// When a segment was compacted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Compacted {
    /// By the wall clock, in milliseconds since 1970; above 0.
    pub(crate) at_ms: i64,
    /// By the clock that nobody sets; `None` when that was before this process began.
    pub(crate) at_elapsed_ms: Option<u64>,
}

/// How far a segment went when it was opened, and the state of the block that was still filling.
#[derive(Clone, Copy, Debug, Default)]
struct Found {
    bytes: u64,
    open_crc_state: u32,
}

impl Segment {
    /// A segment without batches, not on disk yet.
    pub(crate) fn new(header: SegmentHeader) -> Self {
        Self {
            header,
            blocks: Mutex::new(Blocks::new(&header)),
            published: AtomicU64::new(0),
            max_timestamp: AtomicI64::new(i64::MIN),
            compacted: None,
            exists: AtomicBool::new(false),
            checkpointed: AtomicU64::new(0),
            sidecar_entries: AtomicU64::new(0),
            closed: AtomicBool::new(false),
            found: Found::default(),
            suspect: AtomicBool::new(false),
            trusted: Mutex::default(),
        }
    }

    /// A segment as a checkpoint left it: `bytes` long, its open block as recorded, the whole blocks
    /// in the sidecar. Nothing is changed yet: see [`Self::cut`]. What is missing or damaged is said in
    /// the [`Reopened`]; the segment is there all the same, and takes no more.
    pub(crate) fn reopen(
        storage: &dyn Storage,
        handles: &Handles,
        recorded: &Recorded,
    ) -> Result<Reopened, StorageError> {
        let Recorded { header, bytes, open, done_crc, .. } = *recorded;
        let mut segment = Self::new(header);
        let is_compacted = recorded.compacted_ms > 0;
        segment.compacted =
            is_compacted.then_some(Compacted { at_ms: recorded.compacted_ms, at_elapsed_ms: None });
        if bytes == 0 {
            return Ok(Reopened { segment, flaw: None, is_sidecar_lost: false });
        }
        segment.found = Found { bytes, open_crc_state: open.crc_state };
        segment.checkpointed = AtomicU64::new(bytes);
        segment.exists = AtomicBool::new(true);
        let resume = |done| Blocks::resume(&header, done, open, bytes);
        let mut blocks = match segment.read_sidecar(storage, (bytes / SEGMENT_BLOCK_BYTES) as usize)? {
            Some(done) => resume(done),
            None => resume(Vec::new()),
        };
        let is_sidecar_lost = blocks.done_crc() != done_crc;
        let flaw = if is_sidecar_lost {
            segment.publish(bytes, i64::MIN);
            match Blocks::of_file(recorded, |buf, at| segment.fill(storage, handles, Reach::Disk, buf, at).0)
            {
                Some(made_anew) => {
                    blocks = made_anew;
                    None
                }
                None => {
                    blocks = Blocks::unknown(recorded);
                    Some(Lost::Everything)
                }
            }
        } else {
            segment.sidecar_entries = AtomicU64::new(blocks.done().len() as u64);
            match segment.len(storage)? {
                Some(found) if found >= bytes => None,
                Some(found) => Some(Lost::Behind(found)),
                None => Some(Lost::File),
            }
        };
        segment.closed = AtomicBool::new(flaw.is_some());
        segment.publish(bytes, blocks.max_timestamp().unwrap_or(i64::MIN));
        segment.blocks = Mutex::new(blocks);
        Ok(Reopened { segment, flaw, is_sidecar_lost })
    }

    /// Bytes of the file; none when there is no file.
    fn len(&self, storage: &dyn Storage) -> Result<Option<u64>, StorageError> {
        let path = self.path(FileKind::Segment);
        match storage.open(&path, OpenMode::Existing) {
            Ok(file) => match file.len() {
                Ok(bytes) => Ok(Some(bytes)),
                Err(source) => Err(StorageError::new("measure", &path, source)),
            },
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(StorageError::new("open", &path, source)),
        }
    }

    /// The file, as it is kept open.
    pub(crate) fn file(
        &self,
        storage: &dyn Storage,
        handles: &Handles,
    ) -> Result<Arc<dyn File>, StorageError> {
        handles.segment(storage, self)
    }

    /// The number of the block that was still filling when the segment was opened.
    pub(crate) fn found_open(&self) -> Option<u64> {
        self.expected_open().map(|open| open.number)
    }

    /// Whether its end is damaged, so that nothing may be added.
    pub(crate) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }

    pub(super) fn close(&self) {
        self.closed.store(true, Ordering::Release);
    }

    /// What the blocks that have bytes in a range must be; of the last one only if it was found so.
    pub(super) fn expected(&self, range: Range<u64>) -> Vec<Expected> {
        if range.is_empty() {
            return Vec::new();
        }
        let published = self.published();
        let numbers = range.start / SEGMENT_BLOCK_BYTES..(range.end - 1) / SEGMENT_BLOCK_BYTES + 1;
        let blocks = self.blocks();
        // A block may be full in memory while its last bytes are still being written.
        let whole = |number: u64| {
            let is_there = (number + 1) * SEGMENT_BLOCK_BYTES <= published;
            let crc = blocks.done().get(number as usize).filter(|_| is_there)?.crc;
            Some(Expected { number, bytes: SEGMENT_BLOCK_BYTES, crc: ExpectedCrc::Whole(crc) })
        };
        let open = self.expected_open();
        numbers.filter_map(|number| whole(number).or(open.filter(|open| open.number == number))).collect()
    }

    /// The block that was still filling when the segment was opened, as it was then.
    pub(super) fn expected_open(&self) -> Option<Expected> {
        let Found { bytes, open_crc_state } = self.found;
        let filled = bytes % SEGMENT_BLOCK_BYTES;
        (filled > 0).then_some(Expected {
            number: bytes / SEGMENT_BLOCK_BYTES,
            bytes: filled,
            crc: ExpectedCrc::State(open_crc_state),
        })
    }

    /// Whether a block needs no look of its own: it was compared, or this process has filled it.
    pub(super) fn is_trusted(&self, number: u64) -> bool {
        let is_own = number >= self.found.bytes.div_ceil(SEGMENT_BLOCK_BYTES);
        let trusted = lock(&self.trusted);
        let bits = trusted.get((number / 64) as usize).copied().unwrap_or(0);
        bits >> (number % 64) & 1 == 1 || (is_own && !self.suspect.load(Ordering::Acquire))
    }

    /// Lets every block be compared anew.
    pub(crate) fn distrust(&self) {
        self.suspect.store(true, Ordering::Release);
        lock(&self.trusted).clear();
    }

    pub(super) fn trust(&self, number: u64) {
        let mut trusted = lock(&self.trusted);
        let index = (number / 64) as usize;
        if trusted.len() <= index {
            trusted.resize(index + 1, 0);
        }
        trusted[index] |= 1 << (number % 64);
    }

    /// Cuts off what stands behind the checkpointed end: the journal is the only evidence of what
    /// belongs there.
    pub(crate) fn cut(&self, storage: &dyn Storage) -> Result<(), StorageError> {
        let bytes = self.published();
        // What is damaged is kept as it is: it is evidence.
        if bytes == 0 || self.is_closed() || is_planted(Defect::SegmentTailTrusted) {
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

    /// The first `count` entries of the sidecar; none when it is missing or damaged.
    pub(super) fn read_sidecar(
        &self,
        storage: &dyn Storage,
        count: usize,
    ) -> Result<Option<Vec<Block>>, StorageError> {
        if count == 0 {
            return Ok(Some(Vec::new()));
        }
        let path = self.path(FileKind::Sidecar);
        let file = match storage.open(&path, OpenMode::Existing) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(StorageError::new("open", &path, source)),
        };
        let mut bytes = vec![0; HEADER_BYTES + count * ENTRY_BYTES];
        let mut filled = 0;
        while filled < bytes.len() {
            match file.read_at(&mut bytes[filled..], filled as u64) {
                Ok(0) => return Ok(None),
                Ok(read) => filled += read,
                Err(error) if is_of_the_bytes(&error) => return Ok(None),
                Err(source) => return Err(StorageError::new("read", &path, source)),
            }
        }
        if SegmentHeader::decode(FileKind::Sidecar, &bytes) != Some(self.header) {
            return Ok(None);
        }
        let entries = bytes[HEADER_BYTES..].chunks_exact(ENTRY_BYTES).enumerate();
        Ok(entries.map(|(number, entry)| Block::decode(number as u64, entry).ok()).collect())
    }

    pub(crate) fn key(&self) -> SegmentKey {
        self.header.key()
    }

    pub(crate) fn path(&self, kind: FileKind) -> String {
        self.key().path(kind)
    }

    /// Whether compaction made it: offsets may be missing between its batches.
    pub(crate) fn is_compacted(&self) -> bool {
        self.header.number > 0
    }

    /// Whether a batch with the offset `found` can stand behind the offset before `next`.
    pub(crate) fn may_follow(&self, next: u64, found: u64) -> bool {
        found == next || (self.is_compacted() && found > next)
    }

    /// When it was compacted; `None` for a segment that appends filled.
    pub(crate) fn compacted(&self) -> Option<Compacted> {
        self.compacted
    }

    /// Whether a checkpoint covers all of it that readers may see.
    pub(crate) fn is_checkpointed(&self) -> bool {
        self.checkpointed.load(Ordering::Acquire) == self.published()
    }

    /// Notes that a checkpoint covers its first `bytes`.
    pub(crate) fn checkpoint_covers(&self, bytes: u64) {
        self.checkpointed.fetch_max(bytes, Ordering::AcqRel);
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

    /// Writes batches at the end of the segment, in its file, if that is `open` already. Returns the file,
    /// which must stay open until it is synced, and whether it was created.
    pub(crate) fn write<'a>(
        &self,
        storage: &dyn Storage,
        handles: &Handles,
        open: Option<Arc<dyn File>>,
        batches: impl ExactSizeIterator<Item = WrittenBatch<'a>>,
    ) -> Result<(Arc<dyn File>, bool), StorageError> {
        let created = !self.exists.load(Ordering::Acquire);
        let file = match open {
            Some(file) => file,
            None if created => self.create(storage, handles)?,
            None => handles.segment(storage, self)?,
        };
        let header = created.then(|| self.header.encode(FileKind::Segment));
        let mut blocks = self.blocks();
        let position = blocks.filled();
        let mut parts: Vec<&[u8]> = Vec::with_capacity(batches.len() + 1);
        if let Some(header) = &header {
            blocks.header(header);
            parts.push(header);
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

    /// A segment that compaction has written and made durable under its name.
    pub(crate) fn finished(header: SegmentHeader, blocks: Blocks, compacted: Compacted) -> Self {
        let segment = Self {
            compacted: Some(compacted),
            exists: AtomicBool::new(true),
            sidecar_entries: AtomicU64::new(blocks.done().len() as u64),
            ..Self::new(header)
        };
        segment.publish(blocks.filled(), blocks.max_timestamp().unwrap_or(i64::MIN));
        Self { blocks: Mutex::new(blocks), ..segment }
    }

    /// Creates the file, or empties one that a crash left behind before it was ever recorded.
    fn create(&self, storage: &dyn Storage, handles: &Handles) -> Result<Arc<dyn File>, StorageError> {
        let path = self.path(FileKind::Segment);
        let dir = partition_dir(self.header.partition);
        storage.create_dir(&dir).map_err(|source| StorageError::new("create", &dir, source))?;
        let file = handles.making_room(|| create_empty(storage, &path))?;
        handles.keep(self, file.clone());
        self.exists.store(true, Ordering::Release);
        Ok(file)
    }

    /// Makes the batches durable, in the file that they were written to, then brings the sidecar up to
    /// them and makes it durable too, unless the caller syncs the whole storage afterwards. Without a file
    /// the batches are durable already. Returns whether the sidecar was created: its name is not durable
    /// yet then.
    pub(crate) fn checkpoint(
        &self,
        storage: &dyn Storage,
        file: Option<&dyn File>,
        done: usize,
        sync: bool,
    ) -> Result<bool, StorageError> {
        if let Some(file) = file.filter(|_| sync && !is_planted(Defect::SyncedAheadIsEnough)) {
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
        reach: Reach,
        buf: &mut [u8],
        position: u64,
    ) -> io::Result<usize> {
        let end = self.published();
        let count = end.saturating_sub(position).min(buf.len() as u64) as usize;
        if count == 0 {
            return Ok(0);
        }
        if reach == Reach::Memory {
            let file = handles.opened(self).filter(|file| file.read_cached_at(&mut buf[..count], position));
            return match file {
                Some(_) => Ok(count),
                None if is_planted(Defect::NotInMemoryIsTheEnd) => Ok(0),
                None => Err(io::ErrorKind::WouldBlock.into()),
            };
        }
        let file = handles.segment(storage, self).map_err(|error| io::Error::new(error.kind(), error))?;
        file.read_at(&mut buf[..count], position)
    }
}

/// Creates a file, or empties the one that is there.
pub(crate) fn create_empty(storage: &dyn Storage, path: &str) -> Result<Arc<dyn File>, StorageError> {
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

/// A segment as it was found.
#[derive(Debug)]
pub(crate) struct Reopened {
    pub(crate) segment: Segment,
    /// Acknowledged bytes that are gone.
    pub(crate) flaw: Option<Lost>,
    /// The sidecar is not the one that the checkpoint means. Where nothing is lost with it, its entries
    /// were made anew from the segment, and the next checkpoint writes them.
    pub(crate) is_sidecar_lost: bool,
}

/// What is gone of a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lost {
    /// The file.
    File,
    /// What stood behind that many bytes.
    Behind(u64),
    /// The segment is damaged, and so is what would say where.
    Everything,
}
