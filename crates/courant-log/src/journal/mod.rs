//! The journal: one ring of files for the data directory, every partition's appends in the order
//! of their arrival, synced by group. `docs/formats/journal.md` draws the bytes.
//!
//! Positions are u64 bytes since the log began. They never repeat; a ring file covers
//! `[start, start + capacity)` of them for as long as its generation lasts.

mod entry;
mod file_header;
mod group;
mod ring;
mod scan;
mod successor;
mod writer;

pub(crate) use entry::{AppendPart, Entry, EntryWriter, HEADER_BYTES as ENTRY_HEADER_BYTES, decode_all};
pub(crate) use file_header::{FileHeader, NotAHeader};
pub(crate) use group::{GroupBuffer, GroupHeader, HEADER_BYTES as GROUP_HEADER_BYTES};
pub(crate) use ring::{FillSteps, RingFile, capacity_of, path_of, remove_unfinished};
pub(crate) use scan::{ScanError, Scanned, all_free, scan};
pub(crate) use successor::decode as decode_successor;
pub(crate) use writer::{JournalWriter, Unsynced};

use crate::planted::{Defect, is_planted};

/// Bytes of a group beyond the batch of its only append: headers, padding, and a new segment's entry.
pub(crate) const GROUP_OVERHEAD_BYTES: usize = 512;

/// Journal bytes of a group whose entries take `bytes`.
pub(crate) fn group_bytes(bytes: usize) -> u64 {
    group::padded((group::HEADER_BYTES + bytes) as u64)
}

/// Directory of the ring files.
pub(crate) const DIR: &str = "journal";

/// What every checksum of one use of a ring file is seeded with, so that bytes of an earlier use
/// never pass, nor bytes that a client made up to look like a group: it cannot know the salt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Seed {
    pub(crate) salt: u64,
    pub(crate) generation: u64,
}

impl Seed {
    pub(crate) fn checksum(&self, position: u64, parts: &[&[u8]]) -> u32 {
        let mut crc = crate::crc::Crc32c::new();
        if !is_planted(Defect::NoSeed) {
            // In one piece: each call for a few bytes costs as much as one for a hundred.
            let mut seed = [0; 24];
            seed[..8].copy_from_slice(&self.salt.to_le_bytes());
            seed[8..16].copy_from_slice(&self.generation.to_le_bytes());
            seed[16..].copy_from_slice(&position.to_le_bytes());
            crc.update(&seed);
        }
        for part in parts {
            crc.update(part);
        }
        crc.finish()
    }
}
