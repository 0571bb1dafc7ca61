//! One built server as a child process, on loopback, with ports that the system chooses.

use std::collections::VecDeque;
use std::env;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, ChildStderr, Command, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow, bail, ensure};

use crate::process::{self, Memory, Written};
use crate::tls::{Client, Identity, Socket};

/// How long a start may take, recovery included.
const START_PATIENCE: Duration = Duration::from_secs(300);
/// How long an answer over HTTP may take.
const HTTP_PATIENCE: Duration = Duration::from_secs(10);
/// Lines of the server that are kept for an error message.
const LINES_KEPT: usize = 12;

/// The last lines that a server wrote.
type Lines = Arc<Mutex<VecDeque<String>>>;

/// A running server. It is killed when dropped.
pub(crate) struct Server {
    process: Process,
    kafka: SocketAddr,
    http: SocketAddr,
    /// Who asks it over TLS, where it speaks that.
    tls: Option<Client>,
    start: Duration,
    recovery: Option<String>,
    lines: Lines,
}

impl Server {
    /// Starts the binary on a data directory and waits for its line `ready`.
    pub(crate) fn start(courant: &Path, data: &Path) -> Result<Server> {
        Self::start_with(courant, data, None)
    }

    /// The same with TLS, or without.
    pub(crate) fn start_with(courant: &Path, data: &Path, tls: Option<&Identity>) -> Result<Server> {
        let mut command = Command::new(courant);
        command
            .arg("serve")
            .arg("--data")
            .arg(data)
            .args(["--kafka", "127.0.0.1:0", "--http", "127.0.0.1:0"])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped());
        without_settings(&mut command);
        if let Some(tls) = tls {
            command.args(tls.flags());
        }
        let spawned = Instant::now();
        let child = command.spawn().with_context(|| format!("{} does not start", courant.display()))?;
        let mut process = Process(child);
        let stderr = process.0.stderr.take().context("stderr is no pipe")?;
        let (sender, received) = mpsc::channel();
        let lines = Lines::default();
        read_lines(stderr, sender, Arc::clone(&lines));
        let (banner, ready) = banner(&received, spawned).map_err(|error| told(&error, &lines))?;
        Ok(Server {
            kafka: address(&banner, "kafka")?,
            http: address(&banner, "http")?,
            tls: tls.map(Identity::client),
            start: ready.duration_since(spawned),
            recovery: value(&banner, "recovery").map(str::to_owned),
            process,
            lines,
        })
    }

    /// What clients call `bootstrap.servers`.
    pub(crate) fn bootstrap(&self) -> String {
        self.kafka.to_string()
    }

    /// Who connects to it over TLS, where it speaks that.
    pub(crate) fn tls(&self) -> Option<&Client> {
        self.tls.as_ref()
    }

    /// Where HTTP answers, and the console is.
    pub(crate) fn http(&self) -> SocketAddr {
        self.http
    }

    /// From the start of the process to its line `ready`.
    pub(crate) fn start_time(&self) -> Duration {
        self.start
    }

    /// What the server says about its recovery, if there was anything to recover.
    pub(crate) fn recovery(&self) -> Option<&str> {
        self.recovery.as_deref()
    }

    /// CPU seconds of the server so far.
    pub(crate) fn cpu_seconds(&self) -> Result<f64> {
        process::cpu_seconds(self.process.0.id())
    }

    /// What the server has written so far.
    pub(crate) fn written(&self) -> Option<Written> {
        process::written(self.process.0.id())
    }

    /// The memory of the server now.
    pub(crate) fn memory(&self) -> Result<Memory> {
        process::memory(self.process.0.id())
    }

    /// The counters of `/metrics` now.
    pub(crate) fn counters(&self) -> Result<Counters> {
        let page = get(self.http, "/metrics", self.tls())
            .with_context(|| format!("http://{}/metrics does not answer", self.http))?;
        Counters::parse(&page)
    }

    /// Adds what the server said last to an error of somebody who used it.
    pub(crate) fn blame<T>(&self, result: Result<T>) -> Result<T> {
        result.map_err(|error| told(&error, &self.lines))
    }

    /// SIGKILL, and the end of the process.
    pub(crate) fn kill(mut self) -> Result<()> {
        let child = &mut self.process.0;
        child.kill().context("the server cannot be killed")?;
        child.wait().context("the server cannot be waited for")?;
        Ok(())
    }
}

/// A child that does not outlive its owner.
struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Figures that the server counts itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Counters {
    /// Batches appended.
    pub(crate) appends: u64,
    /// Syncs of the journal.
    pub(crate) syncs: u64,
    pub(crate) checkpoints: u64,
    /// How often an append waited for a free journal file.
    pub(crate) journal_waits: u64,
    /// The longest of these waits in microseconds; `None` when the server does not tell.
    pub(crate) longest_wait_us: Option<u64>,
    /// Open connections.
    pub(crate) connections: u64,
}

impl Counters {
    fn parse(page: &str) -> Result<Counters> {
        let counter = |name: &str| sample(page, name).with_context(|| format!("/metrics has no {name}"));
        Ok(Counters {
            appends: counter("courant_log_appends_total")?,
            syncs: counter("courant_log_syncs_total")?,
            checkpoints: counter("courant_log_checkpoints_total")?,
            journal_waits: counter("courant_log_journal_waits_total")?,
            longest_wait_us: sample(page, "courant_log_journal_wait_longest_us"),
            connections: counter("courant_kafka_connections")?,
        })
    }
}

/// The value of a line `name 3`.
fn sample(page: &str, name: &str) -> Option<u64> {
    page.lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(' '))
        .and_then(|value| value.trim().parse().ok())
}

/// The lines before `ready`, and when that came.
fn banner(received: &Receiver<(String, Instant)>, spawned: Instant) -> Result<(Vec<String>, Instant)> {
    let mut banner = Vec::new();
    loop {
        let left = START_PATIENCE.saturating_sub(spawned.elapsed());
        match received.recv_timeout(left) {
            Ok((line, at)) if line == "ready" => return Ok((banner, at)),
            Ok((line, _)) => banner.push(line),
            Err(RecvTimeoutError::Timeout) => {
                bail!("the server was not ready after {} s", START_PATIENCE.as_secs())
            }
            Err(RecvTimeoutError::Disconnected) => bail!("the server ended before it was ready"),
        }
    }
}

/// Sends each line until somebody stops listening, and keeps the last ones, to the end of the output.
fn read_lines(stderr: ChildStderr, sender: Sender<(String, Instant)>, lines: Lines) {
    thread::spawn(move || {
        for line in BufReader::new(stderr).split(b'\n') {
            let Ok(line) = line else { return };
            let at = Instant::now();
            let line = String::from_utf8_lossy(&line).into_owned();
            let mut kept = lock(&lines);
            kept.push_back(line.clone());
            if kept.len() > LINES_KEPT {
                kept.pop_front();
            }
            drop(kept);
            // After the start nobody listens any more.
            let _ = sender.send((line, at));
        }
    });
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn told(error: &anyhow::Error, lines: &Lines) -> anyhow::Error {
    let lines: Vec<String> = lock(lines).iter().cloned().collect();
    anyhow!("{error:#}; the server's last lines:\n{}", lines.join("\n"))
}

/// What stands behind a name in the banner: `  kafka    127.0.0.1:41233`.
fn value<'banner>(banner: &'banner [String], name: &str) -> Option<&'banner str> {
    let mut lines = banner.iter();
    let value = lines.find_map(|line| line.strip_prefix("  ")?.strip_prefix(name))?;
    value.starts_with(' ').then(|| value.trim())
}

fn address(banner: &[String], name: &str) -> Result<SocketAddr> {
    let text = value(banner, name)
        .with_context(|| format!("the banner has no line `{name}`: {}", banner.join(" | ")))?;
    let address = text.trim_start_matches("http://").trim_start_matches("https://").trim_end_matches('/');
    address.parse().with_context(|| format!("`{text}` in the banner is no address"))
}

/// The body of an HTTP answer.
fn get(http: SocketAddr, path: &str, tls: Option<&Client>) -> Result<String> {
    let stream = TcpStream::connect_timeout(&http, HTTP_PATIENCE)?;
    stream.set_read_timeout(Some(HTTP_PATIENCE))?;
    stream.set_write_timeout(Some(HTTP_PATIENCE))?;
    let mut stream = Socket::over(stream, tls)?;
    write!(stream, "GET {path} HTTP/1.1\r\nHost: {http}\r\nConnection: close\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let (head, body) = answer.split_once("\r\n\r\n").context("the answer has no head")?;
    ensure!(head.starts_with("HTTP/1.1 200"), "the answer is `{}`", head.lines().next().unwrap_or_default());
    Ok(body.to_owned())
}

/// Keeps what this machine's user has set out of the figures.
fn without_settings(command: &mut Command) {
    for (name, _) in env::vars_os() {
        if name.to_string_lossy().starts_with("COURANT_") || name == "RUST_LOG" {
            command.env_remove(name);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_banner_names_both_addresses() {
        let banner: Vec<String> = [
            "courant 0.1.0",
            "  kafka    127.0.0.1:41233",
            "  http     http://127.0.0.1:43211",
            "  recovery 12 KiB replayed from the journal",
        ]
        .map(str::to_owned)
        .to_vec();
        assert_eq!(address(&banner, "kafka").unwrap().port(), 41_233);
        assert_eq!(address(&banner, "http").unwrap().port(), 43_211);
        assert_eq!(value(&banner, "recovery"), Some("12 KiB replayed from the journal"));
        assert!(address(&banner[..1], "kafka").is_err());
    }

    #[test]
    fn a_counter_that_is_missing_is_named() {
        let page = "# TYPE courant_log_syncs counter\ncourant_log_appends_total 7\n\
                    courant_log_syncs_total 3\ncourant_log_checkpoints_total 1\n\
                    courant_kafka_connections 2\n";
        let error = Counters::parse(page).unwrap_err();
        assert!(error.to_string().contains("courant_log_journal_waits_total"));
        let page = format!("{page}courant_log_journal_waits_total 0\n");
        let counters = Counters::parse(&page).unwrap();
        assert_eq!((counters.appends, counters.syncs), (7, 3));
        assert_eq!(counters.longest_wait_us, None);
    }
}
