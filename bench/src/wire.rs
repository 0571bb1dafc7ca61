//! The driver of the rows in which a client's own work would hide the server's: it sends batches that were made
//! once, of the same size whatever else changes, and lets what it reads go unread.
//!
//! Frames are written by hand, in the oldest versions that are served, whose fields have plain lengths.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result, bail, ensure};
use bytes::Bytes;
use courant_log::Codec;
use courant_log::batch::records::{self, NewRecord};

use crate::tls::{Client, Socket};

const PRODUCE: (i16, i16) = (0, 3);
const FETCH: (i16, i16) = (1, 4);
const API_VERSIONS: (i16, i16) = (18, 0);
const CREATE_TOPICS: (i16, i16) = (19, 2);

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(120);
/// Requests that are on their way at the same time.
const IN_FLIGHT: u64 = 32;
/// An answer that claims more is no answer to what is asked here.
const ANSWER_BYTES_MAX: usize = 64 << 20;
/// Bytes of events that are read at once, and of answers that nobody looks at.
const EVENTS_BYTES_MAX: u32 = 1 << 20;
const UNREAD_BYTES: usize = 64 * 1024;
/// The time of every event.
const TIMESTAMP_MS: i64 = 1_700_000_000_000;
/// Where a batch says how long it is, behind this field, and the offset of its last event after the first.
const LENGTH_AT: usize = 8;
const LAST_OFFSET_DELTA_AT: usize = 23;
const BATCH_HEADER_BYTES: usize = 61;

/// A batch of so many events of so many bytes each, without keys.
pub(crate) fn batch(events: usize, bytes: usize) -> Result<Bytes> {
    let record = NewRecord {
        timestamp: TIMESTAMP_MS,
        value: Some(Bytes::from(vec![b'x'; bytes])),
        ..NewRecord::default()
    };
    records::encode(&vec![record; events], Codec::None, None).context("the batch cannot be made")
}

/// A batch of one event, of now.
pub(crate) fn batch_of(value: &[u8]) -> Result<Bytes> {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).context("the clock")?;
    let record = NewRecord {
        timestamp: i64::try_from(since.as_millis()).context("the clock")?,
        value: Some(Bytes::copy_from_slice(value)),
        ..NewRecord::default()
    };
    records::encode(&[record], Codec::None, None).context("the batch cannot be made")
}

/// A connection that does one thing after the other.
pub(crate) struct Connection {
    stream: Socket,
    /// The last answer, without its length.
    answer: Vec<u8>,
}

impl Connection {
    /// Connects to what clients call `bootstrap.servers`.
    pub(crate) fn open(bootstrap: &str) -> Result<Connection> {
        Self::open_with(bootstrap, None)
    }

    /// The same over TLS, or without.
    pub(crate) fn open_with(bootstrap: &str, tls: Option<&Client>) -> Result<Connection> {
        let stream =
            TcpStream::connect(bootstrap).with_context(|| format!("{bootstrap} takes no connection"))?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        Ok(Connection { stream: Socket::over(stream, tls)?, answer: Vec::new() })
    }

    /// Asks for the versions of the API, as clients do first: then somebody is there.
    pub(crate) fn greet(&mut self) -> Result<()> {
        self.send(&Frame::begin(API_VERSIONS).end()?)?;
        no_error("the server does not say what it serves", self.receive()?.short()?)
    }

    /// Creates a topic with these configs.
    pub(crate) fn create_topic(
        &mut self,
        name: &str,
        partitions: u32,
        configs: &[(&str, &str)],
    ) -> Result<()> {
        let mut request = Frame::begin(CREATE_TOPICS);
        request.int(1).text(name).int(i32::try_from(partitions)?).short(1);
        // No assignments.
        request.int(0).int(i32::try_from(configs.len())?);
        for (name, value) in configs {
            request.text(name).text(value);
        }
        // A patience, and not only a check.
        request.int(60_000).byte(0);
        self.send(&request.end()?)?;
        let mut answer = self.receive()?;
        answer.skip(4)?;
        ensure!(answer.int()? == 1, "one topic was to be created");
        answer.text()?;
        no_error("the topic cannot be created", answer.short()?)
    }

    /// Sends this batch so many times, to each partition in turn, and waits for all answers.
    pub(crate) fn produce(&mut self, request: &mut Produce, partitions: u32, batches: u64) -> Result<()> {
        let mut answered = 0;
        for sent in 0..batches {
            if sent - answered == IN_FLIGHT {
                self.produced()?;
                answered += 1;
            }
            self.send(request.to(u32::try_from(sent % u64::from(partitions))?))?;
        }
        while answered < batches {
            self.produced()?;
            answered += 1;
        }
        Ok(())
    }

    /// Sends a batch to the first partition. Its answer is waited for later.
    pub(crate) fn begin(&mut self, request: &mut Produce) -> Result<()> {
        self.send(request.to(0))
    }

    /// Waits for the answer to a batch.
    pub(crate) fn produced(&mut self) -> Result<()> {
        let mut answer = self.receive()?;
        ensure!(answer.int()? == 1, "the answer to a Produce is about one topic");
        answer.text()?;
        ensure!(answer.int()? == 1, "the answer to a Produce is about one partition");
        answer.int()?;
        no_error("a batch was not stored", answer.short()?)
    }

    /// Reads batches from an offset on, up to so many bytes: how many these are, and the offset behind them.
    pub(crate) fn fetch(&mut self, topic: &str, offset: i64, bytes: u32) -> Result<(u64, i64)> {
        let batches = self.batches(topic, offset, bytes)?;
        Ok((batches.len() as u64, behind(batches).unwrap_or(offset)))
    }

    /// Reads events from an offset on, as many as are there: their values, and the offset behind them.
    pub(crate) fn fetch_events(&mut self, topic: &str, offset: i64) -> Result<(Vec<Vec<u8>>, i64)> {
        let batches = self.batches(topic, offset, EVENTS_BYTES_MAX)?;
        Ok((values(batches, offset)?, behind(batches).unwrap_or(offset)))
    }

    /// Takes answers from here on, and forgets them, to the end of the connection.
    pub(crate) fn leave_unread(&self) -> Result<()> {
        let mut stream = self.stream.reader()?;
        thread::spawn(move || {
            let mut chunk = vec![0; UNREAD_BYTES];
            while matches!(stream.read(&mut chunk), Ok(read) if read > 0) {}
        });
        Ok(())
    }

    /// Batches from an offset on, up to so many bytes.
    fn batches(&mut self, topic: &str, offset: i64, bytes: u32) -> Result<&[u8]> {
        let bytes = i32::try_from(bytes)?;
        let mut request = Frame::begin(FETCH);
        // A consumer that waits up to a second for one byte, and reads everything.
        request.int(-1).int(1_000).int(1).int(bytes).byte(0);
        request.int(1).text(topic).int(1).int(0).long(offset).int(bytes);
        self.send(&request.end()?)?;
        let mut answer = self.receive()?;
        answer.skip(4)?;
        ensure!(answer.int()? == 1, "the answer to a Fetch is about one topic");
        answer.text()?;
        ensure!(answer.int()? == 1, "the answer to a Fetch is about one partition");
        answer.int()?;
        no_error("the partition cannot be read", answer.short()?)?;
        answer.skip(16)?;
        // No transaction was aborted: none, or null.
        ensure!(answer.int()? <= 0, "there are no transactions here");
        let length = answer.int()?;
        answer.take(usize::try_from(length).context("the answer has no records")?)
    }

    fn send(&mut self, frame: &[u8]) -> Result<()> {
        self.stream.write_all(frame).context("the server does not read")
    }

    /// The next answer, behind its correlation id.
    fn receive(&mut self) -> Result<Fields<'_>> {
        let mut length = [0; 4];
        self.stream.read_exact(&mut length).context("the server does not answer")?;
        let length =
            usize::try_from(i32::from_be_bytes(length)).context("an answer has a negative length")?;
        ensure!(length <= ANSWER_BYTES_MAX, "an answer of {length} bytes was not asked for");
        self.answer.resize(length, 0);
        self.stream.read_exact(&mut self.answer).context("an answer was cut off")?;
        let mut fields = Fields(&self.answer);
        fields.skip(4)?;
        Ok(fields)
    }
}

/// A Produce of one batch for one partition, which is sent again and again.
pub(crate) struct Produce {
    frame: Vec<u8>,
    partition_at: usize,
}

impl Produce {
    pub(crate) fn new(topic: &str, batch: &[u8]) -> Result<Produce> {
        let mut request = Frame::begin(PRODUCE);
        // No transaction, everybody acknowledges, a patience.
        request.short(-1).short(-1).int(60_000);
        request.int(1).text(topic).int(1);
        let partition_at = request.0.len();
        request.int(0).int(i32::try_from(batch.len())?);
        request.0.extend_from_slice(batch);
        Ok(Produce { frame: request.end()?, partition_at })
    }

    /// The frame for this partition.
    fn to(&mut self, partition: u32) -> &[u8] {
        let at = self.partition_at;
        self.frame[at..at + 4].copy_from_slice(&partition.to_be_bytes());
        &self.frame
    }
}

/// The offset behind the last whole one of these batches.
fn behind(mut batches: &[u8]) -> Option<i64> {
    let mut behind = None;
    while batches.len() >= BATCH_HEADER_BYTES {
        let offset = i64::from_be_bytes(*batches.first_chunk()?);
        let int = |at: usize| Some(i32::from_be_bytes(*batches.get(at..)?.first_chunk()?));
        let length = usize::try_from(int(LENGTH_AT)?).ok()? + LENGTH_AT + 4;
        let last = int(LAST_OFFSET_DELTA_AT)?;
        let Some(rest) = batches.get(length..) else { break };
        behind = Some(offset + i64::from(last) + 1);
        batches = rest;
    }
    behind
}

/// The values of the events from an offset on in whole batches.
fn values(mut batches: &[u8], offset: i64) -> Result<Vec<Vec<u8>>> {
    let mut values = Vec::new();
    while let Some(length) = length_of(batches) {
        let Some((batch, rest)) = batches.split_at_checked(length) else { break };
        for record in records::decode(batch, ANSWER_BYTES_MAX).context("a batch cannot be read")? {
            if record.offset >= offset {
                values.push(record.value.unwrap_or_default().to_vec());
            }
        }
        batches = rest;
    }
    Ok(values)
}

/// The length of the batch at the front, if its header is there.
fn length_of(batches: &[u8]) -> Option<usize> {
    let header = batches.get(..BATCH_HEADER_BYTES)?;
    let length = i32::from_be_bytes(*header.get(LENGTH_AT..)?.first_chunk()?);
    usize::try_from(length).ok()?.checked_add(LENGTH_AT + 4)
}

fn no_error(what: &str, code: i16) -> Result<()> {
    if code != 0 {
        bail!("{what}: error code {code}");
    }
    Ok(())
}

/// A request that is being written. Numbers are big-endian.
struct Frame(Vec<u8>);

impl Frame {
    /// With room for its length, and a header.
    fn begin((api, version): (i16, i16)) -> Frame {
        let mut frame = Frame(vec![0; 4]);
        frame.short(api).short(version).int(0).text("courant-bench");
        frame
    }

    fn byte(&mut self, value: u8) -> &mut Frame {
        self.0.push(value);
        self
    }

    fn short(&mut self, value: i16) -> &mut Frame {
        self.0.extend_from_slice(&value.to_be_bytes());
        self
    }

    fn int(&mut self, value: i32) -> &mut Frame {
        self.0.extend_from_slice(&value.to_be_bytes());
        self
    }

    fn long(&mut self, value: i64) -> &mut Frame {
        self.0.extend_from_slice(&value.to_be_bytes());
        self
    }

    /// Names here are short.
    fn text(&mut self, value: &str) -> &mut Frame {
        let length = i16::try_from(value.len()).unwrap_or(i16::MAX);
        self.short(length);
        self.0.extend_from_slice(value.as_bytes());
        self
    }

    /// The whole frame.
    fn end(mut self) -> Result<Vec<u8>> {
        let length = i32::try_from(self.0.len() - 4).context("the request is too large")?;
        self.0[..4].copy_from_slice(&length.to_be_bytes());
        Ok(self.0)
    }
}

/// What is left of an answer.
struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    fn take(&mut self, bytes: usize) -> Result<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(bytes).context("an answer ends too early")?;
        self.0 = rest;
        Ok(taken)
    }

    fn skip(&mut self, bytes: usize) -> Result<()> {
        self.take(bytes).map(drop)
    }

    fn short(&mut self) -> Result<i16> {
        let bytes = self.take(2)?;
        Ok(i16::from_be_bytes([bytes[0], bytes[1]]))
    }

    fn int(&mut self) -> Result<i32> {
        let bytes = self.take(4)?;
        Ok(i32::from_be_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]))
    }

    fn text(&mut self) -> Result<()> {
        let length = self.short()?;
        self.skip(usize::try_from(length).unwrap_or(0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_partition_of_a_frame_changes() {
        let batch = batch(500, 100).unwrap();
        let mut request = Produce::new("bench", &batch).unwrap();
        let first = request.to(0).to_vec();
        let other = request.to(999).to_vec();
        assert_eq!(first.len(), other.len());
        assert_eq!(first.iter().zip(&other).filter(|(one, other)| one != other).count(), 2);
        assert!(other.ends_with(&batch));
        assert_eq!(first[..4], i32::try_from(first.len() - 4).unwrap().to_be_bytes());
    }

    #[test]
    fn batches_say_where_the_next_one_begins() {
        let batch = batch(500, 10).unwrap();
        assert_eq!(behind(&batch), Some(500));
        let mut two = batch.to_vec();
        two.extend_from_slice(&batch);
        two[batch.len()..batch.len() + 8].copy_from_slice(&500_i64.to_be_bytes());
        assert_eq!(behind(&two), Some(1_000));
        // What is cut off does not count.
        assert_eq!(behind(&two[..two.len() - 1]), Some(500));
        assert_eq!(behind(&[]), None);
    }

    #[test]
    fn events_come_out_of_batches_as_they_went_in() {
        let one = batch_of(b"one").unwrap();
        let mut two = one.to_vec();
        two.extend_from_slice(&batch_of(b"two").unwrap());
        two[one.len()..one.len() + 8].copy_from_slice(&1_i64.to_be_bytes());
        assert_eq!(values(&two, 0).unwrap(), [b"one", b"two"]);
        assert_eq!(values(&two, 1).unwrap(), [b"two"], "what comes before was read before");
        // What is cut off is read the next time.
        assert_eq!(values(&two[..two.len() - 1], 0).unwrap(), [b"one"]);
        assert!(values(&[], 0).unwrap().is_empty());
    }

    #[test]
    fn an_answer_that_is_too_short_is_an_error() {
        let mut fields = Fields(&[0, 3, b'a']);
        assert!(fields.text().is_err());
        assert_eq!(Fields(&[0xff, 0xff, 0xff, 0xff]).int().unwrap(), -1);
    }
}
