//! Effects happen once, whatever is published twice, killed in the middle, or goes wrong.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use courant::prelude::*;
use courant::testkit::{FaultPoint, published};
use courant::{EventId, Running};

use super::common::{
    Counted, Db, Loose, Script, Site, count, counted, effect, effects, numbered, publish, seconds,
};
use super::support::SWALLOWED_ERROR_ENDS;

/// What a counted event leads to.
#[derive(Event, Serialize, Deserialize, Debug, PartialEq)]
#[event(type = "test.noted", topic = "test.noted", key = what)]
struct Noted {
    what: String,
}

async fn note(event: Counted, State(script): State<Script>, mut tx: Tx<Db>) -> Result<Noted, HandlerError> {
    let what = format!("{}:{}", event.key, event.n);
    effect(&mut tx, what.clone()).await?;
    script.call(&event.key, &what).map_err(HandlerError::retry)?;
    Ok(Noted { what })
}

async fn noting(site: &Site, script: &Script) -> Running<Db> {
    let noting = Subscription::named("noting").retry(Retry::every(seconds(10))).on(note);
    let service = site.app().await.state(script.clone()).subscribe(noting).build().await;
    service.expect("fits together").start().await.expect("starts")
}

/// I1: killed at each place, the row is there once and the event in the log once or, under the same id,
/// twice.
#[tokio::test(flavor = "multi_thread")]
async fn a_kill_at_any_place_leaves_one_effect() {
    let points = [
        FaultPoint::AfterBegin,
        FaultPoint::AfterHandler,
        FaultPoint::AfterCommit,
        FaultPoint::BeforeProgress,
        FaultPoint::AfterPublish,
    ];
    for point in points {
        let Some(site) = Site::on_files().await else { return };
        let script = Script::default();
        site.world.crash_at(point, 0);
        let service = noting(&site, &script).await;
        publish(&service, [counted("a", 1)]).await;
        site.world.crashed(1).await;
        service.kill().await;

        let mut service = noting(&site, &script).await;
        publish(&service, [counted("a", 2)]).await;
        service.settle().await.expect("settles");
        assert_eq!(effects(service.store()).await, numbered("a", 1..=2), "{point:?}");
        let noted = published::<Noted>(&**service.engine()).await.expect("reads");
        let mut ids: Vec<_> =
            noted.iter().map(|noted| (noted.what.clone(), noted.meta().id().clone())).collect();
        ids.sort_unstable();
        ids.dedup();
        let whats: Vec<_> = ids.iter().map(|(what, _)| what.as_str()).collect();
        assert_eq!(whats, ["a:1", "a:2"], "{point:?}");
        // Killed between publishing and noting that, the relay publishes once more, under the same id.
        let is_twice = noted.len() == 3;
        assert!(is_twice || noted.len() == 2, "{point:?}: {}", noted.len());
        assert!(is_twice || point != FaultPoint::AfterPublish);
        service.stop().await.expect("stops");
    }
}

/// I1, where events stand ready behind each other: the transaction of one begins with the commit of another one,
/// where the store can, and a kill takes the one and not the other.
#[tokio::test(flavor = "multi_thread")]
async fn a_kill_between_events_behind_each_other_leaves_one_effect_each() {
    let all: Vec<String> = (0..6).map(|key| format!("key-{key}:1")).collect();
    for (point, committed) in
        [(FaultPoint::AfterBegin, 2), (FaultPoint::AfterHandler, 2), (FaultPoint::AfterCommit, 3)]
    {
        let Some(site) = Site::on_files().await else { return };
        let script = Script::default();
        let start = async || {
            let noting = Subscription::named("noting").concurrency(1).on(note);
            let service = site.app().await.state(script.clone()).subscribe(noting).build().await;
            service.expect("fits together").start().await.expect("starts")
        };
        site.world.crash_at(point, 2);
        let service = start().await;
        publish(&service, (0..6).map(|key| counted(&format!("key-{key}"), 1))).await;
        site.world.crashed(1).await;
        service.kill().await;
        assert_eq!(effects(&site.store().await).await.len(), committed, "{point:?}");

        let mut service = start().await;
        service.settle().await.expect("settles");
        let mut effects = effects(service.store()).await;
        effects.sort_unstable();
        assert_eq!(effects, all, "{point:?}");
        service.stop().await.expect("stops");
    }
}

async fn count_again(event: Counted, mut tx: Tx<Db>) -> Result<(), HandlerError> {
    effect(&mut tx, format!("again-{}:{}", event.key, event.n)).await
}

/// I2: two consumers of one event have their effects each, and the failure of one is none of the other's
/// business.
#[tokio::test(flavor = "multi_thread")]
async fn two_consumers_have_their_effects_each() {
    let Some(site) = Site::on_memory().await else { return };
    let script = Script::default();
    script.fail("a");
    let service = site
        .app()
        .await
        .state(script.clone())
        .subscribe(Subscription::named("one").retry(Retry::every(seconds(10))).on(count))
        .subscribe(Subscription::named("two").on(count_again))
        .build()
        .await;
    let mut service = service.expect("fits together").start().await.expect("starts");
    publish(&service, [counted("a", 1)]).await;
    service.settle().await.expect("settles");
    assert_eq!(effects(service.store()).await, ["again-a:1"]);
    script.repair("a");
    site.advance(&mut service, seconds(10)).await;
    assert_eq!(effects(service.store()).await, ["again-a:1", "a:1"]);
    service.stop().await.expect("stops");
}

async fn loosely(event: Loose, mut tx: Tx<Db>) -> Result<(), HandlerError> {
    effect(&mut tx, format!("loose:{}", event.n)).await
}

/// I4: copies of one event that are handled at the same time have one effect.
#[tokio::test(flavor = "multi_thread")]
async fn copies_of_one_event_have_one_effect() {
    let Some(site) = Site::on_memory().await else { return };
    let service = site.app().await.subscribe(Subscription::named("loose").concurrency(16).on(loosely));
    let mut service = service.build().await.expect("fits together").start().await.expect("starts");
    let publisher = service.publisher();
    for n in 0..20 {
        let id = EventId::new(&format!("loose-{n}")).expect("legal");
        for _ in 0..10 {
            publisher.publish_as(&id, &Loose { n }).await.expect("publishes");
        }
    }
    service.settle().await.expect("settles");
    let mut done = effects(service.store()).await;
    done.sort_unstable();
    let mut expected = numbered("loose", 0..=19);
    expected.sort_unstable();
    assert_eq!(done, expected);
    service.stop().await.expect("stops");
}

/// O8: what failed has published nothing, and what succeeds at last has published once.
#[tokio::test(flavor = "multi_thread")]
async fn a_handler_that_fails_publishes_nothing() {
    let Some(site) = Site::on_memory().await else { return };
    let script = Script::default();
    script.fail_times("a:1", 2);
    let mut service = noting(&site, &script).await;
    publish(&service, [counted("a", 1)]).await;
    service.settle().await.expect("settles");
    assert!(published::<Noted>(&**service.engine()).await.expect("reads").is_empty());
    for _ in 0..2 {
        site.advance(&mut service, seconds(10)).await;
    }
    let noted = published::<Noted>(&**service.engine()).await.expect("reads");
    assert_eq!(noted.len(), 1);
    assert_eq!(*noted[0], Noted { what: "a:1".to_owned() });
    service.stop().await.expect("stops");
}

type Keys = Arc<Mutex<Vec<String>>>;

async fn call_elsewhere(event: Counted, meta: Meta, State(keys): State<Keys>) -> Result<(), HandlerError> {
    let mut keys = keys.lock().expect("nobody panics with it");
    keys.push(format!("{} {}", meta.attempt(), meta.idempotency_key()));
    if meta.attempt() < 3 && event.n == 1 {
        return Err(HandlerError::retry("no answer"));
    }
    Ok(())
}

/// I9: other systems are called with one idempotency key at every attempt.
#[tokio::test(flavor = "multi_thread")]
async fn the_idempotency_key_stays_at_every_attempt() {
    let Some(site) = Site::on_memory().await else { return };
    let keys = Keys::default();
    let calling = Subscription::named("calling").retry(Retry::every(seconds(1))).on(call_elsewhere);
    let service = site.app().await.state(keys.clone()).subscribe(calling).build().await;
    let mut service = service.expect("fits together").start().await.expect("starts");
    publish(&service, [counted("a", 1)]).await;
    for _ in 0..3 {
        site.advance(&mut service, seconds(1)).await;
    }
    service.stop().await.expect("stops");
    let keys = keys.lock().expect("nobody panics with it");
    let (attempts, keys): (Vec<_>, Vec<_>) = keys.iter().filter_map(|said| said.split_once(' ')).unzip();
    assert_eq!(attempts, ["1", "2", "3"]);
    assert!(keys.iter().all(|key| *key == keys[0]), "{keys:?}");
}

type Escape = Arc<tokio::sync::Notify>;

async fn let_escape(event: Counted, State(held): State<Escape>, mut tx: Tx<Db>) -> Result<(), HandlerError> {
    effect(&mut tx, format!("escaped:{}", event.n)).await?;
    tokio::spawn(async move {
        held.notified().await;
        drop(tx);
    });
    Ok(())
}

/// I7: a transaction that outlives its handler is rolled back, and the event has failed with a reason that
/// says so. On one thread: the task does not run before the handler has returned.
#[tokio::test]
async fn a_transaction_that_escapes_is_rolled_back() {
    let Some(site) = Site::on_memory().await else { return };
    let held = Escape::default();
    held.notify_one();
    let escaping = Subscription::named("escaping").retry(Retry::never()).on(let_escape);
    let service = site.app().await.state(held).subscribe(escaping).build().await;
    let mut service = service.expect("fits together").start().await.expect("starts");
    publish(&service, [counted("a", 1)]).await;
    service.settle().await.expect("settles");
    assert!(effects(service.store()).await.is_empty());
    let letters = service.dead_letters().list().await.expect("lists");
    assert_eq!(letters.len(), 1);
    assert!(letters[0].failure.message.starts_with("TransactionEscaped"), "{:?}", letters[0].failure);
    service.stop().await.expect("stops");
}

async fn go_wrong(event: Counted, mut tx: Tx<Db>) -> Result<(), HandlerError> {
    effect(&mut tx, format!("{}:{}", event.key, event.n)).await?;
    match event.key.as_str() {
        "panics" => panic!("on purpose"),
        "hangs" => std::future::pending().await,
        "ends" => {
            sqlx::raw_sql("rollback").execute(&mut *tx).await?;
            Ok(())
        }
        "swallows" => {
            // A constraint that is violated and not passed on ends the transaction of some databases.
            let _ = sqlx::query("insert into effects (what) values (null)").execute(&mut *tx).await;
            Ok(())
        }
        _ => Ok(()),
    }
}

/// FRAMEWORK's rule: an event is handled only if its transaction was committed whole.
#[tokio::test(flavor = "multi_thread")]
async fn what_goes_wrong_in_a_handler_leaves_nothing() {
    let Some(site) = Site::on_memory().await else { return };
    let wrong = Subscription::named("wrong").retry(Retry::never()).timeout(seconds(5)).on(go_wrong);
    let service = site.app().await.subscribe(wrong).build().await.expect("fits together");
    let mut service = service.start().await.expect("starts");
    for (key, kind) in [("panics", "Panicked"), ("ends", "CommitError"), ("hangs", "timeout")] {
        publish(&service, [counted(key, 1)]).await;
        if key == "hangs" {
            // The handler is called before its time runs, so the clock goes on until it has run out.
            while service.dead_letters().list().await.expect("lists").len() < 3 {
                site.world.advance(Duration::from_secs(1));
                tokio::task::yield_now().await;
            }
        }
        service.settle().await.expect("settles");
        let letters = service.dead_letters().list().await.expect("lists");
        let failure = &letters.last().expect("a dead letter").failure;
        assert!(failure.kind.ends_with(kind), "{key}: {failure:?}");
    }
    assert!(effects(service.store()).await.is_empty());
    publish(&service, [counted("swallows", 1), counted("fine", 1)]).await;
    service.settle().await.expect("settles");
    let done = effects(service.store()).await;
    let swallowed = done.iter().any(|what| what == "swallows:1");
    assert_eq!(swallowed, !SWALLOWED_ERROR_ENDS);
    assert_eq!(done.iter().filter(|what| *what != "swallows:1").collect::<Vec<_>>(), ["fine:1"]);
    if SWALLOWED_ERROR_ENDS {
        let letters = service.dead_letters().list().await.expect("lists");
        let failure = &letters.last().expect("a dead letter").failure;
        assert!(failure.kind.ends_with("CommitError"), "{failure:?}");
    }
    service.stop().await.expect("stops");
}
