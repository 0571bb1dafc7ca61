//! Reading: stored batches back into records. Everything here may wait for the disk.

use bytes::Bytes;
use courant_log::batch::records;
use courant_log::{BatchHeader, Log, PartitionId, ReadError as LogError};

use super::Shared;
use crate::limits::{BATCH_DECODED_BYTES_MAX, DECODED_BYTES_MAX, SHARE_BYTES_MIN};
use crate::{
    Ends, FetchError, Fetched, Header, Partition, Position, ReadBack, ReadError, Record, TimedOffset,
};

/// A partition that is read, and from where.
#[derive(Clone, Debug)]
pub(super) struct Wanted {
    pub(super) partition: Partition,
    pub(super) id: PartitionId,
    pub(super) offset: u64,
}

/// What one look at several partitions found.
#[derive(Debug, Default)]
pub(super) struct Round {
    pub(super) fetched: Vec<Fetched>,
    /// Partitions in which nothing was found but offsets without records, and the offset behind them.
    pub(super) passed: Vec<(Partition, u64)>,
    /// The ends that were seen of partitions without more.
    pub(super) seen: Vec<(PartitionId, u64)>,
    /// The first partition that cannot be read, and why. Nothing behind it was looked at.
    pub(super) failed: Option<(Partition, FetchError)>,
}

/// Records of one partition, and how far they reach.
struct Decoded {
    records: Vec<Record>,
    next_offset: u64,
    /// Bytes of keys, values and headers.
    bytes: usize,
}

/// Reads `bytes_max` bytes of whole batches over all of `wanted`, and at least one batch if there is any. Each
/// partition has its share, and what those before it have not needed of theirs: whoever handles events of
/// different keys side by side finds keys of all partitions in what was read.
pub(super) fn round(log: &Log, wanted: Vec<Wanted>, bytes_max: usize) -> Round {
    let mut round = Round::default();
    let mut bytes_left = bytes_max;
    let mut decoded_left = DECODED_BYTES_MAX;
    for (wanted, sharing) in with_sharing(wanted) {
        if bytes_left == 0 || decoded_left == 0 {
            break;
        }
        let at_least_one = round.fetched.is_empty();
        let bytes = share(bytes_left, sharing);
        let read = match log.read(wanted.id, wanted.offset, bytes, at_least_one) {
            Ok(read) => read,
            Err(error) => {
                let error = from_read(error, &wanted);
                round.failed = Some((wanted.partition, error));
                break;
            }
        };
        if read.bytes.is_empty() {
            round.seen.push((wanted.id, read.high_watermark));
            continue;
        }
        bytes_left = bytes_left.saturating_sub(read.bytes.len());
        match decode(&wanted, &read.bytes, decoded_left) {
            Ok(Decoded { records, next_offset, .. }) if records.is_empty() => {
                round.passed.push((wanted.partition, next_offset));
            }
            Ok(Decoded { records, next_offset, bytes }) => {
                decoded_left = decoded_left.saturating_sub(bytes);
                let (start, end) = (read.log_start, read.high_watermark);
                round.fetched.push(Fetched { partition: wanted.partition, records, next_offset, start, end });
            }
            Err(error) => {
                round.failed = Some((wanted.partition, error));
                break;
            }
        }
    }
    round
}

/// Each partition, and how many share what is left when it has its turn.
fn with_sharing(wanted: Vec<Wanted>) -> impl Iterator<Item = (Wanted, usize)> {
    let sharing = (1..=wanted.len()).rev();
    wanted.into_iter().zip(sharing)
}

/// What one of so many may take. A small share would cost more reads than it is worth.
fn share(bytes_left: usize, sharing: usize) -> usize {
    (bytes_left / sharing.max(1)).max(SHARE_BYTES_MIN).min(bytes_left)
}

/// Takes the records from the wanted offset on out of whole batches, until they are `bytes_max` bytes.
fn decode(wanted: &Wanted, bytes: &Bytes, bytes_max: usize) -> Result<Decoded, FetchError> {
    let mut decoded = Decoded { records: Vec::new(), next_offset: wanted.offset, bytes: 0 };
    let mut at = 0;
    while at < bytes.len() && decoded.bytes < bytes_max {
        let header = BatchHeader::parse(&bytes[at..]).map_err(|error| damaged(wanted, &error.to_string()))?;
        let end = at + header.total_bytes();
        let batch = bytes.get(at..end).ok_or_else(|| damaged(wanted, "a batch is cut off"))?;
        let next_offset = behind(&header);
        match records_of(&header, batch) {
            Ok(found) => {
                let from = i64::try_from(wanted.offset).unwrap_or(i64::MAX);
                for record in found.into_iter().filter(|record| record.offset >= from) {
                    let record = converted(&wanted.partition, record);
                    decoded.bytes += record.payload_bytes();
                    decoded.records.push(record);
                }
            }
            // What is sound comes first; the next look begins here.
            Err(_) if !decoded.records.is_empty() => break,
            Err(error) => {
                return Err(FetchError::Undecodable {
                    partition: wanted.partition.clone(),
                    offset: offset_of(header.base_offset),
                    next_offset,
                    reason: error.to_string(),
                });
            }
        }
        decoded.next_offset = next_offset;
        at = end;
    }
    Ok(decoded)
}

/// The records of a batch. Marks that a broker has written are none.
fn records_of(header: &BatchHeader, batch: &[u8]) -> Result<Vec<records::Record>, records::RecordError> {
    if header.is_control() {
        return Ok(Vec::new());
    }
    records::decode(batch, BATCH_DECODED_BYTES_MAX)
}

/// Reads the record at one position.
pub(super) fn read_back(shared: &Shared, position: Position) -> Result<ReadBack, ReadError> {
    let Position { partition, offset } = position;
    let Some(id) = shared.partition(&partition) else {
        return Err(ReadError::UnknownPartition { partition });
    };
    let read = match shared.log.read(id, offset, 1, true) {
        Ok(read) => read,
        Err(LogError::OutOfRange { start, .. }) if offset < start => return Ok(ReadBack::Before { start }),
        Err(LogError::OutOfRange { end, .. }) => return Ok(ReadBack::Behind { end }),
        Err(LogError::UnknownPartition) => return Err(ReadError::UnknownPartition { partition }),
        Err(error) => return Err(ReadError::Failed { partition, reason: error.to_string() }),
    };
    if offset >= read.high_watermark {
        return Ok(ReadBack::Behind { end: read.high_watermark });
    }
    if read.bytes.is_empty() {
        return Ok(ReadBack::Gap);
    }
    let failed = |reason: String| ReadError::Failed { partition: partition.clone(), reason };
    let header = BatchHeader::parse(&read.bytes).map_err(|error| failed(error.to_string()))?;
    let found = records_of(&header, &read.bytes).map_err(|error| failed(error.to_string()))?;
    let record = found.into_iter().find(|record| offset_of(record.offset) == offset);
    Ok(record.map_or(ReadBack::Gap, |record| ReadBack::Found(converted(&partition, record))))
}

/// The ends of a partition.
pub(super) fn ends(shared: &Shared, partition: Partition) -> Result<Ends, ReadError> {
    if shared.is_closed() {
        return Err(ReadError::Closed);
    }
    let offsets = shared.partition(&partition).and_then(|id| shared.log.offsets(id));
    match offsets {
        Some(offsets) => Ok(Ends { start: offsets.start, end: offsets.high_watermark }),
        None => Err(ReadError::UnknownPartition { partition }),
    }
}

/// The first record of a partition that is not earlier than a time.
pub(super) fn offset_for_time(
    shared: &Shared,
    (partition, at_ms): (Partition, i64),
) -> Result<Option<TimedOffset>, ReadError> {
    let Some(id) = shared.partition(&partition) else {
        return Err(ReadError::UnknownPartition { partition });
    };
    match shared.log.offset_for_time(id, at_ms) {
        Ok(found) => {
            Ok(found.map(|found| TimedOffset { offset: found.offset, timestamp_ms: found.timestamp_ms }))
        }
        Err(LogError::UnknownPartition) => Err(ReadError::UnknownPartition { partition }),
        Err(error) => Err(ReadError::Failed { partition, reason: error.to_string() }),
    }
}

fn from_read(error: LogError, wanted: &Wanted) -> FetchError {
    let (partition, offset) = (wanted.partition.clone(), wanted.offset);
    match error {
        LogError::UnknownPartition => FetchError::UnknownPartition { partition },
        LogError::OutOfRange { start, end } => FetchError::OutOfRange { partition, offset, start, end },
        LogError::Quarantined { ref offsets } => {
            let next_offset = Some(offsets.end);
            FetchError::Damaged { partition, offset, next_offset, reason: error.to_string() }
        }
        LogError::Corrupt { .. } => damaged(wanted, &error.to_string()),
        other => FetchError::Failed { partition, reason: other.to_string() },
    }
}

fn damaged(wanted: &Wanted, reason: &str) -> FetchError {
    FetchError::Damaged {
        partition: wanted.partition.clone(),
        offset: wanted.offset,
        next_offset: None,
        reason: reason.to_owned(),
    }
}

/// The offset behind a batch.
fn behind(header: &BatchHeader) -> u64 {
    offset_of(header.last_offset()).saturating_add(1)
}

/// An offset as the log gives it; it never gives a negative one.
fn offset_of(offset: i64) -> u64 {
    u64::try_from(offset).unwrap_or(0)
}

fn converted(partition: &Partition, record: records::Record) -> Record {
    Record {
        position: partition.at(offset_of(record.offset)),
        timestamp_ms: record.timestamp,
        key: record.key,
        value: record.value,
        headers: record.headers.into_iter().map(|(name, value)| Header { name, value }).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The last one has all that is left, many have a share that is worth a read, and nobody has more than
    /// there is.
    #[test]
    fn shares_are_what_is_left_over_those_who_share_it() {
        assert_eq!(share(1 << 20, 8), 1 << 17);
        assert_eq!(share(1 << 20, 1), 1 << 20);
        assert_eq!(share(1 << 20, 500), SHARE_BYTES_MIN);
        assert_eq!((share(1, 8), share(SHARE_BYTES_MIN - 1, 2)), (1, SHARE_BYTES_MIN - 1));
    }
}
