//! A script of operations: several partitions, plain and idempotent producers with repetitions,
//! topics that come, change and go, deleted beginnings, consumer groups, groups of different sizes, on
//! a journal ring that wraps many times.

use std::sync::{Arc, Mutex};

use bytes::Bytes;
use courant_log::batch::records::Producer;
use courant_log::{CommittedOffset, GroupError, Log, PartitionId, StoredGroup};

use crate::ledger::{Ledger, PartitionHistory, Sent, State, TopicHistory, id_of};
use crate::support::{Random, batch, new_topic, stored};
use crate::versions::Versions;

pub(crate) const OPERATIONS: u64 = 350;

/// The script under way; the ledger is shared with whoever crashes it.
pub(crate) struct Script {
    random: Random,
    ledger: Arc<Mutex<Ledger>>,
    next_tag: u64,
    next_topic: u64,
    /// Next sequence by topic, partition and producer.
    sequences: std::collections::HashMap<(String, usize, i64), i32>,
    producer_ids: Vec<i64>,
}

impl Script {
    pub(crate) fn new(seed: u64, ledger: Arc<Mutex<Ledger>>) -> Self {
        Self {
            random: Random(seed),
            ledger,
            next_tag: 1,
            next_topic: 1,
            sequences: std::collections::HashMap::new(),
            producer_ids: Vec::new(),
        }
    }

    /// Runs all operations. Appends are submitted one to five at a time and committed together.
    pub(crate) fn run(&mut self, log: &Log) {
        for _ in 0..2 {
            self.create_topic(log);
            self.allocate_producer_id(log);
        }
        let mut operations = 4;
        while operations < OPERATIONS {
            match self.random.below(100) {
                0..2 => self.create_topic(log),
                2..4 => self.delete_topic(log),
                4..6 => self.allocate_producer_id(log),
                6..9 => log.seal(),
                9..12 => self.delete_records(log),
                12..13 => self.add_partitions(log),
                13..15 => self.alter_topic(log),
                15..24 => self.change_group(log),
                _ => {
                    for _ in 0..=self.random.below(4) {
                        self.append(log);
                        operations += 1;
                    }
                }
            }
            while log.commit() {}
            operations += 1;
        }
    }

    fn create_topic(&mut self, log: &Log) {
        let name = format!("orders.topic-{}", self.next_topic);
        self.next_topic += 1;
        let partitions = 1 + self.random.below(3) as usize;
        let relaxed = self.next_topic.is_multiple_of(3);
        let durability = if relaxed { "os" } else { "sync" };
        let configs = [("segment.bytes", "100000"), ("courant.durability", durability)];
        let new = new_topic(&name, partitions as u32, &configs);
        let history = TopicHistory {
            relaxed,
            state: State::Asked,
            partitions: vec![PartitionHistory::default(); partitions],
            counts: Versions::new(partitions),
            configs: Versions::new(new.configs.clone()),
        };
        self.ledger.lock().expect("lock").topics.insert(name.clone(), history);
        let ledger = self.ledger.clone();
        log.create_topic(new, move |created| {
            created.expect("created");
            ledger.lock().expect("lock").topics.get_mut(&name).expect("asked").state = State::Exists;
        });
        while log.commit() {}
    }

    fn existing(&self) -> Vec<String> {
        let ledger = self.ledger.lock().expect("lock");
        let topics = ledger.topics.iter().filter(|(_, history)| history.state == State::Exists);
        topics.map(|(name, _)| name.clone()).collect()
    }

    fn delete_topic(&mut self, log: &Log) {
        let existing = self.existing();
        if existing.len() < 3 {
            return;
        }
        let name = existing[self.random.below(existing.len() as u64) as usize].clone();
        self.ledger.lock().expect("lock").topics.get_mut(&name).expect("exists").state = State::DeleteAsked;
        let ledger = self.ledger.clone();
        log.delete_topic(id_of(log, &name), move |deleted| {
            deleted.expect("deleted");
            ledger.lock().expect("lock").topics.get_mut(&name).expect("exists").state = State::Deleted;
        });
    }

    fn allocate_producer_id(&mut self, log: &Log) {
        let ledger = self.ledger.clone();
        log.allocate_producer_id(move |id| {
            ledger.lock().expect("lock").producer_ids.push(id.expect("an id"))
        });
        while log.commit() {}
        self.producer_ids = self.ledger.lock().expect("lock").producer_ids.clone();
    }

    /// A topic that exists.
    fn topic(&mut self) -> String {
        let existing = self.existing();
        existing[self.random.below(existing.len() as u64) as usize].clone()
    }

    /// A partition that exists: its topic, its number and its id.
    fn partition(&mut self, log: &Log) -> (String, usize, PartitionId) {
        let topic = self.topic();
        let partitions = log.catalog().by_name(&topic).expect("exists").partitions.clone();
        let partition = self.random.below(partitions.len() as u64) as usize;
        (topic, partition, partitions[partition])
    }

    /// Changes the history of a topic.
    fn history<T>(&self, topic: &str, change: impl FnOnce(&mut TopicHistory) -> T) -> T {
        change(self.ledger.lock().expect("lock").topics.get_mut(topic).expect("exists"))
    }

    /// Deletes what comes before a batch that is stored, or everything.
    fn delete_records(&mut self, log: &Log) {
        let (topic, partition, id) = self.partition(log);
        let ends = log.offsets(id).expect("exists");
        let begins: Vec<_> = stored(log, id).into_iter().map(|(base, ..)| base).collect();
        let choice = self.random.below(begins.len() as u64 + 1) as usize;
        let before = begins.get(choice).copied().unwrap_or(ends.high_watermark);
        self.history(&topic, |history| history.partitions[partition].starts.ask(before));
        let ledger = self.ledger.clone();
        log.delete_records(id, before, move |deleted| {
            assert_eq!(deleted, Ok(before));
            let mut ledger = ledger.lock().expect("lock");
            ledger.topics.get_mut(&topic).expect("exists").partitions[partition].starts.acknowledge();
        });
    }

    fn add_partitions(&mut self, log: &Log) {
        let topic = self.topic();
        let total = self.history(&topic, |history| {
            history.partitions.push(PartitionHistory::default());
            history.counts.ask(history.partitions.len());
            history.partitions.len()
        });
        let ledger = self.ledger.clone();
        let id = id_of(log, &topic);
        log.add_partitions(id, total as u32, move |added| {
            added.expect("added");
            ledger.lock().expect("lock").topics.get_mut(&topic).expect("exists").counts.acknowledge();
        });
    }

    fn alter_topic(&mut self, log: &Log) {
        let topic = self.topic();
        let value = (80_000 + self.random.below(50_000)).to_string();
        let value = Some(value).filter(|_| self.random.below(4) > 0);
        self.history(&topic, |history| {
            let mut configs = history.configs.newest().clone();
            match &value {
                Some(value) => configs.insert("segment.bytes".to_owned(), value.clone()),
                None => configs.remove("segment.bytes"),
            };
            history.configs.ask(configs);
        });
        let ledger = self.ledger.clone();
        let id = id_of(log, &topic);
        log.alter_topic(id, vec![("segment.bytes".to_owned(), value)], move |altered| {
            altered.expect("altered");
            ledger.lock().expect("lock").topics.get_mut(&topic).expect("exists").configs.acknowledge();
        });
    }

    /// One to three changes of one group, so that several stand in one journal group.
    fn change_group(&mut self, log: &Log) {
        let name = format!("group-{}", self.random.below(4));
        for _ in 0..=self.random.below(3) {
            let (_, _, partition) = self.partition(log);
            let offset = CommittedOffset {
                offset: self.random.below(1000),
                leader_epoch: -1,
                metadata: "x".repeat(self.random.below(200) as usize),
                committed_ms: 7,
            };
            let what = self.random.below(10);
            let mut ledger = self.ledger.lock().expect("lock");
            let fresh = || Versions::new(StoredGroup::default());
            let versions = ledger.groups.entry(name.clone()).or_insert_with(fresh);
            let mut next = versions.newest().clone();
            let state = Bytes::from(vec![what as u8; 500]);
            match what {
                0 => next = StoredGroup::default(),
                1 => drop(next.offsets.remove(&partition)),
                2..4 => next.state = state.clone(),
                _ => drop(next.offsets.insert(partition, offset.clone())),
            }
            versions.ask(next);
            drop(ledger);
            let (ledger, group) = (self.ledger.clone(), name.clone());
            let done = move |changed: Result<(), GroupError>| {
                changed.expect("changed");
                ledger.lock().expect("lock").groups.get_mut(&group).expect("asked").acknowledge();
            };
            match what {
                0 => log.delete_group(name.clone(), done),
                1 => log.delete_offsets(name.clone(), vec![partition], done),
                2..4 => log.store_group(name.clone(), state, done),
                _ => log.commit_offsets(name.clone(), vec![(partition, offset)], done),
            }
        }
    }

    fn append(&mut self, log: &Log) {
        let (topic, partition, id) = self.partition(log);
        let repeats = self.random.below(8) == 0;
        if repeats && self.repeat(log, &topic, partition, id) {
            return;
        }
        let count = 1 + self.random.below(20) as usize;
        let bytes = match self.random.below(4) {
            0 => 200,
            1 => 20_000,
            _ => 30_000 + self.random.below(26_000) as usize,
        };
        let producer = (self.random.below(3) > 0).then(|| {
            let id = self.producer_ids[self.random.below(self.producer_ids.len() as u64) as usize];
            let next = self.sequences.entry((topic.clone(), partition, id)).or_default();
            let producer = Producer { id, epoch: 0, base_sequence: *next };
            *next += count as i32;
            producer
        });
        let tag = self.next_tag;
        self.next_tag += 1;
        self.send(log, &topic, partition, id, Sent { tag, count, bytes, producer, crc: 0 });
    }

    fn send(&self, log: &Log, topic: &str, partition: usize, id: PartitionId, mut sent: Sent) {
        let batch = batch(sent.tag, sent.count, sent.bytes, sent.producer);
        sent.crc = batch.header().crc;
        {
            let mut ledger = self.ledger.lock().expect("lock");
            ledger.topics.get_mut(topic).expect("exists").partitions[partition].sent.push(sent);
        }
        let ledger = self.ledger.clone();
        let topic = topic.to_owned();
        log.append(id, batch, move |appended| {
            appended.expect("appended");
            let mut ledger = ledger.lock().expect("lock");
            ledger.topics.get_mut(&topic).expect("exists").partitions[partition].acknowledged += 1;
        });
    }

    /// Sends the newest batch of a partition once more, as a client does that missed its answer.
    fn repeat(&self, log: &Log, topic: &str, partition: usize, id: PartitionId) -> bool {
        let last = self.ledger.lock().expect("lock").topics[topic].partitions[partition].sent.last().cloned();
        let Some(sent) = last.filter(|sent| sent.producer.is_some()) else {
            return false;
        };
        log.append(id, batch(sent.tag, sent.count, sent.bytes, sent.producer), |again| {
            again.expect("acknowledged again");
        });
        true
    }
}
