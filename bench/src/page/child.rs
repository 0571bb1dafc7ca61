//! A part of the page in a process of its own: it has a limited time, and what it has started ends with it.

use std::env;
use std::io::Read as _;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};

use crate::process;

/// Runs this program with these arguments: what it has written to stdout, and whether it says that all went well.
/// Over its time it is ended, with all that it has started, and that is an error.
pub(super) fn run(args: &[&str], limit: Duration) -> Result<(String, bool)> {
    let own = env::current_exe().context("this program does not find itself")?;
    text_of(Command::new(own).args(args), limit)
}

fn text_of(command: &mut Command, limit: Duration) -> Result<(String, bool)> {
    let child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .with_context(|| format!("{} does not start", command.get_program().to_string_lossy()))?;
    let mut running = Running(child);
    let mut stdout = running.0.stdout.take().context("stdout is no pipe")?;
    let (send, told) = mpsc::channel();
    // Its stdout ends when it does.
    thread::spawn(move || {
        let mut text = String::new();
        let read = stdout.read_to_string(&mut text).map(|_| text);
        // Nobody waits for it any more when the time is over.
        let _ = send.send(read);
    });
    match told.recv_timeout(limit) {
        Ok(text) => {
            let ended = running.0.wait().context("the part cannot be waited for")?;
            Ok((text.context("what was measured cannot be read")?, ended.success()))
        }
        Err(RecvTimeoutError::Timeout) => {
            drop(running);
            bail!("ended after {} s, which is all that it may take", limit.as_secs());
        }
        Err(RecvTimeoutError::Disconnected) => bail!("nobody has read what was measured"),
    }
}

/// A child that does not outlive its owner, and neither does what it has started.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // The number of one that was waited for may be somebody else's by now.
        if matches!(self.0.try_wait(), Ok(None)) {
            process::end_tree(self.0.id());
            // It cannot but end.
            let _ = self.0.wait();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    fn shell(script: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        command
    }

    #[test]
    fn what_it_says_comes_with_how_it_ended() {
        let limit = Duration::from_secs(60);
        assert_eq!(text_of(&mut shell("echo one; exit 0"), limit).unwrap(), ("one\n".to_owned(), true));
        assert_eq!(text_of(&mut shell("echo two; exit 1"), limit).unwrap(), ("two\n".to_owned(), false));
    }

    /// What it has started holds the same pipe, so it has gone too when the pipe is closed.
    #[test]
    fn what_is_over_its_time_is_ended_with_all_that_it_has_started() {
        let begun = Instant::now();
        let error = text_of(&mut shell("sleep 600 & sleep 600"), Duration::from_millis(200)).unwrap_err();
        assert!(error.to_string().contains("ended after 0 s"), "{error:#}");
        assert!(begun.elapsed() < Duration::from_secs(60));
    }
}
