//! One group: what a single write and a single sync make durable together.
//!
//! ```text
//! position p, a multiple of 4096
//! ├ header 64 B: magic crc generation position synced body_bytes entries flags checkpoint time
//! ├ entry, entry, …                      (see entry.rs)
//! └ zeros up to the next multiple of 4096
//! ```
//! `synced` is the durable mark: every byte before that position was on disk when this group was
//! written. On disk: the numbers are fixed.

use super::Seed;
use crate::bytes_io::Fields;
use crate::limits::BLOCK_BYTES;
use crate::planted::{Defect, is_planted};

const MAGIC: &[u8; 4] = b"CGRP";
pub(crate) const HEADER_BYTES: usize = 64;
const FLAG_SEAL: u32 = 1;

/// The fixed fields in front of a group's entries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct GroupHeader {
    pub(crate) position: u64,
    pub(crate) synced: u64,
    pub(crate) body_bytes: u32,
    pub(crate) entries: u32,
    pub(crate) seal: bool,
    /// Sequence of the newest durable checkpoint, so that an older copy of it is noticed.
    pub(crate) checkpoint: u64,
    pub(crate) written_ms: i64,
}

impl GroupHeader {
    /// Bytes from this group's header to the next group's.
    pub(crate) fn total_bytes(&self) -> u64 {
        padded(HEADER_BYTES as u64 + u64::from(self.body_bytes))
    }

    fn encode(&self, seed: Seed, out: &mut [u8]) {
        out[..4].copy_from_slice(MAGIC);
        out[8..16].copy_from_slice(&seed.generation.to_le_bytes());
        out[16..24].copy_from_slice(&self.position.to_le_bytes());
        out[24..32].copy_from_slice(&self.synced.to_le_bytes());
        out[32..36].copy_from_slice(&self.body_bytes.to_le_bytes());
        out[36..40].copy_from_slice(&self.entries.to_le_bytes());
        out[40..44].copy_from_slice(&u32::from(self.seal).to_le_bytes());
        out[44..48].fill(0);
        out[48..56].copy_from_slice(&self.checkpoint.to_le_bytes());
        out[56..64].copy_from_slice(&self.written_ms.to_le_bytes());
        let crc = seed.checksum(self.position, &[&out[8..HEADER_BYTES]]);
        out[4..8].copy_from_slice(&crc.to_le_bytes());
    }

    /// The header at `position`, if `bytes` begin with the one that was written there in this
    /// use of the file.
    pub(crate) fn decode(seed: Seed, position: u64, bytes: &[u8]) -> Option<Self> {
        let bytes = bytes.get(..HEADER_BYTES)?;
        if &bytes[..4] != MAGIC {
            return None;
        }
        let intact = seed.checksum(position, &[&bytes[8..]]).to_le_bytes() == bytes[4..8];
        if !intact && !is_planted(Defect::NoChecksums) {
            return None;
        }
        let mut fields = Fields::new(&bytes[8..]);
        let generation = fields.u64().ok()?;
        let at = fields.u64().ok()?;
        if (generation != seed.generation || at != position) && !is_planted(Defect::NoSeed) {
            return None;
        }
        let synced = fields.u64().ok()?;
        let body_bytes = fields.u32().ok()?;
        let entries = fields.u32().ok()?;
        let flags = fields.u32().ok()?;
        fields.u32().ok()?;
        let checkpoint = fields.u64().ok()?;
        let written_ms = fields.i64().ok()?;
        let seal = flags & FLAG_SEAL != 0;
        Some(Self { position, synced, body_bytes, entries, seal, checkpoint, written_ms })
    }
}

/// `bytes` rounded up to whole blocks.
pub(crate) fn padded(bytes: u64) -> u64 {
    bytes.next_multiple_of(BLOCK_BYTES as u64)
}

/// What groups begin with, and what is kept of the memory of a large one when they have become small.
const KEPT_BYTES: usize = 64 * 1024;

/// Groups in a row that leave most of the memory unused before it is given back.
const SMALL_GROUPS_MAX: u32 = 64;

/// A group under construction: header space, then entries. Reused from group to group.
///
/// Its memory is kept as long as groups make use of it: taken from the system anew for each group, it
/// would cost more than writing the group.
#[derive(Debug)]
pub(crate) struct GroupBuffer {
    bytes: Vec<u8>,
    /// Where in `bytes` the group begins: at a boundary of [`BLOCK_BYTES`] in memory, as long as that does not
    /// grow. So the disk can take it from there.
    start: usize,
    entries: u32,
    /// How many groups in a row have left most of the memory unused.
    small_groups: u32,
}

impl GroupBuffer {
    pub(crate) fn new() -> Self {
        let bytes = Vec::with_capacity(KEPT_BYTES);
        let mut group = Self { bytes, start: 0, entries: 0, small_groups: 0 };
        group.clear();
        group
    }

    /// Makes room for the next group.
    pub(crate) fn clear(&mut self) {
        self.start = self.bytes.as_ptr().align_offset(BLOCK_BYTES).min(BLOCK_BYTES);
        self.bytes.resize(self.start + HEADER_BYTES, 0);
        self.entries = 0;
    }

    /// Ends a group that was written. A burst must not hold its memory for ever.
    pub(crate) fn end(&mut self) {
        let is_small = self.bytes.len() < self.bytes.capacity() / 4;
        self.small_groups = if is_small { self.small_groups + 1 } else { 0 };
        self.clear();
        if self.small_groups >= SMALL_GROUPS_MAX {
            self.give_back();
        }
    }

    /// Gives most of the memory back: nothing is coming for now.
    pub(crate) fn give_back(&mut self) {
        self.clear();
        self.bytes.shrink_to(KEPT_BYTES);
        self.clear();
        self.small_groups = 0;
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.entries == 0
    }

    pub(crate) fn entries(&self) -> u32 {
        self.entries
    }

    /// What the places of stored batches are places in.
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    pub(crate) fn begin_entry(&mut self) -> &mut Vec<u8> {
        self.entries += 1;
        &mut self.bytes
    }

    /// Checksums the entries and the header for the position at which the group will stand, and
    /// pads to whole blocks. Entry checksums could not be made earlier: they are seeded with it.
    pub(crate) fn seal_for(&mut self, seed: Seed, header: GroupHeader) -> &[u8] {
        let group = &mut self.bytes[self.start..];
        super::entry::finish_checksums(seed, header.position, group);
        header.encode(seed, &mut group[..HEADER_BYTES]);
        let padded_bytes = padded(group.len() as u64) as usize;
        self.bytes.resize(self.start + padded_bytes, 0);
        &self.bytes[self.start..]
    }

    pub(crate) fn body_bytes(&self) -> u32 {
        (self.bytes.len() - self.start - HEADER_BYTES) as u32
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LARGE: usize = 5 * 1024 * 1024;

    fn group_of(group: &mut GroupBuffer, bytes: usize) {
        let out = group.begin_entry();
        out.resize(out.len() + bytes, 1);
        group.end();
        assert!(group.is_empty());
        assert_eq!(group.body_bytes(), 0);
    }

    /// Large groups among small ones find their memory where it was; a burst gives it back, after a while
    /// of small groups or at once when nothing follows.
    #[test]
    fn memory_is_kept_for_as_long_as_it_is_used() {
        let mut group = GroupBuffer::new();
        for _ in 0..3 {
            group_of(&mut group, LARGE);
            let capacity = group.bytes.capacity();
            assert!(capacity >= LARGE);
            for _ in 1..SMALL_GROUPS_MAX {
                group_of(&mut group, 100);
                assert_eq!(group.bytes.capacity(), capacity);
            }
        }
        group_of(&mut group, 100);
        assert!(group.bytes.capacity() < LARGE / 4, "{}", group.bytes.capacity());
        group_of(&mut group, LARGE);
        group.give_back();
        assert!(group.bytes.capacity() < LARGE / 4, "{}", group.bytes.capacity());
    }

    /// But for one for which the memory has grown while it was filled.
    #[test]
    fn a_group_begins_where_the_disk_can_take_it() {
        let seed = Seed { salt: 1, generation: 2 };
        let mut group = GroupBuffer::new();
        let mut sealed = |bytes: usize| {
            let mut entries = crate::journal::EntryWriter(&mut group);
            let mut batch = vec![7; bytes];
            crate::batch::set_crc(&mut batch);
            let stored = entries.append(crate::PartitionId(3), 42, &batch);
            assert!(group.bytes()[stored][21..].iter().all(|byte| *byte == 7));
            let header = GroupHeader {
                position: 4096,
                synced: 0,
                body_bytes: group.body_bytes(),
                entries: group.entries(),
                seal: false,
                checkpoint: 1,
                written_ms: 0,
            };
            let sealed = group.seal_for(seed, header);
            let is_aligned = sealed.as_ptr().addr().is_multiple_of(BLOCK_BYTES);
            assert_eq!(GroupHeader::decode(seed, 4096, sealed), Some(header));
            let body = &sealed[HEADER_BYTES..][..header.body_bytes as usize];
            assert!(crate::journal::decode_all(seed, 4096, body, 1).is_ok());
            assert_eq!(sealed.len() as u64, header.total_bytes());
            group.end();
            is_aligned
        };
        assert!(sealed(100) && sealed(KEPT_BYTES / 2));
        sealed(LARGE);
        assert!(sealed(LARGE) && sealed(100) && sealed(LARGE - BLOCK_BYTES));
    }
}
