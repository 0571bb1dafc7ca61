//! Events from stdin, with bounded memory.

use crate::exit::{Exit, Failure, note};
use bytes::Bytes;
use std::io::{self, BufRead, BufReader, IsTerminal, Read};
use std::thread;
use tokio::sync::mpsc;

/// The largest event that is read, in bytes. A server accepts far less by default.
const EVENT_BYTES_MAX: usize = 64 * 1024 * 1024;

/// Bytes of lines that are handed on together.
const CHUNK_BYTES: usize = 512 * 1024;

/// Lines that are handed on together.
const CHUNK_LINES_MAX: usize = 10_000;

/// Chunks that may wait while the server writes.
const CHUNKS_WAITING_MAX: usize = 2;

/// Lines that were there together, or why there are no more.
type Chunk = Result<Vec<Bytes>, Failure>;

/// All of stdin as one event. Nothing at all is none: whoever should have written it has failed, or nobody was to.
pub(super) fn whole(quiet: bool) -> Result<Bytes, Failure> {
    if io::stdin().is_terminal() && !quiet {
        note(format_args!("Reading one event from the terminal; Ctrl-D ends it."));
    }
    let mut event = Vec::new();
    let limit = EVENT_BYTES_MAX as u64 + 1;
    io::stdin().lock().take(limit).read_to_end(&mut event).map_err(|e| unreadable(&e))?;
    if event.len() > EVENT_BYTES_MAX {
        return Err(too_large());
    }
    if event.is_empty() {
        let sentence = "stdin is empty, and nothing was published; an empty event has '' for its VALUE, one without a \
                        value --null-value";
        return Err(Failure::new(Exit::Failed, sentence));
    }
    Ok(Bytes::from(event))
}

/// The lines of stdin, read by a thread of its own: reading a terminal or a pipe cannot be
/// interrupted, and the process must be able to end meanwhile.
pub(super) fn lines() -> Result<mpsc::Receiver<Chunk>, Failure> {
    let (sender, receiver) = mpsc::channel(CHUNKS_WAITING_MAX);
    thread::Builder::new()
        .name("stdin".to_owned())
        .spawn(move || {
            let mut input = BufReader::with_capacity(CHUNK_BYTES, io::stdin());
            loop {
                match chunk(&mut input) {
                    Ok(lines) if lines.is_empty() => return,
                    // A closed channel: the server failed, or the user has had enough.
                    Ok(lines) => {
                        if sender.blocking_send(Ok(lines)).is_err() {
                            return;
                        }
                    }
                    Err(failure) => {
                        let _ = sender.blocking_send(Err(failure));
                        return;
                    }
                }
            }
        })
        .map_err(|error| Failure::new(Exit::Failed, format!("stdin cannot be read: {error}")))?;
    Ok(receiver)
}

/// The next lines, if there are any.
pub(super) async fn next(chunks: &mut mpsc::Receiver<Chunk>) -> Option<Chunk> {
    chunks.recv().await
}

/// The next line and those that are there already. Empty at the end of the input.
fn chunk(input: &mut BufReader<impl Read>) -> Result<Vec<Bytes>, Failure> {
    let mut lines = Vec::new();
    let mut bytes = 0;
    while let Some(line) = line(input)? {
        bytes += line.len();
        lines.push(line);
        // Who follows a log wants each line on its way, not only when a chunk is full.
        let more_is_there = input.buffer().contains(&b'\n');
        if !more_is_there || bytes >= CHUNK_BYTES || lines.len() >= CHUNK_LINES_MAX {
            break;
        }
    }
    Ok(lines)
}

/// One line without its end; an empty line is an empty event. `None` at the end of the input.
fn line(input: &mut impl BufRead) -> Result<Option<Bytes>, Failure> {
    let mut line = Vec::new();
    let limit = EVENT_BYTES_MAX as u64 + 1;
    let read = input.by_ref().take(limit).read_until(b'\n', &mut line).map_err(|e| unreadable(&e))?;
    if read == 0 {
        return Ok(None);
    }
    if line.last() == Some(&b'\n') {
        line.pop();
    }
    if line.len() > EVENT_BYTES_MAX {
        return Err(too_large());
    }
    Ok(Some(Bytes::from(line)))
}

fn unreadable(error: &io::Error) -> Failure {
    Failure::new(Exit::Failed, format!("stdin cannot be read: {error}"))
}

fn too_large() -> Failure {
    Failure::new(
        Exit::Failed,
        format!("an event on stdin is larger than {EVENT_BYTES_MAX} bytes; send it in parts"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chunks(input: &str) -> Vec<Vec<Bytes>> {
        let mut input = BufReader::new(input.as_bytes());
        let mut chunks = Vec::new();
        loop {
            let lines = chunk(&mut input).expect("memory");
            if lines.is_empty() {
                return chunks;
            }
            chunks.push(lines);
        }
    }

    #[test]
    fn one_event_per_line_with_or_without_a_last_line_end() {
        assert_eq!(chunks("a\n\nb\r\nc").concat(), ["a", "", "b\r", "c"]);
        assert_eq!(chunks("a\n"), [["a"]]);
        assert!(chunks("").is_empty());
        assert_eq!(chunks("\n"), [[""]]);
    }

    #[test]
    fn chunks_are_bounded() {
        let many = "x\n".repeat(CHUNK_LINES_MAX + 1);
        let mut input = BufReader::with_capacity(1 << 20, many.as_bytes());
        assert_eq!(chunk(&mut input).expect("memory").len(), CHUNK_LINES_MAX);
        assert_eq!(chunk(&mut input).expect("memory").len(), 1);
    }
}
