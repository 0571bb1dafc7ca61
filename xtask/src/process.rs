//! Starts programs, passes their output on line by line, and ends what runs past its time.

use std::env;
use std::ffi::OsString;
use std::fs;
use std::io::{self, BufRead as _, BufReader, Read, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::thread;
use std::time::{Duration, Instant};

/// How often a silent program is looked at.
const POLL: Duration = Duration::from_millis(200);
/// Longest pause before a program is looked at again whose output is nobody's here.
const PAUSE_MAX: Duration = Duration::from_millis(50);
/// How long output may still trickle in after the program itself has ended: what it left behind may
/// hold the pipe open for ever.
const DRAIN: Duration = Duration::from_secs(2);

/// How a program ended.
#[derive(Debug)]
pub(crate) enum Ended {
    /// By itself.
    Exit(ExitStatus),
    /// It was killed, with everything it had started, because its time was over.
    OverTime,
}

impl Ended {
    /// True when the program said that all is well.
    pub(crate) fn is_success(&self) -> bool {
        matches!(self, Ended::Exit(status) if status.success())
    }

    /// A few words for a report.
    pub(crate) fn describe(&self) -> String {
        match self {
            Ended::Exit(status) => status.to_string(),
            Ended::OverTime => "killed: twice over its time budget".to_owned(),
        }
    }
}

/// The cargo that runs this task, in the workspace's root.
pub(crate) fn cargo(root: &Path) -> Command {
    let program = env::var_os("CARGO").unwrap_or_else(|| OsString::from("cargo"));
    let mut command = Command::new(program);
    command.current_dir(root);
    // What `cargo run` told this process about its own package is no business of the next cargo.
    for (name, _) in env::vars_os() {
        let name = name.to_string_lossy().into_owned();
        if name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_") {
            command.env_remove(name);
        }
    }
    command
}

/// As [`cargo`], for a run from nothing: what makes the next compilation faster makes the first one slower.
/// Where somebody has compiled that way, it stays so, or everything would be compiled again.
pub(crate) fn cargo_anew(root: &Path) -> Command {
    let mut command = cargo(root);
    if !is_worked_in(root) {
        command.env("CARGO_INCREMENTAL", "0");
    }
    command
}

/// Whether anything but this task was compiled incrementally here.
fn is_worked_in(root: &Path) -> bool {
    let Ok(crates) = fs::read_dir(root.join("target/debug/incremental")) else { return false };
    crates.flatten().any(|one| !one.file_name().to_string_lossy().starts_with("xtask-"))
}

/// Runs `command` until it ends or `deadline` passes. `on_line` sees each line of either stream
/// and says whether it is passed on to the terminal.
pub(crate) fn stream(
    command: &mut Command,
    deadline: Instant,
    on_line: &mut dyn FnMut(&str) -> bool,
) -> io::Result<Ended> {
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    let (lines, received) = mpsc::channel();
    if let Some(stdout) = child.stdout.take() {
        read_lines(stdout, lines.clone());
    }
    if let Some(stderr) = child.stderr.take() {
        read_lines(stderr, lines);
    }

    let mut over_time = false;
    let mut ended_at = None;
    loop {
        match received.recv_timeout(POLL) {
            Ok(line) => {
                if on_line(&line) {
                    println!("{line}");
                }
            }
            Err(RecvTimeoutError::Timeout) => io::stdout().flush()?,
            Err(RecvTimeoutError::Disconnected) => break,
        }
        if ended_at.is_none() && child.try_wait()?.is_some() {
            ended_at = Some(Instant::now());
        }
        if ended_at.is_some_and(|at| at.elapsed() > DRAIN) {
            break;
        }
        if !over_time && ended_at.is_none() && Instant::now() > deadline {
            over_time = true;
            kill_tree(&mut child);
        }
    }
    // Both pipes can be closed by a program that goes on; it too has only its time.
    while child.try_wait()?.is_none() {
        if Instant::now() > deadline {
            over_time = true;
            kill_tree(&mut child);
        }
        thread::sleep(POLL);
    }
    let status = child.wait()?;
    Ok(if over_time { Ended::OverTime } else { Ended::Exit(status) })
}

/// Runs `command` where this program writes to, until it ends or `deadline` passes.
pub(crate) fn run_until(command: &mut Command, deadline: Instant) -> io::Result<Ended> {
    let mut child = command.spawn()?;
    // Most programs take no time at all, and there are many of them.
    let mut pause = Duration::from_millis(1);
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(Ended::Exit(status));
        }
        if Instant::now() > deadline {
            kill_tree(&mut child);
            child.wait()?;
            return Ok(Ended::OverTime);
        }
        thread::sleep(pause);
        pause = (2 * pause).min(PAUSE_MAX);
    }
}

/// Sends each line of `source` until its end.
fn read_lines(source: impl Read + Send + 'static, lines: Sender<String>) {
    thread::spawn(move || {
        let mut source = BufReader::new(source);
        let mut bytes = Vec::new();
        loop {
            bytes.clear();
            match source.read_until(b'\n', &mut bytes) {
                Ok(0) | Err(_) => return,
                Ok(_) => {
                    let line = String::from_utf8_lossy(&bytes);
                    if lines.send(line.trim_end_matches(['\n', '\r']).to_owned()).is_err() {
                        return;
                    }
                }
            }
        }
    });
}

/// Kills a child and everything that it started.
fn kill_tree(child: &mut Child) {
    let mut pids = vec![child.id()];
    let mut next = 0;
    while let Some(pid) = pids.get(next).copied() {
        next += 1;
        pids.extend(children_of(pid));
    }
    let pids = pids.iter().map(u32::to_string);
    // Where there is no `kill`, the child itself still goes.
    let _ = Command::new("kill").arg("-KILL").args(pids).stderr(Stdio::null()).status();
    let _ = child.kill();
}

/// The direct children of a process, of all its threads.
fn children_of(pid: u32) -> Vec<u32> {
    let Ok(threads) = fs::read_dir(format!("/proc/{pid}/task")) else {
        return Vec::new();
    };
    threads
        .flatten()
        .filter_map(|thread| fs::read_to_string(thread.path().join("children")).ok())
        .flat_map(|pids| pids.split_whitespace().filter_map(|pid| pid.parse().ok()).collect::<Vec<_>>())
        .collect()
}

/// Runs a program and hands back what it wrote to stdout, trimmed; `None` unless it succeeded.
pub(crate) fn answer(program: &str, args: &[&str]) -> Option<String> {
    let output = Command::new(program).args(args).stdin(Stdio::null()).output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// Where a program stands, also in folders that a user's `PATH` may lack: those for administrators,
/// and the one where Go installs itself.
pub(crate) fn find_program(name: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path)
        .chain(["/usr/sbin", "/sbin", "/usr/local/go/bin"].map(PathBuf::from))
        .map(|folder| folder.join(name))
        .find(|program| program.is_file())
}

/// True for root.
pub(crate) fn is_root() -> bool {
    answer("id", &["-u"]).is_some_and(|uid| uid == "0")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        command
    }

    #[test]
    fn lines_of_both_streams_arrive() {
        let mut seen = Vec::new();
        let ended = stream(
            &mut shell("echo one; echo two >&2; exit 3"),
            Instant::now() + Duration::from_secs(30),
            &mut |line| {
                seen.push(line.to_owned());
                false
            },
        )
        .unwrap();
        seen.sort();
        assert_eq!(seen, ["one", "two"]);
        assert!(matches!(ended, Ended::Exit(status) if status.code() == Some(3)));
    }

    #[test]
    fn who_only_waits_hears_how_a_program_ended() {
        let later = Instant::now() + Duration::from_secs(30);
        let ended = run_until(&mut shell("exit 101"), later).unwrap();
        assert!(matches!(ended, Ended::Exit(status) if status.code() == Some(101)));
        let started = Instant::now();
        let soon = started + Duration::from_millis(300);
        let ended = run_until(&mut shell("sleep 60 & sleep 60"), soon).unwrap();
        assert!(matches!(ended, Ended::OverTime));
        assert!(started.elapsed() < Duration::from_secs(20));
    }

    #[test]
    fn what_runs_past_its_time_is_killed_with_its_children() {
        let started = Instant::now();
        let ended = stream(
            &mut shell("sleep 60 & sleep 60; echo never"),
            started + Duration::from_millis(300),
            &mut |_| false,
        )
        .unwrap();
        assert!(matches!(ended, Ended::OverTime));
        assert!(started.elapsed() < Duration::from_secs(20));
    }
}
