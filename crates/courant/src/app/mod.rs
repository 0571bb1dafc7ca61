//! A service before it runs: what it consists of, and whether that fits together.

mod build;
mod checks;
mod memory;
mod needs;
mod problem;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use courant_core::clock::Clock;
use courant_core::entropy::Entropy;
use courant_core::trace::Tracer;
use courant_engine::{Engine, EngineConfig, EngineUrl};

pub use self::needs::Need;
pub use self::problem::{BuildError, Problem, ProblemCode};
use crate::channel::OperationsKey;
use crate::layer::HandlerLayer;
use crate::runtime::{Faults, Passing, StopTimes, Time};
use crate::store::{Backing, NoStore};
use crate::subscription::{Mode, Registered, Settings};
use crate::{Mapping, Subscription};

/// Partitions of the topics that a service creates, unless it says otherwise.
const PARTITIONS: u32 = 8;

/// A service in the making.
///
/// The store and the state come before the subscriptions: handlers are held against them.
pub struct App<S: Backing = NoStore, T = ()> {
    parts: Parts,
    store: S,
    state: T,
    subscriptions: Vec<Declared<S, T>>,
}

/// What does not depend on the store and the state.
struct Parts {
    name: String,
    version: String,
    engine: Option<EngineChoice>,
    partitions: u32,
    /// What the engine has to be able to do.
    needs: Vec<Need>,
    clock: Arc<dyn Clock>,
    time: Arc<dyn Time>,
    entropy: Arc<dyn Entropy>,
    faults: Faults,
    tracer: Tracer,
    /// It says how it is.
    announces: bool,
    /// What requests to it are signed with; `None`: it takes none.
    operations: Option<OperationsKey>,
    /// Around the handlers of all subscriptions, the outermost first.
    layers: Vec<Arc<dyn HandlerLayer>>,
    /// How events of others are read, by topic.
    mappings: Vec<(String, Mapping)>,
    /// How long dead letters are kept that are closed.
    letters_kept: Duration,
    /// How long an orderly end may take.
    stop_times: StopTimes,
    /// What was said in the wrong order.
    disorder: Vec<&'static str>,
}

/// A subscription whose mode is a value.
struct Declared<S: Backing, T> {
    settings: Settings,
    handlers: Vec<Registered<S, T>>,
    layers: Vec<Arc<dyn HandlerLayer>>,
    at_least_once: bool,
}

/// Which engine a service runs on.
#[derive(Clone)]
pub enum EngineChoice {
    /// The one that a URL names. The service opens it, and closes it when it ends.
    Url(String),
    /// One that is open. It stays open.
    Opened(Arc<dyn Engine>),
}

impl fmt::Debug for EngineChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            // A URL may have a password.
            Self::Url(url) => match url.parse::<EngineUrl>() {
                Ok(url) => write!(f, "Url({url})"),
                Err(_) => f.write_str("Url(…)"),
            },
            Self::Opened(engine) => f.debug_tuple("Opened").field(engine).finish(),
        }
    }
}

impl From<&str> for EngineChoice {
    fn from(url: &str) -> Self {
        Self::Url(url.to_owned())
    }
}

impl From<String> for EngineChoice {
    fn from(url: String) -> Self {
        Self::Url(url)
    }
}

impl From<EngineUrl> for EngineChoice {
    fn from(url: EngineUrl) -> Self {
        Self::Url(url.secret_text())
    }
}

impl From<Arc<dyn Engine>> for EngineChoice {
    fn from(engine: Arc<dyn Engine>) -> Self {
        Self::Opened(engine)
    }
}

impl App {
    /// A service of this name: the source of its events.
    pub fn new(name: impl Into<String>) -> Self {
        let EngineConfig { clock, entropy } = EngineConfig::system();
        let parts = Parts {
            name: name.into(),
            version: "unversioned".to_owned(),
            engine: None,
            partitions: PARTITIONS,
            needs: Vec::new(),
            time: Arc::new(Passing(clock.clone())),
            clock,
            entropy,
            faults: Faults::default(),
            tracer: Tracer::default(),
            announces: true,
            operations: None,
            layers: Vec::new(),
            mappings: Vec::new(),
            letters_kept: memory::LETTERS_KEPT,
            stop_times: StopTimes::default(),
            disorder: Vec::new(),
        };
        Self { parts, store: NoStore, state: (), subscriptions: Vec::new() }
    }
}

impl<S: Backing, T> App<S, T> {
    /// The engine: `memory:`, `embedded:PATH`, with the feature `kafka` also `courant://HOST:PORT` and
    /// `kafka://HOST:PORT`, or one that is open.
    #[must_use]
    pub fn engine(mut self, engine: impl Into<EngineChoice>) -> Self {
        self.parts.engine = Some(engine.into());
        self
    }

    /// The version of the service, which dead letters remember.
    #[must_use]
    pub fn version(mut self, version: impl Into<String>) -> Self {
        self.parts.version = version.into();
        self
    }

    /// Takes requests about its dead letters from the topic `_courant.ops` that are signed with this key,
    /// as `courant dlq --engine` sends them. Without it the service takes none.
    #[must_use]
    pub fn operations(mut self, key: OperationsKey) -> Self {
        self.parts.operations = Some(key);
        self
    }

    /// Says in the topic `_courant.services` how it is: it does so at first, and in a world of the test
    /// kit not before this is said.
    #[must_use]
    pub fn announced(mut self) -> Self {
        self.parts.announces = true;
        self
    }

    /// Says nothing of itself in the topic `_courant.services`.
    #[must_use]
    pub fn unannounced(mut self) -> Self {
        self.parts.announces = false;
        self
    }

    /// Makes spans of what the service does: of events that are made and sent, of every attempt to handle
    /// one, and of what becomes of those that fail. See [`crate::trace`].
    #[must_use]
    pub fn tracer(mut self, tracer: Tracer) -> Self {
        self.parts.tracer = tracer;
        self
    }

    /// How many partitions topics get that the service creates, at first 8.
    #[must_use]
    pub fn partitions(mut self, partitions: u32) -> Self {
        self.parts.partitions = partitions;
        self
    }

    /// What the engine has to be able to do, at least, beside what the subscriptions need: `build()` refuses one that
    /// cannot. Which engine it is often stands in a URL from outside; what the service can do without stands here.
    ///
    /// - [`Durability::Disk`](courant_engine::Durability::Disk), `Replicated` or `Written`: what an event survives
    ///   that the engine has acknowledged, and that has left the outbox with that. The topics that the service reads
    ///   are held against it as well; those that it publishes to are not known before it does.
    /// - [`Lifetime::Storage`](courant_engine::Lifetime::Storage): events and offsets are there when it starts again.
    /// - [`GroupScope::Everywhere`](courant_engine::GroupScope::Everywhere): several processes share the partitions.
    /// - [`PublishDedup::Exact`](courant_engine::PublishDedup::Exact) or `Window`: what is published twice is stored
    ///   once. No engine of this crate says so: whoever reads compares ids, as a subscription with a store does.
    #[must_use]
    pub fn requires(mut self, need: impl Into<Need>) -> Self {
        let need = need.into();
        if !self.parts.needs.contains(&need) {
            self.parts.needs.push(need);
        }
        self
    }

    /// Where the service keeps its state, and with it what it has handled. Comes before the
    /// subscriptions.
    #[must_use]
    pub fn store<D: courant_sql::Store>(mut self, store: D) -> App<D, T> {
        if !self.subscriptions.is_empty() {
            self.parts.disorder.push(".store(…)");
        }
        App { parts: self.parts, store, state: self.state, subscriptions: Vec::new() }
    }

    /// What handlers can ask for as `State<T>`. Comes before the subscriptions.
    #[must_use]
    pub fn state<N: Send + Sync + 'static>(mut self, state: N) -> App<S, N> {
        if !self.subscriptions.is_empty() {
            self.parts.disorder.push(".state(…)");
        }
        App { parts: self.parts, store: self.store, state, subscriptions: Vec::new() }
    }

    /// Puts a layer around the handlers of all subscriptions, in their transactions. The first one that is
    /// named is the outermost; those of a [`Subscription`] are behind them. See [`crate::layer`].
    #[must_use]
    pub fn layer(mut self, layer: impl HandlerLayer) -> Self {
        self.parts.layers.push(Arc::new(layer));
        self
    }

    /// Says how the events of a topic are read that are not CloudEvents. Those in CloudEvents' structured
    /// mode (`application/cloudevents+json`) are read anyway.
    #[must_use]
    pub fn map_envelope(mut self, topic: impl Into<String>, mapping: Mapping) -> Self {
        self.parts.mappings.push((topic.into(), mapping));
        self
    }

    /// Adds a consumer.
    #[must_use]
    pub fn subscribe<M: Mode>(mut self, subscription: Subscription<S, T, M>) -> Self {
        self.subscriptions.push(Declared {
            settings: subscription.settings,
            handlers: subscription.handlers,
            layers: subscription.layers,
            at_least_once: M::AT_LEAST_ONCE,
        });
        self
    }

    /// How long an orderly end of the service may take, at first a minute. Half of it is for handlers: those that are
    /// under way longer are rolled back. A store or an engine that is away has the rest. What could not be kept by
    /// then comes again at the next start. A few seconds follow in which connections are closed.
    ///
    /// Whoever ends the service should have more patience than this: Kubernetes has 30 seconds at first
    /// (`terminationGracePeriodSeconds`), which `Duration::from_secs(20)` is less than, and kills behind that.
    #[must_use]
    pub fn stop_within(mut self, longest: Duration) -> Self {
        self.parts.stop_times = StopTimes::within(longest);
        self
    }

    /// Runs in a world that a test has in its hands: its clock, its randomness, its faults.
    #[cfg(feature = "testkit")]
    #[must_use]
    pub fn in_world(mut self, world: &crate::testkit::World) -> Self {
        self.parts.clock = world.clock();
        self.parts.time = world.time();
        self.parts.entropy = world.entropy();
        self.parts.faults = world.faults();
        // What a test counts are the events of its service.
        self.parts.announces = false;
        self
    }
}

impl<D: courant_sql::Store, T> App<D, T> {
    /// How long the store keeps dead letters that were sent back and handled, or that somebody has discarded, with
    /// what was noted of them: at first 30 days. `Duration::MAX` is for ever. Those that nobody has decided about,
    /// and archived ones, stay anyway. It means all dead letters of the store: of services that share one, the
    /// shortest time counts.
    #[must_use]
    pub fn keep_closed_letters_for(mut self, kept: Duration) -> Self {
        self.parts.letters_kept = kept;
        self
    }
}

impl<S: Backing, T> fmt::Debug for App<S, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("App")
            .field("name", &self.parts.name)
            .field("engine", &self.parts.engine)
            .field("subscriptions", &self.subscriptions.iter().map(|one| &one.settings).collect::<Vec<_>>())
            .finish_non_exhaustive()
    }
}
