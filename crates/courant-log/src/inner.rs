//! What the handles of one log and its threads share.

use std::any::Any;
use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, RwLock};

use uuid::Uuid;

use crate::believed_clock::BelievedClock;
use crate::buffers::Buffers;
use crate::catalog::Catalog;
use crate::committer::Turn;
use crate::compacting::Compactor;
use crate::config::LogConfig;
use crate::error::WriterError;
use crate::groups::Groups;
use crate::limits::GROUP_BYTES_MAX;
use crate::maintenance::Maintenance;
use crate::metrics::Counters;
use crate::partition::{Partition, Wakes};
use crate::queue::Queue;
use crate::room::Room;
use crate::segment::Handles;
use crate::storage::{Storage, StorageError};
use crate::unpacking::Unpacking;
use crate::writer::Writer;
use crate::{PartitionId, layout, lock};

/// Locks nest in this order: `compacting`, `turn`, `checkpointing`, `writer`, then any of the others alone.
pub(crate) struct Inner {
    pub(crate) id: Uuid,
    pub(crate) storage: Arc<dyn Storage>,
    pub(crate) config: LogConfig,
    pub(crate) handles: Handles,
    /// For what readers of the log get.
    pub(crate) buffers: Buffers,
    pub(crate) unpacking: Unpacking,
    pub(crate) counters: Counters,
    pub(crate) queue: Queue,
    pub(crate) turn: Turn,
    pub(crate) writer: Mutex<Writer>,
    pub(crate) checkpointing: Mutex<()>,
    pub(crate) maintenance: Maintenance,
    pub(crate) catalog: RwLock<Arc<Catalog>>,
    /// How often it has changed since the log was opened.
    pub(crate) catalog_changes: AtomicU64,
    pub(crate) partitions: RwLock<HashMap<PartitionId, Arc<Partition>>>,
    /// What is durable of consumer groups. Changed under the writer's lock, so that a checkpoint finds
    /// them as they are at a group boundary.
    pub(crate) groups: RwLock<Groups>,
    pub(crate) compactor: Compactor,
    /// One round after the other, also where several ask for it.
    pub(crate) compacting: Mutex<()>,
    /// By which retention deletes.
    pub(crate) believed: Mutex<BelievedClock>,
    pub(crate) room: Room,
    /// Why appends are refused for now.
    pub(crate) full: Mutex<Option<String>>,
    /// Why nothing more is written, once that is so.
    pub(crate) ended: OnceLock<String>,
    pub(crate) stopped: AtomicBool,
    /// Holds the data directory for this process.
    pub(crate) guard: Mutex<Option<Box<dyn Any + Send + Sync>>>,
}

impl std::fmt::Debug for Inner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Log").field("id", &self.id).field("storage", &self.storage).finish_non_exhaustive()
    }
}

impl Inner {
    pub(crate) fn partition(&self, id: PartitionId) -> Option<Arc<Partition>> {
        self.partitions.read().unwrap_or_else(PoisonError::into_inner).get(&id).cloned()
    }

    pub(crate) fn set_catalog(&self, catalog: Catalog) {
        let catalog = Arc::new(catalog);
        let mut held = self.catalog.write().unwrap_or_else(PoisonError::into_inner);
        *held = catalog;
        // Under the lock: who has found the new catalog finds the new number, and who finds the new number waits for
        // the new catalog.
        self.catalog_changes.fetch_add(1, Ordering::Release);
    }

    pub(crate) fn check_ended(&self) -> Result<(), WriterError> {
        match self.ended.get() {
            Some(reason) => Err(WriterError::Ended { reason: reason.clone() }),
            None => Ok(()),
        }
    }

    /// As [`Self::check_ended`], for who has the turn to commit or the writer's lock. A thread that has panicked with
    /// that lock may have given out offsets of events that are nowhere: nothing is ever written behind those.
    pub(crate) fn check_whole(&self) -> Result<(), WriterError> {
        self.check_ended()?;
        if self.writer.is_poisoned() {
            return Err(self.end_because("the committer panicked, which is a defect"));
        }
        Ok(())
    }

    /// Ends the writer for good: after a failed write or sync nobody knows what is on disk.
    pub(crate) fn end(&self, error: &StorageError) -> WriterError {
        if self.ended.get().is_none() {
            // The note is a file, and there may be none left to open.
            self.handles.close_unused();
            layout::note_doubt(&*self.storage);
        }
        self.end_because(&error.to_string())
    }

    /// As [`Self::end`], in words.
    pub(crate) fn end_because(&self, error: &str) -> WriterError {
        let reason = self.ended.get_or_init(|| {
            tracing::error!(error, "the log is read-only until it is restarted");
            error.to_owned()
        });
        self.maintenance.notify();
        WriterError::Ended { reason: reason.clone() }
    }

    /// Notes whether the storage is full, and says so once when that changes.
    pub(crate) fn set_full(&self, error: Option<&WriterError>) {
        let mut full = lock(&self.full);
        match (error, full.is_some()) {
            (Some(error), false) => {
                tracing::error!(%error, "appends are refused");
                *full = Some(error.to_string());
            }
            (None, true) => {
                tracing::info!("there is room on the disk again; appends are taken");
                *full = None;
            }
            _ => {}
        }
    }

    /// Whether more than the reserve is free. Unlike the note above this needs no append to change.
    pub(crate) fn has_room(&self) -> bool {
        self.storage.free_bytes().is_ok_and(|free| free > self.config.reserve_bytes + GROUP_BYTES_MAX as u64)
    }

    /// Wakes everyone who waits for more, because there will be none.
    pub(crate) fn wake_all(&self) {
        let mut wakes = Wakes::new();
        for partition in self.partitions.read().unwrap_or_else(PoisonError::into_inner).values() {
            partition.take_waiters(false, &mut wakes);
        }
        self.wake(wakes);
    }

    /// Whether the data directory was given back. Looked at under the writer's lock.
    pub(crate) fn is_closed(&self) -> bool {
        lock(&self.guard).is_none()
    }

    pub(crate) fn is_stopped(&self) -> bool {
        self.stopped.load(Ordering::Acquire)
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;
    use crate::storage::MemoryStorage;
    use crate::{Log, SystemClock, SystemEntropy};

    /// Whoever has seen a change of topics does not go on with what was found before it. Without the lock that is
    /// so for an instant only, which comes often enough in so many changes.
    #[test]
    fn who_sees_a_new_catalog_sees_that_it_has_changed() {
        let mut config = LogConfig::new(Arc::new(SystemClock), Arc::new(SystemEntropy));
        (config.reserve_bytes, config.background) = (0, false);
        let (log, _) = Log::open(Arc::new(MemoryStorage::new(64 * 1024 * 1024)), config).expect("opens");
        let is_over = AtomicBool::new(false);
        let missed = thread::scope(|scope| {
            let looking = scope.spawn(|| {
                let mut missed = 0;
                while !is_over.load(Ordering::Acquire) {
                    let (changes, catalog) = (log.catalog_changes(), log.catalog());
                    let is_other = !Arc::ptr_eq(&catalog, &log.catalog());
                    missed += u64::from(is_other && log.catalog_changes() == changes);
                }
                missed
            });
            for _ in 0..20_000 {
                log.inner.set_catalog(Catalog::default());
            }
            is_over.store(true, Ordering::Release);
            looking.join().expect("looks")
        });
        assert_eq!(missed, 0);
        assert_eq!(log.catalog_changes(), 20_000);
    }
}
