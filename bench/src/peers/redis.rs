//! Redis: each event is an entry of one stream. Answers come in the order of the commands.

use std::collections::VecDeque;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};

use super::connection::{self, Answer, Connection, Protocol, line};
use super::{Client, EVENT_BYTES};
use crate::passing::{Receiver, Sender};

const STREAM: &str = "bench";
/// Values that an answer may have.
const VALUES_MAX: usize = 1_000;
/// How deep answers may stand in each other: streams, entries, fields and what stands in them.
const DEPTH_MAX: usize = 6;
/// Entries that are read at once.
const ENTRIES_MAX: &str = "500";

pub(super) struct Redis {
    connection: Connection,
    events: Events,
}

impl Redis {
    pub(super) fn connect(address: &str) -> Result<Redis> {
        let connection = Connection::open(connection::place(address, "redis://")?)?;
        let payload = "x".repeat(EVENT_BYTES);
        let command = command(&["XADD", STREAM, "*", "e", &payload]);
        Ok(Redis { connection, events: Events { command, waiting: VecDeque::new() } })
    }

    fn ask(&mut self, words: &[&str]) -> Result<Vec<String>> {
        self.connection.send(&command(words))?;
        self.connection.next(|bytes| reply(bytes, 0)).with_context(|| words.join(" "))
    }
}

impl Client for Redis {
    fn about(&mut self) -> Result<String> {
        let server = self.ask(&["INFO", "server"])?.concat();
        let version = server.lines().find_map(|line| line.strip_prefix("redis_version:"));
        let version = version.context("the server does not say its version")?.to_owned();
        let answer = self.ask(&["CONFIG", "GET", "appendfsync"])?;
        let appendfsync = answer.get(1).context("the server does not say when it syncs")?;
        Ok(format!("Redis {version}, appendfsync {appendfsync}"))
    }

    fn wait(&mut self, waiting: usize, time: Duration) -> Result<Vec<u32>> {
        self.connection.wait(&mut self.events, waiting, time)
    }

    fn stored(&mut self) -> Result<Option<u64>> {
        let answer = self.ask(&["XLEN", STREAM])?.concat();
        answer.parse().map(Some).with_context(|| format!("the stream is `{answer}` long"))
    }
}

/// A producer that waits for nobody, and a consumer.
pub(super) fn pass(address: &str) -> Result<(Box<dyn Sender>, Box<dyn Receiver>)> {
    let producer = Redis::connect(address)?;
    // Who consumes the events sees whether one is missing.
    producer.connection.leave_unread()?;
    let consumer = Redis::connect(address)?;
    Ok((
        Box::new(Producer(producer.connection)),
        Box::new(Consumer { redis: consumer, last: "0".to_owned() }),
    ))
}

struct Producer(Connection);

impl Sender for Producer {
    fn send(&mut self, payload: &[u8]) -> Result<()> {
        let payload = std::str::from_utf8(payload).context("the event is no text")?;
        self.0.send(&command(&["XADD", STREAM, "*", "e", payload]))
    }
}

struct Consumer {
    redis: Redis,
    /// The name of the last entry that has come.
    last: String,
}

impl Receiver for Consumer {
    fn receive(&mut self) -> Result<Vec<Vec<u8>>> {
        let words = ["XREAD", "COUNT", ENTRIES_MAX, "BLOCK", "60000", "STREAMS", STREAM, &self.last];
        let answer = self.redis.ask(&words)?;
        let (last, events) = entries(&answer)?;
        self.last = last;
        Ok(events)
    }
}

/// The last name and the events in an answer: the stream, and of each entry its name, its field and its value.
fn entries(answer: &[String]) -> Result<(String, Vec<Vec<u8>>)> {
    let entries = answer.get(1..).unwrap_or_default().chunks_exact(3);
    ensure!(entries.remainder().is_empty(), "entries of more than one field");
    let events = entries.clone().filter_map(|entry| entry.last()).map(|event| event.clone().into_bytes());
    let events = events.collect();
    let last =
        entries.clone().next_back().and_then(|entry| entry.first()).context("no entry has come in time")?;
    Ok((last.clone(), events))
}

struct Events {
    command: Vec<u8>,
    /// Producers in the order of their commands.
    waiting: VecDeque<usize>,
}

impl Protocol for Events {
    fn publish(&mut self, producer: usize, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.command);
        self.waiting.push_back(producer);
    }

    fn answer(&mut self, bytes: &[u8]) -> Result<Option<(usize, Answer)>> {
        let Some(length) = bulk_length(bytes)? else { return Ok(None) };
        let producer = self.waiting.pop_front().context("an answer that nobody waits for")?;
        Ok(Some((length, Answer::Acknowledged(producer))))
    }
}

/// A command as the protocol writes it.
fn command(words: &[&str]) -> Vec<u8> {
    let mut text = format!("*{}\r\n", words.len());
    for word in words {
        text.push_str(&format!("${}\r\n{word}\r\n", word.len()));
    }
    text.into_bytes()
}

/// The length of the whole value at the front, which has to be one: that of an entry's name.
fn bulk_length(bytes: &[u8]) -> Result<Option<usize>> {
    let Some((line, next)) = line(bytes) else { return Ok(None) };
    let text = String::from_utf8_lossy(line);
    let length = text.strip_prefix('$').and_then(|length| length.parse::<usize>().ok());
    let length = length.with_context(|| format!("the server says `{text}`"))?;
    let whole = next.saturating_add(length).saturating_add(2);
    Ok((bytes.len() >= whole).then_some(whole))
}

/// The values of the answer at the front, and its length.
fn reply(bytes: &[u8], depth: usize) -> Result<Option<(usize, Vec<String>)>> {
    ensure!(depth < DEPTH_MAX, "an answer within {DEPTH_MAX} answers");
    let Some((line, next)) = line(bytes) else { return Ok(None) };
    let text = String::from_utf8_lossy(line).into_owned();
    match text.split_at_checked(1) {
        Some(("+" | ":", value)) => Ok(Some((next, vec![value.to_owned()]))),
        Some(("$", _)) => {
            let Some(whole) = bulk_length(bytes)? else { return Ok(None) };
            let value = bytes.get(next..whole - 2).unwrap_or_default();
            Ok(Some((whole, vec![String::from_utf8_lossy(value).into_owned()])))
        }
        Some(("*", count)) => {
            let count = count.parse::<usize>().ok().filter(|count| *count <= VALUES_MAX);
            let count = count.with_context(|| format!("the server says `{text}`"))?;
            let (mut at, mut values) = (next, Vec::new());
            for _ in 0..count {
                let Some((length, mut more)) = reply(bytes.get(at..).unwrap_or_default(), depth + 1)? else {
                    return Ok(None);
                };
                at += length;
                values.append(&mut more);
            }
            Ok(Some((at, values)))
        }
        _ => bail!("the server says `{text}`"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_belong_to_producers_in_their_order() {
        let mut events = Events { command: command(&["XADD", "s"]), waiting: VecDeque::new() };
        let mut out = Vec::new();
        events.publish(7, &mut out);
        events.publish(3, &mut out);
        assert_eq!(out, b"*2\r\n$4\r\nXADD\r\n$1\r\ns\r\n*2\r\n$4\r\nXADD\r\n$1\r\ns\r\n");
        let answers = b"$3\r\n1-0\r\n$3\r\n1-";
        assert_eq!(events.answer(answers).unwrap(), Some((9, Answer::Acknowledged(7))));
        assert_eq!(events.answer(&answers[9..]).unwrap(), None);
        assert_eq!(events.answer(b"$3\r\n1-1\r\n").unwrap(), Some((9, Answer::Acknowledged(3))));
    }

    #[test]
    fn an_event_that_is_refused_is_an_error() {
        let mut events = Events { command: Vec::new(), waiting: VecDeque::from([0]) };
        let error = events.answer(b"-MISCONF Errors writing to the AOF file\r\n").unwrap_err();
        assert!(error.to_string().contains("MISCONF"), "{error}");
    }

    #[test]
    fn an_answer_is_whole_or_none() {
        let answer = b"*2\r\n$11\r\nappendfsync\r\n$6\r\nalways\r\n";
        let values = vec!["appendfsync".to_owned(), "always".to_owned()];
        assert_eq!(reply(answer, 0).unwrap(), Some((answer.len(), values)));
        for length in 0..answer.len() {
            assert_eq!(reply(&answer[..length], 0).unwrap(), None, "{length}");
        }
        assert_eq!(reply(b":12\r\n", 0).unwrap(), Some((5, vec!["12".to_owned()])));
        assert!(reply(&b"*1\r\n".repeat(DEPTH_MAX + 1), 0).is_err());
    }

    #[test]
    fn a_consumer_gets_the_entries_of_a_stream() {
        let answer = b"*1\r\n*2\r\n$5\r\nbench\r\n*2\r\n\
            *2\r\n$3\r\n1-0\r\n*2\r\n$1\r\ne\r\n$3\r\none\r\n\
            *2\r\n$3\r\n1-1\r\n*2\r\n$1\r\ne\r\n$3\r\ntwo\r\n";
        let (length, values) = reply(answer, 0).unwrap().unwrap();
        assert_eq!(length, answer.len());
        let expected = vec![b"one".to_vec(), b"two".to_vec()];
        assert_eq!(entries(&values).unwrap(), ("1-1".to_owned(), expected));
        assert!(entries(&[]).is_err());
    }
}
