//! What producers sent and were promised, held against what a consumer reads.
//!
//! A sequence counts one producer's records in one partition from 0 without gaps. What is wrong with a
//! reading is for `courant-history` to say.

use std::collections::HashMap;
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use courant_history::{Finding, History, Stamp};

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
    history: Mutex<Happened>,
    changed: Condvar,
}

/// What happened.
#[derive(Default)]
struct Happened {
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

    fn stamp(&self, id: Id) -> Stamp {
        Stamp {
            topic: self.topic.clone(),
            partition: u32::try_from(id.partition).unwrap(),
            producer: id.producer.into(),
            sequence: id.sequence,
        }
    }

    /// The value of a record.
    pub(crate) fn value(&self, id: Id) -> Vec<u8> {
        self.stamp(id).to_value(40 + usize::try_from(id.sequence * 37 % 180).unwrap())
    }

    /// Holds a reading, in the order of offsets per partition, against the history: `acked` from
    /// before the reading, everything sent until now.
    pub(crate) fn check(&self, acked: &Acked, reading: &[Read]) -> Verdict {
        const READER: &str = "the test";
        let mut history = History::new();
        for ((partition, producer), next) in &self.history.lock().unwrap().sent {
            for sequence in 0..*next {
                history.sent(&self.stamp(Id { partition: *partition, producer: *producer, sequence }));
            }
        }
        let mut ends: HashMap<i32, u64> = HashMap::new();
        for (id, offset) in acked {
            let offset = u64::try_from(*offset).ok();
            history.acknowledged(&self.stamp(*id), offset);
            let end = ends.entry(id.partition).or_default();
            *end = (*end).max(offset.map_or(1, |offset| offset + 1));
        }
        for Read { partition, offset, value } in reading {
            let (number, offset) = (u32::try_from(*partition).unwrap(), u64::try_from(*offset).unwrap());
            // A null is no value of ours.
            history.read(READER, &self.topic, number, offset, value.as_deref().unwrap_or_default());
            let end = ends.entry(*partition).or_default();
            *end = (*end).max(offset + 1);
        }
        for (partition, end) in ends {
            history.complete(READER, &self.topic, u32::try_from(partition).unwrap(), 0, end);
        }
        Verdict(history.check())
    }
}

/// Everything that is wrong with a reading.
#[derive(Debug)]
pub(crate) struct Verdict(Vec<Finding>);

impl Verdict {
    /// Whether something acknowledged is not there.
    pub(crate) fn is_lossy(&self) -> bool {
        self.0.iter().any(|finding| matches!(finding, Finding::Lost { .. }))
    }

    /// # Panics
    /// With counts and examples when anything is wrong.
    pub(crate) fn assert_clean(&self, when: &str) {
        let sentences: Vec<String> = self.0.iter().take(10).map(ToString::to_string).collect();
        assert!(self.0.is_empty(), "{when}: {} findings, the first: {sentences:#?}", self.0.len());
    }
}

/// What a test tells comes to the checker as it happened; the checker has tests of its own.
mod wiring {
    use courant_history::Finding;

    use super::{Id, Ledger, Read, Verdict};

    /// Three records acknowledged at offsets 0, 1, 2, then read as `order` says.
    fn read_as(order: &[u64], change: impl Fn(&mut Vec<Read>)) -> Verdict {
        let ledger = Ledger::new("t");
        for offset in 0..3 {
            let sent = ledger.sending(0, 7);
            ledger.acked(sent, offset);
        }
        ledger.sending(0, 7);
        let id = |sequence| Id { partition: 0, producer: 7, sequence };
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
    fn what_is_missing_is_lost() {
        assert!(read_as(&[0, 1], |_| {}).is_lossy());
        assert!(read_as(&[], |_| {}).is_lossy());
    }

    #[test]
    fn what_is_wrong_is_found() {
        let flipped = read_as(&[0, 1, 2], |reading| reading[1].value.as_mut().expect("a value")[3] ^= 1);
        assert!(matches!(flipped.0[..], [Finding::Torn { offset: 1, .. }]), "{flipped:?}");
        let null = read_as(&[0, 1, 2], |reading| reading[2].value = None);
        assert!(matches!(null.0[..], [Finding::Torn { offset: 2, .. }]), "{null:?}");
        let phantom = read_as(&[0, 1, 2, 4], |_| {});
        assert!(matches!(phantom.0[..], [Finding::Phantom { offset: 3, .. }]), "{phantom:?}");
        let twice = read_as(&[0, 1, 2, 2], |_| {});
        assert!(matches!(twice.0[..], [Finding::Duplicate { first: 2, again: 3, .. }]), "{twice:?}");
        let other = Ledger::new("u").value(Id { partition: 0, producer: 7, sequence: 3 });
        let misplaced = read_as(&[0, 1, 2, 3], |reading| reading[3].value = Some(other.clone()));
        assert!(matches!(misplaced.0[..], [Finding::Misplaced { offset: 3, .. }]), "{misplaced:?}");
        assert!(!read_as(&[0, 2, 1], |_| {}).0.is_empty());
    }
}
