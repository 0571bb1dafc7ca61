//! The batches of a segment, one after the other, each as it was stored.

use crate::batch::{BatchHeader, HEADER_BYTES as BATCH_HEADER_BYTES};
use crate::limits::{GROUP_BYTES_MAX, SEGMENT_BLOCK_BYTES};
use crate::partition::{ReadError, Reader};
use crate::segment::{FileKind, Segment};

/// Bytes that are read at a time. No batch is longer than a group of the journal.
const CHUNK_BYTES: usize = 1024 * 1024;

/// Why reading a segment through ended.
#[derive(Debug, thiserror::Error)]
pub(super) enum SourceError {
    #[error(transparent)]
    Read(#[from] ReadError),
    #[error("{path} is damaged at byte {position}: {what}")]
    Damaged { path: String, position: u64, what: String },
    #[error("the log stops")]
    Stopping,
}

impl Reader<'_> {
    /// Shows every batch of a segment that can be read and is not wholly below `start`, where the partition begins, in
    /// the order of offsets. What was given up as lost is passed over; any other damage is an error. Blocks are compared
    /// with their checksums, batches are not.
    pub(super) fn each_batch(
        &self,
        segment: &Segment,
        start: u64,
        mut each: impl FnMut(&[u8]) -> Result<(), SourceError>,
    ) -> Result<(), SourceError> {
        let gaps = self.partition.gaps();
        let end = self.end_of(segment);
        // Nobody is told of damage in what was deleted, so it must not stand in the way either.
        let mut offset = segment.header.base_offset.max(start);
        while offset < end {
            if let Some(gap) = gaps.iter().find(|gap| gap.contains(&offset)) {
                offset = gap.end;
                continue;
            }
            let gap = gaps.iter().map(|gap| gap.start).filter(|start| *start > offset).min();
            let until = gap.map_or(end, |gap| gap.min(end));
            let mut run = Run { reader: *self, segment, start, offset, until, is_gap_behind: until < end };
            run.each(&mut each)?;
            offset = until;
        }
        Ok(())
    }

    /// Shows the batches of a segment that [`Self::each_batch`] leaves out, in the order of offsets, and perhaps the one
    /// that the partition begins in. Damage is passed over: reading goes on with the next block in which a batch begins.
    pub(super) fn each_deleted(
        &self,
        segment: &Segment,
        start: u64,
        mut each: impl FnMut(&[u8]) -> Result<(), SourceError>,
    ) -> Result<(), SourceError> {
        let until = self.end_of(segment).min(start);
        let mut offset = segment.header.base_offset;
        // The guard is given back before anything else looks at the blocks.
        let (is_complete, firsts) = {
            let blocks = segment.blocks();
            (blocks.is_complete(), blocks.firsts())
        };
        // Without an index nothing vouches for an offset.
        while is_complete && offset < until {
            let mut run = Run { reader: *self, segment, start, offset, until, is_gap_behind: false };
            match run.each(&mut each) {
                Ok(()) => break,
                Err(SourceError::Damaged { .. } | SourceError::Read(ReadError::Corrupt { .. })) => {}
                Err(error) => return Err(error),
            }
            let reached = run.offset;
            let behind = firsts.iter().map(|(_, first)| first.offset).find(|first| *first > reached);
            let Some(behind) = behind else { break };
            offset = behind;
        }
        Ok(())
    }
}

/// Batches from an offset up to another.
struct Run<'a> {
    reader: Reader<'a>,
    segment: &'a Segment,
    /// Where the partition begins: a batch may reach over it.
    start: u64,
    /// Offset behind the last batch, at first the one to begin with.
    offset: u64,
    until: u64,
    /// Whether what follows was given up.
    is_gap_behind: bool,
}

impl Run<'_> {
    fn each(&mut self, each: &mut impl FnMut(&[u8]) -> Result<(), SourceError>) -> Result<(), SourceError> {
        let mut position = self.segment.blocks().position_at_or_before(self.offset);
        let mut wanted = CHUNK_BYTES;
        while self.offset < self.until && position < self.segment.published() {
            let chunk = match self.chunk(position, wanted) {
                Ok(chunk) => chunk,
                Err(SourceError::Read(ReadError::Corrupt { .. })) if self.is_given_up() => return Ok(()),
                Err(error) => return Err(error),
            };
            let used = self.whole_batches(position, &chunk, each)?;
            if used == 0 && self.offset < self.until {
                // The segment ends, or damage begins, within a batch.
                if chunk.len() < wanted || wanted >= GROUP_BYTES_MAX {
                    let is_given_up = self.is_given_up();
                    return if is_given_up {
                        Ok(())
                    } else {
                        Err(self.damaged(position, "a batch is cut off"))
                    };
                }
                wanted = GROUP_BYTES_MAX;
            } else {
                wanted = CHUNK_BYTES;
            }
            position += used as u64;
        }
        Ok(())
    }

    /// What stands from a position on, so many bytes at least where the segment has them. Whole blocks are read
    /// and compared, also those that this process has written or compared before: no batch's checksum covers its
    /// offset, and what a read brings wrong would get a new one here.
    fn chunk(&self, position: u64, wanted: usize) -> Result<Vec<u8>, SourceError> {
        let skipped = (position % SEGMENT_BLOCK_BYTES) as usize;
        let begin = position - skipped as u64;
        let count = (skipped + wanted).next_multiple_of(SEGMENT_BLOCK_BYTES as usize);
        let mut bytes = self.reader.bytes(self.segment, begin, count)?;
        let end = begin + bytes.len() as u64;
        if !self.segment.ends_as_written(end, &bytes) {
            return Err(
                self.damaged(end - end % SEGMENT_BLOCK_BYTES, "the bytes are not those that were written")
            );
        }
        bytes.drain(..skipped.min(bytes.len()));
        Ok(bytes)
    }

    /// Shows the whole batches of a chunk, and returns how many bytes they have.
    fn whole_batches(
        &mut self,
        position: u64,
        chunk: &[u8],
        each: &mut impl FnMut(&[u8]) -> Result<(), SourceError>,
    ) -> Result<usize, SourceError> {
        let mut at = 0;
        while let Some(rest) = chunk.get(at..).filter(|rest| rest.len() >= BATCH_HEADER_BYTES) {
            let here = position + at as u64;
            let header = BatchHeader::parse(rest).map_err(|error| self.damaged(here, &error.to_string()))?;
            let base = u64::try_from(header.base_offset).unwrap_or(u64::MAX);
            if base >= self.until {
                self.offset = self.until;
                break;
            }
            let Some(batch) = rest.get(..header.total_bytes()) else { break };
            let end = u64::try_from(header.last_offset()).unwrap_or(u64::MAX).saturating_add(1);
            // The index may lead to batches before the first one that is wanted.
            if end > self.offset {
                let is_cut = self.offset == self.start && base < self.start;
                if !is_cut && !self.segment.may_follow(self.offset, base) {
                    return Err(self.damaged(here, "another batch should stand there"));
                }
                each(batch)?;
                self.offset = end;
            }
            at += batch.len();
        }
        Ok(at)
    }

    /// Whether nothing is damaged up to the gap but what was given up.
    fn is_given_up(&self) -> bool {
        let damage = self.reader.partition.quarantined();
        let is_apart = |place: &std::ops::Range<u64>| place.end <= self.offset || self.until <= place.start;
        self.is_gap_behind && damage.iter().all(|place| is_apart(&place.offsets))
    }

    fn damaged(&self, position: u64, what: &str) -> SourceError {
        self.segment.distrust();
        SourceError::Damaged { path: self.segment.path(FileKind::Segment), position, what: what.to_owned() }
    }
}
