//! Reading: whole batches as they are stored, found by offset or by time.

mod time;

use std::io;
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;

use super::shared::Hint;
use super::{Offsets, Partition, PartitionId};
use crate::batch::{BatchHeader, HEADER_BYTES as BATCH_HEADER_BYTES, verify_crc};
use crate::buffers::{Buffer, Buffers};
use crate::limits::SEGMENT_BLOCK_BYTES;
use crate::segment::{BadBlock, FileKind, Handles, Reach, Segment, is_of_the_bytes};
use crate::storage::Storage;

/// What a read found.
#[derive(Clone, Debug)]
pub struct Read {
    /// Whole batches, the first of which holds the offset that was asked for; empty at the end.
    pub bytes: Bytes,
    /// Offset behind the newest durable event.
    pub high_watermark: u64,
    /// Offset of the oldest event.
    pub log_start: u64,
}

/// An event found by time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TimedOffset {
    /// The event's offset.
    pub offset: u64,
    /// The event's timestamp in milliseconds since 1970.
    pub timestamp_ms: i64,
}

/// Why a read failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReadError {
    /// There is no such partition, or not any more.
    #[error("the partition does not exist")]
    UnknownPartition,
    /// The offset lies before the oldest or behind the newest event.
    #[error("the offset is outside {start}..={end}")]
    OutOfRange {
        /// Offset of the oldest event.
        start: u64,
        /// Offset behind the newest durable event.
        end: u64,
    },
    /// The events there are damaged. The others are served; these can only come back from a copy.
    #[error(
        "the events at offsets {} to {} are damaged: `courant log verify` names the file, \
         `courant log repair --accept-gap` gives them up", .offsets.start, .offsets.end.saturating_sub(1)
    )]
    Quarantined {
        /// Offsets of the damaged events, the last one excluded.
        offsets: Range<u64>,
    },
    /// What stands in the segment is not what was written there.
    #[error("{path} is damaged at byte {position}: {what}")]
    Corrupt {
        /// The segment's file.
        path: String,
        /// Where in it.
        position: u64,
        /// What was found there.
        what: String,
    },
    /// The storage failed.
    #[error("cannot read partition {partition}: {source}")]
    Io {
        /// Whose segment it is.
        partition: PartitionId,
        /// What the storage said.
        source: io::Error,
    },
}

/// Reads one partition through the log's storage and open files.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reader<'a> {
    pub(crate) storage: &'a dyn Storage,
    pub(crate) handles: &'a Handles,
    pub(crate) partition: &'a Partition,
    pub(crate) reach: Reach,
}

impl Reader<'_> {
    /// Whole batches from the one that holds `offset`, at most `max_bytes` of them, except that
    /// `at_least_one` gives the first one whatever its size.
    pub(crate) fn read(
        &self,
        buffers: &Buffers,
        offset: u64,
        max_bytes: usize,
        at_least_one: bool,
    ) -> Result<Read, ReadError> {
        self.undisturbed(|| self.read_batches(buffers, offset, max_bytes, at_least_one)).map_err(|error| {
            // Retention may have taken the segment away while it was read.
            match self.partition.offsets() {
                ends if offset < ends.start => out_of_range(ends),
                _ => self.quarantined_at(offset).unwrap_or(error),
            }
        })
    }

    /// Reads again when segments were replaced or taken out under a read that failed: what it looked for
    /// stands elsewhere now, or nowhere.
    fn undisturbed<T>(&self, mut read: impl FnMut() -> Result<T, ReadError>) -> Result<T, ReadError> {
        loop {
            let changes = self.partition.changes();
            match read() {
                Err(_) if self.partition.changes() != changes => {}
                done => return done,
            }
        }
    }

    fn read_batches(
        &self,
        buffers: &Buffers,
        offset: u64,
        max_bytes: usize,
        at_least_one: bool,
    ) -> Result<Read, ReadError> {
        let found = self.partition.find(offset).map_err(out_of_range)?;
        let (ends, offset) = (found.offsets, found.offset);
        if let Some(quarantined) = self.quarantined_at(offset) {
            return Err(quarantined);
        }
        // Where compaction took away everything before the first segment, that one stands for it.
        let first = found.at.as_ref().map_or(offset, |(segment, _)| segment.header.base_offset);
        self.is_not_before_damage(offset, first)?;
        let read = |bytes| Read { bytes, high_watermark: ends.high_watermark, log_start: ends.start };
        let Some((segment, position)) = found.at else {
            return Ok(read(Bytes::new()));
        };
        let place = match position {
            // What was remembered may be the end of a segment with missing offsets behind it.
            Some(position) if position < segment.published() => Some((segment, position, offset)),
            _ => self.locate(segment, offset)?,
        };
        let Some((segment, position, next)) = place else {
            return Ok(read(Bytes::new()));
        };
        self.is_not_before_damage(offset, next)?;
        let (mut bytes, mut compared) =
            self.compared_bytes(buffers, &segment, position, max_bytes.max(BATCH_HEADER_BYTES))?;
        let mut whole = self.whole_batches(&segment, position, &bytes, max_bytes, ends.high_watermark)?;
        let header = self.header(&segment, position, &bytes)?;
        let is_there = offset_of(&header) <= next || segment.is_compacted();
        if !is_there || end_offset(&header) <= next {
            return Err(corrupt(&segment, position, "another batch stands where this offset should be"));
        }
        if whole.bytes == 0 && at_least_one {
            // Whoever asks has memory for one of the two.
            drop(bytes);
            (bytes, compared) = self.compared_bytes(buffers, &segment, position, header.total_bytes())?;
            whole =
                self.whole_batches(&segment, position, &bytes, header.total_bytes(), ends.high_watermark)?;
        }
        if whole.bytes == 0 && at_least_one {
            return Err(corrupt(&segment, position, "a batch reaches behind what was written"));
        }
        bytes.truncate(whole.bytes);
        self.check_batches(&segment, position, &bytes, &compared)?;
        if whole.bytes > 0 {
            self.partition.remember(Hint {
                offset: whole.next_offset,
                segment: segment.key(),
                position: position + whole.bytes as u64,
            });
        }
        Ok(read(bytes.freeze()))
    }

    fn quarantined_at(&self, offset: u64) -> Option<ReadError> {
        self.partition.quarantined_at(offset).map(|offsets| ReadError::Quarantined { offsets })
    }

    /// Bytes of a segment from `position` on: at most `count`, and less where the segment ends or damage
    /// begins.
    pub(crate) fn bytes(&self, segment: &Segment, position: u64, count: usize) -> Result<Vec<u8>, ReadError> {
        let mut bytes = vec![0; there(segment, position, count)];
        let (sound, _) = self.fill_compared(segment, position, &mut bytes)?;
        bytes.truncate(sound);
        Ok(bytes)
    }

    /// As [`Self::bytes`], with the part of the segment among them of which every byte is as it was
    /// stored.
    fn compared_bytes(
        &self,
        buffers: &Buffers,
        segment: &Segment,
        position: u64,
        count: usize,
    ) -> Result<(Buffer, Range<u64>), ReadError> {
        let mut bytes = buffers.room_for(there(segment, position, count));
        let (sound, compared) = self.fill_compared(segment, position, &mut bytes)?;
        bytes.truncate(sound);
        Ok((bytes, compared))
    }

    /// Reads into `bytes` what stands from `position` on. Returns how many of them come before any damage, and
    /// the part of the segment among them of which every byte is as it was stored.
    fn fill_compared(
        &self,
        segment: &Segment,
        position: u64,
        bytes: &mut [u8],
    ) -> Result<(usize, Range<u64>), ReadError> {
        let io = |source| ReadError::Io { partition: self.partition.id, source };
        let (filled, error) = segment.fill(self.storage, self.handles, self.reach, bytes, position);
        let is_all = filled == bytes.len();
        let read = &bytes[..filled];
        let compared = segment.compare(self.storage, self.handles, self.reach, position, read).map_err(io)?;
        let bad = match (compared, error) {
            (Ok(compared), None) if is_all => return Ok((filled, compared)),
            (Err(bad), _) => bad,
            (Ok(_), Some(error)) if !is_of_the_bytes(&error) => return Err(io(error)),
            (Ok(_), error) => {
                let what = error.map_or_else(
                    || "the file ends before".to_owned(),
                    |error| format!("it cannot be read: {error}"),
                );
                let number = (position + filled as u64) / SEGMENT_BLOCK_BYTES;
                let begin = number * SEGMENT_BLOCK_BYTES;
                let end = segment.published().min(begin + SEGMENT_BLOCK_BYTES);
                BadBlock { number, bytes: begin..end, what }
            }
        };
        let sound = usize::try_from(bad.bytes.start.saturating_sub(position)).unwrap_or(usize::MAX);
        let sound = sound.min(filled);
        let error = corrupt(segment, bad.bytes.start, &bad.what);
        self.quarantine(segment, bad);
        // Where damage was met, whole blocks are not told from others: every batch is compared.
        if sound == 0 { Err(error) } else { Ok((sound, position..position)) }
    }

    fn header(&self, segment: &Segment, position: u64, bytes: &[u8]) -> Result<BatchHeader, ReadError> {
        BatchHeader::parse(bytes).map_err(|error| {
            segment.distrust();
            corrupt(segment, position, &error.to_string())
        })
    }

    /// The segment and position of the batch that holds `offset`, and that offset. Where compaction took
    /// the offset away, it is the next batch of the segment.
    ///
    /// Where a power cut took events of a relaxed class away, their offsets are missing between the end
    /// of one segment and the beginning of the next: then the next event stands for them. `None`: there
    /// is none yet.
    fn locate(
        &self,
        mut segment: Arc<Segment>,
        offset: u64,
    ) -> Result<Option<(Arc<Segment>, u64, u64)>, ReadError> {
        if segment.published() > 0 {
            let start = segment.blocks().position_at_or_before(offset);
            if let Some((position, _)) =
                self.walk(&segment, start..u64::MAX, |header| end_offset(header) > offset)?
            {
                return Ok(Some((segment, position, offset)));
            }
            if self.partition.segment_behind(segment.header.base_offset).is_none() {
                return Err(corrupt(&segment, start, "an offset is missing"));
            }
        }
        while let Some(next) = self.partition.segment_behind(segment.header.base_offset) {
            segment = next;
            // Of some, compaction has left no event.
            if segment.published() > crate::segment::HEADER_BYTES as u64 {
                let base_offset = segment.header.base_offset;
                return Ok(Some((segment, crate::segment::HEADER_BYTES as u64, base_offset)));
            }
        }
        Ok(None)
    }

    /// The first batch for which `wanted` holds of those that begin within `positions`, at the first of which one
    /// does. Headers are what no batch's checksum covers: their offsets must follow each other from the one that the
    /// index names.
    fn walk(
        &self,
        segment: &Segment,
        positions: Range<u64>,
        mut wanted: impl FnMut(&BatchHeader) -> bool,
    ) -> Result<Option<(u64, BatchHeader)>, ReadError> {
        let Range { start: mut position, end } = positions;
        let named = segment.blocks().offset_at(position);
        let mut next_offset = named;
        let is_next = |next: u64, found: u64| match named {
            Some(named) if next == named => found == named,
            _ => segment.may_follow(next, found),
        };
        while position < end {
            let chunk = self.bytes(segment, position, SEGMENT_BLOCK_BYTES as usize)?;
            if chunk.is_empty() {
                return Ok(None);
            }
            let mut at = 0;
            while let Some(rest) = chunk.get(at..).filter(|rest| rest.len() >= BATCH_HEADER_BYTES) {
                if position + at as u64 >= end {
                    return Ok(None);
                }
                let header = self.header(segment, position + at as u64, rest)?;
                if next_offset.is_some_and(|next| !is_next(next, offset_of(&header))) {
                    segment.distrust();
                    return Err(corrupt(segment, position + at as u64, "another batch should stand there"));
                }
                if wanted(&header) {
                    return Ok(Some((position + at as u64, header)));
                }
                next_offset = Some(end_offset(&header));
                at += header.total_bytes();
            }
            if at == 0 {
                return Err(corrupt(segment, position, "a batch is cut off"));
            }
            position += at as u64;
        }
        Ok(None)
    }

    /// How many bytes of `bytes` are whole batches below the watermark, within `max_bytes`.
    fn whole_batches(
        &self,
        segment: &Segment,
        position: u64,
        bytes: &[u8],
        max_bytes: usize,
        high_watermark: u64,
    ) -> Result<Whole, ReadError> {
        let mut whole = Whole { bytes: 0, next_offset: 0 };
        while bytes.len() - whole.bytes >= BATCH_HEADER_BYTES {
            let header = self.header(segment, position + whole.bytes as u64, &bytes[whole.bytes..])?;
            let end = whole.bytes + header.total_bytes();
            if end > bytes.len() || end > max_bytes || end_offset(&header) > high_watermark {
                break;
            }
            whole = Whole { bytes: end, next_offset: end_offset(&header) };
        }
        Ok(whole)
    }

    /// Compares the checksums of batches that are not wholly within what was compared already, and that
    /// their offsets follow each other, which no batch's checksum covers.
    fn check_batches(
        &self,
        segment: &Segment,
        mut position: u64,
        mut bytes: &[u8],
        compared: &Range<u64>,
    ) -> Result<(), ReadError> {
        let mut next_offset = None;
        while !bytes.is_empty() {
            let header = self.header(segment, position, bytes)?;
            let (batch, rest) = bytes.split_at(header.total_bytes().min(bytes.len()));
            let end = position + batch.len() as u64;
            let is_sound = (compared.start <= position && end <= compared.end)
                || (verify_crc(batch).is_ok()
                    && next_offset.is_none_or(|next| segment.may_follow(next, offset_of(&header))));
            if !is_sound {
                // The next read looks at the whole blocks, and knows whether it was a passing fault.
                segment.distrust();
                return Err(corrupt(segment, position, "a batch is not as it was stored"));
            }
            next_offset = Some(end_offset(&header));
            (position, bytes) = (end, rest);
        }
        Ok(())
    }

    /// Every batch header of the partition, in order: what derived state is rebuilt from.
    pub(crate) fn each_header(
        &self,
        segment: &Arc<Segment>,
        mut each: impl FnMut(&BatchHeader),
    ) -> Result<(), ReadError> {
        let start = crate::segment::HEADER_BYTES as u64;
        let all = self.walk(segment, start..u64::MAX, |header| {
            each(header);
            false
        });
        all.map(|_| ())
    }
}

struct Whole {
    bytes: usize,
    next_offset: u64,
}

/// How many of `count` bytes from a position on a segment has.
fn there(segment: &Segment, position: u64, count: usize) -> usize {
    let there = segment.published().saturating_sub(position);
    count.min(usize::try_from(there).unwrap_or(usize::MAX))
}

fn out_of_range(ends: Offsets) -> ReadError {
    ReadError::OutOfRange { start: ends.start, end: ends.high_watermark }
}

fn offset_of(header: &BatchHeader) -> u64 {
    u64::try_from(header.base_offset).unwrap_or(u64::MAX)
}

fn end_offset(header: &BatchHeader) -> u64 {
    u64::try_from(header.last_offset().saturating_add(1)).unwrap_or(0)
}

fn corrupt(segment: &Segment, position: u64, what: &str) -> ReadError {
    ReadError::Corrupt { path: segment.path(FileKind::Segment), position, what: what.to_owned() }
}
