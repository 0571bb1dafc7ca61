//! Why a backup was not taken, and why one was not restored.

use uuid::Uuid;

use super::format::NotAManifest;
use super::target::TargetError;
use crate::error::OpenError;
use crate::storage::StorageError;

/// Why no backup was taken. Those that are there already are as they were.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BackupError {
    /// There is no log to back up, or one of a newer release.
    #[error(transparent)]
    Source(#[from] OpenError),
    /// The storage of the log failed.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// The target failed.
    #[error(transparent)]
    Target(#[from] TargetError),
    /// Another backup is under way in the target.
    #[error("another backup is being taken there; wait for it, or choose another target")]
    Busy,
    /// The target has backups of another log.
    #[error("the target has backups of another log ({found}); choose a target of its own for each log")]
    OtherLog {
        /// The log whose backups they are.
        found: Uuid,
    },
    /// The newest backup holds what this log never wrote.
    #[error(
        "{what} differs from what is in the target: the log was restored from an earlier backup than the \
         newest one, and has gone on from there; choose another target"
    )]
    Diverged {
        /// The file or the object that differs.
        what: String,
    },
    /// There is no checkpoint to begin with.
    #[error("{what}; a backup begins with a checkpoint, and a running server stores one from time to time")]
    Checkpoint {
        /// What is wrong with the newest one.
        what: String,
    },
    /// The journal is damaged: what was acknowledged would be missing.
    #[error("{what}; no backup can be taken before the server's next checkpoint")]
    Journal {
        /// What is damaged, and where.
        what: String,
    },
    /// Files went away under every attempt to copy them.
    #[error("the log changes faster than it can be read: {what}, after {tries} attempts")]
    Unsteady {
        /// How often it was tried.
        tries: u32,
        /// What was the matter the last time.
        what: String,
    },
    /// The backup is complete, and older ones that were to go may be there still.
    #[error("backup {number} is complete, but older ones could not be removed: {source}")]
    Keep {
        /// The backup's number.
        number: u64,
        /// What failed.
        source: TargetError,
    },
}

/// Why a backup was not restored. Nothing that looks like a log is left behind.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RestoreError {
    /// There are no backups.
    #[error("there is no backup in the target")]
    NoBackup,
    /// There is no backup of that number.
    #[error("there is no backup {number} in the target")]
    Unknown {
        /// The number that was asked for.
        number: u64,
    },
    /// The backup's manifest cannot be used.
    #[error("{name} {why}; choose another backup")]
    Manifest {
        /// The object's name.
        name: String,
        /// What is wrong with it.
        why: NotAManifest,
    },
    /// An object of the backup is not what its manifest says.
    #[error("{name} is not as it was backed up: {what}; choose another backup")]
    Object {
        /// The object's name.
        name: String,
        /// What is wrong with it.
        what: String,
    },
    /// There is something in the directory.
    #[error("the directory is not empty: there is {found} in it; choose an empty one")]
    NotEmpty {
        /// One of its entries.
        found: String,
    },
    /// Another process uses the directory.
    #[error("another process is using the directory; choose another one")]
    InUse,
    /// The target failed.
    #[error(transparent)]
    Target(#[from] TargetError),
    /// The storage that the log is restored into failed.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// Everything was restored, and could not be read through afterwards.
    #[error("the log was restored, but cannot be read through: {0}")]
    Verify(OpenError),
}
