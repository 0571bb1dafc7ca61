//! Checksums and sparse index of a segment, one entry for each 64 KiB block of the file.
//!
//! An entry says where in the block the first batch begins, with which offset, and the greatest
//! timestamp of the batches that begin there: index, time index and evidence against silent damage
//! are the same 32 bytes. The entries of whole blocks go to the sidecar at checkpoints; the entry of
//! the block that is still filling is part of the checkpoint. On disk: the numbers are fixed.

use std::cmp::Reverse;

use crc_fast::{CrcAlgorithm, Digest};

use super::header::SegmentHeader;
use super::key::SegmentKey;
use super::verify::Recorded;
use crate::batch::{self, BatchHeader};
use crate::bytes_io::{Fields, Short};
use crate::limits::{GROUP_BYTES_MAX, SEGMENT_BLOCK_BYTES};

/// Bytes of one entry in the sidecar.
pub(crate) const ENTRY_BYTES: usize = 32;
const NO_BATCH: u32 = u32::MAX;

/// One block's entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Block {
    /// CRC-32C of the block's bytes, seeded with what tells segment and block from all others.
    pub(crate) crc: u32,
    /// Where in the block the first batch begins; `None` while a longer batch covers it.
    pub(crate) first: Option<FirstBatch>,
    /// Greatest `max_timestamp` of the batches that begin in the block; `i64::MIN` when none does.
    pub(crate) max_timestamp: i64,
}

/// The first batch that begins in a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FirstBatch {
    pub(crate) at: u32,
    pub(crate) offset: u64,
}

impl Block {
    /// The entry as the sidecar keeps it, with a checksum of its own seeded with its number.
    pub(crate) fn encode(&self, number: u64) -> [u8; ENTRY_BYTES] {
        let mut out = [0; ENTRY_BYTES];
        out[..4].copy_from_slice(&self.crc.to_le_bytes());
        out[4..8].copy_from_slice(&self.first.map_or(NO_BATCH, |first| first.at).to_le_bytes());
        out[8..16].copy_from_slice(&self.first.map_or(0, |first| first.offset).to_le_bytes());
        out[16..24].copy_from_slice(&self.max_timestamp.to_le_bytes());
        let crc = entry_crc(number, &out[..28]);
        out[28..].copy_from_slice(&crc.to_le_bytes());
        out
    }

    pub(crate) fn decode(number: u64, bytes: &[u8]) -> Result<Self, Short> {
        let entry = bytes.get(..ENTRY_BYTES).ok_or(Short)?;
        if entry_crc(number, &entry[..28]).to_le_bytes() != entry[28..] {
            return Err(Short);
        }
        let mut fields = Fields::new(entry);
        let crc = fields.u32()?;
        let at = fields.u32()?;
        let offset = fields.u64()?;
        let max_timestamp = fields.i64()?;
        let first = (at != NO_BATCH).then_some(FirstBatch { at, offset });
        Ok(Self { crc, first, max_timestamp })
    }
}

fn entry_crc(number: u64, entry: &[u8]) -> u32 {
    let mut crc = crate::crc::Crc32c::new();
    crc.update(&number.to_le_bytes());
    crc.update(entry);
    crc.finish()
}

/// The block that is still filling, as a checkpoint keeps it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct OpenBlock {
    /// State of the running checksum.
    pub(crate) crc_state: u32,
    pub(crate) first: Option<FirstBatch>,
    pub(crate) max_timestamp: i64,
}

/// The timestamp by which a batch is found. One that compaction has emptied has none.
pub(crate) fn indexed_timestamp(header: &BatchHeader) -> i64 {
    if header.record_count == 0 { i64::MIN } else { header.newest_timestamp() }
}

/// All entries of one segment. Invariant: `done.len() == filled / SEGMENT_BLOCK_BYTES`, but for a
/// segment whose entries are lost, which has none.
#[derive(Debug)]
pub(crate) struct Blocks {
    segment: SegmentKey,
    done: Vec<Block>,
    /// Running checksum over the checksums of `done`.
    done_digest: Digest,
    digest: Digest,
    first: Option<FirstBatch>,
    max_timestamp: i64,
    filled: u64,
}

impl Blocks {
    pub(crate) fn new(header: &SegmentHeader) -> Self {
        let mut blocks = Self {
            segment: header.key(),
            done: Vec::new(),
            done_digest: Digest::new(CrcAlgorithm::Crc32Iscsi),
            digest: Digest::new(CrcAlgorithm::Crc32Iscsi),
            first: None,
            max_timestamp: i64::MIN,
            filled: 0,
        };
        blocks.begin();
        blocks
    }

    /// Entries as a checkpoint and a sidecar hold them.
    pub(crate) fn resume(header: &SegmentHeader, done: Vec<Block>, open: OpenBlock, filled: u64) -> Self {
        let mut done_digest = Digest::new(CrcAlgorithm::Crc32Iscsi);
        for block in &done {
            done_digest.update(&block.crc.to_le_bytes());
        }
        let digest = Digest::new_with_init_state(CrcAlgorithm::Crc32Iscsi, u64::from(open.crc_state));
        Self {
            segment: header.key(),
            done,
            done_digest,
            digest,
            first: open.first,
            max_timestamp: open.max_timestamp,
            filled,
        }
    }

    /// The entries of a file, made from its bytes, if they are those that a checkpoint means. `read`
    /// fills a buffer from a position and returns how many bytes there were.
    pub(crate) fn of_file(
        recorded: &Recorded,
        mut read: impl FnMut(&mut [u8], u64) -> usize,
    ) -> Option<Self> {
        let mut blocks = Self::new(&recorded.header);
        let mut bytes = vec![0; super::HEADER_BYTES];
        if read(&mut bytes, 0) < bytes.len() {
            return None;
        }
        blocks.header(&bytes);
        while blocks.filled < recorded.bytes {
            let mut head = [0; batch::HEADER_BYTES];
            let count = read(&mut head, blocks.filled);
            let header = BatchHeader::parse(&head[..count]).ok()?;
            let room = (recorded.bytes - blocks.filled).min(GROUP_BYTES_MAX as u64);
            if header.total_bytes() as u64 > room {
                return None;
            }
            bytes.resize(header.total_bytes(), 0);
            if read(&mut bytes, blocks.filled) < bytes.len() {
                return None;
            }
            let offset = u64::try_from(header.base_offset).ok()?;
            blocks.batch(offset, indexed_timestamp(&header), &bytes);
        }
        let same = blocks.done_crc() == recorded.done_crc && blocks.open() == recorded.open;
        same.then_some(blocks)
    }

    /// No entries of whole blocks, which are lost. What a checkpoint names stays.
    pub(crate) fn unknown(recorded: &Recorded) -> Self {
        let mut blocks = Self::resume(&recorded.header, Vec::new(), recorded.open, recorded.bytes);
        let state = u64::from(recorded.done_crc ^ u32::MAX);
        blocks.done_digest = Digest::new_with_init_state(CrcAlgorithm::Crc32Iscsi, state);
        blocks
    }

    /// Whether the entries of all whole blocks are known.
    pub(crate) fn is_complete(&self) -> bool {
        self.done.len() as u64 == self.open_number()
    }

    /// The number of the block that is still filling, also where the entries before it are lost.
    fn open_number(&self) -> u64 {
        self.filled / SEGMENT_BLOCK_BYTES
    }

    /// The offset of the batch that begins there, if it is the first of its block.
    pub(crate) fn offset_at(&self, position: u64) -> Option<u64> {
        let number = position / SEGMENT_BLOCK_BYTES;
        let done = usize::try_from(number).ok().and_then(|number| self.done.get(number));
        let first = match done {
            Some(block) => block.first?,
            None => self.first.filter(|_| number == self.open_number())?,
        };
        (u64::from(first.at) == position % SEGMENT_BLOCK_BYTES).then_some(first.offset)
    }

    /// Where batches begin, one for each block in which one does.
    pub(crate) fn firsts(&self) -> Vec<(u64, FirstBatch)> {
        self.entries().filter_map(|(number, first, _)| Some((number, first?))).collect()
    }

    /// The running checksum of a block that has no bytes yet.
    pub(crate) fn digest(segment: SegmentKey, number: u64) -> Digest {
        let mut digest = Digest::new(CrcAlgorithm::Crc32Iscsi);
        for seed in [segment.partition.0, segment.base_offset, number] {
            digest.update(&seed.to_le_bytes());
        }
        if segment.number > 0 {
            digest.update(&segment.number.to_le_bytes());
        }
        digest
    }

    /// CRC-32C over the checksums of whole blocks, as [`Self::done_crc`] has it.
    pub(crate) fn crc_of(blocks: impl Iterator<Item = u32>) -> u32 {
        let mut digest = Digest::new(CrcAlgorithm::Crc32Iscsi);
        blocks.for_each(|crc| digest.update(&crc.to_le_bytes()));
        digest.finalize() as u32
    }

    fn begin(&mut self) {
        self.digest = Self::digest(self.segment, self.done.len() as u64);
        self.first = None;
        self.max_timestamp = i64::MIN;
    }

    /// Accounts for the segment's header.
    pub(crate) fn header(&mut self, bytes: &[u8]) {
        self.fill(bytes);
    }

    /// Accounts for one batch at the end of the segment.
    pub(crate) fn batch(&mut self, offset: u64, max_timestamp: i64, bytes: &[u8]) {
        let at = (self.filled % SEGMENT_BLOCK_BYTES) as u32;
        self.first.get_or_insert(FirstBatch { at, offset });
        self.max_timestamp = self.max_timestamp.max(max_timestamp);
        self.fill(bytes);
    }

    fn fill(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let room = SEGMENT_BLOCK_BYTES - self.filled % SEGMENT_BLOCK_BYTES;
            let (now, later) = bytes.split_at(bytes.len().min(room as usize));
            self.digest.update(now);
            self.filled += now.len() as u64;
            bytes = later;
            if self.filled.is_multiple_of(SEGMENT_BLOCK_BYTES) {
                let crc = self.digest.finalize() as u32;
                self.done_digest.update(&crc.to_le_bytes());
                self.done.push(Block { crc, first: self.first, max_timestamp: self.max_timestamp });
                self.begin();
            }
        }
    }

    pub(crate) fn done(&self) -> &[Block] {
        &self.done
    }

    pub(crate) fn filled(&self) -> u64 {
        self.filled
    }

    pub(crate) fn open(&self) -> OpenBlock {
        OpenBlock {
            crc_state: self.digest.get_state() as u32,
            first: self.first,
            max_timestamp: self.max_timestamp,
        }
    }

    /// CRC-32C over the checksums of all finished entries: names exactly one content of the segment.
    pub(crate) fn done_crc(&self) -> u32 {
        self.done_digest.finalize() as u32
    }

    fn entries(&self) -> impl DoubleEndedIterator<Item = (u64, Option<FirstBatch>, i64)> + '_ {
        let open = (self.open_number(), self.first, self.max_timestamp);
        let done = self.done.iter().enumerate();
        done.map(|(number, block)| (number as u64, block.first, block.max_timestamp)).chain([open])
    }

    /// A position in the file at which a batch begins that is not behind `offset`.
    pub(crate) fn position_at_or_before(&self, offset: u64) -> u64 {
        if let Some(first) = self.first.filter(|first| first.offset <= offset) {
            return self.open_number() * SEGMENT_BLOCK_BYTES + u64::from(first.at);
        }
        // Blocks that a long batch covers begin none: they count as the last one before them that does.
        let begins_before = |end: usize| {
            let blocks = self.done[..end].iter().enumerate().rev();
            let mut found = blocks.filter_map(|(number, block)| Some((number, block.first?)));
            found.next()
        };
        let (mut low, mut high) = (0, self.done.len());
        while low < high {
            let middle = low + (high - low) / 2;
            match begins_before(middle + 1) {
                Some((_, first)) if first.offset > offset => high = middle,
                _ => low = middle + 1,
            }
        }
        begins_before(low).map_or(super::HEADER_BYTES as u64, |(number, first)| {
            number as u64 * SEGMENT_BLOCK_BYTES + u64::from(first.at)
        })
    }

    /// Positions of first batches of the blocks in which batches that end behind the offset `start` may begin, in order,
    /// each with the greatest timestamp of those that begin in its block.
    fn begins_from(&self, start: u64) -> impl Iterator<Item = (u64, i64)> + '_ {
        // What begins in a block ends at or before what the next one begins with.
        let from = self.position_at_or_before(start);
        let begins = self.entries().filter_map(|(number, first, max)| {
            Some((number * SEGMENT_BLOCK_BYTES + u64::from(first?.at), max))
        });
        begins.skip_while(move |(position, _)| *position < from)
    }

    /// Of [`Self::begins_from`] those whose blocks hold a timestamp of at least `at_ms`.
    pub(crate) fn positions_from_time(&self, at_ms: i64, start: u64) -> Vec<u64> {
        let begins = self.begins_from(start).filter(|(_, max)| *max >= at_ms);
        begins.map(|(position, _)| position).collect()
    }

    /// [`Self::begins_from`], the newest first.
    pub(crate) fn newest_first(&self, start: u64) -> Vec<(u64, i64)> {
        let mut begins: Vec<_> = self.begins_from(start).collect();
        begins.sort_by_key(|(_, max)| Reverse(*max));
        begins
    }

    /// The greatest timestamp of the first block that begins a batch: about when the segment began.
    pub(crate) fn first_timestamp(&self) -> Option<i64> {
        self.entries().map(|(_, _, max)| max).find(|max| *max != i64::MIN).filter(|first| *first >= 0)
    }

    /// The greatest timestamp of the segment.
    pub(crate) fn max_timestamp(&self) -> Option<i64> {
        self.entries().map(|(_, _, max)| max).max().filter(|max| *max != i64::MIN)
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;
    use crate::PartitionId;

    const HEADER: SegmentHeader = SegmentHeader {
        log_id: Uuid::nil(),
        partition: PartitionId(1),
        base_offset: 0,
        generation: 1,
        number: 0,
    };

    fn filled() -> Blocks {
        let mut blocks = Blocks::new(&HEADER);
        blocks.header(&[0; 64]);
        for batch in 0..100u64 {
            blocks.batch(batch * 10, 1000 + batch as i64, &vec![batch as u8; 5000]);
        }
        // One batch longer than a block, so that a block begins no batch.
        blocks.batch(1000, 5000, &vec![9; 200_000]);
        blocks.batch(1001, 5001, &[1; 100]);
        blocks
    }

    #[test]
    fn the_newest_blocks_come_first_and_none_that_ends_before_an_offset() {
        let blocks = filled();
        let all = blocks.newest_first(0);
        assert_eq!(all.len(), blocks.firsts().len());
        assert!(all.is_sorted_by(|(_, before), (_, behind)| before >= behind));
        let newest = |start| blocks.newest_first(start).into_iter().map(|(_, max)| max).collect::<Vec<_>>();
        assert_eq!(newest(1000), [5001, 5000]);
        assert_eq!(newest(1001), [5001]);
        assert_eq!(newest(7000), [5001]);
        assert_eq!(Blocks::new(&HEADER).newest_first(0), []);
    }

    #[test]
    fn lookups_land_on_a_batch_at_or_before_the_offset() {
        let blocks = filled();
        for offset in [0, 9, 10, 555, 999, 1000, 1001, 5000] {
            let position = blocks.position_at_or_before(offset);
            let batch = if position > 64 + 500_000 { 1001 } else { (position - 64) / 5000 * 10 };
            assert!(batch <= offset, "{offset} {position}");
            assert!(offset - batch <= 200 || offset > 1000, "{offset} {position}");
        }
        assert_eq!(blocks.max_timestamp(), Some(5001));
        assert_eq!(blocks.positions_from_time(5001, 0).len(), 1);
        assert!(blocks.positions_from_time(5002, 0).is_empty());
        // What ends before an offset is passed over.
        assert_eq!(
            (blocks.positions_from_time(0, 1000).len(), blocks.positions_from_time(0, 1001).len()),
            (2, 1)
        );
    }

    #[test]
    fn a_resumed_index_goes_on_as_if_never_stopped() {
        let mut one = filled();
        let open = one.open();
        let mut two = Blocks::resume(&HEADER, one.done().to_vec(), open, one.filled());
        for blocks in [&mut one, &mut two] {
            blocks.batch(1002, 6000, &vec![3; 100_000]);
        }
        assert_eq!(one.done(), two.done());
        assert_eq!(one.open(), two.open());
        assert_eq!(one.done_crc(), two.done_crc());
    }

    /// Symptom: where the entries of a segment were lost, its last block was looked for where the first one is. Cause:
    /// blocks were numbered by the entries that are there. Fix: by the bytes.
    #[test]
    fn what_is_left_of_a_lost_index_leads_to_where_a_batch_begins() {
        let whole = filled();
        let recorded = Recorded {
            header: HEADER,
            end_offset: 1002,
            bytes: whole.filled(),
            done_crc: whole.done_crc(),
            open: whole.open(),
            compacted_ms: 0,
        };
        let left = Blocks::unknown(&recorded);
        assert!(whole.is_complete() && !left.is_complete());
        assert_eq!((left.done_crc(), left.open(), left.filled()), (whole.done_crc(), whole.open(), 700_164));
        assert_eq!((left.firsts().len(), left.firsts().last()), (1, whole.firsts().last()));
        assert_eq!(left.position_at_or_before(1001), whole.position_at_or_before(1001));
        assert_eq!(left.position_at_or_before(1000), 64);
        assert_eq!(left.newest_first(1001), whole.newest_first(1001));
    }

    #[test]
    fn entries_round_trip_and_notice_their_number() {
        let blocks = filled();
        for (number, block) in blocks.done().iter().enumerate() {
            let bytes = block.encode(number as u64);
            assert_eq!(Block::decode(number as u64, &bytes), Ok(*block));
            assert!(Block::decode(number as u64 + 1, &bytes).is_err());
        }
    }
}
