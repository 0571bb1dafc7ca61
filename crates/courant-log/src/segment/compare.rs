//! Comparing what was read from a segment with the checksums of its blocks.
//!
//! A block that a read covers is compared every time. Of a block that it only touches, all of it is
//! read and compared once after a start; what this process has written itself is in the page cache and
//! needs no such look. So hardly a read costs a second one. Whoever serves bytes of blocks that were
//! only touched compares the checksums of the batches.

use std::io;
use std::ops::Range;

use super::blocks::Blocks;
use super::file::Segment;
use super::handles::Handles;
use crate::limits::SEGMENT_BLOCK_BYTES;
use crate::planted::{Defect, is_planted};
use crate::storage::Storage;

/// Input/output errors that say something about the stored bytes, and not about this process: EIO, and
/// what ext4, XFS and Btrfs answer for checksums of their own that do not match (EBADMSG, EUCLEAN).
const OF_THE_BYTES: [i32; 3] = [5, 74, 117];

/// How far a read may go for its bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reach {
    /// To the disk, however long that takes.
    Disk,
    /// To what is in memory of files that are open. Where that is not all, the error is `WouldBlock`, which says
    /// nothing about the bytes.
    Memory,
}

/// A block whose bytes are not those that were stored.
#[derive(Debug)]
pub(crate) struct BadBlock {
    pub(crate) number: u64,
    pub(crate) bytes: Range<u64>,
    pub(crate) what: String,
}

/// What a block must be.
#[derive(Clone, Copy, Debug)]
pub(super) struct Expected {
    pub(super) number: u64,
    pub(super) bytes: u64,
    pub(super) crc: ExpectedCrc,
}

#[derive(Clone, Copy, Debug)]
pub(super) enum ExpectedCrc {
    /// Of a block that is full.
    Whole(u32),
    /// The running checksum of one that was still filling.
    State(u32),
}

impl Expected {
    fn range(&self) -> Range<u64> {
        let begin = self.number * SEGMENT_BLOCK_BYTES;
        begin..begin + self.bytes
    }
}

/// Whether an error of a read means that these bytes are lost. All others may pass by themselves.
pub(crate) fn is_of_the_bytes(error: &io::Error) -> bool {
    error.raw_os_error().is_some_and(|code| OF_THE_BYTES.contains(&code))
        || matches!(error.kind(), io::ErrorKind::UnexpectedEof | io::ErrorKind::NotFound)
}

impl Segment {
    /// Compares what was read from `position` on, and returns which bytes that covers. The first block
    /// that differs is the error within the result; the error around it says nothing about the bytes.
    pub(crate) fn compare(
        &self,
        storage: &dyn Storage,
        handles: &Handles,
        reach: Reach,
        position: u64,
        read: &[u8],
    ) -> io::Result<Result<Range<u64>, BadBlock>> {
        let end = position + read.len() as u64;
        if reach == Reach::Memory && is_planted(Defect::CachedNotCompared) {
            return Ok(Ok(position..end));
        }
        let mut compared = position..position;
        for expected in self.expected(position..end) {
            let Range { start, end: block_end } = expected.range();
            let covered = start >= position && block_end <= end;
            let same = if covered {
                Ok(self.is_as_expected(
                    &expected,
                    &read[(start - position) as usize..][..expected.bytes as usize],
                ))
            } else if self.is_trusted(expected.number) {
                Ok(true)
            } else {
                self.read_block(storage, handles, reach, &expected)
                    .map(|block| self.is_as_expected(&expected, &block))
            };
            let what = match same {
                Ok(true) => {
                    self.trust(expected.number);
                    if covered {
                        let begin = if compared.is_empty() { start } else { compared.start };
                        compared = begin..block_end;
                    }
                    continue;
                }
                Ok(false) => "the bytes are not those that were stored".to_owned(),
                Err(error) if is_of_the_bytes(&error) => format!("it cannot be read: {error}"),
                Err(error) => return Err(error),
            };
            return Ok(Err(BadBlock { number: expected.number, bytes: expected.range(), what }));
        }
        Ok(Ok(compared))
    }

    /// Whether bytes that were read up to `end` end as they were written: those of the last block, where it is not
    /// full. Of full blocks, [`Self::compare`] tells. Where the segment ends elsewhere, because something is added to
    /// it meanwhile, nothing is known of that block and nothing is said against it.
    pub(crate) fn ends_as_written(&self, end: u64, read: &[u8]) -> bool {
        let (filled, open) = {
            let blocks = self.blocks();
            (blocks.filled(), blocks.open())
        };
        let (number, bytes) = (filled / SEGMENT_BLOCK_BYTES, filled % SEGMENT_BLOCK_BYTES);
        let expected = Expected { number, bytes, crc: ExpectedCrc::State(open.crc_state) };
        match read.len().checked_sub(bytes as usize) {
            _ if bytes == 0 || filled != end => true,
            Some(begin) => self.is_as_expected(&expected, &read[begin..]),
            None => false,
        }
    }

    /// Compares the block that was still filling when the segment was opened, before anything is added
    /// to it. False when its bytes are not those that were stored, or cannot be read now.
    pub(crate) fn is_fit_to_grow(&self, storage: &dyn Storage, handles: &Handles) -> bool {
        if self.is_closed() {
            return false;
        }
        let Some(open) = self.expected_open().filter(|open| !self.is_trusted(open.number)) else {
            return true;
        };
        let fit = self
            .read_block(storage, handles, Reach::Disk, &open)
            .is_ok_and(|block| self.is_as_expected(&open, &block));
        if fit {
            self.trust(open.number);
        } else {
            self.close();
        }
        fit
    }

    fn read_block(
        &self,
        storage: &dyn Storage,
        handles: &Handles,
        reach: Reach,
        expected: &Expected,
    ) -> io::Result<Vec<u8>> {
        let mut block = vec![0; expected.bytes as usize];
        let (filled, error) = self.fill(storage, handles, reach, &mut block, expected.range().start);
        match error {
            Some(error) => Err(error),
            None if filled < block.len() => {
                Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the file ends before"))
            }
            None => Ok(block),
        }
    }

    /// Reads as much of `buf` as there is from `position` on, and says why it is not all.
    pub(crate) fn fill(
        &self,
        storage: &dyn Storage,
        handles: &Handles,
        reach: Reach,
        buf: &mut [u8],
        position: u64,
    ) -> (usize, Option<io::Error>) {
        let mut filled = 0;
        while filled < buf.len() {
            match self.read(storage, handles, reach, &mut buf[filled..], position + filled as u64) {
                Ok(0) => break,
                Ok(count) => filled += count,
                Err(error) => return (filled, Some(error)),
            }
        }
        (filled, None)
    }

    fn is_as_expected(&self, expected: &Expected, bytes: &[u8]) -> bool {
        let mut digest = Blocks::digest(self.key(), expected.number);
        digest.update(bytes);
        match expected.crc {
            ExpectedCrc::Whole(crc) => digest.finalize() as u32 == crc,
            ExpectedCrc::State(state) => digest.get_state() as u32 == state,
        }
    }
}
