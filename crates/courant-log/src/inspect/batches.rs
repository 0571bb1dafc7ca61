//! The batches of a segment, and where they go on behind damage.

use std::collections::BTreeMap;
use std::io;
use std::ops::RangeInclusive;
use std::sync::Arc;

use uuid::Uuid;

use super::named::{Covered, Named, Standing};
use super::{Input, InspectError, NamedPartition, key_of};
use crate::batch::{self, BatchHeader, verify_crc};
use crate::layout;
use crate::limits::{GROUP_BYTES_MAX, SEGMENT_BLOCK_BYTES};
use crate::segment::{
    Block, ENTRY_BYTES, FileKind, HEADER_BYTES, SegmentHeader, SegmentKey, is_of_the_bytes,
};
use crate::storage::{Storage, StorageError};

/// Bytes of a sidecar that are read: the entries of a segment of 8 GiB, more than one can have.
const SIDECAR_BYTES_MAX: u64 = 4 * 1024 * 1024;
/// Bytes that are read at a time where only headers are wanted.
const CHUNK_BYTES: u64 = 64 * 1024;

/// A segment, batch by batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InspectedSegment {
    /// Its partition.
    pub partition: NamedPartition,
    /// Offset of its first event, by its name.
    pub base_offset: u64,
    /// Length of the file.
    pub bytes: u64,
    /// Bytes that the checkpoint covers; what stands behind them is the journal's. None where the
    /// checkpoint cannot be read or does not name the segment.
    pub covered: Option<u64>,
    /// Whether its first bytes say that this is the segment that its name promises.
    pub is_header_intact: bool,
    /// Its batches from the beginning on, in the order of the file.
    pub batches: Vec<InspectedBatch>,
    /// The byte of a damaged batch behind which nothing says where batches go on.
    pub stopped_at: Option<u64>,
    /// There are more batches than were asked for.
    pub more: bool,
}

/// One batch, or a place where one should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InspectedBatch {
    /// Its first byte in the file.
    pub position: u64,
    /// Bytes up to where the next one begins. Of damaged bytes these may be several batches.
    pub bytes: u64,
    /// Its header as it stands there; of a batch that is not intact it may be wrong in itself. None where
    /// there is nothing like one.
    pub header: Option<BatchHeader>,
    /// Its checksum is right, and its offset follows the one before.
    pub is_intact: bool,
}

/// Reads the batches of one segment of a data directory that no process uses, at most `limit` of them.
/// `path` is relative to the data directory.
///
/// Behind damage, reading goes on where the batch says that it ends, if the batch with the next offset
/// begins there; else where the sidecar, or the checkpoint, says that one begins.
///
/// # Errors
/// [`InspectError::NotASegment`] for any other path, [`InspectError::Missing`] when there is no such file,
/// [`InspectError::Open`] as [`super::inspect`], [`InspectError::Storage`] when the storage fails. Damage is
/// no error.
pub fn inspect_segment(
    storage: &Arc<dyn Storage>,
    path: &str,
    limit: usize,
) -> Result<InspectedSegment, InspectError> {
    let key =
        key_of(path, FileKind::Segment).ok_or_else(|| InspectError::NotASegment { path: path.to_owned() })?;
    let _guard = layout::take_to_read(&**storage)?;
    let log_id = layout::identity(&**storage)?;
    let input = Input::open_named(&**storage, path)?;
    let named = Named::load(storage, log_id)?;
    let covered = match named.segment(key) {
        Standing::Named(covered) => Some(covered),
        Standing::Deleted | Standing::Nobodys | Standing::Unknown => None,
    };
    let firsts = firsts(&**storage, log_id, key, covered)?;
    let SegmentKey { partition, base_offset, number } = key;
    let has_gaps = number > 0;
    let mut walk =
        Walk { input: &input, firsts, position: HEADER_BYTES as u64, offset: base_offset, has_gaps };
    let mut segment = InspectedSegment {
        partition: named.partition(partition),
        base_offset,
        bytes: input.bytes,
        covered: covered.map(|covered| covered.bytes),
        is_header_intact: is_header_intact(&input, log_id, key)?,
        batches: Vec::new(),
        stopped_at: None,
        more: false,
    };
    while walk.position < input.bytes {
        if segment.batches.len() >= limit {
            segment.more = true;
            break;
        }
        let (batch, goes_on) = walk.step().map_err(|source| input.failed(source))?;
        segment.batches.push(batch);
        if !goes_on {
            segment.stopped_at = Some(batch.position);
            break;
        }
    }
    Ok(segment)
}

fn is_header_intact(input: &Input, log_id: Uuid, key: SegmentKey) -> Result<bool, StorageError> {
    let bytes = readable(input.read(0, HEADER_BYTES as u64)).map_err(|source| input.failed(source))?;
    Ok(is_of(SegmentHeader::decode(FileKind::Segment, &bytes), log_id, key))
}

fn is_of(header: Option<SegmentHeader>, log_id: Uuid, key: SegmentKey) -> bool {
    header.is_some_and(|header| header.log_id == log_id && header.key() == key)
}

/// What was read; nothing, where the disk has lost it.
fn readable(read: io::Result<Vec<u8>>) -> io::Result<Vec<u8>> {
    match read {
        Err(error) if is_of_the_bytes(&error) => Ok(Vec::new()),
        read => read,
    }
}

/// Where records say that batches begin, with their offsets.
fn firsts(
    storage: &dyn Storage,
    log_id: Uuid,
    key: SegmentKey,
    covered: Option<Covered>,
) -> Result<BTreeMap<u64, u64>, StorageError> {
    let path = key.path(FileKind::Sidecar);
    let blocks = match Input::open(storage, &path) {
        Ok(input) => match blocks(&input, log_id, key) {
            Err(error) if !is_of_the_bytes(&error) => return Err(input.failed(error)),
            read => read.ok().flatten().unwrap_or_default(),
        },
        Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
        Err(error) => return Err(error),
    };
    let whole = (0..).zip(blocks).filter_map(|(number, block)| Some((number, block?.first?)));
    let open = covered.and_then(|covered| Some((covered.bytes / SEGMENT_BLOCK_BYTES, covered.open?)));
    let firsts = whole.chain(open);
    Ok(firsts
        .map(|(number, first)| (number * SEGMENT_BLOCK_BYTES + u64::from(first.at), first.offset))
        .collect())
}

/// The entries of a sidecar in order, without those that do not verify. `None` when it is not that of the
/// segment.
pub(super) fn blocks(input: &Input, log_id: Uuid, key: SegmentKey) -> io::Result<Option<Vec<Option<Block>>>> {
    let bytes = input.read(0, SIDECAR_BYTES_MAX)?;
    if !is_of(SegmentHeader::decode(FileKind::Sidecar, &bytes), log_id, key) {
        return Ok(None);
    }
    let entries = bytes.get(HEADER_BYTES..).unwrap_or_default().chunks_exact(ENTRY_BYTES);
    Ok(Some((0..).zip(entries).map(|(number, entry)| Block::decode(number, entry).ok()).collect()))
}

/// Goes from batch to batch.
struct Walk<'a> {
    input: &'a Input,
    firsts: BTreeMap<u64, u64>,
    /// Where the next batch begins.
    position: u64,
    /// The offset that it must have, or that none before it may have.
    offset: u64,
    /// Whether offsets may be missing between batches, as compaction leaves them.
    has_gaps: bool,
}

impl Walk<'_> {
    /// The batch at the position, and whether reading can go on behind it.
    fn step(&mut self) -> io::Result<(InspectedBatch, bool)> {
        let position = self.position;
        let (header, has_right_crc) = self.look(position)?;
        let is_next = header.is_some_and(|header| self.may_follow(&header, self.offset));
        let next = match header.filter(|_| has_right_crc) {
            Some(header) => {
                let events = u64::try_from(header.last_offset_delta).unwrap_or(0).saturating_add(1);
                let begin = u64::try_from(header.base_offset).ok().filter(|_| is_next);
                let offset = begin.unwrap_or(self.offset).saturating_add(events);
                Some((position + header.total_bytes() as u64, offset))
            }
            None => self.behind_damage(header)?,
        };
        // Where nothing says how it goes on, the rest of the file is one piece.
        let (end, offset) = next.unwrap_or((self.input.bytes, self.offset));
        (self.position, self.offset) = (end, offset);
        let is_intact = has_right_crc && is_next;
        Ok((InspectedBatch { position, bytes: end - position, header, is_intact }, next.is_some()))
    }

    /// Whether a batch is one that can stand behind the offset before `next`.
    fn may_follow(&self, header: &BatchHeader, next: u64) -> bool {
        let base = u64::try_from(header.base_offset);
        base.is_ok_and(|base| base == next || (self.has_gaps && base > next))
    }

    /// The header at a position, if there is one, and whether the checksum of the batch is right.
    fn look(&self, position: u64) -> io::Result<(Option<BatchHeader>, bool)> {
        let Some(header) = self.header(position)? else {
            return Ok((None, false));
        };
        let bytes = header.total_bytes() as u64;
        if bytes > GROUP_BYTES_MAX as u64 || position + bytes > self.input.bytes {
            return Ok((Some(header), false));
        }
        let batch = readable(self.input.read(position, bytes))?;
        Ok((Some(header), verify_crc(&batch).is_ok()))
    }

    fn header(&self, position: u64) -> io::Result<Option<BatchHeader>> {
        let bytes = readable(self.input.read(position, batch::HEADER_BYTES as u64))?;
        Ok(BatchHeader::parse(&bytes).ok())
    }

    /// Where the next batch begins behind a damaged one, and its offset.
    fn behind_damage(&self, header: Option<BatchHeader>) -> io::Result<Option<(u64, u64)>> {
        let recorded = self.firsts.range(self.position + 1..).next();
        let recorded = recorded.map(|(position, offset)| (*position, *offset));
        let recorded = recorded.filter(|(position, _)| *position < self.input.bytes);
        let Some(header) = header else {
            return Ok(recorded);
        };
        let end = self.position + header.total_bytes() as u64;
        if end > self.input.bytes || recorded.is_some_and(|(position, _)| position <= end) {
            return Ok(recorded);
        }
        let Ok(follows) = u64::try_from(header.last_offset().saturating_add(1)) else {
            return Ok(recorded);
        };
        let is_followed =
            end == self.input.bytes || self.header(end)?.is_some_and(|next| self.may_follow(&next, follows));
        Ok(if is_followed { Some((end, follows)) } else { recorded })
    }
}

/// Batches that were counted by their headers.
#[derive(Debug)]
pub(super) struct Counted {
    pub(super) batches: u64,
    /// Offsets of the first and the last event.
    pub(super) offsets: Option<RangeInclusive<u64>>,
    /// The byte behind the last batch.
    pub(super) end: u64,
}

/// Goes from header to header up to one that cannot be read, or that promises more than is there.
pub(super) fn count(input: &Input) -> io::Result<Counted> {
    let mut counted = Counted { batches: 0, offsets: None, end: HEADER_BYTES as u64 };
    let (mut chunk, mut chunk_at) = (Vec::new(), 0);
    while counted.end < input.bytes {
        let is_there = chunk_at <= counted.end
            && counted.end + batch::HEADER_BYTES as u64 <= chunk_at + chunk.len() as u64;
        if !is_there {
            chunk = input.read(counted.end, CHUNK_BYTES)?;
            chunk_at = counted.end;
        }
        let at = (counted.end - chunk_at) as usize;
        let Ok(header) = BatchHeader::parse(chunk.get(at..).unwrap_or_default()) else { break };
        let (Ok(first), Ok(last)) = (u64::try_from(header.base_offset), u64::try_from(header.last_offset()))
        else {
            break;
        };
        let end = counted.end + header.total_bytes() as u64;
        if end > input.bytes {
            break;
        }
        let first = counted.offsets.as_ref().map_or(first, |offsets| *offsets.start());
        counted.offsets = Some(first..=last);
        counted.batches += 1;
        counted.end = end;
    }
    Ok(counted)
}
