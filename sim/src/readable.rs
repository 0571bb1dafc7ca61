//! What a reader can get from a partition of which some is damaged.

use std::ops::Range;

use courant_log::{BatchHeader, Log, PartitionId, ReadError, batch};

use crate::tiny::read_as_served;

/// What was given and what was refused.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Readable {
    /// Base offset, checksum and event count of each batch, in order.
    pub batches: Vec<(u64, u32, u64)>,
    /// Offsets that are in quarantine; ranges that touch are one.
    pub refused: Vec<Range<u64>>,
}

/// Reads a partition from its beginning to its end, behind each refusal again.
///
/// # Panics
/// When a read answers with what is no whole, intact batch at or behind the offset, or fails in a way
/// that repeating it does not cure.
pub fn readable(log: &Log, partition: PartitionId) -> Readable {
    readable_with(log, partition, |_| {})
}

/// As [`readable`], and shows every batch that was given.
pub(crate) fn readable_with(log: &Log, partition: PartitionId, mut look: impl FnMut(&[u8])) -> Readable {
    let mut readable = Readable::default();
    let ends = log.offsets(partition).expect("exists");
    let mut offset = ends.start;
    let mut failed = 0;
    while offset < ends.high_watermark {
        let mut bytes = match read_as_served(log, partition, offset) {
            Ok(read) => read.bytes,
            Err(ReadError::Quarantined { offsets }) => {
                assert!(offsets.contains(&offset), "{offset} is not in {offsets:?}");
                offset = offsets.end;
                readable.refuse(offsets);
                continue;
            }
            Err(error) => {
                failed += 1;
                assert!(failed <= 3, "offset {offset} fails again: {error}");
                continue;
            }
        };
        if bytes.is_empty() {
            break;
        }
        while !bytes.is_empty() {
            let header = BatchHeader::parse(&bytes).expect("a whole batch");
            let one = bytes.split_to(header.total_bytes());
            batch::verify_crc(&one).expect("intact");
            let base = u64::try_from(header.base_offset).expect("positive");
            let end = u64::try_from(header.last_offset()).expect("positive") + 1;
            assert!(end > offset, "the batch at {base} lies before {offset}");
            look(&one);
            readable.batches.push((base, header.crc, u64::try_from(header.record_count).expect("positive")));
            offset = end;
        }
    }
    readable
}

impl Readable {
    fn refuse(&mut self, offsets: Range<u64>) {
        match self.refused.last_mut().filter(|last| last.end >= offsets.start) {
            Some(last) => last.end = last.end.max(offsets.end),
            None => self.refused.push(offsets),
        }
    }
}
