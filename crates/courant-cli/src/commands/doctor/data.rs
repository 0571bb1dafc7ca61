//! The data directory: whether it can be used, its room, its file system, and how fast it syncs.

use super::Finding;
use courant_log::storage::probe::{self, DanglingLink, FileSystem, Place, Space};
use courant_log::{LogConfig, OpenError, SystemClock, SystemEntropy};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// A write and its sync that take longer make every acknowledgement slow.
const SYNC_SLOW: Duration = Duration::from_millis(5);

/// File systems whose files are on another machine, or behind a program of their own. FUSE ones
/// begin with `fuse`.
const DISTANT: [&str; 10] =
    ["nfs", "nfs4", "cifs", "smb3", "smbfs", "9p", "ceph", "afs", "virtiofs", "vboxsf"];

/// Looks at the data directory, and at its nearest parent where it is not there yet.
pub(super) fn checks(dir: &Path, holder: Option<u32>) -> Vec<Finding> {
    let (directory, looked_at) = directory(dir, holder);
    let mut findings = vec![directory];
    let Some(looked_at) = looked_at else {
        return findings;
    };
    if let Ok(space) = probe::space(&looked_at) {
        findings.push(room(space));
    }
    if let Some(found) = probe::file_system(&looked_at) {
        findings.push(file_system(&found));
    }
    // Without the right to write there, the directory has failed above, or belongs to the user of
    // a running server.
    if probe::writable(&looked_at).is_ok() {
        findings.push(syncs(&looked_at));
    }
    findings
}

/// Whether a server can use the directory, and where the other checks may look.
fn directory(dir: &Path, holder: Option<u32>) -> (Finding, Option<PathBuf>) {
    const CHECK: &str = "data directory";
    let name = dir.display();
    let elsewhere = "name another directory with --data";
    let refused = |dir: &Path, error: &dyn std::fmt::Display| {
        let change = format!("let the server's user read and write there, or {elsewhere}");
        Finding::failure(CHECK, format!("{} cannot be written: {error}", dir.display()), change)
    };
    match probe::place(dir) {
        Ok(Place::Directory) => {
            let finding = match (holder, probe::writable(dir)) {
                (Some(process), _) => Finding::ok(CHECK, format!("{name} is in use by process {process}")),
                (None, Ok(())) => unused(dir),
                (None, Err(error)) => refused(dir, &error),
            };
            (finding, Some(dir.to_owned()))
        }
        Ok(Place::Missing { parent }) => {
            if let Some(link) = probe::dangling_link(dir) {
                let DanglingLink { link, target } = link;
                let found =
                    format!("{} is a link to {}, which is not there", link.display(), target.display());
                let change = format!("mount the disk that it is on, or {elsewhere}");
                return (Finding::failure(CHECK, found, change), None);
            }
            let finding = match probe::writable(&parent) {
                Ok(()) => Finding::ok(CHECK, format!("{name} is not there yet; the server makes it")),
                Err(error) => refused(&parent, &error),
            };
            (finding, Some(parent))
        }
        Ok(Place::NotADirectory) => {
            (Finding::failure(CHECK, format!("{name} is not a directory"), elsewhere), None)
        }
        Err(error) => (refused(dir, &error), None),
    }
}

/// Whether a server could start on what is in a directory that none uses.
fn unused(dir: &Path) -> Finding {
    const CHECK: &str = "data directory";
    let name = dir.display();
    let elsewhere = "name another directory with --data";
    let error = match probe::log(dir) {
        Ok(_) => return Finding::ok(CHECK, format!("{name} is there, and no server uses it")),
        Err(error) => error,
    };
    let change = match &error {
        OpenError::Newer { .. } => format!("start the release that wrote it, or a newer one, or {elsewhere}"),
        _ if error.kind() == Some(io::ErrorKind::PermissionDenied) => {
            format!("let the server's user read and write everything there (`chown -R`), or {elsewhere}")
        }
        _ => elsewhere.to_owned(),
    };
    Finding::failure(CHECK, format!("{name}: {error}"), change)
}

/// Whether a log can begin there, and whether its journal can grow to its size.
fn room(space: Space) -> Finding {
    const CHECK: &str = "disk space";
    let config = LogConfig::new(Arc::new(SystemClock), Arc::new(SystemEntropy));
    let ring_bytes = config.journal_file_bytes.saturating_mul(config.journal_files as u64);
    let start_bytes = config.reserve_bytes + config.first_journal_file_bytes;
    let whole_bytes = config.reserve_bytes + ring_bytes;
    let free = mib(space.free_bytes);
    let change = "free some space, delete topics, or name a directory with more room with --data";
    if space.free_bytes < start_bytes {
        let found = format!("{free} are free; below {} nothing is stored", mib(start_bytes));
        return Finding::failure(CHECK, found, change);
    }
    if space.free_bytes < whole_bytes {
        let found = format!("{free} are free; journal and reserve alone grow to {}", mib(whole_bytes));
        return Finding::warning(CHECK, found, change);
    }
    Finding::ok(CHECK, format!("{free} of {} are free", mib(space.total_bytes)))
}

fn file_system(found: &FileSystem) -> Finding {
    const CHECK: &str = "file system";
    let kind = found.kind.as_str();
    let here = format!("{kind}, mounted at {}", found.mounted_at.display());
    match kind {
        "tmpfs" | "ramfs" => Finding::warning(
            CHECK,
            format!("{here}: this is memory, and gone when the machine stops"),
            "name a directory on a disk with --data",
        ),
        "overlay" | "aufs" => Finding::warning(
            CHECK,
            format!("{here}: this is a layer of a container, and gone with it"),
            "mount a volume and name a directory on it with --data",
        ),
        _ if DISTANT.contains(&kind) || kind.starts_with("fuse") => Finding::warning(
            CHECK,
            format!("{here}: what a sync and a lock mean there is up to another program"),
            "name a directory on a disk of this machine with --data",
        ),
        _ => Finding::ok(CHECK, here),
    }
}

fn syncs(dir: &Path) -> Finding {
    const CHECK: &str = "sync";
    match probe::sync_times(dir) {
        Ok(times) => sync_time(times),
        Err(error) => Finding::failure(
            CHECK,
            format!("a write to {} cannot be synced: {error}", dir.display()),
            "look at the system's log for errors of the disk, or name another directory with --data",
        ),
    }
}

fn sync_time(mut times: Vec<Duration>) -> Finding {
    const CHECK: &str = "sync";
    times.sort_unstable();
    let median = times.get(times.len() / 2).copied().unwrap_or_default();
    let found = format!("a write of 4 KiB is on disk after {median:.1?} (median of {})", times.len());
    if median > SYNC_SLOW {
        return Finding::warning(
            CHECK,
            found,
            "each acknowledgement waits for this: use a local SSD, and see what else keeps the disk busy",
        );
    }
    Finding::ok(CHECK, found)
}

/// Bytes in MiB, or in GiB where those are many.
pub(super) fn mib(bytes: u64) -> String {
    const MIB: u64 = 1024 * 1024;
    if bytes >= 10 * 1024 * MIB {
        return format!("{} GiB", bytes / (1024 * MIB));
    }
    format!("{} MiB", bytes / MIB)
}

#[cfg(test)]
mod tests {
    use super::super::Verdict;
    use super::*;

    #[test]
    fn room_is_judged_by_what_the_log_needs() {
        let verdict =
            |free_mib: u64| room(Space { free_bytes: free_mib << 20, total_bytes: 1 << 40 }).verdict;
        assert_eq!(verdict(71), Verdict::Failure);
        assert_eq!(verdict(72), Verdict::Warning);
        assert_eq!(verdict(320), Verdict::Ok);
    }

    #[test]
    fn file_systems_that_lose_or_defer_are_warned_of() {
        let verdict = |kind: &str| {
            file_system(&FileSystem { kind: kind.to_owned(), mounted_at: PathBuf::from("/") }).verdict
        };
        for kind in ["tmpfs", "overlay", "nfs4", "fuse.sshfs"] {
            assert_eq!(verdict(kind), Verdict::Warning, "{kind}");
        }
        for kind in ["ext4", "xfs", "btrfs", "zfs"] {
            assert_eq!(verdict(kind), Verdict::Ok, "{kind}");
        }
    }

    #[test]
    fn the_median_sync_is_judged() {
        let ms = Duration::from_millis;
        assert_eq!(sync_time(vec![ms(900), ms(1), ms(1)]).verdict, Verdict::Ok);
        assert_eq!(sync_time(vec![ms(1), ms(6), ms(7)]).verdict, Verdict::Warning);
    }

    #[test]
    fn a_missing_directory_is_well_and_a_file_is_not() {
        let dir = tempfile::tempdir().expect("a directory");
        let verdict = |path: &Path| directory(path, None).0.verdict;
        assert_eq!(verdict(dir.path()), Verdict::Ok);
        assert_eq!(verdict(&dir.path().join("data")), Verdict::Ok);
        let link = dir.path().join("link");
        std::os::unix::fs::symlink(dir.path().join("disk"), &link).expect("a link");
        let (finding, looked_at) = directory(&link, None);
        assert_eq!((finding.verdict, looked_at), (Verdict::Failure, None), "its disk is not mounted");
        let file = dir.path().join("file");
        std::fs::write(&file, "").expect("a file");
        assert_eq!(verdict(&file), Verdict::Failure);
    }

    #[test]
    fn a_directory_that_only_another_release_reads_fails() {
        let dir = tempfile::tempdir().expect("a directory");
        let format = |version: u32| {
            let line = format!("courant-log {version} 631b55a3-759d-4879-8bf6-9d5ed8d4325d\n");
            std::fs::write(dir.path().join("FORMAT"), line).expect("a file");
            unused(dir.path())
        };
        assert_eq!(format(4).verdict, Verdict::Ok);
        let newer = format(4000);
        assert_eq!(newer.verdict, Verdict::Failure);
        assert!(newer.change.is_some_and(|change| change.contains("the release that wrote it")));
    }
}
