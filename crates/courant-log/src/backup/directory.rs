//! Backups in a directory: a file for each object, written beside its place and renamed into it.

use std::any::Any;
use std::collections::BTreeSet;
use std::io::{self, Read};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use super::target::{Listed, Put, Target};
use crate::layout::FORMAT_FILE;
use crate::lock;
use crate::storage::{File, OpenMode, Storage, StorageError};

/// What names of files begin with that are not finished.
const UNFINISHED: &str = "unfinished-";

/// Folders within folders that are looked into. Names of objects have fewer.
const DEPTH_MAX: usize = 8;

/// A directory with backups of one log.
#[derive(Debug)]
pub struct DirectoryTarget {
    storage: Arc<dyn Storage>,
    /// Folders that are known to be there, and durable.
    made: Mutex<BTreeSet<String>>,
    next: AtomicU64,
}

/// Why a directory takes no backups.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NotATarget {
    /// It is the data directory of a log.
    #[error("this is a data directory; choose another directory for its backups, on another disk")]
    DataDirectory,
    /// The storage failed.
    #[error(transparent)]
    Storage(#[from] StorageError),
}

impl DirectoryTarget {
    /// Backups in the directory of that storage. Nothing is made before the first object is.
    ///
    /// # Errors
    /// See [`NotATarget`].
    pub fn new(storage: Arc<dyn Storage>) -> Result<Self, NotATarget> {
        match storage.open(FORMAT_FILE, OpenMode::Existing) {
            Ok(_) => return Err(NotATarget::DataDirectory),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(source) => return Err(StorageError::new("open", FORMAT_FILE, source).into()),
        }
        Ok(Self { storage, made: Mutex::default(), next: AtomicU64::new(0) })
    }

    /// Makes a folder and those around it, durably.
    fn make(&self, dir: &str) -> io::Result<()> {
        let mut made = lock(&self.made);
        let ends = dir.match_indices('/').map(|(at, _)| at).chain([dir.len()]);
        for dir in ends.map(|end| &dir[..end]).filter(|dir| !dir.is_empty()) {
            if made.contains(dir) {
                continue;
            }
            self.storage.create_dir(dir)?;
            self.storage.sync_dir(parent(dir))?;
            made.insert(dir.to_owned());
        }
        Ok(())
    }

    fn walk(&self, dir: &str, depth: usize, found: &mut Vec<Listed>) -> io::Result<()> {
        let names = match self.storage.list(dir) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            listed => listed?,
        };
        for name in names {
            let path = if dir.is_empty() { name } else { format!("{dir}/{name}") };
            match self.storage.open(&path, OpenMode::Existing) {
                Ok(file) => found.push(Listed { bytes: file.len()?, name: path }),
                Err(error) if error.kind() == io::ErrorKind::IsADirectory => {
                    if depth > 0 {
                        self.walk(&path, depth - 1, found)?;
                    }
                }
                // It was removed meanwhile.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

/// The folder of an entry; `""` for one of the directory itself.
fn parent(path: &str) -> &str {
    path.rsplit_once('/').map_or("", |(parent, _)| parent)
}

impl Target for DirectoryTarget {
    fn lock(&self) -> io::Result<Box<dyn Any + Send + Sync>> {
        self.storage.lock()
    }

    fn put(&self, name: &str) -> io::Result<Box<dyn Put + '_>> {
        let temporary = format!("{UNFINISHED}{}", self.next.fetch_add(1, Ordering::Relaxed));
        match self.storage.remove_file(&temporary) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let file = self.storage.open(&temporary, OpenMode::CreateNew)?;
        let name = name.to_owned();
        Ok(Box::new(Writing { target: self, file, temporary, name, position: 0, finished: false }))
    }

    fn get(&self, name: &str) -> io::Result<Box<dyn Read + '_>> {
        let file = self.storage.open(name, OpenMode::Existing)?;
        Ok(Box::new(Reading { file, position: 0 }))
    }

    fn list(&self, prefix: &str) -> io::Result<Vec<Listed>> {
        let mut found = Vec::new();
        self.walk(parent(prefix), DEPTH_MAX, &mut found)?;
        found.retain(|listed| listed.name.starts_with(prefix) && !listed.name.starts_with(UNFINISHED));
        found.sort_unstable_by(|a, b| a.name.cmp(&b.name));
        Ok(found)
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.storage.remove_file(name)?;
        let mut dir = parent(name);
        self.storage.sync_dir(dir)?;
        let mut made = lock(&self.made);
        // A folder with something in it does not go, and a folder too many is in nobody's way.
        while !dir.is_empty() && self.storage.remove_dir(dir).is_ok() {
            made.remove(dir);
            dir = parent(dir);
        }
        Ok(())
    }
}

/// An object that is being written.
#[derive(Debug)]
struct Writing<'a> {
    target: &'a DirectoryTarget,
    file: Arc<dyn File>,
    temporary: String,
    name: String,
    position: u64,
    finished: bool,
}

impl Put for Writing<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.file.write_at(&[bytes], self.position)?;
        self.position += bytes.len() as u64;
        Ok(())
    }

    fn finish(mut self: Box<Self>) -> io::Result<()> {
        self.file.sync_data()?;
        let dir = parent(&self.name).to_owned();
        self.target.make(&dir)?;
        self.target.storage.rename(&self.temporary, &self.name)?;
        self.finished = true;
        self.target.storage.sync_dir(&dir)
    }
}

impl Drop for Writing<'_> {
    fn drop(&mut self) {
        if !self.finished {
            // What stays is replaced by the first object of another process.
            let _ = self.target.storage.remove_file(&self.temporary);
        }
    }
}

/// An object that is being read.
#[derive(Debug)]
struct Reading {
    file: Arc<dyn File>,
    position: u64,
}

impl Read for Reading {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let count = self.file.read_at(buf, self.position)?;
        self.position += count as u64;
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::MemoryStorage;

    fn target() -> (MemoryStorage, DirectoryTarget) {
        let storage = MemoryStorage::new(1024 * 1024);
        let target = DirectoryTarget::new(Arc::new(storage.clone())).expect("opens");
        (storage, target)
    }

    fn put(target: &DirectoryTarget, name: &str, bytes: &[u8]) {
        let mut put = target.put(name).expect("begins");
        put.write(bytes).expect("writes");
        put.finish().expect("finishes");
    }

    #[test]
    fn an_object_is_there_when_it_is_finished_and_not_before() {
        let (storage, target) = target();
        let mut abandoned = target.put("a/b/c").expect("begins");
        abandoned.write(b"half").expect("writes");
        assert_eq!(target.list("").expect("lists"), []);
        drop(abandoned);
        assert!(storage.list("").expect("lists").is_empty());
        put(&target, "a/b/c", b"one");
        put(&target, "a/b/c", b"second");
        put(&target, "a/d", b"");
        let names: Vec<_> = target.list("a/").expect("lists").into_iter().map(|found| found.name).collect();
        assert_eq!(names, ["a/b/c", "a/d"]);
        assert_eq!(target.list("a/b/").expect("lists")[0].bytes, 6);
        let mut read = Vec::new();
        target.get("a/b/c").expect("opens").read_to_end(&mut read).expect("reads");
        assert_eq!(read, b"second");
    }

    #[test]
    fn empty_folders_go_and_come_again() {
        let (storage, target) = target();
        put(&target, "a/b/c", b"one");
        target.remove("a/b/c").expect("removes");
        assert!(storage.list("").expect("lists").is_empty());
        put(&target, "a/b/c", b"one");
        assert_eq!(target.list("a/").expect("lists").len(), 1);
        let missing = target.remove("a/x").expect_err("it is not there");
        assert_eq!(missing.kind(), io::ErrorKind::NotFound);
    }

    #[test]
    fn a_data_directory_takes_no_backups() {
        let storage = MemoryStorage::new(1024);
        storage.open(FORMAT_FILE, OpenMode::CreateNew).expect("creates");
        let refused = DirectoryTarget::new(Arc::new(storage));
        assert!(matches!(refused, Err(NotATarget::DataDirectory)), "{refused:?}");
    }
}
