//! One start of a worker, from its spawn to its end, with everything that it had told by then.

use super::kills::Moment;
use super::line::Line;
use super::record::Record;
use crate::exit::{Exit, Failure};
use std::io::{self, BufRead, BufReader, Read};
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::{Child, ChildStderr, ChildStdout, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::thread::{self, ScopedJoinHandle};
use std::time::{Duration, Instant};

/// A start that takes longer never ends. Whatever it reads, it reads some 20 MB.
const START_MAX: Duration = Duration::from_secs(180);

/// Bytes of the longest line.
const LINE_BYTES_MAX: u64 = 128 * 1024;

/// Bytes of what a worker complains about that are kept.
const COMPLAINT_BYTES_MAX: u64 = 8 * 1024;

const SIGKILL: i32 = 9;

/// How workers are started.
#[derive(Clone, Copy, Debug)]
pub(super) struct Start<'a> {
    pub(super) program: &'a Path,
    pub(super) threads: u64,
}

/// How one ended.
#[derive(Debug)]
pub(super) struct Ended {
    /// It had read everything.
    pub(super) was_up: bool,
    /// We have ended it, and not itself.
    pub(super) is_killed: bool,
    /// It was not up in time.
    hangs: bool,
    status: ExitStatus,
    /// The first line that makes no sense.
    nonsense: Option<String>,
    /// What it wrote to stderr.
    complaint: String,
}

/// What the main thread is told while a worker writes lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum News {
    /// Everything was read.
    Up,
    /// As much was sent as a lap takes.
    Full,
}

impl Start<'_> {
    /// Starts a worker on a data directory, notes all that it tells, and kills it at that moment, or
    /// earlier when `sent_max` events are sent.
    ///
    /// # Errors
    /// That the process cannot be started or waited for.
    pub(super) fn run(
        self,
        (data, lap, seed): (&Path, u64, u64),
        record: &mut Record,
        moment: Moment,
        sent_max: u64,
    ) -> Result<Ended, Failure> {
        let failed = |error: &io::Error| {
            Failure::new(Exit::Failed, format!("{} cannot be started: {error}", self.program.display()))
        };
        let mut child = self.command(data, lap, seed, moment).spawn().map_err(|error| failed(&error))?;
        let pipes = (child.stdout.take(), child.stderr.take());
        let (Some(stdout), Some(stderr)) = pipes else {
            return Err(failed(&io::Error::other("it has no pipes")));
        };
        let (told, news) = mpsc::channel();
        thread::scope(|scope| {
            let listening = scope.spawn(move || listen(stdout, record, sent_max, &told));
            let complaining = scope.spawn(move || complaint(stderr));
            let waited = wait(&news, moment);
            let status = waited.end(&mut child);
            // The pipes end with the process: what they held when it died counts.
            let nonsense = joined(listening)?;
            let complaint = joined(complaining)?;
            let status = status.map_err(|error| failed(&error))?;
            let is_killed = waited.kills && status.signal() == Some(SIGKILL);
            let Waited { was_up, hangs, .. } = waited;
            Ok(Ended { was_up, is_killed, hangs, status, nonsense, complaint })
        })
    }

    fn command(self, data: &Path, lap: u64, seed: u64, moment: Moment) -> Command {
        let mut command = Command::new(self.program);
        command.args(["torture", "--worker", "--dir"]).arg(data);
        for (flag, number) in [("--lap", lap), ("--seed", seed), ("--threads", self.threads)] {
            command.arg(flag).arg(number.to_string());
        }
        if moment == Moment::Never {
            command.arg("--reads-only");
        }
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }
}

fn joined<T>(thread: ScopedJoinHandle<'_, T>) -> Result<T, Failure> {
    thread.join().map_err(|_| Failure::new(Exit::Failed, "a thread that listens to a worker has panicked"))
}

/// Notes every line of a worker until its end. Hands back the first one that makes no sense; what the
/// end has cut off is none.
fn listen(stdout: ChildStdout, record: &mut Record, sent_max: u64, told: &Sender<News>) -> Option<String> {
    let mut stdout = BufReader::new(stdout);
    let mut bytes = Vec::new();
    let mut nonsense = None;
    let mut is_full = false;
    loop {
        bytes.clear();
        let read = stdout.by_ref().take(LINE_BYTES_MAX).read_until(b'\n', &mut bytes);
        if read.is_err() || bytes.is_empty() {
            return nonsense;
        }
        let Some(line) = bytes.strip_suffix(b"\n") else {
            if (bytes.len() as u64) < LINE_BYTES_MAX {
                return nonsense;
            }
            nonsense.get_or_insert_with(|| "a line without an end".to_owned());
            continue;
        };
        let text = String::from_utf8_lossy(line);
        match Line::parse(&text) {
            None => {
                nonsense.get_or_insert_with(|| text.chars().take(200).collect());
            }
            Some(line) => {
                record.note(&line);
                if line == Line::Up {
                    // Who waits no longer needs no news.
                    let _ = told.send(News::Up);
                }
            }
        }
        if !is_full && record.counts().sent >= sent_max {
            is_full = true;
            let _ = told.send(News::Full);
        }
    }
}

/// Reads all that a worker complains about, and keeps the beginning.
fn complaint(mut stderr: ChildStderr) -> String {
    let mut kept = Vec::new();
    // An error ends it as the process's end does: there is nothing more to be had.
    let _ = stderr.by_ref().take(COMPLAINT_BYTES_MAX).read_to_end(&mut kept);
    let _ = io::copy(&mut stderr, &mut io::sink());
    String::from_utf8_lossy(&kept).trim().to_owned()
}

/// What waiting for the moment has come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Waited {
    was_up: bool,
    /// The worker has not ended by itself.
    kills: bool,
    hangs: bool,
}

impl Waited {
    fn end(self, child: &mut Child) -> io::Result<ExitStatus> {
        if self.kills {
            child.kill()?;
        }
        child.wait()
    }
}

/// Waits until a worker is to be killed, or has ended by itself and told all that it had to tell.
fn wait(news: &Receiver<News>, moment: Moment) -> Waited {
    let (mut deadline, mut hangs) = match moment {
        Moment::AfterSpawn(after) => (Instant::now() + after, false),
        Moment::AfterUp(_) | Moment::Never => (Instant::now() + START_MAX, true),
    };
    let mut was_up = false;
    loop {
        match news.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
            Ok(News::Up) => {
                was_up = true;
                if let Moment::AfterUp(after) = moment {
                    (deadline, hangs) = (Instant::now() + after, false);
                }
            }
            // What only reads sends nothing more.
            Ok(News::Full) if moment == Moment::Never => {}
            Ok(News::Full) => return Waited { was_up, kills: true, hangs: false },
            Err(RecvTimeoutError::Timeout) => return Waited { was_up, kills: true, hangs },
            Err(RecvTimeoutError::Disconnected) => return Waited { was_up, kills: false, hangs: false },
        }
    }
}

/// What is wrong with the end of a worker, if anything is.
pub(super) fn end_of(ended: &Ended, moment: Moment) -> Option<String> {
    let Ended { hangs, is_killed, status, nonsense, complaint, .. } = ended;
    let said = if complaint.is_empty() { "nothing" } else { complaint.as_str() };
    if let Some(line) = nonsense {
        return Some(format!("the process has told `{line}`, which makes no sense; it said: {said}"));
    }
    if *hangs {
        return Some(format!("the log was not up within {} s; it said: {said}", START_MAX.as_secs()));
    }
    let is_expected = match moment {
        Moment::Never => status.success(),
        Moment::AfterSpawn(_) | Moment::AfterUp(_) => *is_killed,
    };
    if !is_expected {
        return Some(format!("the process has ended by itself ({status}); it said: {said}"));
    }
    complaint.contains("panicked").then(|| format!("a thread has panicked: {said}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ended(status: i32, complaint: &str) -> Ended {
        Ended {
            was_up: true,
            is_killed: status == SIGKILL,
            hangs: false,
            status: ExitStatus::from_raw(status),
            nonsense: None,
            complaint: complaint.to_owned(),
        }
    }

    #[test]
    fn only_the_expected_end_is_a_good_one() {
        let moment = Moment::AfterUp(Duration::from_millis(20));
        assert_eq!(end_of(&ended(SIGKILL, ""), moment), None);
        assert_eq!(end_of(&ended(0, ""), Moment::Never), None);
        assert!(end_of(&ended(0, ""), moment).is_some());
        assert!(end_of(&ended(SIGKILL, ""), Moment::Never).is_some());
        let refused = end_of(&ended(1 << 8, "courant: it is damaged"), moment).expect("found");
        assert!(refused.contains("exit status: 1") && refused.contains("it is damaged"), "{refused}");
        assert!(end_of(&ended(SIGKILL, "thread 'x' panicked at y"), moment).is_some());
    }

    #[test]
    fn a_worker_is_waited_for_as_the_moment_says() {
        let (told, news) = mpsc::channel();
        let soon = Moment::AfterSpawn(Duration::from_millis(1));
        assert_eq!(wait(&news, soon), Waited { was_up: false, kills: true, hangs: false });
        told.send(News::Up).expect("a receiver");
        let after = Moment::AfterUp(Duration::from_millis(1));
        assert_eq!(wait(&news, after), Waited { was_up: true, kills: true, hangs: false });
        told.send(News::Full).expect("a receiver");
        assert_eq!(wait(&news, after), Waited { was_up: false, kills: true, hangs: false });
        told.send(News::Full).expect("a receiver");
        told.send(News::Up).expect("a receiver");
        drop(told);
        assert_eq!(wait(&news, Moment::Never), Waited { was_up: true, kills: false, hangs: false });
    }
}
