//! A `courant serve` as a child process, and engines on it.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};
use std::thread::{self, JoinHandle};

use courant_engine::{Engine, EngineConfig, OpenError, open_with};
use courant_engine_kafka::Kafka;
use tempfile::TempDir;

use crate::place::{Place, still};

/// Where cargo puts the server when it builds the workspace.
fn binary() -> Option<PathBuf> {
    let test = std::env::current_exe().expect("this test has a path");
    let binary = test.parent()?.parent()?.join("courant");
    binary.is_file().then_some(binary)
}

/// A running server. It is killed when dropped.
pub(crate) struct Server {
    child: Child,
    port: u16,
    /// What it is told besides.
    flags: Vec<String>,
    reader: Option<JoinHandle<()>>,
}

impl Server {
    /// Starts one on a directory and a port, and waits until it is ready. `None`: it was not built.
    fn on(data: &Path, port: u16, flags: Vec<String>) -> Option<Self> {
        let mut command = Command::new(binary()?);
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("COURANT_") {
                command.env_remove(name);
            }
        }
        command
            .args(["serve", "--http", "127.0.0.1:0", "--kafka", &format!("127.0.0.1:{port}"), "--data"])
            .arg(data)
            .args(&flags)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped());
        let mut child = command.spawn().expect("the server starts");
        let mut lines = BufReader::new(child.stderr.take().expect("stderr is piped")).lines();
        let mut said = String::new();
        loop {
            match lines.next() {
                Some(Ok(line)) if line.trim_end() == "ready" => break,
                Some(Ok(line)) => said.push_str(&(line + "\n")),
                _ => {
                    let _ = child.kill();
                    let _ = child.wait();
                    panic!("the server did not start:\n{said}");
                }
            }
        }
        // Read on, so that the server never waits for us.
        let reader = thread::spawn(move || lines.map_while(Result::ok).for_each(drop));
        Some(Self { child, port, flags, reader: Some(reader) })
    }

    /// Starts one, or says that the test is skipped.
    pub(crate) fn start(data: &Path, test: &str) -> Option<Self> {
        Self::start_with(data, test, Vec::new())
    }

    /// Starts one that is told more.
    pub(crate) fn start_with(data: &Path, test: &str, flags: Vec<String>) -> Option<Self> {
        let server = Self::on(data, fixed_port(), flags);
        if server.is_none() {
            // Not `eprintln!`: the test harness would swallow it.
            let _ = writeln!(
                std::io::stderr(),
                "SKIPPED: {test}: the server was not built; run the tests with --workspace"
            );
        }
        server
    }

    /// Kills it as a power cut would, and starts it again on the same port.
    pub(crate) fn restart(mut self, data: &Path) -> Self {
        let (port, flags) = (self.port, std::mem::take(&mut self.flags));
        self.end();
        drop(self);
        Self::on(data, port, flags).expect("it was built")
    }

    pub(crate) fn url(&self) -> String {
        format!("courant://127.0.0.1:{}", self.port)
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
    }
}

/// A port that is free now and that no outgoing connection is given meanwhile: below the range from which
/// Linux takes those, and another one than other test programs take.
pub(crate) fn fixed_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let first = 10_000 + (std::process::id() % 6_000) as u16;
    for _ in 0..2_000 {
        let port = first + NEXT.fetch_add(1, Ordering::Relaxed);
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
    panic!("no port is free");
}

/// Opens an engine by its URL.
pub(crate) async fn opened_with(url: &str, config: EngineConfig) -> Result<Arc<dyn Engine>, OpenError> {
    open_with(&url.parse().expect("a URL"), config, &[&Kafka]).await
}

/// Opens an engine whose date stands still.
pub(crate) async fn opened(url: &str) -> Result<Arc<dyn Engine>, OpenError> {
    opened_with(url, still()).await
}

/// An engine on a server of its own. `None`: the server was not built.
pub(crate) async fn place(test: &str) -> Option<Place> {
    let data = TempDir::new().expect("a directory");
    let server = Server::start(data.path(), test)?;
    let engine = opened(&server.url()).await.expect("opens");
    // The server goes before its directory.
    Some(Place::new(engine, false, Some(Box::new((server, data)))))
}
