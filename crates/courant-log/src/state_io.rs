//! Pieces of state that stand both in journal entries and in checkpoints. On disk: their layout is
//! part of both formats.

use std::collections::BTreeMap;

use bytes::Bytes;

use crate::PartitionId;
use crate::bytes_io::{Fields, Short, put_count, put_string};
use crate::groups::CommittedOffset;

/// Bytes of an offset with the shortest metadata.
const OFFSET_BYTES_MIN: usize = 8 + 8 + 4 + 8 + 2;

/// Configs: a count, then name and value of each.
pub(crate) fn put_configs(out: &mut Vec<u8>, configs: &BTreeMap<String, String>) {
    put_count(out, configs.len());
    for (name, value) in configs {
        put_string(out, name);
        put_string(out, value);
    }
}

pub(crate) fn configs(fields: &mut Fields<'_>) -> Result<BTreeMap<String, String>, Short> {
    (0..fields.count(4)?).map(|_| Ok((fields.string()?, fields.string()?))).collect()
}

/// Committed offsets: a count, then partition id, offset, leader epoch, time and metadata of each.
pub(crate) fn put_offsets<'a>(
    out: &mut Vec<u8>,
    offsets: impl ExactSizeIterator<Item = (&'a PartitionId, &'a CommittedOffset)>,
) {
    put_count(out, offsets.len());
    for (partition, committed) in offsets {
        out.extend_from_slice(&partition.0.to_le_bytes());
        out.extend_from_slice(&committed.offset.to_le_bytes());
        out.extend_from_slice(&committed.leader_epoch.to_le_bytes());
        out.extend_from_slice(&committed.committed_ms.to_le_bytes());
        put_string(out, &committed.metadata);
    }
}

pub(crate) fn offsets<C>(fields: &mut Fields<'_>) -> Result<C, Short>
where
    C: FromIterator<(PartitionId, CommittedOffset)>,
{
    let offset = |fields: &mut Fields<'_>| {
        let partition = PartitionId(fields.u64()?);
        let offset = fields.u64()?;
        let leader_epoch = fields.i32()?;
        let committed_ms = fields.i64()?;
        let metadata = fields.string()?;
        Ok((partition, CommittedOffset { offset, leader_epoch, metadata, committed_ms }))
    };
    (0..fields.count(OFFSET_BYTES_MIN)?).map(|_| offset(fields)).collect()
}

/// Bytes that the log does not read: a count, then they.
pub(crate) fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    put_count(out, bytes.len());
    out.extend_from_slice(bytes);
}

pub(crate) fn bytes(fields: &mut Fields<'_>) -> Result<Bytes, Short> {
    let count = fields.count(1)?;
    Ok(Bytes::copy_from_slice(fields.bytes(count)?))
}
