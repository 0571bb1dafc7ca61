//! What a client may expect after a crash: everything acknowledged, in order, once; of what was not
//! yet acknowledged any beginning; of what was never sent nothing.

use std::collections::BTreeMap;

use courant_log::batch::records::Producer;
use courant_log::{Log, PartitionId};
use uuid::Uuid;

use crate::support::{append, batch, slot, stored, taken};

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
    pub(crate) state: State,
    pub(crate) partitions: Vec<PartitionHistory>,
}

#[derive(Clone, Debug, Default)]
pub(crate) struct PartitionHistory {
    pub(crate) sent: Vec<Sent>,
    pub(crate) acknowledged: usize,
}

/// Everything that was asked for, by topic name; names are used once.
#[derive(Clone, Debug, Default)]
pub(crate) struct Ledger {
    pub(crate) topics: BTreeMap<String, TopicHistory>,
    pub(crate) producer_ids: Vec<i64>,
}

impl Ledger {
    /// Panics when the log breaks a promise.
    pub(crate) fn check(&self, log: &Log) {
        let catalog = log.catalog();
        for topic in catalog.topics() {
            let history = self.topics.get(&topic.name).expect("no topic comes from nowhere");
            assert_ne!(history.state, State::Deleted, "{} was deleted", topic.name);
            assert_eq!(topic.partitions.len(), history.partitions.len());
            for (partition, history) in topic.partitions.iter().zip(&history.partitions) {
                check_partition(log, *partition, history);
            }
        }
        for (name, history) in &self.topics {
            if history.state == State::Exists {
                assert!(catalog.by_name(name).is_some(), "{name} is lost");
            }
        }
    }

    /// Sends again what was sent last: the log must know that it has it. Then asks for a producer id.
    pub(crate) fn check_repetitions(&self, log: &Log) {
        let catalog = log.catalog();
        for topic in catalog.topics() {
            for (partition, history) in topic.partitions.iter().zip(&self.topics[&topic.name].partitions) {
                check_repetition(log, *partition, history);
            }
        }
        let (slot, done) = slot();
        log.allocate_producer_id(done);
        while log.commit() {}
        let id = taken(&slot).expect("an id");
        assert!(!self.producer_ids.contains(&id), "producer id {id} is given twice");
    }
}

fn check_partition(log: &Log, partition: PartitionId, history: &PartitionHistory) {
    let stored = stored(log, partition);
    let stored: Vec<_> = stored.into_iter().map(|(_, crc, _)| crc).collect();
    let sent: Vec<_> = history.sent.iter().map(|sent| sent.crc).collect();
    assert!(
        stored.len() >= history.acknowledged,
        "lost: {} of {} acknowledged",
        stored.len(),
        history.acknowledged
    );
    assert!(stored.len() <= sent.len(), "phantom or duplicate: {} of {} sent", stored.len(), sent.len());
    assert_eq!(stored, sent[..stored.len()], "reordered, duplicated or never sent");
}

fn check_repetition(log: &Log, partition: PartitionId, history: &PartitionHistory) {
    let found = stored(log, partition);
    let last = found.last().zip(history.sent.get(found.len().wrapping_sub(1)));
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
