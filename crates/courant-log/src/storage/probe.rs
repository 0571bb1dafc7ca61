//! A look at a data directory from outside: no log is opened, nothing is left behind, and a server
//! that uses the directory, or is about to, notices nothing.

use std::fmt;
use std::fs;
use std::io::{self, Read as _};
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use rustix::fs::{Access, Mode, OFlags};
use rustix::io::Errno;
use uuid::Uuid;

use super::disk::LOCK_FILE;
use super::{DiskStorage, StorageError};
use crate::error::OpenError;
use crate::layout;

/// Bytes of each write that is timed: a block of the journal.
const WRITE_BYTES: usize = 4096;
/// Writes that are timed.
const WRITES: usize = 21;
/// No further write is timed after this long.
const WRITES_TIME_MAX: Duration = Duration::from_secs(2);
/// Bytes of the kernel's lists that are read.
const LIST_BYTES_MAX: u64 = 4 * 1024 * 1024;
/// Names of a data directory whose times are looked at.
const NAMES_MAX: usize = 1000;
/// How the file that is written begins, where a file cannot do without a name.
const SAMPLE_FILE: &str = ".courant-probe";

/// What stands at the path of a data directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// A directory.
    Directory,
    /// Nothing yet. A server would make it below this directory, the nearest that is there.
    Missing {
        /// The nearest directory above.
        parent: PathBuf,
    },
    /// Something else, or something other than a directory above it.
    NotADirectory,
}

/// A link that leads to nothing, such as to a disk that is not mounted. As a text it says what to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DanglingLink {
    /// The link.
    pub link: PathBuf,
    /// What it names.
    pub target: PathBuf,
}

impl fmt::Display for DanglingLink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { link, target } = self;
        let (link, target) = (link.display(), target.display());
        write!(
            f,
            "{link} is a link to {target}, which is not there; mount the disk that it is on, or name another \
             directory"
        )
    }
}

/// Room on a file system, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Space {
    /// What may still be written.
    pub free_bytes: u64,
    /// The size of the file system.
    pub total_bytes: u64,
}

/// The file system that holds a directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileSystem {
    /// As the kernel names it: `ext4`, `tmpfs`, `nfs4`.
    pub kind: String,
    /// Where it is mounted.
    pub mounted_at: PathBuf,
}

/// What stands at `dir`.
///
/// # Errors
/// What the system says, of a path that may not be looked at for instance.
pub fn place(dir: &Path) -> io::Result<Place> {
    match fs::metadata(dir) {
        Ok(about) if about.is_dir() => return Ok(Place::Directory),
        Ok(_) => return Ok(Place::NotADirectory),
        Err(error) if error.kind() == io::ErrorKind::NotADirectory => return Ok(Place::NotADirectory),
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        Err(_) => {}
    }
    for above in dir.ancestors().skip(1) {
        // The parent of a relative path's first name is the working directory.
        let above = if above.as_os_str().is_empty() { Path::new(".") } else { above };
        match fs::metadata(above) {
            Ok(about) if about.is_dir() => return Ok(Place::Missing { parent: above.to_owned() }),
            Ok(_) => return Ok(Place::NotADirectory),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    Ok(Place::Missing { parent: PathBuf::from(".") })
}

/// The link at `dir`, or above it, that leads to nothing, so that no directory can be made there. `None` where there
/// is no such link.
#[must_use]
pub fn dangling_link(dir: &Path) -> Option<DanglingLink> {
    // With a slash at the end, the system looks for what the link leads to.
    let dir: PathBuf = dir.components().collect();
    let is_missing =
        |path: &Path| fs::metadata(path).is_err_and(|error| error.kind() == io::ErrorKind::NotFound);
    let mut missing = dir.ancestors().take_while(|above| !above.as_os_str().is_empty() && is_missing(above));
    missing.find_map(|link| {
        let target = fs::read_link(link).ok()?;
        // A link to a link that leads to nothing: what the first one names is there. No circle is missing (ELOOP), so
        // this ends where the system does, after 40 links.
        let next = dangling_link(&link.parent()?.join(&target));
        Some(next.unwrap_or_else(|| DanglingLink { link: link.to_owned(), target }))
    })
}

/// Whether this process may make files in a directory that is there.
///
/// # Errors
/// Why it may not.
pub fn writable(dir: &Path) -> io::Result<()> {
    Ok(rustix::fs::access(dir, Access::READ_OK | Access::WRITE_OK | Access::EXEC_OK)?)
}

/// The log in a directory that is there, by its identity; `None` where a start would make one. Nothing is read but
/// the file that says which log it is, and which releases read it.
///
/// # Errors
/// Why no log opens there, in the words of a start.
pub fn log(dir: &Path) -> Result<Option<Uuid>, OpenError> {
    let storage = DiskStorage::read_only(dir)
        .map_err(|source| StorageError::new("open", "the data directory", source))?;
    layout::identity_if_any(&storage)
}

/// The process that holds the data directory `dir`, if one does and it can be seen from here: a
/// process of another container cannot.
///
/// Reads the kernel's list of locks. Trying the lock would get in the way of a server that starts at
/// the same moment.
#[must_use]
pub fn holder(dir: &Path) -> Option<u32> {
    let path = dir.join(LOCK_FILE);
    let about = fs::metadata(&path).ok()?;
    let named = read(&path, 20).ok().and_then(|text| text.trim().parse().ok());
    let device = (rustix::fs::major(about.dev()), rustix::fs::minor(about.dev()));
    (0..LOOKS).find_map(|_| {
        let locks = read(Path::new("/proc/locks"), LIST_BYTES_MAX).ok()?;
        holder_in(&locks, about.ino(), device, named)
    })
}

/// How often the list of locks is read. It comes in pieces: a lock of another process that goes in between
/// moves what is behind it, and a line can be missed.
const LOOKS: u32 = 20;

/// The process that locks a file, from lines such as
/// `1: FLOCK  ADVISORY  WRITE 2417 fe:01:131084 0 EOF`.
///
/// Some file systems number their devices in two ways; there, the process that the lock file names
/// makes up for the device.
fn holder_in(locks: &str, inode: u64, device: (u32, u32), named: Option<u32>) -> Option<u32> {
    locks.lines().find_map(|line| {
        let mut words = line.split_whitespace().skip(1);
        // A waiting lock has an arrow in the place of its kind.
        (words.next()? == "FLOCK").then_some(())?;
        let process = words.nth(2)?.parse().ok()?;
        let mut file = words.next()?.split(':');
        let major = u32::from_str_radix(file.next()?, 16).ok()?;
        let minor = u32::from_str_radix(file.next()?, 16).ok()?;
        let is_this = file.next()?.parse::<u64>() == Ok(inode);
        (is_this && ((major, minor) == device || named == Some(process))).then_some(process)
    })
}

/// Room on the file system of a directory that is there.
///
/// # Errors
/// What the system says.
pub fn space(dir: &Path) -> io::Result<Space> {
    let stat = rustix::fs::statvfs(dir)?;
    Ok(Space {
        free_bytes: stat.f_bavail.saturating_mul(stat.f_frsize),
        total_bytes: stat.f_blocks.saturating_mul(stat.f_frsize),
    })
}

/// The file system of a directory that is there; `None` where the kernel does not say.
#[must_use]
pub fn file_system(dir: &Path) -> Option<FileSystem> {
    let dir = fs::canonicalize(dir).ok()?;
    file_system_in(&read(Path::new("/proc/self/mountinfo"), LIST_BYTES_MAX).ok()?, &dir)
}

/// Finds the mount that covers `dir`, in lines such as
/// `36 35 98:0 / /mnt rw,noatime shared:1 - ext4 /dev/sda1 rw`. Of several on one place the last
/// one counts, because it lies on top.
fn file_system_in(mounts: &str, dir: &Path) -> Option<FileSystem> {
    let mut best: Option<FileSystem> = None;
    for line in mounts.lines() {
        let Some((mount, about)) = line.split_once(" - ") else {
            continue;
        };
        let (Some(place), Some(kind)) = (mount.split(' ').nth(4), about.split(' ').next()) else {
            continue;
        };
        let mounted_at = PathBuf::from(unescaped(place));
        let depth = mounted_at.components().count();
        let covers = dir.starts_with(&mounted_at);
        if covers && best.as_ref().is_none_or(|best| depth >= best.mounted_at.components().count()) {
            best = Some(FileSystem { kind: kind.to_owned(), mounted_at });
        }
    }
    best
}

/// Blanks and backslashes in the list of mounts are octal numbers.
fn unescaped(place: &str) -> String {
    place.replace("\\040", " ").replace("\\011", "\t").replace("\\012", "\n").replace("\\134", "\\")
}

/// When something in the data directory last changed, as far as its names tell.
#[must_use]
pub fn modified(dir: &Path) -> Option<SystemTime> {
    let names = fs::read_dir(dir).ok()?.take(NAMES_MAX).filter_map(Result::ok);
    let times = names.filter_map(|name| name.metadata().ok()?.modified().ok());
    times.chain(fs::metadata(dir).ok()?.modified().ok()).max()
}

/// How long it takes to write a block over zeros and to sync it, several times, as the journal does.
///
/// # Errors
/// What the system says.
pub fn sync_times(dir: &Path) -> io::Result<Vec<Duration>> {
    let file = unnamed_file(dir)?;
    file.write_all_at(&vec![0; WRITES * WRITE_BYTES], 0)?;
    file.sync_all()?;
    let block = [1; WRITE_BYTES];
    let started = Instant::now();
    let mut times = Vec::with_capacity(WRITES);
    for write in 0..WRITES {
        let begun = Instant::now();
        file.write_all_at(&block, (write * WRITE_BYTES) as u64)?;
        file.sync_data()?;
        times.push(begun.elapsed());
        if started.elapsed() > WRITES_TIME_MAX {
            break;
        }
    }
    Ok(times)
}

/// A file that is gone when it is closed, however the process ends.
fn unnamed_file(dir: &Path) -> io::Result<fs::File> {
    let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
    match rustix::fs::open(dir, flags, Mode::RUSR | Mode::WUSR) {
        Ok(file) => Ok(file.into()),
        // A file system without such files: one that loses its name at once.
        Err(Errno::OPNOTSUPP | Errno::ISDIR | Errno::INVAL) => {
            let path = dir.join(format!("{SAMPLE_FILE}.{}", std::process::id()));
            let file = fs::OpenOptions::new().read(true).write(true).create_new(true).open(&path)?;
            fs::remove_file(&path)?;
            Ok(file)
        }
        Err(error) => Err(error.into()),
    }
}

fn read(path: &Path, bytes_max: u64) -> io::Result<String> {
    let mut text = String::new();
    fs::File::open(path)?.take(bytes_max).read_to_string(&mut text)?;
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::super::Storage as _;
    use super::*;

    #[test]
    fn a_directory_is_told_from_a_missing_one_and_from_a_file() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("file");
        fs::write(&file, "").unwrap();
        assert_eq!(place(dir.path()).unwrap(), Place::Directory);
        let missing = place(&dir.path().join("a/b")).unwrap();
        assert_eq!(missing, Place::Missing { parent: dir.path().to_owned() });
        assert_eq!(place(&file).unwrap(), Place::NotADirectory);
        assert_eq!(place(&file.join("a")).unwrap(), Place::NotADirectory);
        assert_eq!(place(Path::new("not-there")).unwrap(), Place::Missing { parent: PathBuf::from(".") });
    }

    #[test]
    fn a_link_to_what_is_not_there_is_found_also_above_a_directory() {
        let dir = tempfile::tempdir().unwrap();
        let (target, link) = (dir.path().join("disk/courant"), dir.path().join("link"));
        std::os::unix::fs::symlink(&target, &link).unwrap();
        let dangling = DanglingLink { link: link.clone(), target: target.clone() };
        assert_eq!(dangling_link(&link), Some(dangling.clone()));
        assert_eq!(dangling_link(&link.join("a/b")), Some(dangling.clone()));
        assert_eq!(dangling_link(&dir.path().join("a/b")), None, "it is to be made");
        assert_eq!(dangling_link(Path::new("not-there")), None);
        // As a shell completes it.
        assert_eq!(dangling_link(&link.join("")), Some(dangling.clone()));
        let of_links = dir.path().join("of-links");
        std::os::unix::fs::symlink("link", &of_links).unwrap();
        assert_eq!(dangling_link(&of_links), Some(dangling), "the other link is there");
        let circle = dir.path().join("circle");
        std::os::unix::fs::symlink("circle", &circle).unwrap();
        assert_eq!(dangling_link(&circle), None);
        fs::create_dir_all(&target).unwrap();
        assert_eq!(dangling_link(&link), None);
        assert_eq!(dangling_link(&link.join("a/b")), None);
    }

    #[test]
    fn looking_leaves_nothing_behind() {
        let dir = tempfile::tempdir().unwrap();
        writable(dir.path()).unwrap();
        let times = sync_times(dir.path()).unwrap();
        assert!(!times.is_empty() && times.len() <= WRITES);
        let space = space(dir.path()).unwrap();
        assert!(space.total_bytes >= space.free_bytes && space.total_bytes > 0);
        assert!(modified(dir.path()).is_some());
        assert_eq!(holder(dir.path()), None);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_log_is_told_from_none_and_from_one_that_does_not_open() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(log(dir.path()).unwrap(), None);
        fs::write(dir.path().join("notes"), "not of a log").unwrap();
        assert_eq!(log(dir.path()).unwrap(), None, "a start takes it");
        fs::create_dir(dir.path().join("segments")).unwrap();
        assert!(matches!(log(dir.path()), Err(OpenError::NotALog { .. })));
        let format = dir.path().join("FORMAT");
        let id = Uuid::from_u128(7);
        fs::write(&format, format!("courant-log 1 {id}\n")).unwrap();
        assert_eq!(log(dir.path()).unwrap(), Some(id));
        fs::write(&format, format!("courant-log 4000 {id}\n")).unwrap();
        assert!(matches!(log(dir.path()), Err(OpenError::Newer { found: 4000, .. })));
        let names = fs::read_dir(dir.path()).unwrap().count();
        assert_eq!(names, 3, "looking leaves nothing behind");
    }

    #[test]
    fn the_holder_of_a_directory_is_seen_and_not_disturbed() {
        if fs::File::open("/proc/locks").is_err() {
            use std::io::Write as _;
            let test = "storage::probe::tests::the_holder_of_a_directory_is_seen_and_not_disturbed";
            let _ = writeln!(io::stderr(), "SKIPPED: {test}: the kernel lists no locks");
            return;
        }
        let dir = tempfile::tempdir().unwrap();
        let storage = DiskStorage::open(dir.path()).unwrap();
        let lock = storage.lock().unwrap();
        assert_eq!(holder(dir.path()), Some(std::process::id()));
        drop(lock);
        assert_eq!(holder(dir.path()), None);
    }

    #[test]
    fn the_list_of_locks() {
        let locks = "1: POSIX  ADVISORY  WRITE 17 fe:01:99 0 EOF\n\
                     2: FLOCK  ADVISORY  WRITE 2417 fe:01:131084 0 EOF\n\
                     2: -> FLOCK  ADVISORY  WRITE 2418 fe:01:131084 0 EOF\n";
        assert_eq!(holder_in(locks, 131_084, (0xfe, 1), None), Some(2417));
        assert_eq!(holder_in(locks, 131_084, (0, 40), None), None, "the inode of another device");
        assert_eq!(holder_in(locks, 131_084, (0, 40), Some(2417)), Some(2417));
        assert_eq!(holder_in(locks, 99, (0xfe, 1), None), None, "a lock of another kind");
    }

    #[test]
    fn the_list_of_mounts() {
        let mounts = "22 1 254:1 / / rw,relatime - ext4 /dev/vda1 rw\n\
                      30 22 0:26 / /run rw - tmpfs tmpfs rw\n\
                      31 22 0:27 / /srv/a\\040b rw shared:4 master:1 - nfs4 box:/x rw\n\
                      32 22 0:28 / /run rw - ramfs none rw\n";
        let kind = |dir: &str| file_system_in(mounts, Path::new(dir)).map(|found| found.kind);
        assert_eq!(kind("/var/lib"), Some("ext4".to_owned()));
        assert_eq!(kind("/run/courant"), Some("ramfs".to_owned()), "the mount on top");
        assert_eq!(kind("/runner"), Some("ext4".to_owned()));
        assert_eq!(kind("/srv/a b/data"), Some("nfs4".to_owned()));
    }
}
