//! How far a group is behind: in events, and in seconds, which is the age of the oldest event that it has
//! not read. What cannot be known is `None`, and never 0.

use std::collections::{BTreeMap, HashMap};
use std::ops::ControlFlow;
use std::sync::Arc;

use courant_kafka::{Broker, GroupMember, GroupView};
use courant_log::batch::records::{Record, each};
use courant_log::{BatchHeader, Catalog, Log, PartitionId, StoredGroup, Topic};
use serde::Serialize;

use super::ApiState;
use super::limits::{
    AGE_BATCHES_MAX, AGE_DECOMPRESSED_BYTES_MAX, AGES_PER_LOOK_MAX, AGES_REMEMBERED_MAX, RECORD_HEADERS_MAX,
};

/// Every partition of the catalog, with its topic and its number there.
#[derive(Debug)]
pub(super) struct Places(HashMap<PartitionId, (Arc<Topic>, u32)>);

impl Places {
    pub(super) fn of(catalog: &Catalog) -> Self {
        let of_topic = |topic: &Arc<Topic>| {
            let topic = Arc::clone(topic);
            let ids = topic.partitions.clone();
            (0..).zip(ids).map(move |(number, id)| (id, (Arc::clone(&topic), number)))
        };
        Self(catalog.topics().flat_map(of_topic).collect())
    }

    pub(super) fn get(&self, id: PartitionId) -> Option<&(Arc<Topic>, u32)> {
        self.0.get(&id)
    }
}

/// A group as the log and the coordinator have it.
#[derive(Debug)]
pub(super) struct Group {
    pub(super) stored: StoredGroup,
    pub(super) view: GroupView,
}

impl Group {
    /// The group of that name, if there is one.
    pub(super) fn find(broker: &Broker, name: &str) -> Option<Self> {
        let view = broker.describe_group(name)?;
        Some(Self { stored: broker.log().group(name).unwrap_or_default(), view })
    }

    /// Every partition that it has committed something for, or that a member reads, by topic and number.
    pub(super) fn partitions(&self, catalog: &Catalog, places: &Places) -> Vec<(Arc<Topic>, u32)> {
        let mut found: BTreeMap<(String, u32), Arc<Topic>> = BTreeMap::new();
        for id in self.stored.offsets.keys() {
            if let Some((topic, number)) = places.get(*id) {
                found.insert((topic.name.clone(), *number), Arc::clone(topic));
            }
        }
        for (name, numbers) in self.view.members.iter().flat_map(|member| &member.assigned) {
            // What a member says it reads need not exist any more.
            let Some(topic) = catalog.by_name(name) else { continue };
            for number in numbers.iter().filter_map(|number| u32::try_from(*number).ok()) {
                if topic.partitions.get(number as usize).is_some() {
                    found.insert((name.clone(), number), Arc::clone(topic));
                }
            }
        }
        found.into_iter().map(|((_, number), topic)| (topic, number)).collect()
    }

    /// The member that reads a partition.
    pub(super) fn reader(&self, topic: &str, number: u32) -> Option<&GroupMember> {
        let reads = |member: &&GroupMember| {
            let numbers = member.assigned.get(topic);
            numbers.is_some_and(|numbers| numbers.iter().any(|one| u32::try_from(*one) == Ok(number)))
        };
        self.view.members.iter().find(reads)
    }
}

/// One partition of a group, measured in events.
#[derive(Debug)]
pub(super) struct Measured {
    pub(super) topic: Arc<Topic>,
    pub(super) number: u32,
    pub(super) id: PartitionId,
    /// `None`: the group has committed nothing here.
    pub(super) committed: Option<u64>,
    pub(super) start: u64,
    pub(super) end: u64,
    /// `None`: where nothing was committed, the consumer's own settings decide where it begins.
    pub(super) lag: Option<u64>,
}

/// Measures every partition of a group; only memory is looked at.
pub(super) fn measure(log: &Log, group: &Group, catalog: &Catalog, places: &Places) -> Vec<Measured> {
    let partitions = group.partitions(catalog, places).into_iter();
    let measured = partitions.filter_map(|(topic, number)| {
        let id = *topic.partitions.get(number as usize)?;
        // A topic that is deleted meanwhile leaves nothing to be behind of.
        let ends = log.offsets(id)?;
        let committed = group.stored.offsets.get(&id).map(|committed| committed.offset);
        let lag = committed.map(|at| ends.high_watermark.saturating_sub(at.max(ends.start)));
        let (start, end) = (ends.start, ends.high_watermark);
        Some(Measured { topic, number, id, committed, start, end, lag })
    });
    measured.collect()
}

/// What is between the committed offsets and the ends of several partitions.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(super) struct Lag {
    /// `None`: unknown for some partition.
    pub(super) events: Option<u64>,
    /// Age of the oldest event that was not read; `None`: unknown for some partition.
    pub(super) seconds: Option<f64>,
}

impl Lag {
    /// Of a group that has committed nothing and reads nothing: there is no place to be behind of.
    pub(super) const UNKNOWN: Self = Self { events: None, seconds: None };

    /// Before the first partition is added.
    pub(super) const NONE: Self = Self { events: Some(0), seconds: Some(0.0) };

    /// Adds a partition. One that is unknown makes the sum unknown.
    pub(super) fn add(&mut self, events: Option<u64>, seconds: Option<f64>) {
        self.events = self.events.zip(events).map(|(a, b)| a.saturating_add(b));
        self.seconds = self.seconds.zip(seconds).map(|(a, b)| a.max(b));
    }
}

/// Timestamps of oldest unread events, by partition and offset. They never change, so that a group that
/// stands still is looked up once.
#[derive(Debug, Default)]
pub(crate) struct Ages(HashMap<(PartitionId, u64), i64>);

impl Ages {
    fn remember(&mut self, place: (PartitionId, u64), timestamp_ms: i64) {
        if self.0.len() >= AGES_REMEMBERED_MAX {
            // Those that are still asked for come back soon.
            self.0.clear();
        }
        self.0.insert(place, timestamp_ms);
    }
}

/// Looks up ages for one answer, within a bound. May wait for the disk.
#[derive(Debug)]
pub(super) struct Aging<'a> {
    state: &'a ApiState,
    log: &'a Log,
    now_ms: i64,
    left: usize,
}

impl<'a> Aging<'a> {
    pub(super) fn new(state: &'a ApiState, log: &'a Log) -> Self {
        Self { state, log, now_ms: state.now_ms(), left: AGES_PER_LOOK_MAX }
    }

    /// How long ago the oldest unread event came, in milliseconds; 0 where all are read.
    pub(super) fn lag_ms(&mut self, place: &Measured) -> Option<u64> {
        if place.lag? == 0 {
            return Some(0);
        }
        let at = place.committed?.max(place.start);
        let timestamp_ms = self.timestamp_ms((place.id, at))?;
        // An event of the future says nothing about how long it has been waiting.
        u64::try_from(self.now_ms.checked_sub(timestamp_ms)?).ok()
    }

    fn timestamp_ms(&mut self, place: (PartitionId, u64)) -> Option<i64> {
        if let Some(known) = self.state.ages(|ages| ages.0.get(&place).copied()) {
            return Some(known);
        }
        self.left = self.left.checked_sub(1)?;
        let found = timestamp_ms(self.log, place.0, place.1)?;
        self.state.ages(|ages| ages.remember(place, found));
        Some(found)
    }
}

/// The timestamp of the first event at an offset or behind it: the time of append where the topic keeps
/// that, else what the producer said.
fn timestamp_ms(log: &Log, id: PartitionId, at: u64) -> Option<i64> {
    let first = i64::try_from(at).ok()?;
    let mut next = at;
    for _ in 0..AGE_BATCHES_MAX {
        let read = log.read(id, next, 1, true).ok()?;
        let header = BatchHeader::parse(&read.bytes).ok()?;
        let found = if header.is_log_append_time() {
            Some(header.max_timestamp)
        } else {
            let first_one = |record: Record| ControlFlow::Break(record.timestamp);
            each(&read.bytes, first, AGE_DECOMPRESSED_BYTES_MAX, RECORD_HEADERS_MAX, first_one).ok()?
        };
        if let Some(timestamp_ms) = found {
            return (timestamp_ms >= 0).then_some(timestamp_ms);
        }
        next = u64::try_from(header.last_offset()).ok()?.checked_add(1)?;
    }
    None
}

/// Milliseconds as seconds.
pub(super) fn seconds(ms: u64) -> f64 {
    ms as f64 / 1000.0
}

#[cfg(test)]
mod tests {
    use super::*;
    use courant_core::topic::TopicName;
    use courant_log::batch::records::{NewRecord, encode};
    use courant_log::storage::MemoryStorage;
    use courant_log::{Batch, Codec, LogConfig, NewTopic, SystemClock, SystemEntropy};
    use std::sync::mpsc;

    /// A log whose topic has four events in two batches.
    fn log(timestamps: [i64; 4], codec: Codec) -> (Log, PartitionId) {
        let mut config = LogConfig::new(Arc::new(SystemClock), Arc::new(SystemEntropy));
        config.reserve_bytes = 0;
        let log = Log::open(Arc::new(MemoryStorage::new(64 * 1024 * 1024)), config).expect("opens").0;
        let name = TopicName::new("orders").expect("a name");
        let (done, created) = mpsc::channel();
        let new = NewTopic { name, partitions: 1, configs: BTreeMap::new() };
        log.create_topic(new, move |result| drop(done.send(result)));
        let id = created.recv().expect("an answer").expect("created").partitions[0];
        for pair in timestamps.chunks(2) {
            let events: Vec<_> =
                pair.iter().map(|at| NewRecord { timestamp: *at, ..NewRecord::default() }).collect();
            let batch = Batch::validate(encode(&events, codec, None).expect("a batch")).expect("valid");
            let (done, appended) = mpsc::channel();
            log.append(id, batch, move |result| drop(done.send(result)));
            appended.recv().expect("an answer").expect("appended");
        }
        (log, id)
    }

    #[test]
    fn the_oldest_unread_event_is_found_inside_its_batch() {
        for codec in [Codec::None, Codec::Zstd] {
            let (log, id) = log([100, 200, 300, 400], codec);
            let found: Vec<_> = (0..5).map(|at| timestamp_ms(&log, id, at)).collect();
            assert_eq!(found, [Some(100), Some(200), Some(300), Some(400), None]);
            assert_eq!(timestamp_ms(&log, id, 9), None);
            assert_eq!(timestamp_ms(&log, PartitionId(999), 0), None);
        }
    }

    #[test]
    fn an_event_without_a_timestamp_has_an_unknown_age() {
        let (log, id) = log([-1, -1, 5, 5], Codec::None);
        assert_eq!(timestamp_ms(&log, id, 0), None);
        assert_eq!(timestamp_ms(&log, id, 2), Some(5));
    }

    #[test]
    fn lag_adds_up_and_what_is_unknown_stays_so() {
        let mut lag = Lag::NONE;
        lag.add(Some(3), Some(2.5));
        lag.add(Some(4), Some(1.0));
        assert_eq!(lag, Lag { events: Some(7), seconds: Some(2.5) });
        lag.add(Some(1), None);
        assert_eq!(lag, Lag { events: Some(8), seconds: None });
        lag.add(None, Some(0.0));
        assert_eq!(lag, Lag::UNKNOWN);
    }

    #[test]
    fn what_is_remembered_has_a_bound() {
        let mut ages = Ages::default();
        for offset in 0..=AGES_REMEMBERED_MAX as u64 {
            ages.remember((PartitionId(1), offset), 7);
        }
        assert_eq!(ages.0.len(), 1);
    }
}
