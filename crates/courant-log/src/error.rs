//! Errors, one enum for each operation.

use std::sync::Arc;

use crate::Topic;
use crate::limits::TOPIC_CONFIGS_BYTES_MAX;
use crate::storage::StorageError;

/// Why the log does not open.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// Another process uses the data directory.
    #[error("another process is using this data directory; stop it, or choose another with --data")]
    Locked,
    /// The data directory was written by a newer release.
    #[error(
        "the data directory was written by a newer release (format {found}); this one reads format {known}"
    )]
    Newer {
        /// The format that was found.
        found: u32,
        /// The format that this release reads and writes.
        known: u32,
    },
    /// The directory holds something, but not a log.
    #[error(
        "{what}: this is no data directory of Courant; name one, or a directory that is empty or not there yet"
    )]
    NotALog {
        /// What was found.
        what: String,
    },
    /// Acknowledged events are missing or damaged. Nothing was changed.
    #[error(
        "{what}. Nothing was changed; restore the named file from a copy, or keep the directory for analysis"
    )]
    Corrupt {
        /// What is missing or damaged, and where.
        what: String,
    },
    /// As [`Self::Corrupt`], found when the journal was read for the second time. Segments were cut back to what
    /// the newest checkpoint says of them, and the journal has what followed.
    #[error(
        "{what}. Segments may have been cut back to the last checkpoint; the journal was not changed and has what \
         followed. Start again; where that fails too, restore the named file from a copy, or keep the directory \
         for analysis"
    )]
    FoundLate {
        /// What is missing or damaged, and where.
        what: String,
    },
    /// The storage failed.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// What was recovered could not be made durable. Nothing that was acknowledged is lost.
    #[error("the log cannot be opened for writing: {0}")]
    Writer(#[from] WriterError),
    /// A thread could not be started.
    #[error("cannot start a thread: {0}")]
    Thread(std::io::Error),
}

impl OpenError {
    /// What kind of error the system gave, where it is one of the storage.
    #[must_use]
    pub fn kind(&self) -> Option<std::io::ErrorKind> {
        match self {
            Self::Storage(error) => Some(error.kind()),
            _ => None,
        }
    }
}

/// Why nothing more is written.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum WriterError {
    /// The log is stopping.
    #[error("the log is stopping")]
    Stopped,
    /// The storage failed. What is on disk is known again only after a restart: a sync
    /// that is repeated and succeeds proves nothing.
    #[error("the log is read-only until it is restarted: {reason}")]
    Ended {
        /// The failed operation.
        reason: String,
    },
    /// The storage is nearly full. Reads and deletes go on; writes do when there is room again.
    #[error(
        "the disk is full: {free_bytes} bytes are free and {needed_bytes} must be; free some, or delete a topic"
    )]
    DiskFull {
        /// Bytes that are free.
        free_bytes: u64,
        /// Bytes that must be free, the reserve included.
        needed_bytes: u64,
    },
    /// More is waiting than the log takes; try again.
    #[error("too much is waiting to be written; try again")]
    Busy,
    /// The process may open no more files, and nothing that the log could close was of use. Nothing was
    /// stored; it is again when others have closed some.
    #[error("this process has as many files open as it may: allow more, with `ulimit -Hn`, or try again")]
    OutOfFiles,
}

/// Why a batch was not appended. Nothing of it is in the log, except that nobody knows after
/// [`WriterError::Ended`] until the log is opened again: its group may have got on disk.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AppendError {
    /// There is no such partition, or not any more.
    #[error("the partition does not exist")]
    UnknownPartition,
    /// An idempotent producer's batch does not follow the one before it.
    #[error("the producer's next sequence is {expected}, not {got}")]
    OutOfOrderSequence {
        /// The sequence that follows.
        expected: i32,
        /// The sequence that came.
        got: i32,
    },
    /// A newer incarnation of the producer has written.
    #[error("a newer incarnation of this producer has written")]
    StaleEpoch,
    /// The log does not know the producer, and this is not its first batch.
    #[error("this producer is not known, and the batch is not its first")]
    UnknownProducer {
        /// Offset of the partition's oldest event.
        log_start: u64,
    },
    /// The batch cannot fit into one journal group.
    #[error("a batch of {bytes} bytes is more than the journal takes ({max})")]
    TooLarge {
        /// Bytes of the batch.
        bytes: usize,
        /// Bytes that fit.
        max: usize,
    },
    /// Nothing is written now.
    #[error(transparent)]
    Writer(#[from] WriterError),
}

/// Why a topic was not created.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CreateTopicError {
    /// There is one of that name.
    #[error("the topic exists already")]
    Exists,
    /// It must have at least one partition, and not more than the limit.
    #[error("a topic of 1 to {max} partitions can be created here, not of {got}")]
    Partitions {
        /// How many were asked for.
        got: u32,
        /// The limit.
        max: u32,
    },
    /// Its configs are longer than the limits.
    #[error(
        "the configs of a topic are at most {max_count}, each of at most {max_bytes} bytes, \
         {TOPIC_CONFIGS_BYTES_MAX} bytes in all"
    )]
    Configs {
        /// Configs that a topic may have.
        max_count: usize,
        /// Bytes that a name or value may have.
        max_bytes: usize,
    },
    /// Nothing is written now.
    #[error(transparent)]
    Writer(#[from] WriterError),
}

/// Why a topic was not deleted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DeleteTopicError {
    /// There is no topic with that id.
    #[error("the topic does not exist")]
    Unknown,
    /// Nothing is written now.
    #[error(transparent)]
    Writer(#[from] WriterError),
}

/// Why a topic was not altered.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AlterTopicError {
    /// There is no topic with that id.
    #[error("the topic does not exist")]
    Unknown,
    /// Its configs would be longer than the limits.
    #[error(
        "the configs of a topic are at most {max_count}, each of at most {max_bytes} bytes, \
         {TOPIC_CONFIGS_BYTES_MAX} bytes in all"
    )]
    Configs {
        /// Configs that a topic may have.
        max_count: usize,
        /// Bytes that a name or value may have.
        max_bytes: usize,
    },
    /// Its configs are not those that were seen.
    #[error("the topic's configs were changed meanwhile; look at them and try again")]
    Changed {
        /// The topic as the change met it.
        now: Arc<Topic>,
    },
    /// Nothing is written now.
    #[error(transparent)]
    Writer(#[from] WriterError),
}

/// Why a topic got no more partitions.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AddPartitionsError {
    /// There is no topic with that id.
    #[error("the topic does not exist")]
    Unknown,
    /// Partitions can only be added.
    #[error("the topic has {have} partitions already; only more of them can be asked for")]
    NotMore {
        /// How many it has.
        have: u32,
    },
    /// The limits allow no more.
    #[error("the topic can have at most {max} partitions here")]
    TooMany {
        /// How many it can have.
        max: u32,
    },
    /// Nothing is written now.
    #[error(transparent)]
    Writer(#[from] WriterError),
}

/// Why no records were deleted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DeleteRecordsError {
    /// There is no such partition, or not any more.
    #[error("the partition does not exist")]
    UnknownPartition,
    /// What is not durable yet cannot be deleted.
    #[error("the offset is outside {start}..={end}")]
    OutOfRange {
        /// Offset of the oldest event.
        start: u64,
        /// Offset behind the newest durable event.
        end: u64,
    },
    /// Nothing is written now.
    #[error(transparent)]
    Writer(#[from] WriterError),
}

/// Why the loss of events was not accepted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AcceptGapError {
    /// There is no such partition, or not any more.
    #[error("the partition does not exist")]
    UnknownPartition,
    /// Only what is damaged can be given up.
    #[error("there is no damage that holds these offsets; nothing that can be read is given up")]
    NotDamaged,
    /// Nothing is written now.
    #[error(transparent)]
    Writer(#[from] WriterError),
}

/// Why a compacted segment did not take the place of the old ones. They stay as they are.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ReplaceError {
    /// The partition, or the beginning of it that was compacted, was deleted in the meantime.
    #[error("the segments are not there any more")]
    Gone,
    /// Nothing is written now.
    #[error(transparent)]
    Writer(#[from] WriterError),
}

/// Why a consumer group was not changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum GroupError {
    /// It cannot fit into one journal entry.
    #[error("{bytes} bytes are more than the journal takes for this ({max})")]
    TooLarge {
        /// Bytes of what was to be stored.
        bytes: usize,
        /// Bytes that fit.
        max: usize,
    },
    /// Nothing is written now.
    #[error(transparent)]
    Writer(#[from] WriterError),
}
