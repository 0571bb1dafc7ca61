//! Records out of the log: decompressed within a bound, and what is not there is named.
//!
//! Everything here may wait for the disk.

use std::ops::{ControlFlow, Range};

use bytes::Bytes;
use courant_log::batch::glance::{Glance, glance};
use courant_log::batch::records::{Record, RecordError, each};
use courant_log::{BatchHeader, Log, PartitionId, ReadError};
use serde::Serialize;

use super::shown::size;
use crate::api::limits::{
    RECORD_DECOMPRESSED_BYTES_MAX, RECORD_HEADERS_MAX, RECORD_READ_BYTES, RECORD_UNPACKED_BYTES,
};

/// What whoever looks at a record says of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Taken {
    /// The next one, please.
    Yes,
    /// There is no room for this one; reading goes on with it another time.
    No,
}

/// How far a look has come.
#[derive(Debug)]
pub(crate) struct Passed {
    /// Where the next look begins.
    pub(crate) next: u64,
    /// What is not there, if the look ended because of it.
    pub(crate) hole: Option<Hole>,
    /// Bytes that were read, as they are stored.
    pub(crate) bytes: usize,
    /// Bytes that they became, about.
    unpacked: usize,
}

/// Offsets whose records cannot be had.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Hole {
    pub(crate) first: u64,
    /// `None`: nobody knows where the damage ends.
    pub(crate) last: Option<u64>,
    pub(crate) code: &'static str,
    pub(crate) reason: String,
}

/// A hole of one partition as answers show it.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Gap {
    pub(crate) topic: String,
    pub(crate) partition: u32,
    first_offset: u64,
    last_offset: Option<u64>,
    code: &'static str,
    reason: String,
}

impl Gap {
    pub(crate) fn of(topic: &str, partition: u32, hole: Hole) -> Self {
        let Hole { first, last, code, reason } = hole;
        Self { topic: topic.to_owned(), partition, first_offset: first, last_offset: last, code, reason }
    }
}

/// Shows the records of `wanted` in order, as far as one read of the log has them.
///
/// # Errors
/// Only what is no matter of these records: the partition is gone, or the storage failed.
pub(crate) fn read(
    log: &Log,
    id: PartitionId,
    wanted: Range<u64>,
    mut look: impl FnMut(&Record) -> Taken,
) -> Result<Passed, ReadError> {
    by_batch(log, id, wanted, |batch, begin, course| {
        each(batch, begin, RECORD_DECOMPRESSED_BYTES_MAX, RECORD_HEADERS_MAX, |record| {
            course.pass(record.offset, size(&record), || look(&record))
        })
    })
}

/// As [`read`], for who wants nothing of records without headers but where they are.
///
/// # Errors
/// As [`read`].
pub(crate) fn glance_over(
    log: &Log,
    id: PartitionId,
    wanted: Range<u64>,
    mut look: impl FnMut(&Glance) -> Taken,
) -> Result<Passed, ReadError> {
    by_batch(log, id, wanted, |batch, begin, course| {
        glance(batch, begin, RECORD_DECOMPRESSED_BYTES_MAX, RECORD_HEADERS_MAX, |seen| {
            let (offset, bytes) = match &seen {
                Glance::Bare { offset, bytes, .. } => (*offset, *bytes),
                Glance::Whole(record) => (record.offset, size(record)),
            };
            course.pass(offset, bytes, || look(&seen))
        })
    })
}

/// How far the look through one batch has come.
struct Course<'a> {
    end: u64,
    passed: &'a mut Passed,
    unpacked: usize,
}

impl Course<'_> {
    /// Shows the next record, unless it stands behind what is wanted.
    fn pass(&mut self, at: i64, bytes: usize, look: impl FnOnce() -> Taken) -> ControlFlow<()> {
        self.unpacked += bytes;
        let at = offset(at);
        if at >= self.end {
            self.passed.next = self.end;
            return ControlFlow::Break(());
        }
        if look() == Taken::No {
            self.passed.next = at;
            return ControlFlow::Break(());
        }
        self.passed.next = at.saturating_add(1);
        // What stands behind the last one that is wanted is not looked at.
        if self.passed.next < self.end { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    }
}

/// Reads batches, and has `records` go through each of them, from an offset on, until that breaks off.
fn by_batch(
    log: &Log,
    id: PartitionId,
    wanted: Range<u64>,
    mut records: impl FnMut(&Bytes, i64, &mut Course<'_>) -> Result<Option<()>, RecordError>,
) -> Result<Passed, ReadError> {
    let mut passed = Passed { next: wanted.start, hole: None, bytes: 0, unpacked: 0 };
    let read = match log.read(id, wanted.start, RECORD_READ_BYTES, true) {
        Ok(read) => read,
        Err(error) => return refused(error, &wanted),
    };
    if read.bytes.is_empty() {
        passed.next = wanted.end;
        return Ok(passed);
    }
    passed.bytes = read.bytes.len();
    let mut rest = read.bytes;
    while !rest.is_empty() && passed.next < wanted.end && passed.unpacked < RECORD_UNPACKED_BYTES {
        let Some((header, batch)) = first_batch(&mut rest) else {
            let reason = "the batch there is none".to_owned();
            passed.hole = Some(Hole { first: passed.next, last: None, code: "damaged", reason });
            passed.next = wanted.end;
            return Ok(passed);
        };
        if !through(&header, &batch, &wanted, &mut passed, &mut records) {
            return Ok(passed);
        }
    }
    passed.next = passed.next.min(wanted.end);
    Ok(passed)
}

/// Goes through one batch. False: the look ends here.
fn through(
    header: &BatchHeader,
    batch: &Bytes,
    wanted: &Range<u64>,
    passed: &mut Passed,
    records: &mut impl FnMut(&Bytes, i64, &mut Course<'_>) -> Result<Option<()>, RecordError>,
) -> bool {
    let last = offset(header.last_offset());
    let behind = last.saturating_add(1).max(passed.next);
    // Marks of the broker are nobody's events.
    if header.is_control() {
        passed.next = behind;
        return true;
    }
    let begin = i64::try_from(wanted.start).unwrap_or(i64::MAX);
    let mut course = Course { end: wanted.end, passed: &mut *passed, unpacked: 0 };
    let shown = records(batch, begin, &mut course);
    let unpacked = course.unpacked;
    passed.unpacked += unpacked.max(batch.len());
    match shown {
        Ok(Some(())) => false,
        // Compaction may have taken the last ones.
        Ok(None) => {
            passed.next = behind;
            true
        }
        Err(error) => {
            let first = offset(header.base_offset).max(passed.next);
            let last = Some(last.min(wanted.end.saturating_sub(1)));
            passed.hole = Some(Hole { first, last, code: "undecodable", reason: error.to_string() });
            passed.next = behind.min(wanted.end);
            false
        }
    }
}

/// Cuts the first batch off.
fn first_batch(rest: &mut Bytes) -> Option<(BatchHeader, Bytes)> {
    let header = BatchHeader::parse(rest).ok()?;
    let bytes = header.total_bytes();
    (bytes <= rest.len()).then(|| (header, rest.split_to(bytes)))
}

/// What a look comes to where the log has nothing to read.
fn refused(error: ReadError, wanted: &Range<u64>) -> Result<Passed, ReadError> {
    let to_end = |hole| Passed { next: wanted.end, hole, bytes: 0, unpacked: 0 };
    let reason = error.to_string();
    match error {
        ReadError::Quarantined { offsets } => {
            let next = offsets.end.max(wanted.start.saturating_add(1)).min(wanted.end);
            let last = Some(next.saturating_sub(1));
            let hole = Hole { first: wanted.start, last, code: "damaged", reason };
            Ok(Passed { hole: Some(hole), next, bytes: 0, unpacked: 0 })
        }
        ReadError::Corrupt { .. } => {
            Ok(to_end(Some(Hole { first: wanted.start, last: None, code: "damaged", reason })))
        }
        ReadError::OutOfRange { start, .. } if wanted.start < start => {
            let next = start.min(wanted.end);
            let reason = format!("they were deleted: the partition begins at offset {start}");
            let last = Some(next.saturating_sub(1));
            let hole = Hole { first: wanted.start, last, code: "deleted", reason };
            Ok(Passed { hole: Some(hole), next, bytes: 0, unpacked: 0 })
        }
        ReadError::OutOfRange { .. } => Ok(to_end(None)),
        error => Err(error),
    }
}

/// An offset as the log gives it; it never gives a negative one.
pub(crate) fn offset(offset: i64) -> u64 {
    u64::try_from(offset).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::{Arc, mpsc};

    use courant_core::topic::TopicName;
    use courant_log::batch::records::{NewRecord, encode};
    use courant_log::storage::MemoryStorage;
    use courant_log::{Batch, Codec, LogConfig, NewTopic, SystemClock, SystemEntropy};

    fn log() -> (Log, PartitionId) {
        let mut config = LogConfig::new(Arc::new(SystemClock), Arc::new(SystemEntropy));
        config.reserve_bytes = 0;
        let (log, _) = Log::open(Arc::new(MemoryStorage::new(64 * 1024 * 1024)), config).expect("opens");
        let (done, created) = mpsc::channel();
        let name = TopicName::new("t").expect("legal");
        log.create_topic(NewTopic { name, partitions: 1, configs: Default::default() }, move |result| {
            done.send(result).expect("the test waits");
        });
        let topic = created.recv().expect("an answer").expect("created");
        (log, topic.partitions[0])
    }

    fn append(log: &Log, id: PartitionId, values: &[String], codec: Codec) {
        let record = |value: &String| NewRecord {
            timestamp: 5,
            value: Some(value.clone().into()),
            ..NewRecord::default()
        };
        append_records(log, id, &values.iter().map(record).collect::<Vec<_>>(), codec);
    }

    fn append_records(log: &Log, id: PartitionId, records: &[NewRecord], codec: Codec) {
        let batch = Batch::validate(encode(records, codec, None).expect("a batch")).expect("a good one");
        let (done, appended) = mpsc::channel();
        log.append(id, batch, move |result| done.send(result).expect("the test waits"));
        appended.recv().expect("an answer").expect("appended");
    }

    fn offsets(log: &Log, id: PartitionId, wanted: Range<u64>, room: usize) -> (Vec<i64>, Passed) {
        let mut seen = Vec::new();
        let passed = read(log, id, wanted, |record| {
            if seen.len() == room {
                return Taken::No;
            }
            seen.push(record.offset);
            Taken::Yes
        });
        (seen, passed.expect("readable"))
    }

    #[test]
    fn every_codec_is_read_from_any_offset_to_any_other() {
        let (log, id) = log();
        let values: Vec<_> = (0..4).map(|number| format!("value {number}")).collect();
        for codec in Codec::ALL {
            append(&log, id, &values, codec);
        }
        for start in 0..20 {
            for end in start..=20 {
                let (seen, passed) = offsets(&log, id, start..end, 100);
                let wanted: Vec<i64> = (start..end).map(|offset| offset as i64).collect();
                assert_eq!((seen, passed.next, passed.hole), (wanted, end, None), "{start}..{end}");
            }
        }
    }

    #[test]
    fn what_was_not_taken_comes_next() {
        let (log, id) = log();
        append(&log, id, &vec!["v".to_owned(); 9], Codec::Lz4);
        let (seen, passed) = offsets(&log, id, 2..9, 3);
        assert_eq!((seen, passed.next), (vec![2, 3, 4], 5));
        let (seen, passed) = offsets(&log, id, 5..9, 0);
        assert_eq!((seen, passed.next), (vec![], 5), "a look that takes nothing stays where it is");
        let (seen, passed) = offsets(&log, id, 9..9, 10);
        assert_eq!((seen, passed.next), (vec![], 9), "there is nothing at the end");
    }

    /// Who takes nothing of records without headers comes as far as others, and sees the same.
    #[test]
    fn a_glance_comes_as_far_as_a_look() {
        let (log, id) = log();
        let header = |name: &'static str| (Bytes::from_static(name.as_bytes()), None);
        let record = |headers: Vec<_>| NewRecord { headers, value: Some("v".into()), ..NewRecord::default() };
        let records = [record(vec![]), record(vec![header("a")]), record(vec![]), record(vec![])];
        for codec in [Codec::None, Codec::Zstd] {
            append_records(&log, id, &records, codec);
        }
        for (start, end, room) in (0..8).flat_map(|start| (start..=8).map(move |end| (start, end, end / 2))) {
            let (whole, passed) = offsets(&log, id, start..end, room as usize);
            let mut seen = Vec::new();
            let glanced = glance_over(&log, id, start..end, |glance| {
                if seen.len() == room as usize {
                    return Taken::No;
                }
                match glance {
                    Glance::Bare { offset, .. } => seen.push(*offset),
                    Glance::Whole(record) => {
                        assert_eq!((record.headers.len(), record.offset % 4), (1, 1));
                        seen.push(record.offset);
                    }
                }
                Taken::Yes
            });
            let glanced = glanced.expect("readable");
            assert_eq!((seen, glanced.next, glanced.hole), (whole, passed.next, None), "{start}..{end}");
        }
    }

    /// A small batch can become a large one: what is counted is what the look has gone through.
    #[test]
    fn a_look_ends_where_small_batches_have_become_many_bytes() {
        let (log, id) = log();
        let large = vec!["x".repeat(RECORD_UNPACKED_BYTES / 4)];
        for _ in 0..6 {
            append(&log, id, &large, Codec::Zstd);
        }
        let (seen, passed) = offsets(&log, id, 0..6, 10);
        assert_eq!((seen, passed.next), (vec![0, 1, 2, 3], 4));
        assert!(passed.bytes < RECORD_READ_BYTES && passed.unpacked >= RECORD_UNPACKED_BYTES, "{passed:?}");
        let passed = glance_over(&log, id, 0..6, |_| Taken::Yes).expect("readable");
        assert_eq!(passed.next, 4, "also where nothing is taken out");
        let (seen, passed) = offsets(&log, id, 4..6, 10);
        assert_eq!((seen, passed.next), (vec![4, 5], 6));
    }

    #[test]
    fn a_batch_that_grows_too_large_is_named_and_passed() {
        let (log, id) = log();
        append(&log, id, &["before".to_owned()], Codec::None);
        append(&log, id, &vec!["x".repeat(RECORD_DECOMPRESSED_BYTES_MAX / 4); 5], Codec::Zstd);
        append(&log, id, &["behind".to_owned()], Codec::None);
        let (seen, passed) = offsets(&log, id, 0..7, 10);
        assert_eq!((seen, passed.next), (vec![0], 6));
        let hole = passed.hole.expect("it is named");
        assert_eq!((hole.first, hole.last, hole.code), (1, Some(5), "undecodable"));
        let (seen, passed) = offsets(&log, id, 3..4, 10);
        assert_eq!((seen, passed.next), (vec![], 4));
        let hole = passed.hole.expect("it is named");
        assert_eq!((hole.first, hole.last), (3, Some(3)), "only what was asked for is named");
        assert_eq!(offsets(&log, id, 6..7, 10).0, [6]);
    }

    #[test]
    fn a_record_with_too_many_headers_is_named_with_what_stands_behind_it() {
        let (log, id) = log();
        let record = |headers: usize| NewRecord {
            headers: vec![(Bytes::new(), None); headers],
            ..NewRecord::default()
        };
        let records = [record(1), record(RECORD_HEADERS_MAX), record(RECORD_HEADERS_MAX + 1), record(0)];
        append_records(&log, id, &records, Codec::Zstd);
        let (seen, passed) = offsets(&log, id, 0..4, 10);
        assert_eq!((seen, passed.next), (vec![0, 1], 4));
        let hole = passed.hole.expect("it is named");
        assert_eq!((hole.first, hole.last, hole.code), (2, Some(3), "undecodable"));
        let (seen, passed) = offsets(&log, id, 1..2, 10);
        assert_eq!((seen, passed.next, passed.hole), (vec![1], 2, None), "only what was asked for is named");
    }

    #[test]
    fn damage_is_named_as_far_as_it_was_asked_for() {
        let damaged = || ReadError::Quarantined { offsets: 10..20 };
        let passed = refused(damaged(), &(12..100)).expect("it is named");
        assert_eq!(passed.next, 20);
        let hole = passed.hole.expect("it is named");
        assert_eq!((hole.first, hole.last, hole.code), (12, Some(19), "damaged"));
        let passed = refused(damaged(), &(12..15)).expect("it is named");
        assert_eq!((passed.next, passed.hole.expect("named").last), (15, Some(14)));
        let passed = refused(ReadError::OutOfRange { start: 5, end: 9 }, &(2..9)).expect("it is named");
        assert_eq!((passed.next, passed.hole.expect("named").code), (5, "deleted"));
        assert!(refused(ReadError::UnknownPartition, &(2..9)).is_err());
    }
}
