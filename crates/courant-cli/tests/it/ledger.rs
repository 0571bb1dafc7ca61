//! What producers sent and were promised, held against what a consumer reads.
//!
//! A value carries topic, partition, producer, sequence and a checksum of all that, so that a record
//! that turns up somewhere else, twice, changed or out of order is seen. A sequence counts one
//! producer's records in one partition from 0 without gaps.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use crate::raw::crc32c;

/// Which record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Id {
    pub(crate) partition: i32,
    pub(crate) producer: u32,
    pub(crate) sequence: u64,
}

/// A record as a consumer saw it.
#[derive(Clone, Debug)]
pub(crate) struct Read {
    pub(crate) partition: i32,
    pub(crate) offset: i64,
    pub(crate) value: Option<Vec<u8>>,
}

/// Acknowledged records and the offsets that the acknowledgements named.
pub(crate) type Acked = HashMap<Id, i64>;

/// The history of one topic.
pub(crate) struct Ledger {
    topic: String,
    history: Mutex<History>,
    changed: Condvar,
}

#[derive(Default)]
struct History {
    /// The next sequence of each partition and producer.
    sent: HashMap<(i32, u32), u64>,
    acked: Acked,
    failed: Vec<(Id, String)>,
    /// How many acknowledgements the test waits for.
    awaited: usize,
}

/// Records that a load may be ahead of what its test waits for.
const AHEAD: usize = 2_000;

impl Ledger {
    pub(crate) fn new(topic: &str) -> Arc<Ledger> {
        Arc::new(Ledger { topic: topic.to_owned(), history: Mutex::default(), changed: Condvar::new() })
    }

    pub(crate) fn topic(&self) -> &str {
        &self.topic
    }

    /// Whether the load may send another record. It stays a little ahead of what the test waits for
    /// and no further: the amount of data must not depend on the speed of the machine.
    pub(crate) fn may_send(&self) -> bool {
        let history = self.history.lock().unwrap();
        let sent: u64 = history.sent.values().sum();
        sent < (history.awaited + AHEAD) as u64
    }

    /// The next record of a producer, noted as sent.
    pub(crate) fn sending(&self, partition: i32, producer: u32) -> Id {
        let mut history = self.history.lock().unwrap();
        let next = history.sent.entry((partition, producer)).or_default();
        let sequence = *next;
        *next += 1;
        Id { partition, producer, sequence }
    }

    /// The client says that the server has this record. librdkafka names no offset (below 0) when
    /// the server recognised a duplicate without naming one.
    pub(crate) fn acked(&self, id: Id, offset: i64) {
        self.history.lock().unwrap().acked.insert(id, offset);
        self.changed.notify_all();
    }

    /// The client has given this record up.
    pub(crate) fn failed(&self, id: Id, error: String) {
        self.history.lock().unwrap().failed.push((id, error));
        self.changed.notify_all();
    }

    pub(crate) fn acked_count(&self) -> usize {
        self.history.lock().unwrap().acked.len()
    }

    /// What is acknowledged by now: the promises that a later reading must keep.
    pub(crate) fn acked_now(&self) -> Acked {
        self.history.lock().unwrap().acked.clone()
    }

    /// Records that a client gave up, with its reasons.
    pub(crate) fn failures(&self) -> Vec<(Id, String)> {
        self.history.lock().unwrap().failed.clone()
    }

    /// Waits until so many records are acknowledged in all, or `within` has passed.
    pub(crate) fn reaches(&self, acked: usize, within: Duration) -> bool {
        let deadline = Instant::now() + within;
        let mut history = self.history.lock().unwrap();
        history.awaited = acked;
        self.changed.notify_all();
        while history.acked.len() < acked {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            history = self.changed.wait_timeout(history, left).unwrap().0;
        }
        true
    }

    /// Waits for any news, at most this long.
    pub(crate) fn wait_for_news(&self, within: Duration) {
        let history = self.history.lock().unwrap();
        drop(self.changed.wait_timeout(history, within).unwrap());
    }

    /// The value of a record.
    pub(crate) fn value(&self, id: Id) -> Vec<u8> {
        let padding = "x".repeat(20 + usize::try_from(id.sequence * 37 % 180).unwrap());
        let body = format!("{} {} {} {} {padding}", self.topic, id.partition, id.producer, id.sequence);
        let crc = crc32c(body.as_bytes());
        format!("{body} {crc:08x}").into_bytes()
    }

    /// Holds a reading, in the order of offsets per partition, against the history: `acked` from
    /// before the reading, everything sent until now.
    pub(crate) fn check(&self, acked: &Acked, reading: &[Read]) -> Verdict {
        let sent = self.history.lock().unwrap().sent.clone();
        let mut verdict = Verdict::default();
        let mut seen = HashSet::new();
        let mut last: HashMap<(i32, u32), u64> = HashMap::new();
        for read in reading {
            let known = self.parse(read.value.as_deref()).filter(|id| {
                let next = sent.get(&(id.partition, id.producer)).copied();
                id.partition == read.partition && next.is_some_and(|next| id.sequence < next)
            });
            let Some(id) = known else {
                verdict.phantom.push(read.clone());
                continue;
            };
            if !seen.insert(id) {
                verdict.duplicated.push(id);
                continue;
            }
            let newest = last.entry((id.partition, id.producer)).or_default();
            if id.sequence < *newest {
                verdict.reordered.push(id);
            }
            *newest = id.sequence.max(*newest);
            if let Some(promised) = acked.get(&id)
                && *promised >= 0
                && *promised != read.offset
            {
                verdict.moved.push((id, *promised, read.offset));
            }
        }
        verdict.lost = acked.keys().filter(|id| !seen.contains(id)).copied().collect();
        verdict
    }

    fn parse(&self, value: Option<&[u8]>) -> Option<Id> {
        let text = std::str::from_utf8(value?).ok()?;
        let (body, crc) = text.rsplit_once(' ')?;
        if u32::from_str_radix(crc, 16).ok()? != crc32c(body.as_bytes()) {
            return None;
        }
        let mut words = body.split(' ');
        (words.next()? == self.topic).then_some(())?;
        Some(Id {
            partition: words.next()?.parse().ok()?,
            producer: words.next()?.parse().ok()?,
            sequence: words.next()?.parse().ok()?,
        })
    }
}

/// Everything that is wrong with a reading.
#[derive(Debug, Default)]
pub(crate) struct Verdict {
    /// Acknowledged and not there.
    pub(crate) lost: Vec<Id>,
    /// There and never sent: another topic's, another partition's, damaged, or invented.
    pub(crate) phantom: Vec<Read>,
    /// There twice.
    pub(crate) duplicated: Vec<Id>,
    /// Behind a later record of the same producer and partition.
    pub(crate) reordered: Vec<Id>,
    /// At another offset than the acknowledgement named (promised, found).
    pub(crate) moved: Vec<(Id, i64, i64)>,
}

impl Verdict {
    /// # Panics
    /// With counts and examples when anything is wrong.
    pub(crate) fn assert_clean(&self, when: &str) {
        let counts = [
            self.lost.len(),
            self.phantom.len(),
            self.duplicated.len(),
            self.reordered.len(),
            self.moved.len(),
        ];
        assert!(
            counts.iter().all(|count| *count == 0),
            "{when}: [lost, phantom, duplicated, reordered, moved] = {counts:?}, for instance \
             {:?} {:?} {:?} {:?} {:?}",
            self.lost.first(),
            self.phantom.first(),
            self.duplicated.first(),
            self.reordered.first(),
            self.moved.first(),
        );
    }
}

/// The checker itself, on histories made by hand: each defect is seen, as what it is.
mod checker {
    use super::{Id, Ledger, Read, Verdict};

    fn id(sequence: u64) -> Id {
        Id { partition: 0, producer: 7, sequence }
    }

    /// Three records acknowledged at offsets 0, 1, 2, then read as `order` says.
    fn read_as(order: &[u64], change: impl Fn(&mut Vec<Read>)) -> Verdict {
        let ledger = Ledger::new("t");
        for offset in 0..3 {
            let sent = ledger.sending(0, 7);
            ledger.acked(sent, offset);
        }
        let unacked = ledger.sending(0, 7);
        assert_eq!(unacked, id(3));
        let mut reading: Vec<Read> = order
            .iter()
            .zip(0..)
            .map(|(sequence, offset)| Read { partition: 0, offset, value: Some(ledger.value(id(*sequence))) })
            .collect();
        change(&mut reading);
        ledger.check(&ledger.acked_now(), &reading)
    }

    #[test]
    fn a_good_reading_is_clean() {
        read_as(&[0, 1, 2], |_| {}).assert_clean("three acknowledged");
        read_as(&[0, 1, 2, 3], |_| {}).assert_clean("and one that was under way");
    }

    #[test]
    fn a_missing_record_is_lost() {
        assert_eq!(read_as(&[0, 1], |_| {}).lost, [id(2)]);
    }

    #[test]
    fn a_record_that_nobody_sent_is_a_phantom() {
        assert_eq!(read_as(&[0, 1, 2, 4], |_| {}).phantom.len(), 1);
    }

    #[test]
    fn a_changed_record_is_a_phantom_and_its_original_lost() {
        let verdict = read_as(&[0, 1, 2], |reading| {
            reading[1].value.as_mut().expect("a value")[3] ^= 1;
        });
        assert_eq!((verdict.phantom.len(), verdict.lost), (1, vec![id(1)]));
    }

    #[test]
    fn a_null_value_is_a_phantom() {
        let verdict = read_as(&[0, 1, 2], |reading| reading[2].value = None);
        assert_eq!(verdict.phantom.len(), 1);
    }

    #[test]
    fn a_record_of_another_partition_is_a_phantom() {
        let verdict = read_as(&[0, 1, 2], |reading| reading[2].partition = 1);
        assert_eq!((verdict.phantom.len(), verdict.lost), (1, vec![id(2)]));
    }

    #[test]
    fn a_record_of_another_topic_is_a_phantom() {
        let other = Ledger::new("u").value(id(2));
        let verdict = read_as(&[0, 1, 2], |reading| reading[2].value = Some(other.clone()));
        assert_eq!(verdict.phantom.len(), 1);
    }

    #[test]
    fn a_record_that_is_there_twice_is_duplicated() {
        assert_eq!(read_as(&[0, 1, 2, 2], |_| {}).duplicated, [id(2)]);
    }

    #[test]
    fn a_record_behind_a_later_one_is_reordered() {
        let verdict = read_as(&[0, 2, 1], |_| {});
        assert_eq!(verdict.reordered, [id(1)]);
        assert_eq!(verdict.moved.len(), 2);
    }

    #[test]
    fn a_record_at_another_offset_has_moved() {
        let verdict = read_as(&[0, 1, 2], |reading| reading[2].offset = 5);
        assert_eq!(verdict.moved, [(id(2), 2, 5)]);
    }
}
