//! What a disk holds after a power cut.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;

use super::content::{Content, PAGE_BYTES, Page, SECTOR_BYTES, spans};
use super::inode::{FileOp, Inode};
use super::names::{NameOp, Node, add_needed, drop_dependent, drop_orphans};
use super::random::Random;
use super::state::State;

/// What a power cut leaves of the writes and names that were not synced.
///
/// Whatever was synced is always there. A sector (512 bytes) is written whole or not at all. In
/// every mode changes of one name, and changes of one file's length, keep their order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CrashMode {
    /// Nothing.
    LoseAll,
    /// Everything.
    KeepAll,
    /// Everything up to some call, nothing after it.
    Prefix,
    /// Each sector of each write, each new length and each change of a name, or not, independently:
    /// a later write without an earlier one, a name without the data, a length whose data reads as
    /// zeros.
    RandomSubset,
    /// Everything but the last write, of which only the first sectors are there.
    TornLast,
    /// All names and lengths and none of the data: what is new reads as zeros.
    Zeros,
    /// As [`CrashMode::RandomSubset`], but a sector that is new in its file and was not written
    /// holds old bytes of this storage or noise.
    StaleGarbage,
}

impl CrashMode {
    /// All modes.
    pub const ALL: [Self; 7] = [
        Self::LoseAll,
        Self::KeepAll,
        Self::Prefix,
        Self::RandomSubset,
        Self::TornLast,
        Self::Zeros,
        Self::StaleGarbage,
    ];
}

impl State {
    /// A disk of its own with what this one holds after a power cut now.
    pub(super) fn after_crash(&self, mode: CrashMode, seed: u64) -> Self {
        let mut cut = Cut::new(self, mode, seed);
        let mut names = self.durable_names.clone();
        for (op, present) in self.name_ops.iter().zip(cut.names(&self.name_ops)) {
            if present {
                op.apply(&mut names);
            }
        }
        drop_orphans(&mut names);
        let mut image = Self::new(cut.random.draw(), self.cap);
        for id in names.values().filter_map(Node::inode) {
            if let Some(inode) = self.inodes.get(&id) {
                let content = cut.content(inode);
                image.used += content.len();
                image.inodes.insert(id, Inode::holding(content));
            }
        }
        image.boots = self.boots + 1;
        image.next_inode = self.next_inode;
        image.graveyard = self.graveyard.clone();
        image.durable_names = names.clone();
        image.names = names;
        image
    }

    fn pending(&self) -> impl Iterator<Item = &FileOp> {
        self.inodes.values().flat_map(|inode| &inode.pending)
    }
}

/// A write that is there in part.
struct Torn {
    seq: u64,
    sectors: usize,
    /// The new length is there although the data is not.
    whole_len: bool,
}

/// One power cut.
struct Cut<'a> {
    mode: CrashMode,
    random: Random,
    graveyard: &'a VecDeque<Arc<Page>>,
    /// In how many of 256 cases a thing is there, in the modes that choose by chance.
    weight: u64,
    /// The first call of which nothing is there, in the prefix mode.
    end: u64,
    torn: Option<Torn>,
}

impl<'a> Cut<'a> {
    fn new(state: &'a State, mode: CrashMode, seed: u64) -> Self {
        let mut random = Random::new(seed);
        let weight = [32, 128, 224][random.below(3)];
        let mut end = u64::MAX;
        let mut torn = None;
        match mode {
            CrashMode::Prefix => {
                let names = state.name_ops.iter().map(|op| op.seq);
                let calls: BTreeSet<u64> = state.pending().map(|op| op.seq).chain(names).collect();
                let kept = random.below(calls.len() + 1);
                end = calls.iter().nth(kept).copied().unwrap_or(u64::MAX);
            }
            CrashMode::TornLast => {
                let writes = state.pending().filter(|op| !op.bytes.is_empty());
                torn = writes.max_by_key(|op| op.seq).map(|op| Torn {
                    seq: op.seq,
                    sectors: random.below(sectors(op)),
                    whole_len: random.chance(128),
                });
            }
            _ => {}
        }
        Self { mode, random, graveyard: &state.graveyard, weight, end, torn }
    }

    /// Which changes of names are there.
    fn names(&mut self, ops: &[NameOp]) -> Vec<bool> {
        match self.mode {
            CrashMode::LoseAll => vec![false; ops.len()],
            CrashMode::KeepAll | CrashMode::TornLast | CrashMode::Zeros => vec![true; ops.len()],
            CrashMode::Prefix => ops.iter().map(|op| op.seq < self.end).collect(),
            CrashMode::RandomSubset | CrashMode::StaleGarbage => {
                let weight = self.weight;
                let mut chosen: Vec<bool> = ops.iter().map(|_| self.random.chance(weight)).collect();
                if self.random.chance(128) {
                    add_needed(ops, &mut chosen);
                } else {
                    drop_dependent(ops, &mut chosen);
                }
                chosen
            }
        }
    }

    /// What the file holds.
    fn content(&mut self, inode: &Inode) -> Content {
        if inode.pending.is_empty() {
            return inode.durable.clone();
        }
        let mut content = match self.mode {
            CrashMode::LoseAll => return inode.durable.clone(),
            CrashMode::KeepAll if !inode.ghosts => return inode.current.clone(),
            CrashMode::RandomSubset | CrashMode::StaleGarbage => self.subset(inode),
            CrashMode::KeepAll | CrashMode::Prefix | CrashMode::TornLast | CrashMode::Zeros => {
                let mut content = inode.durable.clone();
                for op in &inode.pending {
                    self.replay(op, &mut content);
                }
                content
            }
        };
        content.settle();
        content
    }

    /// Applies one write in the modes that keep the order.
    fn replay(&self, op: &FileOp, content: &mut Content) {
        if self.mode == CrashMode::Prefix && op.seq >= self.end {
            return;
        }
        if self.mode == CrashMode::Zeros {
            if let Some(len) = op.len {
                content.set_len(len);
            }
            return;
        }
        let Some(torn) = self.torn.as_ref().filter(|torn| torn.seq == op.seq) else {
            op.apply(content);
            return;
        };
        let bytes: usize = spans(op.position, op.bytes.len(), SECTOR_BYTES)
            .take(torn.sectors)
            .map(|sector| sector.source.len())
            .sum();
        if let Some(len) = op.len {
            let written =
                if bytes == 0 { content.len() } else { content.len().max(op.position + bytes as u64) };
            content.set_len(if torn.whole_len { len } else { written });
        }
        content.poke(op.position, &op.bytes[..bytes]);
    }

    /// Applies each sector and each length, or not.
    fn subset(&mut self, inode: &Inode) -> Content {
        let mut content = inode.durable.clone();
        let lengths = inode.pending.iter().filter(|op| op.len.is_some()).count();
        let mut lengths_left = self.random.below(lengths + 1);
        let mut filled = BTreeSet::new();
        for op in &inode.pending {
            if let Some(len) = op.len
                && lengths_left > 0
            {
                content.set_len(len);
                lengths_left -= 1;
            }
            for sector in spans(op.position, op.bytes.len(), SECTOR_BYTES) {
                if self.random.chance(self.weight) {
                    let position = op.position + sector.source.start as u64;
                    content.poke(position, &op.bytes[sector.source]);
                    filled.insert(sector.index);
                } else if self.mode == CrashMode::StaleGarbage
                    && !inode.durable.holds_sector(sector.index)
                    && filled.insert(sector.index)
                {
                    content.poke(sector.index * SECTOR_BYTES, &self.garbage(sector.index));
                }
            }
        }
        content
    }

    /// What a sector held before it was given to the file.
    fn garbage(&mut self, sector: u64) -> [u8; SECTOR_BYTES as usize] {
        let mut bytes = [0; SECTOR_BYTES as usize];
        let grave = self.random.below(self.graveyard.len());
        match self.graveyard.get(grave) {
            // The same place in its page: what began on a page boundary begins on one again.
            Some(page) if self.random.chance(128) => {
                let start = ((sector * SECTOR_BYTES) % PAGE_BYTES) as usize;
                bytes.copy_from_slice(&page[start..start + SECTOR_BYTES as usize]);
            }
            _ => {
                for word in bytes.chunks_exact_mut(8) {
                    word.copy_from_slice(&self.random.draw().to_le_bytes());
                }
            }
        }
        bytes
    }
}

fn sectors(op: &FileOp) -> usize {
    spans(op.position, op.bytes.len(), SECTOR_BYTES).count()
}
