//! Segments with bytes to sync, and how they get on disk.

use std::collections::BTreeSet;
use std::sync::Arc;

use courant_core::clock::Clock;

use super::{AppendEffect, Dirty, Writer};
use crate::PartitionId;
use crate::limits::{DIRTY_FILES_SYNCED_EACH, WRITE_BACK_BYTES, WRITE_BACK_EARLY_BYTES};
use crate::segment::{self, Handles, Segment, SegmentKey, WrittenBatch, partition_dir};
use crate::storage::{File, Storage, StorageError};

impl Writer {
    /// Writes batches of the group to the one segment that all of them go to, in the file that is open until it is
    /// synced. Where none is, `opened` gives what was opened for it.
    pub(crate) fn write_appends(
        &mut self,
        storage: &dyn Storage,
        handles: &Handles,
        appends: &[&AppendEffect],
        opened: impl FnOnce(&SegmentKey) -> Option<Arc<dyn File>>,
    ) -> Result<(), StorageError> {
        let Some(AppendEffect { segment, .. }) = appends.first() else { return Ok(()) };
        let group = self.group.bytes();
        let batches = appends.iter().map(|append| WrittenBatch {
            offset: append.base_offset,
            max_timestamp: append.max_timestamp,
            bytes: &group[append.stored.clone()],
        });
        let bytes: u64 = appends.iter().map(|append| append.stored.len() as u64).sum();
        let key = segment.key();
        // Nearly always: then one look finds all that is to know, and the file was not created just now.
        if let Some(Dirty { file: Some(file), unsynced_bytes, .. }) = self.dirty.get_mut(&key) {
            segment.write(storage, handles, Some(file.clone()), batches)?;
            *unsynced_bytes += bytes;
            self.unsynced_most = self.unsynced_most.max(*unsynced_bytes);
            return Ok(());
        }
        let (file, created) = segment.write(storage, handles, opened(&key), batches)?;
        self.wrote(segment, file, created, bytes);
        Ok(())
    }

    /// The file of a segment that was written and not synced since.
    fn dirty_file(&self, key: &SegmentKey) -> Option<Arc<dyn File>> {
        self.dirty.get(key)?.file.clone()
    }

    /// Notes that so many bytes were added to a segment.
    fn wrote(&mut self, segment: &Arc<Segment>, file: Arc<dyn File>, created: bool, bytes: u64) {
        if created {
            self.new_names.insert(segment.header.partition);
        }
        let dirty = self.dirty.entry(segment.key()).or_insert_with(|| Dirty::new(segment.clone()));
        dirty.unsynced_bytes += bytes;
        self.unsynced_most = self.unsynced_most.max(dirty.unsynced_bytes);
        // The first one stays: it was open before the first write, and is told of every error since.
        if dirty.file.is_none() {
            dirty.file = Some(file);
        }
    }

    /// Unsynced bytes of a segment above which it is synced ahead of a checkpoint: less in a small ring, where
    /// checkpoints are not far from each other.
    fn write_back_step(&self) -> u64 {
        (self.journal.ring_bytes() / 8).min(WRITE_BACK_BYTES)
    }

    /// Whether a segment has so many unsynced bytes that they are to be synced before a checkpoint asks for it: as
    /// many as a step has, or fewer when no segment was synced for a while.
    pub(crate) fn is_write_back_due(&self, clock: &dyn Clock) -> bool {
        self.unsynced_most >= self.write_back_step()
            || (self.unsynced_most >= WRITE_BACK_EARLY_BYTES
                && clock.elapsed_ms() >= self.write_back_early_at_ms)
    }

    /// The files with so many unsynced bytes, which count as synced from here on. With fewer than a step only the one
    /// that has most: of thousands that grow slowly each would be synced for little.
    pub(crate) fn take_grown(&mut self) -> Vec<(Arc<Segment>, Arc<dyn File>)> {
        let step = self.write_back_step();
        let largest = self.dirty.iter().max_by_key(|(_, dirty)| dirty.unsynced_bytes).map(|(key, _)| *key);
        let grown = self.dirty.iter_mut().filter(|(key, dirty)| {
            let least = if largest == Some(**key) { step.min(WRITE_BACK_EARLY_BYTES) } else { step };
            dirty.unsynced_bytes >= least
        });
        let taken = grown.filter_map(|(_, dirty)| {
            dirty.unsynced_bytes = 0;
            Some((dirty.segment.clone(), dirty.file.clone()?))
        });
        let taken = taken.collect();
        self.unsynced_most = self.dirty.values().map(|dirty| dirty.unsynced_bytes).max().unwrap_or(0);
        taken
    }

    /// Adds a replayed batch to a segment. `open` are the segments of which the file is open, to be
    /// synced. When there are as many as may be, they are synced and closed.
    ///
    /// No checkpoint can be stored in the middle of a replay, and none is needed: as long as the one at
    /// its end is not durable, the next start begins from the same journal, and cuts the segments to the
    /// same ends.
    pub(crate) fn write_replayed(
        &mut self,
        storage: &dyn Storage,
        handles: &Handles,
        open: &mut Vec<SegmentKey>,
        segment: &Arc<Segment>,
        batch: WrittenBatch<'_>,
    ) -> Result<(), StorageError> {
        let key = segment.key();
        let file = self.dirty_file(&key);
        let is_open = file.is_some();
        if !is_open && open.len() >= handles.dirty_max() {
            self.sync_replayed(storage, std::mem::take(open))?;
        }
        let (file, created) = segment.write(storage, handles, file, std::iter::once(batch))?;
        if !is_open {
            open.push(key);
        }
        self.wrote(segment, file, created, batch.bytes.len() as u64);
        Ok(())
    }

    /// Syncs and closes segments. They stay dirty: no checkpoint covers them yet.
    fn sync_replayed(&mut self, storage: &dyn Storage, open: Vec<SegmentKey>) -> Result<(), StorageError> {
        // What was deleted since they were written is not there any more.
        let open: Vec<_> = open.into_iter().filter(|key| self.dirty.contains_key(key)).collect();
        let dirty = open.iter().filter_map(|key| self.dirty.get(key));
        let dirty: Vec<_> = dirty.map(|dirty| (dirty, dirty.segment.blocks().done().len())).collect();
        sync_segments(storage, &dirty, &self.new_names)?;
        for (dirty, done) in dirty {
            dirty.segment.sidecar_has(done);
        }
        self.new_names.clear();
        for key in &open {
            if let Some(dirty) = self.dirty.get_mut(key) {
                dirty.file = None;
                dirty.unsynced_bytes = 0;
            }
        }
        Ok(())
    }
}

/// Makes segments durable, each with so many whole blocks in its sidecar, and the names of all files that
/// were created for them.
pub(crate) fn sync_segments(
    storage: &dyn Storage,
    dirty: &[(&Dirty, usize)],
    new_names: &BTreeSet<PartitionId>,
) -> Result<(), StorageError> {
    let each = dirty.len() <= DIRTY_FILES_SYNCED_EACH;
    let mut new_names = new_names.clone();
    for (Dirty { segment, file, .. }, done) in dirty {
        if segment.checkpoint(storage, file.as_deref(), *done, each)? {
            new_names.insert(segment.header.partition);
        }
    }
    if !each {
        let synced = storage.sync_all();
        return synced.map_err(|source| StorageError::new("sync", "the data directory", source));
    }
    if !new_names.is_empty() {
        let synced = storage.sync_dir(segment::DIR);
        synced.map_err(|source| StorageError::new("sync", segment::DIR, source))?;
    }
    for partition in new_names {
        let dir = partition_dir(partition);
        storage.sync_dir(&dir).map_err(|source| StorageError::new("sync", &dir, source))?;
    }
    Ok(())
}
