//! One service and where it lives: an engine, a store, a world. Compiled once for each database.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use courant::engine::Engine;
use courant::prelude::*;
use courant::store_api::Store as _;
use courant::testkit::World;
use courant::{EngineChoice, Running};

pub(crate) use super::support::Db;
use super::support::{CREATE_EFFECTS, Home, INSERT_EFFECT};
pub(crate) use crate::given::*;

/// Where a service lives: what outlives it, so that it can be killed and started again.
pub(crate) struct Site {
    pub(crate) world: World,
    /// Its database goes before the directory.
    pub(super) home: Home,
    directory: tempfile::TempDir,
    /// An engine that outlives the service; otherwise it is in files, too.
    engine: Option<Arc<dyn Engine>>,
}

impl Site {
    /// A site with `memory:`, which outlives the services on it. `None` where there is no such database:
    /// the test is skipped, and has said so.
    pub(crate) async fn on_memory() -> Option<Self> {
        let mut site = Self::on_files().await?;
        site.engine = Some(site.world.engine("memory:").await.expect("opens"));
        Some(site)
    }

    /// A site whose events are in files.
    pub(crate) async fn on_files() -> Option<Self> {
        crate::planted::as_asked();
        let directory = tempfile::tempdir().expect("a directory");
        let home = Home::new(directory.path()).await?;
        let site = Self { world: World::new(1), home, directory, engine: None };
        site.store().await.install(site.world.now_ms()).await.expect("installs");
        site.home.run(CREATE_EFFECTS).await;
        Some(site)
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// The store as another process would open it.
    pub(crate) async fn store(&self) -> Db {
        self.home.store().await
    }

    pub(crate) fn engine(&self) -> EngineChoice {
        match &self.engine {
            Some(engine) => EngineChoice::from(engine.clone()),
            None => EngineChoice::from(format!("embedded:{}", self.path("events").display())),
        }
    }

    /// A service without subscriptions and state. One partition, so that only keys are beside each other.
    pub(crate) async fn app(&self) -> App<Db> {
        App::new("test").engine(self.engine()).partitions(1).in_world(&self.world).store(self.store().await)
    }

    /// Moves the clock on, and waits until nothing is left to do.
    pub(crate) async fn advance(&self, service: &mut Running<Db>, by: Duration) {
        self.world.advance(by);
        service.settle().await.expect("goes on");
    }
}

/// What has taken effect: of each key in the order of the commits.
pub(crate) async fn effects(store: &Db) -> Vec<String> {
    let mut reader = store.read().await.expect("reads");
    let rows: Vec<(String,)> =
        sqlx::query_as("select what from effects order by n").fetch_all(&mut *reader).await.expect("selects");
    rows.into_iter().map(|(what,)| what).collect()
}

/// One effect, in the transaction of the handler.
pub(crate) async fn effect(tx: &mut Tx<Db>, what: String) -> Result<(), HandlerError> {
    sqlx::query(INSERT_EFFECT).bind(what).execute(&mut **tx).await?;
    Ok(())
}

/// Has its effect first, and fails then: what fails must leave nothing.
pub(crate) async fn count(
    event: Counted,
    State(script): State<Script>,
    mut tx: Tx<Db>,
) -> Result<(), HandlerError> {
    let what = format!("{}:{}", event.key, event.n);
    effect(&mut tx, what.clone()).await?;
    script.call(&event.key, &what).map_err(HandlerError::retry)
}

/// Publishes, and waits until the engine has all of them, in this order.
pub(crate) async fn publish(service: &Running<Db>, events: impl IntoIterator<Item = Counted>) {
    let publisher = service.publisher();
    for event in events {
        publisher.publish(&event).await.expect("publishes");
    }
}
