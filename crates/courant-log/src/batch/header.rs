//! The 61 bytes before the records.

use super::{BatchError, Codec};

/// Bytes of a batch before its records.
pub const HEADER_BYTES: usize = 61;

/// Bytes up to and including the length field, which does not count them.
pub(super) const LENGTH_END: usize = 12;

/// Least value of the length field: a header without records.
pub(super) const LENGTH_MIN: i32 = (HEADER_BYTES - LENGTH_END) as i32;

/// Where the checksum is; it covers everything after itself.
pub(super) const CRC_AT: usize = 17;

/// First byte that the checksum covers.
pub(super) const CRC_COVERS_FROM: usize = 21;

pub(super) const CODEC_BITS: i16 = 0b111;
pub(super) const LOG_APPEND_TIME_BIT: i16 = 1 << 3;
const TRANSACTIONAL_BIT: i16 = 1 << 4;
const CONTROL_BIT: i16 = 1 << 5;
const DELETE_HORIZON_BIT: i16 = 1 << 6;

/// Every attribute bit that has a meaning.
pub(super) const KNOWN_ATTRIBUTES: i16 =
    CODEC_BITS | LOG_APPEND_TIME_BIT | TRANSACTIONAL_BIT | CONTROL_BIT | DELETE_HORIZON_BIT;

const MAGIC: i8 = 2;
const MAGIC_AT: usize = 16;

/// What a batch says about itself, field for field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchHeader {
    /// Offset of the first record. Clients send 0; the log sets it.
    pub base_offset: i64,
    /// Bytes of the batch after the length field; at least 49.
    pub batch_length: i32,
    /// Epoch of the leader that appended the batch. Clients send -1; the log sets it.
    pub leader_epoch: i32,
    /// CRC-32C of the bytes from the attributes to the end.
    pub crc: u32,
    /// Codec and flags.
    pub attributes: i16,
    /// The last record's offset minus the first's.
    pub last_offset_delta: i32,
    /// The first record's timestamp, ms since 1970; -1 for none.
    pub base_timestamp: i64,
    /// The newest record's timestamp, ms since 1970. Some clients leave it at -1: see
    /// [`BatchHeader::newest_timestamp`].
    pub max_timestamp: i64,
    /// The idempotent producer, or -1.
    pub producer_id: i64,
    /// The producer's epoch, or -1.
    pub producer_epoch: i16,
    /// Sequence of the first record, or -1.
    pub base_sequence: i32,
    /// Number of records.
    pub record_count: i32,
}

impl BatchHeader {
    /// Reads the header at the beginning of `bytes`. What it promises to follow need not be there.
    ///
    /// # Errors
    /// [`BatchError::WrongMagic`], [`BatchError::BadLength`], or [`BatchError::Truncated`] when fewer
    /// than [`HEADER_BYTES`] are there. An older format is named as such even when it is shorter.
    pub fn parse(bytes: &[u8]) -> Result<Self, BatchError> {
        if let Some(&magic) = bytes.get(MAGIC_AT) {
            let magic = i8::from_be_bytes([magic]);
            if magic != MAGIC {
                return Err(BatchError::WrongMagic(magic));
            }
        }
        let header = bytes
            .first_chunk::<HEADER_BYTES>()
            .ok_or(BatchError::Truncated { needed: HEADER_BYTES, available: bytes.len() })?;
        let parsed = Self {
            base_offset: i64::from_be_bytes(field(header, 0)),
            batch_length: i32::from_be_bytes(field(header, 8)),
            leader_epoch: i32::from_be_bytes(field(header, LENGTH_END)),
            crc: u32::from_be_bytes(field(header, CRC_AT)),
            attributes: i16::from_be_bytes(field(header, CRC_COVERS_FROM)),
            last_offset_delta: i32::from_be_bytes(field(header, 23)),
            base_timestamp: i64::from_be_bytes(field(header, 27)),
            max_timestamp: i64::from_be_bytes(field(header, 35)),
            producer_id: i64::from_be_bytes(field(header, 43)),
            producer_epoch: i16::from_be_bytes(field(header, 51)),
            base_sequence: i32::from_be_bytes(field(header, 53)),
            record_count: i32::from_be_bytes(field(header, 57)),
        };
        if parsed.batch_length < LENGTH_MIN {
            return Err(BatchError::BadLength(parsed.batch_length));
        }
        Ok(parsed)
    }

    /// The header as bytes; [`BatchHeader::parse`] undoes it.
    pub(super) fn to_bytes(self) -> [u8; HEADER_BYTES] {
        let mut out = [0; HEADER_BYTES];
        out[0..8].copy_from_slice(&self.base_offset.to_be_bytes());
        out[8..12].copy_from_slice(&self.batch_length.to_be_bytes());
        out[12..16].copy_from_slice(&self.leader_epoch.to_be_bytes());
        out[MAGIC_AT] = MAGIC as u8;
        out[17..21].copy_from_slice(&self.crc.to_be_bytes());
        out[21..23].copy_from_slice(&self.attributes.to_be_bytes());
        out[23..27].copy_from_slice(&self.last_offset_delta.to_be_bytes());
        out[27..35].copy_from_slice(&self.base_timestamp.to_be_bytes());
        out[35..43].copy_from_slice(&self.max_timestamp.to_be_bytes());
        out[43..51].copy_from_slice(&self.producer_id.to_be_bytes());
        out[51..53].copy_from_slice(&self.producer_epoch.to_be_bytes());
        out[53..57].copy_from_slice(&self.base_sequence.to_be_bytes());
        out[57..61].copy_from_slice(&self.record_count.to_be_bytes());
        out
    }

    /// Bytes of the whole batch.
    pub fn total_bytes(&self) -> usize {
        // Never negative after `parse`.
        LENGTH_END + usize::try_from(self.batch_length).unwrap_or(0)
    }

    /// Offset of the last record.
    pub fn last_offset(&self) -> i64 {
        self.base_offset.saturating_add(i64::from(self.last_offset_delta))
    }

    /// How the records are compressed.
    ///
    /// # Errors
    /// [`BatchError::UnknownCodec`].
    pub fn codec(&self) -> Result<Codec, BatchError> {
        Codec::from_id((self.attributes & CODEC_BITS) as u8)
    }

    /// Whether the batch belongs to a transaction.
    pub fn is_transactional(&self) -> bool {
        self.attributes & TRANSACTIONAL_BIT != 0
    }

    /// Whether the batch is a broker's mark (of a transaction's end, say) and not a client's data.
    pub fn is_control(&self) -> bool {
        self.attributes & CONTROL_BIT != 0
    }

    /// Whether every record has the time of append, [`BatchHeader::max_timestamp`], as its timestamp.
    pub fn is_log_append_time(&self) -> bool {
        self.attributes & LOG_APPEND_TIME_BIT != 0
    }

    /// Whether an idempotent producer sent the batch, so that its sequence counts.
    pub fn has_producer(&self) -> bool {
        self.producer_id >= 0
    }

    /// Sequence of the last record; -1 when there is no sequence. Sequences are 31 bits wide: 0
    /// follows `i32::MAX` (KIP-98).
    pub fn last_sequence(&self) -> i32 {
        if self.base_sequence < 0 {
            return -1;
        }
        self.base_sequence.wrapping_add(self.last_offset_delta) & i32::MAX
    }

    /// The newest timestamp that the header tells of: for clients that do not fill in
    /// [`BatchHeader::max_timestamp`], the first record's.
    pub fn newest_timestamp(&self) -> i64 {
        // What the producer's clock said counts for nothing where the log's does.
        if self.is_log_append_time() {
            self.max_timestamp
        } else {
            self.max_timestamp.max(self.base_timestamp)
        }
    }
}

/// The `N` bytes at `at`, which is a constant that fits.
fn field<const N: usize>(header: &[u8; HEADER_BYTES], at: usize) -> [u8; N] {
    let mut out = [0; N];
    out.copy_from_slice(&header[at..at + N]);
    out
}

/// Writes the offset of a batch's first record. The checksum does not cover it.
///
/// # Panics
/// When `bytes` is shorter than a header. Callers hold a validated batch.
pub fn set_base_offset(bytes: &mut [u8], offset: i64) {
    bytes[0..8].copy_from_slice(&offset.to_be_bytes());
}

/// Writes the leader epoch of a batch. The checksum does not cover it.
///
/// # Panics
/// When `bytes` is shorter than a header. Callers hold a validated batch.
pub fn set_leader_epoch(bytes: &mut [u8], epoch: i32) {
    bytes[LENGTH_END..MAGIC_AT].copy_from_slice(&epoch.to_be_bytes());
}

/// Cuts a batch where its checksum begins to count: what is before, the checksum that it says, and what that covers.
/// `None`: it is shorter than a header.
pub(crate) fn split_at_covered(batch: &[u8]) -> Option<(&[u8], u32, &[u8])> {
    let header: &[u8; HEADER_BYTES] = batch.first_chunk()?;
    let (before, covered) = batch.split_at(CRC_COVERS_FROM);
    Some((before, u32::from_be_bytes(field(header, CRC_AT)), covered))
}

/// Writes the checksum of a batch that was made up.
#[cfg(test)]
pub(crate) fn set_crc(batch: &mut [u8]) {
    let crc = crate::crc::crc32c(&batch[CRC_COVERS_FROM..]);
    batch[CRC_AT..CRC_COVERS_FROM].copy_from_slice(&crc.to_be_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> BatchHeader {
        BatchHeader {
            base_offset: 0x0102_0304_0506_0708,
            batch_length: 49,
            leader_epoch: 0x090a_0b0c,
            crc: 0xdead_beef,
            attributes: 0b001_0100,
            last_offset_delta: 6,
            base_timestamp: 1_700_000_000_000,
            max_timestamp: 1_700_000_000_777,
            producer_id: 4000,
            producer_epoch: 3,
            base_sequence: i32::MAX - 2,
            record_count: 7,
        }
    }

    #[test]
    fn every_field_comes_back() {
        let bytes = sample().to_bytes();
        assert_eq!(BatchHeader::parse(&bytes), Ok(sample()));
        assert_eq!(&bytes[0..8], &[1, 2, 3, 4, 5, 6, 7, 8]);
        assert_eq!(&bytes[12..16], &[9, 10, 11, 12]);
        assert_eq!(bytes[16], 2);
    }

    #[test]
    fn derived_facts() {
        let header = sample();
        assert_eq!(header.total_bytes(), 61);
        assert_eq!(header.last_offset(), 0x0102_0304_0506_0708 + 6);
        assert_eq!(header.codec(), Ok(Codec::Zstd));
        assert!(header.is_transactional());
        assert!(!header.is_control());
        assert!(!header.is_log_append_time());
        assert!(header.has_producer());
        // MAX-2, MAX-1, MAX, 0, 1, 2, 3
        assert_eq!(header.last_sequence(), 3);
        let unsequenced = BatchHeader { base_sequence: -1, producer_id: -1, ..header };
        assert_eq!(unsequenced.last_sequence(), -1);
        assert!(!unsequenced.has_producer());
        let no_max = BatchHeader { max_timestamp: -1, ..header };
        assert_eq!(no_max.newest_timestamp(), 1_700_000_000_000);
    }

    #[test]
    fn unknown_codecs_are_named() {
        for id in 5..=7 {
            let header = BatchHeader { attributes: id, ..sample() };
            assert_eq!(header.codec(), Err(BatchError::UnknownCodec(id as u8)));
        }
    }

    #[test]
    fn short_bytes_are_truncated_whatever_their_length() {
        let bytes = sample().to_bytes();
        for available in 0..HEADER_BYTES {
            assert_eq!(
                BatchHeader::parse(&bytes[..available]),
                Err(BatchError::Truncated { needed: HEADER_BYTES, available })
            );
        }
    }

    #[test]
    fn old_formats_are_named_even_when_shorter_than_a_header() {
        for magic in [0, 1, 3, -1] {
            let mut bytes = sample().to_bytes();
            bytes[16] = magic as u8;
            assert_eq!(BatchHeader::parse(&bytes[..34]), Err(BatchError::WrongMagic(magic)));
        }
    }

    #[test]
    fn impossible_lengths_are_refused() {
        for batch_length in [48, 0, -1, i32::MIN] {
            let header = BatchHeader { batch_length, ..sample() };
            assert_eq!(BatchHeader::parse(&header.to_bytes()), Err(BatchError::BadLength(batch_length)));
        }
    }

    #[test]
    fn offset_and_epoch_are_set_in_place() {
        let mut bytes = sample().to_bytes();
        set_base_offset(&mut bytes, 99);
        set_leader_epoch(&mut bytes, 5);
        assert_eq!(
            BatchHeader::parse(&bytes),
            Ok(BatchHeader { base_offset: 99, leader_epoch: 5, ..sample() })
        );
    }
}
