//! The segment files that are kept open.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use super::file::Segment;
use super::header::FileKind;
use crate::limits::OPEN_FILES_MAX;
use crate::storage::{File, OpenMode, Storage, StorageError};
use crate::{PartitionId, lock};

/// Open segment files, at most [`OPEN_FILES_MAX`]; those not used for longest are closed first.
#[derive(Debug, Default)]
pub(crate) struct Handles {
    open: Mutex<Open>,
}

#[derive(Debug, Default)]
struct Open {
    files: HashMap<(PartitionId, u64), (Arc<dyn File>, u64)>,
    uses: u64,
}

impl Handles {
    pub(super) fn segment(
        &self,
        storage: &dyn Storage,
        segment: &Segment,
    ) -> Result<Arc<dyn File>, StorageError> {
        let key = (segment.header.partition, segment.header.base_offset);
        {
            let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
            open.uses += 1;
            let uses = open.uses;
            if let Some((file, used)) = open.files.get_mut(&key) {
                *used = uses;
                return Ok(file.clone());
            }
        }
        let path = segment.path(FileKind::Segment);
        let file = storage.open(&path, OpenMode::Existing);
        let file = file.map_err(|source| StorageError::new("open", &path, source))?;
        self.keep(segment, file.clone());
        Ok(file)
    }

    pub(super) fn keep(&self, segment: &Segment, file: Arc<dyn File>) {
        let mut open = lock(&self.open);
        open.uses += 1;
        let uses = open.uses;
        open.files.insert((segment.header.partition, segment.header.base_offset), (file, uses));
        if open.files.len() > OPEN_FILES_MAX {
            let mut by_use: Vec<_> = open.files.values().map(|(_, used)| *used).collect();
            by_use.sort_unstable();
            let oldest_kept = by_use[by_use.len() / 4];
            open.files.retain(|_, (_, used)| *used >= oldest_kept);
        }
    }

    /// Closes the file of a segment that is going away.
    pub(crate) fn forget_segment(&self, key: (PartitionId, u64)) {
        lock(&self.open).files.remove(&key);
    }

    /// Closes the files of a partition that is going away.
    pub(crate) fn forget(&self, partition: PartitionId) {
        lock(&self.open).files.retain(|(of, _), _| *of != partition);
    }
}
