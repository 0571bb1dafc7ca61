//! What the log asks of a batch before it takes it.

use bytes::Bytes;

use super::header::{BatchHeader, CRC_COVERS_FROM, HEADER_BYTES, KNOWN_ATTRIBUTES};
use super::records::{self, NewRecord, Producer, RecordError};
use super::{BatchError, Codec, rewrite};
use crate::crc::crc32c;

/// Fewest bytes of an uncompressed record: seven fields of one byte.
pub(super) const RECORD_BYTES_MIN: usize = 7;

/// One whole batch whose header is consistent and whose checksum is right.
///
/// Its records have not been looked at: they may be compressed, and what is in them is between
/// the clients. Whether a transactional batch is taken is decided by whoever appends it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Batch {
    header: BatchHeader,
    bytes: Bytes,
}

impl Batch {
    /// Checks that `bytes` are exactly one batch as a client may send it.
    ///
    /// # Errors
    /// The first rule that is broken. Framing comes first, then the checksum, then the fields: a
    /// batch that was damaged on the way is called damaged and not wrong.
    pub fn validate(bytes: Bytes) -> Result<Self, BatchError> {
        let header = whole(&bytes)?;
        compare_crc(&header, &bytes)?;
        check_fields(&header)?;
        Ok(Self { header, bytes })
    }

    /// Makes a batch of records, as [`records::encode`] does. Its checksum is computed once: there is no way on which
    /// it could have been damaged.
    ///
    /// # Errors
    /// As [`records::encode`], and [`RecordError::Batch`] with the rule of [`Batch::validate`] that is broken.
    pub fn of(records: &[NewRecord], codec: Codec, producer: Option<Producer>) -> Result<Self, RecordError> {
        let (header, bytes) = records::encode_whole(records, codec, producer)?;
        check_fields(&header)?;
        Ok(Self { header, bytes })
    }

    /// The batch with a time as the timestamp of all its records, in milliseconds since 1970: what
    /// `message.timestamp.type=LogAppendTime` asks for. The records are not decoded.
    #[must_use]
    pub fn with_append_time(&self, now_ms: i64) -> Self {
        let mut bytes = self.bytes.to_vec();
        rewrite::with_append_time(&mut bytes, now_ms);
        // Only what the rules above do not ask about has changed.
        let header = BatchHeader::parse(&bytes).unwrap_or(self.header);
        Self { header, bytes: bytes.into() }
    }

    /// The batch with the same records under another codec: what `compression.type` asks for. One that
    /// has the codec already stays as it is.
    ///
    /// # Errors
    /// See [`RewriteError`](rewrite::RewriteError): the records are more than `decompressed_bytes_max`, or
    /// are not what the header says.
    pub fn with_codec(
        &self,
        codec: Codec,
        decompressed_bytes_max: usize,
    ) -> Result<Self, rewrite::RewriteError> {
        if self.header.codec()? == codec {
            return Ok(self.clone());
        }
        let bytes = rewrite::recompressed(&self.bytes, codec, decompressed_bytes_max)?;
        Ok(Self { header: BatchHeader::parse(&bytes)?, bytes: bytes.into() })
    }

    /// What the batch says about itself.
    pub fn header(&self) -> &BatchHeader {
        &self.header
    }

    /// The batch as it came, header included.
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }
}

/// Checks the checksum of one whole batch.
///
/// # Errors
/// As [`BatchHeader::parse`], [`BatchError::Truncated`] or [`BatchError::MoreThanOne`] when it is not
/// exactly one batch, [`BatchError::CrcMismatch`].
pub fn verify_crc(batch: &[u8]) -> Result<(), BatchError> {
    let header = whole(batch)?;
    compare_crc(&header, batch)
}

/// Parses the header and checks that the bytes end where it says.
pub(super) fn whole(bytes: &[u8]) -> Result<BatchHeader, BatchError> {
    let header = BatchHeader::parse(bytes)?;
    let needed = header.total_bytes();
    if bytes.len() < needed {
        return Err(BatchError::Truncated { needed, available: bytes.len() });
    }
    match bytes.len() - needed {
        0 => Ok(header),
        extra => Err(BatchError::MoreThanOne { extra }),
    }
}

/// `bytes` are whole, so at least a header long.
fn compare_crc(header: &BatchHeader, bytes: &[u8]) -> Result<(), BatchError> {
    let stored = header.crc;
    let computed = crc32c(&bytes[CRC_COVERS_FROM..]);
    if stored == computed { Ok(()) } else { Err(BatchError::CrcMismatch { stored, computed }) }
}

fn check_fields(header: &BatchHeader) -> Result<(), BatchError> {
    check_attributes(header)?;
    check_count(header)?;
    check_timestamps(header)?;
    check_producer(header)
}

fn check_attributes(header: &BatchHeader) -> Result<(), BatchError> {
    if header.attributes & !KNOWN_ATTRIBUTES != 0 {
        return Err(BatchError::UnknownAttributes(header.attributes));
    }
    header.codec()?;
    if header.is_control() {
        return Err(BatchError::ControlBatch);
    }
    if header.is_log_append_time() {
        return Err(BatchError::LogAppendTime);
    }
    Ok(())
}

fn check_count(header: &BatchHeader) -> Result<(), BatchError> {
    let count = header.record_count;
    let fits_offsets = count >= 1 && header.last_offset_delta == count - 1;
    let fits_bytes = match header.codec()? {
        Codec::None => {
            let most = (header.total_bytes() - HEADER_BYTES) / RECORD_BYTES_MIN;
            usize::try_from(count).is_ok_and(|count| count <= most)
        }
        // How many records compressed bytes hold shows only when they are decompressed.
        _ => header.total_bytes() > HEADER_BYTES,
    };
    if fits_offsets && fits_bytes {
        Ok(())
    } else {
        Err(BatchError::CountMismatch { count, last_offset_delta: header.last_offset_delta })
    }
}

fn check_timestamps(header: &BatchHeader) -> Result<(), BatchError> {
    let (base, max) = (header.base_timestamp, header.max_timestamp);
    // Some clients leave the maximum at -1.
    if base >= -1 && (max >= base || max == -1) {
        Ok(())
    } else {
        Err(BatchError::BadTimestamps { base, max })
    }
}

fn check_producer(header: &BatchHeader) -> Result<(), BatchError> {
    let is_sequenced = header.producer_epoch >= 0 && header.base_sequence >= 0;
    if header.producer_id == -1 || (header.producer_id >= 0 && is_sequenced) {
        Ok(())
    } else {
        Err(BatchError::BadProducer {
            id: header.producer_id,
            epoch: header.producer_epoch,
            base_sequence: header.base_sequence,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::batch::records::encode;
    use crate::batch::{set_base_offset, set_leader_epoch};

    fn batch(codec: Codec) -> Vec<u8> {
        let record = NewRecord {
            timestamp: 1000,
            key: None,
            value: Some(Bytes::from_static(b"value")),
            headers: Vec::new(),
        };
        let producer = Producer { id: 7, epoch: 0, base_sequence: 0 };
        encode(&[record.clone(), record], codec, Some(producer)).unwrap().to_vec()
    }

    /// Changes bytes and makes the checksum right again.
    fn changed(at: usize, bytes: &[u8]) -> Result<Batch, BatchError> {
        let mut batch = batch(Codec::None);
        batch[at..at + bytes.len()].copy_from_slice(bytes);
        let crc = crc32c(&batch[21..]);
        batch[17..21].copy_from_slice(&crc.to_be_bytes());
        Batch::validate(batch.into())
    }

    #[test]
    fn good_batches_are_taken_as_they_are() {
        for codec in Codec::ALL {
            let bytes = Bytes::from(batch(codec));
            let taken = Batch::validate(bytes.clone()).unwrap();
            assert_eq!(taken.bytes(), &bytes);
            assert_eq!(taken.header().codec(), Ok(codec));
            assert_eq!(taken.header().record_count, 2);
            assert_eq!(taken.header().last_sequence(), 1);
            assert_eq!(verify_crc(&bytes), Ok(()));
        }
    }

    #[test]
    fn a_batch_of_records_is_as_one_that_came() {
        let record = |timestamp| NewRecord { timestamp, value: Some(Bytes::new()), ..NewRecord::default() };
        let producer = Producer { id: 7, epoch: 0, base_sequence: 0 };
        for codec in Codec::ALL {
            for records in [vec![record(1000)], vec![record(1000), record(2000)]] {
                let made = Batch::of(&records, codec, Some(producer)).unwrap();
                let came = encode(&records, codec, Some(producer)).unwrap();
                assert_eq!(made, Batch::validate(came).unwrap());
            }
        }
        assert_eq!(Batch::of(&[], Codec::None, None), Err(RecordError::Empty));
        let early = BatchError::BadTimestamps { base: -2, max: -2 };
        assert_eq!(Batch::of(&[record(-2)], Codec::None, None), Err(RecordError::Batch(early)));
        let bad = BatchError::BadProducer { id: 7, epoch: -1, base_sequence: 0 };
        let producer = Producer { epoch: -1, ..producer };
        assert_eq!(Batch::of(&[record(0)], Codec::None, Some(producer)), Err(RecordError::Batch(bad)));
    }

    #[test]
    fn offset_and_epoch_are_not_under_the_checksum() {
        let mut bytes = batch(Codec::None);
        set_base_offset(&mut bytes, 1 << 40);
        set_leader_epoch(&mut bytes, 3);
        let taken = Batch::validate(bytes.into()).unwrap();
        assert_eq!(taken.header().base_offset, 1 << 40);
        assert_eq!(taken.header().last_offset(), (1 << 40) + 1);
        assert_eq!(taken.header().leader_epoch, 3);
    }

    #[test]
    fn cut_off_anywhere_is_truncated() {
        let bytes = Bytes::from(batch(Codec::None));
        for end in 0..bytes.len() {
            let error = Batch::validate(bytes.slice(..end)).unwrap_err();
            assert!(matches!(error, BatchError::Truncated { .. }), "{end}: {error}");
        }
    }

    #[test]
    fn one_more_byte_is_one_too_many() {
        let mut bytes = batch(Codec::None);
        bytes.push(0);
        assert_eq!(Batch::validate(bytes.into()), Err(BatchError::MoreThanOne { extra: 1 }));
        let two = batch(Codec::None).repeat(2);
        assert!(matches!(Batch::validate(two.into()), Err(BatchError::MoreThanOne { .. })));
    }

    #[test]
    fn every_flipped_bit_under_the_checksum_is_seen() {
        let good = batch(Codec::None);
        for at in 17..good.len() {
            for bit in 0..8 {
                let mut bad = good.clone();
                bad[at] ^= 1 << bit;
                assert!(matches!(Batch::validate(bad.into()), Err(BatchError::CrcMismatch { .. })));
            }
        }
    }

    #[test]
    fn attributes_that_clients_may_not_set() {
        let with = |attributes: i16| changed(21, &attributes.to_be_bytes()).unwrap_err();
        assert_eq!(with(1 << 5), BatchError::ControlBatch);
        assert_eq!(with(1 << 3), BatchError::LogAppendTime);
        assert_eq!(with(5), BatchError::UnknownCodec(5));
        for bit in 7..16 {
            let attributes = (1u16 << bit) as i16;
            assert_eq!(with(attributes), BatchError::UnknownAttributes(attributes));
        }
        assert!(changed(21, &(1i16 << 4).to_be_bytes()).is_ok());
    }

    #[test]
    fn counts_must_fit_offsets_and_bytes() {
        for (delta, count) in [(1i32, 1i32), (2, 2), (-1, 0), (-2, -1), (0, i32::MIN), (i32::MAX, i32::MIN)] {
            let fields = header_with_count(delta, count);
            assert_eq!(
                changed_header(&fields),
                Err(BatchError::CountMismatch { count, last_offset_delta: delta })
            );
        }
        // Consistent, but the bytes cannot hold so many.
        let many = header_with_count(1_000_000, 1_000_001);
        assert!(matches!(changed_header(&many), Err(BatchError::CountMismatch { .. })));
    }

    fn header_with_count(last_offset_delta: i32, record_count: i32) -> BatchHeader {
        BatchHeader { last_offset_delta, record_count, ..BatchHeader::parse(&batch(Codec::None)).unwrap() }
    }

    fn changed_header(header: &BatchHeader) -> Result<Batch, BatchError> {
        changed(21, &header.to_bytes()[21..])
    }

    #[test]
    fn timestamps_must_be_possible() {
        let with = |base: i64, max: i64| {
            let mut fields = base.to_be_bytes().to_vec();
            fields.extend_from_slice(&max.to_be_bytes());
            changed(27, &fields).map(|_| ())
        };
        for (base, max) in [(0, 0), (-1, -1), (5, 6), (5, -1), (-1, 5), (0, i64::MAX)] {
            assert_eq!(with(base, max), Ok(()));
        }
        for (base, max) in [(-2, 0), (6, 5), (5, -2), (i64::MIN, i64::MIN)] {
            assert_eq!(with(base, max), Err(BatchError::BadTimestamps { base, max }));
        }
    }

    #[test]
    fn producers_need_epoch_and_sequence() {
        let with = |id: i64, epoch: i16, base_sequence: i32| {
            let mut fields = id.to_be_bytes().to_vec();
            fields.extend_from_slice(&epoch.to_be_bytes());
            fields.extend_from_slice(&base_sequence.to_be_bytes());
            changed(43, &fields).map(|_| ())
        };
        for (id, epoch, base_sequence) in [(-1, -1, -1), (-1, 0, 0), (0, 0, 0), (9, 3, i32::MAX)] {
            assert_eq!(with(id, epoch, base_sequence), Ok(()));
        }
        for (id, epoch, base_sequence) in [(0, -1, 0), (0, 0, -1), (-2, 0, 0), (i64::MIN, 0, 0)] {
            assert_eq!(
                with(id, epoch, base_sequence),
                Err(BatchError::BadProducer { id, epoch, base_sequence })
            );
        }
    }
}
