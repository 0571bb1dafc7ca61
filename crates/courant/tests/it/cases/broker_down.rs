//! The engine is away for an hour: services keep committing, and when it is back nothing is missing,
//! nothing is out of order, and nothing has happened twice.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use courant::engine::Engine;
use courant::prelude::*;
use courant::testkit::published;
use courant::{EngineChoice, Running};

use super::common::{
    Counted, Db, Script, Site, counted, effect, effects, numbered, of_key, publish, seconds,
};
use super::support::INSERT_EFFECT;
use crate::absent_engine::AbsentEngine;

const KEYS: u32 = 5;
const MINUTES: u32 = 60;

/// What a counted event leads to.
#[derive(Event, Serialize, Deserialize)]
#[event(type = "test.passed-on", topic = "test.passed-on", key = key)]
struct PassedOn {
    key: String,
    n: u32,
}

/// Has its effect, and passes the event on, in one transaction.
async fn pass_on(
    event: Counted,
    State(script): State<Script>,
    mut tx: Tx<Db>,
) -> Result<PassedOn, HandlerError> {
    let what = format!("{}:{}", event.key, event.n);
    effect(&mut tx, what.clone()).await?;
    script.call(&event.key, &what).map_err(HandlerError::retry)?;
    Ok(PassedOn { key: event.key, n: event.n })
}

async fn hear(event: PassedOn, mut tx: Tx<Db>) -> Result<(), HandlerError> {
    effect(&mut tx, format!("heard-{}:{}", event.key, event.n)).await
}

async fn service(site: &Site, engine: &Arc<AbsentEngine>, script: &Script) -> Running<Db> {
    let engine: Arc<dyn Engine> = engine.clone();
    // The clock runs while handlers do, so they have all the time that there is.
    let retry = Retry::every(seconds(600)).attempts(1_000);
    let passing = Subscription::named("passing").timeout(seconds(24 * 3600)).retry(retry).on(pass_on);
    let hearing = Subscription::named("hearing").timeout(seconds(24 * 3600)).on(hear);
    let app = App::new("test").engine(EngineChoice::from(engine)).partitions(2).in_world(&site.world);
    let app = app.store(site.store().await).state(script.clone());
    let service = app.subscribe(passing).subscribe(hearing).build().await;
    service.expect("fits together").start().await.expect("starts")
}

fn key(number: u32) -> String {
    format!("key-{number}")
}

/// Waits until `what` has taken effect: while the engine is away a service does not settle.
async fn until_effect(service: &Running<Db>, what: &str) {
    let waited = tokio::time::timeout(Duration::from_secs(60), async {
        while !effects(service.store()).await.iter().any(|effect| effect == what) {
            tokio::task::yield_now().await;
        }
    });
    waited.await.expect("it takes effect although the engine is away");
}

/// Waits until the relay has met the absence.
async fn until_tried(engine: &AbsentEngine) {
    let waited = tokio::time::timeout(Duration::from_secs(60), async {
        while engine.refused() == 0 {
            tokio::task::yield_now().await;
        }
    });
    waited.await.expect("the relay tries");
}

/// Per key, the numbers that were published, each id once, in the order of the log.
async fn passed_on(engine: &dyn Engine) -> BTreeMap<String, Vec<u32>> {
    let mut ids = BTreeSet::new();
    let mut keys: BTreeMap<String, Vec<u32>> = BTreeMap::new();
    for event in published::<PassedOn>(engine).await.expect("reads") {
        if ids.insert(event.meta().id().to_string()) {
            keys.entry(event.key.clone()).or_default().push(event.n);
        }
    }
    keys
}

/// Before: each key has an event that fails once, and is due again while the engine is away. Then, each
/// minute, plain code commits a row and an event for each key. What failed is handled from the store and
/// publishes into the outbox. The first batch that the relay sends goes in without an answer.
#[tokio::test(flavor = "multi_thread")]
async fn an_hour_without_the_engine_loses_nothing_and_keeps_the_order() {
    let Some(site) = Site::on_files().await else { return };
    let engine = AbsentEngine::around(site.world.engine("memory:").await.expect("opens"));
    let script = Script::default();
    (0..KEYS).for_each(|number| script.fail_times(&format!("{}:1", key(number)), 1));
    let mut service = service(&site, &engine, &script).await;
    publish(&service, (0..KEYS).map(|number| counted(&key(number), 1))).await;
    service.settle().await.expect("settles");
    assert!(effects(service.store()).await.is_empty(), "all of them wait for their second attempt");

    engine.leave();
    for minute in 1..=MINUTES {
        let mut tx = service.transaction().await.expect("begins");
        for number in 0..KEYS {
            let what = format!("plain-{}:{minute}", key(number));
            sqlx::query(INSERT_EFFECT).bind(what).execute(&mut *tx).await.expect("inserts");
            tx.publish(&counted(&key(number), 1 + minute)).expect("is taken");
        }
        tx.commit().await.expect("commits although the engine is away");
        site.world.advance(seconds(60));
    }
    for number in 0..KEYS {
        until_effect(&service, &format!("{}:1", key(number))).await;
    }
    let during = effects(service.store()).await;
    for number in 0..KEYS {
        assert_eq!(of_key(&during, &format!("plain-{}", key(number))).len(), MINUTES as usize);
        assert_eq!(of_key(&during, &key(number)), numbered(&key(number), 1..=1), "nothing else has come");
        assert!(of_key(&during, &format!("heard-{}", key(number))).is_empty());
    }
    until_tried(&engine).await;

    engine.come_back();
    service.settle().await.expect("settles");
    let after = effects(service.store()).await;
    let passed_on = passed_on(&**service.engine()).await;
    for key in (0..KEYS).map(key) {
        let all = 1..=MINUTES + 1;
        assert_eq!(of_key(&after, &key), numbered(&key, all.clone()));
        let heard = format!("heard-{key}");
        assert_eq!(of_key(&after, &heard), numbered(&heard, all.clone()));
        assert!(passed_on[&key].iter().copied().eq(all), "{:?}", passed_on[&key]);
    }
    service.stop().await.expect("stops");
}

/// Stopped while the engine is away and started when it is back: what it had committed is in the outbox.
#[tokio::test(flavor = "multi_thread")]
async fn a_service_that_is_killed_meanwhile_goes_on_where_it_was() {
    let Some(site) = Site::on_files().await else { return };
    let engine = AbsentEngine::around(site.world.engine("memory:").await.expect("opens"));
    let script = Script::default();
    let first = service(&site, &engine, &script).await;
    publish(&first, [counted("a", 1)]).await;
    until_effect(&first, "a:1").await;
    engine.leave();
    for n in 2..=5 {
        let mut tx = first.transaction().await.expect("begins");
        tx.publish(&counted("a", n)).expect("is taken");
        tx.commit().await.expect("commits although the engine is away");
    }
    first.kill().await;
    engine.come_back();
    let mut second = service(&site, &engine, &script).await;
    second.settle().await.expect("settles");
    let after = effects(second.store()).await;
    assert_eq!(of_key(&after, "a"), numbered("a", 1..=5));
    assert_eq!(of_key(&after, "heard-a"), numbered("heard-a", 1..=5));
    second.stop().await.expect("stops");
}
