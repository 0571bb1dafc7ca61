//! The files of a group: how many commands there are files for, and waiting until there are some.
//!
//! A segment with unsynced bytes stays open until a checkpoint has synced it, and a process may have
//! only so many files open: `docs/decisions/0006-appends-wait-for-open-files.md`. So a group takes no more
//! commands than it has files for, and what it will open is opened before anything is written. A process
//! that may open no more refuses appends, and does not fail in the middle of a group.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use super::Answers;
use crate::error::WriterError;
use crate::inner::Inner;
use crate::layout::FORMAT_FILE;
use crate::metrics::add;
use crate::partition::{Reader, Tail, Wakes};
use crate::queue::Command;
use crate::segment::{Reach, SegmentKey};
use crate::storage::{File, OpenMode, StorageError};
use crate::writer::Writer;

/// What a group has open of the segments that it makes dirty.
#[derive(Debug, Default)]
pub(super) struct GroupFiles {
    /// `None` for a file that is still to be created.
    segments: BTreeMap<SegmentKey, Option<Arc<dyn File>>>,
    /// Each is open in the place of a file that is still to be created.
    spare: Vec<Arc<dyn File>>,
    /// Where the batch before goes, in a segment that is there.
    last: Option<SegmentKey>,
}

impl GroupFiles {
    /// Whether the file of a segment is open until it is synced, or will be.
    fn has(&self, writer: &Writer, key: &SegmentKey) -> bool {
        self.segments.contains_key(key) || writer.dirty.get(key).is_some_and(|dirty| dirty.file.is_some())
    }

    /// The file of a segment. `None` when it is to be created: then another file was closed for it.
    pub(super) fn take(&mut self, key: &SegmentKey) -> Option<Arc<dyn File>> {
        let open = self.segments.remove(key).flatten();
        if open.is_none() {
            self.spare.pop();
        }
        open
    }
}

impl Inner {
    /// Commits as many of the commands as there are files for. Where there are none, waits until a
    /// checkpoint has synced the segments that were written, and let their files go.
    pub(super) fn commit_within_files(
        &self,
        commands: &mut VecDeque<Command>,
        answers: &mut Answers,
        wakes: &mut Wakes,
    ) -> Result<(), WriterError> {
        if self.commit_group(commands, answers, wakes) {
            return Ok(());
        }
        add(&self.counters.file_waits, 1);
        let since = Instant::now();
        let waited = self.wait_for_checkpoint();
        let micros = u64::try_from(since.elapsed().as_micros()).unwrap_or(u64::MAX);
        self.counters.file_wait_longest_us.fetch_max(micros, Ordering::Relaxed);
        waited?;
        if self.commit_group(commands, answers, wakes) { Ok(()) } else { Err(WriterError::OutOfFiles) }
    }

    /// Whether a command can be part of the group: whether the segment that a batch goes to is open, or
    /// can be. Opens it.
    ///
    /// Also compares the end that the batch is about to be added to, once after a start: nothing is added
    /// behind damage. A file that cannot be opened now is no damage.
    pub(super) fn has_file_for(&self, writer: &Writer, command: &Command, files: &mut GroupFiles) -> bool {
        let Command::Append { partition, batch, .. } = command else { return true };
        let Some(tail) = writer.tails.get(partition) else { return true };
        let is_new = tail.is_empty() || tail.is_full_for(batch.header(), batch.bytes().len() as u64);
        let last = tail.segment.key();
        // Looked at with the batch before. Where its end was damaged it is closed, and this batch begins a new one.
        if !is_new && files.last == Some(last) {
            return true;
        }
        let has_last = !tail.is_empty() && files.has(writer, &last);
        let mut open = None;
        if !tail.is_empty() && !has_last {
            open = match tail.segment.file(&*self.storage, &self.handles) {
                Err(error) if error.is_out_of_files() => return false,
                // What else is wrong shows where it is read or written.
                opened => opened.ok(),
            };
        }
        let (storage, handles) = (&*self.storage, &self.handles);
        Reader { storage, handles, partition: &tail.shared, reach: Reach::Disk }
            .is_fit_to_grow(&tail.segment);
        let is_new = tail.is_empty() || tail.is_full_for(batch.header(), batch.bytes().len() as u64);
        let key = if is_new { next_segment(tail) } else { last };
        files.last = Some(key).filter(|_| !is_new);
        let has_key = if is_new { files.has(writer, &key) } else { has_last };
        if has_key {
            return true;
        }
        if writer.dirty.len() + files.segments.len() >= self.handles.dirty_max() {
            return false;
        }
        if is_new {
            match self.open_spare() {
                Err(error) if error.is_out_of_files() => return false,
                spare => files.spare.extend(spare),
            }
            open = None;
        }
        files.segments.insert(key, open);
        true
    }

    /// Opens a file that is always there, for the sake of being able to.
    fn open_spare(&self) -> Result<Arc<dyn File>, StorageError> {
        self.handles.making_room(|| {
            let file = self.storage.open(FORMAT_FILE, OpenMode::Existing);
            file.map_err(|source| StorageError::new("open", FORMAT_FILE, source))
        })
    }
}

/// The segment that begins with the next batch of a partition.
fn next_segment(tail: &Tail) -> SegmentKey {
    if tail.is_empty() {
        return tail.segment.key();
    }
    SegmentKey { base_offset: tail.next_offset, number: 0, ..tail.segment.key() }
}
