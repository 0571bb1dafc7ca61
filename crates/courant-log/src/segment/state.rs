//! A segment in checkpoints and in the journal: it names exactly one content of the file. On disk: the
//! numbers are fixed.

use uuid::Uuid;

use super::blocks::{Blocks, FirstBatch, OpenBlock};
use super::file::Segment;
use super::header::SegmentHeader;
use super::key::SegmentKey;
use super::verify::Recorded;
use crate::PartitionId;
use crate::bytes_io::{Fields, Short};

const NO_BATCH: u32 = u32::MAX;

/// One segment as it is at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SegmentState {
    pub(crate) base_offset: u64,
    pub(crate) generation: u64,
    /// Length of the file; 0 when there is none yet.
    pub(crate) bytes: u64,
    /// Checksum over the checksums of all whole blocks.
    pub(crate) done_crc: u32,
    pub(crate) open: OpenBlock,
    /// How often compaction has replaced what begins there.
    pub(crate) number: u64,
    /// When it was compacted, in milliseconds since 1970; 0: never.
    pub(crate) compacted_ms: i64,
}

impl SegmentState {
    /// Bytes of one in a release that did not compact.
    pub(crate) const BYTES_WITHOUT_COMPACTION: usize = 52;
    pub(crate) const BYTES: usize = Self::BYTES_WITHOUT_COMPACTION + 16;

    pub(crate) fn of(segment: &Segment) -> Self {
        let compacted_ms = segment.compacted().map_or(0, |compacted| compacted.at_ms);
        Self::of_blocks(&segment.header, &segment.blocks(), compacted_ms)
    }

    pub(crate) fn of_blocks(header: &SegmentHeader, blocks: &Blocks, compacted_ms: i64) -> Self {
        Self {
            base_offset: header.base_offset,
            generation: header.generation,
            bytes: blocks.filled(),
            done_crc: blocks.done_crc(),
            open: blocks.open(),
            number: header.number,
            compacted_ms,
        }
    }

    /// Which segment of a partition it is.
    pub(crate) fn key(&self, partition: PartitionId) -> SegmentKey {
        SegmentKey { partition, base_offset: self.base_offset, number: self.number }
    }

    /// What a file of that segment must be.
    pub(crate) fn recorded(&self, log_id: Uuid, partition: PartitionId, end_offset: u64) -> Recorded {
        let Self { base_offset, generation, number, .. } = *self;
        Recorded {
            header: SegmentHeader { log_id, partition, base_offset, generation, number },
            end_offset,
            bytes: self.bytes,
            done_crc: self.done_crc,
            open: self.open,
            compacted_ms: self.compacted_ms,
        }
    }

    pub(crate) fn put(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.base_offset.to_le_bytes());
        out.extend_from_slice(&self.generation.to_le_bytes());
        out.extend_from_slice(&self.bytes.to_le_bytes());
        out.extend_from_slice(&self.done_crc.to_le_bytes());
        out.extend_from_slice(&self.open.crc_state.to_le_bytes());
        out.extend_from_slice(&self.open.first.map_or(NO_BATCH, |first| first.at).to_le_bytes());
        out.extend_from_slice(&self.open.first.map_or(0, |first| first.offset).to_le_bytes());
        out.extend_from_slice(&self.open.max_timestamp.to_le_bytes());
        out.extend_from_slice(&self.number.to_le_bytes());
        out.extend_from_slice(&self.compacted_ms.to_le_bytes());
    }

    pub(crate) fn take(fields: &mut Fields<'_>) -> Result<Self, Short> {
        let state = Self::take_without_compaction(fields)?;
        Ok(Self { number: fields.u64()?, compacted_ms: fields.i64()?, ..state })
    }

    /// As a release that did not compact wrote it.
    pub(crate) fn take_without_compaction(fields: &mut Fields<'_>) -> Result<Self, Short> {
        let base_offset = fields.u64()?;
        let generation = fields.u64()?;
        let bytes = fields.u64()?;
        let done_crc = fields.u32()?;
        let crc_state = fields.u32()?;
        let at = fields.u32()?;
        let offset = fields.u64()?;
        let max_timestamp = fields.i64()?;
        let first = (at != NO_BATCH).then_some(FirstBatch { at, offset });
        let open = OpenBlock { crc_state, first, max_timestamp };
        Ok(Self { base_offset, generation, bytes, done_crc, open, number: 0, compacted_ms: 0 })
    }
}
