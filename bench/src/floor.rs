//! The least that a server can do for an event: receive it, checksum it, append it, sync, acknowledge.
//!
//! One thread, one connection, one file of zeros that is written over and over. It knows no topics, no offsets
//! and no clients that go away: what it reaches on a machine is that machine's limit, and what a server
//! reaches is a part of it. It runs as a process of its own, so that its CPU time is its own.

use std::collections::VecDeque;
use std::env;
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use courant_log::crc::crc32c;

use crate::process;

/// The command of this program that is the server.
pub(crate) const COMMAND: &str = "floor-server";

/// Bytes of the file of zeros, and of one write while it is filled: a page, as in the probe. The system keeps
/// what one write has brought in one piece, and would handle a mebibyte for each event that is written over a
/// part of it.
const FILE_BYTES: u64 = 64 << 20;
const FILL_BYTES: usize = 4096;
/// Bytes that are received at once. No message is larger.
const BUFFER_BYTES: usize = 4 << 20;
const LENGTH_BYTES: usize = 4;
/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(60);
/// A run before the run is this part of it.
const WARM_UP: u32 = 10;

/// What is done with what was received.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum How {
    /// Written.
    Write,
    /// Written and synced.
    Sync,
    /// Written and synced, and written a second time to a file that grows, as a log does with its segments.
    SyncAndSegment,
}

impl How {
    const ALL: [How; 3] = [How::Write, How::Sync, How::SyncAndSegment];

    fn name(self) -> &'static str {
        match self {
            How::Write => "write",
            How::Sync => "sync",
            How::SyncAndSegment => "sync-and-segment",
        }
    }
}

/// How long a measurement lasts.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Until {
    Messages(u64),
    Elapsed(Duration),
}

impl Until {
    fn is_over(self, acks: u64, begun: Instant) -> bool {
        match self {
            Until::Messages(wanted) => acks >= wanted,
            Until::Elapsed(time) => begun.elapsed() >= time,
        }
    }

    fn part(self, part: u32) -> Until {
        match self {
            Until::Messages(wanted) => Until::Messages(wanted / u64::from(part)),
            Until::Elapsed(time) => Until::Elapsed(time / part),
        }
    }
}

/// What a measurement has come to.
#[derive(Clone, Debug)]
pub(crate) struct Taken {
    /// Messages that were acknowledged.
    pub(crate) acks: u64,
    pub(crate) time: Duration,
    /// Nanoseconds that each took.
    pub(crate) waits: Vec<u32>,
    pub(crate) server_cpu: f64,
}

impl Taken {
    pub(crate) fn per_second(&self) -> f64 {
        self.acks as f64 / self.time.as_secs_f64()
    }
}

/// Measures in this directory: `waiting` copies of a message are on their way at any time.
pub(crate) fn measure(dir: &Path, how: How, message: &[u8], waiting: usize, until: Until) -> Result<Taken> {
    let floor = Running::start(dir, how)?;
    let mut stream =
        TcpStream::connect(("127.0.0.1", floor.port)).context("the floor takes no connection")?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    drive(&mut stream, message, waiting, until.part(WARM_UP))?;
    let pid = floor.child.id();
    let server_cpu = process::cpu_seconds(pid)?;
    let begun = Instant::now();
    let waits = drive(&mut stream, message, waiting, until)?;
    let time = begun.elapsed();
    let server_cpu = process::cpu_seconds(pid)? - server_cpu;
    Ok(Taken { acks: waits.len() as u64, time, waits, server_cpu })
}

/// Sends the next message for each acknowledgement, and waits for the last ones.
fn drive(stream: &mut TcpStream, message: &[u8], waiting: usize, until: Until) -> Result<Vec<u32>> {
    let mut one = u32::try_from(message.len())?.to_be_bytes().to_vec();
    one.extend_from_slice(message);
    // What is sent at once goes out in one write.
    let all = one.repeat(waiting);
    let mut sent = VecDeque::with_capacity(waiting);
    let mut waits = Vec::new();
    let mut acks = vec![0; waiting];
    let begun = Instant::now();
    let mut next = waiting;
    loop {
        let now = Instant::now();
        sent.extend(std::iter::repeat_n(now, next));
        stream.write_all(&all[..next * one.len()]).context("the floor does not read")?;
        if sent.is_empty() {
            return Ok(waits);
        }
        let acked = stream.read(&mut acks).context("the floor does not answer")?;
        ensure!(acked > 0, "the floor went away");
        let now = Instant::now();
        for sent in sent.drain(..acked.min(sent.len())) {
            waits.push(u32::try_from(now.duration_since(sent).as_nanos()).unwrap_or(u32::MAX));
        }
        let is_over = until.is_over((waits.len() + sent.len()) as u64, begun);
        next = if is_over { 0 } else { acked };
    }
}

/// A floor as a child process. It is killed when dropped.
struct Running {
    child: Child,
    port: u16,
}

impl Running {
    fn start(dir: &Path, how: How) -> Result<Running> {
        let mut child = Command::new(env::current_exe().context("this program does not find itself")?)
            .arg(COMMAND)
            .arg(dir)
            .arg(how.name())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .context("the floor does not start")?;
        let stdout = child.stdout.take();
        let mut running = Running { child, port: 0 };
        let mut line = String::new();
        BufReader::new(stdout.context("stdout is no pipe")?).read_line(&mut line)?;
        running.port = line.trim().parse().context("the floor does not say where it is")?;
        Ok(running)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// `floor-server DIR HOW`: says its port, and serves one connection to its end.
pub(crate) fn serve(mut args: impl Iterator<Item = String>) -> Result<()> {
    let (Some(dir), Some(name)) = (args.next(), args.next()) else {
        bail!("{COMMAND} takes a directory and what is to be done");
    };
    let how = How::ALL.into_iter().find(|how| how.name() == name);
    let how = how.with_context(|| format!("{COMMAND} cannot {name}"))?;
    let mut files = Files::new(Path::new(&dir), how)?;
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("no port on loopback")?;
    let mut stdout = io::stdout().lock();
    writeln!(stdout, "{}", listener.local_addr()?.port())?;
    stdout.flush()?;
    let (mut stream, _) = listener.accept()?;
    stream.set_nodelay(true)?;
    let mut buffer = vec![0; BUFFER_BYTES];
    let mut filled = 0;
    loop {
        let read = stream.read(&mut buffer[filled..])?;
        if read == 0 {
            return Ok(());
        }
        filled += read;
        let (messages, bytes) = checked(&buffer[..filled])?;
        if messages == 0 {
            continue;
        }
        files.append(&buffer[..bytes])?;
        stream.write_all(&vec![1; messages])?;
        buffer.copy_within(bytes..filled, 0);
        filled -= bytes;
    }
}

/// Checksums all whole messages: how many there are, and their bytes.
fn checked(received: &[u8]) -> Result<(usize, usize)> {
    let (mut messages, mut bytes) = (0, 0);
    // Looked at, so that nobody leaves it out.
    let mut sum = 0_u32;
    while let Some(length) = received.get(bytes..).and_then(<[u8]>::first_chunk::<LENGTH_BYTES>) {
        let length = usize::try_from(u32::from_be_bytes(*length))?;
        ensure!(length + LENGTH_BYTES <= BUFFER_BYTES, "a message of {length} bytes is too large");
        let end = bytes + LENGTH_BYTES + length;
        let Some(message) = received.get(bytes + LENGTH_BYTES..end) else { break };
        sum ^= crc32c(message);
        messages += 1;
        bytes = end;
    }
    std::hint::black_box(sum);
    Ok((messages, bytes))
}

/// Where it is written.
struct Files {
    how: How,
    journal: File,
    position: u64,
    segment: File,
    end: u64,
}

impl Files {
    fn new(dir: &Path, how: How) -> Result<Files> {
        fs::create_dir_all(dir).with_context(|| dir.display().to_string())?;
        let open = |name: &str| {
            let path = dir.join(name);
            let opened = OpenOptions::new().write(true).create(true).truncate(true).open(&path);
            opened.with_context(|| path.display().to_string())
        };
        let (mut journal, segment) = (open("floor-journal")?, open("floor-segment")?);
        // Only really written zeros: a file that is merely allocated costs a journal commit per sync.
        let zeros = vec![0; FILL_BYTES];
        for _ in 0..FILE_BYTES / FILL_BYTES as u64 {
            journal.write_all(&zeros)?;
        }
        journal.sync_all()?;
        segment.sync_all()?;
        Ok(Files { how, journal, position: 0, segment, end: 0 })
    }

    fn append(&mut self, bytes: &[u8]) -> Result<()> {
        let length = bytes.len() as u64;
        if self.position + length > FILE_BYTES {
            self.position = 0;
        }
        self.journal.write_all_at(bytes, self.position)?;
        self.position += length;
        if self.how == How::SyncAndSegment {
            self.segment.write_all_at(bytes, self.end)?;
            self.end += length;
        }
        if self.how != How::Write {
            self.journal.sync_data()?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_messages_are_taken_and_the_rest_is_left() {
        let message = [0, 0, 0, 3, b'a', b'b', b'c'];
        let mut received = message.repeat(2);
        received.extend_from_slice(&message[..6]);
        assert_eq!(checked(&received).unwrap(), (2, 14));
        assert_eq!(checked(&received[..3]).unwrap(), (0, 0));
        assert!(checked(&[0xff, 0xff, 0xff, 0xff]).is_err());
    }

    #[test]
    fn what_is_appended_is_in_both_files_and_the_first_is_written_over() {
        let dir = tempfile::tempdir().unwrap();
        let mut files = Files::new(dir.path(), How::SyncAndSegment).unwrap();
        files.position = FILE_BYTES - 2;
        files.append(b"abc").unwrap();
        let journal = fs::read(dir.path().join("floor-journal")).unwrap();
        assert_eq!((journal.len() as u64, &journal[..3]), (FILE_BYTES, b"abc".as_slice()));
        assert_eq!(fs::read(dir.path().join("floor-segment")).unwrap(), b"abc");
    }

    #[test]
    fn a_measurement_ends_when_all_are_acknowledged() {
        let begun = Instant::now();
        assert!(Until::Messages(5).is_over(5, begun));
        assert!(!Until::Messages(5).is_over(4, begun));
        assert!(Until::Elapsed(Duration::ZERO).is_over(0, begun));
    }
}
