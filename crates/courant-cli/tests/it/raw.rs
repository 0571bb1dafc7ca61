//! A few requests of the Kafka protocol, written and read by hand.
//!
//! On purpose nothing of the product's own codec: what the tests say about bytes must not depend on
//! the code that they test. Only versions without compact encodings are used.

use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};

use crate::PATIENCE;

pub(crate) const PRODUCE: i16 = 0;
pub(crate) const FETCH: i16 = 1;
pub(crate) const METADATA: i16 = 3;
const JOIN_GROUP: i16 = 11;
const LEAVE_GROUP: i16 = 13;
pub(crate) const API_VERSIONS: i16 = 18;
pub(crate) const CREATE_TOPICS: i16 = 19;

/// A connection to a server.
pub(crate) struct Connection {
    stream: TcpStream,
    correlation: i32,
    /// The correlation id of the next answer: they come in the order of their requests.
    due: i32,
}

impl Connection {
    pub(crate) fn open(address: SocketAddr) -> Connection {
        let stream = TcpStream::connect(address).expect("the Kafka port accepts");
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_nodelay(true).unwrap();
        Connection { stream, correlation: 0, due: 1 }
    }

    /// The socket itself, for what is no request.
    pub(crate) fn stream(&mut self) -> &mut TcpStream {
        &mut self.stream
    }

    /// Sends one request with header version 1.
    pub(crate) fn send(&mut self, api: i16, version: i16, body: &Body) -> io::Result<()> {
        self.correlation += 1;
        let request = Body::default().i16(api).i16(version).i32(self.correlation).string("raw").raw(&body.0);
        let mut frame = length(&request.0).to_be_bytes().to_vec();
        frame.extend_from_slice(&request.0);
        self.stream.write_all(&frame)
    }

    /// Reads one answer and returns what follows its correlation id.
    pub(crate) fn receive(&mut self) -> io::Result<Answer> {
        let mut word = [0; 4];
        self.stream.read_exact(&mut word)?;
        let length = usize::try_from(i32::from_be_bytes(word)).map_err(io::Error::other)?;
        let mut bytes = vec![0; length];
        self.stream.read_exact(&mut bytes)?;
        let mut answer = Answer { bytes, at: 0 };
        assert_eq!(answer.i32()?, self.due, "correlation id");
        self.due += 1;
        Ok(answer)
    }

    pub(crate) fn call(&mut self, api: i16, version: i16, body: &Body) -> io::Result<Answer> {
        self.send(api, version, body)?;
        self.receive()
    }

    /// How many APIs the server serves.
    pub(crate) fn api_versions(&mut self) -> io::Result<usize> {
        let mut answer = self.call(API_VERSIONS, 0, &Body::default())?;
        assert_eq!(answer.i16()?, 0, "ApiVersions");
        answer.count()
    }

    /// Creates a topic and returns the error code.
    pub(crate) fn create_topic(&mut self, name: &str, partitions: i32) -> io::Result<i16> {
        let body = Body::default()
            .i32(1)
            .string(name)
            .i32(partitions)
            .i16(1)
            .i32(0) // assignments
            .i32(0) // configs
            .i32(30_000)
            .i8(0);
        let mut answer = self.call(CREATE_TOPICS, 2, &body)?;
        answer.i32()?; // throttle
        assert_eq!(answer.count()?, 1, "topics in the answer");
        answer.string()?;
        answer.i16()
    }

    /// Joins a group as a new member, waits for the rebalance, and returns the member's id and the
    /// error code.
    pub(crate) fn join_group(&mut self, group: &str) -> io::Result<(i16, String)> {
        let body = Body::default()
            .string(group)
            .i32(30_000) // session
            .i32(30_000) // rebalance
            .string("") // no member yet
            .string("consumer")
            .i32(1)
            .string("range")
            .bytes(&[]);
        let mut answer = self.call(JOIN_GROUP, 2, &body)?;
        answer.i32()?; // throttle
        let error = answer.i16()?;
        answer.i32()?; // generation
        answer.string()?; // protocol
        answer.string()?; // leader
        Ok((error, answer.string()?))
    }

    /// Leaves a group and returns the error code.
    pub(crate) fn leave_group(&mut self, group: &str, member: &str) -> io::Result<i16> {
        let mut answer = self.call(LEAVE_GROUP, 1, &Body::default().string(group).string(member))?;
        answer.i32()?; // throttle
        answer.i16()
    }

    /// Sends records to one partition and returns error code and base offset.
    pub(crate) fn produce(&mut self, topic: &str, partition: i32, records: &[u8]) -> io::Result<(i16, i64)> {
        let body = Body::default()
            .i16(-1) // no transactional id
            .i16(-1) // acks
            .i32(30_000)
            .i32(1)
            .string(topic)
            .i32(1)
            .i32(partition)
            .bytes(records);
        let mut answer = self.call(PRODUCE, 3, &body)?;
        assert_eq!(answer.count()?, 1, "topics in the answer");
        answer.string()?;
        assert_eq!(answer.count()?, 1, "partitions in the answer");
        answer.i32()?;
        Ok((answer.i16()?, answer.i64()?))
    }

    /// Asks for what one partition has from an offset on; [`Connection::fetched`] reads the answer.
    pub(crate) fn send_fetch(
        &mut self,
        topic: &str,
        partition: i32,
        offset: i64,
        max_wait_ms: i32,
    ) -> io::Result<()> {
        const MAX_BYTES: i32 = 8 << 20;
        let body = Body::default()
            .i32(-1) // a consumer
            .i32(max_wait_ms)
            .i32(1)
            .i32(MAX_BYTES)
            .i8(0)
            .i32(1)
            .string(topic)
            .i32(1)
            .i32(partition)
            .i64(offset)
            .i32(MAX_BYTES);
        self.send(FETCH, 4, &body)
    }

    /// The answer to [`Connection::send_fetch`].
    pub(crate) fn fetched(&mut self) -> io::Result<Fetched> {
        let mut answer = self.receive()?;
        answer.i32()?; // throttle
        assert_eq!(answer.count()?, 1, "topics in the answer");
        answer.string()?;
        assert_eq!(answer.count()?, 1, "partitions in the answer");
        answer.i32()?;
        let error = answer.i16()?;
        let high_watermark = answer.i64()?;
        answer.i64()?; // last stable offset
        for _ in 0..answer.count()? {
            answer.i64()?;
            answer.i64()?;
        }
        Ok(Fetched { error, high_watermark, records: answer.bytes()? })
    }

    /// Headers of all batches of a partition.
    pub(crate) fn batches(&mut self, topic: &str, partition: i32) -> Vec<StoredBatch> {
        let mut batches: Vec<StoredBatch> = Vec::new();
        loop {
            let next = batches.last().map_or(0, |last| last.next_offset);
            self.send_fetch(topic, partition, next, 0).unwrap();
            let fetched = self.fetched().unwrap();
            assert_eq!(fetched.error, 0, "fetching {topic}/{partition} at {next}");
            if next >= fetched.high_watermark {
                return batches;
            }
            assert!(!fetched.records.is_empty(), "no progress at {next}");
            batches.extend(parse_batches(&fetched.records));
        }
    }
}

/// What one partition answered to a fetch.
pub(crate) struct Fetched {
    pub(crate) error: i16,
    pub(crate) high_watermark: i64,
    pub(crate) records: Vec<u8>,
}

/// What the header of a stored batch says.
#[derive(Debug)]
pub(crate) struct StoredBatch {
    pub(crate) codec: i16,
    pub(crate) producer_id: i64,
    pub(crate) records: i32,
    next_offset: i64,
}

fn parse_batches(bytes: &[u8]) -> Vec<StoredBatch> {
    let mut batches = Vec::new();
    let mut rest = bytes;
    while !rest.is_empty() {
        let base = i64::from_be_bytes(part(rest, 0));
        let length = 12 + usize::try_from(i32::from_be_bytes(part(rest, 8))).unwrap();
        assert_eq!(rest[16], 2, "magic of the batch at {base}");
        let stored = u32::from_be_bytes(part(rest, 17));
        assert_eq!(stored, crc32c(&rest[21..length]), "CRC of batch {base}");
        batches.push(StoredBatch {
            codec: i16::from_be_bytes(part(rest, 21)) & 7,
            producer_id: i64::from_be_bytes(part(rest, 43)),
            records: i32::from_be_bytes(part(rest, 57)),
            next_offset: base + 1 + i64::from(i32::from_be_bytes(part(rest, 23))),
        });
        rest = &rest[length..];
    }
    batches
}

fn part<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    bytes[at..at + N].try_into().expect("N bytes")
}

/// One uncompressed batch of records without keys.
pub(crate) fn batch(values: &[&[u8]]) -> Vec<u8> {
    let mut records = Vec::new();
    for (delta, value) in values.iter().enumerate() {
        let mut record = vec![0]; // attributes
        varint(&mut record, 0); // timestamp delta
        varint(&mut record, length_of(delta));
        varint(&mut record, -1); // no key
        varint(&mut record, length_of(value.len()));
        record.extend_from_slice(value);
        varint(&mut record, 0); // headers
        varint(&mut records, length_of(record.len()));
        records.extend_from_slice(&record);
    }
    const TIMESTAMP_MS: i64 = 1_790_000_000_000;
    let count = i32::try_from(values.len()).unwrap();
    let checked = Body::default()
        .i16(0) // attributes
        .i32(count - 1)
        .i64(TIMESTAMP_MS)
        .i64(TIMESTAMP_MS)
        .i64(-1) // no producer id,
        .i16(-1) // epoch,
        .i32(-1) // or sequence
        .i32(count)
        .raw(&records);
    let crc = crc32c(&checked.0).to_be_bytes();
    let rest = Body::default().i32(-1).i8(2).raw(&crc).raw(&checked.0);
    Body::default().i64(0).i32(length(&rest.0)).raw(&rest.0).0
}

fn varint(into: &mut Vec<u8>, value: i64) {
    let mut left = (value.wrapping_shl(1) ^ (value >> 63)) as u64;
    while left >= 0x80 {
        into.push(left as u8 | 0x80);
        left >>= 7;
    }
    into.push(left as u8);
}

fn length(bytes: &[u8]) -> i32 {
    i32::try_from(bytes.len()).expect("a frame below 2 GiB")
}

fn length_of(count: usize) -> i64 {
    i64::try_from(count).expect("a count")
}

/// CRC-32C (Castagnoli), bit by bit.
pub(crate) fn crc32c(bytes: &[u8]) -> u32 {
    let mut crc = u32::MAX;
    for byte in bytes {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            crc = if crc & 1 == 1 { (crc >> 1) ^ 0x82F6_3B78 } else { crc >> 1 };
        }
    }
    !crc
}

/// Bytes of a request, field by field.
#[derive(Default)]
pub(crate) struct Body(pub(crate) Vec<u8>);

impl Body {
    pub(crate) fn raw(mut self, bytes: &[u8]) -> Body {
        self.0.extend_from_slice(bytes);
        self
    }

    pub(crate) fn i8(self, value: i8) -> Body {
        self.raw(&value.to_be_bytes())
    }

    pub(crate) fn i16(self, value: i16) -> Body {
        self.raw(&value.to_be_bytes())
    }

    pub(crate) fn i32(self, value: i32) -> Body {
        self.raw(&value.to_be_bytes())
    }

    pub(crate) fn i64(self, value: i64) -> Body {
        self.raw(&value.to_be_bytes())
    }

    pub(crate) fn string(self, text: &str) -> Body {
        let length = i16::try_from(text.len()).expect("a string of the protocol");
        self.i16(length).raw(text.as_bytes())
    }

    pub(crate) fn bytes(self, bytes: &[u8]) -> Body {
        self.i32(length(bytes)).raw(bytes)
    }
}

/// An answer, read field by field.
pub(crate) struct Answer {
    bytes: Vec<u8>,
    at: usize,
}

impl Answer {
    fn take(&mut self, count: usize) -> io::Result<&[u8]> {
        let from = self.at;
        self.at += count;
        self.bytes.get(from..self.at).ok_or_else(|| io::Error::other("the answer is too short"))
    }

    pub(crate) fn i16(&mut self) -> io::Result<i16> {
        Ok(i16::from_be_bytes(part(self.take(2)?, 0)))
    }

    pub(crate) fn i32(&mut self) -> io::Result<i32> {
        Ok(i32::from_be_bytes(part(self.take(4)?, 0)))
    }

    pub(crate) fn i64(&mut self) -> io::Result<i64> {
        Ok(i64::from_be_bytes(part(self.take(8)?, 0)))
    }

    /// The length of an array, where null is empty.
    pub(crate) fn count(&mut self) -> io::Result<usize> {
        Ok(usize::try_from(self.i32()?).unwrap_or(0))
    }

    pub(crate) fn string(&mut self) -> io::Result<String> {
        let length = usize::try_from(self.i16()?).unwrap_or(0);
        Ok(String::from_utf8_lossy(self.take(length)?).into_owned())
    }

    pub(crate) fn bytes(&mut self) -> io::Result<Vec<u8>> {
        let length = self.count()?;
        Ok(self.take(length)?.to_vec())
    }
}

#[test]
fn the_checksum_is_castagnoli() {
    assert_eq!(crc32c(b"123456789"), 0xE306_9283);
}
