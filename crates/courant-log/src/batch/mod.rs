//! Kafka record batches, version 2 (magic 2; KIP-98): the unit that clients send, that the log stores
//! and that readers get, byte for byte.
//!
//! All numbers are big-endian:
//!
//! ```text
//!  0  base offset i64         not under the checksum: the log sets it
//!  8  length i32              bytes after this field
//! 12  leader epoch i32        not under the checksum: the log sets it
//! 16  magic i8                2
//! 17  CRC-32C u32             over everything from byte 21 to the end
//! 21  attributes i16          0-2 codec, 3 log append time, 4 transactional, 5 control, 6 delete horizon
//! 23  last offset delta i32
//! 27  base timestamp i64      ms since 1970
//! 35  max timestamp i64
//! 43  producer id i64         -1: none
//! 51  producer epoch i16
//! 53  base sequence i32
//! 57  record count i32
//! 61  records                 compressed together by the codec
//! ```
//!
//! The write path reads the header alone. Only [`records`] and [`glance`] look further, and they decompress
//! within a bound that the caller gives.

mod codec;
pub mod glance;
mod header;
mod lz4_frame;
#[cfg(test)]
mod oracle_tests;
pub mod records;
pub mod rewrite;
#[cfg(test)]
mod rewrite_oracle_tests;
mod validate;
mod varint;
mod walk;

pub use codec::Codec;
#[cfg(test)]
pub(crate) use header::set_crc;
pub(crate) use header::split_at_covered;
pub use header::{BatchHeader, HEADER_BYTES, set_base_offset, set_leader_epoch};
pub use validate::{Batch, verify_crc};

/// Why bytes are not a record batch that the log takes.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BatchError {
    /// The bytes end before the batch does.
    #[error("a record batch of {needed} bytes was cut off after {available}")]
    Truncated {
        /// Bytes of the batch, or of its header when not even that is there.
        needed: usize,
        /// Bytes that are there.
        available: usize,
    },
    /// Something follows the batch. Since Produce version 3 there is one batch for each partition.
    #[error("{extra} bytes follow the record batch; one batch was expected")]
    MoreThanOne {
        /// Bytes after the batch.
        extra: usize,
    },
    /// Not message format 2. Formats 0 and 1 ended with Kafka 4.0 (KIP-724).
    #[error("message format {0} is not supported, only format 2")]
    WrongMagic(i8),
    /// The length field is smaller than the header it counts.
    #[error("a record batch cannot have length {0}")]
    BadLength(i32),
    /// The bytes are not those that were checksummed.
    #[error("the record batch has checksum {computed:08x} but says {stored:08x}")]
    CrcMismatch {
        /// CRC-32C in the header.
        stored: u32,
        /// CRC-32C of the bytes.
        computed: u32,
    },
    /// The count is not positive, does not fit the offsets, or more records than the bytes can hold.
    #[error("{count} records cannot fill offset deltas 0 to {last_offset_delta} of this record batch")]
    CountMismatch {
        /// Records by the header.
        count: i32,
        /// The last record's offset minus the first's, by the header.
        last_offset_delta: i32,
    },
    /// Only a broker writes control batches.
    #[error("a client cannot write control batches")]
    ControlBatch,
    /// Only a broker sets that timestamps are the time of append.
    #[error("a client cannot write batches with log append time")]
    LogAppendTime,
    /// A codec number that nobody has defined.
    #[error("compression codec {0} does not exist")]
    UnknownCodec(u8),
    /// Attribute bits that nobody has defined.
    #[error("the record batch has unknown attributes ({0:#06x})")]
    UnknownAttributes(i16),
    /// Timestamps below -1 (which means none), or a newest record older than the first.
    #[error("a record batch cannot have timestamps {base} to {max}")]
    BadTimestamps {
        /// The first record's timestamp, ms since 1970.
        base: i64,
        /// The newest record's timestamp, ms since 1970.
        max: i64,
    },
    /// An idempotent producer without an epoch or a sequence (KIP-98).
    #[error("producer {id} cannot have epoch {epoch} and base sequence {base_sequence}")]
    BadProducer {
        /// Producer id.
        id: i64,
        /// Producer epoch.
        epoch: i16,
        /// Sequence of the first record.
        base_sequence: i32,
    },
}
