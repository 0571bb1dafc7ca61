//! A data directory in memory, for tests and for logs that need not outlive the process.

use std::any::Any;
use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use super::hold::HoldFlag;
use super::{File, OpenMode, Storage, Wants, path};

/// A data directory in memory with a cap on its bytes.
///
/// A clone is the same directory, so that a log can be opened again on what an earlier one wrote.
/// The cap counts the lengths of the files, those that are unlinked but still open included; the
/// memory taken may be up to twice as much while files grow.
#[derive(Clone)]
pub struct MemoryStorage {
    names: Arc<Mutex<BTreeMap<Arc<str>, Node>>>,
    budget: Arc<Budget>,
    hold: HoldFlag,
}

#[derive(Clone)]
enum Node {
    Dir,
    File(Arc<Contents>),
}

impl MemoryStorage {
    /// An empty directory that holds at most `cap_bytes`.
    #[must_use]
    pub fn new(cap_bytes: u64) -> Self {
        Self {
            names: Arc::default(),
            budget: Arc::new(Budget { cap: cap_bytes, used: Mutex::new(0) }),
            hold: HoldFlag::default(),
        }
    }

    fn names(&self) -> MutexGuard<'_, BTreeMap<Arc<str>, Node>> {
        self.names.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for MemoryStorage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryStorage")
            .field("cap_bytes", &self.budget.cap)
            .field("free_bytes", &self.budget.free())
            .finish_non_exhaustive()
    }
}

fn need_dir(names: &BTreeMap<Arc<str>, Node>, dir: &str) -> io::Result<()> {
    if dir.is_empty() {
        return Ok(());
    }
    match names.get(dir) {
        Some(Node::Dir) => Ok(()),
        Some(Node::File(_)) => Err(io::ErrorKind::NotADirectory.into()),
        None => Err(io::ErrorKind::NotFound.into()),
    }
}

fn need_file(names: &BTreeMap<Arc<str>, Node>, path: &str) -> io::Result<Arc<Contents>> {
    match names.get(path) {
        Some(Node::File(contents)) => Ok(Arc::clone(contents)),
        Some(Node::Dir) => Err(io::ErrorKind::IsADirectory.into()),
        None => Err(io::ErrorKind::NotFound.into()),
    }
}

impl Storage for MemoryStorage {
    fn open(&self, path: &str, mode: OpenMode) -> io::Result<Arc<dyn File>> {
        path::check(path)?;
        let mut names = self.names();
        let contents = match mode {
            OpenMode::Existing => need_file(&names, path)?,
            OpenMode::CreateNew => {
                need_dir(&names, path::parent(path))?;
                if path.is_empty() || names.contains_key(path) {
                    return Err(io::ErrorKind::AlreadyExists.into());
                }
                let contents =
                    Arc::new(Contents { bytes: RwLock::default(), budget: Arc::clone(&self.budget) });
                names.insert(Arc::from(path), Node::File(Arc::clone(&contents)));
                contents
            }
        };
        Ok(Arc::new(MemoryFile { contents }))
    }

    fn list(&self, dir: &str) -> io::Result<Vec<String>> {
        path::check(dir)?;
        let names = self.names();
        need_dir(&names, dir)?;
        Ok(path::children(&names, dir))
    }

    fn create_dir(&self, dir: &str) -> io::Result<()> {
        path::check(dir)?;
        let mut names = self.names();
        need_dir(&names, path::parent(dir))?;
        match names.get(dir) {
            Some(Node::File(_)) => return Err(io::ErrorKind::AlreadyExists.into()),
            None if !dir.is_empty() => names.insert(Arc::from(dir), Node::Dir),
            Some(Node::Dir) | None => None,
        };
        Ok(())
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        path::check(from)?;
        path::check(to)?;
        let mut names = self.names();
        let contents = need_file(&names, from)?;
        need_dir(&names, path::parent(to))?;
        if to.is_empty() || matches!(names.get(to), Some(Node::Dir)) {
            return Err(io::ErrorKind::IsADirectory.into());
        }
        names.remove(from);
        names.insert(Arc::from(to), Node::File(contents));
        Ok(())
    }

    fn remove_file(&self, path: &str) -> io::Result<()> {
        path::check(path)?;
        let mut names = self.names();
        need_file(&names, path)?;
        names.remove(path);
        Ok(())
    }

    fn remove_dir(&self, dir: &str) -> io::Result<()> {
        path::check(dir)?;
        let mut names = self.names();
        need_dir(&names, dir)?;
        if !path::children(&names, dir).is_empty() {
            return Err(io::ErrorKind::DirectoryNotEmpty.into());
        }
        names.remove(dir);
        Ok(())
    }

    fn sync_dir(&self, dir: &str) -> io::Result<()> {
        path::check(dir)?;
        need_dir(&self.names(), dir)
    }

    fn sync_all(&self) -> io::Result<()> {
        Ok(())
    }

    fn boot(&self) -> Option<uuid::Uuid> {
        // What is gone with the machine is not looked for afterwards.
        Some(uuid::Uuid::from_u128(1))
    }

    fn free_bytes(&self) -> io::Result<u64> {
        Ok(self.budget.free())
    }

    fn lock(&self) -> io::Result<Box<dyn Any + Send + Sync>> {
        Ok(Box::new(self.hold.take()?))
    }

    fn wants(&self) -> Wants {
        Wants { prefill: false }
    }
}

/// Counts the bytes of all files against the cap.
struct Budget {
    cap: u64,
    used: Mutex<u64>,
}

impl Budget {
    fn used(&self) -> MutexGuard<'_, u64> {
        self.used.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn free(&self) -> u64 {
        self.cap.saturating_sub(*self.used())
    }

    fn take(&self, bytes: u64) -> io::Result<()> {
        let mut used = self.used();
        match used.checked_add(bytes) {
            Some(sum) if sum <= self.cap => {
                *used = sum;
                Ok(())
            }
            _ => Err(io::ErrorKind::StorageFull.into()),
        }
    }

    fn give_back(&self, bytes: u64) {
        let mut used = self.used();
        *used = used.saturating_sub(bytes);
    }
}

/// A file's bytes. They live as long as a name or a handle does.
struct Contents {
    bytes: RwLock<Vec<u8>>,
    budget: Arc<Budget>,
}

impl Contents {
    fn read(&self) -> RwLockReadGuard<'_, Vec<u8>> {
        self.bytes.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Vec<u8>> {
        self.bytes.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes room for `len` bytes and charges what they are more than now. The caller fills them.
    fn grow(&self, bytes: &mut Vec<u8>, len: u64) -> io::Result<usize> {
        let growth = len.saturating_sub(bytes.len() as u64);
        self.budget.take(growth)?;
        let room = usize::try_from(growth).ok().and_then(|growth| bytes.try_reserve(growth).ok());
        match (room, usize::try_from(len)) {
            (Some(()), Ok(len)) => Ok(len),
            _ => {
                self.budget.give_back(growth);
                Err(io::ErrorKind::OutOfMemory.into())
            }
        }
    }
}

impl Drop for Contents {
    fn drop(&mut self) {
        let len = self.read().len() as u64;
        self.budget.give_back(len);
    }
}

struct MemoryFile {
    contents: Arc<Contents>,
}

impl fmt::Debug for MemoryFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryFile").field("len", &self.contents.read().len()).finish()
    }
}

impl File for MemoryFile {
    fn read_at(&self, buf: &mut [u8], position: u64) -> io::Result<usize> {
        let bytes = self.contents.read();
        let start = usize::try_from(position).map_or(bytes.len(), |at| at.min(bytes.len()));
        let count = buf.len().min(bytes.len() - start);
        buf[..count].copy_from_slice(&bytes[start..start + count]);
        Ok(count)
    }

    fn read_cached_at(&self, buf: &mut [u8], position: u64) -> bool {
        self.read_at(buf, position).is_ok_and(|count| count == buf.len())
    }

    fn write_at(&self, bufs: &[&[u8]], position: u64) -> io::Result<()> {
        let total: usize = bufs.iter().map(|buf| buf.len()).sum();
        if total == 0 {
            return Ok(());
        }
        let end = position.checked_add(total as u64).ok_or(io::ErrorKind::InvalidInput)?;
        let mut bytes = self.contents.write();
        let len = bytes.len();
        let end = self.contents.grow(&mut bytes, end.max(len as u64))?;
        // Below the end, which fits.
        let mut at = position as usize;
        if at == len {
            bufs.iter().for_each(|buf| bytes.extend_from_slice(buf));
            return Ok(());
        }
        bytes.resize(end, 0);
        for buf in bufs {
            bytes[at..at + buf.len()].copy_from_slice(buf);
            at += buf.len();
        }
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        Ok(())
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.contents.read().len() as u64)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let mut bytes = self.contents.write();
        let old = bytes.len() as u64;
        let new = self.contents.grow(&mut bytes, len)?;
        bytes.resize(new, 0);
        if len < old {
            bytes.shrink_to_fit();
            self.contents.budget.give_back(old - len);
        }
        Ok(())
    }

    fn drop_cache(&self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_through_a_clone() {
        let storage = MemoryStorage::new(100);
        let file = storage.open("a", OpenMode::CreateNew).unwrap();
        file.write_at(&[b"ab", b"cd"], 0).unwrap();
        file.write_at(&[b"ef"], 4).unwrap();
        file.write_at(&[b"X", b"YZ"], 5).unwrap();
        file.write_at(&[b"!"], 9).unwrap();
        let again = storage.clone().open("a", OpenMode::Existing).unwrap();
        let mut buf = [1; 16];
        assert_eq!(again.read_at(&mut buf, 0).unwrap(), 10);
        assert_eq!(&buf[..10], b"abcdeXYZ\0!");
        assert_eq!(again.read_at(&mut buf, u64::MAX).unwrap(), 0);
        file.set_len(2).unwrap();
        file.set_len(4).unwrap();
        assert_eq!(again.read_at(&mut buf, 0).unwrap(), 4);
        assert_eq!(&buf[..4], b"ab\0\0");
    }

    #[test]
    fn the_cap_holds_and_unlinking_gives_room_back() {
        let storage = MemoryStorage::new(10);
        let file = storage.open("a", OpenMode::CreateNew).unwrap();
        file.write_at(&[&[1; 8]], 0).unwrap();
        let full = file.write_at(&[&[1; 3]], 8).unwrap_err();
        assert_eq!(full.kind(), io::ErrorKind::StorageFull);
        let full = file.set_len(1 << 60).unwrap_err();
        assert_eq!(full.kind(), io::ErrorKind::StorageFull);
        file.write_at(&[&[2; 8]], 2).unwrap();
        assert_eq!(storage.free_bytes().unwrap(), 0);
        file.set_len(4).unwrap();
        assert_eq!(storage.free_bytes().unwrap(), 6);
        storage.remove_file("a").unwrap();
        assert_eq!(storage.free_bytes().unwrap(), 6);
        drop(file);
        assert_eq!(storage.free_bytes().unwrap(), 10);
    }

    #[test]
    fn names() {
        let storage = MemoryStorage::new(10);
        let orphan = storage.open("d/a", OpenMode::CreateNew).unwrap_err();
        assert_eq!(orphan.kind(), io::ErrorKind::NotFound);
        storage.create_dir("d").unwrap();
        storage.create_dir("d").unwrap();
        storage.open("d/a", OpenMode::CreateNew).unwrap();
        let twice = storage.open("d/a", OpenMode::CreateNew).unwrap_err();
        assert_eq!(twice.kind(), io::ErrorKind::AlreadyExists);
        storage.rename("d/a", "d/b").unwrap();
        assert_eq!(storage.list("d").unwrap(), ["b"]);
        assert_eq!(storage.list("").unwrap(), ["d"]);
        storage.remove_dir("d").unwrap_err();
        storage.remove_file("d/b").unwrap();
        storage.remove_dir("d").unwrap();
        let gone = storage.sync_dir("d").unwrap_err();
        assert_eq!(gone.kind(), io::ErrorKind::NotFound);
    }

    #[test]
    fn one_holder_at_a_time() {
        let storage = MemoryStorage::new(10);
        let guard = storage.lock().unwrap();
        let held = storage.clone().lock().unwrap_err();
        assert_eq!(held.kind(), io::ErrorKind::WouldBlock);
        drop(guard);
        storage.lock().unwrap();
    }
}
