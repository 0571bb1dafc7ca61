//! What stands in a data directory, for whoever must understand it: its files, the batches of a segment,
//! the groups of a journal file.
//!
//! Nothing is changed. Damage is shown, and ends only what cannot go on without the damaged bytes. Keys
//! and values of events are never part of an answer: they may be private.

mod batches;
mod entries;
mod files;
mod groups;
mod named;

use std::io;
use std::sync::Arc;

pub use batches::{InspectedBatch, InspectedSegment, inspect_segment};
pub use entries::{AppendedBatch, InspectedChange, InspectedEntry};
pub use files::{
    CheckpointContent, Content, Inspected, JournalContent, SegmentContent, StoredFile, StoredKind, inspect,
};
pub use groups::{InspectedGroup, InspectedJournal, JournalRow, JournalUse, inspect_journal};

use crate::PartitionId;
use crate::error::OpenError;
use crate::segment::{self, FileKind, SegmentKey};
use crate::storage::{File, OpenMode, Storage, StorageError};

/// Why one file cannot be shown.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum InspectError {
    /// The data directory cannot be read.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The path is not one that a segment has.
    #[error(
        "{path} is no segment of the data directory; name one by its path in there, such as \
         segments/0000000000000001/00000000000000000000.segment"
    )]
    NotASegment {
        /// What was asked for.
        path: String,
    },
    /// The path is not one that a journal file has.
    #[error(
        "{path} is no journal file of the data directory; name one by its path in there, such as \
         journal/00000001.journal"
    )]
    NotAJournalFile {
        /// What was asked for.
        path: String,
    },
    /// There is no such file.
    #[error("there is no {path} in the data directory; `courant log inspect` lists the files")]
    Missing {
        /// What was asked for.
        path: String,
    },
    /// The file is not one of this log, or not of this release.
    #[error("{path} cannot be shown: {why}")]
    Unreadable {
        /// The file.
        path: String,
        /// What is strange about it.
        why: String,
    },
    /// The storage failed.
    #[error(transparent)]
    Storage(#[from] StorageError),
}

/// A partition, by the name that people know it by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamedPartition {
    /// Its number in the log.
    pub id: PartitionId,
    /// Name of the topic and number of the partition in it; none where no record that can be read says so.
    pub topic: Option<(String, u32)>,
}

impl std::fmt::Display for NamedPartition {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.topic {
            Some((topic, number)) => write!(f, "{topic}/{number}"),
            None => write!(f, "partition id {}", self.id),
        }
    }
}

/// A file that is looked at, as the disk holds it.
#[derive(Debug)]
struct Input {
    path: String,
    file: Arc<dyn File>,
    /// Its length.
    bytes: u64,
}

impl Input {
    fn open(storage: &dyn Storage, path: &str) -> Result<Self, StorageError> {
        let at = |what| move |source| StorageError::new(what, path, source);
        let file = storage.open(path, OpenMode::Existing).map_err(at("open"))?;
        // What the disk holds is in question, and not what memory remembers of it.
        file.drop_cache().map_err(at("drop the cache of"))?;
        let bytes = file.len().map_err(at("measure"))?;
        Ok(Self { path: path.to_owned(), file, bytes })
    }

    /// As [`Self::open`], for a path that a user has named.
    fn open_named(storage: &dyn Storage, path: &str) -> Result<Self, InspectError> {
        Self::open(storage, path).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => InspectError::Missing { path: path.to_owned() },
            _ => error.into(),
        })
    }

    /// At most `count` bytes from `position` on; fewer where the file ends.
    fn read(&self, position: u64, count: u64) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; count.min(self.bytes.saturating_sub(position)) as usize];
        let mut filled = 0;
        while filled < bytes.len() {
            match self.file.read_at(&mut bytes[filled..], position + filled as u64)? {
                0 => break,
                count => filled += count,
            }
        }
        bytes.truncate(filled);
        Ok(bytes)
    }

    fn failed(&self, source: io::Error) -> StorageError {
        StorageError::new("read", &self.path, source)
    }
}

/// The segment that the path of one of its files names. `None` for every path that the log would not have
/// given it.
fn key_of(path: &str, kind: FileKind) -> Option<SegmentKey> {
    let (dir, name) = path.strip_prefix(segment::DIR)?.strip_prefix('/')?.split_once('/')?;
    let partition = PartitionId(u64::from_str_radix(dir, 16).ok()?);
    let stem = name.split('.').next()?;
    let (base_offset, number) = stem.split_once('-').unwrap_or((stem, "0"));
    let key = SegmentKey { partition, base_offset: base_offset.parse().ok()?, number: number.parse().ok()? };
    (key.path(kind) == path).then_some(key)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_paths_that_the_log_gives_are_taken() {
        let path = "segments/000000000000000a/00000000000000000042.segment";
        let key = SegmentKey { partition: PartitionId(10), base_offset: 42, number: 0 };
        assert_eq!(key_of(path, FileKind::Segment), Some(key));
        let compacted = "segments/000000000000000a/00000000000000000042-7.blocks";
        assert_eq!(key_of(compacted, FileKind::Sidecar), Some(SegmentKey { number: 7, ..key }));
        assert_eq!(key_of(path, FileKind::Sidecar), None);
        for strange in [
            "",
            "segments",
            "segments/000000000000000a",
            "segments/000000000000000A/00000000000000000042.segment",
            "segments/a/42.segment",
            "segments/000000000000000a/00000000000000000042-0.segment",
            "segments/000000000000000a/00000000000000000042-07.segment",
            "segments/000000000000000a/+0000000000000000042.segment",
            "segments/000000000000000a/00000000000000000042.segment.new",
            "segments/../segments/000000000000000a/00000000000000000042.segment",
            "/segments/000000000000000a/00000000000000000042.segment",
            "lost-and-found/00000000000000000042.segment",
        ] {
            assert_eq!(key_of(strange, FileKind::Segment), None, "{strange}");
        }
    }
}
