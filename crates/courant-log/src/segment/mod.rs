//! Segments: one sequence of files for each partition, filled with the same bytes as the journal,
//! synced at checkpoints, read by consumers. `docs/formats/segment.md` draws the bytes.

mod blocks;
mod compare;
mod file;
mod handles;
mod header;
mod key;
mod removal;
mod state;
mod verify;

pub(crate) use blocks::{Block, Blocks, ENTRY_BYTES, FirstBatch, OpenBlock, indexed_timestamp};
pub(crate) use compare::{BadBlock, Reach, is_of_the_bytes};
pub(crate) use file::{Compacted, Lost, Segment, WrittenBatch, create_empty};
pub(crate) use handles::Handles;
pub(crate) use header::{FileKind, HEADER_BYTES, SegmentHeader};
pub(crate) use key::SegmentKey;
pub(crate) use removal::{remove_partitions, remove_segments};
pub(crate) use state::SegmentState;
pub(crate) use verify::{Flaw, Recorded, events_in, verify as verify_segment};

/// Directory of the segments; below it one directory for each partition id.
pub(crate) const DIR: &str = "segments";

/// Directory of a partition. Names on disk are ids, so no topic name can leave the data directory.
pub(crate) fn partition_dir(partition: crate::PartitionId) -> String {
    format!("{DIR}/{:016x}", partition.0)
}
