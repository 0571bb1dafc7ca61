//! Backups: copies of a log that is in use, taken beside its server, which is asked nothing.
//!
//! Nothing is locked in the data directory and nothing is changed. A backup is a checkpoint, every
//! segment byte that it counts, and the journal behind it. Those bytes never change while they are
//! needed: segments only grow, and groups are written in order, so whatever stands before a group that
//! is there is whole. What can happen is that files go away or are used again under the reading; that is
//! noticed afterwards, and the backup begins anew with a newer checkpoint. So a backup is the log as a
//! crash at its beginning would have left it, or a little later: everything acknowledged before is in it.
//!
//! Objects are never changed once a manifest names them. `docs/formats/backup.md` lists their names.

mod directory;
mod download;
mod error;
mod format;
mod journal;
mod keep;
mod manifests;
mod names;
mod pass;
mod restore;
mod segment;
mod segments;
mod source;
mod target;
mod upload;

pub use directory::{DirectoryTarget, NotATarget};
pub use error::{BackupError, RestoreError};
pub use format::NotAManifest;
pub use manifests::{Backup, Summary, list};
pub use restore::{Restored, restore};
pub use target::{Listed, Put, Target, TargetError};

use std::fmt;
use std::io;
use std::num::NonZeroU32;
use std::sync::Arc;

use courant_core::clock::Clock;

use self::pass::{Taken, Trouble, Work};
use crate::storage::Storage;
use crate::{Damage, layout};

/// How often a backup begins anew because files went away under the reading. Each time only what has
/// changed is copied.
const TRIES_MAX: u32 = 100;

/// How a backup is taken.
#[derive(Clone)]
pub struct BackupOptions {
    /// How many backups stay in the target, this one included. Without a number all of them do.
    pub keep: Option<NonZeroU32>,
    /// The times in the manifest. Nothing is decided by them.
    pub clock: Arc<dyn Clock>,
}

impl BackupOptions {
    /// Every backup stays.
    #[must_use]
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        Self { keep: None, clock }
    }
}

impl fmt::Debug for BackupOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BackupOptions").field("keep", &self.keep).finish_non_exhaustive()
    }
}

/// A backup that was taken.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct BackedUp {
    /// Its number; the next one's is higher.
    pub number: u64,
    /// Everything acknowledged before this moment is in it, in milliseconds since 1970.
    pub begun_ms: i64,
    /// When it was complete, in milliseconds since 1970.
    pub ended_ms: i64,
    /// Sequence of the checkpoint that it begins with.
    pub checkpoint: u64,
    /// Objects that it consists of.
    pub objects: u64,
    /// Bytes of them.
    pub bytes: u64,
    /// Objects that had to be copied for it; the others were in the target already.
    pub copied_objects: u64,
    /// Bytes of them.
    pub copied_bytes: u64,
    /// Objects that no backup needs any more and that were removed.
    pub removed_objects: u64,
    /// What is not as it was stored, and is therefore not in the backup unless an earlier one has it; without what is
    /// in `given_up`.
    pub damage: Vec<Damage>,
    /// The same of events that somebody has given up ([`crate::Log::accept_gap`]) or deleted, all of them, and of the
    /// index of a segment of which all were, as far as the checkpoint knows that the backup begins with: what was given
    /// up or deleted since is in `damage`.
    pub given_up: Vec<Damage>,
}

/// Takes a backup of the log in `source`, which a server may be using, and which is only read.
///
/// When it returns, the backup is durable in the target. Damaged blocks of segments are left out and
/// named in [`BackedUp::damage`] or [`BackedUp::given_up`]; the rest is there.
///
/// # Errors
/// See [`BackupError`]. No error touches an earlier backup. What was copied before the error saves the
/// next backup nothing; it is removed by the next one that keeps a number of backups.
pub fn back_up(
    source: &Arc<dyn Storage>,
    target: &dyn Target,
    options: &BackupOptions,
) -> Result<BackedUp, BackupError> {
    let _guard = target.lock().map_err(|error| match error.kind() {
        io::ErrorKind::WouldBlock => BackupError::Busy,
        _ => TargetError::new("lock", "the target", error).into(),
    })?;
    let log_id = layout::identity(&**source)?;
    let mut work = Work::begin(&**source, target, log_id)?;
    let Taken { manifest, damage, given_up } = until_steady(&mut work, &*options.clock)?;
    manifests::store(target, &manifest)?;
    let number = manifest.number;
    let removed_objects = match options.keep {
        Some(count) => {
            let kept = keep::keep(target, count.get() as usize);
            kept.map_err(|source| BackupError::Keep { number, source })?
        }
        None => 0,
    };
    Ok(BackedUp {
        number,
        begun_ms: manifest.begun_ms,
        ended_ms: manifest.ended_ms,
        checkpoint: manifest.checkpoint,
        objects: manifest.objects.len() as u64,
        bytes: manifest.objects.iter().map(|object| object.bytes).sum(),
        copied_objects: work.copied_objects,
        copied_bytes: work.copied_bytes,
        removed_objects,
        damage,
        given_up,
    })
}

/// Passes over the log until nothing went away under one of them.
fn until_steady(work: &mut Work<'_>, clock: &dyn Clock) -> Result<Taken, BackupError> {
    let mut tries = 1;
    loop {
        match work.pass(clock) {
            Ok(taken) => return Ok(taken),
            Err(Trouble::Failed(error)) => return Err(error),
            Err(Trouble::Again(what)) if tries == TRIES_MAX => {
                return Err(BackupError::Unsteady { tries, what });
            }
            Err(Trouble::Again(what)) => {
                tracing::debug!(tries, what, "the log went on under the backup, which begins anew");
                tries += 1;
            }
        }
    }
}
