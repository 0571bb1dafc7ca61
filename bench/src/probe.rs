//! What the disk can do at this moment: without it, a durable figure says more about the machine
//! than about the server.

use std::fs::{self, File, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};

use crate::percentile;

/// How long one probe takes.
const TIME: Duration = Duration::from_secs(1);
/// One write, in bytes.
const BLOCK: usize = 4096;
/// Blocks of the file that is written over and over.
const BLOCKS: u64 = 1024;
/// A median above this means that somebody else is at work: a sync waits for its turn on the CPU.
const BUSY: Duration = Duration::from_micros(250);

/// Times of a 4 KiB overwrite of a zero-filled file and the `fdatasync` after it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Probe {
    pub(crate) p50: Duration,
    pub(crate) p99: Duration,
}

impl Probe {
    /// Takes them in this directory.
    pub(crate) fn take(dir: &Path) -> Result<Probe> {
        let path = dir.join("probe");
        let times = sync_times(&path);
        // A file that could not be made cannot be removed either; the first error is the one to tell.
        let removed = fs::remove_file(&path);
        let mut times = times.with_context(|| probing(&path))?;
        removed.with_context(|| probing(&path))?;
        let (p50, p99) = percentile::median_and_99th(&mut times)
            .with_context(|| format!("{}: no sync ended in time", probing(&path)))?;
        Ok(Probe { p50, p99 })
    }

    /// True when wall clock figures taken now are not worth much.
    pub(crate) fn is_busy(&self) -> bool {
        self.p50 > BUSY
    }
}

fn probing(path: &Path) -> String {
    format!("the disk cannot be probed with {}", path.display())
}

fn sync_times(path: &Path) -> Result<Vec<Duration>> {
    let mut file = new_file(path)?;
    // Only really written zeros: a file that is merely allocated costs a journal commit per sync.
    for _ in 0..BLOCKS {
        file.write_all(&[0; BLOCK])?;
    }
    file.sync_all()?;
    let begun = Instant::now();
    let mut times = Vec::new();
    for number in 0_u64.. {
        if begun.elapsed() >= TIME {
            break;
        }
        let block = [number.to_le_bytes()[0]; BLOCK];
        let before = Instant::now();
        file.write_all_at(&block, number % BLOCKS * BLOCK as u64)?;
        file.sync_data()?;
        times.push(before.elapsed());
    }
    Ok(times)
}

/// Writes a file of this size and removes it. The first touch of memory by the page cache is slow on
/// a virtual machine, by a factor of three to five, and the first row would pay for all.
pub(crate) fn warm_memory(dir: &Path, bytes: u64) -> Result<()> {
    const CHUNK: usize = 1 << 20;
    let path = dir.join("warm");
    let warming = || format!("{} cannot be written", path.display());
    let chunk = vec![1_u8; CHUNK];
    let mut file = new_file(&path).with_context(warming)?;
    for _ in 0..bytes.div_ceil(CHUNK as u64) {
        file.write_all(&chunk).with_context(warming)?;
    }
    fs::remove_file(&path).with_context(|| format!("{} cannot be removed", path.display()))
}

fn new_file(path: &Path) -> Result<File> {
    let mut options = OpenOptions::new();
    Ok(options.write(true).create_new(true).open(path)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slow_sync_means_a_busy_machine() {
        let probe = |micros| Probe { p50: Duration::from_micros(micros), p99: Duration::from_millis(4) };
        assert!(!probe(130).is_busy());
        assert!(probe(4_000).is_busy());
    }
}
