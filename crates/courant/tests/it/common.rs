//! One service and where it lives: an engine, a store, a world; and what its handlers have seen.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use courant::engine::Engine;
use courant::prelude::*;
use courant::store_api::{DeadFilter, Store as _, Transaction as _};
use courant::testkit::World;
use courant::{BoxError, EngineChoice, Running};

/// An event with a key.
#[derive(Event, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[event(type = "test.counted", topic = "test.counted", key = key)]
pub(crate) struct Counted {
    pub(crate) key: String,
    pub(crate) n: u32,
}

/// An event that nothing orders.
#[derive(Event, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[event(type = "test.loose", topic = "test.loose", no_key)]
pub(crate) struct Loose {
    pub(crate) n: u32,
}

pub(crate) fn counted(key: &str, n: u32) -> Counted {
    Counted { key: key.to_owned(), n }
}

/// Where a service lives. Files, so that it can be killed and started again.
pub(crate) struct Site {
    pub(crate) world: World,
    directory: tempfile::TempDir,
    /// An engine that outlives the service; otherwise it is in files, too.
    engine: Option<Arc<dyn Engine>>,
}

impl Site {
    /// A site with `memory:`, which outlives the services on it.
    pub(crate) async fn memory() -> Self {
        let mut site = Self::embedded().await;
        site.engine = Some(site.world.engine("memory:").await.expect("opens"));
        site
    }

    /// A site whose events are in files.
    pub(crate) async fn embedded() -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let site = Self { world: World::new(1), directory, engine: None };
        let store = site.store().await;
        store.install(site.world.now_ms()).await.expect("installs");
        let mut transaction = store.begin(None).await.expect("begins");
        sqlx::query("create table effects (what text not null, n integer primary key autoincrement)")
            .execute(&mut *transaction)
            .await
            .expect("creates");
        transaction.commit(site.world.now_ms()).await.expect("commits");
        site
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    pub(crate) async fn store(&self) -> Sqlite {
        Sqlite::open(&self.path("service.db")).await.expect("opens")
    }

    pub(crate) fn engine(&self) -> EngineChoice {
        match &self.engine {
            Some(engine) => EngineChoice::from(engine.clone()),
            None => EngineChoice::from(format!("embedded:{}", self.path("events").display())),
        }
    }

    /// A service without subscriptions and state. One partition, so that only keys are beside each other.
    pub(crate) async fn app(&self) -> App<Sqlite> {
        App::new("test").engine(self.engine()).partitions(1).in_world(&self.world).store(self.store().await)
    }

    /// Moves the clock on, and waits until nothing is left to do.
    pub(crate) async fn advance(&self, service: &mut Running<Sqlite>, by: Duration) {
        self.world.advance(by);
        service.settle().await.expect("goes on");
    }
}

/// What has taken effect, in the order of the commits.
pub(crate) async fn effects(store: &Sqlite) -> Vec<String> {
    let mut reader = store.read().await.expect("reads");
    let rows: Vec<(String,)> =
        sqlx::query_as("select what from effects order by n").fetch_all(&mut *reader).await.expect("selects");
    rows.into_iter().map(|(what,)| what).collect()
}

/// The effects of one key.
pub(crate) fn of_key(effects: &[String], key: &str) -> Vec<String> {
    let begins = format!("{key}:");
    effects.iter().filter(|what| what.starts_with(&begins)).cloned().collect()
}

/// `key:first` to `key:last`.
pub(crate) fn numbered(key: &str, numbers: std::ops::RangeInclusive<u32>) -> Vec<String> {
    numbers.map(|n| format!("{key}:{n}")).collect()
}

/// One effect, in the transaction of the handler.
pub(crate) async fn effect(tx: &mut Tx<Sqlite>, what: String) -> Result<(), HandlerError> {
    sqlx::query("insert into effects (what) values (?)").bind(what).execute(&mut **tx).await?;
    Ok(())
}

/// What the handlers of a test are to do, and what they have seen.
#[derive(Clone, Default)]
pub(crate) struct Script(Arc<Mutex<Acts>>);

#[derive(Default)]
struct Acts {
    failing: BTreeSet<String>,
    /// How often an event fails before it succeeds.
    failures: BTreeMap<String, u32>,
    called: Vec<String>,
}

impl Script {
    fn acts(&self) -> std::sync::MutexGuard<'_, Acts> {
        self.0.lock().expect("no handler panics with it")
    }

    /// Events of this key fail from now on.
    pub(crate) fn fail(&self, key: &str) {
        self.acts().failing.insert(key.to_owned());
    }

    /// Events of this key do not fail any more.
    pub(crate) fn repair(&self, key: &str) {
        self.acts().failing.remove(key);
    }

    /// An event fails so often.
    pub(crate) fn fail_times(&self, what: &str, times: u32) {
        self.acts().failures.insert(what.to_owned(), times);
    }

    /// Every call so far.
    pub(crate) fn called(&self) -> Vec<String> {
        self.acts().called.clone()
    }

    /// A call: fails if it is to fail.
    pub(crate) fn call(&self, key: &str, what: &str) -> Result<(), BoxError> {
        let mut acts = self.acts();
        acts.called.push(what.to_owned());
        if acts.failing.contains(key) {
            return Err(format!("{key} is to fail").into());
        }
        match acts.failures.get_mut(what) {
            Some(left) if *left > 0 => {
                *left -= 1;
                Err(format!("{what} is to fail").into())
            }
            _ => Ok(()),
        }
    }
}

/// Has its effect first, and fails then: what fails must leave nothing.
pub(crate) async fn count(
    event: Counted,
    State(script): State<Script>,
    mut tx: Tx<Sqlite>,
) -> Result<(), HandlerError> {
    let what = format!("{}:{}", event.key, event.n);
    effect(&mut tx, what.clone()).await?;
    script.call(&event.key, &what).map_err(HandlerError::retry)
}

/// Publishes, and waits until the engine has all of them, in this order.
pub(crate) async fn publish(service: &Running<Sqlite>, events: impl IntoIterator<Item = Counted>) {
    let publisher = service.publisher();
    for event in events {
        publisher.publish(&event).await.expect("publishes");
    }
}

/// Every dead letter.
pub(crate) fn all() -> DeadFilter {
    DeadFilter::default()
}

pub(crate) const fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}
