//! The data directory: which folders it has, and the file that says what it is.
//!
//! `FORMAT` is one line of text: `courant-log 4 <log id>`. A newer number is refused; an older one is
//! raised once its log was recovered, before anything that it does not cover is written.

use std::any::Any;
use std::io;

use courant_core::entropy::Entropy;
use uuid::Uuid;

use crate::error::OpenError;
use crate::storage::{File, OpenMode, Storage, StorageError};
use crate::{checkpoint, journal, segment};

/// Where recovery puts files that no durable record names.
pub(crate) const LOST_AND_FOUND: &str = "lost-and-found";
pub(crate) const FORMAT_FILE: &str = "FORMAT";
/// Is there when the storage has failed: the next start is in doubt about what was not synced.
pub(crate) const DOUBT_FILE: &str = "DOUBT";
const FORMAT_NAME: &str = "courant-log";
const FORMAT_VERSION: u32 = 4;
/// The same bytes, but for entries, parts of checkpoints and files that it does not have.
const FORMAT_WITHOUT_GROUPS: u32 = 1;
const FORMAT_BYTES_MAX: usize = 256;

/// Takes the data directory for this process until the guard is dropped.
pub(crate) fn take(storage: &dyn Storage) -> Result<Box<dyn Any + Send + Sync>, OpenError> {
    storage.lock().map_err(not_taken)
}

/// As [`take`], for whoever changes nothing. `None` where nothing can be written and no lock is to be had.
pub(crate) fn take_to_read(storage: &dyn Storage) -> Result<Option<Box<dyn Any + Send + Sync>>, OpenError> {
    storage.lock_to_read().map_err(not_taken)
}

fn not_taken(error: io::Error) -> OpenError {
    match error.kind() {
        io::ErrorKind::WouldBlock => OpenError::Locked,
        _ => StorageError::new("lock", "the data directory", error).into(),
    }
}

/// The identity of the log that is there.
pub(crate) fn identity(storage: &dyn Storage) -> Result<Uuid, OpenError> {
    match storage.open(FORMAT_FILE, OpenMode::Existing) {
        Ok(file) => Ok(read(&*file)?.1),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            Err(OpenError::NotALog { what: format!("there is no {FORMAT_FILE}") })
        }
        Err(source) => Err(StorageError::new("open", FORMAT_FILE, source).into()),
    }
}

/// The identity of the log that is there; `None` where there is nothing of one, so that a start would make it.
pub(crate) fn identity_if_any(storage: &dyn Storage) -> Result<Option<Uuid>, OpenError> {
    match storage.open(FORMAT_FILE, OpenMode::Existing) {
        Ok(file) => Ok(Some(read(&*file)?.1)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => check_unused(storage).map(|()| None),
        Err(source) => Err(StorageError::new("open", FORMAT_FILE, source).into()),
    }
}

/// The log's identity, and whether it was made just now.
pub(crate) fn open_or_create(storage: &dyn Storage, entropy: &dyn Entropy) -> Result<Uuid, OpenError> {
    let id = match storage.open(FORMAT_FILE, OpenMode::Existing) {
        Ok(file) => read(&*file)?.1,
        Err(error) if error.kind() == io::ErrorKind::NotFound => create(storage, entropy)?,
        Err(source) => return Err(StorageError::new("open", FORMAT_FILE, source).into()),
    };
    // FORMAT may be seen and not durable yet, after a kill: nothing may be on disk before it is.
    storage.sync_dir("").map_err(|source| StorageError::new("sync", "the data directory", source))?;
    for dir in [journal::DIR, checkpoint::DIR, segment::DIR, LOST_AND_FOUND] {
        storage.create_dir(dir).map_err(|source| StorageError::new("create", dir, source))?;
    }
    storage.sync_dir("").map_err(|source| StorageError::new("sync", "the data directory", source))?;
    Ok(id)
}

/// Raises the number of a log that an older release wrote. Whatever happens in between, what it names
/// is what may stand in the directory.
pub(crate) fn upgrade(storage: &dyn Storage, id: Uuid) -> Result<(), OpenError> {
    let file = storage.open(FORMAT_FILE, OpenMode::Existing);
    let file = file.map_err(|source| StorageError::new("open", FORMAT_FILE, source))?;
    match read(&*file)?.0 {
        FORMAT_VERSION => Ok(()),
        older => {
            tracing::info!(from = older, to = FORMAT_VERSION, "the data directory gets a newer format");
            write(storage, id)
        }
    }
}

/// Leaves a note that the storage has failed. It need not be durable: a power cut raises the same doubt.
/// Where even this fails, nothing can be written at all before the machine is started anew.
pub(crate) fn note_doubt(storage: &dyn Storage) {
    if let Err(error) = storage.open(DOUBT_FILE, OpenMode::CreateNew)
        && error.kind() != io::ErrorKind::AlreadyExists
    {
        tracing::error!(%error, "no note of the failure can be left in the data directory");
    }
}

/// Whether the storage had failed when the log was last written.
pub(crate) fn is_in_doubt(storage: &dyn Storage) -> Result<bool, StorageError> {
    match storage.open(DOUBT_FILE, OpenMode::Existing) {
        Ok(_) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(source) => Err(StorageError::new("open", DOUBT_FILE, source)),
    }
}

/// Takes the note away, once what was in doubt is settled and durable.
pub(crate) fn settle_doubt(storage: &dyn Storage) -> Result<(), StorageError> {
    match storage.remove_file(DOUBT_FILE) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(StorageError::new("remove", DOUBT_FILE, error))
        }
        _ => Ok(()),
    }
}

fn read(file: &dyn File) -> Result<(u32, Uuid), OpenError> {
    let mut bytes = [0; FORMAT_BYTES_MAX];
    let read = file.read_at(&mut bytes, 0);
    let count = read.map_err(|source| StorageError::new("read", FORMAT_FILE, source))?;
    parse(&bytes[..count])
}

fn parse(bytes: &[u8]) -> Result<(u32, Uuid), OpenError> {
    let text = String::from_utf8_lossy(bytes);
    let mut words = text.split_whitespace();
    let strange = || OpenError::NotALog { what: format!("{FORMAT_FILE} says {:?}", text.trim()) };
    if words.next() != Some(FORMAT_NAME) {
        return Err(strange());
    }
    let version: u32 = words.next().and_then(|word| word.parse().ok()).ok_or_else(strange)?;
    if !(FORMAT_WITHOUT_GROUPS..=FORMAT_VERSION).contains(&version) {
        return Err(OpenError::Newer { found: version, known: FORMAT_VERSION });
    }
    let id = words.next().and_then(|word| Uuid::parse_str(word).ok()).ok_or_else(strange)?;
    Ok((version, id))
}

/// Names a new log.
fn create(storage: &dyn Storage, entropy: &dyn Entropy) -> Result<Uuid, OpenError> {
    check_unused(storage)?;
    let id = entropy.uuid();
    write(storage, id)?;
    Ok(id)
}

/// A directory that holds anything of a log already is not one to start in.
fn check_unused(storage: &dyn Storage) -> Result<(), OpenError> {
    let names = storage.list("").map_err(|source| StorageError::new("list", "the data directory", source))?;
    for dir in [journal::DIR, checkpoint::DIR, segment::DIR] {
        if names.iter().any(|name| name == dir) {
            return Err(OpenError::NotALog { what: format!("there is {dir}/ but no {FORMAT_FILE}") });
        }
    }
    Ok(())
}

/// Writes `FORMAT` so that a crash leaves the old one or the new one.
fn write(storage: &dyn Storage, id: Uuid) -> Result<(), OpenError> {
    let temporary = format!("{FORMAT_FILE}.new");
    let at = |what| move |source| StorageError::new(what, FORMAT_FILE, source);
    match storage.remove_file(&temporary) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            return Err(at("create")(error).into());
        }
        _ => {}
    }
    let file = storage.open(&temporary, OpenMode::CreateNew).map_err(at("create"))?;
    let line = format!("{FORMAT_NAME} {FORMAT_VERSION} {id}\n");
    file.write_at(&[line.as_bytes()], 0).map_err(at("write"))?;
    file.sync_data().map_err(at("sync"))?;
    storage.rename(&temporary, FORMAT_FILE).map_err(at("rename"))?;
    storage.sync_dir("").map_err(at("sync the directory of"))?;
    Ok(())
}
