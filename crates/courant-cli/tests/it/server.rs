//! One `courant serve`, or one `courant demo`, as a child process.

use std::fmt;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, Command, ExitStatus, Output, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crate::{PATIENCE, planted, raw};

const COURANT: &str = env!("CARGO_BIN_EXE_courant");

/// How to start a server.
pub(crate) struct Launch {
    verb: &'static str,
    data: PathBuf,
    kafka_host: &'static str,
    kafka_port: u16,
    /// Whether `--data` and `--kafka` are given.
    flags: bool,
    more: Vec<String>,
    environment: Vec<(&'static str, String)>,
    /// A shell command that is run first.
    first: Option<String>,
}

impl Launch {
    /// On this data directory, with ports that the system chooses.
    pub(crate) fn on(data: &Path) -> Launch {
        Launch {
            verb: "serve",
            data: data.to_owned(),
            kafka_host: "127.0.0.1",
            kafka_port: 0,
            flags: true,
            more: Vec::new(),
            environment: Vec::new(),
            first: None,
        }
    }

    /// In this directory, told neither where its data is nor where to listen for Kafka.
    pub(crate) fn bare(directory: &Path) -> Launch {
        Launch { flags: false, ..Launch::on(directory) }
    }

    /// The server of a demo, with the shop beside it.
    pub(crate) fn demo(self) -> Launch {
        Launch { verb: "demo", ..self }
    }

    /// With these words at the end of its command line.
    pub(crate) fn arguments(mut self, words: &[&str]) -> Launch {
        self.more.extend(words.iter().map(|word| (*word).to_owned()));
        self
    }

    /// With this variable in its environment.
    pub(crate) fn variable(mut self, name: &'static str, value: &str) -> Launch {
        self.environment.push((name, value.to_owned()));
        self
    }

    /// With this shell command run first, in the process that becomes the server.
    pub(crate) fn first(mut self, command: &str) -> Launch {
        self.first = Some(command.to_owned());
        self
    }

    /// Kafka on this port, so that clients find a restarted server.
    pub(crate) fn port(mut self, port: u16) -> Launch {
        self.kafka_port = port;
        self
    }

    /// Kafka on an address that is not loopback.
    pub(crate) fn host(mut self, host: &'static str) -> Launch {
        self.kafka_host = host;
        self
    }

    /// With one guarantee broken on purpose.
    pub(crate) fn defect(self, name: &'static str) -> Launch {
        self.variable("COURANT_PLANTED_DEFECT", name)
    }

    /// Starts it and waits until it is ready.
    ///
    /// # Panics
    /// When it ends instead.
    pub(crate) fn start(&self) -> Server {
        match self.try_start() {
            Ok(server) => server,
            Err(refused) => panic!("the server did not start: {refused}"),
        }
    }

    /// Starts it, and kills it that long after that, or when it is ready if that is earlier. Says whether it
    /// was.
    ///
    /// # Panics
    /// When it has ended by itself.
    pub(crate) fn kill_while_starting(&self, after: Duration) -> bool {
        let mut child = self.command().spawn().expect("the binary under test starts");
        let lines = Arc::new(Lines::default());
        let reader = lines.read_from(child.stderr.take().expect("stderr is piped"));
        let was_ready = lines.wait_for_ready(after);
        let has_ended = child.try_wait().expect("a child can be asked").is_some();
        let _ = child.kill();
        child.wait().expect("a child can be waited for");
        reader.join().expect("the reader does not panic");
        assert!(!has_ended, "it did not start:\n{}", lines.text());
        was_ready
    }

    /// Starts it and waits until it is ready or has ended.
    pub(crate) fn try_start(&self) -> Result<Server, Refused> {
        let mut child = self.command().spawn().expect("the binary under test starts");
        let lines = Arc::new(Lines::default());
        let reader = lines.read_from(child.stderr.take().expect("stderr is piped"));
        if !lines.wait_for_ready(PATIENCE) {
            let ended = lines.so_far.lock().unwrap().ended;
            if !ended {
                let _ = child.kill();
            }
            let status = child.wait().expect("a child can be waited for");
            reader.join().expect("the reader does not panic");
            return Err(Refused { ended, status, stderr: lines.text() });
        }
        let banner = lines.text();
        let kafka = address_after(&banner, "kafka");
        let http = address_after(&banner, "http");
        Ok(Server { child, kafka, http, lines, reader: Some(reader) })
    }

    fn command(&self) -> Command {
        let mut command = match &self.first {
            None => Command::new(COURANT),
            Some(first) => {
                let mut shell = Command::new("sh");
                shell.args(["-c", &format!("{first} && exec \"$0\" \"$@\""), COURANT]);
                shell
            }
        };
        command
            .arg(self.verb)
            .args(["--http", "127.0.0.1:0"])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped());
        if self.flags {
            let kafka = format!("{}:{}", self.kafka_host, self.kafka_port);
            command.arg("--data").arg(&self.data).args(["--kafka", &kafka]);
        } else {
            command.current_dir(&self.data);
        }
        without_settings(&mut command);
        planted::as_asked(&mut command);
        command.args(&self.more).envs(self.environment.iter().cloned());
        command
    }
}

/// A server that did not become ready.
pub(crate) struct Refused {
    /// It ended by itself and not because its time was up.
    pub(crate) ended: bool,
    pub(crate) status: ExitStatus,
    pub(crate) stderr: String,
}

impl Refused {
    /// Fails unless the server ended by itself, with an error and a sentence and not with a panic.
    pub(crate) fn assert_orderly(&self) {
        assert!(self.ended, "it hangs: {self}");
        assert!(!self.status.success(), "{self}");
        assert!(self.status.code().is_some(), "a signal: {self}");
        assert!(!self.stderr.contains("panicked"), "{self}");
    }
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, and it said:\n{}", self.status, self.stderr)
    }
}

/// A running server. It is killed when dropped.
pub(crate) struct Server {
    child: Child,
    kafka: SocketAddr,
    http: SocketAddr,
    lines: Arc<Lines>,
    reader: Option<JoinHandle<()>>,
}

impl Server {
    /// Starts one with default settings on an empty directory.
    pub(crate) fn start(data: &Path) -> Server {
        Launch::on(data).start()
    }

    pub(crate) fn kafka(&self) -> SocketAddr {
        self.kafka
    }

    /// Where HTTP answers.
    pub(crate) fn http(&self) -> SocketAddr {
        self.http
    }

    /// What clients call `bootstrap.servers`.
    pub(crate) fn bootstrap(&self) -> String {
        self.kafka.to_string()
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Everything it has written to stderr so far.
    pub(crate) fn stderr(&self) -> String {
        self.lines.text()
    }

    /// What it wrote to stderr after the banner.
    pub(crate) fn log(&self) -> String {
        let text = self.stderr();
        match text.split_once("\nready\n") {
            Some((_, log)) => log.to_owned(),
            None => String::new(),
        }
    }

    /// SIGKILL.
    pub(crate) fn kill(mut self) -> String {
        self.end();
        self.lines.text()
    }

    /// SIGTERM, and the orderly end that follows.
    pub(crate) fn stop(self) -> (ExitStatus, String) {
        signal(self.pid(), "TERM");
        self.wait()
    }

    /// The end of a server that was told to stop.
    pub(crate) fn wait(mut self) -> (ExitStatus, String) {
        let status = crate::eventually("the server ends after a signal", PATIENCE, || {
            self.child.try_wait().expect("a child can be waited for")
        });
        self.end();
        (status, self.lines.text())
    }

    /// Creates a topic over the wire.
    pub(crate) fn create_topic(&self, name: &str, partitions: i32) {
        let error = raw::Connection::open(self.kafka)
            .create_topic(name, partitions)
            .expect("an answer to CreateTopics");
        assert_eq!(error, 0, "creating {name}");
    }

    /// A counter of `/metrics`, summed over its labels.
    pub(crate) fn counter(&self, name: &str) -> u64 {
        let page = self.get("/metrics");
        let values: Vec<u64> = page
            .lines()
            .filter_map(|line| sample(line, name))
            .map(|value| value.parse::<f64>().expect("a sample is a number") as u64)
            .collect();
        assert!(!values.is_empty(), "no {name} in\n{page}");
        values.iter().sum()
    }

    /// The body of an HTTP answer.
    pub(crate) fn get(&self, path: &str) -> String {
        let (status, body) = self.ask(path);
        assert_eq!(status, 200, "{path}: {body}");
        body
    }

    /// Status and body of an HTTP answer.
    pub(crate) fn ask(&self, path: &str) -> (u16, String) {
        let mut stream = TcpStream::connect(self.http).expect("the HTTP port accepts");
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        write!(stream, "GET {path} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n", self.http)
            .expect("the HTTP port reads");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("an HTTP answer");
        let (head, body) = answer.split_once("\r\n\r\n").expect("an HTTP head");
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
        (status.expect("an HTTP status"), body.to_owned())
    }

    /// A line of `/proc/PID/status` in KiB, for instance `VmRSS`.
    pub(crate) fn memory_kib(&self, line: &str) -> u64 {
        let status =
            std::fs::read_to_string(format!("/proc/{}/status", self.pid())).expect("the server runs");
        status
            .lines()
            .find_map(|found| found.strip_prefix(line)?.strip_prefix(':'))
            .and_then(|rest| rest.split_whitespace().next()?.parse().ok())
            .expect("a line of /proc/PID/status")
    }

    /// Waits until no thread of the server has anything to do: whatever it has read is answered, or
    /// waits for something to come.
    pub(crate) fn comes_to_rest(&self) {
        // One thread may hand work to another between two looks; several times in a row none does.
        const LOOKS: u32 = 5;
        let mut idle = 0;
        crate::eventually("the server has nothing left to do", PATIENCE, || {
            idle = if self.is_asleep() { idle + 1 } else { 0 };
            (idle == LOOKS).then_some(())
        });
    }

    fn is_asleep(&self) -> bool {
        let tasks = std::fs::read_dir(format!("/proc/{}/task", self.pid())).expect("the server runs");
        tasks.flatten().all(|task| {
            // A thread that has ended meanwhile does nothing either.
            let Ok(stat) = std::fs::read_to_string(task.path().join("stat")) else {
                return true;
            };
            // The state follows the name, which is in parentheses.
            stat.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with('S'))
        })
    }

    /// Fails unless a fresh client gets an answer and the server has not panicked.
    pub(crate) fn assert_well(&self, after: &str) {
        // A load at the limit of connections is over for its clients before it is for the server.
        crate::eventually("a fresh client is served", PATIENCE, || {
            let apis = raw::Connection::open(self.kafka).api_versions();
            if apis.as_ref().is_ok_and(|count| *count > 0) {
                return Some(());
            }
            let said = self.stderr();
            let is_full = said.contains("are open, and that is the limit");
            assert!(is_full, "no answer after {after}: {apis:?}; the server said:\n{said}");
            None
        });
        assert!(!self.stderr().contains("panicked"), "a panic after {after}:\n{}", self.stderr());
    }

    fn end(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if let Some(reader) = self.reader.take() {
            let _ = reader.join();
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.end();
        if !thread::panicking() {
            let said = self.lines.text();
            assert!(!said.contains("panicked"), "the server panicked:\n{said}");
        }
    }
}

/// What a child writes to stderr, line by line.
#[derive(Default)]
struct Lines {
    so_far: Mutex<SoFar>,
    grew: Condvar,
}

#[derive(Default)]
struct SoFar {
    text: String,
    ready: bool,
    ended: bool,
}

impl Lines {
    fn read_from(self: &Arc<Self>, stderr: ChildStderr) -> JoinHandle<()> {
        let lines = Arc::clone(self);
        thread::spawn(move || {
            let mut stderr = BufReader::new(stderr);
            let mut line = Vec::new();
            while stderr.read_until(b'\n', &mut line).is_ok_and(|read| read > 0) {
                let text = String::from_utf8_lossy(&line);
                let mut so_far = lines.so_far.lock().unwrap();
                so_far.text.push_str(&text);
                so_far.ready |= text.trim_end() == "ready";
                drop(so_far);
                lines.grew.notify_all();
                line.clear();
            }
            lines.so_far.lock().unwrap().ended = true;
            lines.grew.notify_all();
        })
    }

    /// Whether the banner's last line came before the end of the output and of that time.
    fn wait_for_ready(&self, within: Duration) -> bool {
        let deadline = Instant::now() + within;
        let mut so_far = self.so_far.lock().unwrap();
        while !so_far.ready && !so_far.ended {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            so_far = self.grew.wait_timeout(so_far, left).unwrap().0;
        }
        so_far.ready
    }

    fn text(&self) -> String {
        self.so_far.lock().unwrap().text.clone()
    }
}

/// The address in a line of the banner: `  kafka    127.0.0.1:41233`.
fn address_after(banner: &str, name: &str) -> SocketAddr {
    banner
        .lines()
        .filter_map(|line| {
            let mut words = line.split_whitespace();
            (words.next()? == name).then_some(())?;
            let address = words.next()?.trim_end_matches([',', '/']);
            address.trim_start_matches("http://").trim_start_matches("https://").parse().ok()
        })
        .next()
        .unwrap_or_else(|| panic!("no {name} address in the banner:\n{banner}"))
}

/// The value of a line `name 3` or `name{label="x"} 3`.
fn sample<'line>(line: &'line str, name: &str) -> Option<&'line str> {
    let rest = line.strip_prefix(name)?;
    if !rest.starts_with([' ', '{']) {
        return None;
    }
    rest.rsplit_once(' ').map(|(_, value)| value)
}

/// A port that is free now and that no outgoing connection is given meanwhile: below the range from
/// which Linux takes those, and above those of other test programs.
pub(crate) fn fixed_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let first = 24_000 + (std::process::id() % 6_000) as u16;
    for _ in 0..2_000 {
        let port = first + NEXT.fetch_add(1, Ordering::Relaxed);
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
    panic!("no free port from {first} on");
}

/// `courant` with arguments and without settings; stdin, stdout and stderr are pipes.
pub(crate) fn command(arguments: &[&str]) -> Command {
    let mut command = Command::new(COURANT);
    command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    without_settings(&mut command);
    command
}

/// Runs `courant` with arguments and input to its end.
pub(crate) fn courant(arguments: &[&str], input: &str) -> Output {
    run(command(arguments), input)
}

/// Runs `courant` with arguments to its end, and nobody reads what it writes to stdout.
pub(crate) fn unread(arguments: &[&str]) -> Output {
    run(into_nothing(arguments), "")
}

/// A [`command`] whose stdout is a pipe that nobody reads from.
pub(crate) fn into_nothing(arguments: &[&str]) -> Command {
    let (reader, writer) = std::io::pipe().expect("a pipe");
    drop(reader);
    let mut command = command(arguments);
    command.stdout(writer);
    command
}

/// Runs a [`command`] to its end.
pub(crate) fn run(mut command: Command, input: &str) -> Output {
    let mut child = command.spawn().expect("the binary under test starts");
    let mut stdin = child.stdin.take().expect("stdin is piped");
    // A command that does not read its input may end first.
    let _ = stdin.write_all(input.as_bytes());
    drop(stdin);
    child.wait_with_output().expect("a child can be waited for")
}

/// Sends a signal, for instance `TERM`.
pub(crate) fn signal(pid: u32, name: &str) {
    let asked = Command::new("sh").args(["-c", &format!("kill -{name} {pid}")]).status().expect("sh runs");
    assert!(asked.success(), "the signal could not be sent");
}

/// Keeps what this machine's user has set out of the tests.
fn without_settings(command: &mut Command) {
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("COURANT_") || name == "RUST_LOG" {
            command.env_remove(name);
        }
    }
}
