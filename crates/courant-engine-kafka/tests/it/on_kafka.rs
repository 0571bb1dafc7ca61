//! A service of the framework on Apache Kafka, with its state in SQLite: what fails waits and dies alone, a
//! restart goes on, and two processes of one service share its work.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use courant::engine::{Engine, Partition, ReadBack};
use courant::prelude::*;
use courant::store_api::{DeadFilter, Store as _, Transaction as _};
use courant::{EngineChoice, Running};
use courant_engine_kafka::Silence;
use tempfile::TempDir;

use crate::kafka::{address, engine, new_topic, without_topics};
use crate::place::PATIENCE;

#[derive(Event, Serialize, Deserialize, Clone, Debug)]
#[event(type = "kafka.ordered", topic = "kafka.ordered", key = customer)]
struct Ordered {
    customer: String,
    n: u32,
}

#[derive(Event, Serialize, Deserialize, Clone, Debug)]
#[event(type = "kafka.shared", topic = "kafka.shared", key = customer)]
struct Shared {
    customer: String,
    n: u32,
}

/// Whether Ada is served.
type Till = Arc<AtomicBool>;

/// Calls of one process.
type Calls = Arc<AtomicUsize>;

async fn effect(tx: &mut Tx<Sqlite>, customer: &str, n: u32) -> Result<(), HandlerError> {
    sqlx::query("insert into effects (customer, n) values (?, ?)")
        .bind(customer)
        .bind(n)
        .execute(&mut **tx)
        .await?;
    Ok(())
}

async fn bill(order: Ordered, State(till): State<Till>, mut tx: Tx<Sqlite>) -> Result<(), HandlerError> {
    // What fails leaves nothing: its effect comes first.
    effect(&mut tx, &order.customer, order.n).await?;
    if order.customer == "Ada" && !till.load(Ordering::SeqCst) {
        return Err(HandlerError::retry("the till for Ada is closed"));
    }
    Ok(())
}

async fn share(event: Shared, State(calls): State<Calls>, mut tx: Tx<Sqlite>) -> Result<(), HandlerError> {
    calls.fetch_add(1, Ordering::SeqCst);
    effect(&mut tx, &event.customer, event.n).await
}

async fn store_in(dir: &Path) -> Sqlite {
    Sqlite::open(&dir.join("service.db")).await.expect("opens")
}

/// Makes the table of the effects.
async fn prepare(dir: &Path) {
    let store = store_in(dir).await;
    store.install(1).await.expect("installs");
    let mut transaction = store.begin(None).await.expect("begins");
    sqlx::query("create table effects (customer text not null, n integer not null)")
        .execute(&mut *transaction)
        .await
        .expect("creates");
    transaction.commit(1).await.expect("commits");
}

/// What has taken effect, in the order of the commits.
async fn effects(store: &Sqlite) -> Vec<(String, u32)> {
    let mut reader = store.read().await.expect("reads");
    let select = "select customer, n from effects order by rowid";
    sqlx::query_as(select).fetch_all(&mut *reader).await.expect("selects")
}

async fn of_customer(store: &Sqlite, customer: &str) -> Vec<u32> {
    effects(store).await.into_iter().filter(|(name, _)| name == customer).map(|(_, n)| n).collect()
}

async fn billing(dir: &Path, engine: &Arc<dyn Engine>, till: &Till) -> Running<Sqlite> {
    let service = App::new("kafka")
        .engine(EngineChoice::from(engine.clone()))
        .partitions(2)
        .store(store_in(dir).await)
        .state(till.clone())
        .subscribe(Subscription::named("kafka-billing").retry(Retry::never()).on(bill))
        .build()
        .await;
    service.expect("fits together").start().await.expect("starts")
}

/// The first failure of a key parks it, the others go on; a restart changes nothing of that; the letter is
/// kept in the store and copied for the world; sent back, the key's events take effect once and in order.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_fails_waits_over_a_restart_and_takes_effect_once() {
    let Some(address) = address("what_fails_waits_over_a_restart_and_takes_effect_once") else { return };
    without_topics(&address, &["kafka.ordered", "kafka.ordered.kafka-billing.dlq"]).await;
    let (dir, till) = (TempDir::new().expect("a directory"), Till::default());
    prepare(dir.path()).await;

    let engine_1 = engine(&address, Silence::default()).await;
    let mut service = billing(dir.path(), &engine_1, &till).await;
    let order = |customer: &str, n: u32| Ordered { customer: customer.to_owned(), n };
    for n in 0..10 {
        for customer in ["Ada", "Grace", "Edsger"] {
            service.publisher().publish(&order(customer, n)).await.expect("publishes");
        }
    }
    service.settle().await.expect("settles");
    assert_eq!(of_customer(service.store(), "Grace").await, (0..10).collect::<Vec<_>>());
    assert_eq!(of_customer(service.store(), "Edsger").await, (0..10).collect::<Vec<_>>());
    assert_eq!(of_customer(service.store(), "Ada").await, Vec::<u32>::new());
    service.stop().await.expect("stops");
    engine_1.close().await;

    let engine_2 = engine(&address, Silence::default()).await;
    let mut service = billing(dir.path(), &engine_2, &till).await;
    service.publisher().publish(&order("Ada", 10)).await.expect("publishes");
    service.publisher().publish(&order("Grace", 10)).await.expect("publishes");
    service.settle().await.expect("settles");
    assert_eq!(of_customer(service.store(), "Ada").await, Vec::<u32>::new(), "a restart does not unpark");
    assert_eq!(of_customer(service.store(), "Grace").await, (0..=10).collect::<Vec<_>>());
    let letters = service.dead_letters().list().await.expect("lists");
    assert_eq!(letters.len(), 1, "one event has failed; the others of its key wait");
    assert_eq!(letters[0].failure.message, "the till for Ada is closed");

    till.store(true, Ordering::SeqCst);
    let all = DeadFilter::default();
    service.dead_letters().redrive("till-repaired", "test", &all).await.expect("is asked for");
    service.settle().await.expect("settles");
    assert_eq!(of_customer(service.store(), "Ada").await, (0..=10).collect::<Vec<_>>());
    assert_eq!(effects(service.store()).await.len(), 32, "each took effect once");

    let copies = [0, 1].map(|number| Partition::new("kafka.ordered.kafka-billing.dlq", number).at(0));
    let read = service.engine().read(copies.to_vec()).await;
    let copy = read.iter().find_map(|read| match read {
        Ok(ReadBack::Found(copy)) => Some(copy),
        _ => None,
    });
    let copy = copy.unwrap_or_else(|| panic!("there is a copy, and not {read:?}"));
    let error = copy.header("courant-dead-error").and_then(|header| header.value.clone());
    assert_eq!(error.as_deref(), Some(&b"the till for Ada is closed"[..]));
    service.stop().await.expect("stops");
    engine_2.close().await;
}

async fn sharing(dir: &Path, engine: &Arc<dyn Engine>, calls: &Calls) -> Running<Sqlite> {
    let service = App::new("kafka")
        .engine(EngineChoice::from(engine.clone()))
        .store(store_in(dir).await)
        .state(calls.clone())
        .subscribe(Subscription::named("kafka-sharing").on(share))
        .build()
        .await;
    service.expect("fits together").start().await.expect("starts")
}

/// Waits until so much has taken effect.
async fn until(store: &Sqlite, count: usize) {
    let there = async {
        while effects(store).await.len() < count {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(PATIENCE, there).await.expect("in time");
}

/// A second process takes partitions over while events come, and gives them back when it goes: each event
/// takes effect once, each key in its order, and both had their share.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_processes_of_a_service_share_its_work() {
    const KEYS: u32 = 16;
    let Some(address) = address("two_processes_of_a_service_share_its_work") else { return };
    new_topic(&address, "kafka.shared", 4).await;
    let dir = TempDir::new().expect("a directory");
    prepare(dir.path()).await;
    let (one, other) =
        (engine(&address, Silence::default()).await, engine(&address, Silence::default()).await);
    let (calls_1, calls_2) = (Calls::default(), Calls::default());

    let mut first = sharing(dir.path(), &one, &calls_1).await;
    let publisher = first.publisher();
    let publish = async |numbers: std::ops::Range<u32>| {
        for n in numbers {
            for key in 0..KEYS {
                let event = Shared { customer: format!("key-{key}"), n };
                publisher.publish(&event).await.expect("publishes");
            }
        }
    };
    publish(0..5).await;
    first.settle().await.expect("settles");
    assert_eq!(effects(first.store()).await.len(), 5 * KEYS as usize);

    let second = sharing(dir.path(), &other, &calls_2).await;
    let mut n = 5;
    // Whoever has them now: until the second one has had some.
    let shared = async {
        while calls_2.load(Ordering::SeqCst) == 0 {
            publish(n..n + 1).await;
            n += 1;
            until(first.store(), (n * KEYS) as usize).await;
        }
    };
    tokio::time::timeout(PATIENCE, shared).await.expect("the second one gets something to do");
    publish(n..n + 5).await;
    n += 5;
    until(first.store(), (n * KEYS) as usize).await;
    second.stop().await.expect("stops");
    other.close().await;
    publish(n..n + 5).await;
    n += 5;
    first.settle().await.expect("settles");

    let found = effects(first.store()).await;
    let distinct: BTreeSet<_> = found.iter().collect();
    assert_eq!((found.len(), distinct.len()), ((n * KEYS) as usize, (n * KEYS) as usize), "each once");
    for key in 0..KEYS {
        let of_key: Vec<u32> = of_customer(first.store(), &format!("key-{key}")).await;
        assert!(of_key.iter().copied().eq(0..n), "key-{key}: {of_key:?}");
    }
    assert!(calls_1.load(Ordering::SeqCst) > 0);
    first.stop().await.expect("stops");
    one.close().await;
}
