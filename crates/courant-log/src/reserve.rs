//! Room for one more checkpoint on a storage that others have filled.
//!
//! Only a checkpoint frees the files of what was deleted. Where not a block is left for it, a topic could
//! be deleted and would still take its room. So a file of zeros holds as much as the next checkpoint will
//! need, and goes when there is no room for it otherwise. It holds nothing, and losing it loses nothing.

use std::io;

use crate::storage::{OpenMode, Storage, StorageError};

/// The file that holds the room.
pub(crate) const RESERVE_FILE: &str = "RESERVE";

/// The room is a multiple of this.
const STEP_BYTES: u64 = 64 * 1024;

/// Holds room for a checkpoint of about so many bytes, if there is none yet and `free_min` bytes more are
/// free.
pub(crate) fn keep(storage: &dyn Storage, checkpoint_bytes: u64, free_min: u64) {
    if !storage.wants().prefill {
        return;
    }
    let wanted = checkpoint_bytes.saturating_mul(2).next_multiple_of(STEP_BYTES);
    let is_there = |bytes: u64| bytes >= wanted;
    if storage.open(RESERVE_FILE, OpenMode::Existing).and_then(|file| file.len()).is_ok_and(is_there) {
        return;
    }
    if storage.free_bytes().is_ok_and(|free| free < free_min.saturating_add(wanted)) {
        return;
    }
    if let Err(error) = fill(storage, wanted) {
        // Half of it would be no help.
        let _ = storage.remove_file(RESERVE_FILE);
        tracing::debug!(%error, "no room is held for a checkpoint on a full disk");
    }
}

fn fill(storage: &dyn Storage, bytes: u64) -> Result<(), StorageError> {
    let at = |what| move |source| StorageError::new(what, RESERVE_FILE, source);
    let file = match storage.open(RESERVE_FILE, OpenMode::CreateNew) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            storage.open(RESERVE_FILE, OpenMode::Existing)
        }
        created => created,
    };
    let file = file.map_err(at("open"))?;
    let zeros = vec![0; usize::try_from(STEP_BYTES).unwrap_or(0)];
    for position in (0..bytes).step_by(zeros.len()) {
        file.write_at(&[&zeros], position).map_err(at("write"))?;
    }
    file.sync_data().map_err(at("sync"))
}

/// Gives the room away. False when none was held.
pub(crate) fn give_up(storage: &dyn Storage) -> bool {
    storage.remove_file(RESERVE_FILE).is_ok()
}
