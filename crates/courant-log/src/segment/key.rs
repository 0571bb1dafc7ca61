//! Which segment, and what its files are called. On disk: the names are fixed.

use super::header::FileKind;
use super::partition_dir;
use crate::PartitionId;

/// Which segment: no other one of the log ever has the same three numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct SegmentKey {
    pub(crate) partition: PartitionId,
    /// Offset of the first event that was ever written where it begins.
    pub(crate) base_offset: u64,
    /// How often compaction has replaced what begins there.
    pub(crate) number: u64,
}

impl SegmentKey {
    /// The name of one of its files, relative to the data directory.
    pub(crate) fn path(&self, kind: FileKind) -> String {
        format!("{}/{}", partition_dir(self.partition), self.file_name(kind))
    }

    /// The name of one of its files within the directory of its partition.
    pub(crate) fn file_name(&self, kind: FileKind) -> String {
        let extension = match kind {
            FileKind::Segment => "segment",
            FileKind::Sidecar => "blocks",
        };
        match self.number {
            0 => format!("{:020}.{extension}", self.base_offset),
            number => format!("{:020}-{number}.{extension}", self.base_offset),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_segment_that_was_never_compacted_keeps_the_name_it_always_had() {
        let key = SegmentKey { partition: PartitionId(10), base_offset: 42, number: 0 };
        assert_eq!(key.path(FileKind::Segment), "segments/000000000000000a/00000000000000000042.segment");
        let compacted = SegmentKey { number: 3, ..key };
        assert_eq!(
            compacted.path(FileKind::Sidecar),
            "segments/000000000000000a/00000000000000000042-3.blocks"
        );
    }
}
