//! Reading a segment through: whether every byte is the one that was stored.

use std::io;
use std::ops::Range;

use super::file::Segment;
use super::header::{FileKind, SegmentHeader};
use super::{Block, Blocks, FirstBatch, OpenBlock};
use crate::batch::{self, BatchHeader};
use crate::limits::SEGMENT_BLOCK_BYTES;
use crate::storage::{File, OpenMode, Storage, StorageError};

/// What a checkpoint says of a segment.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Recorded {
    pub(crate) header: SegmentHeader,
    /// Offset behind the last event.
    pub(crate) end_offset: u64,
    pub(crate) bytes: u64,
    pub(crate) done_crc: u32,
    pub(crate) open: OpenBlock,
    /// When it was compacted, in milliseconds since 1970; 0: never.
    pub(crate) compacted_ms: i64,
}

/// Something that is not as it was stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Flaw {
    pub(crate) file: FileKind,
    /// Which bytes; none where it is the file as a whole.
    pub(crate) bytes: Option<Range<u64>>,
    /// Offsets of the events that cannot be relied on; none when all events are as they were.
    pub(crate) events: Option<Range<u64>>,
    pub(crate) what: String,
}

/// Compares every byte that the checkpoint covers with the checksums of its block. What stands behind
/// that is the journal's.
pub(crate) fn verify(storage: &dyn Storage, recorded: &Recorded) -> Result<Vec<Flaw>, StorageError> {
    if recorded.bytes == 0 {
        return Ok(Vec::new());
    }
    let segment = Segment::new(recorded.header);
    let path = segment.path(FileKind::Segment);
    let events = recorded.header.base_offset..recorded.end_offset;
    let whole =
        |what: String| Flaw { file: FileKind::Segment, bytes: None, events: Some(events.clone()), what };
    let file = match storage.open(&path, OpenMode::Existing) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Ok(vec![whole("the file is missing".to_owned())]);
        }
        Err(source) => return Err(StorageError::new("open", &path, source)),
    };
    // What the disk holds is in question, and not what memory remembers of it.
    file.drop_cache().map_err(|source| StorageError::new("drop the cache of", &path, source))?;
    let count = (recorded.bytes / SEGMENT_BLOCK_BYTES) as usize;
    let (sidecar, mut flaws) = sidecar(storage, &segment, recorded, count)?;
    let found: Vec<Result<u32, io::Error>> =
        (0..=count as u64).map(|number| checksum(&*file, recorded, number)).collect();
    let blocks: Vec<u32> = match &sidecar {
        Some(blocks) => blocks.iter().map(|block| block.crc).chain([recorded.open.crc_state]).collect(),
        None => without_sidecar(recorded, &found),
    };
    if blocks.is_empty() {
        flaws.push(whole("its bytes are not those that were stored, and nothing says which".to_owned()));
        return Ok(flaws);
    }
    for (number, (found, stored)) in found.iter().zip(blocks).enumerate() {
        let what = match found {
            Ok(found) if *found == stored => continue,
            Ok(_) => "the bytes are not those that were stored".to_owned(),
            Err(error) => format!("it cannot be read: {error}"),
        };
        let begin = number as u64 * SEGMENT_BLOCK_BYTES;
        let bytes = begin..recorded.bytes.min(begin + SEGMENT_BLOCK_BYTES);
        let events = match &sidecar {
            Some(blocks) => events_in(&*file, &firsts(blocks, recorded), events.clone(), number as u64),
            None => events.clone(),
        };
        flaws.push(Flaw { file: FileKind::Segment, bytes: Some(bytes), events: Some(events), what });
    }
    Ok(joined(flaws))
}

/// The sidecar's entries, if they are those that the checkpoint means.
fn sidecar(
    storage: &dyn Storage,
    segment: &Segment,
    recorded: &Recorded,
    count: usize,
) -> Result<(Option<Vec<Block>>, Vec<Flaw>), StorageError> {
    let flaw = |what: &str| {
        let what = what.to_owned();
        Ok((None, vec![Flaw { file: FileKind::Sidecar, bytes: None, events: None, what }]))
    };
    let Some(done) = segment.read_sidecar(storage, count)? else {
        return flaw("it is missing or damaged");
    };
    let blocks = Blocks::resume(&recorded.header, done, recorded.open, recorded.bytes);
    if blocks.done_crc() != recorded.done_crc {
        return flaw("it is not the one that the checkpoint names");
    }
    Ok((Some(blocks.done().to_vec()), Vec::new()))
}

/// The checksum of a block as it is in the file; of the last one, the state of its running checksum.
fn checksum(file: &dyn File, recorded: &Recorded, number: u64) -> io::Result<u32> {
    let begin = number * SEGMENT_BLOCK_BYTES;
    let mut bytes = vec![0; SEGMENT_BLOCK_BYTES.min(recorded.bytes - begin) as usize];
    let mut filled = 0;
    while filled < bytes.len() {
        match file.read_at(&mut bytes[filled..], begin + filled as u64)? {
            0 => return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the file ends before")),
            count => filled += count,
        }
    }
    let mut digest = Blocks::digest(recorded.header.key(), number);
    digest.update(&bytes);
    let is_whole = bytes.len() as u64 == SEGMENT_BLOCK_BYTES;
    Ok(if is_whole { digest.finalize() as u32 } else { digest.get_state() as u32 })
}

/// What the blocks must be where no sidecar says it: if all together are right, each of them is, and
/// else nothing is known.
fn without_sidecar(recorded: &Recorded, found: &[io::Result<u32>]) -> Vec<u32> {
    let all: Vec<u32> = found.iter().filter_map(|found| found.as_ref().ok().copied()).collect();
    let done = all.split_last().map_or(&[][..], |(_, done)| done);
    if all.len() == found.len() && Blocks::crc_of(done.iter().copied()) == recorded.done_crc {
        done.iter().copied().chain([recorded.open.crc_state]).collect()
    } else {
        Vec::new()
    }
}

fn firsts(blocks: &[Block], recorded: &Recorded) -> Vec<(u64, FirstBatch)> {
    let firsts = blocks.iter().map(|block| block.first).chain([recorded.open.first]);
    (0..).zip(firsts).filter_map(|(number, first)| Some((number, first?))).collect()
}

/// Offsets of the events that have bytes in a block, among `all` of the segment, whose first batches
/// begin there.
pub(crate) fn events_in(
    file: &dyn File,
    firsts: &[(u64, FirstBatch)],
    all: Range<u64>,
    number: u64,
) -> Range<u64> {
    let end = firsts.iter().find(|(block, _)| *block > number).map_or(all.end, |(_, first)| first.offset);
    let before = firsts.iter().rev().find(|(block, _)| *block < number);
    let begin = match before {
        // The last batch that begins before the block may reach into it.
        Some((block, first)) => {
            let position = block * SEGMENT_BLOCK_BYTES + u64::from(first.at);
            let last = last_before(file, position, first.offset, number * SEGMENT_BLOCK_BYTES);
            // No checksum has vouched for the headers on the way. Of the first batch the index does.
            if last < end { last } else { first.offset }
        }
        None => all.start,
    };
    begin..end
}

/// The offset of the last batch that begins before `end` in the file, from one at `position` on.
fn last_before(file: &dyn File, mut position: u64, mut offset: u64, end: u64) -> u64 {
    loop {
        let mut header = [0; batch::HEADER_BYTES];
        let Ok(read) = file.read_at(&mut header, position) else { return offset };
        let Ok(batch) = BatchHeader::parse(&header[..read]) else { return offset };
        // Damage here as well is found on its own; this only must come to an end, and not too late.
        let (Ok(base), next) = (u64::try_from(batch.base_offset), position + batch.total_bytes() as u64)
        else {
            return offset;
        };
        if base < offset || next <= position {
            return offset;
        }
        offset = base;
        if next >= end {
            return if next == end {
                u64::try_from(batch.last_offset().saturating_add(1)).unwrap_or(offset)
            } else {
                offset
            };
        }
        position = next;
    }
}

/// Flaws that stand one behind the other, as one.
fn joined(flaws: Vec<Flaw>) -> Vec<Flaw> {
    let mut joined: Vec<Flaw> = Vec::new();
    for flaw in flaws {
        let last = joined.last_mut().filter(|last| last.file == flaw.file && last.what == flaw.what);
        match last.and_then(|last| Some((last.bytes.as_mut()?, last.events.as_mut()?))) {
            Some((bytes, events)) if flaw.bytes.as_ref().is_some_and(|next| next.start == bytes.end) => {
                bytes.end = flaw.bytes.map_or(bytes.end, |next| next.end);
                events.end = flaw.events.map_or(events.end, |next| next.end.max(events.end));
            }
            _ => joined.push(flaw),
        }
    }
    joined
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::batch::Codec;
    use crate::batch::records::{NewRecord, encode};
    use crate::storage::MemoryStorage;

    #[test]
    fn neighbours_are_one_flaw() {
        let flaw = |bytes: Range<u64>, events: Range<u64>| Flaw {
            file: FileKind::Segment,
            bytes: Some(bytes),
            events: Some(events),
            what: "bad".to_owned(),
        };
        let flaws = vec![flaw(0..10, 0..3), flaw(10..20, 2..5), flaw(30..40, 8..9)];
        assert_eq!(joined(flaws), [flaw(0..20, 0..5), flaw(30..40, 8..9)]);
    }

    /// Symptom: of damage in two blocks, one side by side with the other, one could not be given up. Cause: its events
    /// began with the offset in a damaged header, behind their own end. Fix: then the index says where they begin.
    #[test]
    fn a_damaged_offset_does_not_turn_the_events_of_the_next_block_round() {
        let event = NewRecord { value: Some(vec![7; 70_000].into()), ..NewRecord::default() };
        let mut reaches_over = encode(&[event], Codec::None, None).expect("encodes").to_vec();
        let storage = MemoryStorage::new(1024 * 1024);
        let file = storage.open("segment", OpenMode::CreateNew).expect("creates");
        let firsts = [(0, FirstBatch { at: 64, offset: 5 }), (2, FirstBatch { at: 9, offset: 6 })];
        for written in [5, 0x100_0000_0005, i64::MAX] {
            batch::set_base_offset(&mut reaches_over, written);
            file.write_at(&[&reaches_over], 64).expect("writes");
            assert_eq!(events_in(&*file, &firsts, 0..10, 1), 5..6, "{written}");
        }
        // Also where it ends with its block, so that the next one begins behind its last event.
        let short = NewRecord { value: Some(vec![7; 65_000].into()), ..NewRecord::default() };
        let most = (SEGMENT_BLOCK_BYTES - 64) as usize;
        let missing = most - encode(&[short], Codec::None, None).expect("encodes").len();
        let fitting = NewRecord { value: Some(vec![7; 65_000 + missing].into()), ..NewRecord::default() };
        let mut ends_with_it = encode(&[fitting], Codec::None, None).expect("encodes").to_vec();
        assert_eq!(ends_with_it.len(), most);
        let firsts = [0, 1, 2]
            .map(|block| (block, FirstBatch { at: if block == 0 { 64 } else { 0 }, offset: 5 + block }));
        for (written, expected) in [(5, 6..7), (0x100_0000_0005, 5..7), (i64::MAX, 5..7)] {
            batch::set_base_offset(&mut ends_with_it, written);
            file.write_at(&[&ends_with_it], 64).expect("writes");
            assert_eq!(events_in(&*file, &firsts, 0..10, 1), expected, "{written}");
        }
    }
}
