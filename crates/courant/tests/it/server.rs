//! A `courant serve` as a child process.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::thread::{self, JoinHandle};

/// Where cargo puts the server when it builds the workspace.
fn binary() -> Option<PathBuf> {
    let test = std::env::current_exe().expect("this test has a path");
    let binary = test.parent()?.parent()?.join("courant");
    binary.is_file().then_some(binary)
}

/// A running server. It is killed when dropped.
pub(crate) struct Server {
    child: Child,
    data: PathBuf,
    port: u16,
    reader: Option<JoinHandle<()>>,
}

impl Server {
    /// Starts one on a directory that exists, or says that the test is skipped.
    pub(crate) fn start(data: &Path) -> Option<Self> {
        let server = Self::on(data, fixed_port());
        if server.is_none() {
            let test = thread::current().name().unwrap_or("courant").to_owned();
            // Not `eprintln!`: the test harness would swallow it.
            let _ = writeln!(
                std::io::stderr(),
                "SKIPPED: {test}: the server was not built; run the tests with --workspace"
            );
        }
        server
    }

    /// Kills it as a power cut would, and starts it again on the same port.
    pub(crate) fn kill_and_restart(&mut self) {
        self.end();
        let data = self.data.clone();
        *self = Self::on(&data, self.port).expect("it was built");
    }

    pub(crate) fn url(&self) -> String {
        format!("courant://127.0.0.1:{}", self.port)
    }

    /// Starts one, and waits until it is ready. `None`: it was not built.
    fn on(data: &Path, port: u16) -> Option<Self> {
        let mut command = Command::new(binary()?);
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("COURANT_") {
                command.env_remove(name);
            }
        }
        command
            .args(["serve", "--http", "127.0.0.1:0", "--kafka", &format!("127.0.0.1:{port}"), "--data"])
            .arg(data)
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
        Some(Self { child, data: data.to_owned(), port, reader: Some(reader) })
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
    let first = 18_000 + (std::process::id().wrapping_mul(131) % 4_000) as u16;
    for _ in 0..2_000 {
        let port = first + NEXT.fetch_add(1, Ordering::Relaxed);
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
    panic!("no port is free");
}
