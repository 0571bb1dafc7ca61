//! A member of a consumer group in a process of its own.

use std::collections::BTreeSet;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::program::number;
use crate::PATIENCE;

/// The place of a record.
pub(crate) type Place = (i32, i64);

/// What a member says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Said {
    Assigned(BTreeSet<i32>),
    Revoked(BTreeSet<i32>),
    Record(Place),
    Other(Value),
}

/// A running member. It is killed when dropped.
pub(crate) struct Member {
    name: String,
    child: Child,
    stdin: Option<ChildStdin>,
    lines: Receiver<String>,
    /// The partitions that it holds now.
    pub(crate) held: BTreeSet<i32>,
    /// Everything that it was handed, in order.
    pub(crate) records: Vec<Place>,
    /// How often its partitions changed.
    pub(crate) changes: usize,
}

impl Member {
    /// Starts `command`, which becomes a member of the group.
    pub(crate) fn start(command: Command, name: &str, bootstrap: &str, topic: &str, group: &str) -> Member {
        Self::start_with(command, name, bootstrap, topic, group, &[])
    }

    /// As [`Self::start`], with these options.
    pub(crate) fn start_with(
        mut command: Command,
        name: &str,
        bootstrap: &str,
        topic: &str,
        group: &str,
        options: &[&str],
    ) -> Member {
        let mut child = command
            .args(["member", bootstrap, topic, group])
            .args(options)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the member starts");
        let stdout = BufReader::new(child.stdout.take().expect("stdout is piped"));
        let (send, lines) = channel();
        thread::spawn(move || {
            for line in stdout.lines().map_while(Result::ok) {
                if send.send(line).is_err() {
                    return;
                }
            }
        });
        let stdin = child.stdin.take();
        let name = name.to_owned();
        let (held, records) = (BTreeSet::new(), Vec::new());
        Member { name, child, stdin, lines, held, records, changes: 0 }
    }

    /// Tells it what to do.
    pub(crate) fn say(&mut self, what: &str) {
        let stdin = self.stdin.as_mut().expect("it was not told to stop");
        writeln!(stdin, "{what}").and_then(|()| stdin.flush()).expect("the member reads");
    }

    /// Takes in what it has said, waiting for `time` at most. False when nothing came.
    pub(crate) fn listen(&mut self, time: Duration) -> Option<Said> {
        match self.lines.recv_timeout(time) {
            Ok(line) => Some(self.take(&line)),
            Err(RecvTimeoutError::Timeout) => None,
            Err(RecvTimeoutError::Disconnected) => {
                let complaint = self.complaint();
                panic!("{} ended: {complaint}", self.name)
            }
        }
    }

    fn take(&mut self, line: &str) -> Said {
        let value: Value = serde_json::from_str(line).expect("a line of JSON");
        let partitions = |value: &Value| -> BTreeSet<i32> {
            value.as_array().expect("partitions").iter().map(|one| number(one) as i32).collect()
        };
        if let Some(assigned) = value.get("assigned") {
            self.held = partitions(assigned);
            self.changes += 1;
            return Said::Assigned(self.held.clone());
        }
        if let Some(revoked) = value.get("revoked") {
            let revoked = partitions(revoked);
            self.held.retain(|partition| !revoked.contains(partition));
            return Said::Revoked(revoked);
        }
        if let Some(offset) = value.get("o") {
            let place = (number(&value["p"]) as i32, number(offset));
            self.records.push(place);
            return Said::Record(place);
        }
        Said::Other(value)
    }

    /// Tells it something and waits for the answer that has this field.
    pub(crate) fn ask(&mut self, what: &str, field: &str) -> Value {
        self.say(what);
        self.until(field)
    }

    /// Listens until it has said something with this field.
    pub(crate) fn until(&mut self, field: &str) -> Value {
        let deadline = Instant::now() + PATIENCE;
        while Instant::now() < deadline {
            if let Some(Said::Other(value)) = self.listen(Duration::from_millis(100))
                && value.get(field).is_some()
            {
                return value;
            }
        }
        panic!("{} has not said {field} within {PATIENCE:?}", self.name)
    }

    /// Commits, leaves, ends.
    pub(crate) fn stop(&mut self) {
        self.ask("stop", "stopped");
        self.stdin = None;
        let status = self.child.wait().expect("a child can be waited for");
        let complaint = self.complaint();
        assert!(status.success(), "{}: {status}: {complaint}", self.name);
    }

    fn complaint(&mut self) -> String {
        let mut text = String::new();
        if let Some(stderr) = self.child.stderr.as_mut() {
            // Whatever can be read says more than nothing.
            let _ = stderr.read_to_string(&mut text);
        }
        text
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Listens to all members until `done`.
///
/// # Panics
/// When it is not within [`PATIENCE`], or as soon as two members hold one partition while no member is
/// about to be told that it lost some.
pub(crate) fn listen_until(what: &str, members: &mut [&mut Member], done: impl Fn(&[&mut Member]) -> bool) {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if done(members) {
            return;
        }
        assert!(
            Instant::now() < deadline,
            "not within {PATIENCE:?}: {what}; held: {:?}, records: {:?}",
            members.iter().map(|member| &member.held).collect::<Vec<_>>(),
            members.iter().map(|member| member.records.len()).collect::<Vec<_>>()
        );
        for member in members.iter_mut() {
            while member.listen(Duration::from_millis(5)).is_some() {}
        }
    }
}
