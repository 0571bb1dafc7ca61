//! A relay on its own: from the outbox of a database into an engine, without a service.

use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use courant_core::trace::Tracer;
use courant_engine::{Engine, EngineConfig, EngineUrl, InvalidEngineUrl, Lifetime, OpenError};
use courant_sql::{SchemaError, Store};
use tokio::sync::watch;

use crate::publisher::Sender;
use crate::runtime::{Relay as Work, RelayParts, Trouble};

/// Partitions of the topics that it creates, unless somebody asks for another number.
const PARTITIONS: u32 = 8;

/// How long it sleeps when nobody wakes it. It has no service beside it, whose commits would.
const LOOK: Duration = Duration::from_millis(200);

/// Publishes what is in the outbox of a database: events of services, timers that are due, and rows that
/// programs in other languages have inserted into `courant_outbox_submit`.
///
/// A service relays its own outbox; this is for databases that no service uses, and for those who want the
/// relay in a process of its own. Of all relays of a database one is at work, the one that began last;
/// the others stand by, and one of them takes over within ten seconds when it is gone.
pub struct Relay<D> {
    store: D,
    engine: Arc<dyn Engine>,
    config: EngineConfig,
    name: String,
    partitions: u32,
    tracer: Tracer,
}

/// What a relay has done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Relayed {
    /// Events that the engine has taken and the outbox does not hold any more.
    pub published: u64,
    /// Submitted rows that can never be events. They are in `courant_outbox_refused`, with the reason.
    pub refused: u64,
}

/// Why a relay cannot begin, or cannot go on.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RelayError {
    /// The engine's URL is none.
    #[error(transparent)]
    Url(#[from] InvalidEngineUrl),
    /// The engine does not open.
    #[error(transparent)]
    Engine(#[from] OpenError),
    /// What the engine takes is gone when this process ends.
    #[error(
        "what {kind}: takes is gone with this process, and the outbox would be empty; name embedded:PATH or a \
         server"
    )]
    Fleeting {
        /// The kind of engine.
        kind: &'static str,
    },
    /// The database does not have the tables of this version.
    #[error(transparent)]
    Schema(#[from] SchemaError),
    /// Another relay has taken the outbox over.
    #[error("another relay has taken the outbox over; what is left, it publishes")]
    Replaced,
    /// The engine takes nothing.
    #[error("the engine has taken nothing for {patience:?}; {published} events are published, others wait")]
    Stuck {
        /// How long it was tried.
        patience: Duration,
        /// Events that were published before.
        published: u64,
    },
    /// The store or the engine does not do its part, and will not by itself.
    #[error("the outbox cannot be published: {0}")]
    Broken(String),
}

impl<D: Store> Relay<D> {
    /// Opens the engine and looks at the tables.
    ///
    /// # Errors
    /// The URL is none, the engine does not open or keeps nothing, or the database has not the tables of this
    /// version.
    pub async fn open(store: D, engine: &str) -> Result<Self, RelayError> {
        let url = engine.parse::<EngineUrl>()?;
        store.check().await?;
        let config = EngineConfig::system();
        let engine = crate::engines::open(&url, config.clone()).await?;
        if engine.capabilities().lifetime == Lifetime::Engine {
            let kind = engine.kind();
            engine.close().await;
            return Err(RelayError::Fleeting { kind });
        }
        Ok(Self {
            store,
            engine,
            config,
            name: "relay".to_owned(),
            partitions: PARTITIONS,
            tracer: Tracer::default(),
        })
    }

    /// Who it is, for people who look into `courant_relay`.
    #[must_use]
    pub fn named(mut self, name: impl Into<String>) -> Self {
        self.name = name.into();
        self
    }

    /// How many partitions topics get that it creates, at first 8.
    #[must_use]
    pub fn partitions(mut self, partitions: u32) -> Self {
        self.partitions = partitions;
        self
    }

    /// Makes spans of what it sends.
    #[must_use]
    pub fn tracer(mut self, tracer: Tracer) -> Self {
        self.tracer = tracer;
        self
    }

    /// Publishes until `shutdown` is done, then ends in order: what the engine has taken is taken out of
    /// the outbox.
    ///
    /// # Errors
    /// It cannot go on. An engine or a database that is away for a while is waited for.
    pub async fn run_until(self, shutdown: impl Future<Output = ()>) -> Result<Relayed, RelayError> {
        let stop = watch::Sender::new(false);
        let mut work = self.work(Some(stop.subscribe()));
        let shutdown = async {
            shutdown.await;
            stop.send_replace(true);
            std::future::pending::<()>().await;
        };
        let trouble = tokio::select! {
            ended = work.run() => ended,
            () = shutdown => None,
        };
        self.engine.close().await;
        match trouble {
            None => Ok(relayed(&work)),
            Some(Trouble::Fenced) => Err(RelayError::Replaced),
            Some(Trouble::Away(said) | Trouble::Broken(said)) => Err(RelayError::Broken(said)),
        }
    }

    /// Publishes until nothing is left.
    ///
    /// # Errors
    /// It cannot go on, another relay has taken over, or the engine takes nothing for `patience`.
    pub async fn run_once(self, patience: Duration) -> Result<Relayed, RelayError> {
        let mut work = self.work(None);
        let drained = work.drain(patience).await;
        self.engine.close().await;
        let done = relayed(&work);
        match drained {
            Ok(true) => Ok(done),
            Ok(false) => Err(RelayError::Stuck { patience, published: done.published }),
            Err(Trouble::Fenced) => Err(RelayError::Replaced),
            Err(Trouble::Away(said) | Trouble::Broken(said)) => Err(RelayError::Broken(said)),
        }
    }

    fn work(&self, stop: Option<watch::Receiver<bool>>) -> Work<D> {
        let parts = RelayParts {
            owner: format!("{} {}", self.name, self.config.entropy.uuid()),
            sender: Sender {
                engine: self.engine.clone(),
                partitions: self.partitions,
                tracer: self.tracer.clone(),
            },
            clock: self.config.clock.clone(),
            entropy: self.config.entropy.clone(),
            look: LOOK,
            stop,
            service: None,
        };
        Work::new(self.store.clone(), parts)
    }
}

fn relayed<D: Store>(work: &Work<D>) -> Relayed {
    let done = work.done();
    Relayed { published: done.published, refused: done.refused }
}

impl<D> fmt::Debug for Relay<D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Relay").field("name", &self.name).finish_non_exhaustive()
    }
}
