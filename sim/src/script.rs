//! A script of operations: several partitions, plain and idempotent producers with repetitions,
//! topics that come, change and go, deleted beginnings, consumer groups, groups of different sizes, on
//! a journal ring that wraps many times.

use std::collections::HashMap;
use std::fmt::Debug;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use courant_log::batch::records::Producer;
use courant_log::{
    AppendError, Appended, Batch, CommittedOffset, GroupError, Log, PartitionId, StoredGroup, WriterError,
};

use crate::compacted;
use crate::ledger::{Ledger, PartitionHistory, Sent, State, TopicHistory, id_of};
use crate::random::Random;
use crate::readable::readable;
use crate::tiny::{batch, new_topic};
use crate::versions::Versions;
use crate::workload::{Step, Workload};

/// Whether the storage may refuse something: then the script ends there.
#[derive(Clone, Debug)]
struct Refused {
    allowed: bool,
    seen: Arc<AtomicBool>,
}

impl Refused {
    /// What was done, if it was.
    fn take<T, E: Debug>(&self, result: Result<T, E>) -> Option<T> {
        match result {
            Ok(done) => Some(done),
            Err(error) => {
                assert!(self.allowed, "refused: {error:?}");
                self.seen.store(true, Ordering::Relaxed);
                None
            }
        }
    }
}

/// The script under way; the ledger is shared with whoever crashes it.
#[derive(Debug)]
pub struct Script {
    workload: Workload,
    operations: u64,
    random: Random,
    ledger: Arc<Mutex<Ledger>>,
    refused: Refused,
    next_tag: u64,
    next_topic: usize,
    /// Whether the next batch may be committed by whoever brings it.
    by_itself: bool,
    /// Batches that were.
    committed_alone: AtomicU64,
    /// Next sequence by topic, partition and producer.
    sequences: HashMap<(String, usize, i64), i32>,
    producer_ids: Vec<i64>,
}

impl Script {
    /// A script of so many operations.
    #[must_use]
    pub fn new(workload: Workload, operations: u64, seed: u64, ledger: Arc<Mutex<Ledger>>) -> Self {
        Self {
            workload,
            operations,
            random: Random(seed),
            ledger,
            refused: Refused { allowed: false, seen: Arc::default() },
            next_tag: 1,
            next_topic: 0,
            by_itself: false,
            committed_alone: AtomicU64::new(0),
            sequences: HashMap::new(),
            producer_ids: Vec::new(),
        }
    }

    /// The same, on a storage that fails: at the first refusal it ends.
    #[must_use]
    pub fn until_refused(mut self) -> Self {
        self.refused.allowed = true;
        self
    }

    /// Batches that whoever brought them has committed.
    #[must_use]
    pub fn committed_alone(&self) -> u64 {
        self.committed_alone.load(Ordering::Relaxed)
    }

    fn is_refused(&self) -> bool {
        self.refused.seen.load(Ordering::Relaxed)
    }

    /// Runs all operations. Appends are submitted one to five at a time and committed together. False
    /// when something was refused.
    ///
    /// # Panics
    /// When the log refuses what it may not.
    pub fn run(&mut self, log: &Log) -> bool {
        for _ in 0..2 {
            self.create_topic(log);
            self.allocate_producer_id(log);
        }
        self.go_on(log, self.operations.saturating_sub(4))
    }

    /// Runs so many operations more.
    pub(crate) fn go_on(&mut self, log: &Log, more: u64) -> bool {
        let mut operations = 0;
        while operations < more && !self.is_refused() {
            let number = self.random.below(100);
            operations += self.step(log, self.workload.step(number));
            while log.commit() {}
        }
        !self.is_refused()
    }

    /// Does one thing and says how many operations that was.
    fn step(&mut self, log: &Log, step: Step) -> u64 {
        match step {
            Step::Append => {
                let some_alone = self.workload.alone > 0;
                let is_alone = some_alone && self.random.below(100) < self.workload.alone;
                let count = if is_alone { 1 } else { 1 + self.random.below(5) };
                for left in (0..count).rev() {
                    self.by_itself = some_alone && left == 0;
                    self.append(log);
                }
                return 1 + count;
            }
            Step::CreateTopic => self.create_topic(log),
            Step::DeleteTopic => self.delete_topic(log),
            Step::AllocateProducerId => self.allocate_producer_id(log),
            Step::Seal => log.seal(),
            Step::DeleteRecords => self.delete_records(log),
            Step::AddPartition => self.add_partitions(log),
            Step::AlterTopic => self.alter_topic(log),
            Step::ChangeGroup => self.change_group(log),
            Step::Checkpoint => drop(self.refused.take(log.checkpoint())),
            Step::Compact => drop(log.compact()),
        }
        1
    }

    fn create_topic(&mut self, log: &Log) {
        self.next_topic += 1;
        let name = self.new_name();
        let one = self.workload.compacted || self.workload.alone > 0;
        let partitions = if one { 1 } else { 1 + self.random.below(3) as usize };
        let classes = self.workload.durability;
        let durability = classes[self.next_topic % classes.len()];
        let relaxed = durability != "sync";
        let plain = [("segment.bytes", "100000"), ("courant.durability", durability)];
        let configs = if self.workload.compacted { &compacted::CONFIGS[..] } else { &plain };
        let new = new_topic(&name, partitions as u32, configs);
        self.ledger.lock().expect("lock").ask_topic(&new, relaxed);
        let (ledger, refused) = (self.ledger.clone(), self.refused.clone());
        log.create_topic(new, move |created| {
            let Some(_) = refused.take(created) else { return };
            ledger.lock().expect("lock").topic_exists(&name);
        });
        while log.commit() {}
    }

    /// A name that is free: one that nobody had, or now and then one whose topic is no more.
    fn new_name(&mut self) -> String {
        let ledger = self.ledger.lock().expect("lock");
        let gone = ledger.topics.iter().filter(|(_, history)| history.state == State::Deleted);
        let gone: Vec<String> = gone.map(|(name, _)| name.clone()).collect();
        drop(ledger);
        if gone.is_empty() || self.random.below(3) > 0 {
            return format!("orders.topic-{}", self.next_topic);
        }
        let name = gone[self.random.below(gone.len() as u64) as usize].clone();
        self.sequences.retain(|(topic, ..), _| *topic != name);
        name
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
        let (ledger, refused) = (self.ledger.clone(), self.refused.clone());
        log.delete_topic(id_of(log, &name), move |deleted| {
            let Some(()) = refused.take(deleted) else { return };
            ledger.lock().expect("lock").topics.get_mut(&name).expect("exists").state = State::Deleted;
        });
    }

    fn allocate_producer_id(&mut self, log: &Log) {
        let (ledger, refused) = (self.ledger.clone(), self.refused.clone());
        log.allocate_producer_id(move |id| {
            let Some(id) = refused.take(id) else { return };
            ledger.lock().expect("lock").producer_ids.push(id);
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
        let begins: Vec<_> = readable(log, id).batches.into_iter().map(|(base, ..)| base).collect();
        let choice = self.random.below(begins.len() as u64 + 1) as usize;
        let before = begins.get(choice).copied().unwrap_or(ends.high_watermark);
        self.history(&topic, |history| history.partitions[partition].starts.ask(before));
        let (ledger, refused) = (self.ledger.clone(), self.refused.clone());
        log.delete_records(id, before, move |deleted| {
            let Some(start) = refused.take(deleted) else { return };
            assert_eq!(start, before);
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
        let (ledger, refused) = (self.ledger.clone(), self.refused.clone());
        let id = id_of(log, &topic);
        log.add_partitions(id, total as u32, move |added| {
            let Some(_) = refused.take(added) else { return };
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
        let (ledger, refused) = (self.ledger.clone(), self.refused.clone());
        let id = id_of(log, &topic);
        log.alter_topic(id, vec![("segment.bytes".to_owned(), value)], move |altered| {
            let Some(_) = refused.take(altered) else { return };
            ledger.lock().expect("lock").topics.get_mut(&topic).expect("exists").configs.acknowledge();
        });
    }

    /// One to three changes of one group, so that several stand in one journal group.
    fn change_group(&mut self, log: &Log) {
        let name = format!("group-{}", self.random.below(4));
        for _ in 0..=self.random.below(3) {
            let (topic, _, partition) = self.partition(log);
            let offset = CommittedOffset {
                offset: self.random.below(1000),
                leader_epoch: -1,
                metadata: "x".repeat(self.random.below(200) as usize),
                committed_ms: 7,
            };
            // One entry over all partitions of a topic, every third time: whole or absent in each of them.
            let partitions = match log.catalog().by_name(&topic) {
                Some(topic) if offset.offset.is_multiple_of(3) => topic.partitions.clone(),
                _ => vec![partition],
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
                _ => next.offsets.extend(partitions.iter().map(|partition| (*partition, offset.clone()))),
            }
            versions.ask(next);
            drop(ledger);
            let (ledger, refused, group) = (self.ledger.clone(), self.refused.clone(), name.clone());
            let done = move |changed: Result<(), GroupError>| {
                let Some(()) = refused.take(changed) else { return };
                ledger.lock().expect("lock").groups.get_mut(&group).expect("asked").acknowledge();
            };
            match what {
                0 => log.delete_group(name.clone(), done),
                1 => log.delete_offsets(name.clone(), vec![partition], done),
                2..4 => log.store_group(name.clone(), state, done),
                _ => {
                    let offsets = partitions.iter().map(|partition| (*partition, offset.clone())).collect();
                    log.commit_offsets(name.clone(), offsets, done);
                }
            }
        }
    }

    fn append(&mut self, log: &Log) {
        let (topic, partition, id) = self.partition(log);
        let repeats = self.random.below(100) < self.workload.repeated;
        if repeats && self.repeat(log, &topic, partition, id) {
            return;
        }
        let count = 1 + self.random.below(20) as usize;
        let bytes = match self.random.below(4) {
            _ if self.workload.compacted => 500 + self.random.below(16_000) as usize,
            0 => 200,
            1 => 20_000,
            _ => 30_000 + self.random.below(26_000) as usize,
        };
        let numbered = self.random.below(100) < self.workload.numbered && !self.producer_ids.is_empty();
        let producer = numbered.then(|| {
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

    fn batch(&self, sent: &Sent) -> Batch {
        let Sent { tag, count, bytes, producer, .. } = *sent;
        let make = if self.workload.compacted { compacted::keyed_batch } else { batch };
        make(tag, count, bytes, producer)
    }

    fn send(&self, log: &Log, topic: &str, partition: usize, id: PartitionId, mut sent: Sent) {
        let (tag, batch) = (sent.tag, self.batch(&sent));
        sent.crc = batch.header().crc;
        {
            let mut ledger = self.ledger.lock().expect("lock");
            ledger.topics.get_mut(topic).expect("exists").partitions[partition].sent.push(sent);
        }
        self.append_as(log, topic, partition, id, tag, batch);
    }

    /// Appends what stands in the partition's history. Whether it is stored for the first time or was
    /// known already: who is answered may rely on it, and on everything before it. What was surely not
    /// stored is taken out of the history: others may come to stand where it would have.
    fn append_as(&self, log: &Log, topic: &str, partition: usize, id: PartitionId, tag: u64, batch: Batch) {
        let (ledger, refused, topic) = (self.ledger.clone(), self.refused.clone(), topic.to_owned());
        let done = move |appended: Result<Appended, AppendError>| {
            let in_doubt = matches!(appended, Err(AppendError::Writer(WriterError::Ended { .. })));
            let stored = refused.take(appended).is_some();
            let mut ledger = ledger.lock().expect("lock");
            let history = ledger.topics.get_mut(&topic).expect("exists");
            let history = &mut history.partitions[partition];
            match history.sent.iter().position(|sent| sent.tag == tag) {
                Some(at) if stored => history.acknowledged = history.acknowledged.max(at + 1),
                Some(at) if !in_doubt && at >= history.acknowledged => drop(history.sent.remove(at)),
                _ => {}
            }
        };
        if !self.by_itself {
            return log.append(id, batch, done);
        }
        let groups = log.metrics().groups;
        log.append_here(id, batch, done);
        // Nobody else commits.
        self.committed_alone.fetch_add(log.metrics().groups - groups, Ordering::Relaxed);
    }

    /// Sends the newest batch of a partition once more, as a client does that missed its answer; its
    /// original may be in the same group of the journal.
    fn repeat(&self, log: &Log, topic: &str, partition: usize, id: PartitionId) -> bool {
        let last = self.history(topic, |history| history.partitions[partition].sent.last().cloned());
        let Some(sent) = last.filter(|sent| sent.producer.is_some()) else {
            return false;
        };
        let again = self.batch(&sent);
        self.append_as(log, topic, partition, id, sent.tag, again);
        true
    }
}
