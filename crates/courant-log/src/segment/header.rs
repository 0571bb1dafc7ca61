//! The first bytes of a segment and of its sidecar. On disk: the numbers are fixed.
//!
//! A record batch names neither its partition nor, under its checksum, its offset; this header does,
//! so that a file that was put in another's place is noticed.

use uuid::Uuid;

use super::SegmentKey;
use crate::PartitionId;
use crate::bytes_io::Fields;
use crate::crc::crc32c;

/// Bytes in front of a segment's first batch, and of a sidecar's first block entry.
pub(crate) const HEADER_BYTES: usize = 64;
const VERSION: u32 = 1;
const SEGMENT_MAGIC: &[u8; 8] = b"COURSEGM";
const SIDECAR_MAGIC: &[u8; 8] = b"COURBLKS";

/// Which file of the two a header opens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FileKind {
    Segment,
    Sidecar,
}

impl FileKind {
    const fn magic(self) -> &'static [u8; 8] {
        match self {
            Self::Segment => SEGMENT_MAGIC,
            Self::Sidecar => SIDECAR_MAGIC,
        }
    }
}

/// What a segment says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SegmentHeader {
    pub(crate) log_id: Uuid,
    pub(crate) partition: PartitionId,
    pub(crate) base_offset: u64,
    /// Journal generation in which the segment was created.
    pub(crate) generation: u64,
    /// 0 for a segment that appends filled; else how often compaction has replaced what began here.
    pub(crate) number: u64,
}

impl SegmentHeader {
    /// Which segment it is.
    pub(crate) fn key(&self) -> SegmentKey {
        SegmentKey { partition: self.partition, base_offset: self.base_offset, number: self.number }
    }

    pub(crate) fn encode(&self, kind: FileKind) -> [u8; HEADER_BYTES] {
        let mut out = [0; HEADER_BYTES];
        out[..8].copy_from_slice(kind.magic());
        out[8..12].copy_from_slice(&VERSION.to_le_bytes());
        out[16..32].copy_from_slice(self.log_id.as_bytes());
        out[32..40].copy_from_slice(&self.partition.0.to_le_bytes());
        out[40..48].copy_from_slice(&self.base_offset.to_le_bytes());
        out[48..56].copy_from_slice(&self.generation.to_le_bytes());
        out[56..64].copy_from_slice(&self.number.to_le_bytes());
        let crc = crc32c(&out);
        out[12..16].copy_from_slice(&crc.to_le_bytes());
        out
    }

    /// The header that `bytes` begin with, if they are one of this kind and version.
    pub(crate) fn decode(kind: FileKind, bytes: &[u8]) -> Option<Self> {
        let mut header: [u8; HEADER_BYTES] = bytes.get(..HEADER_BYTES)?.try_into().ok()?;
        let crc = [header[12], header[13], header[14], header[15]];
        header[12..16].fill(0);
        if &header[..8] != kind.magic() || crc32c(&header).to_le_bytes() != crc {
            return None;
        }
        let mut fields = Fields::new(&header[8..]);
        if fields.u32().ok()? != VERSION {
            return None;
        }
        fields.u32().ok()?;
        Some(Self {
            log_id: fields.uuid().ok()?,
            partition: PartitionId(fields.u64().ok()?),
            base_offset: fields.u64().ok()?,
            generation: fields.u64().ok()?,
            number: fields.u64().ok()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn round_trip_and_every_flipped_bit_is_seen() {
        let header = SegmentHeader {
            log_id: Uuid::from_u128(3),
            partition: PartitionId(4),
            base_offset: 5,
            generation: 6,
            number: 7,
        };
        for kind in [FileKind::Segment, FileKind::Sidecar] {
            let bytes = header.encode(kind);
            assert_eq!(SegmentHeader::decode(kind, &bytes), Some(header));
            for bit in 0..HEADER_BYTES * 8 {
                let mut damaged = bytes;
                damaged[bit / 8] ^= 1 << (bit % 8);
                assert_eq!(SegmentHeader::decode(kind, &damaged), None, "bit {bit}");
            }
        }
        assert_eq!(SegmentHeader::decode(FileKind::Sidecar, &header.encode(FileKind::Segment)), None);
    }
}
