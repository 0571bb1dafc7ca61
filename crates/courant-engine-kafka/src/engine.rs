//! The engine: the contract on top of the clients.

use std::fmt;
use std::sync::atomic::AtomicU32;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::thread;

use courant_core::consumer::COPY_OF_PROGRESS;
use courant_core::topic::TopicName;
use courant_engine::limits::FETCH_BYTES_MAX;
use courant_engine::{
    Boxed, Capabilities, CommitError, CreateTopicError, Ends, Engine, EngineConfig, NewRecord, NewTopic,
    Partition, Position, PublishError, ReadBack, ReadError, Subscribe, SubscribeError, Subscription,
    TimedOffset, Topic, TopicsError,
};
use rdkafka::consumer::Consumer as _;
use rdkafka::error::KafkaResult;
use tokio::sync::watch;
use tokio::task::spawn_blocking;
use tokio::time::timeout;
use uuid::Uuid;

use crate::address::Address;
use crate::catalog::Catalog;
use crate::commits;
use crate::inbox::Inbox;
use crate::limits::{CLOSE_MAX, COMMIT_MAX, GROUP_NAME_BYTES_MAX};
use crate::looking::Looker;
use crate::member::{self, Consumer, Member};
use crate::producer::Producers;
use crate::publish;
use crate::settings::{self, Silence};
use crate::subscription::KafkaSubscription;
use crate::texts;

/// What opening has found.
pub(crate) struct Opened {
    pub(crate) kind: &'static str,
    pub(crate) address: Address,
    pub(crate) log_id: Uuid,
    pub(crate) capabilities: Capabilities,
    pub(crate) looker: Arc<Looker>,
    pub(crate) catalog: Catalog,
    pub(crate) config: EngineConfig,
    pub(crate) silence: Silence,
}

/// An engine on a server.
pub(crate) struct KafkaEngine {
    shared: Arc<Shared>,
}

/// What the engine's calls have in common. Subscriptions do not hold it.
pub(crate) struct Shared {
    pub(crate) address: Address,
    pub(crate) catalog: Catalog,
    pub(crate) producers: Producers,
    /// Where the next call's records without a key go.
    pub(crate) keyless: AtomicU32,
    kind: &'static str,
    log_id: Uuid,
    capabilities: Capabilities,
    looker: Arc<Looker>,
    config: EngineConfig,
    silence: Silence,
    /// Whether the engine was closed; whoever waits is told.
    closed: watch::Sender<bool>,
    members: Mutex<Vec<Joined>>,
    /// Threads of subscriptions that have not ended.
    threads: watch::Sender<usize>,
}

/// A subscription's member of a group.
struct Joined {
    group: String,
    inbox: Weak<Inbox>,
    consumer: Weak<Consumer>,
}

/// Counts a thread while it is there.
struct Counted(watch::Sender<usize>);

impl Counted {
    fn new(threads: &watch::Sender<usize>) -> Self {
        threads.send_modify(|threads| *threads += 1);
        Self(threads.clone())
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.send_modify(|threads| *threads = threads.saturating_sub(1));
    }
}

impl fmt::Debug for KafkaEngine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KafkaEngine")
            .field("kind", &self.shared.kind)
            .field("servers", &self.shared.address.servers)
            .field("log", &self.shared.log_id)
            .finish_non_exhaustive()
    }
}

impl KafkaEngine {
    pub(crate) fn new(opened: Opened) -> Self {
        let Opened { kind, address, log_id, capabilities, looker, catalog, config, silence } = opened;
        let shared = Shared {
            producers: Producers::new(&address),
            address,
            catalog,
            keyless: AtomicU32::new(0),
            kind,
            log_id,
            capabilities,
            looker,
            config,
            silence,
            closed: watch::Sender::new(false),
            members: Mutex::default(),
            threads: watch::Sender::new(0),
        };
        Self { shared: Arc::new(shared) }
    }
}

impl Shared {
    pub(crate) fn is_closed(&self) -> bool {
        *self.closed.borrow()
    }

    /// Returns once the engine is closed.
    pub(crate) async fn until_closed(&self) {
        let mut closed = self.closed.subscribe();
        // The sender is a field of `self`, so it does not go away meanwhile.
        let _ = closed.wait_for(|closed| *closed).await;
    }

    pub(crate) fn now_ms(&self) -> i64 {
        self.config.clock.now_ms().max(0)
    }

    fn members(&self) -> MutexGuard<'_, Vec<Joined>> {
        self.members.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn reason(&self, error: &rdkafka::error::KafkaError) -> String {
        texts::reason(error, &self.address.servers)
    }

    async fn topics(&self, names: Vec<TopicName>) -> Result<Vec<Option<Topic>>, TopicsError> {
        if self.is_closed() {
            return Err(TopicsError::Closed);
        }
        let asked: Vec<String> = names.iter().map(|name| name.as_str().to_owned()).collect();
        let found = self.catalog.look(asked).await.map_err(|reason| TopicsError::Failed { reason })?;
        let topic = |name: &TopicName| Some(found.get(name.as_str())?.as_ref()?.topic.clone());
        Ok(names.iter().map(topic).collect())
    }

    async fn create_topics(&self, topics: Vec<NewTopic>) -> Vec<Result<Topic, CreateTopicError>> {
        if self.is_closed() {
            return topics.iter().map(|_| Err(TopicsError::Closed.into())).collect();
        }
        self.catalog.create(topics).await
    }

    /// Which of these partitions there are. The error is a sentence.
    async fn exist(&self, partitions: &[&Partition]) -> Result<Vec<bool>, String> {
        let mut names: Vec<String> = partitions.iter().map(|partition| partition.topic.to_string()).collect();
        names.dedup();
        let found = self.catalog.get(&names).await?;
        let exists = |partition: &&Partition| {
            let described = found.get(&*partition.topic).and_then(Option::as_ref);
            described.is_some_and(|described| partition.number < described.topic.partitions)
        };
        Ok(partitions.iter().map(exists).collect())
    }

    /// Answers about each of `wanted` on a thread that may wait for the network. `None` from `answer`:
    /// there is no such partition.
    async fn each<W: Send + 'static, T: Send + 'static>(
        &self,
        wanted: Vec<W>,
        partition: fn(&W) -> &Partition,
        answer: fn(&Looker, &W) -> KafkaResult<Option<T>>,
    ) -> Vec<Result<T, ReadError>> {
        if self.is_closed() {
            return wanted.iter().map(|_| Err(ReadError::Closed)).collect();
        }
        let failed = |wanted: &W, reason: &str| {
            let partition = partition(wanted).clone();
            Err(ReadError::Failed { partition, reason: reason.to_owned() })
        };
        let exist = {
            let partitions: Vec<&Partition> = wanted.iter().map(partition).collect();
            self.exist(&partitions).await
        };
        let exist = match exist {
            Ok(exist) => exist,
            Err(reason) => return wanted.iter().map(|wanted| failed(wanted, &reason)).collect(),
        };
        let (looker, servers, count) = (self.looker.clone(), self.address.servers.clone(), wanted.len());
        let answers = spawn_blocking(move || {
            let answers = wanted.into_iter().zip(exist).map(|(wanted, exists)| {
                let partition = partition(&wanted).clone();
                if !exists {
                    return Err(ReadError::UnknownPartition { partition });
                }
                match answer(&looker, &wanted) {
                    Ok(Some(answer)) => Ok(answer),
                    Ok(None) => Err(ReadError::UnknownPartition { partition }),
                    Err(error) => {
                        Err(ReadError::Failed { partition, reason: texts::reason(&error, &servers) })
                    }
                }
            });
            answers.collect::<Vec<_>>()
        });
        // The runtime ends.
        answers.await.unwrap_or_else(|_| (0..count).map(|_| Err(ReadError::Closed)).collect())
    }

    async fn check_group(&self, group: &str, partitions: &[&Partition]) -> Result<(), CommitError> {
        if self.is_closed() {
            return Err(CommitError::Closed);
        }
        let failed = |reason: String| CommitError::Failed { group: shortened(group), reason };
        let (bytes, max) = (group.len(), GROUP_NAME_BYTES_MAX);
        if bytes == 0 || bytes > max || group.contains('\0') {
            return Err(failed(format!("a group's name has 1 to {max} bytes, this one has {bytes}")));
        }
        let exist = self.exist(partitions).await.map_err(failed)?;
        match partitions.iter().zip(exist).find(|(_, exists)| !exists) {
            Some((partition, _)) => Err(CommitError::UnknownPartition { partition: (*partition).clone() }),
            None => Ok(()),
        }
    }

    /// A member of the group in this engine: while a group has members, it takes commits from them alone.
    fn member_of(&self, group: &str) -> Option<Arc<Consumer>> {
        self.members().iter().filter(|joined| joined.group == group).find_map(|one| one.consumer.upgrade())
    }

    /// Commits, with something that is kept beside each offset.
    async fn commit(
        &self,
        group: String,
        positions: Vec<Position>,
        note: &'static str,
    ) -> Result<(), CommitError> {
        {
            let partitions: Vec<_> = positions.iter().map(|position| &position.partition).collect();
            self.check_group(&group, &partitions).await?;
        }
        if positions.is_empty() {
            return Ok(());
        }
        let (member, address, name) = (self.member_of(&group), self.address.clone(), group.clone());
        let committing = spawn_blocking(move || commits::commit(&address, &name, member, &positions, note));
        self.kept(group, timeout(COMMIT_MAX, committing).await)
    }

    async fn committed(
        &self,
        group: String,
        partitions: Vec<Partition>,
    ) -> Result<Vec<Option<u64>>, CommitError> {
        self.check_group(&group, &partitions.iter().collect::<Vec<_>>()).await?;
        let (address, name) = (self.address.clone(), group.clone());
        let asking = spawn_blocking(move || commits::committed(&address, &name, &partitions));
        self.kept(group, Ok(asking.await))
    }

    /// What a question about a group came to.
    fn kept<T>(
        &self,
        group: String,
        answered: Result<Result<KafkaResult<T>, tokio::task::JoinError>, tokio::time::error::Elapsed>,
    ) -> Result<T, CommitError> {
        match answered {
            Ok(Ok(Ok(answer))) => Ok(answer),
            Ok(Ok(Err(error))) => Err(CommitError::Failed { group, reason: self.reason(&error) }),
            Ok(Err(_)) => Err(CommitError::Closed),
            Err(_) => Err(CommitError::Failed { group, reason: texts::absent(&self.address.servers) }),
        }
    }

    async fn subscribe(&self, wanted: Subscribe) -> Result<Box<dyn Subscription>, SubscribeError> {
        self.check_subscribe(&wanted).await?;
        let Subscribe { group, topics, bytes_max } = wanted;
        let inbox = Arc::new(Inbox::default());
        let (address, name, member) = (self.address.clone(), group.clone(), inbox.clone());
        let silence = self.silence;
        let joining = spawn_blocking(move || join(&address, &name, silence, &topics, &member));
        let joined = joining.await.map_err(|_| SubscribeError::Closed)?;
        let consumer = joined.map_err(|error| SubscribeError::Failed { reason: self.reason(&error) })?;
        {
            let mut members = self.members();
            members.retain(|joined| joined.inbox.strong_count() > 0);
            let (inbox, consumer) = (Arc::downgrade(&inbox), Arc::downgrade(&consumer));
            members.push(Joined { group, inbox, consumer });
        }
        let counted = Counted::new(&self.threads);
        let (serving, servers) = (inbox.clone(), self.address.servers.clone());
        let spawned = thread::Builder::new().name("courant-subscription".to_owned()).spawn(move || {
            member::run(consumer, serving, servers);
            drop(counted);
        });
        spawned.map_err(|error| SubscribeError::Failed { reason: error.to_string() })?;
        let subscription = KafkaSubscription::new(inbox, self.closed.subscribe(), bytes_max);
        // One that was closed meanwhile has not told this thread.
        if self.is_closed() {
            return Err(SubscribeError::Closed);
        }
        Ok(Box::new(subscription))
    }

    async fn check_subscribe(&self, wanted: &Subscribe) -> Result<(), SubscribeError> {
        if self.is_closed() {
            return Err(SubscribeError::Closed);
        }
        let (bytes, max) = (wanted.group.len(), GROUP_NAME_BYTES_MAX);
        if bytes == 0 || bytes > max {
            return Err(SubscribeError::GroupName { bytes, max });
        }
        if wanted.group.contains('\0') {
            return Err(SubscribeError::Failed { reason: "the group's name has a NUL in it".to_owned() });
        }
        if wanted.topics.is_empty() {
            return Err(SubscribeError::NoTopics);
        }
        if !(1..=FETCH_BYTES_MAX).contains(&wanted.bytes_max) {
            return Err(SubscribeError::Bytes { bytes: wanted.bytes_max });
        }
        let names: Vec<String> = wanted.topics.iter().map(|name| name.as_str().to_owned()).collect();
        let found = self.catalog.get(&names).await.map_err(|reason| SubscribeError::Failed { reason })?;
        match found.into_iter().find(|(_, described)| described.is_none()) {
            Some((topic, _)) => Err(SubscribeError::UnknownTopic { topic }),
            None => Ok(()),
        }
    }

    /// Tells everybody that the engine is closed.
    fn tell_closed(&self) {
        self.closed.send_replace(true);
        let members = std::mem::take(&mut *self.members());
        members.iter().filter_map(|joined| joined.inbox.upgrade()).for_each(|inbox| inbox.close());
    }
}

/// A new member of a group. Waits for threads to begin.
fn join(
    address: &Address,
    group: &str,
    silence: Silence,
    topics: &[TopicName],
    inbox: &Arc<Inbox>,
) -> KafkaResult<Arc<Consumer>> {
    let config = settings::member(address, group, silence);
    let mut consumer: Consumer =
        config.create_with_context(Member::new(inbox.clone(), address.servers.clone()))?;
    let woken = inbox.clone();
    consumer.set_nonempty_callback(move || woken.raise());
    let topics: Vec<&str> = topics.iter().map(TopicName::as_str).collect();
    consumer.subscribe(&topics)?;
    Ok(Arc::new(consumer))
}

/// The beginning of a name that may be long.
fn shortened(name: &str) -> String {
    name.chars().take(64).collect()
}

impl Drop for KafkaEngine {
    /// Subscriptions are told, and leave their groups on threads of their own.
    fn drop(&mut self) {
        self.shared.tell_closed();
        self.shared.producers.retire_all();
    }
}

impl Engine for KafkaEngine {
    fn kind(&self) -> &'static str {
        self.shared.kind
    }

    fn log_id(&self) -> Uuid {
        self.shared.log_id
    }

    fn capabilities(&self) -> Capabilities {
        self.shared.capabilities
    }

    fn topics(&self, names: Vec<TopicName>) -> Boxed<'_, Result<Vec<Option<Topic>>, TopicsError>> {
        Box::pin(self.shared.topics(names))
    }

    fn create_topics(&self, topics: Vec<NewTopic>) -> Boxed<'_, Vec<Result<Topic, CreateTopicError>>> {
        Box::pin(self.shared.create_topics(topics))
    }

    fn publish(&self, records: Vec<NewRecord>) -> Boxed<'_, Vec<Result<Position, PublishError>>> {
        Box::pin(publish::publish(&self.shared, records))
    }

    fn subscribe(&self, wanted: Subscribe) -> Boxed<'_, Result<Box<dyn Subscription>, SubscribeError>> {
        Box::pin(self.shared.subscribe(wanted))
    }

    fn read(&self, positions: Vec<Position>) -> Boxed<'_, Vec<Result<ReadBack, ReadError>>> {
        Box::pin(self.shared.each(positions, |position| &position.partition, Looker::read))
    }

    fn ends(&self, partitions: Vec<Partition>) -> Boxed<'_, Vec<Result<Ends, ReadError>>> {
        Box::pin(self.shared.each(partitions, |partition| partition, Looker::ends))
    }

    fn offsets_for_time(
        &self,
        wanted: Vec<(Partition, i64)>,
    ) -> Boxed<'_, Vec<Result<Option<TimedOffset>, ReadError>>> {
        Box::pin(self.shared.each(
            wanted,
            |(partition, _)| partition,
            |looker, (partition, at_ms)| looker.at_time(partition, *at_ms).map(Some),
        ))
    }

    fn commit(&self, group: String, positions: Vec<Position>) -> Boxed<'_, Result<(), CommitError>> {
        Box::pin(self.shared.commit(group, positions, ""))
    }

    fn commit_copy(&self, group: String, positions: Vec<Position>) -> Boxed<'_, Result<(), CommitError>> {
        Box::pin(self.shared.commit(group, positions, COPY_OF_PROGRESS))
    }

    fn committed(
        &self,
        group: String,
        partitions: Vec<Partition>,
    ) -> Boxed<'_, Result<Vec<Option<u64>>, CommitError>> {
        Box::pin(self.shared.committed(group, partitions))
    }

    fn close(&self) -> Boxed<'_, ()> {
        Box::pin(async move {
            self.shared.tell_closed();
            let shared = self.shared.clone();
            // The runtime ends; the producers end when they are dropped.
            let _ = spawn_blocking(move || shared.producers.retire_all()).await;
            let mut threads = self.shared.threads.subscribe();
            if timeout(CLOSE_MAX, threads.wait_for(|threads| *threads == 0)).await.is_err() {
                tracing::warn!("subscriptions have not left their groups in time");
            }
        })
    }
}
