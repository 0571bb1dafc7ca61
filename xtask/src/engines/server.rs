//! What the servers of others have in common: each is a process that outlives this one, writes into a log in
//! its folder, is found again by a file with its number, and ended by that number.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};

const POLL: Duration = Duration::from_millis(50);
/// How long a server may take to end in order.
const PATIENCE: Duration = Duration::from_secs(20);
/// How often a port that was free is lost to somebody else.
const ATTEMPTS: u32 = 3;

/// The file that names a server's process.
pub(super) const PID: &str = "pid";
/// The file that names its port. It is there once the server answers.
pub(super) const PORT: &str = "port";

/// Starts something on ports that are free, and on others when they are lost.
pub(super) fn on_free_ports(name: &str, start: &mut dyn FnMut() -> Result<()>) -> Result<bool> {
    for attempt in 1..=ATTEMPTS {
        match start() {
            Ok(()) => return Ok(true),
            Err(error) if attempt == ATTEMPTS => return Err(error),
            Err(error) => println!("{name}: {error:#}; again, on other ports"),
        }
    }
    Ok(false)
}

/// Ports on loopback that are free, held at the same time so that they differ.
pub(super) fn free_ports<const COUNT: usize>() -> Result<[u16; COUNT]> {
    let mut held = Vec::new();
    let mut ports = [0; COUNT];
    for port in &mut ports {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("no port on loopback")?;
        *port = listener.local_addr().context("no port on loopback")?.port();
        held.push(listener);
    }
    Ok(ports)
}

/// Starts a server in its folder, where its output goes to the file `log`, and waits until it answers on this
/// port.
pub(super) fn start(
    name: &str,
    folder: &Path,
    port: u16,
    command: &mut Command,
    deadline: Instant,
    answers: &mut dyn FnMut() -> bool,
) -> Result<()> {
    let log = folder.join("log");
    let mut child = spawn(command.current_dir(folder), &log)?;
    write_number(folder, PID, child.id())?;
    let ready = wait_until_ready(&mut child, name, deadline, answers);
    if ready.is_err() {
        give_up(&mut child);
    }
    ready.with_context(|| format!("see {}", log.display()))?;
    write_number(folder, PORT, port.into())
}

/// Starts a program whose output goes to the file `log`.
pub(super) fn spawn(command: &mut Command, log: &Path) -> Result<Child> {
    let output = File::create(log).with_context(|| log.display().to_string())?;
    let errors = output.try_clone().context("the log")?;
    // It outlives this process, and what ends this process from a terminal is not meant for it.
    command.stdin(Stdio::null()).stdout(output).stderr(errors).process_group(0);
    command.spawn().with_context(|| format!("{} does not start", command.get_program().to_string_lossy()))
}

/// Waits until a server that was just started answers.
pub(super) fn wait_until_ready(
    child: &mut Child,
    name: &str,
    deadline: Instant,
    answers: &mut dyn FnMut() -> bool,
) -> Result<()> {
    loop {
        let ready = answers();
        // Somebody else's server may answer on a port that was lost: then the child has ended.
        if let Some(status) = child.try_wait().context("the server")? {
            bail!("{name} has ended: {status}");
        }
        if ready {
            return Ok(());
        }
        if Instant::now() > deadline {
            bail!("{name} does not answer in time");
        }
        thread::sleep(POLL);
    }
}

/// Writes a number that is looked for later.
pub(super) fn write_number(folder: &Path, name: &str, number: u32) -> Result<()> {
    let file = folder.join(name);
    fs::write(&file, format!("{number}\n")).with_context(|| file.display().to_string())
}

/// A number that was written there.
pub(super) fn number(folder: &Path, name: &str) -> Option<u32> {
    fs::read_to_string(folder.join(name)).ok()?.trim().parse().ok()
}

/// The process that a file names, while it runs, if it was started with this argument: the number may have
/// been given to another one since.
pub(super) fn pid(file: &Path, argument: &OsStr) -> Option<u32> {
    let pid: u32 = fs::read_to_string(file).ok()?.trim().parse().ok()?;
    let arguments = fs::read(format!("/proc/{pid}/cmdline")).ok()?;
    has(&arguments, argument).then_some(pid)
}

/// Whether `argument` is one of those of a process.
fn has(arguments: &[u8], argument: &OsStr) -> bool {
    arguments.split(|byte| *byte == 0).any(|one| one == argument.as_encoded_bytes())
}

/// Ends the process that `running` finds, first in order, then at once. Whether there was one.
pub(super) fn end(running: &dyn Fn() -> Option<u32>) -> Result<bool> {
    let Some(pid) = running() else { return Ok(false) };
    for signal in ["-TERM", "-KILL"] {
        let sent = Command::new("kill").args([signal, &pid.to_string()]).status().context("kill")?;
        ensure!(sent.success() || running().is_none(), "no right to end process {pid}");
        let until = Instant::now() + PATIENCE;
        while Instant::now() < until {
            if running().is_none() {
                return Ok(true);
            }
            thread::sleep(POLL);
        }
    }
    bail!("process {pid} has not ended")
}

/// Ends a child that is not ready, with all that it started and that stayed in its group.
pub(super) fn give_up(child: &mut Child) {
    let group = format!("-{}", child.id());
    // Where there is no `kill`, the child itself still goes, and one that has ended needs nothing.
    let _ = Command::new("kill").args(["-KILL", "--", &group]).stderr(Stdio::null()).status();
    let _ = child.kill();
    let _ = child.wait();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_process_with_our_argument_is_ours() {
        let file = OsStr::new("/w/target/engines/redis/redis.conf");
        assert!(has(b"redis-server\0/w/target/engines/redis/redis.conf\0", file));
        assert!(!has(b"redis-server\0/w/target/engines/redis/redis.conf2\0", file));
        assert!(!has(b"redis-server 127.0.0.1:6379\0\0\0", file));
    }

    #[test]
    fn ports_differ() {
        let [one, two, three] = free_ports().unwrap();
        assert!(one != two && two != three && three != one);
    }

    #[test]
    fn a_server_that_has_ended_is_not_waited_for() {
        let mut child = Command::new("true").stdin(Stdio::null()).spawn().unwrap();
        let deadline = Instant::now() + Duration::from_secs(60);
        let error = wait_until_ready(&mut child, "true", deadline, &mut || false).unwrap_err();
        assert!(error.to_string().contains("true has ended"), "{error:#}");
    }
}
