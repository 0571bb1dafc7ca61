//! The segment files that are kept open, within what the process may have open.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use super::file::Segment;
use super::header::FileKind;
use super::key::SegmentKey;
use crate::limits::{
    DIRTY_FILES_MAX, FILES_WANTED, JOURNAL_FILES_MIN, OPEN_FILES_MAX, OTHER_FILES_MAX, READ_FILES_MAX,
};
use crate::storage::{File, OpenMode, Storage, StorageError};
use crate::{PartitionId, lock};

/// How often files are closed for one that is to be opened: each time half of those that can be.
const CLOSINGS_MAX: usize = 16;

/// Open segment files, not more than a share of what the log may have open; those not used for longest are
/// closed first.
#[derive(Debug)]
pub(crate) struct Handles {
    kept_max: usize,
    dirty_max: usize,
    open: Mutex<Open>,
}

#[derive(Debug, Default)]
struct Open {
    files: HashMap<SegmentKey, (Arc<dyn File>, u64)>,
    uses: u64,
}

impl Default for Handles {
    /// As many as a log can make use of.
    fn default() -> Self {
        Self::new(FILES_WANTED, JOURNAL_FILES_MIN)
    }
}

impl Handles {
    /// For a log that may have `files` open, those of its journal among them.
    ///
    /// A quarter each is for segments that are kept open, for readers that have others open, for segments
    /// with unsynced bytes, and for those that become so while a checkpoint syncs the former.
    pub(crate) fn new(files: usize, journal_files: usize) -> Self {
        let segments = files.saturating_sub(journal_files + OTHER_FILES_MAX);
        let kept_max = (segments / 4).clamp(1, OPEN_FILES_MAX);
        let read_max = (segments / 4).min(READ_FILES_MAX);
        let dirty_max = (segments.saturating_sub(kept_max + read_max) / 2).clamp(1, DIRTY_FILES_MAX);
        Self { kept_max, dirty_max, open: Mutex::default() }
    }

    /// Segments with unsynced bytes, all of them open, above which appends wait for a checkpoint.
    pub(crate) fn dirty_max(&self) -> usize {
        self.dirty_max
    }

    /// The file of a segment, if it is open.
    pub(super) fn opened(&self, segment: &Segment) -> Option<Arc<dyn File>> {
        let mut open = lock(&self.open);
        open.uses += 1;
        let uses = open.uses;
        let (file, used) = open.files.get_mut(&segment.key())?;
        *used = uses;
        Some(file.clone())
    }

    pub(super) fn segment(
        &self,
        storage: &dyn Storage,
        segment: &Segment,
    ) -> Result<Arc<dyn File>, StorageError> {
        if let Some(file) = self.opened(segment) {
            return Ok(file);
        }
        let path = segment.path(FileKind::Segment);
        let file = self.making_room(|| {
            let file = storage.open(&path, OpenMode::Existing);
            file.map_err(|source| StorageError::new("open", &path, source))
        })?;
        self.keep(segment, file.clone());
        Ok(file)
    }

    pub(super) fn keep(&self, segment: &Segment, file: Arc<dyn File>) {
        let mut open = lock(&self.open);
        open.uses += 1;
        let uses = open.uses;
        open.files.insert(segment.key(), (file, uses));
        if open.files.len() > self.kept_max {
            let mut by_use: Vec<_> = open.files.values().map(|(_, used)| *used).collect();
            by_use.sort_unstable();
            let closed = (by_use.len() / 4).max(1);
            if let Some(oldest_kept) = by_use.get(closed).copied() {
                open.files.retain(|_, (_, used)| *used >= oldest_kept);
            }
        }
    }

    /// Opens something. Where the process may have no more files, those that are only kept for later are
    /// closed for it, the ones not used for longest first.
    pub(crate) fn making_room<T>(
        &self,
        open: impl Fn() -> Result<T, StorageError>,
    ) -> Result<T, StorageError> {
        for _ in 0..CLOSINGS_MAX {
            match open() {
                Err(error) if error.is_out_of_files() && self.close_some() => {}
                opened => return opened,
            }
        }
        open()
    }

    /// Closes half of the files that nobody uses now, one at least. False when there are none.
    fn close_some(&self) -> bool {
        let mut open = lock(&self.open);
        let unused = open.files.values().filter(|(file, _)| Arc::strong_count(file) == 1);
        let mut by_use: Vec<_> = unused.map(|(_, used)| *used).collect();
        by_use.sort_unstable();
        let Some(newest_closed) = by_use.get(by_use.len().saturating_sub(1) / 2).copied() else {
            return false;
        };
        open.files.retain(|_, (file, used)| *used > newest_closed || Arc::strong_count(file) > 1);
        true
    }

    /// Closes the files that nobody uses now.
    pub(crate) fn close_unused(&self) {
        lock(&self.open).files.retain(|_, (file, _)| Arc::strong_count(file) > 1);
    }

    /// Closes the files of segments that are going away.
    pub(crate) fn forget_segments(&self, keys: &[SegmentKey]) {
        let mut open = lock(&self.open);
        for key in keys {
            open.files.remove(key);
        }
    }

    /// Closes the files of a partition that is going away.
    pub(crate) fn forget(&self, partition: PartitionId) {
        lock(&self.open).files.retain(|key, _| key.partition != partition);
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::io;

    use super::super::header::SegmentHeader;
    use super::*;
    use crate::limits::FILES_MIN;
    use crate::storage::MemoryStorage;

    /// What the system says when a process may have no more files open: EMFILE, and ENFILE when no
    /// process may.
    const OUT_OF_FILES: [i32; 2] = [24, 23];

    fn refused(code: i32) -> StorageError {
        StorageError::new("open", "a", io::Error::from_raw_os_error(code))
    }

    fn kept(handles: &Handles) -> Vec<u64> {
        let open = lock(&handles.open);
        let mut kept: Vec<_> = open.files.keys().map(|key| key.partition.0).collect();
        kept.sort_unstable();
        kept
    }

    /// Keeps a file for each of so many partitions, 0 the one not used for longest, and returns them.
    fn keep(handles: &Handles, count: u64) -> Vec<Arc<dyn File>> {
        let storage = MemoryStorage::new(1024);
        let files = (0..count).map(|partition| {
            let partition = PartitionId(partition);
            let header = SegmentHeader {
                log_id: uuid::Uuid::nil(),
                partition,
                base_offset: 0,
                generation: 1,
                number: 0,
            };
            let file = storage.open(&partition.to_string(), OpenMode::CreateNew).expect("creates");
            handles.keep(&Segment::new(header), file.clone());
            file
        });
        files.collect()
    }

    #[test]
    fn the_shares_of_a_log_are_within_what_it_may_open() {
        for files in (FILES_MIN..2 * FILES_WANTED).step_by(7) {
            let Handles { kept_max, dirty_max, .. } = Handles::new(files, JOURNAL_FILES_MIN);
            let sum = kept_max + 2 * dirty_max + JOURNAL_FILES_MIN + OTHER_FILES_MAX;
            assert!(sum <= files, "{files}: {kept_max} kept, {dirty_max} dirty");
            assert!(kept_max >= 1 && dirty_max >= 1, "{files}");
        }
        let of = |files| {
            let Handles { kept_max, dirty_max, .. } = Handles::new(files, JOURNAL_FILES_MIN);
            (kept_max, dirty_max)
        };
        assert_eq!(of(60), (10, 10));
        assert_eq!(of(FILES_WANTED), (OPEN_FILES_MAX, DIRTY_FILES_MAX));
        assert_eq!(of(usize::MAX), (OPEN_FILES_MAX, DIRTY_FILES_MAX));
        assert_eq!(of(0), (1, 1), "there is no log without a file to write to");
    }

    #[test]
    fn of_more_than_are_kept_the_oldest_are_closed() {
        let handles = Handles { kept_max: 1, ..Handles::default() };
        drop(keep(&handles, 3));
        assert_eq!(kept(&handles), [2]);
        let handles = Handles { kept_max: 8, ..Handles::default() };
        drop(keep(&handles, 9));
        assert_eq!(kept(&handles), [2, 3, 4, 5, 6, 7, 8]);
    }

    #[test]
    fn for_a_file_that_cannot_be_opened_others_are_closed() {
        for code in OUT_OF_FILES {
            let handles = Handles::default();
            let mut files = keep(&handles, 8);
            // The oldest one is in use: nothing would be gained by forgetting it.
            let used = files.swap_remove(0);
            drop(files);
            let opened = handles.making_room(|| match kept(&handles).len() {
                kept if kept > 3 => Err(refused(code)),
                kept => Ok(kept),
            });
            assert_eq!(opened.expect("there is room then"), 2);
            assert_eq!(kept(&handles), [0, 7]);
            drop(used);
        }
    }

    #[test]
    fn where_nothing_can_be_closed_the_error_is_told() {
        let handles = Handles::default();
        drop(keep(&handles, 3));
        let asked = Cell::new(0);
        let opened = handles.making_room(|| {
            asked.set(asked.get() + 1);
            Err::<(), _>(refused(OUT_OF_FILES[0]))
        });
        assert!(opened.expect_err("it never opens").is_out_of_files());
        assert!(kept(&handles).is_empty());
        // Two of three are closed, then the last, then none.
        assert_eq!(asked.get(), 3);
        let opened = handles.making_room(|| {
            asked.set(asked.get() + 1);
            Err::<(), _>(StorageError::new("open", "a", io::ErrorKind::NotFound.into()))
        });
        assert!(!opened.expect_err("it is not there").is_out_of_files());
        assert_eq!(asked.get(), 4, "another error is no reason to close anything, or to try again");
    }
}
