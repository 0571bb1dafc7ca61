//! The snapshot of producer sequences: a cache, checksummed, in a file of its own.

use std::collections::{HashMap, VecDeque};

use crate::PartitionId;
use crate::bytes_io::{Fields, Short, put_count};
use crate::crc::crc32c;
use crate::limits::BATCHES_PER_PRODUCER;
use crate::partition::{ProducerBatch, Producers};

const MAGIC: &[u8; 8] = b"COURPROD";

/// The snapshot's bytes, for the checkpoint of that sequence.
pub(crate) fn encode_producers<'a>(
    sequence: u64,
    partitions: impl Iterator<Item = (PartitionId, &'a Producers)>,
) -> Vec<u8> {
    let mut out = Vec::new();
    out.extend_from_slice(MAGIC);
    out.extend_from_slice(&sequence.to_le_bytes());
    for (partition, producers) in partitions {
        if producers.len() == 0 {
            continue;
        }
        out.extend_from_slice(&partition.0.to_le_bytes());
        put_count(&mut out, producers.len());
        for (id, epoch, last_offset, batches) in producers.iter() {
            out.extend_from_slice(&id.to_le_bytes());
            out.extend_from_slice(&epoch.to_le_bytes());
            out.extend_from_slice(&last_offset.to_le_bytes());
            out.push(batches.len() as u8);
            for batch in batches {
                out.extend_from_slice(&batch.first_sequence.to_le_bytes());
                out.extend_from_slice(&batch.last_sequence.to_le_bytes());
                out.extend_from_slice(&batch.base_offset.to_le_bytes());
            }
        }
    }
    let crc = crc32c(&out);
    out.extend_from_slice(&crc.to_le_bytes());
    out
}

/// The snapshot in a file's bytes, or `Err` when it is not the one of that checkpoint.
pub(crate) fn decode_producers(
    sequence: u64,
    bytes: &[u8],
) -> Result<HashMap<PartitionId, Producers>, Short> {
    let (body, crc) = bytes.split_last_chunk::<4>().ok_or(Short)?;
    if crc32c(body).to_le_bytes() != *crc || !body.starts_with(MAGIC) {
        return Err(Short);
    }
    let mut fields = Fields::new(&body[MAGIC.len()..]);
    if fields.u64()? != sequence {
        return Err(Short);
    }
    let mut partitions = HashMap::new();
    while fields.remaining() > 0 {
        let partition = PartitionId(fields.u64()?);
        let mut producers = Producers::default();
        for _ in 0..fields.count(19)? {
            let id = fields.i64()?;
            let epoch = fields.i16()?;
            let last_offset = fields.u64()?;
            let count = usize::from(fields.u8()?).min(BATCHES_PER_PRODUCER);
            let mut batches = VecDeque::with_capacity(count);
            for _ in 0..count {
                batches.push_back(ProducerBatch {
                    first_sequence: fields.i32()?,
                    last_sequence: fields.i32()?,
                    base_offset: fields.u64()?,
                });
            }
            producers.restore(id, epoch, last_offset, batches);
        }
        partitions.insert(partition, producers);
    }
    Ok(partitions)
}
