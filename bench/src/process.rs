//! What the kernel knows about a process: CPU time, memory and what it has written.

use std::fs;

use anyhow::{Context as _, Result};
use rustix::process::{Pid, Signal, kill_process};

/// Ticks of `/proc/PID/stat` per second, on every platform that Linux and we both run on.
const TICKS_PER_SECOND: f64 = 100.0;

/// Where the four times stand in `/proc/PID/stat`, counted behind the name of the program: utime,
/// stime, and both of the children that were waited for.
const TIMES: std::ops::RangeInclusive<usize> = 11..=14;

/// Seconds of CPU that a process has used with all its threads and children, in steps of 10 ms.
pub(crate) fn cpu_seconds(pid: u32) -> Result<f64> {
    let path = format!("/proc/{pid}/stat");
    let stat = fs::read_to_string(&path).with_context(|| format!("{path} cannot be read"))?;
    let ticks = ticks(&stat).with_context(|| format!("{path} has no times: {stat}"))?;
    Ok(ticks as f64 / TICKS_PER_SECOND)
}

/// The same of a process and of all that it has started and that still run.
pub(crate) fn tree_cpu_seconds(pid: u32) -> Result<f64> {
    let mut sum = cpu_seconds(pid)?;
    for child in descendants_of(pid) {
        // One that has ended meanwhile is counted by its parent.
        sum += cpu_seconds(child).unwrap_or(0.0);
    }
    Ok(sum)
}

/// PSS of a process and of all that it has started and that still run.
pub(crate) fn tree_pss_kib(pid: u32) -> Result<u64> {
    let mut sum = memory(pid)?.pss_kib;
    for child in descendants_of(pid) {
        sum += memory(child).map_or(0, |memory| memory.pss_kib);
    }
    Ok(sum)
}

/// Ends a process and all that it has started, at once.
pub(crate) fn end_tree(pid: u32) {
    // What stands still starts nothing more.
    signal(pid, Signal::STOP);
    for pid in [pid].into_iter().chain(descendants_of(pid)) {
        signal(pid, Signal::KILL);
    }
}

fn signal(pid: u32, signal: Signal) {
    if let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) {
        // It may have ended already.
        let _ = kill_process(pid, signal);
    }
}

/// All that a process has started and that still run.
fn descendants_of(pid: u32) -> Vec<u32> {
    let mut found = children_of(pid);
    let mut next = 0;
    while let Some(child) = found.get(next).copied() {
        found.extend(children_of(child));
        next += 1;
    }
    found
}

/// The direct children of a process, of all its threads.
fn children_of(pid: u32) -> Vec<u32> {
    let threads = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    threads
        .filter_map(|thread| fs::read_to_string(thread.path().join("children")).ok())
        .flat_map(|pids| pids.split_whitespace().filter_map(|pid| pid.parse().ok()).collect::<Vec<u32>>())
        .collect()
}

fn ticks(stat: &str) -> Option<u64> {
    // The name stands in brackets and may itself contain spaces and brackets.
    let (_, fields) = stat.rsplit_once(')')?;
    let fields: Vec<&str> = fields.split_whitespace().collect();
    let times = fields.get(TIMES)?;
    times.iter().map(|field| field.parse::<u64>().ok()).sum()
}

/// What a process has written, with all its threads, to files and sockets alike.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Written {
    /// Calls of the system that write.
    pub(crate) calls: u64,
    /// Bytes that go to a disk sooner or later, in whole pages.
    pub(crate) bytes: u64,
}

/// What a process has written so far; `None` where the system does not tell.
pub(crate) fn written(pid: u32) -> Option<Written> {
    written_in(&fs::read_to_string(format!("/proc/{pid}/io")).ok()?)
}

fn written_in(text: &str) -> Option<Written> {
    let value = |name: &str| {
        let mut lines = text.lines();
        lines.find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))?.trim().parse().ok()
    };
    Some(Written { calls: value("syscw")?, bytes: value("write_bytes")? })
}

/// Memory of a process in KiB.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Memory {
    /// Its own pages, and its share of those that it has in common with others.
    pub(crate) pss_kib: u64,
    /// All its pages.
    pub(crate) rss_kib: u64,
}

/// The memory of a process now.
pub(crate) fn memory(pid: u32) -> Result<Memory> {
    let path = format!("/proc/{pid}/smaps_rollup");
    let text = fs::read_to_string(&path).with_context(|| format!("{path} cannot be read"))?;
    memory_in(&text).with_context(|| format!("{path} has no Pss and Rss: {text}"))
}

fn memory_in(text: &str) -> Option<Memory> {
    let kib = |name: &str| {
        let mut lines = text.lines();
        let line = lines.find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
        line.split_whitespace().next()?.parse().ok()
    };
    Some(Memory { pss_kib: kib("Pss")?, rss_kib: kib("Rss")? })
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};
    use std::thread;
    use std::time::{Duration, Instant};

    use super::*;

    #[test]
    fn times_stand_behind_the_name() {
        let stat = "7 (a) b (c) S 1 7 7 0 -1 4194560 100 0 0 0 250 40 3 2 20 0 9 0 1 1 1 1";
        assert_eq!(ticks(stat), Some(295));
        assert_eq!(ticks("7 (short) S 1"), None);
    }

    #[test]
    fn a_child_is_counted_with_its_parent() {
        let mut child = Command::new("cat").stdin(Stdio::piped()).spawn().unwrap();
        let children = children_of(std::process::id());
        let own = cpu_seconds(std::process::id()).unwrap();
        let sum = tree_cpu_seconds(std::process::id()).unwrap();
        let (alone, both) = (memory(child.id()).unwrap(), tree_pss_kib(std::process::id()).unwrap());
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(children.contains(&child.id()), "{children:?}");
        assert!(sum >= own, "{sum} {own}");
        assert!(both > alone.pss_kib, "{both} {alone:?}");
    }

    #[test]
    fn a_process_is_ended_with_its_children() {
        let mut shell = Command::new("sh").args(["-c", "sleep 600 & wait"]).spawn().unwrap();
        let begun = Instant::now();
        let children = loop {
            let children = descendants_of(shell.id());
            if !children.is_empty() {
                break children;
            }
            assert!(begun.elapsed() < Duration::from_secs(60), "the shell starts nothing");
            thread::yield_now();
        };
        end_tree(shell.id());
        shell.wait().unwrap();
        for child in children {
            // Whoever inherits it may not have waited for it yet: then it has no memory any more.
            while memory(child).is_ok() {
                assert!(begun.elapsed() < Duration::from_secs(60), "{child} still runs");
                thread::yield_now();
            }
        }
    }

    #[test]
    fn what_was_written_is_not_what_was_taken_back() {
        let text = "rchar: 1\nwchar: 2\nsyscr: 3\nsyscw: 44\nread_bytes: 0\nwrite_bytes: 8192\n\
                    cancelled_write_bytes: 4096\n";
        assert_eq!(written_in(text), Some(Written { calls: 44, bytes: 8_192 }));
        assert_eq!(written_in("rchar: 1\n"), None);
    }

    #[test]
    fn pss_is_not_its_kinds() {
        let text = "55e0 ---p 00000000 00:00 0 [rollup]\nRss:  20480 kB\nPss:  9000 kB\n\
                    Pss_Dirty:  10 kB\nPss_Anon:  20 kB\n";
        let expected = Memory { pss_kib: 9_000, rss_kib: 20_480 };
        assert_eq!(memory_in(text), Some(expected));
        assert_eq!(memory_in("Rss: 1 kB\n"), None);
    }
}
