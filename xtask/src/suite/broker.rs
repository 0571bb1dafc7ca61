//! The broker that a suite is run against: Courant, started anew for each test, or one that runs
//! already and is left alone.

use std::env;
use std::fs::{self, File};
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, Command, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow};

use crate::{prepare, release};

use super::Options;

/// How long a start on an empty data directory may take.
const START_PATIENCE: Duration = Duration::from_secs(60);

/// Where brokers come from.
#[derive(Debug)]
pub(super) enum Broker {
    /// The built server.
    Courant(PathBuf),
    /// The address of one that runs already.
    Running(String),
}

impl Broker {
    /// What the command line asks for; builds the server if it is that.
    pub(super) fn chosen(root: &Path, options: &Options) -> Result<Broker> {
        match &options.broker {
            Some(address) => Ok(Broker::Running(address.clone())),
            None => Ok(Broker::Courant(release::build(root)?)),
        }
    }

    /// A broker for one test, with fresh data below `folder` if it is one of ours.
    pub(super) fn start(&self, folder: &Path, arguments: &[&str]) -> Result<Started> {
        match self {
            Broker::Courant(binary) => Server::start(binary, folder, arguments).map(Started::Courant),
            Broker::Running(address) => Ok(Started::Running(address.clone())),
        }
    }
}

/// A broker that answers.
#[derive(Debug)]
pub(super) enum Started {
    Courant(Server),
    Running(String),
}

impl Started {
    /// What clients call `bootstrap.servers`.
    pub(super) fn address(&self) -> &str {
        match self {
            Started::Courant(server) => &server.kafka,
            Started::Running(address) => address,
        }
    }

    /// True when a server of ours has ended, which it never should by itself.
    pub(super) fn has_died(&mut self) -> bool {
        match self {
            Started::Courant(server) => !matches!(server.child.try_wait(), Ok(None)),
            Started::Running(_) => false,
        }
    }
}

/// A server of ours on loopback. Dropping it kills it and deletes its data; its log stays.
#[derive(Debug)]
pub(super) struct Server {
    child: Child,
    data: PathBuf,
    kafka: String,
}

impl Server {
    fn start(binary: &Path, folder: &Path, arguments: &[&str]) -> Result<Server> {
        let data = folder.join("data");
        prepare::empty(&data)?;
        let log = File::create(folder.join("server.log")).context("the server's log")?;
        let mut command = Command::new(binary);
        command.arg("serve").arg("--data").arg(&data);
        if !arguments.contains(&"--kafka") {
            command.args(["--kafka", "127.0.0.1:0"]);
        }
        command.args(["--http", "127.0.0.1:0"]).args(arguments);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        // What this machine sets for its own servers, here or in a file, is no business of this one.
        command.current_dir(folder);
        for (name, _) in env::vars_os() {
            if name.to_string_lossy().starts_with("COURANT_") || name == "RUST_LOG" {
                command.env_remove(name);
            }
        }
        let child = command.spawn().with_context(|| format!("{} does not start", binary.display()))?;
        let mut server = Server { child, data, kafka: String::new() };
        let stderr = server.child.stderr.take().context("stderr is no pipe")?;
        server.kafka = address(&lines(stderr, log))?;
        Ok(server)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended already, and the data is in nobody's way.
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = fs::remove_dir_all(&self.data);
    }
}

/// Writes every line to `log`, and sends each until nobody listens.
fn lines(stderr: ChildStderr, mut log: File) -> Receiver<String> {
    let (sender, received) = mpsc::channel();
    thread::spawn(move || {
        for line in BufReader::new(stderr).split(b'\n') {
            let Ok(line) = line else { return };
            let line = String::from_utf8_lossy(&line).into_owned();
            // A full disk loses the log, not the test.
            let _ = writeln!(log, "{line}");
            let _ = sender.send(line);
        }
    });
    received
}

/// The Kafka address in the banner, once the server is ready.
fn address(received: &Receiver<String>) -> Result<String> {
    let deadline = Instant::now() + START_PATIENCE;
    let mut banner = Vec::new();
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        match received.recv_timeout(left) {
            Ok(line) if line == "ready" => break,
            Ok(line) => banner.push(line),
            Err(_) => return Err(anyhow!("the server is not ready; it said:\n{}", banner.join("\n"))),
        }
    }
    let address = banner.iter().find_map(|line| line.trim().strip_prefix("kafka "));
    let address = address.context("the server's banner has no line `kafka`")?;
    Ok(address.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn banner(lines: &[&str]) -> Result<String> {
        let (sender, received) = mpsc::channel();
        for line in lines {
            sender.send((*line).to_owned()).unwrap();
        }
        drop(sender);
        address(&received)
    }

    #[test]
    fn the_address_is_in_the_banner() {
        let found = banner(&["courant 0.1.0", "  kafka    127.0.0.1:41233", "  http     http://x", "ready"]);
        assert_eq!(found.unwrap(), "127.0.0.1:41233");
        let refused = banner(&["error: the data directory is in use"]).unwrap_err().to_string();
        assert!(refused.contains("in use"), "{refused}");
        assert!(banner(&["courant 0.1.0", "ready"]).is_err());
    }
}
