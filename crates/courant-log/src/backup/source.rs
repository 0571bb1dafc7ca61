//! Reading the log that is backed up: what it is, and its newest checkpoint.

use std::io;
use std::sync::Arc;

use uuid::Uuid;

use super::error::BackupError;
use super::pass::Trouble;
use crate::checkpoint::{self, Checkpoint, decode_producers};
use crate::layout::{self, FORMAT_FILE};
use crate::limits::CHECKPOINT_BYTES_MAX;
use crate::storage::{File, OpenMode, Storage, StorageError};

const CHECKPOINT_EXTENSION: &str = ".checkpoint";
/// Bytes of the file `FORMAT`; a start reads no more.
const FORMAT_BYTES_MAX: u64 = 256;

/// A checkpoint as it is stored.
pub(super) struct Newest {
    pub(super) checkpoint: Checkpoint,
    pub(super) bytes: Vec<u8>,
    /// Its producer snapshot, which is a cache; none when it is missing or damaged.
    pub(super) producers: Option<Vec<u8>>,
    pub(super) producers_path: String,
}

/// The newest checkpoint. One that is damaged has no substitute: what follows the one before it may
/// be gone.
pub(super) fn newest(source: &dyn Storage, log_id: Uuid) -> Result<Newest, Trouble> {
    let bad = |what: String| Trouble::from(BackupError::Checkpoint { what });
    let Some(sequence) = newest_sequence(source)? else {
        return Err(bad("the log has no checkpoint yet".to_owned()));
    };
    let path = format!("{}/{sequence:016}{CHECKPOINT_EXTENSION}", checkpoint::DIR);
    let Some(bytes) = read_whole(source, &path, CHECKPOINT_BYTES_MAX)? else {
        return Err(Trouble::Again(format!("{path} is gone")));
    };
    let Ok(checkpoint) = Checkpoint::decode(&bytes) else {
        return Err(bad(format!("{path} is damaged")));
    };
    if checkpoint.log_id != log_id || checkpoint.sequence != sequence {
        return Err(bad(format!("{path} is the checkpoint of another log, or another one of this log")));
    }
    let producers_path = format!("{}/{sequence:016}.producers", checkpoint::DIR);
    let producers = read_whole(source, &producers_path, CHECKPOINT_BYTES_MAX)?;
    if producers.is_none() && newest_sequence(source)? != Some(sequence) {
        return Err(Trouble::Again(format!("{producers_path} is gone")));
    }
    let producers = producers.filter(|bytes| decode_producers(sequence, bytes).is_ok());
    Ok(Newest { checkpoint, bytes, producers, producers_path })
}

/// The sequence of the newest checkpoint, by its name.
pub(super) fn newest_sequence(source: &dyn Storage) -> Result<Option<u64>, StorageError> {
    let names = match source.list(checkpoint::DIR) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        listed => listed.map_err(|source| StorageError::new("list", checkpoint::DIR, source))?,
    };
    let sequence = |name: &String| name.strip_suffix(CHECKPOINT_EXTENSION)?.parse::<u64>().ok();
    Ok(names.iter().filter_map(sequence).max())
}

/// The bytes of `FORMAT`. Read when everything else was: its number is raised before anything that
/// needs it is written.
pub(super) fn format(source: &dyn Storage, log_id: Uuid) -> Result<Vec<u8>, Trouble> {
    let found = layout::identity(source).map_err(BackupError::from)?;
    match read_whole(source, FORMAT_FILE, FORMAT_BYTES_MAX)? {
        Some(bytes) if found == log_id => Ok(bytes),
        _ => Err(Trouble::Again(format!("{FORMAT_FILE} is of another log, or gone"))),
    }
}

/// All bytes of a file, if it is there.
fn read_whole(source: &dyn Storage, path: &str, bytes_max: u64) -> Result<Option<Vec<u8>>, StorageError> {
    let at = |what| move |source| StorageError::new(what, path, source);
    let Some(file) = open(source, path)? else { return Ok(None) };
    let length = file.len().map_err(at("measure"))?;
    if length > bytes_max {
        return Err(StorageError::new("read", path, io::ErrorKind::FileTooLarge.into()));
    }
    let mut bytes = vec![0; length as usize];
    let count = read_up_to(&*file, &mut bytes, 0).map_err(at("read"))?;
    bytes.truncate(count);
    Ok(Some(bytes))
}

/// Opens a file, if it is there.
pub(super) fn open(source: &dyn Storage, path: &str) -> Result<Option<Arc<dyn File>>, StorageError> {
    match source.open(path, OpenMode::Existing) {
        Ok(file) => Ok(Some(file)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(StorageError::new("open", path, source)),
    }
}

/// Fills `buf` from a position, and returns how much of it there was.
pub(super) fn read_up_to(file: &dyn File, buf: &mut [u8], position: u64) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buf.len() {
        match file.read_at(&mut buf[filled..], position + filled as u64)? {
            0 => break,
            count => filled += count,
        }
    }
    Ok(filled)
}
