//! The few files beside the data directory that the command line reads or writes: a settings file, a token
//! file, the files of TLS, what the system says of itself under `/proc` and `/sys`, the ledger and the report of
//! `courant torture`, and the directory of a demo with its key.
//! Nothing else here touches `std::fs`.

use courant_log::storage::probe;
use std::fs::File;
#[cfg(feature = "sql")]
use std::io::Write as _;
use std::io::{self, BufReader, Read as _};
use std::os::unix::fs::MetadataExt as _;
#[cfg(feature = "sql")]
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::Path;

/// Reads a whole file of text.
///
/// # Errors
/// What the system says, or that there is more than `bytes_max`.
pub(crate) fn read_text(path: &Path, bytes_max: u64) -> io::Result<String> {
    let mut text = String::new();
    // Files under `/proc` say that they are empty, so that only reading tells their size.
    File::open(path)?.take(bytes_max.saturating_add(1)).read_to_string(&mut text)?;
    if text.len() as u64 > bytes_max {
        return Err(too_large(bytes_max));
    }
    Ok(text)
}

/// Reads a whole file, and says what its permissions are.
///
/// # Errors
/// What the system says, or that there is more than `bytes_max`.
pub(crate) fn read_with_mode(path: &Path, bytes_max: u64) -> io::Result<(Vec<u8>, u32)> {
    let file = File::open(path)?;
    let mode = file.metadata()?.mode();
    let mut bytes = Vec::new();
    file.take(bytes_max.saturating_add(1)).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > bytes_max {
        return Err(too_large(bytes_max));
    }
    Ok((bytes, mode))
}

/// The permissions of a file, where some of them are for users who neither own it nor are in its group, and those come
/// to it.
///
/// They do not where a directory above keeps them out: one without a permission for others, without a list that names
/// some, and of root, of the owner of the file or of whoever runs this. Nor is anything said of a file system in memory
/// that is mounted read-only: so Kubernetes and Docker Swarm hand secrets to a container, with mode 644 or 444 unless
/// they are told otherwise. Who else is in there is up to whoever starts it, and the mode cannot be changed from within.
pub(crate) fn mode_for_others(path: &Path) -> Option<u32> {
    const OTHERS: u32 = 0o007;
    let file = path.metadata().ok()?;
    let of = Owners { uid: file.uid(), gid: file.gid() };
    // Links lead to where it is. There is one way to it from there, unless it has another name.
    let is_kept_in =
        |path: &Path| file.nlink() == 1 && path.ancestors().skip(1).any(|above| keeps_others_out(above, of));
    let is_kept = path.canonicalize().is_ok_and(|path| is_kept_in(&path) || is_handed_in(&path));
    (file.mode() & OTHERS != 0 && !is_kept).then_some(file.mode() & 0o777)
}

/// Whose a file or a directory is.
#[derive(Clone, Copy)]
struct Owners {
    uid: u32,
    gid: u32,
}

/// Whether a directory lets nobody through but whom a file below it is for anyway, and whoever runs this.
fn keeps_others_out(directory: &Path, file: Owners) -> bool {
    directory.metadata().is_ok_and(|about| {
        let whose = Owners { uid: about.uid(), gid: about.gid() };
        let has_acl = rustix::fs::getxattr_query(directory, "system.posix_acl_access").is_ok();
        is_private(about.mode(), whose, has_acl, file, rustix::process::geteuid().as_raw())
    })
}

/// As [`keeps_others_out`], of a directory with that mode, for the user `own`.
fn is_private(mode: u32, directory: Owners, has_acl: bool, file: Owners, own: u32) -> bool {
    const ENTER_GROUP: u32 = 0o010;
    const ENTER_OTHERS: u32 = 0o001;
    const ROOT: u32 = 0;
    let is_of_another = ![ROOT, file.uid, own].contains(&directory.uid);
    // With an access control list, these bits are what those may who are named in it.
    let lets_group = mode & ENTER_GROUP != 0 && (has_acl || directory.gid != file.gid);
    mode & ENTER_OTHERS == 0 && !lets_group && !is_of_another
}

/// Whether a file is on a file system in memory that is mounted read-only.
fn is_handed_in(path: &Path) -> bool {
    let is_read_only = rustix::fs::statvfs(path)
        .is_ok_and(|about| about.f_flag.contains(rustix::fs::StatVfsMountFlags::RDONLY));
    let is_in_memory = || {
        let of = probe::file_system(path);
        of.is_some_and(|of| matches!(of.kind.as_str(), "tmpfs" | "ramfs"))
    };
    is_read_only && is_in_memory()
}

fn too_large(bytes_max: u64) -> io::Error {
    io::Error::new(io::ErrorKind::FileTooLarge, format!("it has more than {bytes_max} bytes"))
}

/// Opens a file that is read piece by piece.
///
/// # Errors
/// What the system says.
pub(crate) fn open(path: &Path) -> io::Result<BufReader<File>> {
    File::open(path).map(BufReader::new)
}

/// Writes a file of text, in place of one that is there.
///
/// # Errors
/// What the system says.
pub(crate) fn write_text(path: &Path, text: &str) -> io::Result<()> {
    std::fs::write(path, text)
}

/// Whether a path is within a directory and on its file system, or would be when it is made. The directory itself is
/// not, nor is what is mounted within it: that stays when the disk of the directory is lost.
pub(crate) fn is_within(path: &Path, directory: &Path) -> bool {
    let (Ok(directory), Ok(path)) = (directory.canonicalize(), std::path::absolute(path)) else {
        return false;
    };
    // What is not there yet has no links in it: those above it count.
    let there = |above: &Path| above.canonicalize().ok();
    let nearest = path.ancestors().enumerate().find_map(|(missing, above)| Some((missing, there(above)?)));
    let device = |at: &Path| at.metadata().ok().map(|about| about.dev());
    nearest.is_some_and(|(missing, above)| {
        let is_below = above.starts_with(&directory) && (missing > 0 || above != directory);
        is_below && device(&above) == device(&directory)
    })
}

/// Makes a directory that nobody else can look into, and those above it. One that is there stays as it is.
///
/// # Errors
/// What the system says.
#[cfg(feature = "sql")]
pub(crate) fn make_private_directory(path: &Path) -> io::Result<()> {
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(path)
}

/// Writes a file of text that nobody else can read, in place of one that is there.
///
/// # Errors
/// What the system says.
#[cfg(feature = "sql")]
pub(crate) fn write_private_text(path: &Path, text: &str) -> io::Result<()> {
    let mut options = File::options();
    let mut file = options.write(true).create(true).truncate(true).mode(0o600).open(path)?;
    // One that is there already has whatever mode somebody gave it.
    file.set_permissions(std::fs::Permissions::from_mode(0o600))?;
    file.write_all(text.as_bytes())
}

/// Deletes a directory and everything in it.
///
/// # Errors
/// What the system says.
#[cfg(feature = "sql")]
pub(crate) fn remove_directory(path: &Path) -> io::Result<()> {
    std::fs::remove_dir_all(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_within_a_directory_is_seen_before_it_is_made() {
        let folder = tempfile::tempdir().expect("a directory");
        let data = folder.path().join("data");
        std::fs::create_dir_all(data.join("made")).expect("directories");
        let link = folder.path().join("link");
        std::os::unix::fs::symlink(&data, &link).expect("a link");
        for within in ["data/made", "data/not/yet", "link/made", "link/not/yet", "data/made/../not-yet"] {
            assert!(is_within(&folder.path().join(within), &data), "{within}");
        }
        assert!(is_within(&data.join("not-yet"), &link));
        for outside in ["data", "link", "database", "other/data", "data/../beside"] {
            assert!(!is_within(&folder.path().join(outside), &data), "{outside}");
        }
        assert!(!is_within(&data, &folder.path().join("gone")));
    }

    /// Symptom: `courant backup --to DATA/backups` was refused where another disk is mounted there, with the word that
    /// the backups would be gone with the data. Cause: only the path was looked at. Fix: so is the file system.
    #[test]
    fn what_is_mounted_within_a_directory_is_apart_from_it() {
        for mounted in ["/proc", "/proc/not-yet"] {
            assert!(!is_within(Path::new(mounted), Path::new("/")), "{mounted}");
        }
        assert!(is_within(Path::new("/not-yet"), Path::new("/")));
    }

    /// Symptom: each start warned of a file of tokens with mode 644 that nobody else could come to, such as one in a
    /// directory of the server alone. Cause: only the mode of the file was looked at. Fix: so are the directories above.
    #[test]
    fn what_others_do_not_come_to_is_kept_from_them() {
        use std::os::unix::fs::PermissionsExt as _;

        let folder = tempfile::tempdir().expect("a directory");
        let file = Owners { uid: 7, gid: 5 };
        let another = Owners { gid: 6, ..file };
        for (mode, of_the_files_group, of_another) in [
            (0o700, true, true),
            (0o750, true, false),
            (0o755, false, false),
            (0o711, false, false),
            (0o744, true, true),
        ] {
            assert_eq!(is_private(mode, file, false, file, 8), of_the_files_group, "{mode:o}");
            assert_eq!(is_private(mode, another, false, file, 8), of_another, "{mode:o}");
        }
        assert!(is_private(0o700, file, true, file, 8) && !is_private(0o750, file, true, file, 8), "a list");
        // Whose the directory is, comes to what is in it.
        let of = |uid: u32| is_private(0o700, Owners { uid, ..file }, false, file, 8);
        assert!(of(0) && of(7) && of(8) && !of(9));
        std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o700)).expect("a mode");
        let file = folder.path().join("tokens");
        std::fs::write(&file, "").expect("a file");
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o644)).expect("a mode");
        assert_eq!(mode_for_others(&file), None, "the directory keeps them out");
        assert!(!is_handed_in(&file), "it can be written");
        std::fs::hard_link(&file, folder.path().join("another")).expect("a name");
        assert_eq!(mode_for_others(&file), Some(0o644), "nobody knows where its other name is");
    }

    #[test]
    fn a_file_is_read_up_to_its_bound() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("text");
        std::fs::write(&path, "12345").expect("a file");
        assert_eq!(read_text(&path, 5).expect("it fits"), "12345");
        assert_eq!(read_text(&path, 4).expect_err("too large").kind(), io::ErrorKind::FileTooLarge);
        let gone = read_text(&directory.path().join("gone"), 5).expect_err("no file");
        assert_eq!(gone.kind(), io::ErrorKind::NotFound);
        assert!(read_text(directory.path(), 5).is_err(), "a directory");
    }
}
