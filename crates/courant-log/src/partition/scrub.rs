//! Comparing a segment with its checksums piece by piece, for whoever wants to take time over it.

use super::{ReadError, Reader};
use crate::limits::SEGMENT_BLOCK_BYTES;
use crate::segment::{BadBlock, Segment};

impl Reader<'_> {
    /// Compares about `bytes_max` bytes of what readers may see of a segment, from a position on, as the
    /// disk holds them: whole blocks, one at least. Returns where to go on; none at the end. What differs
    /// is in quarantine afterwards.
    pub(crate) fn scrub_from(
        &self,
        segment: &Segment,
        position: u64,
        bytes_max: u64,
    ) -> Result<Option<u64>, ReadError> {
        if position == 0
            && let Ok(file) = segment.file(self.storage, self.handles)
        {
            let io = |source| ReadError::Io { partition: self.partition.id, source };
            file.drop_cache().map_err(io)?;
        }
        let end = segment.published();
        // A block that is read from its beginning to its end is compared, whoever compared it before.
        let begin = position / SEGMENT_BLOCK_BYTES * SEGMENT_BLOCK_BYTES;
        let blocks = (bytes_max / SEGMENT_BLOCK_BYTES).max(1);
        let wanted = (blocks * SEGMENT_BLOCK_BYTES).min(end.saturating_sub(begin));
        if wanted == 0 {
            return Ok(None);
        }
        let next = match self.bytes(segment, begin, wanted as usize) {
            Ok(bytes) => {
                self.compare_end(segment, begin, &bytes);
                begin + bytes.len() as u64
            }
            // It is in quarantine now; what is behind it may be sound.
            Err(ReadError::Corrupt { .. }) => begin + SEGMENT_BLOCK_BYTES,
            Err(error) => return Err(error),
        };
        Ok((next < end).then_some(next))
    }

    /// Compares the last block of what was read from the beginning of a block on, where the segment ends in it. The
    /// sidecar has no checksum of that block, and this process the one that the next checkpoint gets.
    pub(super) fn compare_end(&self, segment: &Segment, begin: u64, read: &[u8]) {
        let end = begin + read.len() as u64;
        if segment.ends_as_written(end, read) {
            return;
        }
        let number = end / SEGMENT_BLOCK_BYTES;
        let what = "the bytes are not those that were stored".to_owned();
        self.quarantine(segment, BadBlock { number, bytes: number * SEGMENT_BLOCK_BYTES..end, what });
    }
}
