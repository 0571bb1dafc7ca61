//! The seam between the log and whatever keeps its bytes.
//!
//! Everything above this module sees paths below one data directory, bytes and positions.
//! The disk, the memory and the faulty implementation run the same log code.

mod disk;
mod faulty;
mod hold;
mod memory;
mod path;
pub mod probe;

pub use disk::DiskStorage;
pub use faulty::{CrashMode, Failure, FaultyStorage, Hook, ReadFailure};
pub use memory::MemoryStorage;

use std::any::Any;
use std::fmt::Debug;
use std::io;
use std::ops::Range;
use std::sync::Arc;

/// An operation on the storage failed; says which, on which file, and why.
#[derive(Debug, thiserror::Error)]
#[error("cannot {what} {path}: {source}")]
pub struct StorageError {
    what: &'static str,
    path: String,
    source: io::Error,
}

impl StorageError {
    pub(crate) fn new(what: &'static str, path: &str, source: io::Error) -> Self {
        Self { what, path: path.to_owned(), source }
    }

    /// Whether there was no room, and the operation was not a sync: then nothing is in doubt.
    pub(crate) fn is_full(&self) -> bool {
        let full = matches!(self.source.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded);
        full && !self.what.starts_with("sync")
    }

    /// Whether no more files could be opened, by this process (EMFILE) or by any (ENFILE). A sync does not
    /// answer so: it was not begun, because the directory could not be opened, and nothing is in doubt.
    pub(crate) fn is_out_of_files(&self) -> bool {
        const OUT_OF_FILES: [i32; 2] = [24, 23];
        self.source.raw_os_error().is_some_and(|code| OUT_OF_FILES.contains(&code))
    }

    /// The kind of the underlying error.
    #[must_use]
    pub fn kind(&self) -> io::ErrorKind {
        self.source.kind()
    }
}

/// What a storage wants from the log above it.
#[derive(Clone, Copy, Debug)]
pub struct Wants {
    /// Journal files are filled with zeros once, at creation, so that a later sync has no file
    /// metadata to commit. False where writing zeros buys nothing.
    pub prefill: bool,
}

/// How [`Storage::open`] treats a file that is there or is not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OpenMode {
    /// The file must exist; it is opened for reading and writing.
    Existing,
    /// The file must not exist; it is created empty.
    CreateNew,
}

/// One data directory.
///
/// Paths are relative, use `/`, and never contain `..`. The contract on durability is POSIX's, read
/// strictly: a file's bytes survive a power cut only after [`File::sync_data`], a file's *name*
/// only after [`Storage::sync_dir`] on its directory; either alone is not enough.
pub trait Storage: Debug + Send + Sync + 'static {
    /// Opens or creates a file.
    ///
    /// # Errors
    /// `NotFound` or `AlreadyExists` by `mode`, else what the system says.
    fn open(&self, path: &str, mode: OpenMode) -> io::Result<Arc<dyn File>>;

    /// Names (not paths) of the entries of a directory, in no order. `""` is the data directory.
    ///
    /// # Errors
    /// `NotFound` when there is no such directory.
    fn list(&self, dir: &str) -> io::Result<Vec<String>>;

    /// Creates a directory whose parent exists. Not an error when it is there already.
    ///
    /// # Errors
    /// What the system says.
    fn create_dir(&self, dir: &str) -> io::Result<()>;

    /// Renames a file, replacing the target atomically.
    ///
    /// # Errors
    /// `NotFound`, or what the system says.
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;

    /// Unlinks a file.
    ///
    /// # Errors
    /// `NotFound`, or what the system says.
    fn remove_file(&self, path: &str) -> io::Result<()>;

    /// Removes an empty directory.
    ///
    /// # Errors
    /// `NotFound`, not empty, or what the system says.
    fn remove_dir(&self, dir: &str) -> io::Result<()>;

    /// Makes the names in a directory durable.
    ///
    /// # Errors
    /// What the system says. After an error nothing may be assumed about what is on disk.
    fn sync_dir(&self, dir: &str) -> io::Result<()>;

    /// Makes every file and name of the data directory durable (`syncfs` on Linux).
    ///
    /// # Errors
    /// As [`Storage::sync_dir`].
    fn sync_all(&self) -> io::Result<()>;

    /// Bytes that can still be written before the storage is full.
    ///
    /// # Errors
    /// What the system says.
    fn free_bytes(&self) -> io::Result<u64>;

    /// Bytes that the storage has in all.
    ///
    /// # Errors
    /// `Unsupported` where there is no such number, or what the system says.
    fn total_bytes(&self) -> io::Result<u64> {
        Err(io::ErrorKind::Unsupported.into())
    }

    /// Names the time since the machine was last started: what was written in it is still seen, synced
    /// or not. `None` where nobody knows.
    fn boot(&self) -> Option<uuid::Uuid> {
        None
    }

    /// Takes the data directory for this process until the guard is dropped.
    ///
    /// # Errors
    /// `WouldBlock` when another process holds it.
    fn lock(&self) -> io::Result<Box<dyn Any + Send + Sync>>;

    /// As [`Self::lock`], for a process that changes nothing: nobody who does takes the data directory until the guard
    /// is dropped. `None` where nothing can be written and no lock is to be had: then nobody is kept out.
    ///
    /// # Errors
    /// As [`Self::lock`].
    fn lock_to_read(&self) -> io::Result<Option<Box<dyn Any + Send + Sync>>> {
        self.lock().map(Some)
    }

    /// What this storage wants.
    fn wants(&self) -> Wants;
}

/// An open file. Reads and writes carry their position, so that one handle serves all threads.
#[allow(
    clippy::len_without_is_empty,
    reason = "the length is an answer of the system that can fail, not the size of a collection"
)]
pub trait File: Debug + Send + Sync + 'static {
    /// Reads up to `buf.len()` bytes; fewer only at the end of the file.
    ///
    /// # Errors
    /// What the system says.
    fn read_at(&self, buf: &mut [u8], position: u64) -> io::Result<usize>;

    /// Fills `buf` from `position` on with what is in memory already, and says whether that was all of it. It waits
    /// for nothing that is read from a disk; the system may begin to read more, and wait until the disk takes that.
    /// Where it says no, anything may be in `buf`, and [`Self::read_at`] tells why.
    fn read_cached_at(&self, _buf: &mut [u8], _position: u64) -> bool {
        false
    }

    /// Writes all of `bufs`, one after the other, beginning at `position`; the file grows as needed.
    ///
    /// # Errors
    /// What the system says. Part of the bytes may have been written.
    fn write_at(&self, bufs: &[&[u8]], position: u64) -> io::Result<()>;

    /// As [`Self::write_at`], for bytes that are synced next and read by nobody before the next start: they
    /// need not go through the page cache. Whether they have gone past it: then the disk has them, in a cache of
    /// its own perhaps, and a sync has nothing of them to write any more. They are durable only after it.
    ///
    /// # Errors
    /// As [`Self::write_at`].
    fn write_to_sync(&self, buf: &[u8], position: u64) -> io::Result<bool> {
        self.write_at(&[buf], position)?;
        Ok(false)
    }

    /// Begins to make bytes durable that nobody reads before the next start, so that the next [`Self::sync_data`]
    /// finds less left to do. It promises nothing: what goes wrong with them is told by that sync.
    fn begin_sync(&self, _range: Range<u64>) {}

    /// Makes the file's bytes and length durable (`fdatasync`).
    ///
    /// # Errors
    /// What the system says. After an error nothing may be assumed about what is on disk, and a
    /// second call that succeeds proves nothing (the fsync study, ATC '20).
    fn sync_data(&self) -> io::Result<()>;

    /// The file's length in bytes.
    ///
    /// # Errors
    /// What the system says.
    fn len(&self) -> io::Result<u64>;

    /// Cuts or extends (with zeros) the file.
    ///
    /// # Errors
    /// What the system says.
    fn set_len(&self, len: u64) -> io::Result<()>;

    /// Forgets cached clean pages, so that the next read shows what the disk holds and not what a
    /// failed sync left in memory.
    ///
    /// # Errors
    /// What the system says.
    fn drop_cache(&self) -> io::Result<()>;
}
