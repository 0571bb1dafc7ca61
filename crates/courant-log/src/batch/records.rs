//! The records inside a batch.
//!
//! The write and read paths of the log never come here. Time lookup, tools and tests do, with a bound
//! on what a batch may decompress to.

use std::borrow::Cow;
use std::ops::ControlFlow;

use bytes::Bytes;

use super::codec::compress;
use super::header::{BatchHeader, CRC_AT, CRC_COVERS_FROM, HEADER_BYTES, LENGTH_MIN};
use super::validate::RECORD_BYTES_MIN;
use super::walk::{Walk, open};
use super::{BatchError, Codec, varint};
use crate::crc::crc32c;

/// One event as it is in the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Offset in the partition.
    pub offset: i64,
    /// Milliseconds since 1970; -1 for none.
    pub timestamp: i64,
    /// The key, or null.
    pub key: Option<Bytes>,
    /// The value, or null (a tombstone).
    pub value: Option<Bytes>,
    /// Header names (UTF-8 by convention; not checked here) and values, in order; a name may repeat.
    pub headers: Vec<(Bytes, Option<Bytes>)>,
}

/// One event to be written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NewRecord {
    /// Milliseconds since 1970; -1 for none.
    pub timestamp: i64,
    /// The key, or null.
    pub key: Option<Bytes>,
    /// The value, or null (a tombstone).
    pub value: Option<Bytes>,
    /// Header names (UTF-8) and values, in order.
    pub headers: Vec<(Bytes, Option<Bytes>)>,
}

/// About what the format adds to a record without headers. It is no bound.
const RECORD_OVERHEAD_BYTES: usize = 12;

impl NewRecord {
    /// Bytes of key, value and headers.
    fn payload_bytes(&self) -> usize {
        let length = |bytes: Option<&Bytes>| bytes.map_or(0, Bytes::len);
        let headers = self.headers.iter();
        let headers = headers.map(|(name, value)| name.len() + length(value.as_ref()));
        length(self.key.as_ref()) + length(self.value.as_ref()) + headers.sum::<usize>()
    }
}

/// The idempotent producer that a batch is from (KIP-98).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Producer {
    /// Producer id.
    pub id: i64,
    /// Producer epoch.
    pub epoch: i16,
    /// Sequence of the first record.
    pub base_sequence: i32,
}

/// Why records cannot be taken out of a batch or put into one.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RecordError {
    /// The bytes are not one whole batch.
    #[error(transparent)]
    Batch(#[from] BatchError),
    /// The records take more bytes than the caller allows.
    #[error("the records of the batch take more than {max} bytes once decompressed")]
    TooLarge {
        /// Bytes that were allowed.
        max: usize,
    },
    /// The codec cannot make sense of its data.
    #[error("the batch's {codec} data is damaged: {reason}")]
    Compressed {
        /// The codec.
        codec: Codec,
        /// What its library says.
        reason: String,
    },
    /// A record is not as the format says.
    #[error("record {index} of the batch is damaged: {problem}")]
    Malformed {
        /// Which record, counted from 0.
        index: usize,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// A batch has at least one record.
    #[error("a batch needs at least one record")]
    Empty,
    /// The format has no room for this.
    #[error("these records cannot be one batch: {problem}")]
    Unencodable {
        /// What does not fit.
        problem: &'static str,
    },
}

/// Takes the records out of one whole batch. The checksum is not looked at:
/// see [`verify_crc`](super::verify_crc).
///
/// Keys, values and headers share one buffer of at most `max_decompressed_bytes`. The records around
/// them can take 32 times that when they are made of empty headers.
///
/// # Errors
/// Whatever the bytes are, an error and never a panic.
pub fn decode(batch: &[u8], max_decompressed_bytes: usize) -> Result<Vec<Record>, RecordError> {
    let (header, payload) = open(batch, max_decompressed_bytes)?;
    let payload = Bytes::from(payload.into_owned());
    let walk = Walk::new(&header, &payload)?;
    // The count is a claim; the bytes bound it.
    let count = walk.len().min(payload.len() / RECORD_BYTES_MIN);
    let mut records = Vec::with_capacity(count);
    for outline in walk {
        records.push(outline?.record(&payload, usize::MAX)?);
    }
    Ok(records)
}

/// Shows the records of one whole batch from the offset `first` on, in the order of offsets, until `look`
/// breaks off; returns what it has broken off with. The checksum is not looked at.
///
/// One record is taken out at a time: whatever a batch is made of, it takes `max_decompressed_bytes` and 64
/// bytes for each of `headers_max` headers.
///
/// # Errors
/// As [`decode`], and when a record has more headers than that. The records before it were shown; those
/// behind the one where `look` breaks off are not looked at.
pub fn each<B>(
    batch: &[u8],
    first: i64,
    max_decompressed_bytes: usize,
    headers_max: usize,
    mut look: impl FnMut(Record) -> ControlFlow<B>,
) -> Result<Option<B>, RecordError> {
    let (header, payload) = open(batch, max_decompressed_bytes)?;
    let payload = Bytes::from(payload.into_owned());
    for outline in Walk::new(&header, &payload)? {
        let outline = outline?;
        if outline.offset < first {
            continue;
        }
        if let ControlFlow::Break(end) = look(outline.record(&payload, headers_max)?) {
            return Ok(Some(end));
        }
    }
    Ok(None)
}

/// The first records of one whole batch that have no key, at most so many of them, by their index in it:
/// compaction has no place for them. A small batch may unpack to millions.
///
/// # Errors
/// As [`decode`].
pub fn without_key(
    batch: &[u8],
    most: usize,
    max_decompressed_bytes: usize,
) -> Result<Vec<usize>, RecordError> {
    let (header, payload) = open(batch, max_decompressed_bytes)?;
    let mut without = Vec::new();
    for (index, outline) in Walk::new(&header, &payload)?.enumerate() {
        if without.len() == most {
            break;
        }
        if !outline?.has_key()? {
            without.push(index);
        }
    }
    Ok(without)
}

/// The first records of one whole batch whose timestamps `check` does not take, at most so many of them: each by its
/// index in the batch, with what `check` says. A small batch may unpack to millions.
///
/// # Errors
/// As [`decode`].
pub fn refused_timestamps<E>(
    batch: &[u8],
    most: usize,
    max_decompressed_bytes: usize,
    check: impl Fn(i64) -> Result<(), E>,
) -> Result<Vec<(usize, E)>, RecordError> {
    let (header, payload) = open(batch, max_decompressed_bytes)?;
    let mut refused = Vec::new();
    for (index, outline) in Walk::new(&header, &payload)?.enumerate() {
        if refused.len() == most {
            break;
        }
        if let Err(error) = check(outline?.timestamp) {
            refused.push((index, error));
        }
    }
    Ok(refused)
}

/// The first record of one whole batch, from the offset `from` on, with a timestamp at or after `timestamp_ms`,
/// as offset and timestamp. "First" is by offset: timestamps need not ascend.
///
/// # Errors
/// As [`decode`].
pub fn first_at_or_after(
    batch: &[u8],
    timestamp_ms: i64,
    from: u64,
    max_decompressed_bytes: usize,
) -> Result<Option<(i64, i64)>, RecordError> {
    let (header, payload) = open(batch, max_decompressed_bytes)?;
    for outline in Walk::new(&header, &payload)? {
        let outline = outline?;
        let is_there = u64::try_from(outline.offset).is_ok_and(|offset| offset >= from);
        if is_there && outline.timestamp >= timestamp_ms {
            return Ok(Some((outline.offset, outline.timestamp)));
        }
    }
    Ok(None)
}

/// The first of the records with the greatest timestamp in one whole batch, from the offset `from` on, as offset and
/// timestamp. None when the batch has no records there.
///
/// # Errors
/// As [`decode`].
pub fn max_timestamp_record(
    batch: &[u8],
    from: u64,
    max_decompressed_bytes: usize,
) -> Result<Option<(i64, i64)>, RecordError> {
    let (header, payload) = open(batch, max_decompressed_bytes)?;
    let mut newest: Option<(i64, i64)> = None;
    for outline in Walk::new(&header, &payload)? {
        let outline = outline?;
        let is_there = u64::try_from(outline.offset).is_ok_and(|offset| offset >= from);
        if is_there && newest.is_none_or(|(_, timestamp)| outline.timestamp > timestamp) {
            newest = Some((outline.offset, outline.timestamp));
        }
    }
    Ok(newest)
}

/// Makes one batch of records, as a client would: base offset 0, leader epoch -1.
///
/// # Errors
/// [`RecordError::Empty`], [`RecordError::Unencodable`], or what a compressor says.
pub fn encode(records: &[NewRecord], codec: Codec, producer: Option<Producer>) -> Result<Bytes, RecordError> {
    encode_whole(records, codec, producer).map(|(_, bytes)| bytes)
}

/// As [`encode`], with the header that the bytes begin with.
pub(super) fn encode_whole(
    records: &[NewRecord],
    codec: Codec,
    producer: Option<Producer>,
) -> Result<(BatchHeader, Bytes), RecordError> {
    let first = records.first().ok_or(RecordError::Empty)?;
    let record_count = i32::try_from(records.len()).map_err(|_| too_large())?;
    // The records are written where they will be: behind the header, which is known when they are there.
    let mut out = Vec::with_capacity(HEADER_BYTES + room_bytes(records));
    out.extend_from_slice(&[0; HEADER_BYTES]);
    let mut max_timestamp = first.timestamp;
    for (offset_delta, record) in (0i64..).zip(records) {
        let timestamp_delta = record
            .timestamp
            .checked_sub(first.timestamp)
            .ok_or(RecordError::Unencodable { problem: "the timestamps are too far apart" })?;
        max_timestamp = max_timestamp.max(record.timestamp);
        let length = body_bytes(record, timestamp_delta, offset_delta);
        let length = i32::try_from(length).map_err(|_| too_large())?;
        varint::put(&mut out, i64::from(length));
        put_body(&mut out, record, timestamp_delta, offset_delta);
    }
    let packed = match compress(codec, &out[HEADER_BYTES..])? {
        Cow::Owned(packed) => Some(packed),
        Cow::Borrowed(_) => None,
    };
    if let Some(packed) = packed {
        out = [&[0_u8; HEADER_BYTES][..], packed.as_slice()].concat();
    }
    let batch_length = i32::try_from(out.len() - HEADER_BYTES)
        .ok()
        .and_then(|bytes| bytes.checked_add(LENGTH_MIN))
        .ok_or_else(too_large)?;
    let producer = producer.unwrap_or(Producer { id: -1, epoch: -1, base_sequence: -1 });
    let mut header = BatchHeader {
        base_offset: 0,
        batch_length,
        leader_epoch: -1,
        crc: 0,
        attributes: i16::from(codec.id()),
        last_offset_delta: record_count - 1,
        base_timestamp: first.timestamp,
        max_timestamp,
        producer_id: producer.id,
        producer_epoch: producer.epoch,
        base_sequence: producer.base_sequence,
        record_count,
    };
    out[..HEADER_BYTES].copy_from_slice(&header.to_bytes());
    let crc = crc32c(&out[CRC_COVERS_FROM..]);
    out[CRC_AT..CRC_COVERS_FROM].copy_from_slice(&crc.to_be_bytes());
    header.crc = crc;
    Ok((header, Bytes::from(out)))
}

/// About how many bytes records take without compression. Exact for one: a buffer that is full becomes [`Bytes`]
/// without an allocation of its own.
fn room_bytes(records: &[NewRecord]) -> usize {
    if let [one] = records {
        let body_bytes = body_bytes(one, 0, 0);
        return varint::bytes(body_bytes as i64) + body_bytes;
    }
    let payload_bytes: usize = records.iter().map(NewRecord::payload_bytes).sum();
    payload_bytes + records.len() * RECORD_OVERHEAD_BYTES
}

fn too_large() -> RecordError {
    RecordError::Unencodable { problem: "a batch has less than 2 GiB" }
}

/// Bytes that [`put_body`] appends.
fn body_bytes(record: &NewRecord, timestamp_delta: i64, offset_delta: i64) -> usize {
    let headers = record.headers.iter();
    let headers = headers.map(|(name, value)| nullable_bytes(Some(name)) + nullable_bytes(value.as_ref()));
    1 + varint::bytes(timestamp_delta)
        + varint::bytes(offset_delta)
        + nullable_bytes(record.key.as_ref())
        + nullable_bytes(record.value.as_ref())
        + varint::bytes(record.headers.len() as i64)
        + headers.sum::<usize>()
}

fn nullable_bytes(bytes: Option<&Bytes>) -> usize {
    bytes.map_or(varint::bytes(-1), |bytes| varint::bytes(bytes.len() as i64) + bytes.len())
}

fn put_body(out: &mut Vec<u8>, record: &NewRecord, timestamp_delta: i64, offset_delta: i64) {
    // Attributes; none exist.
    out.push(0);
    varint::put(out, timestamp_delta);
    varint::put(out, offset_delta);
    put_nullable(out, record.key.as_ref());
    put_nullable(out, record.value.as_ref());
    varint::put(out, record.headers.len() as i64);
    for (name, value) in &record.headers {
        put_nullable(out, Some(name));
        put_nullable(out, value.as_ref());
    }
}

fn put_nullable(out: &mut Vec<u8>, bytes: Option<&Bytes>) {
    match bytes {
        Some(bytes) => {
            varint::put(out, bytes.len() as i64);
            out.extend_from_slice(bytes);
        }
        None => varint::put(out, -1),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAX: usize = 1024 * 1024;

    fn new(timestamp: i64, value: &'static str) -> NewRecord {
        NewRecord { timestamp, value: Some(Bytes::from_static(value.as_bytes())), ..NewRecord::default() }
    }

    fn rich() -> NewRecord {
        NewRecord {
            timestamp: 500,
            key: Some(Bytes::from_static(b"key")),
            value: None,
            headers: vec![
                (Bytes::from_static(b"a"), Some(Bytes::from_static(b"1"))),
                (Bytes::from_static(b"a"), None),
                (Bytes::new(), Some(Bytes::new())),
            ],
        }
    }

    /// A batch around hand-made records.
    fn wrap(count: i32, payload: &[u8]) -> Vec<u8> {
        let mut header = BatchHeader::parse(&encode(&[rich()], Codec::None, None).unwrap()).unwrap();
        header.batch_length = LENGTH_MIN + payload.len() as i32;
        header.record_count = count;
        header.last_offset_delta = count.saturating_sub(1);
        [&header.to_bytes()[..], payload].concat()
    }

    #[test]
    fn every_field_comes_back_through_every_codec() {
        let records = [new(1000, "first"), rich(), new(2000, "")];
        for codec in Codec::ALL {
            let batch = encode(&records, codec, None).unwrap();
            let header = BatchHeader::parse(&batch).unwrap();
            assert_eq!(header.codec(), Ok(codec));
            assert_eq!((header.base_timestamp, header.max_timestamp), (1000, 2000));
            let back = decode(&batch, MAX).unwrap();
            assert_eq!(back.len(), records.len());
            for (offset, (old, new)) in (0i64..).zip(back.into_iter().zip(&records)) {
                assert_eq!(old.offset, offset);
                assert_eq!(old.timestamp, new.timestamp);
                assert_eq!((old.key, old.value), (new.key.clone(), new.value.clone()));
                assert_eq!(old.headers, new.headers);
            }
        }
    }

    /// What a record says of its own length is said before it is written.
    #[test]
    fn lengths_are_those_of_what_is_written() {
        let bytes = |count: usize| Some(Bytes::from(vec![7; count]));
        for count in [0, 1, 63, 64, 8191, 8192, 100_000] {
            let headers = vec![(Bytes::from(vec![b'n'; count]), bytes(count)), (Bytes::new(), None)];
            for record in [
                NewRecord { value: bytes(count), ..NewRecord::default() },
                NewRecord { key: bytes(count), headers, ..rich() },
            ] {
                for (timestamp_delta, offset_delta) in [(0, 0), (-1, 63), (i64::MIN, 64), (1 << 40, 9999)] {
                    let mut out = Vec::new();
                    put_body(&mut out, &record, timestamp_delta, offset_delta);
                    assert_eq!(body_bytes(&record, timestamp_delta, offset_delta), out.len());
                }
            }
        }
    }

    #[test]
    fn one_record_leaves_nothing_of_its_buffer_unused() {
        let bytes = |count: usize| Some(Bytes::from(vec![7; count]));
        let values = [0, 50, 100, 8191, 100_000].map(bytes);
        let records = values.map(|value| NewRecord { timestamp: 1 << 40, value, ..rich() });
        for record in records {
            let buffer = Vec::from(encode(&[record], Codec::None, None).unwrap());
            assert_eq!(buffer.capacity(), buffer.len());
        }
    }

    #[test]
    fn records_are_shown_from_an_offset_until_somebody_breaks_off() {
        let records: Vec<NewRecord> = (0..5).map(|at| new(at, "v")).collect();
        for codec in Codec::ALL {
            let batch = encode(&records, codec, None).unwrap();
            let mut seen = Vec::new();
            let ended = each(&batch, 2, MAX, 0, |record| {
                seen.push(record.offset);
                if record.offset == 3 { ControlFlow::Break("here") } else { ControlFlow::Continue(()) }
            });
            assert_eq!((ended, seen), (Ok(Some("here")), vec![2, 3]));
        }
        // Two records are counted, and one is there.
        let cut = wrap(2, &[12, 0, 0, 0, 1, 1, 0]);
        assert_eq!(each(&cut, 0, MAX, 0, |_| ControlFlow::Break(())), Ok(Some(())));
        assert!(each(&cut, 0, MAX, 0, |_| ControlFlow::<()>::Continue(())).is_err());
    }

    #[test]
    fn too_many_headers_are_an_error_and_take_no_memory() {
        let batch = encode(&[new(0, "v"), rich()], Codec::Zstd, None).unwrap();
        let shown = |headers_max: usize| {
            let mut shown = 0;
            let ended = each(&batch, 0, MAX, headers_max, |_| {
                shown += 1;
                ControlFlow::<()>::Continue(())
            });
            (ended.is_ok(), shown)
        };
        assert_eq!(shown(3), (true, 2));
        assert_eq!(shown(2), (false, 1));
    }

    #[test]
    fn offsets_follow_the_base_offset() {
        let batch = encode(&[new(0, "a"), new(0, "b")], Codec::Lz4, None).unwrap();
        let mut batch = batch.to_vec();
        crate::batch::set_base_offset(&mut batch, 41);
        let offsets: Vec<i64> = decode(&batch, MAX).unwrap().iter().map(|r| r.offset).collect();
        assert_eq!(offsets, [41, 42]);
        crate::batch::set_base_offset(&mut batch, i64::MAX);
        assert!(matches!(decode(&batch, MAX), Err(RecordError::Malformed { index: 1, .. })));
    }

    #[test]
    fn time_lookup_goes_by_offset() {
        let times = [10, 30, 20, 30, 5];
        let records: Vec<NewRecord> = times.iter().map(|t| new(*t, "v")).collect();
        for codec in Codec::ALL {
            let batch = encode(&records, codec, None).unwrap();
            let at = |ms| first_at_or_after(&batch, ms, 0, MAX).unwrap();
            assert_eq!(at(i64::MIN), Some((0, 10)));
            assert_eq!(at(10), Some((0, 10)));
            assert_eq!(at(11), Some((1, 30)));
            assert_eq!(at(30), Some((1, 30)));
            assert_eq!(at(31), None);
            let behind = |ms, from| first_at_or_after(&batch, ms, from, MAX).unwrap();
            assert_eq!(behind(10, 2), Some((2, 20)));
            assert_eq!(behind(21, 2), Some((3, 30)));
            assert_eq!(behind(10, 4), None);
            assert_eq!(behind(10, 5), None);
            let newest_from = |from| max_timestamp_record(&batch, from, MAX).unwrap();
            assert_eq!(newest_from(0), Some((1, 30)));
            assert_eq!(newest_from(2), Some((3, 30)));
            assert_eq!(newest_from(4), Some((4, 5)));
            assert_eq!(newest_from(5), None);
        }
    }

    /// The header says what the producer believes of its records. Each of them is asked.
    #[test]
    fn every_records_timestamp_is_checked_whatever_the_header_says() {
        let times = [20, 5, -1, 30, 5];
        let records: Vec<NewRecord> = times.iter().map(|t| new(*t, "v")).collect();
        let check = |timestamp: i64| if timestamp == 5 || timestamp == 30 { Err(timestamp) } else { Ok(()) };
        for codec in Codec::ALL {
            let batch = encode(&records, codec, None).unwrap();
            let silent = BatchHeader { max_timestamp: 20, ..BatchHeader::parse(&batch).unwrap() };
            let silent = [&silent.to_bytes()[..], &batch[HEADER_BYTES..]].concat();
            for batch in [&batch[..], &silent[..]] {
                let refused = |most| refused_timestamps(batch, most, MAX, check).unwrap();
                assert_eq!(refused(9), [(1, 5), (3, 30), (4, 5)]);
                assert_eq!(refused(2), [(1, 5), (3, 30)]);
                let none = refused_timestamps(batch, 9, MAX, |_| Ok::<(), ()>(()));
                assert_eq!(none, Ok(Vec::new()));
            }
        }
    }

    #[test]
    fn log_append_time_is_every_records_time() {
        let batch = encode(&[new(1, "a"), new(2, "b")], Codec::None, None).unwrap();
        let mut header = BatchHeader::parse(&batch).unwrap();
        header.attributes |= 1 << 3;
        header.max_timestamp = 777;
        let batch = [&header.to_bytes()[..], &batch[HEADER_BYTES..]].concat();
        assert!(decode(&batch, MAX).unwrap().iter().all(|r| r.timestamp == 777));
        assert_eq!(first_at_or_after(&batch, 777, 0, MAX), Ok(Some((0, 777))));
        assert_eq!(first_at_or_after(&batch, 778, 0, MAX), Ok(None));
        assert_eq!(max_timestamp_record(&batch, 0, MAX), Ok(Some((0, 777))));
    }

    #[test]
    fn damaged_records_are_errors() {
        let cases: [(i32, &[u8], &str); 15] = [
            (1, &[], "no records"),
            (2, &[12, 0, 0, 0, 1, 1, 0], "fewer than counted"),
            (1, &[12, 0, 0, 0, 1, 1, 0, 0], "bytes after the last"),
            (1, &[14, 0, 0, 0, 1, 1, 0, 0], "bytes after the headers"),
            (1, &[14, 0, 0, 0, 1, 1, 0], "longer than the batch"),
            (1, &[1, 0, 0, 0, 1, 1, 0], "length -1"),
            (1, &[0], "length 0"),
            (1, &[12, 0, 0, 2, 1, 1, 0], "offset past the last"),
            (1, &[12, 0, 0, 1, 1, 1, 0], "offset -1"),
            (1, &[12, 0, 0, 0, 3, 1, 0], "key length -2"),
            (1, &[12, 0, 0, 0, 1, 80, 0], "value cut off"),
            (1, &[12, 0, 0, 0, 1, 1, 1], "headers -1"),
            (1, &[16, 0, 0, 0, 1, 1, 4, 0, 1], "two headers, one there"),
            (1, &[16, 0, 0, 0, 1, 1, 2, 1, 1], "null header name"),
            (-1, &[], "negative count"),
        ];
        for (count, payload, what) in cases {
            assert!(decode(&wrap(count, payload), MAX).is_err(), "{what}");
        }
        let fine = wrap(1, &[12, 0, 0, 0, 1, 1, 0]);
        assert_eq!(decode(&fine, MAX).unwrap().len(), 1);
    }

    #[test]
    fn claimed_counts_reserve_nothing() {
        assert!(decode(&wrap(i32::MAX, &[12, 0, 0, 0, 1, 1, 0]), MAX).is_err());
        let mut headers = vec![20, 0, 0, 0, 1, 1];
        varint::put(&mut headers, i64::from(i32::MAX));
        assert!(decode(&wrap(1, &headers), MAX).is_err());
    }

    #[test]
    fn what_is_not_one_whole_batch_is_refused() {
        let batch = encode(&[rich()], Codec::None, None).unwrap();
        for end in 0..batch.len() {
            assert!(matches!(
                decode(&batch[..end], MAX),
                Err(RecordError::Batch(BatchError::Truncated { .. }))
            ));
        }
        assert!(matches!(
            decode(&batch.repeat(2), MAX),
            Err(RecordError::Batch(BatchError::MoreThanOne { .. }))
        ));
    }

    #[test]
    fn what_cannot_be_encoded_is_named() {
        assert_eq!(encode(&[], Codec::None, None), Err(RecordError::Empty));
        assert!(matches!(
            encode(&[new(-1, ""), new(i64::MAX, "")], Codec::None, None),
            Err(RecordError::Unencodable { .. })
        ));
    }
}
