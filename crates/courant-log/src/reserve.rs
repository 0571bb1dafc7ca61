//! Room for one more checkpoint on a storage that others have filled.
//!
//! Only a checkpoint frees the files of what was deleted. Where not a block is left for it, a topic could
//! be deleted and would still take its room. So a file of zeros holds as much as the next checkpoint will
//! need, and goes when there is no room for it otherwise. It holds nothing, and losing it loses nothing.

use std::io;
use std::ops::Range;
use std::sync::Arc;

use crate::storage::{File, OpenMode, Storage, StorageError};

/// The file that holds the room.
pub(crate) const RESERVE_FILE: &str = "RESERVE";

/// The room is a multiple of this.
const STEP_BYTES: u64 = 64 * 1024;

/// Holds room for a checkpoint of about so many bytes, if there is not as much yet and `free_min` bytes more are
/// free. What is held already is not written again: with many partitions these are megabytes, and groups wait for
/// the disk beside them.
pub(crate) fn keep(storage: &dyn Storage, checkpoint_bytes: u64, free_min: u64) {
    if !storage.wants().prefill {
        return;
    }
    let wanted = checkpoint_bytes.saturating_mul(2).next_multiple_of(STEP_BYTES);
    // One handle for all of it: where the process may open no more files, there would be none to cut it back with.
    let found = storage.open(RESERVE_FILE, OpenMode::Existing).and_then(|file| Ok((file.len()?, file)));
    let there = match found {
        Ok(there) => Some(there),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        // There may be as much as is wanted.
        Err(error) => return tracing::debug!(%error, "how much room is held for a checkpoint is not known"),
    };
    let held = there.as_ref().map_or(0, |(held, _)| *held);
    if held >= wanted {
        return;
    }
    let lacking = held - held % STEP_BYTES..wanted;
    let needed = free_min.saturating_add(lacking.end - lacking.start);
    if storage.free_bytes().is_ok_and(|free| free < needed) {
        return;
    }
    let file = there.map(|(_, file)| file);
    if let Err(error) = fill(storage, file.clone(), lacking) {
        // A part of what is lacking would be no help. What was there before has been enough until now, and the disk may
        // be full by the next time.
        let stays = held > 0 && file.is_some_and(|file| file.set_len(held).is_ok());
        if !stays {
            let _ = storage.remove_file(RESERVE_FILE);
        }
        tracing::debug!(%error, held, "no more room is held for a checkpoint on a full disk");
    }
}

/// Fills what is lacking of the `file`, or of one that is made for it.
fn fill(storage: &dyn Storage, file: Option<Arc<dyn File>>, lacking: Range<u64>) -> Result<(), StorageError> {
    let at = |what| move |source| StorageError::new(what, RESERVE_FILE, source);
    let file = match file {
        Some(file) => file,
        None => storage.open(RESERVE_FILE, OpenMode::CreateNew).map_err(at("open"))?,
    };
    let zeros = vec![0; usize::try_from(STEP_BYTES).unwrap_or(0)];
    for position in lacking.step_by(zeros.len()) {
        file.write_at(&[&zeros], position).map_err(at("write"))?;
    }
    file.sync_data().map_err(at("sync"))
}

/// Gives the room away. False when none was held.
pub(crate) fn give_up(storage: &dyn Storage) -> bool {
    storage.remove_file(RESERVE_FILE).is_ok()
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::*;
    use crate::storage::FaultyStorage;

    /// Symptom: each checkpoint that had more segments than any before wrote all of the room anew, and synced it in
    /// one piece, while groups waited for the disk. Cause: a file that was too short was filled from its beginning.
    /// Fix: what it lacks is added.
    #[test]
    fn room_is_added_to_what_is_held() {
        let storage = FaultyStorage::new(1, 8 * 1024 * 1024);
        let writes = Arc::new(AtomicU64::new(0));
        let counted = writes.clone();
        storage.set_hook(Box::new(move |_, _, what| {
            counted.fetch_add(u64::from(what == "write"), Ordering::Relaxed);
        }));
        let steps = || {
            let held = storage.open(RESERVE_FILE, OpenMode::Existing).and_then(|file| file.len());
            (held.expect("it is there") / STEP_BYTES, writes.load(Ordering::Relaxed))
        };
        keep(&storage, STEP_BYTES, 0);
        assert_eq!(steps(), (2, 2));
        keep(&storage, STEP_BYTES + 1, 0);
        assert_eq!(steps(), (3, 3), "one step was lacking");
        keep(&storage, STEP_BYTES, 0);
        assert_eq!(steps(), (3, 3), "there is more than that");
        storage.set_free_bytes(3 * STEP_BYTES);
        keep(&storage, 2 * STEP_BYTES, 2 * STEP_BYTES + 1);
        assert_eq!(steps(), (3, 3), "others would have less than is to stay free");
        keep(&storage, 2 * STEP_BYTES, 2 * STEP_BYTES);
        assert_eq!(steps(), (4, 4), "only what is added must be free");
    }

    /// Symptom: on a disk that others filled while room was added, no room was left for a checkpoint. Cause: with what
    /// could not be added went what was held. Fix: that stays.
    #[test]
    fn what_is_held_stays_where_no_more_can_be_added() {
        let storage = FaultyStorage::new(1, 8 * 1024 * 1024);
        let held = || storage.open(RESERVE_FILE, OpenMode::Existing).and_then(|file| file.len()).ok();
        keep(&storage, STEP_BYTES, 0);
        assert_eq!(held(), Some(2 * STEP_BYTES));
        storage.set_hook(Box::new(|storage, _, what| {
            if what == "write" {
                // Others have taken the rest.
                storage.set_free_bytes(0);
            }
        }));
        let looks = storage.reads();
        keep(&storage, 2 * STEP_BYTES, 0);
        // For the file and for its length. Behind that no file has to be opened, which may be more than there may be.
        assert_eq!(storage.reads() - looks, 2);
        storage.clear_hook();
        assert_eq!(held(), Some(2 * STEP_BYTES));
        assert_eq!(storage.free_bytes().expect("it is alive"), STEP_BYTES, "the part is given back");
        storage.set_free_bytes(2 * STEP_BYTES);
        keep(&storage, 2 * STEP_BYTES, 0);
        assert_eq!(held(), Some(4 * STEP_BYTES));
    }
}
