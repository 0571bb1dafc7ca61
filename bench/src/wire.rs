//! The driver of the rows in which a client's own work would hide the server's: it sends batches that were made
//! once, of the same size whatever else changes, and lets what it reads go unread. A producer of single events, which
//! is a client of its own, makes each batch anew.
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
use courant_log::crc::crc32c;

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
/// The length in front of every request and answer.
const LENGTH_BYTES: usize = 4;
/// The time of every event.
const TIMESTAMP_MS: i64 = 1_700_000_000_000;
/// Where a batch says how long it is, behind this field, and the offset of its last event after the first.
const LENGTH_AT: usize = 8;
const LAST_OFFSET_DELTA_AT: usize = 23;
const BATCH_HEADER_BYTES: usize = 61;
/// Where it has its checksum, of all that follows, and the times of its first and of its newest event.
const CRC_AT: usize = 17;
const CRC_COVERS_FROM: usize = 21;
const BASE_TIMESTAMP_AT: usize = 27;
const MAX_TIMESTAMP_AT: usize = 35;
/// Where a request has its number, which its answer repeats.
const CORRELATION_ID_AT: usize = 8;

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
    let record = NewRecord {
        timestamp: now_ms()?,
        value: Some(Bytes::copy_from_slice(value)),
        ..NewRecord::default()
    };
    records::encode(&[record], Codec::None, None).context("the batch cannot be made")
}

/// Milliseconds since 1970.
pub(crate) fn now_ms() -> Result<i64> {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).context("the clock")?;
    i64::try_from(since.as_millis()).context("the clock")
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
        self.send(&greeting()?)?;
        versions(self.receive()?)
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
        stored(self.receive()?)
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
        let mut length = [0; LENGTH_BYTES];
        self.stream.read_exact(&mut length).context("the server does not answer")?;
        self.answer.resize(answer_length(length)?, 0);
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

/// A Produce of one event for the first partition, by a client that makes it anew each time: the batch has a time and
/// a checksum of its own, and the request a number.
pub(crate) struct ProduceOne {
    frame: Vec<u8>,
    /// Where its batch begins, which goes to its end.
    batch_at: usize,
}

impl ProduceOne {
    pub(crate) fn new(topic: &str, value: &[u8]) -> Result<ProduceOne> {
        let batch = batch_of(value)?;
        let Produce { frame, .. } = Produce::new(topic, &batch)?;
        Ok(ProduceOne { batch_at: frame.len() - batch.len(), frame })
    }

    /// Adds the next one to what is sent: with this number, of an event of this time.
    pub(crate) fn add(&mut self, number: i32, timestamp_ms: i64, out: &mut Vec<u8>) {
        put(&mut self.frame, CORRELATION_ID_AT, &number.to_be_bytes());
        let batch = &mut self.frame[self.batch_at..];
        put(batch, BASE_TIMESTAMP_AT, &timestamp_ms.to_be_bytes());
        put(batch, MAX_TIMESTAMP_AT, &timestamp_ms.to_be_bytes());
        let crc = crc32c(&batch[CRC_COVERS_FROM..]);
        put(batch, CRC_AT, &crc.to_be_bytes());
        out.extend_from_slice(&self.frame);
    }
}

fn put(bytes: &mut [u8], at: usize, field: &[u8]) {
    bytes[at..at + field.len()].copy_from_slice(field);
}

/// What clients send first: they ask for the versions of the API.
pub(crate) fn greeting() -> Result<Vec<u8>> {
    Frame::begin(API_VERSIONS).end()
}

/// The answer to that at the front of what was received: its length. `None` while some of it is on its way.
pub(crate) fn greeted(bytes: &[u8]) -> Result<Option<(usize, ())>> {
    let Some((length, _, answer)) = front(bytes)? else { return Ok(None) };
    versions(answer)?;
    Ok(Some((length, ())))
}

/// The answer to a Produce at the front of what was received: its length, and the number of its request. `None` while
/// some of it is on its way.
pub(crate) fn produced(bytes: &[u8]) -> Result<Option<(usize, i32)>> {
    let Some((length, number, answer)) = front(bytes)? else { return Ok(None) };
    stored(answer)?;
    Ok(Some((length, number)))
}

/// The whole answer at the front: its length, its correlation id, and what stands behind that.
fn front(bytes: &[u8]) -> Result<Option<(usize, i32, Fields<'_>)>> {
    let Some((length, rest)) = bytes.split_first_chunk::<LENGTH_BYTES>() else { return Ok(None) };
    let Some(answer) = rest.get(..answer_length(*length)?) else { return Ok(None) };
    let mut fields = Fields(answer);
    let number = fields.int()?;
    Ok(Some((LENGTH_BYTES + answer.len(), number, fields)))
}

/// What stands in front of an answer.
fn answer_length(length: [u8; LENGTH_BYTES]) -> Result<usize> {
    let length = usize::try_from(i32::from_be_bytes(length)).context("an answer has a negative length")?;
    ensure!(length <= ANSWER_BYTES_MAX, "an answer of {length} bytes was not asked for");
    Ok(length)
}

/// Whether an answer has the versions of the API.
fn versions(mut answer: Fields<'_>) -> Result<()> {
    no_error("the server does not say what it serves", answer.short()?)
}

/// Whether the one batch of a Produce was stored.
fn stored(mut answer: Fields<'_>) -> Result<()> {
    ensure!(answer.int()? == 1, "the answer to a Produce is about one topic");
    answer.text()?;
    ensure!(answer.int()? == 1, "the answer to a Produce is about one partition");
    answer.int()?;
    no_error("a batch was not stored", answer.short()?)
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
pub(crate) mod tests {
    use courant_log::batch::verify_crc;

    use super::*;

    /// What a server answers to a Produce with this number.
    pub(crate) fn answer_to(number: i32, code: i16) -> Vec<u8> {
        let mut answer = Frame(vec![0; LENGTH_BYTES]);
        answer.int(number).int(1).text("bench").int(1).int(0).short(code).long(12).long(-1).int(0);
        answer.end().unwrap()
    }

    #[test]
    fn every_event_has_its_own_batch_and_its_own_number() {
        let mut produce = ProduceOne::new("bench", b"event").unwrap();
        let mut sent = Vec::new();
        let events = [(7_i32, 1_000_i64), (255, 2_000)];
        for (number, timestamp_ms) in events {
            produce.add(number, timestamp_ms, &mut sent);
        }
        let frames = sent.chunks(sent.len() / 2);
        for (frame, (number, timestamp_ms)) in frames.zip(events) {
            assert_eq!(frame[..4], i32::try_from(frame.len() - 4).unwrap().to_be_bytes());
            assert_eq!(frame[CORRELATION_ID_AT..][..4], number.to_be_bytes());
            let batch = &frame[produce.batch_at..];
            assert_eq!(verify_crc(batch), Ok(()));
            let records = records::decode(batch, 100).unwrap();
            let only = records.first().map(|record| (record.timestamp, record.value.as_deref()));
            assert_eq!((records.len(), only), (1, Some((timestamp_ms, Some(b"event".as_slice())))));
        }
        // Nothing else of a request changes.
        let plain = Produce::new("bench", &batch_of(b"event").unwrap()).unwrap().frame;
        assert_eq!(plain[12..produce.batch_at], sent[12..produce.batch_at]);
    }

    #[test]
    fn an_answer_to_a_produce_is_whole_or_none_and_names_its_request() {
        let answer = answer_to(255, 0);
        assert_eq!(produced(&answer).unwrap(), Some((answer.len(), 255)));
        assert_eq!(
            produced(&[answer.as_slice(), [0_u8; 2].as_slice()].concat()).unwrap(),
            Some((answer.len(), 255))
        );
        for length in 0..answer.len() {
            assert_eq!(produced(&answer[..length]).unwrap(), None, "{length}");
        }
        let error = produced(&answer_to(0, 56)).unwrap_err();
        assert_eq!(error.to_string(), "a batch was not stored: error code 56");
        assert!(produced(&[0xff; 8]).is_err(), "a length below nothing");
        assert!(produced(&[0x7f; 8]).is_err(), "more than is asked for");
    }

    #[test]
    fn a_server_is_greeted_once_it_has_said_what_it_serves() {
        let mut answer = Frame(vec![0; LENGTH_BYTES]);
        answer.int(0).short(0).int(0);
        let answer = answer.end().unwrap();
        assert_eq!(greeted(&answer).unwrap(), Some((answer.len(), ())));
        assert_eq!(greeted(&answer[..answer.len() - 1]).unwrap(), None);
        let mut refused = answer;
        refused[9] = 35;
        assert!(greeted(&refused).is_err());
    }

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
