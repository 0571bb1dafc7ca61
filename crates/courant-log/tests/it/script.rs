//! A script of operations: several partitions, plain and idempotent producers with repetitions,
//! topics that come and go, groups of different sizes, on a journal ring that wraps many times.

use std::sync::{Arc, Mutex};

use courant_log::batch::records::Producer;
use courant_log::{Log, PartitionId};

use crate::ledger::{Ledger, PartitionHistory, Sent, State, TopicHistory, id_of};
use crate::support::{Random, batch, new_topic};

pub(crate) const OPERATIONS: u64 = 300;

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
        let history =
            TopicHistory { state: State::Asked, partitions: vec![PartitionHistory::default(); partitions] };
        self.ledger.lock().expect("lock").topics.insert(name.clone(), history);
        let ledger = self.ledger.clone();
        let new = new_topic(&name, partitions as u32, &[("segment.bytes", "100000")]);
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

    fn append(&mut self, log: &Log) {
        let existing = self.existing();
        let topic = existing[self.random.below(existing.len() as u64) as usize].clone();
        let partitions = self.ledger.lock().expect("lock").topics[&topic].partitions.len();
        let partition = self.random.below(partitions as u64) as usize;
        let id = log.catalog().by_name(&topic).expect("exists").partitions[partition];
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
