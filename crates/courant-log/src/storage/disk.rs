//! A data directory on a file system.
//!
//! This module, `file` in it and `probe` beside it are the only ones of the log that touch `std::fs`.

mod file;

use std::any::Any;
use std::fs;
use std::io::{self, Read as _};
use std::os::unix::fs::{DirBuilderExt as _, FileExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::FlockOperation;
use rustix::io::Errno;

use self::file::DiskFile;
use super::{File, OpenMode, Storage, Wants, path, probe};

/// The file whose lock says that a process uses the directory. Never listed.
pub(super) const LOCK_FILE: &str = "LOCK";
/// Events may be secret: nobody but the owner and its group reads them.
const FILE_MODE: u32 = 0o640;
/// As [`FILE_MODE`], for directories.
const DIR_MODE: u32 = 0o750;

/// A data directory on a file system.
///
/// With the cargo feature `planted-defects`, the environment variable
/// `COURANT_PLANTED_DEFECT=no-sync`, read when the storage is opened, turns `sync_data`, `sync_dir`
/// and `sync_all` into calls that do nothing. It exists so that the power-cut tests can show that
/// they notice a log that does not sync; without the feature the switch is not compiled in.
#[derive(Debug)]
pub struct DiskStorage {
    root: PathBuf,
    /// Kept open so that `syncfs` reports every write-back error since the storage was opened:
    /// Linux counts them per open handle.
    handle: fs::File,
    syncs: bool,
    is_read_only: bool,
}

impl DiskStorage {
    /// Opens a data directory, creating it and its missing parents, durably.
    ///
    /// # Errors
    /// `NotFound` where a link leads to nothing ([`probe::dangling_link`]), else what the system says.
    pub fn open(dir: &Path) -> io::Result<Self> {
        create_durably(dir)?;
        let syncs = syncs();
        if !syncs {
            tracing::warn!("planted defect: this storage syncs nothing");
        }
        Ok(Self { root: dir.to_owned(), handle: fs::File::open(dir)?, syncs, is_read_only: false })
    }

    /// Opens a directory that is there, for reading alone: its files are opened so that they could not be
    /// written, and whatever would change the directory is refused. The permission to read is enough.
    ///
    /// # Errors
    /// `NotFound`, `NotADirectory`, or what the system says.
    pub fn read_only(dir: &Path) -> io::Result<Self> {
        let handle = fs::File::open(dir)?;
        if !handle.metadata()?.is_dir() {
            return Err(io::ErrorKind::NotADirectory.into());
        }
        Ok(Self { root: dir.to_owned(), handle, syncs: syncs(), is_read_only: true })
    }

    /// Every change of the directory begins here.
    fn check_writable(&self) -> io::Result<()> {
        if self.is_read_only {
            return Err(io::Error::new(
                io::ErrorKind::ReadOnlyFilesystem,
                "the directory is opened for reading only",
            ));
        }
        Ok(())
    }

    fn resolve(&self, path: &str) -> io::Result<PathBuf> {
        path::check(path)?;
        Ok(if path.is_empty() { self.root.clone() } else { self.root.join(path) })
    }
}

#[cfg(feature = "planted-defects")]
fn syncs() -> bool {
    std::env::var_os("COURANT_PLANTED_DEFECT").is_none_or(|defect| defect != "no-sync")
}

#[cfg(not(feature = "planted-defects"))]
const fn syncs() -> bool {
    true
}

/// Creates a directory and its missing parents and syncs the name of each.
fn create_durably(dir: &Path) -> io::Result<()> {
    let parent = match dir.parent() {
        None => return Ok(()),
        Some(parent) if parent.as_os_str().is_empty() => Path::new("."),
        Some(parent) => parent,
    };
    if dir.is_dir() {
        // An earlier process may have died between creating the directory and syncing its name.
        // One that may not open the parent did not create it there: somebody else did.
        return match sync_directory(parent) {
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Ok(()),
            other => other,
        };
    }
    if !parent.is_dir() {
        create_durably(parent)?;
    }
    match make_dir(dir) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            return Err(probe::dangling_link(dir).map_or(error, leads_nowhere));
        }
        made => made?,
    }
    sync_directory(parent)
}

fn leads_nowhere(link: probe::DanglingLink) -> io::Error {
    io::Error::new(io::ErrorKind::NotFound, link.to_string())
}

fn make_dir(dir: &Path) -> io::Result<()> {
    match fs::DirBuilder::new().mode(DIR_MODE).create(dir) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && dir.is_dir() => Ok(()),
        other => other,
    }
}

fn sync_directory(dir: &Path) -> io::Result<()> {
    fs::File::open(dir)?.sync_all()
}

impl Storage for DiskStorage {
    fn open(&self, path: &str, mode: OpenMode) -> io::Result<Arc<dyn File>> {
        if mode == OpenMode::CreateNew {
            self.check_writable()?;
        }
        let file = fs::OpenOptions::new()
            .read(true)
            .write(!self.is_read_only)
            .create_new(mode == OpenMode::CreateNew)
            .mode(FILE_MODE)
            .open(self.resolve(path)?)?;
        Ok(Arc::new(DiskFile::new(file, self.syncs)))
    }

    fn list(&self, dir: &str) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(self.resolve(dir)?)? {
            let name = entry?.file_name().into_string().map_err(|name| {
                io::Error::new(
                    io::ErrorKind::InvalidData,
                    format!("the name {name:?} in the data directory is not UTF-8"),
                )
            })?;
            if !(dir.is_empty() && name == LOCK_FILE) {
                names.push(name);
            }
        }
        Ok(names)
    }

    fn create_dir(&self, dir: &str) -> io::Result<()> {
        self.check_writable()?;
        make_dir(&self.resolve(dir)?)
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.check_writable()?;
        fs::rename(self.resolve(from)?, self.resolve(to)?)
    }

    fn remove_file(&self, path: &str) -> io::Result<()> {
        self.check_writable()?;
        fs::remove_file(self.resolve(path)?)
    }

    fn remove_dir(&self, dir: &str) -> io::Result<()> {
        self.check_writable()?;
        fs::remove_dir(self.resolve(dir)?)
    }

    fn sync_dir(&self, dir: &str) -> io::Result<()> {
        let dir = self.resolve(dir)?;
        if self.syncs {
            sync_directory(&dir)?;
        }
        Ok(())
    }

    fn sync_all(&self) -> io::Result<()> {
        if self.syncs {
            rustix::fs::syncfs(&self.handle)?;
        }
        Ok(())
    }

    fn free_bytes(&self) -> io::Result<u64> {
        let stat = rustix::fs::fstatvfs(&self.handle)?;
        Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
    }

    fn total_bytes(&self) -> io::Result<u64> {
        let stat = rustix::fs::fstatvfs(&self.handle)?;
        Ok(stat.f_blocks.saturating_mul(stat.f_frsize))
    }

    fn boot(&self) -> Option<uuid::Uuid> {
        let text = fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
        uuid::Uuid::parse_str(text.trim()).ok()
    }

    fn lock(&self) -> io::Result<Box<dyn Any + Send + Sync>> {
        self.check_writable()?;
        let file = fs::OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(FILE_MODE)
            .open(self.root.join(LOCK_FILE))?;
        match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(Errno::WOULDBLOCK) => return Err(held_by(&file)),
            Err(error) => return Err(error.into()),
        }
        file.set_len(0)?;
        file.write_all_at(format!("{}\n", std::process::id()).as_bytes(), 0)?;
        Ok(Box::new(LockGuard { _file: file }))
    }

    /// In a storage for reading alone, the lock that is there is shared: that takes no permission to write, and the file
    /// is the same one through every mount, so that a server is seen also where the directory is mounted read-only.
    fn lock_to_read(&self) -> io::Result<Option<Box<dyn Any + Send + Sync>>> {
        if !self.is_read_only {
            return self.lock().map(Some);
        }
        let file = match fs::File::open(self.root.join(LOCK_FILE)) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            // One that may not be read may be held: what a server writes would be taken for damage.
            Err(error) => return Err(error),
        };
        match rustix::fs::flock(&file, FlockOperation::NonBlockingLockShared) {
            Ok(()) => Ok(Some(Box::new(LockGuard { _file: file }))),
            Err(Errno::WOULDBLOCK) => Err(held_by(&file)),
            // A file system that has no locks.
            Err(Errno::NOLCK | Errno::NOSYS | Errno::OPNOTSUPP) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    fn wants(&self) -> Wants {
        Wants { prefill: true }
    }
}

/// The error of a directory in use, with the process that its lock file names, if it does.
fn held_by(file: &fs::File) -> io::Error {
    let mut text = String::new();
    let known = file.take(20).read_to_string(&mut text).is_ok();
    let holder = match text.trim().parse::<u32>() {
        Ok(pid) if known => format!("process {pid}"),
        _ => "another process".to_owned(),
    };
    io::Error::new(io::ErrorKind::WouldBlock, format!("the data directory is held by {holder}"))
}

/// The kernel gives the lock back when the file is closed, however the process ends.
#[derive(Debug)]
struct LockGuard {
    _file: fs::File,
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn storage() -> (tempfile::TempDir, DiskStorage) {
        let dir = tempfile::tempdir().unwrap();
        let storage = DiskStorage::open(&dir.path().join("deep/data")).unwrap();
        (dir, storage)
    }

    #[test]
    fn what_is_written_is_read() {
        let (_dir, storage) = storage();
        let file = storage.open("a", OpenMode::CreateNew).unwrap();
        file.write_at(&[b"cde", b"", b"fg"], 2).unwrap();
        file.write_at(&[b"ab"], 0).unwrap();
        file.sync_data().unwrap();
        storage.sync_dir("").unwrap();
        storage.sync_all().unwrap();
        file.drop_cache().unwrap();
        assert_eq!(file.len().unwrap(), 7);
        let mut buf = [0; 16];
        assert_eq!(file.read_at(&mut buf, 1).unwrap(), 6);
        assert_eq!(&buf[..6], b"bcdefg");
        assert_eq!(file.read_at(&mut buf, 7).unwrap(), 0);
        file.set_len(3).unwrap();
        assert_eq!(file.read_at(&mut buf, 0).unwrap(), 3);
        assert!(storage.free_bytes().unwrap() > 0);
        assert!(storage.wants().prefill);
    }

    #[test]
    fn names() {
        let (_dir, storage) = storage();
        storage.create_dir("d").unwrap();
        storage.create_dir("d").unwrap();
        storage.open("d/a", OpenMode::CreateNew).unwrap();
        let again = storage.open("d/a", OpenMode::CreateNew).unwrap_err();
        assert_eq!(again.kind(), io::ErrorKind::AlreadyExists);
        storage.open("d/b", OpenMode::CreateNew).unwrap();
        storage.rename("d/a", "d/b").unwrap();
        assert_eq!(storage.list("d").unwrap(), ["b"]);
        let missing = storage.open("d/a", OpenMode::Existing).unwrap_err();
        assert_eq!(missing.kind(), io::ErrorKind::NotFound);
        let missing = storage.list("e").unwrap_err();
        assert_eq!(missing.kind(), io::ErrorKind::NotFound);
        storage.remove_dir("d").unwrap_err();
        storage.remove_file("d/b").unwrap();
        storage.remove_dir("d").unwrap();
        assert!(storage.list("").unwrap().is_empty());
    }

    #[test]
    fn paths_stay_inside() {
        let (_dir, storage) = storage();
        for path in ["/etc/passwd", "../a", "a/../../b"] {
            let refused = storage.open(path, OpenMode::CreateNew).unwrap_err();
            assert_eq!(refused.kind(), io::ErrorKind::InvalidInput);
            let refused = storage.remove_file(path).unwrap_err();
            assert_eq!(refused.kind(), io::ErrorKind::InvalidInput);
        }
    }

    /// How this process has opened a file, by each of its handles: 0 is for reading alone (`O_ACCMODE`).
    fn access_modes(path: &Path) -> Vec<u32> {
        let path = path.canonicalize().unwrap();
        let handles = fs::read_dir("/proc/self/fd").unwrap().flatten();
        let of_the_file = handles.filter(|handle| fs::read_link(handle.path()).is_ok_and(|at| at == path));
        let mode = |handle: fs::DirEntry| {
            let info = fs::read_to_string(Path::new("/proc/self/fdinfo").join(handle.file_name())).unwrap();
            let flags = info.lines().find_map(|line| line.strip_prefix("flags:")).unwrap();
            u32::from_str_radix(flags.trim(), 8).unwrap() & 0o3
        };
        of_the_file.map(mode).collect()
    }

    /// Who may only read can read. Root may do everything, so what counts is how the system has opened the
    /// file, and which calls are refused before they reach it.
    #[test]
    fn a_read_only_storage_asks_for_nothing_but_reading() {
        let (_dir, writable) = storage();
        writable.create_dir("d").unwrap();
        writable.open("d/a", OpenMode::CreateNew).unwrap().write_at(&[b"bytes"], 0).unwrap();
        let allow = |path: &str, mode| {
            fs::set_permissions(writable.root.join(path), fs::Permissions::from_mode(mode)).unwrap();
        };
        for (path, mode) in [("d/a", 0o444), ("d", 0o555), ("", 0o555)] {
            allow(path, mode);
        }
        let storage = DiskStorage::read_only(&writable.root).unwrap();
        assert_eq!(storage.list("d").unwrap(), ["a"]);
        let file = storage.open("d/a", OpenMode::Existing).unwrap();
        let mut read = [0; 5];
        assert_eq!((file.read_at(&mut read, 0).unwrap(), &read), (5, b"bytes"));
        file.write_at(&[b"other"], 0).unwrap_err();
        file.set_len(0).unwrap_err();
        let path = writable.root.join("d/a");
        assert_eq!(access_modes(&path), [0]);
        drop(file);
        // The modes do keep a writer out, where anything does.
        let for_writing = writable.open("d/a", OpenMode::Existing);
        match rustix::process::geteuid().is_root() {
            true => assert_eq!(access_modes(&path), [2]),
            false => assert_eq!(for_writing.unwrap_err().kind(), io::ErrorKind::PermissionDenied),
        }

        let refused = [
            storage.open("d/b", OpenMode::CreateNew).map(|_| ()),
            storage.create_dir("e"),
            storage.rename("d/a", "d/b"),
            storage.remove_file("d/a"),
            storage.remove_dir("d"),
            storage.lock().map(|_| ()),
        ];
        for refused in refused {
            assert_eq!(refused.unwrap_err().kind(), io::ErrorKind::ReadOnlyFilesystem);
        }
        assert_eq!(writable.list("").unwrap(), ["d"]);
        assert_eq!(writable.list("d").unwrap(), ["a"]);
        for path in ["", "d"] {
            allow(path, 0o755);
        }
    }

    /// Symptom: of a link to a disk that was not mounted it was said that a file is in its place. Cause: the system says
    /// so of a name that is taken. Fix: the link is named, and what it leads to.
    #[test]
    fn a_link_to_what_is_not_there_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let (target, link) = (dir.path().join("disk/courant"), dir.path().join("link"));
        std::os::unix::fs::symlink(&target, &link).unwrap();
        for path in [link.clone(), link.join(""), link.join("data")] {
            let refused = DiskStorage::open(&path).unwrap_err();
            assert_eq!(refused.kind(), io::ErrorKind::NotFound, "{refused}");
            let named = format!("{} is a link to {}, which is not there", link.display(), target.display());
            assert!(refused.to_string().contains(&named), "{refused}");
        }
        assert!(!dir.path().join("disk").exists(), "something was made on another disk");
        fs::create_dir_all(&target).unwrap();
        DiskStorage::open(&link.join("data")).unwrap();
        // What is a file is said to be one.
        let file = dir.path().join("file");
        fs::write(&file, "").unwrap();
        assert_eq!(DiskStorage::open(&file).unwrap_err().kind(), io::ErrorKind::AlreadyExists);
    }

    #[test]
    fn only_a_directory_that_is_there_is_read() {
        let (dir, _storage) = storage();
        let missing = dir.path().join("missing");
        assert_eq!(DiskStorage::read_only(&missing).unwrap_err().kind(), io::ErrorKind::NotFound);
        assert!(!missing.exists(), "reading has made it");
        fs::write(&missing, "a file").unwrap();
        let file = DiskStorage::read_only(&missing).unwrap_err();
        assert_eq!(file.kind(), io::ErrorKind::NotADirectory);
    }

    #[test]
    fn one_holder_at_a_time() {
        let (_dir, storage) = storage();
        let guard = storage.lock().unwrap();
        let held = storage.lock().unwrap_err();
        assert_eq!(held.kind(), io::ErrorKind::WouldBlock);
        let pid = std::process::id().to_string();
        assert!(held.to_string().contains(&pid), "{held}");
        assert!(storage.list("").unwrap().is_empty());
        drop(guard);
        storage.lock().unwrap();
    }

    /// Symptom: `courant log verify` did nothing where a log is mounted read-only, or may be read by a user and not be
    /// written. Cause: its lock was a file that it opened for writing. Fix: the lock that is there is shared.
    #[test]
    fn who_only_reads_shares_the_lock_that_is_there() {
        let (_dir, storage) = storage();
        let reader = DiskStorage::read_only(&storage.root).unwrap();
        assert!(reader.lock_to_read().unwrap().is_none(), "there is none yet, and none is made");
        assert!(!storage.root.join(LOCK_FILE).exists());
        let guard = storage.lock().unwrap();
        assert_eq!(reader.lock_to_read().unwrap_err().kind(), io::ErrorKind::WouldBlock);
        drop(guard);
        let readers = (reader.lock_to_read().unwrap(), reader.lock_to_read().unwrap());
        assert!(readers.0.is_some() && readers.1.is_some());
        assert_eq!(storage.lock().unwrap_err().kind(), io::ErrorKind::WouldBlock);
        assert_eq!(access_modes(&storage.root.join(LOCK_FILE)), [0, 0], "nothing is written");
        drop(readers);
        // One that may not be read is not taken for one that is not there. Root may read whatever is there.
        let lock = storage.root.join(LOCK_FILE);
        fs::set_permissions(&lock, fs::Permissions::from_mode(0o000)).unwrap();
        match rustix::process::geteuid().is_root() {
            true => assert!(reader.lock_to_read().unwrap().is_some()),
            false => {
                let refused = reader.lock_to_read().unwrap_err();
                assert_eq!(refused.kind(), io::ErrorKind::PermissionDenied);
            }
        }
        fs::set_permissions(&lock, fs::Permissions::from_mode(FILE_MODE)).unwrap();
        // Who may write has it alone, also to read.
        let guard = storage.lock_to_read().unwrap();
        assert!(guard.is_some());
        assert_eq!(reader.lock_to_read().unwrap_err().kind(), io::ErrorKind::WouldBlock);
    }
}
