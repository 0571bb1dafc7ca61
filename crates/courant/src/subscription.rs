//! What a service wants to hear, and how it is to be handled.

use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;
use std::time::Duration;

use crate::handler::{Arguments, Erased, Handler, IntoOutcome, Invoke, OneTransaction};
use crate::layer::HandlerLayer;
use crate::store::{Backing, NoStore};
use crate::{Event, Retry};

/// Effects take place once: the handler runs in the transaction of the store.
#[derive(Debug)]
pub enum Once {}

/// Effects may repeat: the handler runs without a transaction.
#[derive(Debug)]
pub enum AtLeastOnce {}

/// A kind of subscription: [`Once`] or [`AtLeastOnce`].
pub trait Mode: 'static {
    /// Handlers run without a transaction.
    const AT_LEAST_ONCE: bool;
}

impl Mode for Once {
    const AT_LEAST_ONCE: bool = false;
}

impl Mode for AtLeastOnce {
    const AT_LEAST_ONCE: bool = true;
}

/// Events that may be parked of a consumer, unless it says otherwise.
const PARKED_EVENTS: u64 = 100_000;

/// What is to happen when an event has had all its attempts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exhausted {
    /// It becomes a dead letter that keeps its key parked: later events of the key wait, in order, until
    /// somebody redrives it, discards it or archives it. Other keys go on. Needs a store.
    ParkKey,
    /// It becomes a dead letter, and later events of its key go on without it.
    DeadLetter,
    /// It is tried again at the longest delay until it succeeds, and the progress of its partition waits
    /// for it. Only without a store; with one, [`Exhausted::ParkKey`] stops the key alone.
    Block,
    /// It is passed, and counts as handled.
    Skip,
}

/// Where a consumer begins that has no progress yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StartFrom {
    /// At the oldest event that is kept.
    Oldest,
    /// Behind the newest event of the moment in which it first starts.
    Newest,
    /// At the first event of that time or later, in milliseconds since 1970.
    Time(i64),
}

/// What to do when a partition is not the one that progress was made in: the log was replaced, or was
/// restored to an earlier state.
///
/// Nothing begins before events of the log so far that are parked or are dead letters: the events that have their
/// offsets now could not be parked beside them. The service ends then, and says how many there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OtherLog {
    /// The service does not start.
    Refuse,
    /// Go on at the same offset, or at the end if that is before it.
    Adopt,
    /// Begin with the oldest event. What has an id that was handled is not handled again.
    FromStart,
    /// Begin with the first event of that time or later, in milliseconds since 1970.
    FromTime(i64),
}

/// One consumer: its name, its handlers, and what happens when they fail.
///
/// `S` is the store of the service, `T` its state, `M` [`Once`] or [`AtLeastOnce`]; all three are found
/// by the compiler.
pub struct Subscription<S: Backing = NoStore, T = (), M = Once> {
    pub(crate) settings: Settings,
    pub(crate) handlers: Vec<Registered<S, T>>,
    /// Around the handlers, the outermost first.
    pub(crate) layers: Vec<Arc<dyn HandlerLayer>>,
    mode: PhantomData<fn() -> M>,
}

/// A subscription without its handlers.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    pub(crate) consumer: String,
    pub(crate) topics: Vec<String>,
    pub(crate) concurrency: usize,
    pub(crate) batch: usize,
    pub(crate) retry: Retry,
    pub(crate) exhausted: Exhausted,
    pub(crate) parked_max: u64,
    pub(crate) timeout: Duration,
    pub(crate) start: StartFrom,
    pub(crate) other_log: OtherLog,
    pub(crate) generation: u32,
    pub(crate) inbox_kept: Option<Duration>,
    /// `.at_least_once()` came after handlers.
    pub(crate) mode_said_late: bool,
}

/// A handler and what it handles.
pub(crate) struct Registered<S: Backing, T> {
    pub(crate) event_type: &'static str,
    pub(crate) topic: &'static str,
    pub(crate) owner: Option<&'static str>,
    /// The function's name.
    pub(crate) place: &'static str,
    pub(crate) invoke: Arc<dyn Invoke<S, T>>,
}

impl<S: Backing, T> Subscription<S, T, Once> {
    /// A consumer of this name. Everything that is remembered of it is remembered under the name, so it
    /// stays when code is renamed.
    pub fn named(consumer: impl Into<String>) -> Self {
        let settings = Settings {
            consumer: consumer.into(),
            topics: Vec::new(),
            concurrency: 16,
            batch: 1,
            retry: Retry::default(),
            exhausted: Exhausted::ParkKey,
            parked_max: PARKED_EVENTS,
            timeout: Duration::from_secs(60),
            start: StartFrom::Oldest,
            other_log: OtherLog::Refuse,
            generation: 1,
            inbox_kept: None,
            mode_said_late: false,
        };
        Self { settings, handlers: Vec::new(), layers: Vec::new(), mode: PhantomData }
    }

    /// Handles events without a transaction, and so, now and then, twice. Comes before the handlers.
    #[must_use]
    pub fn at_least_once(self) -> Subscription<S, T, AtLeastOnce> {
        let settings = Settings { mode_said_late: !self.handlers.is_empty(), ..self.settings };
        Subscription { settings, handlers: self.handlers, layers: self.layers, mode: PhantomData }
    }
}

impl<S: Backing, T: Send + Sync + 'static, M: Mode> Subscription<S, T, M> {
    /// Handles the events of one type, those of the topic that the type names.
    #[must_use]
    pub fn on<H, A>(mut self, handler: H) -> Self
    where
        H: Handler<A>,
        A: Arguments<S, T, M>,
        A::Takes: OneTransaction,
        H::Future: Send + 'static,
        H::Output: IntoOutcome,
    {
        self.handlers.push(Registered {
            event_type: A::Event::TYPE,
            topic: A::Event::TOPIC,
            owner: A::Event::OWNER,
            place: std::any::type_name::<H>(),
            invoke: Arc::new(Erased::<H, A, M>::new(handler)),
        });
        self
    }

    /// Puts a layer around the handlers, all of them, in their transaction. The first one that is named is
    /// the outermost; those of the [`App`](crate::App) are around them. See [`crate::layer`].
    #[must_use]
    pub fn layer(mut self, layer: impl HandlerLayer) -> Self {
        self.layers.push(Arc::new(layer));
        self
    }

    /// Reads another topic, too: one where somebody else publishes events of these types.
    #[must_use]
    pub fn topic(mut self, topic: impl Into<String>) -> Self {
        self.settings.topics.push(topic.into());
        self
    }

    /// How many events are handled at once, of one key always one: 1 to 256, at first 16. Of events that
    /// are handled in batches it is the number of batches.
    #[must_use]
    pub fn concurrency(mut self, concurrency: usize) -> Self {
        self.settings.concurrency = concurrency;
        self
    }

    /// Handles up to so many events in one transaction, at first 1: those of one partition that are
    /// ready at the same time, one after the other, the events of a key in their order. It never waits
    /// for more to come. Of use where commits are what takes the time; SQLite has one writer.
    ///
    /// If anything fails, all of it is rolled back. The event that has failed, and what is of its key, are
    /// handled by themselves, and the others together once more; if that fails, too, each of them by itself.
    /// So a handler may be called once or twice more for an event that has not failed. Handlers of a batch
    /// see what those before them have written, and hold their locks until the commit, so they should be
    /// short.
    ///
    /// On MariaDB it is refused: a handler there can commit what those before it have written.
    #[must_use]
    pub fn batchable(mut self, events: usize) -> Self {
        self.settings.batch = events;
        self
    }

    /// How often and how soon an event that failed is tried again.
    #[must_use]
    pub fn retry(mut self, retry: Retry) -> Self {
        self.settings.retry = retry;
        self
    }

    /// What happens when an event has had all its attempts. With a store, at first
    /// [`Exhausted::ParkKey`]; without one it has to be said.
    #[must_use]
    pub fn when_exhausted(mut self, exhausted: Exhausted) -> Self {
        self.settings.exhausted = exhausted;
        self
    }

    /// How many events may be parked in the store, those of all instances together: those that wait for their
    /// next attempt, the dead letters that keep their key parked, and what waits behind either. At first
    /// 100,000.
    ///
    /// When there are as many, the instance reads no more of its partitions, whatever their keys are: nothing is
    /// lost, events wait where they are, and what is parked goes on being tried and sent back. It reads again
    /// when a tenth is gone. The log says so, and so does what the service says of itself. Events that were
    /// read already are parked beyond that, some thousands at most. What is parked of topics that the subscription
    /// reads no more is not counted.
    #[must_use]
    pub fn parked_max(mut self, events: u64) -> Self {
        self.settings.parked_max = events;
        self
    }

    /// How long a handler may take, at first 60 seconds. What takes longer is rolled back, and has
    /// failed. Committing is not limited.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.settings.timeout = timeout;
        self
    }

    /// Where the consumer begins when it has no progress yet, at first with the oldest event.
    #[must_use]
    pub fn start_from(mut self, start: StartFrom) -> Self {
        self.settings.start = start;
        self
    }

    /// What to do when the log is not the one that progress was made in, at first
    /// [`OtherLog::Refuse`].
    #[must_use]
    pub fn when_log_differs(mut self, other_log: OtherLog) -> Self {
        self.settings.other_log = other_log;
        self
    }

    /// Handles everything anew: a higher number than last time shares nothing with what was handled
    /// before, and every effect takes place again.
    #[must_use]
    pub fn generation(mut self, generation: u32) -> Self {
        self.settings.generation = generation;
        self
    }

    /// How long the store remembers what was handled, at first as long as its events and then the copies of
    /// its dead letters are kept, and 30 days more. An event that comes again after that is handled again.
    #[must_use]
    pub fn remember_for(mut self, kept: Duration) -> Self {
        self.settings.inbox_kept = Some(kept);
        self
    }
}

impl<S: Backing, T, M> fmt::Debug for Subscription<S, T, M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Subscription")
            .field("settings", &self.settings)
            .field("handlers", &self.handlers.iter().map(|handler| handler.event_type).collect::<Vec<_>>())
            .finish_non_exhaustive()
    }
}
