//! What the storage says of itself, and how fast it claims to be.

use super::directory::Directory;
use crate::exit::{Exit, Failure};
use crate::files;
use courant_log::storage::probe;
use serde::Serialize;
use std::io;
use std::path::Path;
use std::time::{Duration, Instant};

/// Bytes of each write that is timed: a block of the journal.
const WRITE_BYTES: usize = 4096;
/// Blocks of the file that they go to, one after the other.
const BLOCKS: usize = 256;
/// How long writes are timed.
const TIME: Duration = Duration::from_secs(2);
/// Writes that are timed at most.
const WRITES_MAX: usize = 500_000;
/// No disk has a sync behind it when half of them take less.
const BELIEVED_US: f64 = 15.0;
/// Bytes of the kernel's release that are read.
const RELEASE_BYTES_MAX: u64 = 1024;

/// What a report says of the storage.
#[derive(Debug, Serialize)]
pub(super) struct Storage {
    /// As the kernel names it, or `unknown`.
    pub(super) file_system: String,
    /// Release of the kernel, or `unknown`.
    pub(super) kernel: String,
    /// A write of 4 KiB and its sync.
    pub(super) sync: Times,
    /// What all this means.
    pub(super) judgement: String,
}

/// How long something took that was done again and again, in microseconds.
#[derive(Debug, PartialEq, Serialize)]
pub(super) struct Times {
    pub(super) count: usize,
    pub(super) p50_us: f64,
    pub(super) p99_us: f64,
    pub(super) max_us: f64,
}

/// Looks at the storage under a directory; takes two seconds.
///
/// # Errors
/// What the system says of a write or its sync.
pub(super) fn look(directory: &Directory) -> Result<Storage, Failure> {
    let path = directory.path();
    let times = sync_times(directory).map_err(|error| {
        let sentence = format!("{}: a write cannot be synced: {error}", path.display());
        Failure::new(Exit::Failed, sentence)
    })?;
    let unknown = || "unknown".to_owned();
    let file_system = probe::file_system(path).map_or_else(unknown, |found| found.kind);
    let kernel = files::read_text(Path::new("/proc/sys/kernel/osrelease"), RELEASE_BYTES_MAX);
    let kernel = kernel.map_or_else(|_| unknown(), |release| release.trim().to_owned());
    let sync = Times::of(times);
    let judgement = judge(&file_system, &sync);
    Ok(Storage { file_system, kernel, sync, judgement })
}

fn sync_times(directory: &Directory) -> io::Result<Vec<Duration>> {
    let file = directory.probe_file()?;
    let zeros = vec![0_u8; BLOCKS * WRITE_BYTES];
    file.write_at(&[&zeros[..]], 0)?;
    file.sync_data()?;
    let mut times = Vec::new();
    let begun = Instant::now();
    while begun.elapsed() < TIME && times.len() < WRITES_MAX {
        let number = times.len();
        // Each write differs from what it replaces, so that none can be left out.
        let block = [(number / BLOCKS + 1) as u8; WRITE_BYTES];
        let at = (number % BLOCKS) * WRITE_BYTES;
        let write = Instant::now();
        file.write_at(&[&block[..]], at as u64)?;
        file.sync_data()?;
        times.push(write.elapsed());
    }
    directory.remove_probe_file()?;
    Ok(times)
}

impl Times {
    fn of(mut times: Vec<Duration>) -> Self {
        times.sort_unstable();
        let at = |index: usize| times.get(index).map_or(0.0, |time| time.as_secs_f64() * 1e6);
        let count = times.len();
        Self {
            count,
            p50_us: at(count / 2),
            p99_us: at(count.saturating_mul(99) / 100),
            max_us: at(count.saturating_sub(1)),
        }
    }
}

/// What the kind of file system and the times mean for whoever trusts them.
fn judge(file_system: &str, sync: &Times) -> String {
    if matches!(file_system, "tmpfs" | "ramfs") {
        return format!(
            "{file_system} is memory: everything in it is gone when the machine stops. A run here tries the \
             log, and no disk"
        );
    }
    if sync.p50_us < BELIEVED_US {
        return format!(
            "this storage answers a sync without having written (half of them within {:.1} µs). A power cut \
             may take what was acknowledged: this is memory, or a disk that lies",
            sync.p50_us
        );
    }
    format!(
        "half of the syncs take {:.0} µs or more, as if each reached something that lasts. Only a power cut \
         shows whether it does",
        sync.p50_us
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn times(us: &[u64]) -> Times {
        Times::of(us.iter().map(|us| Duration::from_micros(*us)).collect())
    }

    #[test]
    fn times_are_in_order() {
        let mut all: Vec<u64> = (1..=1000).rev().collect();
        all.push(90_000);
        let found = times(&all);
        assert_eq!((found.count, found.max_us), (1001, 90_000.0));
        assert!((found.p50_us - 501.0).abs() < 1.0 && (found.p99_us - 991.0).abs() < 1.0, "{found:?}");
        assert_eq!(times(&[]), Times { count: 0, p50_us: 0.0, p99_us: 0.0, max_us: 0.0 });
    }

    #[test]
    fn memory_and_disks_that_lie_are_named() {
        assert!(judge("tmpfs", &times(&[400])).starts_with("tmpfs is memory"));
        assert!(judge("ext4", &times(&[14, 14, 900])).contains("a disk that lies"));
        assert!(judge("ext4", &times(&[16, 16, 16])).contains("Only a power cut"));
    }
}
