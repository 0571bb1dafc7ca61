//! The files of a data directory: what each of them is, and what it holds.

use std::io;
use std::ops::RangeInclusive;
use std::sync::Arc;

use uuid::Uuid;

use super::named::{Covered, Named, Standing};
use super::{Input, NamedPartition, batches, groups, key_of};
use crate::checkpoint::{self, Checkpoint, decode_producers};
use crate::error::OpenError;
use crate::layout::{self, DOUBT_FILE, FORMAT_FILE, LOST_AND_FOUND};
use crate::limits::CHECKPOINT_BYTES_MAX;
use crate::reserve::RESERVE_FILE;
use crate::segment::{self, FileKind, SegmentKey};
use crate::storage::{Storage, StorageError};
use crate::{compacting, journal};

/// How a name ends while its file is not finished.
const UNFINISHED: &str = ".new";
/// Folders below each other that are looked into. A log has three; a link that leads back has no end.
const DEPTH_MAX: usize = 8;
/// Where files stand in the answer.
const ORDER: [&str; 8] = [
    FORMAT_FILE,
    DOUBT_FILE,
    RESERVE_FILE,
    journal::DIR,
    checkpoint::DIR,
    segment::DIR,
    compacting::DIR,
    LOST_AND_FOUND,
];

/// The files of a data directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Inspected {
    /// `FORMAT`, journal, checkpoints, segments, what was set aside, and everything else; by path.
    pub files: Vec<StoredFile>,
    /// Why the records that name files cannot all be read. While there is a reason, nothing is said to be
    /// nobody's.
    pub problem: Option<String>,
}

/// One file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredFile {
    /// Relative to the data directory.
    pub path: String,
    /// What its path says that it is.
    pub kind: StoredKind,
    /// Its length.
    pub bytes: u64,
    /// What it holds.
    pub content: Content,
}

/// What the path of a file says that it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StoredKind {
    /// Says what the directory is.
    Format,
    /// Is there while what a failing storage has lost is in doubt.
    Doubt,
    /// A file of the journal's ring.
    Journal,
    /// State from which replay begins.
    Checkpoint,
    /// Sequences of producers, beside a checkpoint.
    Producers,
    /// Batches of one partition.
    Segment,
    /// The sidecar of a segment.
    Blocks,
    /// A compacted segment on its way.
    Compaction,
    /// Room for a checkpoint on a full disk.
    Reserve,
    /// Something that a start has set aside.
    LostAndFound,
    /// Nothing that a log makes.
    Other,
}

impl StoredKind {
    /// Its name in lists.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Format => "format",
            Self::Doubt => "doubt",
            Self::Journal => "journal",
            Self::Checkpoint => "checkpoint",
            Self::Producers => "producers",
            Self::Segment => "segment",
            Self::Blocks => "blocks",
            Self::Compaction => "compaction",
            Self::Reserve => "reserve",
            Self::LostAndFound => "lost-and-found",
            Self::Other => "other",
        }
    }

    fn of(path: &str) -> Self {
        let path = path.strip_suffix(UNFINISHED).unwrap_or(path);
        match path.split_once('/') {
            None if path == FORMAT_FILE => Self::Format,
            None if path == DOUBT_FILE => Self::Doubt,
            Some((journal::DIR, name)) if name.ends_with(".journal") => Self::Journal,
            Some((checkpoint::DIR, name)) if name.ends_with(".checkpoint") => Self::Checkpoint,
            Some((checkpoint::DIR, name)) if name.ends_with(".producers") => Self::Producers,
            Some((segment::DIR, name)) if name.ends_with(".segment") => Self::Segment,
            Some((segment::DIR, name)) if name.ends_with(".blocks") => Self::Blocks,
            Some((compacting::DIR, _)) => Self::Compaction,
            None if path == RESERVE_FILE => Self::Reserve,
            Some((LOST_AND_FOUND, _)) => Self::LostAndFound,
            _ => Self::Other,
        }
    }
}

/// What a file holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Content {
    /// The identity of the log.
    Format {
        /// Its id.
        log_id: Uuid,
    },
    /// Nothing: that it is there says that the storage has failed.
    Doubt,
    /// A use of a journal file that a start would read.
    Journal(JournalContent),
    /// Nothing that is needed: the journal will write here again.
    FreeJournal,
    /// A checkpoint that verifies.
    Checkpoint(CheckpointContent),
    /// Sequences of producers.
    Producers {
        /// Of the checkpoint that they belong to.
        sequence: u64,
        /// Partitions that have producers.
        partitions: u64,
        /// Producers of all partitions.
        producers: u64,
    },
    /// Batches.
    Segment(SegmentContent),
    /// Checksums and index of a segment.
    Blocks {
        /// The partition of the segment.
        partition: NamedPartition,
        /// Blocks that have an entry.
        entries: u64,
        /// Entries among them that do not verify.
        damaged: u64,
    },
    /// What a durable record has deleted; the next checkpoint removes the file.
    Deleted,
    /// What a start found, and no durable record named.
    LostAndFound,
    /// Zeros that hold room.
    Reserve,
    /// A file that was never finished; nothing reads it.
    Unfinished,
    /// What no durable record names.
    Unnamed,
    /// Something that cannot be read.
    Unreadable {
        /// What is wrong.
        why: String,
    },
}

/// What a use of a journal file covers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct JournalContent {
    /// Number of the use.
    pub generation: u64,
    /// Position of its first byte.
    pub start: u64,
    /// Bytes that groups may fill.
    pub capacity: u64,
    /// Groups from the checkpoint on, seals not counted; all of them where no checkpoint can be read.
    pub groups: u64,
    /// The first position among them where no group verifies although one behind it does.
    pub unverified: Option<u64>,
}

/// What a checkpoint says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CheckpointContent {
    /// Counts checkpoints.
    pub sequence: u64,
    /// The use of a journal file in which replay begins.
    pub generation: u64,
    /// Position in the journal at which replay begins.
    pub position: u64,
    /// Topics.
    pub topics: u64,
    /// Their partitions.
    pub partitions: u64,
    /// Consumer groups.
    pub groups: u64,
    /// Whether a start would use this one.
    pub is_used: bool,
}

/// What stands in a segment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SegmentContent {
    /// Its partition.
    pub partition: NamedPartition,
    /// Offsets of the first and the last event, as the headers of batches have them; none where no
    /// header can be read.
    pub offsets: Option<RangeInclusive<u64>>,
    /// Batches, by their headers; those behind a header that cannot be read are not counted.
    pub batches: u64,
    /// Bytes behind the last of these batches.
    pub rest: u64,
    /// Bytes that the checkpoint covers; what stands behind them is the journal's. None where no checkpoint
    /// can be read.
    pub covered: Option<u64>,
}

/// Looks at every file of a data directory that no process uses.
///
/// Of segments only the headers of batches are read, so their payloads may be damaged: see
/// [`crate::verify()`].
///
/// # Errors
/// [`OpenError::Locked`] while a server uses it, [`OpenError::NotALog`] and [`OpenError::Newer`] where
/// there is nothing to read, [`OpenError::Storage`] when the storage fails. Damage is no error.
pub fn inspect(storage: &Arc<dyn Storage>) -> Result<Inspected, OpenError> {
    let _guard = layout::take_to_read(&**storage)?;
    let log_id = layout::identity(&**storage)?;
    let named = Named::load(storage, log_id)?;
    let mut paths = Vec::new();
    find(&**storage, "", 0, &mut paths)?;
    paths.sort_by_cached_key(|path| (place(path), path.clone()));
    let look = Look { log_id, named: &named };
    let files = paths.iter().map(|path| Input::open(&**storage, path).map(|input| look.at(&input)));
    let files = files.collect::<Result<Vec<_>, _>>()?;
    Ok(Inspected { files, problem: named.problem })
}

/// Finds the files below a directory.
fn find(
    storage: &dyn Storage,
    path: &str,
    depth: usize,
    files: &mut Vec<String>,
) -> Result<(), StorageError> {
    match storage.list(path) {
        Ok(names) if depth < DEPTH_MAX => names.into_iter().try_for_each(|name| {
            let below = if path.is_empty() { name } else { format!("{path}/{name}") };
            find(storage, &below, depth + 1, files)
        }),
        Ok(_) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotADirectory => {
            files.push(path.to_owned());
            Ok(())
        }
        Err(source) => {
            let path = if path.is_empty() { "the data directory" } else { path };
            Err(StorageError::new("list", path, source))
        }
    }
}

fn place(path: &str) -> usize {
    let top = path.split_once('/').map_or(path, |(top, _)| top);
    ORDER.iter().position(|name| *name == top).unwrap_or(ORDER.len())
}

/// What is known before a file is opened.
struct Look<'a> {
    log_id: Uuid,
    named: &'a Named,
}

impl Look<'_> {
    fn at(&self, input: &Input) -> StoredFile {
        let kind = StoredKind::of(&input.path);
        let is_unfinished = input.path.ends_with(UNFINISHED);
        let content = match kind {
            StoredKind::LostAndFound => Content::LostAndFound,
            StoredKind::Other => Content::Unnamed,
            StoredKind::Reserve => Content::Reserve,
            StoredKind::Compaction => Content::Unfinished,
            _ if is_unfinished => Content::Unfinished,
            StoredKind::Format => Content::Format { log_id: self.log_id },
            StoredKind::Doubt => Content::Doubt,
            StoredKind::Journal => self.journal(input),
            StoredKind::Checkpoint => self.checkpoint(input),
            StoredKind::Producers => producers(input),
            StoredKind::Segment => self.segment(input),
            StoredKind::Blocks => self.blocks(input),
        };
        StoredFile { path: input.path.clone(), kind, bytes: input.bytes, content }
    }

    fn journal(&self, input: &Input) -> Content {
        if !groups::is_path(&input.path) {
            return Content::Unnamed;
        }
        let header = match groups::header(input, self.log_id) {
            Ok(Some(header)) => header,
            Ok(None) => return Content::FreeJournal,
            Err(why) => return Content::Unreadable { why },
        };
        let generation = header.seed.generation;
        let newest = self.named.newest;
        if newest.is_some_and(|newest| generation < newest.generation) {
            return Content::FreeJournal;
        }
        let from = newest.map_or(0, |newest| newest.position);
        match groups::count(input, header, from) {
            Ok((groups, unverified)) => {
                let (start, capacity) = (header.start, header.capacity);
                Content::Journal(JournalContent { generation, start, capacity, groups, unverified })
            }
            Err(error) => unreadable(&error),
        }
    }

    fn checkpoint(&self, input: &Input) -> Content {
        let why = if input.bytes > CHECKPOINT_BYTES_MAX {
            "it is longer than a checkpoint can be".to_owned()
        } else {
            match input.read(0, input.bytes).map(|bytes| Checkpoint::decode(&bytes)) {
                Ok(Ok(checkpoint)) if checkpoint.log_id == self.log_id => {
                    let used = self.named.newest.map(|newest| newest.sequence);
                    return Content::Checkpoint(CheckpointContent {
                        sequence: checkpoint.sequence,
                        generation: checkpoint.generation,
                        position: checkpoint.position,
                        topics: checkpoint.topics.len() as u64,
                        partitions: checkpoint.partitions.len() as u64,
                        groups: checkpoint.groups.iter().len() as u64,
                        is_used: used == Some(checkpoint.sequence),
                    });
                }
                Ok(Ok(checkpoint)) => format!("it belongs to another log ({})", checkpoint.log_id),
                Ok(Err(_)) => "it is damaged, or a newer release has written it".to_owned(),
                Err(error) => return unreadable(&error),
            }
        };
        Content::Unreadable { why }
    }

    fn segment(&self, input: &Input) -> Content {
        let (key, covered) = match self.standing(input, FileKind::Segment) {
            Ok(named) => named,
            Err(content) => return content,
        };
        match batches::count(input) {
            Ok(counted) => Content::Segment(SegmentContent {
                partition: self.named.partition(key.partition),
                offsets: counted.offsets,
                batches: counted.batches,
                rest: input.bytes.saturating_sub(counted.end),
                covered: covered.map(|covered| covered.bytes),
            }),
            Err(error) => unreadable(&error),
        }
    }

    fn blocks(&self, input: &Input) -> Content {
        let (key, _) = match self.standing(input, FileKind::Sidecar) {
            Ok(named) => named,
            Err(content) => return content,
        };
        match batches::blocks(input, self.log_id, key) {
            Ok(Some(blocks)) => Content::Blocks {
                partition: self.named.partition(key.partition),
                entries: blocks.len() as u64,
                damaged: blocks.iter().filter(|block| block.is_none()).count() as u64,
            },
            Ok(None) => Content::Unreadable { why: "its header is damaged, or another segment's".to_owned() },
            Err(error) => unreadable(&error),
        }
    }

    /// The segment of a file, with what the checkpoint says of it where one
    /// can be read. What is nobody's, or deleted, is the content already.
    fn standing(&self, input: &Input, kind: FileKind) -> Result<(SegmentKey, Option<Covered>), Content> {
        let key = key_of(&input.path, kind).ok_or(Content::Unnamed)?;
        match self.named.segment(key) {
            Standing::Named(covered) => Ok((key, Some(covered))),
            Standing::Unknown => Ok((key, self.named.newest.map(|_| Covered::default()))),
            Standing::Deleted => Err(Content::Deleted),
            Standing::Nobodys => Err(Content::Unnamed),
        }
    }
}

fn producers(input: &Input) -> Content {
    let name = input.path.rsplit('/').next().and_then(|name| name.split('.').next());
    let Some(sequence) = name.and_then(|digits| digits.parse().ok()) else {
        return Content::Unnamed;
    };
    match input.read(0, CHECKPOINT_BYTES_MAX).map(|bytes| decode_producers(sequence, &bytes)) {
        Ok(Ok(found)) => Content::Producers {
            sequence,
            partitions: found.len() as u64,
            producers: found.values().map(|producers| producers.len() as u64).sum(),
        },
        Ok(Err(_)) => {
            Content::Unreadable { why: "it is damaged; a start makes it anew from the segments".to_owned() }
        }
        Err(error) => unreadable(&error),
    }
}

fn unreadable(error: &io::Error) -> Content {
    Content::Unreadable { why: format!("it cannot be read: {error}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_say_what_a_file_is() {
        let kinds = [
            ("FORMAT", StoredKind::Format),
            ("FORMAT.new", StoredKind::Format),
            ("DOUBT", StoredKind::Doubt),
            ("journal/00000001.journal", StoredKind::Journal),
            ("journal/00000001.journal.new", StoredKind::Journal),
            ("checkpoints/0000000000000042.checkpoint", StoredKind::Checkpoint),
            ("checkpoints/0000000000000042.producers", StoredKind::Producers),
            ("segments/0000000000000007/00000000000000000000.segment", StoredKind::Segment),
            ("segments/0000000000000007/00000000000000000000.blocks", StoredKind::Blocks),
            ("lost-and-found/segments-0000000000000007-notes", StoredKind::LostAndFound),
            ("RESERVE", StoredKind::Reserve),
            ("compaction/segment", StoredKind::Compaction),
            ("segments/0000000000000007/notes", StoredKind::Other),
            ("notes", StoredKind::Other),
            ("elsewhere/FORMAT", StoredKind::Other),
        ];
        for (path, kind) in kinds {
            assert_eq!(StoredKind::of(path), kind, "{path}");
        }
        let places = kinds.map(|(path, _)| place(path));
        assert_eq!(places, [0, 8, 1, 3, 3, 4, 4, 5, 5, 7, 2, 6, 5, 8, 8]);
    }
}
