//! Going from record to record within a batch.

use std::borrow::Cow;

use bytes::Bytes;

use super::codec::decompress;
use super::header::{BatchHeader, HEADER_BYTES};
use super::records::{Record, RecordError};
use super::validate::whole;
use super::{BatchError, varint};

/// Fewest bytes of a record's header: two lengths.
const RECORD_HEADER_BYTES_MIN: usize = 2;

/// The header and the decompressed records of one whole batch.
pub(super) fn open(batch: &[u8], max: usize) -> Result<(BatchHeader, Cow<'_, [u8]>), RecordError> {
    let header = whole(batch)?;
    let payload = decompress(header.codec()?, &batch[HEADER_BYTES..], max)?;
    Ok((header, payload))
}

/// Goes from record to record. Ends after the first error.
pub(super) struct Walk<'a> {
    header: BatchHeader,
    rest: &'a [u8],
    index: usize,
    count: usize,
}

/// What a record says before its key, and the bytes after that.
pub(super) struct Outline<'a> {
    index: usize,
    pub(super) offset: i64,
    pub(super) timestamp: i64,
    rest: &'a [u8],
}

impl<'a> Walk<'a> {
    pub(super) fn new(header: &BatchHeader, payload: &'a [u8]) -> Result<Self, RecordError> {
        let count = usize::try_from(header.record_count).map_err(|_| BatchError::CountMismatch {
            count: header.record_count,
            last_offset_delta: header.last_offset_delta,
        })?;
        Ok(Self { header: *header, rest: payload, index: 0, count })
    }

    /// Records by the header; the bytes may hold fewer.
    pub(super) fn len(&self) -> usize {
        self.count
    }

    fn outline(&mut self) -> Result<Outline<'a>, RecordError> {
        let index = self.index;
        let bad = |problem| RecordError::Malformed { index, problem };
        let length = varint::take32(&mut self.rest).ok_or_else(|| bad("it has no length"))?;
        let length = usize::try_from(length).map_err(|_| bad("its length is negative"))?;
        let (mut record, rest) =
            self.rest.split_at_checked(length).ok_or_else(|| bad("it is longer than the batch"))?;
        self.rest = rest;
        self.index += 1;
        // Attributes; none exist.
        record = record.get(1..).ok_or_else(|| bad("it is empty"))?;
        let timestamp_delta = varint::take64(&mut record).ok_or_else(|| bad("it has no timestamp"))?;
        let offset_delta = varint::take32(&mut record).ok_or_else(|| bad("it has no offset"))?;
        if !(0..=self.header.last_offset_delta).contains(&offset_delta) {
            return Err(bad("its offset is not one of the batch's"));
        }
        let offset = self
            .header
            .base_offset
            .checked_add(i64::from(offset_delta))
            .ok_or_else(|| bad("its offset is out of range"))?;
        let timestamp = if self.header.is_log_append_time() {
            self.header.max_timestamp
        } else {
            self.header
                .base_timestamp
                .checked_add(timestamp_delta)
                .ok_or_else(|| bad("its timestamp is out of range"))?
        };
        Ok(Outline { index, offset, timestamp, rest: record })
    }
}

impl<'a> Iterator for Walk<'a> {
    type Item = Result<Outline<'a>, RecordError>;

    fn next(&mut self) -> Option<Self::Item> {
        let result = if self.index < self.count {
            self.outline()
        } else if self.rest.is_empty() {
            return None;
        } else {
            Err(RecordError::Malformed { index: self.index, problem: "bytes follow the last record" })
        };
        if result.is_err() {
            self.count = self.index;
            self.rest = &[];
        }
        Some(result)
    }
}

impl Outline<'_> {
    /// Whether the record has no headers. One that is not as the format says is none of those: what is wrong
    /// with it says [`Self::record`].
    pub(super) fn is_bare(&self) -> bool {
        let mut rest = self.rest;
        // A count of no headers is one byte, and the last.
        skip_nullable(&mut rest).is_some() && skip_nullable(&mut rest).is_some() && *rest == [0]
    }

    /// Bytes behind its offset.
    pub(super) fn bytes(&self) -> usize {
        self.rest.len()
    }

    /// Whether the record has a key, an empty one included.
    pub(super) fn has_key(&self) -> Result<bool, RecordError> {
        let bad = RecordError::Malformed { index: self.index, problem: "its key is cut off" };
        Ok(varint::take32(&mut &*self.rest).ok_or(bad)? >= 0)
    }

    /// The whole record, of at most `headers_max` headers. `payload` is what this was taken from; keys and
    /// values refer to it.
    pub(super) fn record(self, payload: &Bytes, headers_max: usize) -> Result<Record, RecordError> {
        let index = self.index;
        let bad = |problem| RecordError::Malformed { index, problem };
        let mut rest = self.rest;
        let key = take_nullable(&mut rest, payload).ok_or_else(|| bad("its key is cut off"))?;
        let value = take_nullable(&mut rest, payload).ok_or_else(|| bad("its value is cut off"))?;
        let claimed = varint::take32(&mut &*rest).unwrap_or(0);
        if usize::try_from(claimed).is_ok_and(|count| count > headers_max) {
            return Err(bad("it has more headers than are read here"));
        }
        let headers = take_headers(&mut rest, payload).ok_or_else(|| bad("its headers are cut off"))?;
        if !rest.is_empty() {
            return Err(bad("bytes follow its headers"));
        }
        Ok(Record { offset: self.offset, timestamp: self.timestamp, key, value, headers })
    }
}

/// Bytes behind a length, -1 for null. The outer None means that they are not there.
fn take_nullable(rest: &mut &[u8], payload: &Bytes) -> Option<Option<Bytes>> {
    match varint::take32(rest)? {
        -1 => Some(None),
        length => {
            let (bytes, tail) = rest.split_at_checked(usize::try_from(length).ok()?)?;
            *rest = tail;
            Some(Some(payload.slice_ref(bytes)))
        }
    }
}

/// Passes over bytes behind a length, -1 for null. `None` means that they are not there.
fn skip_nullable(rest: &mut &[u8]) -> Option<()> {
    match varint::take32(rest)? {
        -1 => {}
        length => *rest = rest.get(usize::try_from(length).ok()?..)?,
    }
    Some(())
}

fn take_headers(rest: &mut &[u8], payload: &Bytes) -> Option<Vec<(Bytes, Option<Bytes>)>> {
    let count = usize::try_from(varint::take32(rest)?).ok()?;
    if count > rest.len() / RECORD_HEADER_BYTES_MIN {
        return None;
    }
    let mut headers = Vec::with_capacity(count);
    for _ in 0..count {
        let name = take_nullable(rest, payload)??;
        let value = take_nullable(rest, payload)?;
        headers.push((name, value));
    }
    Some(headers)
}
