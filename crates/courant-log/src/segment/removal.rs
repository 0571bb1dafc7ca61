//! Unlinking what a durable entry deleted, and nothing else.

use std::collections::BTreeSet;
use std::io;

use super::header::FileKind;
use super::key::SegmentKey;
use super::{DIR, partition_dir};
use crate::PartitionId;
use crate::storage::{Storage, StorageError};

/// Unlinks every file of partitions that a durable entry deleted, and returns those that are gone.
/// Files that are gone already are no error: a crash may have interrupted this before. What somebody else
/// has put beside them stays, and with it the folder.
pub(crate) fn remove_partitions(storage: &dyn Storage, partitions: &[PartitionId]) -> Vec<PartitionId> {
    let mut removed = Vec::with_capacity(partitions.len());
    for partition in partitions {
        match remove_partition(storage, *partition) {
            Ok(()) => removed.push(*partition),
            Err(error) => tracing::warn!(%error, "a deleted partition's files stay for now"),
        }
    }
    match storage.sync_dir(DIR) {
        Ok(()) => removed,
        Err(error) => {
            tracing::warn!(%error, "the removal of deleted partitions is not durable yet");
            Vec::new()
        }
    }
}

/// Unlinks the files of segments that a durable entry deleted, and returns those that are gone. As
/// with partitions, files may be gone already.
pub(crate) fn remove_segments(storage: &dyn Storage, segments: &[SegmentKey]) -> BTreeSet<SegmentKey> {
    let mut removed = BTreeSet::new();
    for segment in segments {
        let paths = [FileKind::Segment, FileKind::Sidecar].map(|kind| segment.path(kind));
        match paths.iter().try_for_each(|path| remove_if_there(storage, path)) {
            Ok(()) => {
                removed.insert(*segment);
            }
            Err(error) => tracing::warn!(%error, "a deleted segment's files stay for now"),
        }
    }
    let dirs: BTreeSet<_> = removed.iter().map(|segment| segment.partition).collect();
    for partition in dirs {
        let dir = partition_dir(partition);
        match storage.sync_dir(&dir) {
            Ok(()) => {}
            // Without a first batch a partition has no folder.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => {
                tracing::warn!(%dir, %error, "the removal of deleted segments is not durable yet");
                removed.retain(|segment| segment.partition != partition);
            }
        }
    }
    removed
}

fn remove_if_there(storage: &dyn Storage, path: &str) -> Result<(), StorageError> {
    match storage.remove_file(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        removed => removed.map_err(|source| StorageError::new("remove", path, source)),
    }
}

fn remove_partition(storage: &dyn Storage, partition: PartitionId) -> Result<(), StorageError> {
    let dir = partition_dir(partition);
    let gone = |result: io::Result<()>| match result {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    };
    let names = match storage.list(&dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        listed => listed.map_err(|source| StorageError::new("list", &dir, source))?,
    };
    for name in names.iter().filter(|name| is_ours(name)) {
        let path = format!("{dir}/{name}");
        gone(storage.remove_file(&path)).map_err(|source| StorageError::new("remove", &path, source))?;
    }
    gone(storage.remove_dir(&dir)).map_err(|source| StorageError::new("remove", &dir, source))
}

/// Whether the log gives such names to the files of a partition.
fn is_ours(name: &str) -> bool {
    let stem = name.strip_suffix(".segment").or_else(|| name.strip_suffix(".blocks"));
    let Some((offset, number)) = stem.map(|stem| stem.split_once('-').unwrap_or((stem, "1"))) else {
        return false;
    };
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    offset.len() == 20 && is_number(offset) && is_number(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_logs_own_names_are_known_and_no_others() {
        for kind in [FileKind::Segment, FileKind::Sidecar] {
            for number in [0, 1, 12] {
                let key = SegmentKey { partition: PartitionId(7), base_offset: u64::MAX, number };
                assert!(is_ours(&key.file_name(kind)), "{}", key.file_name(kind));
            }
        }
        let strange =
            ["notes", "1.segment", "000000000000000000001.segment", "00000000000000000001.segment.bak"];
        for name in strange.into_iter().chain(["00000000000000000001-.blocks", "0000000000000000000x.blocks"])
        {
            assert!(!is_ours(name), "{name}");
        }
    }
}
