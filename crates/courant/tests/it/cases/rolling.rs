//! Two processes run one service on one store: restarted in turn, and handed the same events.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use courant::Running;
use courant::engine::{Engine, Header, NewRecord};
use courant::prelude::*;

use super::common::{Counted, Db, Site, effect, effects, from_environment, numbered, of_key};
use super::support::SHARED_EVENTS;
use crate::server::Server;

const KEYS: u32 = 12;
const ROUNDS: u64 = 2;
const PER_ROUND: u32 = 50;
/// Long enough that only what never comes is not there by then, behind what has come last.
const PATIENCE: Duration = Duration::from_secs(60);

/// What a counted event leads to.
#[derive(Event, Serialize, Deserialize)]
#[event(type = "test.passed-on", topic = "test.passed-on", key = key)]
struct PassedOn {
    key: String,
    n: u32,
}

/// Calls of one instance's handlers.
type Calls = Arc<AtomicUsize>;

async fn pass_on(
    event: Counted,
    State(calls): State<Calls>,
    mut tx: Tx<Db>,
) -> Result<PassedOn, HandlerError> {
    calls.fetch_add(1, Ordering::SeqCst);
    effect(&mut tx, format!("{}:{}", event.key, event.n)).await?;
    Ok(PassedOn { key: event.key, n: event.n })
}

async fn hear(event: PassedOn, mut tx: Tx<Db>) -> Result<(), HandlerError> {
    effect(&mut tx, format!("heard-{}:{}", event.key, event.n)).await
}

/// One process of the service, in the time of the machine.
async fn instance(site: &Site, url: &str) -> Running<Db> {
    let service = App::new("test")
        .engine(url.to_owned())
        .partitions(4)
        .store(site.store().await)
        .state(Calls::default())
        .subscribe(Subscription::named("passing").on(pass_on))
        .subscribe(Subscription::named("hearing").on(hear))
        .build()
        .await;
    service.expect("fits together").start().await.expect("starts")
}

/// Waits until there are so many effects, and for as long as there are more and more of them: how many a disk
/// takes in a minute is none of our business.
async fn until(store: &Db, count: usize) {
    let (mut seen, mut since) = (0, Instant::now());
    loop {
        let done = effects(store).await.len();
        if done >= count {
            return;
        }
        if done > seen {
            (seen, since) = (done, Instant::now());
        }
        assert!(since.elapsed() < PATIENCE, "{done} of {count} effects are there");
        // A pause between two looks: what is waited for needs the processor.
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

async fn publish_round(engine: &dyn Engine, round: u32) {
    let numbers = round * PER_ROUND + 1..=(round + 1) * PER_ROUND;
    for n in numbers {
        let records = (0..KEYS).map(|key| record(&format!("key-{key}"), n, &format!("{key}-{n}"))).collect();
        for answer in engine.publish(records).await {
            answer.expect("publishes");
        }
    }
}

/// A counted event as somebody else would publish it.
fn record(key: &str, n: u32, id: &str) -> NewRecord {
    let value = format!(r#"{{"key":"{key}","n":{n}}}"#);
    NewRecord {
        headers: vec![Header::new("ce_type", "test.counted"), Header::new("ce_id", id.to_owned())],
        ..NewRecord::new("test.counted", key.to_owned(), value)
    }
}

/// G2: two instances on a server, each of them stopped in order and started again while events come.
/// Nothing is lost, nothing has its effect twice, and each key keeps its order, also through the outbox.
/// `COURANT_ROLLING_ROUNDS` sets how often.
#[tokio::test(flavor = "multi_thread")]
async fn instances_are_restarted_in_turn_under_load() {
    let Some(site) = Site::on_files().await else { return };
    let data = site.path("server");
    std::fs::create_dir(&data).expect("made");
    let Some(server) = Server::start(&data) else { return };
    let url = server.url();
    let mut instances = vec![instance(&site, &url).await, instance(&site, &url).await];
    let loader: Arc<dyn Engine> = site.world.engine(&url).await.expect("opens");
    let store = site.store().await;
    let rounds = u32::try_from(from_environment("COURANT_ROLLING_ROUNDS", ROUNDS)).expect("small");
    for round in 0..rounds {
        let publishing = publish_round(&*loader, round);
        let restarting = async {
            // In the middle of the round: some of it is done, and the rest comes meanwhile.
            until(&store, (round * PER_ROUND * KEYS * 2 + KEYS) as usize).await;
            let leaving = instances.remove(0);
            leaving.stop().await.expect("stops");
            instances.push(instance(&site, &url).await);
        };
        tokio::join!(publishing, restarting);
        until(&store, ((round + 1) * PER_ROUND * KEYS * 2) as usize).await;
    }
    for instance in instances {
        instance.stop().await.expect("stops");
    }
    let done = effects(&store).await;
    let last = rounds * PER_ROUND;
    for key in (0..KEYS).map(|key| format!("key-{key}")) {
        assert_eq!(of_key(&done, &key), numbered(&key, 1..=last));
        let heard = format!("heard-{key}");
        assert_eq!(of_key(&done, &heard), numbered(&heard, 1..=last));
    }
    assert_eq!(done.len(), (last * KEYS * 2) as usize, "nothing else has happened");
    loader.close().await;
}

async fn count_shared(
    event: Counted,
    State(calls): State<Calls>,
    mut tx: Tx<Db>,
) -> Result<(), HandlerError> {
    calls.fetch_add(1, Ordering::SeqCst);
    effect(&mut tx, format!("{}:{}", event.key, event.n)).await
}

async fn node(site: &Site, engine: &Arc<dyn Engine>, calls: &Calls) -> Running<Db> {
    let service = App::new("test")
        .engine(engine.clone())
        .partitions(2)
        .in_world(&site.world)
        .store(site.store().await)
        .state(calls.clone())
        .subscribe(Subscription::named("counting").concurrency(8).on(count_shared))
        .build()
        .await;
    service.expect("fits together").start().await.expect("starts")
}

/// A copy of one event for each node: each has one of the two partitions.
async fn publish_copies(engine: &dyn Engine, key: &str, n: u32) {
    let copies = (0..2)
        .map(|partition| NewRecord { partition: Some(partition), ..record(key, n, &format!("{key}-{n}")) });
    for answer in engine.publish(copies.collect()).await {
        answer.expect("publishes");
    }
}

/// I4: two nodes get the same events at once, each from a partition of its own. Who is second waits for the
/// first one, or passes; no event has two effects, none has none, and none is a failure.
#[tokio::test(flavor = "multi_thread")]
async fn two_nodes_with_the_same_events_have_one_effect_each() {
    let Some(site) = Site::on_files().await else { return };
    let engine = site.world.engine("memory:").await.expect("opens");
    let calls = [Calls::default(), Calls::default()];
    let nodes = [node(&site, &engine, &calls[0]).await, node(&site, &engine, &calls[1]).await];
    let store = site.store().await;
    // Each of them has a partition when each has handled an event that is in one partition only.
    let mut warm = 0;
    while calls.iter().any(|calls| calls.load(Ordering::SeqCst) == 0) {
        for partition in 0..2 {
            let alone = record("warm", warm, &format!("warm-{warm}"));
            let alone = NewRecord { partition: Some(partition), ..alone };
            for answer in engine.publish(vec![alone]).await {
                answer.expect("publishes");
            }
            warm += 1;
        }
        until(&store, warm as usize).await;
    }
    let events = u32::try_from(from_environment("COURANT_SHARED_EVENTS", SHARED_EVENTS)).expect("small");
    for n in 0..events {
        publish_copies(&*engine, &format!("key-{}", n % 50), n).await;
    }
    let all = (warm + events) as usize;
    until(&store, all).await;
    for node in &nodes {
        let letters = node.dead_letters().list().await.expect("lists");
        assert!(letters.is_empty(), "{letters:?}");
    }
    // Both come to their ends: what is left is known to be done.
    for node in nodes {
        node.stop().await.expect("stops");
    }
    let done = effects(&store).await;
    assert_eq!(done.len(), all, "an effect is there twice");
    assert_eq!(done.iter().collect::<BTreeSet<_>>().len(), all);
}
