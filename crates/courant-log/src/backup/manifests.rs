//! The manifests in a target. A backup exists from the moment when its manifest does.

use std::io::Read as _;

use uuid::Uuid;

use super::error::RestoreError;
use super::format::{Manifest, NotAManifest};
use super::target::{Target, TargetError};
use super::upload::Upload;

const PREFIX: &str = "manifests/";
const EXTENSION: &str = ".json";
/// Bytes of one manifest: some hundred for each segment and each object.
const MANIFEST_BYTES_MAX: u64 = 1024 * 1024 * 1024;

/// A backup that is in a target.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Backup {
    /// Its number.
    pub number: u64,
    /// What its manifest says, or why that cannot be read.
    pub summary: Result<Summary, NotAManifest>,
}

/// What a manifest says.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Summary {
    /// The log that was backed up.
    pub log_id: Uuid,
    /// Everything acknowledged before this moment is in it, in milliseconds since 1970.
    pub begun_ms: i64,
    /// When it was complete, in milliseconds since 1970.
    pub ended_ms: i64,
    /// Objects that it consists of.
    pub objects: u64,
    /// Bytes of them.
    pub bytes: u64,
    /// Places that were damaged in the log when it was backed up.
    pub damage: u64,
}

/// The backups in a target, the oldest one first. Only manifests are read.
///
/// # Errors
/// The target's failure.
pub fn list(target: &dyn Target) -> Result<Vec<Backup>, TargetError> {
    let mut backups = Vec::new();
    for number in numbers(target)? {
        let summary = read(target, number)?.map(|manifest| Summary {
            log_id: manifest.log_id,
            begun_ms: manifest.begun_ms,
            ended_ms: manifest.ended_ms,
            objects: manifest.objects.len() as u64,
            bytes: manifest.objects.iter().map(|object| object.bytes).sum(),
            damage: manifest.damage,
        });
        backups.push(Backup { number, summary });
    }
    Ok(backups)
}

pub(super) fn name_of(number: u64) -> String {
    format!("{PREFIX}{number:016}{EXTENSION}")
}

/// The numbers of all manifests, in ascending order.
pub(super) fn numbers(target: &dyn Target) -> Result<Vec<u64>, TargetError> {
    let listed = target.list(PREFIX).map_err(|source| TargetError::new("list", PREFIX, source))?;
    let number = |name: &str| {
        let number = name.strip_prefix(PREFIX)?.strip_suffix(EXTENSION)?.parse().ok()?;
        (name_of(number) == name).then_some(number)
    };
    let mut numbers: Vec<u64> = listed.iter().filter_map(|listed| number(&listed.name)).collect();
    numbers.sort_unstable();
    Ok(numbers)
}

/// One manifest.
pub(super) fn read(target: &dyn Target, number: u64) -> Result<Result<Manifest, NotAManifest>, TargetError> {
    let name = name_of(number);
    let failed = |source| TargetError::new("read", &name, source);
    let mut bytes = Vec::new();
    target
        .get(&name)
        .map_err(failed)?
        .take(MANIFEST_BYTES_MAX + 1)
        .read_to_end(&mut bytes)
        .map_err(failed)?;
    if bytes.len() as u64 > MANIFEST_BYTES_MAX {
        return Ok(Err(NotAManifest::Damaged));
    }
    // A copy of another backup's manifest under this name is as bad as a damaged one.
    Ok(Manifest::decode(&bytes).and_then(|manifest| match manifest.number == number {
        true => Ok(manifest),
        false => Err(NotAManifest::Damaged),
    }))
}

/// The manifest of a backup, of the newest one if there is no number.
pub(super) fn choose(target: &dyn Target, number: Option<u64>) -> Result<Manifest, RestoreError> {
    let numbers = numbers(target)?;
    let number = match number {
        Some(number) if !numbers.contains(&number) => return Err(RestoreError::Unknown { number }),
        Some(number) => number,
        None => *numbers.last().ok_or(RestoreError::NoBackup)?,
    };
    read(target, number)?.map_err(|why| RestoreError::Manifest { name: name_of(number), why })
}

/// Makes a backup exist. Everything that it names is durable before.
pub(super) fn store(target: &dyn Target, manifest: &Manifest) -> Result<(), TargetError> {
    let name = name_of(manifest.number);
    let bytes = manifest.encode().map_err(|source| TargetError::new("write", &name, source))?;
    if bytes.len() as u64 > MANIFEST_BYTES_MAX {
        return Err(TargetError::new("write", &name, std::io::ErrorKind::FileTooLarge.into()));
    }
    let mut upload = Upload::begin(target, name)?;
    upload.write(&bytes)?;
    upload.finish().map(|_| ())
}

/// Whether any manifest names an object of that name and length.
pub(super) fn is_named(target: &dyn Target, name: &str, bytes: u64) -> Result<bool, TargetError> {
    for number in numbers(target)? {
        if let Ok(manifest) = read(target, number)?
            && manifest.objects.iter().any(|object| object.name == name && object.bytes == bytes)
        {
            return Ok(true);
        }
    }
    Ok(false)
}
