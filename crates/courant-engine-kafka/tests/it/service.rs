//! A service of the framework on `courant://`, with its state in SQLite: killed at every place that the
//! test kit knows, its effects happen once.

use std::path::Path;
use std::sync::Arc;

use courant::engine::Engine;
use courant::prelude::*;
use courant::store_api::{Store as _, Transaction as _};
use courant::testkit::{FaultPoint, World, published};
use courant::{EngineChoice, Running};
use courant_engine::EngineConfig;
use tempfile::TempDir;

use crate::server::{Server, opened_with};

const EVENTS: u32 = 200;
const KEYS: u32 = 7;

#[derive(Event, Serialize, Deserialize, Clone, Debug)]
#[event(type = "test.counted", topic = "test.counted", key = key)]
struct Counted {
    key: String,
    n: u32,
}

#[derive(Event, Serialize, Deserialize, Debug)]
#[event(type = "test.noted", topic = "test.noted", key = key)]
struct Noted {
    key: String,
    n: u32,
}

async fn note(event: Counted, mut tx: Tx<Sqlite>) -> Result<Noted, HandlerError> {
    sqlx::query("insert into effects (key, n) values (?, ?)")
        .bind(&event.key)
        .bind(event.n)
        .execute(&mut *tx)
        .await?;
    Ok(Noted { key: event.key, n: event.n })
}

async fn store_in(dir: &Path) -> Sqlite {
    Sqlite::open(&dir.join("service.db")).await.expect("opens")
}

async fn engine_on(server: &Server) -> Arc<dyn Engine> {
    opened_with(&server.url(), EngineConfig::system()).await.expect("opens")
}

/// The service as a process would run it: with an engine and a store of its own.
async fn started(dir: &Path, engine: &Arc<dyn Engine>, world: &World) -> Running<Sqlite> {
    let service = App::new("test")
        .engine(EngineChoice::from(engine.clone()))
        .partitions(4)
        .in_world(world)
        .store(store_in(dir).await)
        .subscribe(Subscription::named("noting").on(note))
        .build()
        .await;
    service.expect("fits together").start().await.expect("starts")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn effects_happen_once_on_a_server_whatever_dies() {
    let dir = TempDir::new().expect("a directory");
    let (data, world) = (dir.path().join("data"), World::new(11));
    std::fs::create_dir(&data).expect("made");
    let test = "effects_happen_once_on_a_server_whatever_dies";
    let Some(server) = Server::start(&data, test) else { return };
    let store = store_in(dir.path()).await;
    store.install(world.now_ms()).await.expect("installs");
    let mut transaction = store.begin(None).await.expect("begins");
    sqlx::query("create table effects (key text not null, n integer not null)")
        .execute(&mut *transaction)
        .await
        .expect("creates");
    transaction.commit(world.now_ms()).await.expect("commits");
    drop(store);

    let points = [
        FaultPoint::AfterBegin,
        FaultPoint::AfterHandler,
        FaultPoint::AfterCommit,
        FaultPoint::BeforeProgress,
        FaultPoint::AfterPublish,
    ];
    let each = EVENTS / u32::try_from(points.len()).expect("few");
    for (round, point) in (0u32..).zip(points) {
        let engine = engine_on(&server).await;
        // Some pass before it, so that the service dies in the middle of its work. Progress is saved and the
        // outbox published in bundles: of those there may be few.
        let passes =
            if matches!(point, FaultPoint::BeforeProgress | FaultPoint::AfterPublish) { 0 } else { 5 };
        world.crash_at(point, passes);
        let service = started(dir.path(), &engine, &world).await;
        let publisher = service.publisher();
        for n in round * each..(round + 1) * each {
            publisher.publish(&Counted { key: format!("key-{}", n % KEYS), n }).await.expect("publishes");
        }
        world.crashed(u64::from(round) + 1).await;
        service.kill().await;
        // With the process its connections go.
        drop(publisher);
        engine.close().await;
    }

    let engine = engine_on(&server).await;
    let mut service = started(dir.path(), &engine, &world).await;
    service.settle().await.expect("settles");
    let mut reader = service.store().read().await.expect("reads");
    let rows: Vec<(String, u32)> = sqlx::query_as("select key, n from effects order by rowid")
        .fetch_all(&mut *reader)
        .await
        .expect("selects");
    drop(reader);
    let mut numbers: Vec<u32> = rows.iter().map(|(_, n)| *n).collect();
    numbers.sort_unstable();
    assert!(numbers.iter().copied().eq(0..EVENTS), "an effect is missing or there twice: {numbers:?}");
    for key in 0..KEYS {
        let of_key = rows.iter().filter(|(name, _)| *name == format!("key-{key}")).map(|(_, n)| *n);
        assert!(of_key.is_sorted(), "key-{key} is out of order");
    }
    // What came of them may be in the log twice, under the same id.
    let noted = published::<Noted>(&*engine).await.expect("reads");
    let mut ids: Vec<_> = noted.iter().map(|noted| (noted.n, noted.meta().id().clone())).collect();
    ids.sort_unstable();
    ids.dedup();
    assert!(ids.iter().map(|(n, _)| *n).eq(0..EVENTS), "each is noted under one id");
    service.stop().await.expect("stops");
    engine.close().await;
}
