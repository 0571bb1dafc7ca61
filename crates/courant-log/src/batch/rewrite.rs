//! Rewriting whole batches: with the time of append, under another codec, with fewer records.
//!
//! Offsets, sequences and the bytes of each record never change. A batch is compared with its checksum
//! before it gets a new one, so that damage never comes to look sound.

use super::codec::compress;
use super::header::{
    BatchHeader, CODEC_BITS, CRC_AT, CRC_COVERS_FROM, HEADER_BYTES, LENGTH_MIN, LOG_APPEND_TIME_BIT,
};
use super::records::RecordError;
use super::walk::{Walk, open};
use super::{BatchError, Codec, varint, verify_crc};
use crate::crc::crc32c;
use crate::limits::MESSAGE_BYTES_MAX;

/// The second byte of the attributes, with the bits that have a meaning.
const ATTRIBUTES_LOW_AT: usize = CRC_COVERS_FROM + 1;

const MAX_TIMESTAMP_AT: usize = 35;
const MAX_TIMESTAMP_END: usize = MAX_TIMESTAMP_AT + size_of::<i64>();

/// Why a batch cannot be rewritten. It is left as it is.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RewriteError {
    /// The bytes are not one whole batch, or not those that were checksummed.
    #[error(transparent)]
    Batch(#[from] BatchError),
    /// The checksum is right, but the records cannot be taken out. The same bytes and the same bound give
    /// this error every time.
    #[error(transparent)]
    Records(#[from] RecordError),
    /// The compressor failed.
    #[error(transparent)]
    Compressor(RecordError),
    /// The batch would be longer than any batch may be.
    #[error("the batch would have {bytes} bytes, the most is {max}")]
    TooLong {
        /// Bytes that it would have.
        bytes: usize,
        /// Bytes that it may have.
        max: usize,
    },
}

/// What decides whether a record stays.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeptRecord<'a> {
    /// Offset in the partition.
    pub offset: u64,
    /// Milliseconds since 1970, -1 for none; the time of append where the batch has that.
    pub timestamp_ms: i64,
    /// The key, or null.
    pub key: Option<&'a [u8]>,
    /// Whether the value is null.
    pub is_tombstone: bool,
}

/// What is left of a batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kept {
    /// Every record: the bytes are those that were given.
    All,
    /// Some records, in a new batch.
    Some(Vec<u8>),
    /// No record, also of a batch that had none.
    None,
}

/// Makes `now_ms` the timestamp of every record: sets the flag for the time of append and the newest
/// timestamp, and renews the checksum. Base timestamp and records stay: readers do not look at them then.
///
/// # Panics
/// When `batch` is shorter than a header. Callers hold a validated batch, and nothing behind it.
pub fn with_append_time(batch: &mut [u8], now_ms: i64) {
    batch[ATTRIBUTES_LOW_AT] |= LOG_APPEND_TIME_BIT as u8;
    batch[MAX_TIMESTAMP_AT..MAX_TIMESTAMP_END].copy_from_slice(&now_ms.to_be_bytes());
    renew_crc(batch);
}

/// The same records under another codec. Of the header, only codec, length and checksum change. A batch
/// that has the codec already comes back as it is, and so does a control batch and one without records.
///
/// # Errors
/// [`RewriteError`]: the records must fit into `decompressed_bytes_max`, and the new batch into
/// [`MESSAGE_BYTES_MAX`].
pub fn recompressed(
    batch: &[u8],
    codec: Codec,
    decompressed_bytes_max: usize,
) -> Result<Vec<u8>, RewriteError> {
    verify_crc(batch)?;
    let header = BatchHeader::parse(batch)?;
    if header.codec()? == codec || header.is_control() || header.record_count == 0 {
        return Ok(batch.to_vec());
    }
    let (header, payload) = open(batch, decompressed_bytes_max)?;
    let attributes = (header.attributes & !CODEC_BITS) | i16::from(codec.id());
    compressed(BatchHeader { attributes, ..header }, &payload)
}

/// Shows every record of one whole batch, in the order of offsets. A control batch has none to show.
/// Nothing is shown before the whole batch has been found to be in order.
///
/// # Errors
/// [`RewriteError::Batch`], [`RewriteError::Records`].
pub fn each(
    batch: &[u8],
    decompressed_bytes_max: usize,
    mut show: impl FnMut(&KeptRecord<'_>),
) -> Result<(), RewriteError> {
    verify_crc(batch)?;
    if BatchHeader::parse(batch)?.is_control() {
        return Ok(());
    }
    let (header, payload) = open(batch, decompressed_bytes_max)?;
    visit(&header, &payload, |_| {})?;
    visit(&header, &payload, |framed| show(&framed.record))?;
    Ok(())
}

/// The batch with only the records for which `keep` says true, under the same codec.
///
/// Base offset, last offset delta, base timestamp, producer, epoch and base sequence stay; the record
/// count and the newest timestamp follow what is left. Control batches stay whole, and `keep` is not
/// asked. It is asked about each record once, in the order of offsets, and about none before the whole
/// batch has been found to be in order.
///
/// # Errors
/// [`RewriteError`]: the records must fit into `decompressed_bytes_max`. The new batch can be longer than
/// the old one when a better compressor made that, but not longer than [`MESSAGE_BYTES_MAX`].
pub fn kept(
    batch: &[u8],
    decompressed_bytes_max: usize,
    mut keep: impl FnMut(&KeptRecord<'_>) -> bool,
) -> Result<Kept, RewriteError> {
    verify_crc(batch)?;
    if BatchHeader::parse(batch)?.is_control() {
        return Ok(Kept::All);
    }
    let (header, payload) = open(batch, decompressed_bytes_max)?;
    visit(&header, &payload, |_| {})?;
    let mut record_count = 0;
    let mut newest_ms: Option<i64> = None;
    // Stays None as long as every record stays, so that nothing is copied then.
    let mut remaining: Option<Vec<u8>> = None;
    visit(&header, &payload, |framed| {
        if keep(&framed.record) {
            record_count += 1;
            newest_ms = newest_ms.max(Some(framed.record.timestamp_ms));
            if let Some(remaining) = &mut remaining {
                remaining.extend_from_slice(framed.bytes);
            }
        } else if remaining.is_none() {
            remaining = Some(payload[..framed.start].to_vec());
        }
    })?;
    let Some(max_timestamp) = newest_ms else { return Ok(Kept::None) };
    let Some(remaining) = remaining else { return Ok(Kept::All) };
    compressed(BatchHeader { record_count, max_timestamp, ..header }, &remaining).map(Kept::Some)
}

/// The batch without its records, and so without a codec. Offsets, timestamps, producer, epoch and
/// sequence stay: a producer's state can be rebuilt from it, and a segment with it alone still has an age.
///
/// # Errors
/// [`RewriteError::Batch`].
pub fn emptied(batch: &[u8]) -> Result<Vec<u8>, RewriteError> {
    verify_crc(batch)?;
    let header = BatchHeader::parse(batch)?;
    let attributes = header.attributes & !CODEC_BITS;
    assembled(BatchHeader { attributes, record_count: 0, ..header }, &[])
}

/// One record and where it stands among the decompressed records.
struct Framed<'a> {
    record: KeptRecord<'a>,
    start: usize,
    /// Its length and all that follows it.
    bytes: &'a [u8],
}

/// Goes from record to record. What a record has behind its value is not looked at: it is copied as it is.
fn visit<'a>(
    header: &BatchHeader,
    payload: &'a [u8],
    mut each: impl FnMut(Framed<'a>),
) -> Result<(), RecordError> {
    let mut rest = payload;
    let mut last: Option<u64> = None;
    for (index, outline) in Walk::new(header, payload)?.enumerate() {
        let outline = outline?;
        let bad = |problem| RecordError::Malformed { index, problem };
        let start = payload.len() - rest.len();
        let (key, is_tombstone) =
            take_record(&mut rest).ok_or_else(|| bad("its key or its value is cut off"))?;
        let offset = u64::try_from(outline.offset).map_err(|_| bad("its offset is negative"))?;
        if last.is_some_and(|last| last >= offset) {
            return Err(bad("its offset does not follow the one before"));
        }
        last = Some(offset);
        let record = KeptRecord { offset, timestamp_ms: outline.timestamp, key, is_tombstone };
        each(Framed { record, start, bytes: &payload[start..payload.len() - rest.len()] });
    }
    Ok(())
}

/// Takes a record off the front: its key, and whether its value is null. None when that is not there.
fn take_record<'a>(rest: &mut &'a [u8]) -> Option<(Option<&'a [u8]>, bool)> {
    let length = usize::try_from(varint::take32(rest)?).ok()?;
    let (record, tail) = rest.split_at_checked(length)?;
    *rest = tail;
    // Behind the attributes.
    let mut record = record.get(1..)?;
    let _timestamp_delta = varint::take64(&mut record)?;
    let _offset_delta = varint::take32(&mut record)?;
    let key = match varint::take32(&mut record)? {
        -1 => None,
        length => {
            let (key, tail) = record.split_at_checked(usize::try_from(length).ok()?)?;
            record = tail;
            Some(key)
        }
    };
    match varint::take32(&mut record)? {
        -1 => Some((key, true)),
        length => {
            let length = usize::try_from(length).ok()?;
            (length <= record.len()).then_some((key, false))
        }
    }
}

/// A batch of this header, its records compressed by the header's codec.
fn compressed(header: BatchHeader, payload: &[u8]) -> Result<Vec<u8>, RewriteError> {
    let packed = compress(header.codec()?, payload).map_err(RewriteError::Compressor)?;
    assembled(header, &packed)
}

/// A batch of this header around compressed records; length and checksum are made here.
fn assembled(header: BatchHeader, packed: &[u8]) -> Result<Vec<u8>, RewriteError> {
    let bytes = HEADER_BYTES + packed.len();
    let batch_length = match i32::try_from(packed.len()) {
        Ok(length) if bytes <= MESSAGE_BYTES_MAX => LENGTH_MIN + length,
        _ => return Err(RewriteError::TooLong { bytes, max: MESSAGE_BYTES_MAX }),
    };
    let mut batch = Vec::with_capacity(bytes);
    batch.extend_from_slice(&BatchHeader { batch_length, ..header }.to_bytes());
    batch.extend_from_slice(packed);
    renew_crc(&mut batch);
    Ok(batch)
}

/// `batch` is one whole batch.
fn renew_crc(batch: &mut [u8]) {
    let crc = crc32c(&batch[CRC_COVERS_FROM..]);
    batch[CRC_AT..CRC_COVERS_FROM].copy_from_slice(&crc.to_be_bytes());
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::batch::records::{
        NewRecord, Producer, Record, decode, encode, first_at_or_after, max_timestamp_record, without_key,
    };
    use crate::batch::set_base_offset;

    const MAX: usize = 1024 * 1024;
    const BASE_OFFSET: i64 = 1 << 40;

    fn new(timestamp: i64, key: Option<&'static str>, value: Option<&'static str>) -> NewRecord {
        let bytes = |text: &'static str| Bytes::from_static(text.as_bytes());
        NewRecord {
            timestamp,
            key: key.map(bytes),
            value: value.map(bytes),
            headers: vec![(Bytes::from_static(b"name"), None)],
        }
    }

    /// Four records: timestamps do not ascend, the third is a tombstone, the last has no key.
    fn four(codec: Codec) -> Vec<u8> {
        let records = [
            new(1000, Some("a"), Some("one")),
            new(1300, Some("b"), Some("")),
            new(900, Some("a"), None),
            new(1200, None, Some("two")),
        ];
        let producer = Producer { id: 7, epoch: 2, base_sequence: i32::MAX - 1 };
        let mut batch = encode(&records, codec, Some(producer)).unwrap().to_vec();
        set_base_offset(&mut batch, BASE_OFFSET);
        batch
    }

    fn header(batch: &[u8]) -> BatchHeader {
        BatchHeader::parse(batch).unwrap()
    }

    /// The header without what every rewriting may change.
    fn lasting(batch: &[u8]) -> BatchHeader {
        BatchHeader { batch_length: 49, crc: 0, ..header(batch) }
    }

    /// A batch with other attributes and a checksum that fits.
    fn with_attributes(batch: &[u8], bits: i16) -> Vec<u8> {
        let header = header(batch);
        let header = BatchHeader { attributes: header.attributes | bits, ..header };
        let mut batch = [&header.to_bytes()[..], &batch[HEADER_BYTES..]].concat();
        renew_crc(&mut batch);
        batch
    }

    fn timestamps(batch: &[u8]) -> Vec<i64> {
        decode(batch, MAX).unwrap().iter().map(|record| record.timestamp).collect()
    }

    #[test]
    fn the_time_of_append_is_every_records_time() {
        for codec in Codec::ALL {
            let old = four(codec);
            let mut batch = old.clone();
            with_append_time(&mut batch, 5_000);
            assert_eq!(verify_crc(&batch), Ok(()));
            assert_eq!(timestamps(&batch), [5_000; 4]);
            let attributes = header(&old).attributes | 8;
            let expected = BatchHeader { attributes, max_timestamp: 5_000, ..lasting(&old) };
            assert_eq!(lasting(&batch), expected);
            assert_eq!(batch[HEADER_BYTES..], old[HEADER_BYTES..]);
            with_append_time(&mut batch, 4_000);
            assert_eq!(timestamps(&batch), [4_000; 4]);
        }
    }

    #[test]
    fn every_codec_turns_into_every_other() {
        for from in Codec::ALL {
            let old = four(from);
            for to in Codec::ALL {
                let batch = recompressed(&old, to, MAX).unwrap();
                assert_eq!(verify_crc(&batch), Ok(()));
                assert_eq!(header(&batch).codec(), Ok(to));
                assert_eq!(decode(&batch, MAX), decode(&old, MAX));
                let expected = BatchHeader { attributes: i16::from(to.id()), ..lasting(&old) };
                assert_eq!(lasting(&batch), expected, "{from} to {to}");
                if from == to {
                    assert_eq!(batch, old);
                }
            }
        }
    }

    #[test]
    fn flags_stay_when_the_codec_changes() {
        let mut old = four(Codec::Lz4);
        with_append_time(&mut old, 77);
        let batch = recompressed(&old, Codec::Zstd, MAX).unwrap();
        assert_eq!(header(&batch).attributes, 8 | 4);
        assert_eq!(timestamps(&batch), [77; 4]);
    }

    #[test]
    fn any_choice_of_records_can_be_kept() {
        for codec in Codec::ALL {
            let old = four(codec);
            let all = decode(&old, MAX).unwrap();
            for choice in 0..16u64 {
                let is_chosen = |offset: u64| (choice >> (offset - BASE_OFFSET as u64)) & 1 == 1;
                let mut asked = Vec::new();
                let outcome = kept(&old, MAX, |record| {
                    asked.push(record.offset);
                    is_chosen(record.offset)
                });
                assert_eq!(asked, [0, 1, 2, 3].map(|delta| BASE_OFFSET as u64 + delta));
                let left: Vec<Record> =
                    all.iter().filter(|record| is_chosen(record.offset as u64)).cloned().collect();
                match outcome.unwrap() {
                    Kept::All => assert_eq!(choice, 15),
                    Kept::None => assert_eq!(choice, 0),
                    Kept::Some(batch) => compare(&old, &batch, &left),
                }
            }
        }
    }

    /// `batch` is `old` with only the records that are `left`.
    fn compare(old: &[u8], batch: &[u8], left: &[Record]) {
        assert_eq!(verify_crc(batch), Ok(()));
        assert_eq!(decode(batch, MAX).unwrap(), left);
        let expected = BatchHeader {
            record_count: left.len() as i32,
            max_timestamp: left.iter().map(|record| record.timestamp).max().unwrap(),
            ..lasting(old)
        };
        assert_eq!(lasting(batch), expected);
        assert_eq!(header(batch).last_offset(), header(old).last_offset());
        assert_eq!(header(batch).last_sequence(), header(old).last_sequence());
    }

    #[test]
    fn a_batch_can_be_thinned_again_and_again() {
        for codec in Codec::ALL {
            let mut batch = four(codec);
            for gone in 0..3 {
                let Kept::Some(thinner) =
                    kept(&batch, MAX, |record| record.offset != BASE_OFFSET as u64 + gone).unwrap()
                else {
                    panic!("record {gone} was there, and another");
                };
                batch = thinner;
            }
            assert_eq!(timestamps(&batch), [1200]);
            assert_eq!(kept(&batch, MAX, |_| true), Ok(Kept::All));
            assert_eq!(kept(&batch, MAX, |_| false), Ok(Kept::None));
        }
    }

    #[test]
    fn records_are_shown_as_they_are() {
        let mut shown = Vec::new();
        each(&four(Codec::Gzip), MAX, |record| {
            let key = record.key.map(<[u8]>::to_vec);
            shown.push((record.offset - BASE_OFFSET as u64, record.timestamp_ms, key, record.is_tombstone));
        })
        .unwrap();
        let expected = [
            (0, 1000, Some(b"a".to_vec()), false),
            (1, 1300, Some(b"b".to_vec()), false),
            (2, 900, Some(b"a".to_vec()), true),
            (3, 1200, None, false),
        ];
        assert_eq!(shown, expected);
    }

    #[test]
    fn the_time_of_append_stays_with_what_is_left() {
        let mut batch = four(Codec::Snappy);
        with_append_time(&mut batch, 9_000);
        let Kept::Some(batch) = kept(&batch, MAX, |record| {
            assert_eq!(record.timestamp_ms, 9_000);
            record.is_tombstone
        })
        .unwrap() else {
            panic!("one of four stays");
        };
        assert_eq!(header(&batch).max_timestamp, 9_000);
        assert!(header(&batch).is_log_append_time());
        assert_eq!(timestamps(&batch), [9_000]);
    }

    #[test]
    fn control_batches_are_never_touched() {
        let batch = with_attributes(&four(Codec::None), 1 << 5);
        let outcome = kept(&batch, MAX, |_| panic!("a control batch has nothing to ask about"));
        assert_eq!(outcome, Ok(Kept::All));
        assert_eq!(each(&batch, MAX, |_| panic!("a control batch has nothing to show")), Ok(()));
        assert_eq!(recompressed(&batch, Codec::Zstd, MAX), Ok(batch));
    }

    #[test]
    fn a_batch_without_records_is_read_in_every_way() {
        for codec in Codec::ALL {
            let old = four(codec);
            let batch = emptied(&old).unwrap();
            assert_eq!(batch.len(), HEADER_BYTES);
            assert_eq!(verify_crc(&batch), Ok(()));
            assert_eq!(lasting(&batch), BatchHeader { attributes: 0, record_count: 0, ..lasting(&old) });
            assert_eq!(header(&batch).last_offset(), header(&old).last_offset());
            assert_eq!(header(&batch).last_sequence(), header(&old).last_sequence());
            assert_eq!(decode(&batch, MAX), Ok(Vec::new()));
            assert_eq!(without_key(&batch, 1, MAX), Ok(Vec::new()));
            assert_eq!(first_at_or_after(&batch, 0, 0, MAX), Ok(None));
            assert_eq!(max_timestamp_record(&batch, 0, MAX), Ok(None));
            assert_eq!(kept(&batch, MAX, |_| true), Ok(Kept::None));
            assert_eq!(recompressed(&batch, Codec::Gzip, MAX).as_ref(), Ok(&batch));
            assert_eq!(emptied(&batch), Ok(batch));
        }
    }

    #[test]
    fn damage_gets_no_new_checksum() {
        let good = four(Codec::None);
        for at in 17..good.len() {
            let mut bad = good.clone();
            bad[at] ^= 4;
            let mismatch = |error: RewriteError| {
                assert!(matches!(error, RewriteError::Batch(BatchError::CrcMismatch { .. })), "{error}");
            };
            mismatch(recompressed(&bad, Codec::Lz4, MAX).unwrap_err());
            mismatch(kept(&bad, MAX, |_| false).unwrap_err());
            mismatch(each(&bad, MAX, |_| {}).unwrap_err());
            mismatch(emptied(&bad).unwrap_err());
        }
        for end in 0..good.len() {
            let cut = kept(&good[..end], MAX, |_| false).unwrap_err();
            assert!(matches!(cut, RewriteError::Batch(BatchError::Truncated { .. })), "{end}: {cut}");
        }
    }

    /// A batch around hand-made records, with a checksum that fits.
    fn wrap(count: i32, payload: &[u8]) -> Vec<u8> {
        let header = BatchHeader {
            attributes: 0,
            record_count: count,
            last_offset_delta: count.saturating_sub(1),
            ..header(&four(Codec::None))
        };
        assembled(header, payload).unwrap()
    }

    #[test]
    fn records_that_are_not_in_order_are_errors_before_anything_is_asked() {
        let fine = [12, 0, 0, 0, 1, 1, 0];
        let cases: [(i32, &[u8], &str); 8] = [
            (2, &[12, 0, 0, 0, 1, 1, 0], "fewer than counted"),
            (1, &[12, 0, 0, 0, 1, 1, 0, 0], "bytes after the last"),
            (2, &[12, 0, 0, 2, 1, 1, 0, 12, 0, 0, 0, 1, 1, 0], "offsets that descend"),
            (2, &[12, 0, 0, 0, 1, 1, 0, 12, 0, 0, 0, 1, 1, 0], "one offset twice"),
            (2, &[12, 0, 0, 0, 1, 1, 0, 12, 0, 0, 2, 3, 1, 0], "key length -2"),
            (2, &[12, 0, 0, 0, 1, 1, 0, 12, 0, 0, 2, 1, 3, 0], "value length -2"),
            (2, &[12, 0, 0, 0, 1, 1, 0, 12, 0, 0, 2, 1, 80, 0], "value cut off"),
            (2, &[12, 0, 0, 0, 1, 1, 0, 12, 0, 0, 2, 80, 1, 0], "key cut off"),
        ];
        for (count, payload, what) in cases {
            let error = kept(&wrap(count, payload), MAX, |_| panic!("{what}")).unwrap_err();
            assert!(matches!(error, RewriteError::Records(RecordError::Malformed { .. })), "{what}: {error}");
            let error = each(&wrap(count, payload), MAX, |_| panic!("{what}")).unwrap_err();
            assert!(matches!(error, RewriteError::Records(RecordError::Malformed { .. })), "{what}: {error}");
        }
        assert_eq!(kept(&wrap(1, &fine), MAX, |_| true), Ok(Kept::All));
        let mut negative = wrap(1, &fine);
        set_base_offset(&mut negative, -5);
        let error = kept(&negative, MAX, |_| true).unwrap_err();
        assert!(matches!(error, RewriteError::Records(RecordError::Malformed { .. })), "{error}");
    }

    #[test]
    fn what_is_decompressed_is_bounded() {
        for codec in Codec::ALL {
            let batch = four(codec);
            let too_large = RewriteError::Records(RecordError::TooLarge { max: 20 });
            assert_eq!(kept(&batch, 20, |_| true), Err(too_large.clone()), "{codec}");
            assert_eq!(each(&batch, 20, |_| {}), Err(too_large.clone()), "{codec}");
            let other = if codec == Codec::Gzip { Codec::None } else { Codec::Gzip };
            assert_eq!(recompressed(&batch, other, 20), Err(too_large), "{codec}");
        }
    }

    #[test]
    fn what_comes_out_is_bounded() {
        let zeros = Some(Bytes::from(vec![0; MESSAGE_BYTES_MAX]));
        let record = NewRecord { value: zeros, ..NewRecord::default() };
        let batch = encode(&[record], Codec::Zstd, None).unwrap();
        let error = recompressed(&batch, Codec::None, 2 * MESSAGE_BYTES_MAX).unwrap_err();
        assert!(matches!(error, RewriteError::TooLong { max: MESSAGE_BYTES_MAX, .. }), "{error}");
        assert!(recompressed(&batch, Codec::Gzip, 2 * MESSAGE_BYTES_MAX).is_ok());
    }
}
