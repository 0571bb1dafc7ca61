//! The first block of a ring file. On disk: see `docs/formats/journal.md`; the numbers are fixed.

use uuid::Uuid;

use super::Seed;
use crate::bytes_io::{Fields, Short};
use crate::crc::crc32c;
use crate::limits::BLOCK_BYTES;

const MAGIC: &[u8; 8] = b"COURJRNL";
const VERSION: u32 = 1;
const ENCODED_BYTES: usize = 68;
/// Where in the block the second copy stands, in another sector than the first.
const COPY_AT: usize = 2048;

/// Says which positions a ring file covers in its present use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FileHeader {
    pub(crate) log_id: Uuid,
    pub(crate) seed: Seed,
    /// Position of the first byte behind the header block. Everything before it was durable when
    /// this header was written.
    pub(crate) start: u64,
    /// Bytes behind the header block; a multiple of the block size.
    pub(crate) capacity: u64,
}

/// Why a block is no header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NotAHeader {
    /// Never written, or damaged.
    Invalid,
    /// Written by a newer release.
    Newer(u32),
}

impl From<Short> for NotAHeader {
    fn from(_: Short) -> Self {
        Self::Invalid
    }
}

impl FileHeader {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(BLOCK_BYTES);
        out.extend_from_slice(MAGIC);
        out.extend_from_slice(&VERSION.to_le_bytes());
        out.extend_from_slice(&0u32.to_le_bytes());
        out.extend_from_slice(self.log_id.as_bytes());
        out.extend_from_slice(&self.seed.generation.to_le_bytes());
        out.extend_from_slice(&self.seed.salt.to_le_bytes());
        out.extend_from_slice(&self.start.to_le_bytes());
        out.extend_from_slice(&self.capacity.to_le_bytes());
        let crc = crc32c(&out);
        out.extend_from_slice(&crc.to_le_bytes());
        assert_eq!(out.len(), ENCODED_BYTES);
        let copy = out.clone();
        out.resize(COPY_AT, 0);
        out.extend_from_slice(&copy);
        out.resize(BLOCK_BYTES, 0);
        out
    }

    /// The newer of the two copies that verify: one rotten sector must not hide acknowledged events.
    pub(crate) fn decode(block: &[u8]) -> Result<Self, NotAHeader> {
        let copy = Self::decode_one(block.get(COPY_AT..).unwrap_or_default());
        match (Self::decode_one(block), copy) {
            (Ok(first), Ok(second)) if second.seed.generation > first.seed.generation => Ok(second),
            (Ok(header), _) | (_, Ok(header)) => Ok(header),
            (Err(NotAHeader::Newer(version)), _) | (_, Err(NotAHeader::Newer(version))) => {
                Err(NotAHeader::Newer(version))
            }
            _ => Err(NotAHeader::Invalid),
        }
    }

    fn decode_one(block: &[u8]) -> Result<Self, NotAHeader> {
        let bytes = block.get(..ENCODED_BYTES).ok_or(NotAHeader::Invalid)?;
        let (body, crc) = bytes.split_at(ENCODED_BYTES - 4);
        if crc32c(body).to_le_bytes() != crc || !body.starts_with(MAGIC) {
            return Err(NotAHeader::Invalid);
        }
        let mut fields = Fields::new(&body[MAGIC.len()..]);
        let version = fields.u32()?;
        if version != VERSION {
            return Err(NotAHeader::Newer(version));
        }
        fields.u32()?;
        let log_id = fields.uuid()?;
        let generation = fields.u64()?;
        let salt = fields.u64()?;
        let start = fields.u64()?;
        let capacity = fields.u64()?;
        if !start.is_multiple_of(BLOCK_BYTES as u64) || !capacity.is_multiple_of(BLOCK_BYTES as u64) {
            return Err(NotAHeader::Invalid);
        }
        Ok(Self { log_id, seed: Seed { salt, generation }, start, capacity })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_damaged_copy_is_survived_and_two_are_seen() {
        let header = FileHeader {
            log_id: Uuid::from_u128(7),
            seed: Seed { salt: 9, generation: 3 },
            start: 8192,
            capacity: 61440,
        };
        let block = header.encode();
        assert_eq!(block.len(), BLOCK_BYTES);
        assert_eq!(FileHeader::decode(&block), Ok(header));
        for bit in 0..ENCODED_BYTES * 8 {
            let mut damaged = block.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(FileHeader::decode(&damaged), Ok(header), "bit {bit}");
            damaged[COPY_AT + bit / 8] ^= 1 << (bit % 8);
            assert!(FileHeader::decode(&damaged).is_err(), "bit {bit}");
        }
    }
}
