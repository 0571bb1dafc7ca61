//! A service that fits together, and one that runs.

use std::collections::BTreeMap;
use std::fmt;
use std::future::{Future, pending};
use std::sync::Arc;

use courant_core::position::TopicPartition;
use courant_core::topic::TopicName;
use courant_engine::{Partition, Subscribe, SubscribeError};
use courant_sql::{BeginError, Store};
use tokio::sync::{Notify, watch};
use tokio::task::{JoinError, JoinSet};
use tracing::warn;

use crate::channel::Channel;
use crate::operations::{DeadLetters, PlainTx};
use crate::runtime::{
    Context, Driver, Ledger, Orders, State, Status, Trouble, Turn, run_forgetting, run_relay, run_timers,
};
use crate::store::{Backing, NoStore};
use crate::{Anew, Publisher, SignalError, Stall, Transactions, until_signal};

/// A service that was built: everything fits together, and nothing runs yet.
pub struct Service<S: Backing = NoStore> {
    context: Arc<Context>,
    prepared: Vec<Prepared>,
    store: S,
    /// The service has opened its engine, and closes it.
    owns_engine: bool,
    /// What says how the service is; `None`: nobody does.
    channel: Option<Arc<Channel>>,
    anew: Vec<Anew>,
}

/// A subscription, ready to run.
pub(crate) struct Prepared {
    pub(crate) ledger: Arc<dyn Ledger>,
    pub(crate) orders: Orders,
    pub(crate) partitions: Vec<Partition>,
    pub(crate) status: Arc<Status>,
    pub(crate) decided: Arc<Notify>,
}

impl Prepared {
    /// What is the turn of one instance is that of whoever has the first partition.
    fn turn(&self) -> Option<Turn> {
        let partition = named(self.partitions.first()?)?;
        Some(Turn { partition, status: self.status.clone() })
    }
}

/// A service that runs. Dropped, it stops where it is; [`Running::stop`] ends it in order.
pub struct Running<S: Backing = NoStore> {
    context: Arc<Context>,
    store: S,
    owns_engine: bool,
    watched: Vec<Watched>,
    stop: watch::Sender<bool>,
    drivers: JoinSet<Result<(), RunError>>,
    /// What moves the outbox on: the relay, and the task of the timers. What forgets closed dead letters. And what
    /// says how the service is.
    relay: JoinSet<RunError>,
    channel: Option<Arc<Channel>>,
}

/// What is known of a subscription that runs.
pub(crate) struct Watched {
    pub(crate) status: Arc<Status>,
    pub(crate) partitions: Vec<Partition>,
    /// Tells the subscription that somebody has decided about dead letters.
    pub(crate) decided: Arc<Notify>,
}

/// Why a service has not begun, or has ended in another way than in order.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RunError {
    /// A consumer could not begin.
    #[error("consumer {consumer} cannot subscribe: {source}")]
    Subscribe {
        /// Its name.
        consumer: String,
        /// What the engine says.
        source: SubscribeError,
    },
    /// A consumer cannot go on.
    #[error("consumer {consumer} cannot go on: {reason}")]
    Consumer {
        /// Its name.
        consumer: String,
        /// Why.
        reason: String,
    },
    /// The outbox is not published any more.
    #[error("the outbox is not published any more: {reason}")]
    Relay {
        /// Why.
        reason: String,
    },
    /// What is scheduled is not published any more.
    #[error("what is scheduled is not published any more: {reason}")]
    Timers {
        /// Why.
        reason: String,
    },
    /// A task of the service has ended in a way that none should.
    #[error("a task of the service has ended: {0}")]
    Task(#[from] JoinError),
    /// Signals that would end it cannot be heard, or a second one has come before the end.
    #[error(transparent)]
    Signal(#[from] SignalError),
}

impl<S: Backing> Service<S> {
    pub(crate) fn new(context: Arc<Context>, prepared: Vec<Prepared>, store: S, owns_engine: bool) -> Self {
        Self { context, prepared, store, owns_engine, channel: None, anew: Vec::new() }
    }

    pub(crate) fn with_channel(self, channel: Option<Arc<Channel>>) -> Self {
        Self { channel, ..self }
    }

    pub(crate) fn beginning_anew(self, anew: Vec<Anew>) -> Self {
        Self { anew, ..self }
    }

    /// Subscriptions that will handle again what they have handled before, because they are of a new generation:
    /// what repeats by that is to be known before the service starts, which says it in the log as well.
    pub fn begins_anew(&self) -> &[Anew] {
        &self.anew
    }

    /// Publishes directly into the engine, for code that is no handler.
    pub fn publisher(&self) -> Publisher {
        self.context.publisher()
    }
}

impl Service<NoStore> {
    /// Starts, and comes back while it runs.
    ///
    /// # Errors
    /// [`RunError::Subscribe`].
    pub async fn start(self) -> Result<Running<NoStore>, RunError> {
        self.started(JoinSet::new()).await
    }

    /// Runs until `shutdown` is done, then ends in order.
    ///
    /// # Errors
    /// It cannot begin, or cannot go on.
    pub async fn run_until(self, shutdown: impl Future<Output = ()>) -> Result<(), RunError> {
        self.start().await?.until(shutdown).await
    }

    /// Runs until SIGTERM or Ctrl-C, then ends in order, which takes a minute and some seconds at most, or what
    /// [`App::stop_within`](crate::App::stop_within) says; a second signal ends it at once. See [`until_signal`].
    ///
    /// # Errors
    /// It cannot begin, or cannot go on, or has not ended before the second signal.
    pub async fn run_until_signal(self) -> Result<(), RunError> {
        until_signal(|told| self.run_until(told)).await?
    }

    /// Runs until nothing is left to do, then ends in order. See [`Running::settle`].
    ///
    /// # Errors
    /// It cannot begin, or cannot go on.
    pub async fn run_until_settled(self) -> Result<(), RunError> {
        let mut running = self.start().await?;
        running.settle().await?;
        running.stop().await
    }
}

impl<D: Store> Service<D> {
    /// Starts, and comes back while it runs.
    ///
    /// # Errors
    /// [`RunError::Subscribe`].
    pub async fn start(self) -> Result<Running<D>, RunError> {
        let mut relay = JoinSet::new();
        let (store, context) = (self.store.clone(), self.context.clone());
        relay.spawn(async move { RunError::Relay { reason: said(run_relay(store, context).await) } });
        let (store, context) = (self.store.clone(), self.context.clone());
        relay.spawn(async move { RunError::Timers { reason: said(run_timers(store, context).await) } });
        let (store, context) = (self.store.clone(), self.context.clone());
        let turn = self.prepared.first().and_then(Prepared::turn);
        relay.spawn(async move { run_forgetting(store, context, turn).await });
        self.started(relay).await
    }

    /// Runs until `shutdown` is done, then ends in order.
    ///
    /// # Errors
    /// It cannot begin, or cannot go on.
    pub async fn run_until(self, shutdown: impl Future<Output = ()>) -> Result<(), RunError> {
        self.start().await?.until(shutdown).await
    }

    /// Runs until SIGTERM or Ctrl-C, then ends in order, which takes a minute and some seconds at most, or what
    /// [`App::stop_within`](crate::App::stop_within) says; a second signal ends it at once. See [`until_signal`].
    ///
    /// # Errors
    /// It cannot begin, or cannot go on, or has not ended before the second signal.
    pub async fn run_until_signal(self) -> Result<(), RunError> {
        until_signal(|told| self.run_until(told)).await?
    }

    /// Runs until nothing is left to do, then ends in order. See [`Running::settle`].
    ///
    /// # Errors
    /// It cannot begin, or cannot go on.
    pub async fn run_until_settled(self) -> Result<(), RunError> {
        let mut running = self.start().await?;
        running.settle().await?;
        running.stop().await
    }

    /// Begins a transaction of plain code, which can publish with what it changes.
    ///
    /// # Errors
    /// Says what the database said.
    pub async fn transaction(&self) -> Result<PlainTx<D>, BeginError> {
        self.transactions().begin().await
    }

    /// What begins such transactions while the service runs, for whoever serves requests.
    pub fn transactions(&self) -> Transactions<D> {
        Transactions::new(self.store.clone(), self.context.clone())
    }
}

impl<S: Backing> Service<S> {
    async fn started(self, mut relay: JoinSet<RunError>) -> Result<Running<S>, RunError> {
        let Self { context, prepared, store, owns_engine, channel, anew } = self;
        for anew in anew {
            warn!("{anew}");
        }
        let stop = watch::Sender::new(false);
        let (mut drivers, mut watched) = (JoinSet::new(), Vec::new());
        for Prepared { ledger, orders, partitions, status, decided } in prepared {
            let consumer = orders.consumer.clone();
            let subscribe = Subscribe::new(consumer.clone(), topics(&partitions));
            let subscribed = context.engine.subscribe(subscribe).await;
            let subscription =
                subscribed.map_err(|source| RunError::Subscribe { consumer: consumer.clone(), source })?;
            watched.push(Watched { status: status.clone(), partitions, decided: decided.clone() });
            let driver = Driver::new(context.clone(), ledger, orders, subscription, status, decided);
            let stopped = stop.subscribe();
            drivers.spawn(async move {
                let run = driver.run(stopped).await;
                run.map_err(|trouble| RunError::Consumer { consumer, reason: said(trouble) })
            });
        }
        if let Some(channel) = channel.clone() {
            relay.spawn(async move { channel.run().await });
        }
        Ok(Running { context, store, owns_engine, watched, stop, drivers, relay, channel })
    }
}

fn said(trouble: Trouble) -> String {
    match trouble {
        Trouble::Broken(said) | Trouble::Away(said) => said,
        Trouble::Fenced => "another instance of the service has taken over".to_owned(),
    }
}

fn topics(partitions: &[Partition]) -> Vec<TopicName> {
    let mut names: Vec<&str> = partitions.iter().map(|partition| &*partition.topic).collect();
    names.sort_unstable();
    names.dedup();
    names.into_iter().filter_map(|name| TopicName::new(name).ok()).collect()
}

impl<D: Store> Running<D> {
    /// The dead letters, to be looked at and decided about.
    pub fn dead_letters(&self) -> DeadLetters<'_, D> {
        DeadLetters::new(&self.store, &self.context, &self.watched)
    }

    /// Begins a transaction of plain code, which can publish with what it changes.
    ///
    /// # Errors
    /// Says what the database said.
    pub async fn transaction(&self) -> Result<PlainTx<D>, BeginError> {
        self.transactions().begin().await
    }

    /// What begins such transactions while the service runs, for whoever serves requests.
    pub fn transactions(&self) -> Transactions<D> {
        Transactions::new(self.store.clone(), self.context.clone())
    }

    /// The store.
    pub fn store(&self) -> &D {
        &self.store
    }
}

impl<S: Backing> Running<S> {
    /// Publishes directly into the engine, for code that is no handler.
    pub fn publisher(&self) -> Publisher {
        self.context.publisher()
    }

    /// The engine that it runs on.
    pub fn engine(&self) -> &Arc<dyn courant_engine::Engine> {
        &self.context.engine
    }

    /// How many events were passed because no handler is there for their type.
    pub fn passed(&self) -> u64 {
        self.watched.iter().map(|watched| watched.status.get().passed).sum()
    }

    /// What does not go on at the moment, and is tried again, by consumer: for whoever asks the process how it is. Of
    /// these the service tells others all but what was said, as far as its store and its engine let it.
    pub fn stalls(&self) -> Vec<Stall> {
        self.context.stalls.all()
    }

    /// Waits until nothing is left to do: every event is handled, parked or dead, the outbox is
    /// published, and what is scheduled or tried again later is not due yet. It sleeps for nothing but
    /// these; a clock that stands is not moved. Where as many events are parked as may be, the others are not
    /// read, and not waited for. While other instances of the service have some of
    /// its partitions it does not come back: what is left there it does not know.
    ///
    /// # Errors
    /// The service cannot go on.
    pub async fn settle(&mut self) -> Result<(), RunError> {
        loop {
            let count = self.context.activity.count();
            let is_said = self.channel.as_ref().is_none_or(|channel| channel.is_quiet());
            if is_said && is_quiet(&self.context, &self.watched).await {
                if self.context.activity.count() == count {
                    return Ok(());
                }
                continue;
            }
            tokio::select! {
                biased;
                error = failure(&mut self.drivers, &mut self.relay) => return Err(error),
                () = self.context.activity.beyond(count) => {}
            }
        }
    }

    /// Runs until `shutdown` is done, then ends in order.
    ///
    /// # Errors
    /// The service cannot go on.
    pub async fn until(mut self, shutdown: impl Future<Output = ()>) -> Result<(), RunError> {
        let failed = tokio::select! {
            biased;
            error = failure(&mut self.drivers, &mut self.relay) => Some(error),
            () = shutdown => None,
        };
        let stopped = self.stop().await;
        failed.map_or(stopped, Err)
    }

    /// Ends in order: what is under way comes to its end, and progress is kept. Nothing is waited for longer than
    /// [`App::stop_within`](crate::App::stop_within) says, at first a minute; what could not be kept comes again at the
    /// next start.
    ///
    /// # Errors
    /// The service could not go on before it was to end.
    pub async fn stop(mut self) -> Result<(), RunError> {
        self.context.stalls.end_all();
        self.stop.send_replace(true);
        let mut failed = None;
        let all = async {
            while let Some(ended) = self.drivers.join_next().await {
                let ended = ended.unwrap_or_else(|error| Err(RunError::from(error)));
                failed = failed.take().or(ended.err());
            }
        };
        // The steps of a subscription have bounds of their own, which come to less.
        if tokio::time::timeout(self.context.stop_times.total, all).await.is_err() {
            let subscriptions = self.drivers.len();
            warn!(
                subscriptions,
                "subscriptions do not end, and are given up: what they have done since they last kept how far \
                 they are comes again"
            );
            self.drivers.shutdown().await;
        }
        if let Some(channel) = &self.channel {
            channel.leave().await;
        }
        self.relay.shutdown().await;
        if self.owns_engine {
            self.context.engine.close().await;
        }
        failed.map_or(Ok(()), Err)
    }

    /// Ends as a power cut would: nothing is finished, kept or closed. Comes back when all that the
    /// service had is let go.
    #[cfg(feature = "testkit")]
    pub async fn kill(self) {
        let Self { context, store, mut drivers, mut relay, watched, stop, channel, owns_engine: _ } = self;
        drivers.shutdown().await;
        relay.shutdown().await;
        drop((store, watched, stop, drivers, relay, channel));
        // Workers are told to end when their driver is dropped, and end when they are looked at next.
        while Arc::strong_count(&context) > 1 {
            tokio::task::yield_now().await;
        }
    }
}

impl<S: Backing> fmt::Debug for Service<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Service").field("name", &self.context.service).finish_non_exhaustive()
    }
}

impl<S: Backing> fmt::Debug for Running<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Running").field("name", &self.context.service).finish_non_exhaustive()
    }
}

/// Comes back when a part of the service has ended that should not have.
async fn failure(drivers: &mut JoinSet<Result<(), RunError>>, relay: &mut JoinSet<RunError>) -> RunError {
    tokio::select! {
        Some(ended) = drivers.join_next() => match ended {
            Ok(Err(error)) => error,
            Ok(Ok(())) => RunError::Consumer {
                consumer: "of the service".to_owned(),
                reason: "it has ended without being told to".to_owned(),
            },
            Err(error) => RunError::from(error),
        },
        Some(ended) = relay.join_next() => ended.unwrap_or_else(RunError::from),
        else => pending().await,
    }
}

/// Whether nothing happens before something comes from outside, or the clock moves on.
async fn is_quiet(context: &Context, watched: &[Watched]) -> bool {
    // What costs nothing first. Then in the way that events go: what has left one place when it is looked
    // at has come to a later one, which is held against what was known at the beginning.
    let now_ms = context.time.now_ms();
    let states: Vec<State> = watched.iter().map(|watched| watched.status.get()).collect();
    if !states.iter().all(|state| state.is_quiet(now_ms)) {
        return false;
    }
    if let Some(backlog) = &context.backlog
        && (!context.relay.get().is_resting || !context.forgetting.is_quiet(now_ms) || backlog().await > 0)
    {
        return false;
    }
    for (Watched { partitions, .. }, state) in watched.iter().zip(&states) {
        if state.is_full {
            // What reads nothing has nothing to come, before somebody decides about what is parked. Of a partition
            // that it does not have yet there may be something to try again.
            if partitions.iter().any(|partition| next_of(&state.next, partition).is_none()) {
                return false;
            }
            continue;
        }
        let ends = context.engine.ends(partitions.clone()).await;
        let ends = partitions.iter().zip(ends).all(|(partition, ends)| {
            let next = next_of(&state.next, partition);
            ends.is_ok_and(|ends| next == Some(ends.end))
        });
        if !ends {
            return false;
        }
    }
    true
}

fn next_of(next: &BTreeMap<TopicPartition, u64>, partition: &Partition) -> Option<u64> {
    next.get(&named(partition)?).copied()
}

fn named(partition: &Partition) -> Option<TopicPartition> {
    let topic = TopicName::new(&partition.topic).ok()?;
    Some(TopicPartition { topic, partition: partition.number })
}
