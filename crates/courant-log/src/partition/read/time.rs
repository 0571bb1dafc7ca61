//! Events by their time: the first from a time on, and the newest.

use std::cmp::Reverse;
use std::ops::Range;

use super::{ReadError, Reader, TimedOffset, corrupt, end_offset, offset_of};
use crate::batch::{BatchHeader, records};
use crate::limits::SEGMENT_BLOCK_BYTES;
use crate::partition::Offsets;
use crate::segment::{HEADER_BYTES, Segment};
use crate::unpacking::Unpacking;

/// What a look for a time finds.
type Timed = Result<Option<TimedOffset>, ReadError>;

/// The newest time of events when there are none. Whatever a producer says, no event is older.
const NONE_MS: i64 = i64::MIN;

impl Reader<'_> {
    /// The first event whose timestamp is `at_ms` or later.
    pub(crate) fn offset_for_time(&self, at_ms: i64, unpacking: &Unpacking) -> Timed {
        self.undisturbed(|| self.first_from_time(at_ms, self.partition.offsets(), unpacking))
    }

    fn first_from_time(&self, at_ms: i64, ends: Offsets, unpacking: &Unpacking) -> Timed {
        for segment in self.partition.segments() {
            match self.time_in_segment(&segment, at_ms, ends, unpacking) {
                Ok(None) => {}
                Ok(Some(found)) => return Ok(Some(found).filter(|found| found.offset < ends.high_watermark)),
                // Retention took it away while it was read: what is left begins behind it.
                Err(_) if !self.partition.has_segment(segment.key()) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(None)
    }

    fn time_in_segment(&self, segment: &Segment, at_ms: i64, ends: Offsets, unpacking: &Unpacking) -> Timed {
        if !self.has_index(segment, ends)? {
            return Ok(None);
        }
        let begins = segment.blocks().positions_from_time(at_ms, ends.start);
        for begin in begins {
            match self.time_in_block(segment, begin, at_ms, ends, unpacking) {
                // What had the time was deleted, or emptied by compaction.
                Ok(None) => {}
                // What was accepted as lost is passed over. Any other damage may hide the answer.
                Err(_) if self.is_given_up(segment, begin) => {}
                answer => return answer,
            }
        }
        Ok(None)
    }

    /// Whether there is an index that leads to the times of a segment. Where it is lost, so are the events, and any of
    /// them may be the answer, unless they were accepted as lost.
    fn has_index(&self, segment: &Segment, ends: Offsets) -> Result<bool, ReadError> {
        let is_complete = segment.blocks().is_complete();
        if is_complete || self.is_given_up(segment, HEADER_BYTES as u64) {
            return Ok(is_complete);
        }
        let offsets = segment.header.base_offset.max(ends.start)..self.end_of(segment);
        Err(ReadError::Quarantined { offsets })
    }

    /// Whether all damage of a segment from there on was accepted.
    fn is_given_up(&self, segment: &Segment, position: u64) -> bool {
        let from = segment.blocks().offset_at(position).unwrap_or(segment.header.base_offset);
        let segment = from..self.end_of(segment);
        let gaps = self.partition.gaps();
        let touches = |range: &Range<u64>| range.start < segment.end && segment.start < range.end;
        gaps.iter().any(touches)
            && !self.partition.quarantined().iter().any(|damage| touches(&damage.offsets))
    }

    /// As [`Self::first_from_time`] of the batches that begin in one block, the first of them at `begin`.
    fn time_in_block(
        &self,
        segment: &Segment,
        begin: u64,
        at_ms: i64,
        ends: Offsets,
        unpacking: &Unpacking,
    ) -> Timed {
        // The first batch that is there may begin with events that were deleted.
        let may_have =
            |header: &BatchHeader| header.newest_timestamp() >= at_ms && end_offset(header) > ends.start;
        let mut begins = of_one_block(begin);
        while let Some((at, header)) = self.walk(segment, begins.clone(), may_have)? {
            let batch = self.batch_at(segment, at, &header)?;
            // What clients put into a batch is theirs. Where it cannot be read, or holds less than
            // its header says, the whole batch answers for its events.
            let whole = |offset| TimedOffset { offset, timestamp_ms: header.newest_timestamp() };
            let inside = unpacking.one(|max| records::first_at_or_after(&batch, at_ms, ends.start, max));
            let found = match inside {
                Ok(inside) => timed(inside).unwrap_or(whole(offset_of(&header))),
                Err(_) => whole(offset_of(&header).max(ends.start)),
            };
            // Compaction may have left no event of it.
            let is_emptied = header.record_count == 0;
            if found.offset >= ends.start && !is_emptied {
                return Ok(Some(found));
            }
            begins.start = at + header.total_bytes() as u64;
        }
        Ok(None)
    }

    fn batch_at(&self, segment: &Segment, position: u64, header: &BatchHeader) -> Result<Vec<u8>, ReadError> {
        let batch = self.bytes(segment, position, header.total_bytes())?;
        if batch.len() < header.total_bytes() {
            return Err(corrupt(segment, position, "a batch reaches into damage"));
        }
        Ok(batch)
    }

    /// The event with the greatest timestamp; the first of them when there are several.
    pub(crate) fn max_timestamp(&self, unpacking: &Unpacking) -> Timed {
        self.undisturbed(|| self.first_of_newest(unpacking))
    }

    fn first_of_newest(&self, unpacking: &Unpacking) -> Timed {
        let ends = self.partition.offsets();
        let segments = self.partition.segments();
        for segment in &segments {
            self.has_index(segment, ends)?;
        }
        let Some(newest) = segments.iter().filter_map(|segment| segment.max_timestamp()).max() else {
            return Ok(None);
        };
        // The segments know of no newer event, so one that is found is the newest.
        if let Some(found) = self.first_from_time(newest, ends, unpacking)? {
            return Ok(Some(found));
        }
        // The event that they know of was deleted while others of its segment are left, or is not durable yet.
        match self.newest_time(ends, unpacking)? {
            NONE_MS => Ok(None),
            newest => self.first_from_time(newest, ends, unpacking),
        }
    }

    /// The greatest timestamp of all events between the ends. Whole batches are taken at their headers' word; of the
    /// one in which the partition begins, the events are looked at.
    fn newest_time(&self, ends: Offsets, unpacking: &Unpacking) -> Result<i64, ReadError> {
        let segments = self.partition.segments().into_iter();
        let mut segments: Vec<_> =
            segments.filter_map(|segment| Some((segment.max_timestamp()?, segment))).collect();
        segments.sort_by_key(|(at_most, _)| Reverse(*at_most));
        let mut newest = NONE_MS;
        for (at_most, segment) in segments {
            if at_most <= newest {
                break;
            }
            match self.newest_in_segment(&segment, newest, ends, unpacking) {
                Ok(found) => newest = found,
                Err(_) if !self.partition.has_segment(segment.key()) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(newest)
    }

    /// As [`Self::newest_time`] of one segment; `newest` where nothing in it is newer.
    fn newest_in_segment(
        &self,
        segment: &Segment,
        mut newest: i64,
        ends: Offsets,
        unpacking: &Unpacking,
    ) -> Result<i64, ReadError> {
        if !self.has_index(segment, ends)? {
            return Ok(newest);
        }
        let begins = segment.blocks().newest_first(ends.start);
        for (begin, at_most) in begins {
            if at_most <= newest {
                break;
            }
            match self.newest_in_block(segment, begin, ends, unpacking) {
                Ok(found) => newest = newest.max(found),
                // As in a look for a time.
                Err(_) if self.is_given_up(segment, begin) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(newest)
    }

    /// As [`Self::newest_time`] of the batches that begin in one block, the first of them at `begin`.
    fn newest_in_block(
        &self,
        segment: &Segment,
        begin: u64,
        ends: Offsets,
        unpacking: &Unpacking,
    ) -> Result<i64, ReadError> {
        let (mut newest, mut cut, mut next) = (NONE_MS, None, begin);
        self.walk(segment, of_one_block(begin), |header| {
            let position = next;
            next += header.total_bytes() as u64;
            let (first, end) = (offset_of(header), end_offset(header));
            // Compaction may have left no event of it.
            let is_there = end > ends.start && end <= ends.high_watermark && header.record_count > 0;
            if is_there && first < ends.start {
                cut = Some((position, *header));
            } else if is_there {
                newest = newest.max(header.newest_timestamp());
            }
            false
        })?;
        let Some((position, header)) = cut else { return Ok(newest) };
        let batch = self.batch_at(segment, position, &header)?;
        let left = unpacking.one(|max| records::max_timestamp_record(&batch, ends.start, max));
        // As in a look for a time, all that is left answers for what cannot be read; and no event is found by a later
        // time than its batch has in the index.
        let indexed = header.newest_timestamp();
        let left = left.map_or(indexed, |left| left.map_or(NONE_MS, |(_, time_ms)| time_ms.min(indexed)));
        Ok(newest.max(left))
    }
}

/// Where the batches of a block begin, the first of them at `begin`.
fn of_one_block(begin: u64) -> Range<u64> {
    begin..(begin / SEGMENT_BLOCK_BYTES + 1) * SEGMENT_BLOCK_BYTES
}

fn timed(found: Option<(i64, i64)>) -> Option<TimedOffset> {
    let (offset, timestamp_ms) = found?;
    Some(TimedOffset { offset: u64::try_from(offset).ok()?, timestamp_ms })
}
