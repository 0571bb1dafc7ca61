//! What a value says of itself: where it belongs, who wrote it, and that it is whole.
//!
//! ```text
//! "Cst1" | topic bytes u64 | partition u32 | producer u64 | sequence u64 | topic | padding | CRC-32C u32
//! ```
//!
//! Numbers are little-endian. The checksum covers every byte before it, padding included.

use std::fmt;

use crc_fast::CrcAlgorithm;

const MAGIC: [u8; 4] = *b"Cst1";
/// Bytes before the topic.
const HEAD_BYTES: usize = 32;
const CRC_BYTES: usize = 4;

/// Who wrote what where: every value that a run writes carries it, so that an event which turns up in
/// a wrong place is noticed.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Stamp {
    /// The topic that the value is written to.
    pub topic: String,
    /// The partition that it is written to.
    pub partition: u32,
    /// Who writes it; unique in a run.
    pub producer: u64,
    /// Which of the producer's events for this partition it is. It grows; gaps are fine.
    pub sequence: u64,
}

/// Why a value is not a stamp, or not a whole one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NotAStamp {
    /// Shorter than any stamp.
    #[error("{bytes} bytes are too few for a stamp")]
    TooShort {
        /// Length of the value in bytes.
        bytes: usize,
    },
    /// Something else, or its first bytes are damaged.
    #[error("it does not begin as a stamp does")]
    Foreign,
    /// A stamp of which some bytes are damaged or missing.
    #[error("its checksum is wrong")]
    Checksum,
    /// Whole, but not written by [`Stamp::to_value`].
    #[error("its checksum is right, but what it says about its topic makes no sense")]
    Malformed,
}

impl Stamp {
    /// A value of at least `bytes` bytes: longer only where the stamp alone is longer. The padding
    /// follows from the stamp and does not compress, and a CRC-32C covers everything.
    pub fn to_value(&self, bytes: usize) -> Vec<u8> {
        let body_bytes = bytes.saturating_sub(CRC_BYTES).max(HEAD_BYTES + self.topic.len());
        let mut value = Vec::with_capacity(body_bytes + CRC_BYTES);
        value.extend_from_slice(&MAGIC);
        value.extend_from_slice(&(self.topic.len() as u64).to_le_bytes());
        value.extend_from_slice(&self.partition.to_le_bytes());
        value.extend_from_slice(&self.producer.to_le_bytes());
        value.extend_from_slice(&self.sequence.to_le_bytes());
        value.extend_from_slice(self.topic.as_bytes());
        let seed = self.producer.rotate_left(32) ^ self.sequence;
        pad(&mut value, body_bytes, seed);
        let crc = crc32c(&value);
        value.extend_from_slice(&crc.to_le_bytes());
        value
    }

    /// The stamp that a value carries.
    ///
    /// # Errors
    /// Says what is wrong with a value that [`Stamp::to_value`] did not make, or that has changed
    /// since.
    pub fn of_value(value: &[u8]) -> Result<Stamp, NotAStamp> {
        Parts::of_value(value).map(|parts| parts.to_stamp())
    }
}

impl fmt::Display for Stamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Stamp { topic, partition, producer, sequence } = self;
        write!(f, "sequence {sequence} of producer {producer} in partition {partition} of topic `{topic}`")
    }
}

/// A stamp in the bytes of its value: a run reads millions, and few of them are worth a copy.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Parts<'a> {
    pub(crate) topic: &'a str,
    pub(crate) partition: u32,
    pub(crate) producer: u64,
    pub(crate) sequence: u64,
}

impl<'a> Parts<'a> {
    /// The stamp that a value carries; its errors are those of [`Stamp::of_value`].
    pub(crate) fn of_value(value: &'a [u8]) -> Result<Self, NotAStamp> {
        let too_short = NotAStamp::TooShort { bytes: value.len() };
        let (body, crc) = value.split_last_chunk::<CRC_BYTES>().ok_or(too_short)?;
        let mut rest = body;
        let magic: [u8; 4] = take(&mut rest).ok_or(too_short)?;
        let topic_bytes = u64::from_le_bytes(take(&mut rest).ok_or(too_short)?);
        let partition = u32::from_le_bytes(take(&mut rest).ok_or(too_short)?);
        let producer = u64::from_le_bytes(take(&mut rest).ok_or(too_short)?);
        let sequence = u64::from_le_bytes(take(&mut rest).ok_or(too_short)?);
        if magic != MAGIC {
            return Err(NotAStamp::Foreign);
        }
        if crc32c(body).to_le_bytes() != *crc {
            return Err(NotAStamp::Checksum);
        }
        let topic = usize::try_from(topic_bytes).ok().and_then(|bytes| rest.get(..bytes));
        let topic = topic.and_then(|topic| std::str::from_utf8(topic).ok()).ok_or(NotAStamp::Malformed)?;
        Ok(Parts { topic, partition, producer, sequence })
    }

    /// A copy that outlives the value.
    pub(crate) fn to_stamp(self) -> Stamp {
        let Parts { topic, partition, producer, sequence } = self;
        Stamp { topic: topic.to_owned(), partition, producer, sequence }
    }
}

/// The first bytes of `bytes`, which then begins behind them.
fn take<const N: usize>(bytes: &mut &[u8]) -> Option<[u8; N]> {
    let (taken, rest) = bytes.split_first_chunk::<N>()?;
    *bytes = rest;
    Some(*taken)
}

/// Fills `value` up to `bytes` with what follows from `seed` (splitmix64).
fn pad(value: &mut Vec<u8>, bytes: usize, seed: u64) {
    let mut state = seed;
    while value.len() < bytes {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        let word = (mixed ^ (mixed >> 31)).to_le_bytes();
        let left = bytes - value.len();
        value.extend_from_slice(&word[..left.min(word.len())]);
    }
}

/// CRC-32C (Castagnoli, RFC 3720 appendix B.4). The crate returns every width in 64 bits; the upper
/// half of a 32-bit checksum is zero.
fn crc32c(data: &[u8]) -> u32 {
    (crc_fast::checksum(CrcAlgorithm::Crc32Iscsi, data) & u64::from(u32::MAX)) as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stamp(topic: &str) -> Stamp {
        Stamp { topic: topic.to_owned(), partition: 3, producer: 12, sequence: u64::MAX }
    }

    #[test]
    fn a_value_gives_its_stamp_back_at_every_length() {
        let longest = "n".repeat(249);
        for topic in ["", "orders", "ümläute", longest.as_str()] {
            let stamp = stamp(topic);
            let least = HEAD_BYTES + topic.len() + CRC_BYTES;
            for bytes in (0..100).chain([1000, 4096, 100_001]) {
                let value = stamp.to_value(bytes);
                assert_eq!(value.len(), bytes.max(least));
                assert_eq!(value, stamp.to_value(bytes), "it follows from the stamp");
                assert_eq!(Stamp::of_value(&value), Ok(stamp.clone()));
            }
        }
    }

    #[test]
    fn every_changed_bit_is_noticed() {
        let value = stamp("orders").to_value(90);
        for bit in 0..value.len() * 8 {
            let mut changed = value.clone();
            changed[bit / 8] ^= 1 << (bit % 8);
            let expected = if bit < MAGIC.len() * 8 { NotAStamp::Foreign } else { NotAStamp::Checksum };
            assert_eq!(Stamp::of_value(&changed), Err(expected), "bit {bit}");
        }
    }

    #[test]
    fn every_missing_or_additional_byte_is_noticed() {
        let mut value = stamp("orders").to_value(90);
        for bytes in 0..value.len() {
            let least = HEAD_BYTES + CRC_BYTES;
            let expected = if bytes < least { NotAStamp::TooShort { bytes } } else { NotAStamp::Checksum };
            assert_eq!(Stamp::of_value(&value[..bytes]), Err(expected));
        }
        value.push(0);
        assert_eq!(Stamp::of_value(&value), Err(NotAStamp::Checksum));
    }

    /// A length is believed only as far as there are bytes.
    #[test]
    fn a_topic_that_cannot_be_is_malformed() {
        for (at, bytes) in [(4, u64::MAX.to_le_bytes()), (4, 200_u64.to_le_bytes()), (32, [0xff; 8])] {
            let mut value = stamp("01234567").to_value(90);
            value[at..at + 8].copy_from_slice(&bytes);
            let body_bytes = value.len() - CRC_BYTES;
            let crc = crc32c(&value[..body_bytes]);
            value[body_bytes..].copy_from_slice(&crc.to_le_bytes());
            assert_eq!(Stamp::of_value(&value), Err(NotAStamp::Malformed));
        }
    }

    /// The check value of the CRC catalogue.
    #[test]
    fn the_checksum_is_crc_32c() {
        assert_eq!(crc32c(b"123456789"), 0xe306_9283);
    }
}
