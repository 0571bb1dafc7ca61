//! The log of this process as an engine: `memory:` and `embedded:` are one log on two storages.
//!
//! The log answers through callbacks on its own thread; here they become futures. What may wait for the
//! disk, reads and the end of the log, runs on the runtime's threads for blocking work.

mod groups;
mod open;
mod publish;
mod reading;
mod subscription;
mod topics;

use std::fmt;
use std::future::ready;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use courant_core::consumer::COPY_OF_PROGRESS;
use courant_core::topic::TopicName;
use courant_log::limits::{GROUP_NAME_BYTES_MAX, MESSAGE_BYTES_MAX, PARTITIONS_PER_TOPIC_MAX};
use courant_log::{CommittedOffset, GroupError, Log, PartitionId, WriterError};
use tokio::sync::{oneshot, watch};
use tokio::task::spawn_blocking;
use uuid::Uuid;

use self::groups::Groups;
use self::subscription::LocalSubscription;
use crate::limits::{FETCH_BYTES_MAX, MEMORY_RETENTION_PARTS};
use crate::{
    Access, Boxed, Capabilities, CommitError, CreateTopicError, Durability, Ends, Engine, EngineConfig,
    GroupScope, Lifetime, NewRecord, NewTopic, OrderScope, Partition, Position, PublishDedup, PublishError,
    ReadBack, ReadError, Replay, Subscribe, SubscribeError, Subscription, TimeLookup, TimedOffset, Topic,
    TopicsError,
};

/// Leader epoch of a committed offset about which nothing is known (Kafka's own mark for it).
const NO_LEADER_EPOCH: i32 = -1;

/// Where a log is, as far as an engine differs by it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Memory {
        bytes_max: u64,
    },
    Embedded,
    /// A server in this process has it, and ends it.
    Served,
}

/// An engine on the log of this process.
#[derive(Debug)]
pub(crate) struct LocalEngine {
    shared: Arc<Shared>,
}

/// What the engine and its subscriptions have in common.
struct Shared {
    log: Log,
    /// Another one for each engine that this process has ever opened.
    number: u64,
    kind: Kind,
    config: EngineConfig,
    /// Whether the engine was closed, for who looks before each call and must not hold up others who do.
    is_closed: AtomicBool,
    /// The same; whoever waits is told.
    closed: watch::Sender<bool>,
    groups: Mutex<Groups>,
    /// Where the next batch of records without a key goes.
    keyless: AtomicU32,
    /// Bytes that were published into memory since retention was looked at.
    unswept: AtomicU64,
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared")
            .field("kind", &self.kind)
            .field("log", &self.log.id())
            .finish_non_exhaustive()
    }
}

impl Shared {
    fn is_closed(&self) -> bool {
        self.is_closed.load(Ordering::Acquire)
    }

    fn note_closed(&self) {
        // First: who is told may look.
        self.is_closed.store(true, Ordering::Release);
        self.closed.send_replace(true);
    }

    /// Returns once the engine is closed.
    async fn until_closed(&self) {
        let mut closed = self.closed.subscribe();
        // The sender is a field of `self`, so it does not go away meanwhile.
        let _ = closed.wait_for(|closed| *closed).await;
    }

    fn groups(&self) -> MutexGuard<'_, Groups> {
        self.groups.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn partition(&self, partition: &Partition) -> Option<PartitionId> {
        self.partition_in(partition, None)
    }

    /// A partition of the topic with this id, if there is one, and otherwise of the one that is there.
    fn partition_in(&self, partition: &Partition, topic_id: Option<Uuid>) -> Option<PartitionId> {
        let number = usize::try_from(partition.number).ok()?;
        self.log.with_catalog(|catalog| {
            let topic = catalog.by_name(&partition.topic)?;
            let is_it = topic_id.is_none_or(|id| topic.id == id);
            topic.partitions.get(number).copied().filter(|_| is_it)
        })
    }

    /// Counts what was published. Memory may be full before the log looks at retention by itself, which it
    /// does once a minute.
    fn note_published(&self, bytes: usize) {
        let Kind::Memory { bytes_max } = self.kind else { return };
        let bytes = bytes as u64;
        if self.unswept.fetch_add(bytes, Ordering::Relaxed) + bytes >= bytes_max / MEMORY_RETENTION_PARTS {
            self.unswept.store(0, Ordering::Relaxed);
            let log = self.log.clone();
            // Nobody waits for it: what is published next has room still.
            drop(spawn_blocking(move || log.enforce_retention()));
        }
    }

    /// Answers about each of `wanted` on a thread that may wait for the disk.
    async fn each<W: Send + 'static, T: Send + 'static>(
        self: &Arc<Self>,
        wanted: Vec<W>,
        answer: fn(&Self, W) -> Result<T, ReadError>,
    ) -> Vec<Result<T, ReadError>> {
        let count = wanted.len();
        let closed = || (0..count).map(|_| Err(ReadError::Closed)).collect();
        if self.is_closed() {
            return closed();
        }
        let shared = self.clone();
        let answers = spawn_blocking(move || {
            let answers = wanted.into_iter().map(|wanted| answer(&shared, wanted));
            answers.collect::<Vec<_>>()
        });
        answers.await.unwrap_or_else(|_| closed())
    }

    fn commit(
        &self,
        group: &str,
        positions: Vec<(Position, Option<Uuid>)>,
        note: &str,
    ) -> Result<oneshot::Receiver<Result<(), GroupError>>, CommitError> {
        if self.is_closed() {
            return Err(CommitError::Closed);
        }
        let committed_ms = self.config.clock.now_ms();
        let mut offsets = Vec::with_capacity(positions.len());
        for (Position { partition, offset }, topic_id) in positions {
            // The log gives no partition the id of one that was deleted, and leaves out what is kept for that.
            let id = self.partition_in(&partition, topic_id);
            let id = id.ok_or(CommitError::UnknownPartition { partition })?;
            let metadata = note.to_owned();
            let leader_epoch = NO_LEADER_EPOCH;
            offsets.push((id, CommittedOffset { offset, leader_epoch, metadata, committed_ms }));
        }
        let (done, answered) = oneshot::channel();
        self.log.commit_offsets(group.to_owned(), offsets, move |result| {
            // Whoever committed may have gone; the commit stays.
            let _ = done.send(result);
        });
        Ok(answered)
    }

    /// Commits, with something that is kept beside each offset.
    async fn commit_with(
        &self,
        group: String,
        positions: Vec<(Position, Option<Uuid>)>,
        note: &str,
    ) -> Result<(), CommitError> {
        match self.commit(&group, positions, note)?.await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(GroupError::Writer(WriterError::Stopped))) | Err(_) => Err(CommitError::Closed),
            Ok(Err(error)) => Err(CommitError::Failed { group, reason: error.to_string() }),
        }
    }

    fn committed(&self, group: &str, partitions: Vec<Partition>) -> Result<Vec<Option<u64>>, CommitError> {
        if self.is_closed() {
            return Err(CommitError::Closed);
        }
        let committed = |partition: Partition| {
            let id = self.partition(&partition).ok_or(CommitError::UnknownPartition { partition })?;
            Ok(self.log.committed_offset(group, id).map(|committed| committed.offset))
        };
        partitions.into_iter().map(committed).collect()
    }

    fn check_subscribe(&self, wanted: &Subscribe) -> Result<(), SubscribeError> {
        if self.is_closed() {
            return Err(SubscribeError::Closed);
        }
        let (bytes, max) = (wanted.group.len(), GROUP_NAME_BYTES_MAX);
        if bytes == 0 || bytes > max {
            return Err(SubscribeError::GroupName { bytes, max });
        }
        if wanted.topics.is_empty() {
            return Err(SubscribeError::NoTopics);
        }
        if !(1..=FETCH_BYTES_MAX).contains(&wanted.bytes_max) {
            return Err(SubscribeError::Bytes { bytes: wanted.bytes_max });
        }
        let catalog = self.log.catalog();
        match wanted.topics.iter().find(|topic| catalog.by_name(topic.as_str()).is_none()) {
            Some(unknown) => Err(SubscribeError::UnknownTopic { topic: unknown.as_str().to_owned() }),
            None => Ok(()),
        }
    }
}

/// Of the topics that are there.
fn of_any(positions: Vec<Position>) -> Vec<(Position, Option<Uuid>)> {
    positions.into_iter().map(|position| (position, None)).collect()
}

impl Drop for LocalEngine {
    /// An engine that nobody closed is closed here, so that its directory is free whatever subscriptions
    /// are left. This waits for a sync and a checkpoint: `close` is for those who cannot.
    fn drop(&mut self) {
        self.shared.note_closed();
        if self.shared.kind != Kind::Served {
            self.shared.log.stop();
        }
    }
}

impl Engine for LocalEngine {
    fn kind(&self) -> &'static str {
        match self.shared.kind {
            Kind::Memory { .. } => "memory",
            Kind::Embedded | Kind::Served => "embedded",
        }
    }

    fn log_id(&self) -> Uuid {
        self.shared.log.id()
    }

    fn capabilities(&self) -> Capabilities {
        let (durability, lifetime) = match self.shared.kind {
            Kind::Memory { .. } => (Durability::Memory, Lifetime::Engine),
            Kind::Embedded | Kind::Served => (Durability::Disk, Lifetime::Storage),
        };
        // Who reaches the server can write.
        let access = if self.shared.kind == Kind::Served { Access::Anybody } else { Access::Process };
        Capabilities {
            order: OrderScope::Partition,
            replay: Replay::AnyOffset,
            durability,
            lifetime,
            publish_dedup: PublishDedup::Nothing,
            groups: GroupScope::Process,
            time_lookup: TimeLookup::Timestamp,
            access,
            record_bytes_max: MESSAGE_BYTES_MAX,
            partitions_max: PARTITIONS_PER_TOPIC_MAX,
        }
    }

    fn topics(&self, names: Vec<TopicName>) -> Boxed<'_, Result<Vec<Option<Topic>>, TopicsError>> {
        Box::pin(ready(self.shared.topics(&names)))
    }

    fn create_topics(&self, topics: Vec<NewTopic>) -> Boxed<'_, Vec<Result<Topic, CreateTopicError>>> {
        Box::pin(self.shared.create_topics(topics))
    }

    fn publish(&self, records: Vec<NewRecord>) -> Boxed<'_, Vec<Result<Position, PublishError>>> {
        publish::publish(&self.shared, records)
    }

    fn subscribe(&self, wanted: Subscribe) -> Boxed<'_, Result<Box<dyn Subscription>, SubscribeError>> {
        let subscription = self.shared.check_subscribe(&wanted).map(|()| {
            let subscription: Box<dyn Subscription> = Box::new(LocalSubscription::join(&self.shared, wanted));
            subscription
        });
        Box::pin(ready(subscription))
    }

    fn read(&self, positions: Vec<Position>) -> Boxed<'_, Vec<Result<ReadBack, ReadError>>> {
        Box::pin(self.shared.each(positions, reading::read_back))
    }

    fn ends(&self, partitions: Vec<Partition>) -> Boxed<'_, Vec<Result<Ends, ReadError>>> {
        let ends = partitions.into_iter().map(|partition| reading::ends(&self.shared, partition));
        Box::pin(ready(ends.collect::<Vec<_>>()))
    }

    fn offsets_for_time(
        &self,
        wanted: Vec<(Partition, i64)>,
    ) -> Boxed<'_, Vec<Result<Option<TimedOffset>, ReadError>>> {
        Box::pin(self.shared.each(wanted, reading::offset_for_time))
    }

    fn commit(&self, group: String, positions: Vec<Position>) -> Boxed<'_, Result<(), CommitError>> {
        Box::pin(self.shared.commit_with(group, of_any(positions), ""))
    }

    fn commit_copy(&self, group: String, positions: Vec<Position>) -> Boxed<'_, Result<(), CommitError>> {
        Box::pin(self.shared.commit_with(group, of_any(positions), COPY_OF_PROGRESS))
    }

    fn topic_id(&self, topic: &str) -> Option<Uuid> {
        self.shared.log.with_catalog(|catalog| catalog.by_name(topic).map(|topic| topic.id))
    }

    fn commit_in(
        &self,
        group: String,
        positions: Vec<(Position, Option<Uuid>)>,
    ) -> Boxed<'_, Result<(), CommitError>> {
        Box::pin(self.shared.commit_with(group, positions, ""))
    }

    fn committed(
        &self,
        group: String,
        partitions: Vec<Partition>,
    ) -> Boxed<'_, Result<Vec<Option<u64>>, CommitError>> {
        Box::pin(ready(self.shared.committed(&group, partitions)))
    }

    fn close(&self) -> Boxed<'_, ()> {
        Box::pin(async move {
            self.shared.note_closed();
            if self.shared.kind == Kind::Served {
                return;
            }
            let log = self.shared.log.clone();
            // Also when another call has begun it: this waits for that one.
            if spawn_blocking(move || log.stop()).await.is_err() {
                tracing::warn!("the engine was not closed in order; it is recovered when it is opened again");
            }
        })
    }
}
