//! Copying the journal behind a checkpoint: whole groups, each compared with its checksums.
//!
//! Groups are written in order, so a group that is there proves that all before it are whole, and none
//! of them changes before its file is used again. A file's header is written before anything else of
//! its next use: whoever finds it unchanged after the reading has read what it names. Groups that know a
//! newer checkpoint are left out, as the restored log will not have it; they were written after the
//! checkpoint of the backup was found, so none of them was acknowledged before the backup began.

use std::sync::Arc;

use uuid::Uuid;

use super::error::BackupError;
use super::format::Object;
use super::names::Name;
use super::pass::{Trouble, Work};
use super::source::{open, read_up_to};
use crate::checkpoint::Checkpoint;
use crate::journal::{DIR, FileHeader, GROUP_HEADER_BYTES, GroupHeader, decode_all};
use crate::limits::{BLOCK_BYTES, JOURNAL_FILES_MAX};
use crate::storage::{File, Storage, StorageError};

/// Bytes that are looked through at a time for groups behind the last one.
const LOOK_BYTES: usize = 1024 * 1024;

/// A journal file of the generation where replay begins, or of a later one.
struct Ring {
    path: String,
    file: Arc<dyn File>,
    header: FileHeader,
}

/// Copies the groups from a checkpoint on, one object for each journal file.
pub(super) fn copy(work: &mut Work<'_>, checkpoint: &Checkpoint) -> Result<Vec<Object>, Trouble> {
    let rings = find(work.source, work.log_id, checkpoint.generation)?;
    let mut objects = Vec::new();
    let mut from = checkpoint.position;
    let nexts = rings.iter().skip(1).map(|ring| Some(ring.header.start)).chain([None]);
    for (ring, next) in rings.iter().zip(nexts) {
        let (object, goes_on) = ring.copy(work, checkpoint.sequence, from, next)?;
        objects.push(object);
        match next {
            Some(start) if goes_on => from = start,
            _ => break,
        }
    }
    Ok(objects)
}

/// The files of that generation and later ones, in their order.
fn find(source: &dyn Storage, log_id: Uuid, from: u64) -> Result<Vec<Ring>, Trouble> {
    let names = source.list(DIR).map_err(|source| StorageError::new("list", DIR, source))?;
    let names: Vec<_> = names.iter().filter(|name| name.ends_with(".journal")).collect();
    if names.len() > JOURNAL_FILES_MAX {
        let what = format!("{DIR}/ holds {} files; at most {JOURNAL_FILES_MAX} are expected", names.len());
        return Err(BackupError::Journal { what }.into());
    }
    let mut rings = Vec::new();
    for name in names {
        let path = format!("{DIR}/{name}");
        // One file too many may be removed at any time.
        let Some(file) = open(source, &path)? else { continue };
        match read_header(&path, &*file)? {
            Some(header) if header.log_id == log_id && header.seed.generation >= from => {
                rings.push(Ring { path, file, header });
            }
            _ => {}
        }
    }
    rings.sort_by_key(|ring| ring.header.seed.generation);
    let missing = |generation: u64| format!("the journal file of generation {generation} is not there");
    if rings.is_empty() {
        return Err(Trouble::Again(missing(from)));
    }
    for (ring, expected) in rings.iter().zip(from..) {
        if ring.header.seed.generation != expected {
            return Err(Trouble::Again(missing(expected)));
        }
        ring.check_length()?;
    }
    Ok(rings)
}

fn read_header(path: &str, file: &dyn File) -> Result<Option<FileHeader>, StorageError> {
    let mut block = vec![0; BLOCK_BYTES];
    let count = read_up_to(file, &mut block, 0).map_err(|source| StorageError::new("read", path, source))?;
    block.truncate(count);
    Ok(FileHeader::decode(&block).ok())
}

impl Ring {
    fn check_length(&self) -> Result<(), Trouble> {
        let measured = self.file.len();
        let found = measured.map_err(|source| StorageError::new("measure", &self.path, source))?;
        let expected = self.header.capacity.saturating_add(BLOCK_BYTES as u64);
        if found >= expected {
            return Ok(());
        }
        let what = format!("{} has {found} bytes and not the {expected} that its header names", self.path);
        Err(BackupError::Journal { what }.into())
    }

    /// Copies header and groups from a position on. False: what follows belongs to a newer checkpoint.
    /// `next` is where the next file begins; the groups of this one reach up to there.
    fn copy(
        &self,
        work: &mut Work<'_>,
        checkpoint: u64,
        from: u64,
        next: Option<u64>,
    ) -> Result<(Object, bool), Trouble> {
        let generation = self.header.seed.generation;
        let mut upload = work.upload(Name::Journal { number: work.number, generation, from })?;
        upload.write(&self.header.encode())?;
        let mut position = from;
        let mut goes_on = true;
        while let Some((header, bytes)) = self.group(position)? {
            if header.checkpoint > checkpoint {
                goes_on = false;
                break;
            }
            upload.write(&bytes)?;
            position += bytes.len() as u64;
        }
        if goes_on {
            self.check_end(position, next)?;
        }
        self.check_unchanged()?;
        Ok((work.finish(upload)?, goes_on))
    }

    /// The group at a position, with all its blocks, if it is whole.
    fn group(&self, position: u64) -> Result<Option<(GroupHeader, Vec<u8>)>, StorageError> {
        let FileHeader { seed, start, capacity, .. } = self.header;
        let room = start.saturating_add(capacity).saturating_sub(position);
        let mut bytes = vec![0; BLOCK_BYTES];
        if room < BLOCK_BYTES as u64 || self.read(&mut bytes, position)? < BLOCK_BYTES {
            return Ok(None);
        }
        let Some(header) = GroupHeader::decode(seed, position, &bytes) else { return Ok(None) };
        if header.total_bytes() > room {
            return Ok(None);
        }
        bytes.resize(header.total_bytes() as usize, 0);
        let rest = &mut bytes[BLOCK_BYTES..];
        if self.read(rest, position + BLOCK_BYTES as u64)? < rest.len() {
            return Ok(None);
        }
        let body = bytes.get(GROUP_HEADER_BYTES..GROUP_HEADER_BYTES + header.body_bytes as usize);
        let whole = body.is_some_and(|body| decode_all(seed, position, body, header.entries).is_ok());
        Ok(whole.then_some((header, bytes)))
    }

    /// Where the walk has ended, either nothing was written yet, or the journal is damaged: then
    /// something behind vouches for it.
    fn check_end(&self, position: u64, next: Option<u64>) -> Result<(), Trouble> {
        let mark = match next {
            Some(start) => start,
            None => self.highest_mark(position)?,
        };
        if mark <= position {
            return Ok(());
        }
        if self.group(position)?.is_some() {
            // It was being written a moment ago: the backup ends before it. In a file that another one
            // follows, everything was written before.
            return match next {
                None => Ok(()),
                Some(_) => Err(Trouble::Again(format!("{} is being written", self.path))),
            };
        }
        self.check_unchanged()?;
        let what = format!(
            "the journal is damaged at position {position} ({}): events up to position {mark} were \
             acknowledged",
            self.path
        );
        Err(BackupError::Journal { what }.into())
    }

    /// The highest durable mark behind a position, at whichever boundary it stands.
    fn highest_mark(&self, position: u64) -> Result<u64, StorageError> {
        let FileHeader { seed, start, capacity, .. } = self.header;
        let end = start.saturating_add(capacity);
        let mut mark = 0;
        let mut at = position.saturating_add(BLOCK_BYTES as u64);
        let mut bytes = vec![0; LOOK_BYTES];
        while at < end {
            let count = self.read(&mut bytes, at)?;
            if count == 0 {
                break;
            }
            let positions = (at..end).step_by(BLOCK_BYTES);
            for (position, block) in positions.zip(bytes[..count].chunks(BLOCK_BYTES)) {
                if let Some(header) = GroupHeader::decode(seed, position, block) {
                    mark = mark.max(header.synced);
                }
            }
            at += LOOK_BYTES as u64;
        }
        Ok(mark)
    }

    /// The file may have been taken into use again under the reading.
    fn check_unchanged(&self) -> Result<(), Trouble> {
        if read_header(&self.path, &*self.file)? == Some(self.header) {
            return Ok(());
        }
        Err(Trouble::Again(format!("{} was taken into use again", self.path)))
    }

    /// Reads from a position of the journal, as much as the file has.
    fn read(&self, buf: &mut [u8], position: u64) -> Result<usize, StorageError> {
        let Some(behind) = position.checked_sub(self.header.start) else { return Ok(0) };
        let read = read_up_to(&*self.file, buf, behind.saturating_add(BLOCK_BYTES as u64));
        read.map_err(|source| StorageError::new("read", &self.path, source))
    }
}
