//! The contract of engines, and how one is opened.

use std::fmt;
use std::future::{Future, ready};
use std::pin::Pin;
use std::sync::Arc;

use courant_core::clock::Clock;
use courant_core::entropy::Entropy;
use courant_core::topic::TopicName;
use courant_log::{Log, SystemClock, SystemEntropy};
use uuid::Uuid;

use crate::local::LocalEngine;
use crate::{
    Capabilities, CommitError, CreateTopicError, Ends, EngineUrl, NewRecord, NewTopic, OpenError, Partition,
    Position, PublishError, ReadBack, ReadError, RemoteUrl, Scheme, Subscribe, SubscribeError, Subscription,
    TimedOffset, Topic, TopicsError,
};

/// A future in a box: one for each call, however many records the call is about.
pub type Boxed<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Where events flow.
///
/// Methods take batches and answer for each element, in the order of the elements. A future that is
/// dropped takes nothing back: what it was about to do may be done or not.
pub trait Engine: fmt::Debug + Send + Sync + 'static {
    /// What kind of engine this is, for messages: the scheme of its URL.
    fn kind(&self) -> &'static str;

    /// The identity of the log: made when it was created, never changed. Where records have no id of
    /// their own, this, the partition and the offset make one.
    fn log_id(&self) -> Uuid;

    /// What this engine can do.
    fn capabilities(&self) -> Capabilities;

    /// The topics of these names; `None` for those that do not exist.
    fn topics(&self, names: Vec<TopicName>) -> Boxed<'_, Result<Vec<Option<Topic>>, TopicsError>>;

    /// Creates topics. See [`ensure_topics`] for those that may be there already.
    fn create_topics(&self, topics: Vec<NewTopic>) -> Boxed<'_, Vec<Result<Topic, CreateTopicError>>>;

    /// Publishes records, and returns when each is as durable as [`Capabilities::durability`] says, or was
    /// refused.
    ///
    /// Within the call, records of one partition are stored in the order given. A record that can never
    /// be taken is refused alone, and those behind it are stored. After any other failure nothing behind
    /// it in its partition is tried ([`PublishError::NotTried`]), so that nothing overtakes what is
    /// published again. Calls that overlap have no order between each other.
    fn publish(&self, records: Vec<NewRecord>) -> Boxed<'_, Vec<Result<Position, PublishError>>>;

    /// Joins a consumer group. Partitions come as [`crate::Next::Assigned`].
    fn subscribe(&self, wanted: Subscribe) -> Boxed<'_, Result<Box<dyn Subscription>, SubscribeError>>;

    /// Reads single records back: whether the log still is the one that progress was made in.
    fn read(&self, positions: Vec<Position>) -> Boxed<'_, Vec<Result<ReadBack, ReadError>>>;

    /// The ends of partitions.
    fn ends(&self, partitions: Vec<Partition>) -> Boxed<'_, Vec<Result<Ends, ReadError>>>;

    /// For each partition the first record whose timestamp is that time or later, in milliseconds since
    /// 1970; `None` when there is none yet.
    fn offsets_for_time(
        &self,
        wanted: Vec<(Partition, i64)>,
    ) -> Boxed<'_, Vec<Result<Option<TimedOffset>, ReadError>>>;

    /// Keeps a copy of a group's progress, for tools that show lag: of each partition the offset that is
    /// consumed next. All or nothing.
    fn commit(&self, group: String, positions: Vec<Position>) -> Boxed<'_, Result<(), CommitError>>;

    /// As [`Engine::commit`], for a group whose progress is kept elsewhere. Where the engine can, it keeps
    /// [`COPY_OF_PROGRESS`](courant_core::consumer::COPY_OF_PROGRESS) beside each offset, so that a tool tells
    /// whoever wants to set one that this changes nothing.
    fn commit_copy(&self, group: String, positions: Vec<Position>) -> Boxed<'_, Result<(), CommitError>> {
        self.commit(group, positions)
    }

    /// The id of the topic that has this name now, where the engine can tell at once by it that topic from another one of
    /// the same name, made before or after; `None` where it cannot, and where there is no such topic. Never waits.
    ///
    /// An engine around another one hands it on.
    fn topic_id(&self, _topic: &str) -> Option<Uuid> {
        None
    }

    /// As [`Engine::commit`], for the topics that had these ids ([`Engine::topic_id`]): where the topic of a position is not
    /// there any more, nothing is kept, and nothing for another topic of its name. Without an id it is the topic that is
    /// there.
    ///
    /// This looks before it commits, and a topic that is made anew in between is not noticed; an engine that can, does
    /// both in one.
    ///
    /// # Errors
    /// [`CommitError::UnknownPartition`] for a partition whose topic is another one now, besides those of a commit.
    fn commit_in(
        &self,
        group: String,
        positions: Vec<(Position, Option<Uuid>)>,
    ) -> Boxed<'_, Result<(), CommitError>> {
        let is_other = |one: &&(Position, Option<Uuid>)| {
            one.1.is_some_and(|id| self.topic_id(&one.0.partition.topic) != Some(id))
        };
        if let Some((position, _)) = positions.iter().find(is_other) {
            let partition = position.partition.clone();
            return Box::pin(ready(Err(CommitError::UnknownPartition { partition })));
        }
        self.commit(group, positions.into_iter().map(|(position, _)| position).collect())
    }

    /// The copies that [`Engine::commit`] has kept; `None` where there is none. They go with their topic: another one that
    /// is made under its name has none. Where [`Engine::topic_id`] says nothing, a service without a store tells by that,
    /// among other things, whether a topic that was not there for a moment is the same.
    fn committed(
        &self,
        group: String,
        partitions: Vec<Partition>,
    ) -> Boxed<'_, Result<Vec<Option<u64>>, CommitError>>;

    /// Ends the engine in order: every wait ends with an error, everything acknowledged is where it must
    /// be, and the URL can be opened again. A second call waits for the first.
    ///
    /// Dropping the engine does the same on the thread that drops it, which is blocked for as long as that
    /// takes. Subscriptions that outlive it end with an error.
    fn close(&self) -> Boxed<'_, ()>;
}

/// What an engine is given besides its URL.
#[derive(Clone)]
pub struct EngineConfig {
    /// The time that records get which bring none.
    pub clock: Arc<dyn Clock>,
    /// Where new identities come from.
    pub entropy: Arc<dyn Entropy>,
}

impl EngineConfig {
    /// The machine's clock and randomness.
    #[must_use]
    pub fn system() -> Self {
        Self { clock: Arc::new(SystemClock), entropy: Arc::new(SystemEntropy) }
    }
}

impl fmt::Debug for EngineConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EngineConfig").finish_non_exhaustive()
    }
}

/// Opens engines of servers: a crate of its own for each kind, so that nobody builds what they do not use.
pub trait EngineFactory: fmt::Debug + Send + Sync {
    /// Whether it opens URLs of this scheme.
    fn opens(&self, scheme: Scheme) -> bool;

    /// Opens the engine that a URL names, which has such a scheme.
    fn open<'a>(
        &'a self,
        url: &'a RemoteUrl,
        config: EngineConfig,
    ) -> Boxed<'a, Result<Arc<dyn Engine>, OpenError>>;
}

/// Opens the engine that a URL names, if it is one of this process. For servers see [`open_with`].
///
/// A directory that was not closed in order is recovered first, which may take a while.
///
/// # Errors
/// See [`OpenError`].
pub async fn open(url: &EngineUrl, config: EngineConfig) -> Result<Arc<dyn Engine>, OpenError> {
    open_with(url, config, &[]).await
}

/// Opens the engine that a URL names; the URL of a server by the first factory that opens its scheme.
///
/// # Errors
/// See [`OpenError`].
pub async fn open_with(
    url: &EngineUrl,
    config: EngineConfig,
    factories: &[&dyn EngineFactory],
) -> Result<Arc<dyn Engine>, OpenError> {
    match url {
        EngineUrl::Memory(options) => Ok(Arc::new(LocalEngine::memory(*options, config).await?)),
        EngineUrl::Embedded(dir) => Ok(Arc::new(LocalEngine::embedded(dir.clone(), config).await?)),
        EngineUrl::Remote(remote) => {
            let Some(factory) = factories.iter().find(|factory| factory.opens(remote.scheme())) else {
                let url = remote.to_string();
                return Err(match remote.scheme().feature() {
                    Some(feature) => OpenError::NotBuiltIn { url, feature },
                    None => OpenError::NoEngine { url },
                });
            };
            factory.open(remote, config).await
        }
    }
}

/// The log of a server in this process as an engine, for services beside it: everybody who reaches the
/// server shares their topics. Closing the engine leaves the log to the server.
///
/// Consumer groups are those of this one engine, and clients of the server that join a group of the same name
/// know nothing of them: share one engine among all services of the process. To the server these groups have no
/// members, so it keeps what they have committed for as long as it is told to keep that of such groups.
#[must_use]
pub fn beside_server(log: Log, config: EngineConfig) -> Arc<dyn Engine> {
    Arc::new(LocalEngine::served(log, config))
}

/// Creates the topics that do not exist yet, and returns all of them as they are. One that exists keeps
/// its partitions and configs.
///
/// # Errors
/// The first one that cannot be created. Those before it exist.
pub async fn ensure_topics(
    engine: &dyn Engine,
    topics: Vec<NewTopic>,
) -> Result<Vec<Topic>, CreateTopicError> {
    let names: Vec<TopicName> = topics.iter().map(|topic| topic.name.clone()).collect();
    for created in engine.create_topics(topics).await {
        match created {
            Ok(_) | Err(CreateTopicError::Exists { .. }) => {}
            Err(error) => return Err(error),
        }
    }
    let mut found = Vec::with_capacity(names.len());
    for (topic, name) in engine.topics(names.clone()).await?.into_iter().zip(names) {
        found.push(topic.ok_or_else(|| CreateTopicError::Vanished { topic: name.into_string() })?);
    }
    Ok(found)
}
