//! What the disk can do at this moment: without it, a durable figure says more about the machine
//! than about the server.

use std::fs::{self, File, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};

use crate::percentile;
use crate::say;

/// How long one probe takes, and where all rounds are short.
const TIME: Duration = Duration::from_secs(1);
const SHORT_TIME: Duration = Duration::from_millis(250);
static IS_SHORT: AtomicBool = AtomicBool::new(false);
/// One write, in bytes.
const BLOCK: usize = 4096;
/// Blocks of the file that is written over and over.
const BLOCKS: u64 = 1024;
/// A median above this means that somebody else is at work: a sync waits for its turn on the CPU.
const BUSY: Duration = Duration::from_micros(250);

/// How often it is taken anew while the machine is busy: servers of others have something to do for a while after
/// their start.
const PROBES_MAX: u32 = 8;

/// How long it is looked whether the CPUs have something to do, and the part of them that has to have nothing.
const LOOK: Duration = Duration::from_millis(200);
const IDLE_MIN: f64 = 0.9;
/// Times of the CPUs in `/proc/stat` that differ: those of guests are in others of them.
const TIMES: usize = 8;
/// Which of them is that without work.
const IDLE: usize = 3;

/// Makes every probe of this process a short one: still some thousand syncs.
pub(crate) fn be_short() {
    IS_SHORT.store(true, Ordering::Relaxed);
}

/// Times of a 4 KiB overwrite of a zero-filled file and the `fdatasync` after it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Probe {
    pub(crate) p50: Duration,
    pub(crate) p99: Duration,
    /// The part of all CPUs that had nothing to do before. What the host takes away is not in it.
    pub(crate) idle: f64,
}

impl Probe {
    /// Takes them in this directory.
    pub(crate) fn take(dir: &Path) -> Result<Probe> {
        let idle = idle()?;
        let path = dir.join("probe");
        let times = sync_times(&path);
        // A file that could not be made cannot be removed either; the first error is the one to tell.
        let removed = fs::remove_file(&path);
        let mut times = times.with_context(|| probing(&path))?;
        removed.with_context(|| probing(&path))?;
        let (p50, p99) = percentile::median_and_99th(&mut times)
            .with_context(|| format!("{}: no sync ended in time", probing(&path)))?;
        Ok(Probe { p50, p99, idle })
    }

    /// Takes them; where somebody else is at work, a little later.
    pub(crate) fn take_when_idle(dir: &Path) -> Result<Probe> {
        let mut probe = Probe::take(dir)?;
        for _ in 1..PROBES_MAX {
            if !probe.is_busy() {
                break;
            }
            say(format_args!("bench: the machine is busy"));
            probe = Probe::take(dir)?;
        }
        Ok(probe)
    }

    /// True when wall clock figures taken now are not worth much.
    pub(crate) fn is_busy(&self) -> bool {
        self.p50 > BUSY || self.idle < IDLE_MIN
    }
}

/// The part of the CPUs that has nothing to do now.
fn idle() -> Result<f64> {
    let times = || {
        let stat = fs::read_to_string("/proc/stat").context("/proc/stat cannot be read")?;
        cpu_times(&stat).context("/proc/stat has no times")
    };
    let (idle, all) = times()?;
    thread::sleep(LOOK);
    let (idle_then, all_then) = times()?;
    // Time that is counted in ticks may stand still, and that without work even go back a little.
    Ok(idle_then.saturating_sub(idle) as f64 / all_then.saturating_sub(all).max(1) as f64)
}

/// Ticks of all CPUs without work, and of all that they did.
fn cpu_times(stat: &str) -> Option<(u64, u64)> {
    let line = stat.lines().find_map(|line| line.strip_prefix("cpu "))?;
    let times: Option<Vec<u64>> = line.split_whitespace().take(TIMES).map(|time| time.parse().ok()).collect();
    let times = times?;
    Some((*times.get(IDLE)?, times.iter().sum()))
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
    let time = if IS_SHORT.load(Ordering::Relaxed) { SHORT_TIME } else { TIME };
    let begun = Instant::now();
    let mut times = Vec::new();
    for number in 0_u64.. {
        if begun.elapsed() >= time {
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
        let probe = |micros, idle| {
            let (p50, p99) = (Duration::from_micros(micros), Duration::from_millis(4));
            Probe { p50, p99, idle }
        };
        assert!(!probe(130, 0.97).is_busy());
        assert!(probe(4_000, 0.97).is_busy());
        assert!(probe(130, 0.6).is_busy());
    }

    #[test]
    fn what_the_host_takes_is_not_idle() {
        let stat = "cpu  10 1 5 70 2 0 3 9 4 0\ncpu0 1 1 1 1 1 1 1 1 0 0\n";
        assert_eq!(cpu_times(stat), Some((70, 100)));
        assert_eq!(cpu_times("intr 1 2\n"), None);
    }
}
