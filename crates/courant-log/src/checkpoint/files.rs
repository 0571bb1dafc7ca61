//! Checkpoint files: stored so that a crash leaves the old one or the new one, loaded newest first.

use std::io;

use uuid::Uuid;

use super::format::{NotACheckpoint, VERSION};
use super::{Checkpoint, DIR};
use crate::limits::CHECKPOINT_BYTES_MAX;
use crate::storage::{OpenMode, Storage, StorageError};

/// Why no checkpoint can be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CheckpointError {
    #[error(transparent)]
    Storage(#[from] StorageError),
    #[error(
        "{path} was written by a newer release (checkpoint format {version}); this one reads format {VERSION}"
    )]
    Newer { path: String, version: u32 },
    #[error("{path} belongs to another log ({found})")]
    Foreign { path: String, found: Uuid },
    #[error("{path} has {bytes} bytes, more than a checkpoint can have")]
    TooLong { path: String, bytes: u64 },
    #[error(
        "no checkpoint in {DIR}/ can be read ({damaged} damaged): restore one from a copy of the data directory"
    )]
    None { damaged: usize },
}

fn checkpoint_path(sequence: u64) -> String {
    format!("{DIR}/{sequence:016}.checkpoint")
}

fn producers_path(sequence: u64) -> String {
    format!("{DIR}/{sequence:016}.producers")
}

/// Makes a checkpoint and its snapshot durable, then removes all but the newest two.
pub(crate) fn store(
    storage: &dyn Storage,
    checkpoint: &[u8],
    sequence: u64,
    producers: &[u8],
) -> Result<(), StorageError> {
    let path = checkpoint_path(sequence);
    if checkpoint.len() as u64 > CHECKPOINT_BYTES_MAX {
        return Err(StorageError::new("store", &path, io::ErrorKind::FileTooLarge.into()));
    }
    let snapshot = producers_path(sequence);
    write_whole(storage, &snapshot, producers)?;
    // An attempt that was given up may have left a snapshot of this sequence: the checkpoint must not
    // become durable beside that one.
    storage.sync_dir(DIR).map_err(|source| StorageError::new("sync", DIR, source))?;
    let temporary = format!("{path}.new");
    write_whole(storage, &temporary, checkpoint)?;
    storage.rename(&temporary, &path).map_err(|source| StorageError::new("rename", &temporary, source))?;
    storage.sync_dir(DIR).map_err(|source| StorageError::new("sync", DIR, source))?;
    // The checkpoint is durable: what is older only takes room.
    for name in storage.list(DIR).unwrap_or_default() {
        if sequence_of(&name).is_some_and(|old| old + 1 < sequence) {
            let path = format!("{DIR}/{name}");
            if let Err(error) = storage.remove_file(&path) {
                tracing::warn!(path, %error, "an old checkpoint stays");
            }
        }
    }
    Ok(())
}

/// The sequence in the name of any of our files.
fn sequence_of(name: &str) -> Option<u64> {
    let (digits, rest) = name.split_once('.')?;
    matches!(rest, "checkpoint" | "producers" | "checkpoint.new").then(|| digits.parse().ok())?
}

fn write_whole(storage: &dyn Storage, path: &str, bytes: &[u8]) -> Result<(), StorageError> {
    let at = |what| move |source| StorageError::new(what, path, source);
    match storage.remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(at("replace")(error)),
        _ => {}
    }
    let file = storage.open(path, OpenMode::CreateNew).map_err(at("create"))?;
    file.write_at(&[bytes], 0).map_err(at("write"))?;
    file.sync_data().map_err(at("sync"))
}

fn read_whole(storage: &dyn Storage, path: &str) -> Result<Vec<u8>, CheckpointError> {
    let at = |what| move |source| StorageError::new(what, path, source);
    let file = storage.open(path, OpenMode::Existing).map_err(at("open"))?;
    file.drop_cache().map_err(at("drop the cache of"))?;
    let length = file.len().map_err(at("measure"))?;
    if length > CHECKPOINT_BYTES_MAX {
        return Err(CheckpointError::TooLong { path: path.to_owned(), bytes: length });
    }
    let mut bytes = vec![0; length as usize];
    let mut filled = 0;
    while filled < bytes.len() {
        match file.read_at(&mut bytes[filled..], filled as u64).map_err(at("read"))? {
            0 => break,
            count => filled += count,
        }
    }
    bytes.truncate(filled);
    Ok(bytes)
}

/// The checkpoints that do not verify.
pub(crate) fn damaged(storage: &dyn Storage) -> Result<Vec<String>, StorageError> {
    let names = storage.list(DIR).map_err(|source| StorageError::new("list", DIR, source))?;
    let mut damaged = Vec::new();
    for name in names.iter().filter(|name| name.ends_with(".checkpoint")) {
        let path = format!("{DIR}/{name}");
        match read_whole(storage, &path) {
            Ok(bytes) if matches!(Checkpoint::decode(&bytes), Err(NotACheckpoint::Damaged)) => {
                damaged.push(path);
            }
            Ok(_) => {}
            Err(CheckpointError::Storage(error)) => return Err(error),
            Err(_) => damaged.push(path),
        }
    }
    damaged.sort_unstable();
    Ok(damaged)
}

/// The newest checkpoint that verifies, with its own checksum.
pub(crate) fn load(storage: &dyn Storage, log_id: Uuid) -> Result<(Checkpoint, u32), CheckpointError> {
    let names = storage.list(DIR).map_err(|source| StorageError::new("list", DIR, source))?;
    let mut sequences: Vec<u64> = names
        .iter()
        .filter(|name| name.ends_with(".checkpoint"))
        .filter_map(|name| sequence_of(name))
        .collect();
    sequences.sort_unstable_by(|a, b| b.cmp(a));
    let mut damaged = 0;
    for sequence in sequences {
        let path = checkpoint_path(sequence);
        let bytes = read_whole(storage, &path)?;
        match Checkpoint::decode(&bytes) {
            Ok(checkpoint) if checkpoint.log_id != log_id => {
                return Err(CheckpointError::Foreign { path, found: checkpoint.log_id });
            }
            Ok(checkpoint) => {
                let crc = bytes.last_chunk::<4>().map_or(0, |crc| u32::from_le_bytes(*crc));
                return Ok((checkpoint, crc));
            }
            Err(NotACheckpoint::Newer(version)) => {
                return Err(CheckpointError::Newer { path, version });
            }
            Err(NotACheckpoint::Damaged) => {
                damaged += 1;
                tracing::error!(%path, "a checkpoint is damaged; the one before it is tried");
            }
        }
    }
    Err(CheckpointError::None { damaged })
}

/// The snapshot's bytes, if it is there.
pub(crate) fn load_producers(storage: &dyn Storage, sequence: u64) -> Option<Vec<u8>> {
    read_whole(storage, &producers_path(sequence)).ok()
}
