//! Reading what is there, batch by batch, with every checksum compared.

use super::plan::Place;
use crate::exit::{Exit, Failure};
use courant_log::batch::records::{self, Record};
use courant_log::batch::verify_crc;
use courant_log::{BatchHeader, Log, Offsets, PartitionId};
use std::fmt::Display;

/// Bytes that are read at a time.
const READ_BYTES: usize = 256 * 1024;

/// Bytes that the events of one batch may take: many times what is written.
const BATCH_BYTES_MAX: usize = 1024 * 1024;

/// One batch as it is stored.
#[derive(Debug)]
pub(super) struct Stored<'a> {
    pub(super) header: &'a BatchHeader,
    /// All of it, header included.
    pub(super) bytes: &'a [u8],
    pub(super) events: &'a [Record],
}

/// Hands over every batch of a partition, from its start to its high watermark, and says where those
/// are.
///
/// # Errors
/// What cannot be read or is no whole batch, and whatever `each` says.
pub(super) fn read_partition(
    log: &Log,
    (place, id): (Place, PartitionId),
    mut each: impl FnMut(Stored<'_>) -> Result<(), Failure>,
) -> Result<Offsets, Failure> {
    let failed = |offset: u64, error: &dyn Display| unreadable(place, offset, error);
    let ends = log.offsets(id).ok_or_else(|| failed(0, &"the partition does not exist"))?;
    let mut next = ends.start;
    while next < ends.high_watermark {
        let read = log.read(id, next, READ_BYTES, true).map_err(|error| failed(next, &error))?;
        if read.bytes.is_empty() {
            return Err(failed(next, &"nothing is there, and the high watermark is above it"));
        }
        let mut rest = &read.bytes[..];
        while !rest.is_empty() {
            let header = BatchHeader::parse(rest).map_err(|error| failed(next, &error))?;
            let (bytes, behind) = rest
                .split_at_checked(header.total_bytes())
                .ok_or_else(|| failed(next, &"a batch that is not whole was read"))?;
            verify_crc(bytes).map_err(|error| failed(next, &error))?;
            let events = records::decode(bytes, BATCH_BYTES_MAX).map_err(|error| failed(next, &error))?;
            each(Stored { header: &header, bytes, events: &events })?;
            let last = u64::try_from(header.last_offset()).ok().filter(|last| *last >= next);
            next = last.ok_or_else(|| failed(next, &"a batch of lower offsets was read"))?.saturating_add(1);
            rest = behind;
        }
    }
    Ok(ends)
}

fn unreadable(place: Place, offset: u64, error: &dyn Display) -> Failure {
    let Place { topic, partition } = place;
    let sentence = format!("offset {offset} in partition {partition} of topic `{topic}`: {error}");
    Failure::new(Exit::Failed, sentence)
}
