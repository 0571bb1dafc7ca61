//! `courant tail --follow`: what comes is printed when it comes, until an interruption.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, ExitStatus, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::thread;

use serde_json::Value;
use tempfile::tempdir;

use crate::cli::{run, said};
use crate::server::{Server, command, signal};
use crate::{PATIENCE, eventually};

const INTERRUPTED: i32 = 130;

/// A running command whose lines are read as they come. It is killed when dropped.
pub(crate) struct Following {
    child: Child,
    lines: Receiver<String>,
}

impl Following {
    pub(crate) fn start(server: &Server, arguments: &[&str]) -> Following {
        let mut command = command(arguments);
        command.args(["--server", &server.bootstrap()]).stdin(Stdio::null()).stderr(Stdio::null());
        let mut child = command.spawn().expect("the binary under test starts");
        let stdout = BufReader::new(child.stdout.take().expect("stdout is piped"));
        let (send, lines) = mpsc::channel();
        thread::spawn(move || {
            for line in stdout.lines().map_while(Result::ok) {
                // Whoever reads them may have enough.
                let _ = send.send(line);
            }
        });
        Following { child, lines }
    }

    /// The next line as JSON.
    pub(crate) fn next(&self) -> Value {
        let line = self.lines.recv_timeout(PATIENCE).expect("a line in time");
        serde_json::from_str(&line).expect("a line of JSON")
    }

    /// Ctrl-C, the lines that were left, and the end.
    pub(crate) fn interrupt(self) -> (Vec<String>, ExitStatus) {
        self.end("INT")
    }

    /// SIGTERM, the lines that were left, and the end.
    pub(crate) fn terminate(self) -> (Vec<String>, ExitStatus) {
        self.end("TERM")
    }

    fn end(mut self, by: &str) -> (Vec<String>, ExitStatus) {
        signal(self.child.id(), by);
        let status = eventually("the command ends after a signal", PATIENCE, || {
            self.child.try_wait().expect("a child can be waited for")
        });
        (self.lines.iter().collect(), status)
    }
}

impl Drop for Following {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn later_events_are_printed_until_ctrl_c() {
    let data = tempdir().unwrap();
    let server = Server::start(data.path());
    said(run(&server, &["pub", "orders", "first"]));
    let tail = ["tail", "orders", "--from", "start", "--follow", "-o", "jsonl"];
    let following = Following::start(&server, &tail);
    // It has read all there was when the next event is published.
    assert_eq!(following.next()["value"], "first");
    for (offset, value) in [(1, "second"), (2, "third")] {
        said(run(&server, &["pub", "orders", value]));
        let event = following.next();
        assert_eq!((&event["value"], &event["offset"]), (&Value::from(value), &Value::from(offset)));
    }
    let (rest, status) = following.interrupt();
    assert_eq!(status.code(), Some(INTERRUPTED), "{status}");
    assert!(rest.is_empty(), "{rest:?}");
}
