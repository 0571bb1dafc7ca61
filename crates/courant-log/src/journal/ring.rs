//! The files of the ring: how one is made, and how they are found again.

use std::io;
use std::sync::Arc;

use uuid::Uuid;

use super::file_header::NotAHeader;
use super::scan::{ScanError, Scanned};
use super::{DIR, FileHeader};
use crate::limits::{BLOCK_BYTES, JOURNAL_FILE_BYTES_MAX, JOURNAL_FILES_MAX};
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
    /// the directory. `docs/formats/journal.md` says why: "Ring files".
    pub(crate) fn create(storage: &dyn Storage, number: u64, file_bytes: u64) -> Result<Self, StorageError> {
        let path = path_of(number);
        let temporary = format!("{path}.new");
        let created = Self::fill(storage, &temporary, file_bytes);
        let file = created.inspect_err(|_| {
            // A part of a file takes room that something else may need. It is in nobody's way else.
            let _ = storage.remove_file(&temporary);
        })?;
        let at = |what| move |source| StorageError::new(what, DIR, source);
        storage.rename(&temporary, &path).map_err(at("rename a file in"))?;
        storage.sync_dir(DIR).map_err(at("sync"))?;
        Ok(Self { path, file, file_bytes })
    }

    fn fill(storage: &dyn Storage, path: &str, file_bytes: u64) -> Result<Arc<dyn File>, StorageError> {
        let at = |what| move |source| StorageError::new(what, path, source);
        match storage.remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(at("remove")(error)),
            _ => {}
        }
        let file = storage.open(path, OpenMode::CreateNew).map_err(at("create"))?;
        if storage.wants().prefill {
            let zeros = vec![0u8; 1024 * 1024];
            let mut position = 0;
            while position < file_bytes {
                let count = (file_bytes - position).min(zeros.len() as u64);
                file.write_at(&[&zeros[..count as usize]], position).map_err(at("fill"))?;
                position += count;
            }
        } else {
            file.set_len(file_bytes).map_err(at("extend"))?;
        }
        file.sync_data().map_err(at("sync"))?;
        Ok(file)
    }

    /// Bytes behind the header block that groups may fill: whole blocks, one of them kept back for the
    /// name of the file that follows, and not more than a start will read.
    pub(crate) fn capacity(&self) -> u64 {
        capacity_of(self.file_bytes)
    }

    /// The block at a byte of the file; shorter where the file ends.
    pub(super) fn read_block(&self, at: u64) -> Result<Vec<u8>, StorageError> {
        let mut block = vec![0; BLOCK_BYTES];
        let count = read_up_to(&*self.file, &mut block, at)
            .map_err(|source| StorageError::new("read", &self.path, source))?;
        block.truncate(count);
        Ok(block)
    }
}

/// Bytes of groups that a ring file of that size takes.
pub(crate) fn capacity_of(file_bytes: u64) -> u64 {
    let whole = file_bytes.min(JOURNAL_FILE_BYTES_MAX) / BLOCK_BYTES as u64;
    whole.saturating_sub(2) * BLOCK_BYTES as u64
}

/// A ring file and what its header says.
pub(super) struct Found {
    pub(super) ring: RingFile,
    pub(super) header: FileHeader,
}

/// Opens every ring file; those of generation `from` and later in order, the others as free.
pub(super) fn find_files(
    storage: &Arc<dyn Storage>,
    log_id: Uuid,
    from: u64,
) -> Result<(Vec<Found>, Scanned), ScanError> {
    let mut scanned = Scanned { next_number: 1, ..Scanned::default() };
    let names = storage.list(DIR).map_err(|source| StorageError::new("list", DIR, source))?;
    let mut numbers: Vec<u64> = names.iter().filter_map(|name| number_of(name)).collect();
    if numbers.len() > JOURNAL_FILES_MAX {
        return Err(ScanError::TooManyFiles { count: numbers.len() });
    }
    numbers.sort_unstable();
    let mut files = Vec::new();
    for number in numbers {
        scanned.next_number = number + 1;
        let path = path_of(number);
        let (ring, block) = open(&**storage, &path)?;
        match FileHeader::decode(&block) {
            Err(NotAHeader::Newer(version)) => return Err(ScanError::Newer { path, version }),
            Err(NotAHeader::Invalid) => scanned.free.push(ring),
            Ok(header) if header.log_id != log_id => {
                return Err(ScanError::Foreign { path, found: header.log_id });
            }
            Ok(header) => {
                scanned.generation = scanned.generation.max(header.seed.generation);
                if header.seed.generation >= from {
                    let expected = header.capacity + BLOCK_BYTES as u64;
                    if ring.file_bytes < expected {
                        return Err(ScanError::Short { path, found: ring.file_bytes, expected });
                    }
                    files.push(Found { ring, header });
                } else {
                    scanned.free.push(ring);
                }
            }
        }
    }
    files.sort_by_key(|found| found.header.seed.generation);
    Ok((files, scanned))
}

pub(crate) fn path_of(number: u64) -> String {
    format!("{DIR}/{number:08}.journal")
}

/// The number in a name that we gave; other files are nobody's business here.
fn number_of(name: &str) -> Option<u64> {
    let digits = name.strip_suffix(".journal")?;
    let number = digits.parse().ok()?;
    (path_of(number).len() == DIR.len() + 1 + name.len() && number < u64::MAX).then_some(number)
}

/// A ring file with its first block, as the disk holds them.
fn open(storage: &dyn Storage, path: &str) -> Result<(RingFile, Vec<u8>), StorageError> {
    let at = |what| move |source| StorageError::new(what, path, source);
    let file = storage.open(path, OpenMode::Existing).map_err(at("open"))?;
    file.drop_cache().map_err(at("drop the cache of"))?;
    let file_bytes = file.len().map_err(at("measure"))?;
    let mut block = vec![0; BLOCK_BYTES];
    let count = read_up_to(&*file, &mut block, 0).map_err(at("read"))?;
    block.truncate(count);
    Ok((RingFile { path: path.to_owned(), file, file_bytes }, block))
}

fn read_up_to(file: &dyn File, buf: &mut [u8], position: u64) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buf.len() {
        match file.read_at(&mut buf[filled..], position + filled as u64)? {
            0 => break,
            count => filled += count,
        }
    }
    Ok(filled)
}

/// All bytes of a ring file.
pub(super) fn read_whole(ring: &RingFile) -> Result<Vec<u8>, StorageError> {
    // Nobody wrote more than that: what is longer was made longer by something else.
    let count = ring.file_bytes.min(JOURNAL_FILE_BYTES_MAX);
    let mut bytes = vec![0; count as usize];
    let count = read_up_to(&*ring.file, &mut bytes, 0)
        .map_err(|source| StorageError::new("read", &ring.path, source))?;
    bytes.truncate(count);
    Ok(bytes)
}
