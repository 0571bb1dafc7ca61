//! One pass over a log: everything that a backup consists of, into the target.

use courant_core::clock::Clock;
use uuid::Uuid;

use super::error::BackupError;
use super::format::{Manifest, Object};
use super::names::Name;
use super::segments::Known;
use super::source::{self, Newest};
use super::target::{Target, TargetError};
use super::upload::Upload;
use super::{journal, manifests, segments};
use crate::Damage;
use crate::storage::{Storage, StorageError};

/// A backup that is under way.
pub(super) struct Work<'a> {
    pub(super) source: &'a dyn Storage,
    pub(super) target: &'a dyn Target,
    pub(super) log_id: Uuid,
    pub(super) number: u64,
    /// What the target has of the segments: from the backup before, and from earlier passes.
    pub(super) known: Known,
    pub(super) copied_objects: u64,
    pub(super) copied_bytes: u64,
}

/// Why a pass did not come to its end.
pub(super) enum Trouble {
    /// Something went away under the reading, as the text says: begin anew.
    Again(String),
    Failed(BackupError),
}

impl From<BackupError> for Trouble {
    fn from(error: BackupError) -> Self {
        Self::Failed(error)
    }
}

impl From<StorageError> for Trouble {
    fn from(error: StorageError) -> Self {
        Self::Failed(error.into())
    }
}

impl From<TargetError> for Trouble {
    fn from(error: TargetError) -> Self {
        Self::Failed(error.into())
    }
}

/// What a pass has found.
pub(super) struct Taken {
    pub(super) manifest: Manifest,
    pub(super) damage: Vec<Damage>,
    pub(super) given_up: Vec<Damage>,
}

impl<'a> Work<'a> {
    /// A backup behind those that the target has.
    pub(super) fn begin(
        source: &'a dyn Storage,
        target: &'a dyn Target,
        log_id: Uuid,
    ) -> Result<Self, BackupError> {
        let numbers = manifests::numbers(target)?;
        let newest = newest_readable(target, &numbers)?;
        if let Some(newest) = newest.as_ref().filter(|newest| newest.log_id != log_id) {
            return Err(BackupError::OtherLog { found: newest.log_id });
        }
        Ok(Self {
            source,
            target,
            log_id,
            number: numbers.last().map_or(1, |newest| newest.saturating_add(1)),
            known: Known::of(target, newest)?,
            copied_objects: 0,
            copied_bytes: 0,
        })
    }

    /// Copies what the target does not have. The journal comes before the segments: it is used again
    /// soon, while a segment stays until it is deleted.
    pub(super) fn pass(&mut self, clock: &dyn Clock) -> Result<Taken, Trouble> {
        let begun_ms = clock.now_ms();
        let newest = source::newest(self.source, self.log_id)?;
        let checkpoint = &newest.checkpoint;
        let mut manifest = Manifest::new(self.log_id, self.number, checkpoint.sequence, begun_ms);
        let mut damage = Vec::new();
        manifest.objects.extend(self.state(&newest, &mut damage)?);
        manifest.objects.extend(journal::copy(self, checkpoint)?);
        let copied = segments::copy(self, checkpoint)?;
        manifest.segments = copied.records;
        manifest.objects.extend(copied.objects);
        damage.extend(copied.damage);
        let format = source::format(self.source, self.log_id)?;
        manifest.objects.push(self.put(Name::Format { number: self.number }, &format)?);
        manifest.damage = damage.len() as u64;
        manifest.ended_ms = clock.now_ms();
        Ok(Taken { manifest, damage, given_up: copied.given_up })
    }

    /// The checkpoint and its producer snapshot.
    fn state(&mut self, newest: &Newest, damage: &mut Vec<Damage>) -> Result<Vec<Object>, BackupError> {
        let number = self.number;
        let mut objects = vec![self.put(Name::Checkpoint { number }, &newest.bytes)?];
        match &newest.producers {
            Some(bytes) => objects.push(self.put(Name::Producers { number }, bytes)?),
            None => damage.push(Damage {
                path: newest.producers_path.clone(),
                bytes: None,
                events: None,
                what: "it is missing or damaged; a start makes it anew".to_owned(),
            }),
        }
        Ok(objects)
    }

    /// Begins an object. One that a manifest names is never written again: a log that was restored and
    /// has gone on differently may have other bytes under the same name.
    pub(super) fn upload(&self, name: Name) -> Result<Upload<'a>, BackupError> {
        let name = name.to_string();
        if let Some(bytes) = self.known.listed(&name)
            && manifests::is_named(self.target, &name, bytes)?
        {
            return Err(BackupError::Diverged { what: name });
        }
        Ok(Upload::begin(self.target, name)?)
    }

    /// Finishes an object.
    pub(super) fn finish(&mut self, upload: Upload<'_>) -> Result<Object, TargetError> {
        let object = upload.finish()?;
        self.copied_objects += 1;
        self.copied_bytes += object.bytes;
        Ok(object)
    }

    /// Writes an object whose bytes are at hand.
    pub(super) fn put(&mut self, name: Name, bytes: &[u8]) -> Result<Object, BackupError> {
        let mut upload = self.upload(name)?;
        upload.write(bytes)?;
        Ok(self.finish(upload)?)
    }

    /// What follows from a file that is not there: deletions are in a checkpoint before files go, so
    /// without a newer one nobody has deleted it.
    pub(super) fn check_not_deleted(&self, path: &str, checkpoint: u64) -> Result<(), Trouble> {
        if source::newest_sequence(self.source)? == Some(checkpoint) {
            return Ok(());
        }
        Err(Trouble::Again(format!("{path} is gone")))
    }
}

/// The newest manifest that can be read: a damaged one costs that what it names is copied again.
fn newest_readable(target: &dyn Target, numbers: &[u64]) -> Result<Option<Manifest>, TargetError> {
    for number in numbers.iter().rev() {
        match manifests::read(target, *number)? {
            Ok(manifest) => return Ok(Some(manifest)),
            Err(error) => {
                tracing::warn!(manifest = %manifests::name_of(*number), %error, "the one before it is used");
            }
        }
    }
    Ok(None)
}
