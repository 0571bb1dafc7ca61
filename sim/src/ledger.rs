//! What a client may expect after a crash: everything acknowledged, in order, once; of what was not
//! yet acknowledged any beginning; of what was never sent nothing.

use std::collections::BTreeMap;

use courant_log::batch::records::Producer;
use courant_log::{Log, NewTopic, PartitionId, StoredGroup};
use uuid::Uuid;

use crate::compacted;
use crate::tiny::{append, batch, slot, stored, stored_before_gap, taken};
use crate::versions::Versions;

/// The batches of each partition that is not compacted, as [`stored_before_gap`] reads them.
pub type Stored = BTreeMap<PartitionId, Vec<(u64, u32, u64)>>;

/// One batch as it was sent.
#[derive(Clone, Debug)]
pub(crate) struct Sent {
    pub(crate) tag: u64,
    pub(crate) count: usize,
    pub(crate) bytes: usize,
    pub(crate) producer: Option<Producer>,
    pub(crate) crc: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    Asked,
    Exists,
    DeleteAsked,
    Deleted,
}

#[derive(Clone, Debug)]
pub(crate) struct TopicHistory {
    /// Acknowledged before it is durable.
    pub(crate) relaxed: bool,
    pub(crate) state: State,
    /// All that were asked for.
    pub(crate) partitions: Vec<PartitionHistory>,
    pub(crate) counts: Versions<usize>,
    pub(crate) configs: Versions<BTreeMap<String, String>>,
}

#[derive(Clone, Debug)]
pub(crate) struct PartitionHistory {
    pub(crate) sent: Vec<Sent>,
    pub(crate) acknowledged: usize,
    /// Offset of the oldest event.
    pub(crate) starts: Versions<u64>,
}

impl Default for PartitionHistory {
    fn default() -> Self {
        Self { sent: Vec::new(), acknowledged: 0, starts: Versions::new(0) }
    }
}

/// Everything that was asked for, by topic name; of a name that was used again, the last topic.
#[derive(Clone, Debug, Default)]
pub struct Ledger {
    pub(crate) topics: BTreeMap<String, TopicHistory>,
    pub(crate) producer_ids: Vec<i64>,
    pub(crate) groups: BTreeMap<String, Versions<StoredGroup>>,
}

impl Ledger {
    /// Looks at everything that the log has, and says what it has read.
    ///
    /// # Panics
    /// When it breaks a promise.
    pub fn check(&self, log: &Log) -> Stored {
        self.check_after(log, false)
    }

    /// As [`Ledger::check`], where only the process has ended since: that costs no class of durability
    /// anything.
    ///
    /// # Panics
    /// When it breaks a promise.
    pub fn check_after_kill(&self, log: &Log) -> Stored {
        self.check_after(log, true)
    }

    fn check_after(&self, log: &Log, only_killed: bool) -> Stored {
        let catalog = log.catalog();
        let mut read = Stored::new();
        for topic in catalog.topics() {
            let history = self.topics.get(&topic.name).expect("no topic comes from nowhere");
            assert_ne!(history.state, State::Deleted, "{} was deleted", topic.name);
            let counts = history.counts.possible();
            assert!(
                counts.contains(&topic.partitions.len()),
                "{} partitions of {counts:?}",
                topic.partitions.len()
            );
            let configs = history.configs.possible();
            assert!(configs.contains(&topic.configs), "{:?} is none of {configs:?}", topic.configs);
            for (partition, of) in topic.partitions.iter().zip(&history.partitions) {
                if history.is_compacted() {
                    compacted::check(log, *partition, of);
                } else {
                    let may_lose = history.relaxed && !only_killed;
                    read.insert(*partition, check_partition(log, *partition, of, may_lose));
                }
            }
        }
        for (name, history) in &self.topics {
            if history.state == State::Exists {
                assert!(catalog.by_name(name).is_some(), "{name} is lost");
            }
        }
        for (name, versions) in &self.groups {
            check_group(log, name, versions);
        }
        for name in log.groups() {
            assert!(self.groups.contains_key(&name), "group {name} comes from nowhere");
        }
        read
    }

    /// The histories of those partitions whose topics are compacted.
    pub(crate) fn compacted(&self, log: &Log) -> BTreeMap<PartitionId, &PartitionHistory> {
        let mut compacted = BTreeMap::new();
        for topic in log.catalog().topics() {
            if let Some(history) = self.topics.get(&topic.name).filter(|history| history.is_compacted()) {
                compacted.extend(topic.partitions.iter().copied().zip(&history.partitions));
            }
        }
        compacted
    }

    /// Somebody asks for a topic.
    pub(crate) fn ask_topic(&mut self, new: &NewTopic, relaxed: bool) {
        let partitions = new.partitions as usize;
        let history = TopicHistory {
            relaxed,
            state: State::Asked,
            partitions: vec![PartitionHistory::default(); partitions],
            counts: Versions::new(partitions),
            configs: Versions::new(new.configs.clone()),
        };
        self.topics.insert(new.name.to_string(), history);
    }

    /// The topic is there, and whoever asked for it knows.
    pub(crate) fn topic_exists(&mut self, name: &str) {
        self.topics.get_mut(name).expect("asked for").state = State::Exists;
    }

    /// Sends again what was sent last: the log must know that it has it. Then asks for a producer id. What is
    /// stored is not read again: [`Ledger::check`] has just done that.
    ///
    /// # Panics
    /// When it breaks a promise.
    pub fn check_repetitions(&self, log: &Log, read: &Stored) {
        let catalog = log.catalog();
        for topic in catalog.topics() {
            let of = &self.topics[&topic.name];
            for (partition, history) in topic.partitions.iter().zip(&of.partitions) {
                if of.is_compacted() {
                    compacted::check_repetition(log, *partition, history);
                } else {
                    check_repetition(log, *partition, history, &read[partition]);
                }
            }
        }
        let (slot, done) = slot();
        log.allocate_producer_id(done);
        while log.commit() {}
        let id = taken(&slot).expect("an id");
        assert!(!self.producer_ids.contains(&id), "producer id {id} is given twice");
    }
}

/// What a group has committed goes with the topics that it is for.
fn check_group(log: &Log, name: &str, versions: &Versions<StoredGroup>) {
    let existing = |group: &StoredGroup| {
        let mut group = group.clone();
        group.offsets.retain(|partition, _| log.offsets(*partition).is_some());
        group
    };
    let found = log.group(name).unwrap_or_default();
    assert_eq!(found, existing(&found), "group {name} has commits for partitions that are gone");
    let possible: Vec<_> = versions.possible().iter().map(existing).collect();
    assert!(possible.contains(&found), "lost: group {name} is {found:?}, which is none of {possible:?}");
}

fn check_partition(
    log: &Log,
    partition: PartitionId,
    history: &PartitionHistory,
    relaxed: bool,
) -> Vec<(u64, u32, u64)> {
    // What a power cut may take away is the newest that was acknowledged, and its offsets are not given
    // out again: the watermark has moved on.
    let sent_events: u64 = history.sent.iter().map(|sent| sent.count as u64).sum();
    let resumed = log.offsets(partition).expect("exists").high_watermark > sent_events;
    assert!(!resumed || relaxed, "offsets are missing");
    let read = if resumed { stored_before_gap(log, partition) } else { stored(log, partition) };
    let stored: Vec<_> = read.iter().map(|(_, crc, _)| *crc).collect();
    let sent: Vec<_> = history.sent.iter().map(|sent| sent.crc).collect();
    let gone = history.deleted(log, partition);
    let there = gone + stored.len();
    assert!(
        resumed || there >= history.acknowledged,
        "lost: {there} of {} acknowledged in {partition:?} (relaxed: {relaxed})",
        history.acknowledged
    );
    assert!(there <= sent.len(), "phantom or duplicate: {there} of {} sent", sent.len());
    assert_eq!(stored, sent[gone..there], "reordered, duplicated or never sent");
    read
}

impl TopicHistory {
    fn is_compacted(&self) -> bool {
        self.configs.newest().contains_key("cleanup.policy")
    }
}

impl PartitionHistory {
    /// Batches that are no more, because the partition begins behind them.
    fn deleted(&self, log: &Log, partition: PartitionId) -> usize {
        let start = log.offsets(partition).expect("exists").start;
        let starts = self.starts.possible();
        assert!(starts.contains(&start), "begins at {start}, which is none of {starts:?}");
        let mut end = 0;
        self.sent
            .iter()
            .take_while(|sent| {
                end += sent.count as u64;
                end <= start
            })
            .count()
    }
}

fn check_repetition(
    log: &Log,
    partition: PartitionId,
    history: &PartitionHistory,
    found: &[(u64, u32, u64)],
) {
    let there = history.deleted(log, partition) + found.len();
    let last = found.last().zip(history.sent.get(there.wrapping_sub(1)));
    let Some((found_last, sent)) = last.filter(|(_, sent)| sent.producer.is_some()) else {
        return;
    };
    let before = log.offsets(partition).expect("exists");
    let again = append(log, partition, batch(sent.tag, sent.count, sent.bytes, sent.producer));
    assert_eq!(again.expect("acknowledged again").base_offset, found_last.0);
    assert_eq!(log.offsets(partition), Some(before), "a repetition was appended");
}

/// The identity of a topic that the script knows by name.
pub(crate) fn id_of(log: &Log, name: &str) -> Uuid {
    log.catalog().by_name(name).expect("exists").id
}
