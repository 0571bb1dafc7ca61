//! Reading the journal after a start: which groups are whole, and whether what is not whole is a
//! torn tail or corruption.
//!
//! The durable mark is the highest position that any intact group or file header of the journal
//! vouches for. Bytes that do not verify at or above the mark were never acknowledged: the journal
//! ends there. Below it they were, and the log refuses to go on as if they had not been.

use std::sync::Arc;

use uuid::Uuid;

use super::entry::decode_all;
use super::group::{GroupHeader, HEADER_BYTES};
use super::ring::{Found, find_files, read_whole};
use super::{DIR, Entry, FileHeader, RingFile, successor};
use crate::limits::{BLOCK_BYTES, JOURNAL_FILES_MAX};
use crate::planted::{Defect, is_planted};
use crate::storage::{Storage, StorageError};

/// Why the journal cannot be read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ScanError {
    #[error(transparent)]
    Storage(#[from] StorageError),
    #[error("{path} was written by a newer release (journal format {version}); this one reads format 1")]
    Newer { path: String, version: u32 },
    #[error("{path} belongs to another log ({found})")]
    Foreign { path: String, found: Uuid },
    #[error("{DIR}/ holds {count} files; at most {JOURNAL_FILES_MAX} are expected")]
    TooManyFiles { count: usize },
    #[error("{path} has {found} bytes and not the {expected} that its header names: a part is missing")]
    Short { path: String, found: u64, expected: u64 },
    #[error("the journal file of generation {generation} is missing, and acknowledged events with it")]
    Missing { generation: u64 },
    #[error(
        "the journal is damaged at position {position} ({path}, byte {byte}): \
         events up to position {mark} were acknowledged"
    )]
    Corrupt { path: String, byte: u64, position: u64, mark: u64 },
    #[error("an intact journal entry at position {position} contradicts the log: {what}")]
    Contradiction { position: u64, what: String },
}

/// What a scan found.
#[derive(Debug, Default)]
pub(crate) struct Scanned {
    /// Where the journal ends.
    pub(crate) end: u64,
    /// The highest generation in any file header.
    pub(crate) generation: u64,
    /// The newest checkpoint that any group knows of.
    pub(crate) checkpoint: u64,
    /// When the last group was written, as the wall clock said then.
    pub(crate) written_ms: Option<i64>,
    /// Groups and bytes that were replayed.
    pub(crate) groups: u64,
    pub(crate) bytes: u64,
    /// Bytes of an unacknowledged torn group were dropped.
    pub(crate) torn: bool,
    /// Files that hold replayed groups.
    pub(crate) held: Vec<RingFile>,
    /// Files that hold nothing that is needed.
    pub(crate) free: Vec<RingFile>,
    /// The next number for a new file's name.
    pub(crate) next_number: u64,
}

impl Scanned {
    /// What is wrong with a checkpoint of that sequence where the journal knows of a newer one: what came between
    /// would be lost.
    pub(crate) fn older_copy(&self, sequence: u64) -> Option<String> {
        let newest = self.checkpoint;
        (newest > sequence).then(|| {
            format!("checkpoint {sequence} is an older copy: the journal knows of checkpoint {newest}")
        })
    }
}

/// Replays every group from `(generation, position)` on, in order, through `apply`.
pub(crate) fn scan(
    storage: &Arc<dyn Storage>,
    log_id: Uuid,
    from: (u64, u64),
    mut apply: impl FnMut(u64, u64, Entry<'_>) -> Result<(), ScanError>,
) -> Result<Scanned, ScanError> {
    let (mut files, mut scanned) = find_files(storage, log_id, from.0)?;
    scanned.end = from.1;
    if files.first().is_none_or(|first| first.header.seed.generation != from.0) {
        return Err(ScanError::Missing { generation: from.0 });
    }
    let mut mark = 0;
    // Where the walk stopped: path and byte, for the error that names it.
    let mut stop = (String::new(), 0);
    for (index, (found, expected)) in files.iter().zip(from.0..).enumerate() {
        let FileHeader { seed, start, capacity, .. } = found.header;
        if seed.generation != expected {
            return Err(ScanError::Missing { generation: expected });
        }
        mark = mark.max(start);
        let bytes = read_whole(&found.ring)?;
        let body = &bytes[BLOCK_BYTES.min(bytes.len())..];
        let body = &body[..body.len().min(capacity as usize)];
        mark = mark.max(highest_mark(found, body, &mut scanned));
        let inside = scanned.end >= start && (index == 0 || scanned.end == start);
        if !inside {
            break;
        }
        walk(found, body, &mut scanned, &mut apply)?;
        let at = (scanned.end - start) as usize;
        stop = (found.ring.path.clone(), (BLOCK_BYTES + at) as u64);
        scanned.torn = body.get(at..).is_some_and(|rest| begins_group(seed.generation, rest));
    }
    if let Some(generation) = files.last().map(successor_of).transpose()?.flatten() {
        return Err(ScanError::Missing { generation });
    }
    // The rest of the files is only asked what it vouches for.
    for found in &files {
        mark = mark.max(found.header.start);
    }
    if scanned.end < mark && !is_planted(Defect::NoDurableMark) {
        let (path, byte) = stop;
        return Err(ScanError::Corrupt { path, byte, position: scanned.end, mark });
    }
    scanned.held = files.drain(..).map(|found| found.ring).collect();
    Ok(scanned)
}

/// The generation that is said to follow a file.
fn successor_of(found: &Found) -> Result<Option<u64>, StorageError> {
    let FileHeader { seed, capacity, .. } = found.header;
    // A release that knew no successors filled the file to its end.
    let block = found.ring.read_block(BLOCK_BYTES as u64 + capacity)?;
    Ok(successor::decode(seed, &block))
}

/// Every ring file as a free one, for a log that has acknowledged nothing yet. A group in any of
/// them says that it has: then its checkpoints are what is missing.
pub(crate) fn all_free(storage: &Arc<dyn Storage>, log_id: Uuid) -> Result<Scanned, ScanError> {
    let (files, mut scanned) = find_files(storage, log_id, 0)?;
    for found in files {
        let bytes = read_whole(&found.ring)?;
        let FileHeader { seed, start, .. } = found.header;
        if GroupHeader::decode(seed, start, bytes.get(BLOCK_BYTES..).unwrap_or_default()).is_some() {
            let what = "there are groups in the journal, but no checkpoint is left".to_owned();
            return Err(ScanError::Contradiction { position: start, what });
        }
        scanned.free.push(found.ring);
    }
    Ok(scanned)
}

/// Whether a group of this use of the file was begun here, whole or not.
fn begins_group(generation: u64, bytes: &[u8]) -> bool {
    bytes.get(..16).is_some_and(|bytes| bytes.starts_with(b"CGRP") && bytes[8..] == generation.to_le_bytes())
}

/// The highest durable mark of any intact group header, at whichever boundary it stands: a damaged
/// group must not hide the ones behind it.
fn highest_mark(found: &Found, body: &[u8], scanned: &mut Scanned) -> u64 {
    let FileHeader { seed, start, .. } = found.header;
    let mut mark = 0;
    for (index, block) in body.chunks(BLOCK_BYTES).enumerate() {
        let position = start + (index * BLOCK_BYTES) as u64;
        if let Some(header) = GroupHeader::decode(seed, position, block) {
            mark = mark.max(header.synced);
            scanned.checkpoint = scanned.checkpoint.max(header.checkpoint);
            scanned.written_ms = Some(header.written_ms);
        }
    }
    mark
}

/// Replays the intact groups of one file, from `scanned.end` on.
fn walk(
    found: &Found,
    body: &[u8],
    scanned: &mut Scanned,
    apply: &mut impl FnMut(u64, u64, Entry<'_>) -> Result<(), ScanError>,
) -> Result<(), ScanError> {
    let FileHeader { seed, start, .. } = found.header;
    loop {
        let at = (scanned.end - start) as usize;
        let Some(rest) = body.get(at..) else {
            return Ok(());
        };
        let Some(header) = GroupHeader::decode(seed, scanned.end, rest) else {
            return Ok(());
        };
        let end = HEADER_BYTES + header.body_bytes as usize;
        let Some(entries_bytes) = rest.get(HEADER_BYTES..end) else {
            return Ok(());
        };
        let Ok(entries) = decode_all(seed, scanned.end, entries_bytes, header.entries) else {
            return Ok(());
        };
        for entry in entries {
            apply(seed.generation, scanned.end, entry)?;
        }
        scanned.end += header.total_bytes();
        if !header.seal {
            scanned.groups += 1;
            scanned.bytes += header.total_bytes();
        }
    }
}
