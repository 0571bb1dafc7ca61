//! Finding out which events damage takes with it.

use std::ops::Range;

use super::{Quarantined, ReadError, Reader};
use crate::limits::SEGMENT_BLOCK_BYTES;
use crate::segment::{BadBlock, FileKind, Lost, Segment, events_in};

impl Reader<'_> {
    /// Refuses an offset at which nothing is stored, and behind which the next event, at `next`, is in quarantine:
    /// with it and everything up to its end, so that a reader can go on behind that.
    pub(super) fn is_not_before_damage(&self, offset: u64, next: u64) -> Result<(), ReadError> {
        match self.partition.quarantined_at(next) {
            Some(damage) if next > offset => Err(ReadError::Quarantined { offsets: offset..damage.end }),
            _ => Ok(()),
        }
    }

    /// Notes which events a bad block takes with it. A segment that is not part of the partition any
    /// more has lost its files in good order.
    pub(super) fn quarantine(&self, segment: &Segment, bad: BadBlock) {
        if !self.partition.has_segment(segment.key()) {
            return;
        }
        let offsets = self.events_of(segment, &bad);
        let path = segment.path(FileKind::Segment);
        let BadBlock { bytes, what, .. } = bad;
        self.partition.quarantine(Quarantined { path, bytes: Some(bytes), offsets, what });
    }

    /// Offsets of the events that have bytes in a block; of all in the segment when that cannot be said.
    fn events_of(&self, segment: &Segment, bad: &BadBlock) -> Range<u64> {
        let all = segment.header.base_offset..self.end_of(segment);
        let firsts = segment.blocks().firsts();
        match segment.file(self.storage, self.handles) {
            Ok(file) => events_in(&*file, &firsts, all, bad.number),
            Err(_) => all,
        }
    }

    /// The offset behind the last event of a segment.
    pub(crate) fn end_of(&self, segment: &Segment) -> u64 {
        let next = self.partition.segment_behind(segment.header.base_offset);
        next.map_or(self.partition.offsets().high_watermark, |next| next.header.base_offset)
    }

    /// Whether something may be added to a segment: the end that was found at the start is as it was
    /// stored. Looks once, and quarantines the end where it is not.
    pub(crate) fn is_fit_to_grow(&self, segment: &Segment) -> bool {
        let fit = segment.is_fit_to_grow(self.storage, self.handles);
        if let Some(number) = segment.found_open().filter(|_| !fit) {
            let begin = number * SEGMENT_BLOCK_BYTES;
            let what = "the bytes are not those that were stored".to_owned();
            self.quarantine(segment, BadBlock { number, bytes: begin..segment.published(), what });
        }
        fit
    }

    /// Quarantines what was found to be lost when a segment was opened.
    pub(crate) fn quarantine_lost(&self, segment: &Segment, lost: Lost) {
        let published = segment.published();
        let all = segment.header.base_offset..self.end_of(segment);
        let whole = |what: &str| Quarantined {
            path: segment.path(FileKind::Segment),
            bytes: None,
            offsets: all.clone(),
            what: what.to_owned(),
        };
        match lost {
            Lost::File => self.partition.quarantine(whole("the file is missing")),
            Lost::Everything => {
                self.partition
                    .quarantine(whole("its bytes are not those that were stored, and nothing says which"));
            }
            Lost::Behind(found) => {
                let begin = found / SEGMENT_BLOCK_BYTES * SEGMENT_BLOCK_BYTES;
                let first = BadBlock {
                    number: found / SEGMENT_BLOCK_BYTES,
                    bytes: begin..published,
                    what: "the file ends before".to_owned(),
                };
                let offsets = self.events_of(segment, &first).start..all.end;
                let path = segment.path(FileKind::Segment);
                let BadBlock { bytes, what, .. } = first;
                self.partition.quarantine(Quarantined { path, bytes: Some(bytes), offsets, what });
            }
        }
    }

    /// Compares everything that readers may see of a segment, as the disk holds it.
    pub(crate) fn scrub(&self, segment: &Segment) -> Result<(), ReadError> {
        const STEP_BYTES: usize = 1024 * 1024;
        if let Ok(file) = segment.file(self.storage, self.handles) {
            let io = |source| ReadError::Io { partition: self.partition.id, source };
            file.drop_cache().map_err(io)?;
        }
        segment.distrust();
        let mut position = 0;
        while position < segment.published() {
            position = match self.bytes(segment, position, STEP_BYTES) {
                Ok(bytes) => {
                    self.compare_end(segment, position, &bytes);
                    position + bytes.len() as u64
                }
                // It is in quarantine now; what is behind it may be sound.
                Err(ReadError::Corrupt { .. }) => (position / SEGMENT_BLOCK_BYTES + 1) * SEGMENT_BLOCK_BYTES,
                Err(error) => return Err(error),
            };
        }
        Ok(())
    }
}
