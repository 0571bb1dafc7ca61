//! Copying one segment: the bytes that the target does not have yet, each block compared with its
//! checksum before it is taken for sound.

use std::ops::Range;
use std::sync::Arc;

use super::error::BackupError;
use super::names::{Name, SegmentKey};
use super::pass::{Trouble, Work};
use super::segments::{Parts, missing};
use super::source::{open, read_up_to};
use crate::limits::SEGMENT_BLOCK_BYTES;
use crate::segment::{
    Block, Blocks, ENTRY_BYTES, FileKind, FirstBatch, HEADER_BYTES, Recorded, SegmentHeader, events_in,
    is_of_the_bytes,
};
use crate::storage::{File, Storage, StorageError};
use crate::verify::{Damage, DamagedEvents};

/// Objects of one segment, of bytes or of entries, above which it is copied anew as a whole: a segment
/// that grows while many backups are taken must not end in as many pieces.
const PARTS_MAX: usize = 1000;

/// A segment that is being copied.
struct Copying<'a> {
    recorded: Recorded,
    file: Arc<dyn File>,
    path: String,
    /// The sidecar's entries, one for each whole block.
    entries: Vec<Block>,
    parts: &'a mut Parts,
    /// Name of the topic, and number of the partition in it.
    place: (&'a str, u32),
    damage: &'a mut Vec<Damage>,
}

/// A block that cannot be copied.
struct Bad {
    number: u64,
    what: String,
}

impl Bad {
    fn begin(&self) -> u64 {
        self.number * SEGMENT_BLOCK_BYTES
    }
}

/// Copies what `parts` lack. What is damaged is named and stays missing.
pub(super) fn copy_segment(
    work: &mut Work<'_>,
    checkpoint: u64,
    place: (&str, u32),
    recorded: Recorded,
    parts: &mut Parts,
    damage: &mut Vec<Damage>,
) -> Result<(), Trouble> {
    let key = recorded.header.key();
    let path = key.path(FileKind::Segment);
    let Some(file) = open(work.source, &path)? else {
        work.check_not_deleted(&path, checkpoint)?;
        damage.push(whole(path, place, &recorded, "the file is missing"));
        return Ok(());
    };
    let entries = match read_sidecar(work.source, &recorded)? {
        Sidecar::Sound(entries) => entries,
        Sidecar::Bad { what, is_missing } => {
            let sidecar = key.path(FileKind::Sidecar);
            if is_missing {
                work.check_not_deleted(&sidecar, checkpoint)?;
            }
            damage.push(Damage { path: sidecar, bytes: None, events: None, what: what.to_owned() });
            match Blocks::of_file(&recorded, |buf, at| read_up_to(&*file, buf, at).unwrap_or(0)) {
                Some(made_anew) => made_anew.done().to_vec(),
                None => {
                    let what = "its bytes are not those that were stored, and nothing says which";
                    damage.push(whole(path, place, &recorded, what));
                    return Ok(());
                }
            }
        }
    };
    let mut copying = Copying { recorded, file, path, entries, parts, place, damage };
    copying.check_is_continued()?;
    copying.copy(work)
}

fn whole(path: String, place: (&str, u32), recorded: &Recorded, what: &str) -> Damage {
    let events = Some(events(place, recorded.header.base_offset..recorded.end_offset));
    Damage { path, bytes: None, events, what: what.to_owned() }
}

fn events((topic, partition): (&str, u32), offsets: Range<u64>) -> DamagedEvents {
    DamagedEvents { topic: topic.to_owned(), partition, offsets }
}

/// A sidecar as it is found.
enum Sidecar {
    Sound(Vec<Block>),
    Bad { what: &'static str, is_missing: bool },
}

/// The entries of all whole blocks, if they are those that the checkpoint means.
fn read_sidecar(source: &dyn Storage, recorded: &Recorded) -> Result<Sidecar, StorageError> {
    let count = (recorded.bytes / SEGMENT_BLOCK_BYTES) as usize;
    if count == 0 {
        return Ok(Sidecar::Sound(Vec::new()));
    }
    let damaged = Sidecar::Bad { what: "it is damaged", is_missing: false };
    let path = recorded.header.key().path(FileKind::Sidecar);
    let Some(file) = open(source, &path)? else {
        return Ok(Sidecar::Bad { what: "it is missing", is_missing: true });
    };
    let length = HEADER_BYTES + count * ENTRY_BYTES;
    if file.len().map_err(|source| StorageError::new("measure", &path, source))? < length as u64 {
        return Ok(damaged);
    }
    let mut bytes = vec![0; length];
    match read_up_to(&*file, &mut bytes, 0) {
        Ok(filled) if filled == length => {}
        Ok(_) => return Ok(damaged),
        Err(error) if is_of_the_bytes(&error) => return Ok(damaged),
        Err(source) => return Err(StorageError::new("read", &path, source)),
    }
    if SegmentHeader::decode(FileKind::Sidecar, &bytes) != Some(recorded.header) {
        return Ok(damaged);
    }
    let entries = (0..).zip(bytes[HEADER_BYTES..].chunks_exact(ENTRY_BYTES));
    let entries = entries.map(|(number, entry)| Block::decode(number, entry).ok());
    match entries.collect::<Option<Vec<Block>>>().filter(|entries| crc_of(entries) == recorded.done_crc) {
        Some(entries) => Ok(Sidecar::Sound(entries)),
        None => Ok(damaged),
    }
}

fn crc_of(blocks: &[Block]) -> u32 {
    Blocks::crc_of(blocks.iter().map(|block| block.crc))
}

impl Copying<'_> {
    /// What the target has must be how this segment began: a log that was restored from an older backup
    /// may have gone on differently.
    fn check_is_continued(&self) -> Result<(), BackupError> {
        let Some(old) = &self.parts.of else { return Ok(()) };
        let whole = self.entries.get(..(old.bytes / SEGMENT_BLOCK_BYTES) as usize);
        let same = old.bytes <= self.recorded.bytes
            && whole.is_some_and(|blocks| crc_of(blocks) == old.blocks_crc)
            && (old.bytes < self.recorded.bytes || old.open_crc == self.recorded.open.crc_state);
        if same { Ok(()) } else { Err(self.diverged()) }
    }

    fn diverged(&self) -> BackupError {
        BackupError::Diverged { what: self.path.clone() }
    }

    fn key(&self) -> SegmentKey {
        SegmentKey::of(&self.recorded.header)
    }

    fn copy(&mut self, work: &mut Work<'_>) -> Result<(), Trouble> {
        let end = self.recorded.bytes;
        if self.parts.bytes.len() >= PARTS_MAX {
            let pieces = std::mem::take(&mut self.parts.bytes);
            // The pieces may have what is damaged now.
            if self.run(work, &(0..end))?.is_some() {
                self.parts.bytes = pieces;
            }
        }
        for range in missing(&self.parts.bytes, end) {
            self.copy_range(work, &range)?;
        }
        if self.parts.blocks.len() >= PARTS_MAX {
            self.parts.blocks.clear();
        }
        for range in missing(&self.parts.blocks, self.entries.len() as u64) {
            self.copy_entries(work, &range)?;
        }
        Ok(())
    }

    /// Copies a range, but for the damaged blocks in it.
    fn copy_range(&mut self, work: &mut Work<'_>, range: &Range<u64>) -> Result<(), Trouble> {
        let Range { mut start, mut end } = range.clone();
        while start < range.end {
            match self.run(work, &(start..end))? {
                None => (start, end) = (end, range.end),
                // The name of an object says where it ends: once more, and only so far.
                Some(bad) if bad.begin() > start => end = bad.begin(),
                Some(bad) => {
                    (start, end) = (bad.begin() + SEGMENT_BLOCK_BYTES, range.end);
                    self.note(bad);
                }
            }
        }
        Ok(())
    }

    /// Copies a range as one object, or names the first block in it that is damaged.
    fn run(&mut self, work: &mut Work<'_>, range: &Range<u64>) -> Result<Option<Bad>, Trouble> {
        let Range { start, end } = *range;
        let mut upload = work.upload(Name::Bytes { segment: self.key(), start, end })?;
        for number in start / SEGMENT_BLOCK_BYTES..end.div_ceil(SEGMENT_BLOCK_BYTES) {
            let block = match self.block(number)? {
                Ok(block) => block,
                Err(what) => return Ok(Some(Bad { number, what })),
            };
            self.check_begins_alike(number, &block)?;
            let begin = number * SEGMENT_BLOCK_BYTES;
            let inside = start.max(begin) - begin..end.min(begin + SEGMENT_BLOCK_BYTES) - begin;
            upload.write(&block[inside.start as usize..inside.end as usize])?;
        }
        let object = work.finish(upload)?;
        self.parts.bytes.insert(start, (end, object));
        Ok(None)
    }

    /// The bytes of a block, or what is wrong with them.
    fn block(&self, number: u64) -> Result<Result<Vec<u8>, String>, StorageError> {
        let begin = number * SEGMENT_BLOCK_BYTES;
        let mut bytes = vec![0; SEGMENT_BLOCK_BYTES.min(self.recorded.bytes - begin) as usize];
        match read_up_to(&*self.file, &mut bytes, begin) {
            Ok(filled) if filled < bytes.len() => return Ok(Err("the file ends before".to_owned())),
            Ok(_) => {}
            Err(error) if is_of_the_bytes(&error) => return Ok(Err(format!("it cannot be read: {error}"))),
            Err(source) => return Err(StorageError::new("read", &self.path, source)),
        }
        let mut digest = Blocks::digest(self.recorded.header.key(), number);
        digest.update(&bytes);
        let same = match self.entries.get(number as usize) {
            Some(block) => digest.finalize() as u32 == block.crc,
            None => digest.get_state() as u32 == self.recorded.open.crc_state,
        };
        Ok(if same { Ok(bytes) } else { Err("the bytes are not those that were stored".to_owned()) })
    }

    /// Compares what the target has of a block that was filling then with how the block begins now.
    fn check_begins_alike(&self, number: u64, block: &[u8]) -> Result<(), BackupError> {
        let Some(old) = &self.parts.of else { return Ok(()) };
        let filled = (old.bytes % SEGMENT_BLOCK_BYTES) as usize;
        if filled == 0 || old.bytes / SEGMENT_BLOCK_BYTES != number {
            return Ok(());
        }
        let mut digest = Blocks::digest(self.recorded.header.key(), number);
        digest.update(block.get(..filled).unwrap_or(block));
        if digest.get_state() as u32 == old.open_crc { Ok(()) } else { Err(self.diverged()) }
    }

    /// Copies entries of the sidecar as one object.
    fn copy_entries(&mut self, work: &mut Work<'_>, range: &Range<u64>) -> Result<(), Trouble> {
        let Range { start, end } = *range;
        let mut bytes = Vec::with_capacity((end - start) as usize * ENTRY_BYTES);
        for (number, block) in (0..).zip(&self.entries).filter(|(number, _)| range.contains(number)) {
            bytes.extend_from_slice(&block.encode(number));
        }
        let object = work.put(Name::Blocks { segment: self.key(), first: start, end }, &bytes)?;
        self.parts.blocks.insert(start, (end, object));
        Ok(())
    }

    /// Names a damaged block, together with the one before it if that is damaged in the same way.
    fn note(&mut self, bad: Bad) {
        let begin = bad.begin();
        let Bad { number, what } = bad;
        let end = self.recorded.bytes.min(begin + SEGMENT_BLOCK_BYTES);
        let firsts = self.entries.iter().map(|block| block.first).chain([self.recorded.open.first]);
        let firsts: Vec<(u64, FirstBatch)> =
            (0..).zip(firsts).filter_map(|(number, first)| Some((number, first?))).collect();
        let all = self.recorded.header.base_offset..self.recorded.end_offset;
        let offsets = events_in(&*self.file, &firsts, all, number);
        if let Some(last) = self.damage.last_mut().filter(|last| last.path == self.path && last.what == what)
            && let (Some(bytes), Some(events)) = (&mut last.bytes, &mut last.events)
            && bytes.end == begin
        {
            bytes.end = end;
            events.offsets.end = events.offsets.end.max(offsets.end);
            return;
        }
        let events = Some(events(self.place, offsets));
        self.damage.push(Damage { path: self.path.clone(), bytes: Some(begin..end), events, what });
    }
}
