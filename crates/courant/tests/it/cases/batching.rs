//! Several events in one transaction: what one of them does wrong is its own business, and all of them are
//! handled once, in the order of their keys, with fewer commits.

use courant::prelude::*;
use courant::testkit::{FaultPoint, World, published};
use courant::{EventId, Running};

use super::common::{
    Counted, Db, Script, Site, count, counted, effect, effects, numbered, of_key, publish, seconds,
};
use crate::build_errors::codes;

/// What a counted event leads to.
#[derive(Event, Serialize, Deserialize, Debug, PartialEq)]
#[event(type = "test.batch-noted", topic = "test.batch-noted", key = what)]
struct Noted {
    what: String,
}

async fn note(event: Counted, State(script): State<Script>, mut tx: Tx<Db>) -> Result<Noted, HandlerError> {
    let what = format!("{}:{}", event.key, event.n);
    effect(&mut tx, what.clone()).await?;
    script.call(&event.key, &what).map_err(HandlerError::retry)?;
    Ok(Noted { what })
}

pub(crate) fn noting() -> Subscription<Db, Script> {
    Subscription::named("noting").concurrency(1).batchable(50).retry(Retry::every(seconds(10))).on(note)
}

/// `rounds` events of each of `keys` keys, key by key in each round.
pub(crate) fn events(keys: u32, rounds: u32) -> Vec<Counted> {
    (1..=rounds).flat_map(|n| (0..keys).map(move |key| counted(&format!("key-{key}"), n))).collect()
}

/// A service that finds all its events when it starts, so that they are ready at once. The id of an event
/// says which one it is.
pub(crate) async fn ready(
    site: &Site,
    script: &Script,
    subscription: Subscription<Db, Script>,
    events: &[Counted],
) -> Running<Db> {
    let service = site.app().await.state(script.clone()).subscribe(subscription).build().await;
    let service = service.expect("fits together");
    let publisher = service.publisher();
    for event in events {
        let id = EventId::new(&format!("{}:{}", event.key, event.n)).expect("legal");
        publisher.publish_as(&id, event).await.expect("publishes");
    }
    service.start().await.expect("starts")
}

fn sorted(mut texts: Vec<String>) -> Vec<String> {
    texts.sort_unstable();
    texts
}

/// One event of a batch fails: the batch is rolled back, and the key of the one that fails is parked with what
/// comes behind it. The others are handled once more.
#[tokio::test(flavor = "multi_thread")]
async fn one_that_fails_is_parked_alone() {
    let Some(site) = Site::on_memory().await else { return };
    let script = Script::default();
    script.fail("key-3");
    let mut service = ready(&site, &script, noting(), &events(10, 2)).await;
    service.settle().await.expect("settles");
    let done = effects(service.store()).await;
    assert_eq!(done.len(), 18, "{done:?}");
    for key in (0..10).filter(|key| *key != 3).map(|key| format!("key-{key}")) {
        assert_eq!(of_key(&done, &key), numbered(&key, 1..=2));
    }
    let called = script.called();
    let calls = |what: &str| called.iter().filter(|called| *called == what).count();
    assert_eq!(calls("key-0:1"), 2, "it was in one transaction with key-3:1: {called:?}");
    assert_eq!(calls("key-3:2"), 0, "it is behind one that is parked");

    script.repair("key-3");
    site.advance(&mut service, seconds(10)).await;
    assert_eq!(of_key(&effects(service.store()).await, "key-3"), numbered("key-3", 1..=2));
    let noted = published::<Noted>(&**service.engine()).await.expect("reads");
    assert_eq!(noted.len(), 20, "what was rolled back has published nothing");
    service.stop().await.expect("stops");
}

/// Two events of a batch fail: the second one is found when the first one has left, and the others are handled
/// by themselves then.
#[tokio::test(flavor = "multi_thread")]
async fn two_that_fail_are_parked_alone() {
    let Some(site) = Site::on_memory().await else { return };
    let script = Script::default();
    for key in ["key-3", "key-5"] {
        script.fail(key);
    }
    let mut service = ready(&site, &script, noting(), &events(10, 1)).await;
    service.settle().await.expect("settles");
    let done = effects(service.store()).await;
    assert_eq!(done.len(), 8, "{done:?}");
    let called = script.called();
    let calls = |what: &str| called.iter().filter(|called| *called == what).count();
    assert_eq!((calls("key-0:1"), calls("key-4:1"), calls("key-9:1")), (3, 2, 1), "{called:?}");
    for key in ["key-3", "key-5"] {
        script.repair(key);
    }
    site.advance(&mut service, seconds(10)).await;
    assert_eq!(effects(service.store()).await.len(), 10);
    service.stop().await.expect("stops");
}

/// What is published in a batch is caused by its own event, not by another one of the batch.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_published_is_caused_by_its_own_event() {
    let Some(site) = Site::on_memory().await else { return };
    let mut service = ready(&site, &Script::default(), noting(), &events(10, 2)).await;
    service.settle().await.expect("settles");
    let noted = published::<Noted>(&**service.engine()).await.expect("reads");
    assert_eq!(noted.len(), 20);
    for noted in &noted {
        assert_eq!(noted.meta().causation_id(), Some(noted.what.as_str()));
    }
    service.stop().await.expect("stops");
}

/// Killed at each place, in the middle of a batch too, each row is there once, and each event in the log
/// under one id.
#[tokio::test(flavor = "multi_thread")]
async fn a_kill_at_any_place_leaves_each_effect_once() {
    let points = [
        (FaultPoint::AfterBegin, 0),
        (FaultPoint::AfterHandler, 0),
        (FaultPoint::AfterHandler, 3),
        (FaultPoint::AfterCommit, 0),
        (FaultPoint::BeforeProgress, 0),
        (FaultPoint::AfterPublish, 0),
    ];
    for (point, passes) in points {
        let Some(site) = Site::on_files().await else { return };
        let script = Script::default();
        site.world.crash_at(point, passes);
        let service = ready(&site, &script, noting(), &events(3, 2)).await;
        site.world.crashed(1).await;
        service.kill().await;

        let mut service = ready(&site, &script, noting(), &[]).await;
        service.settle().await.expect("settles");
        let done = effects(service.store()).await;
        assert_eq!(done.len(), 6, "{point:?} after {passes}: {done:?}");
        for key in (0..3).map(|key| format!("key-{key}")) {
            assert_eq!(of_key(&done, &key), numbered(&key, 1..=2), "{point:?} after {passes}");
        }
        let noted = published::<Noted>(&**service.engine()).await.expect("reads");
        let mut ids: Vec<_> =
            noted.iter().map(|noted| (noted.what.clone(), noted.meta().id().clone())).collect();
        ids.sort_unstable();
        ids.dedup();
        let whats: Vec<_> = ids.into_iter().map(|(what, _)| what).collect();
        assert_eq!(whats, sorted(done), "{point:?} after {passes}");
        service.stop().await.expect("stops");
    }
}

/// What a handler writes: when it was called, in the time of the world.
#[derive(Clone)]
struct Clocked {
    world: World,
    is_failing: bool,
}

const KEYS: u32 = 30;
const ROUNDS: u32 = 3;

async fn clock_in(
    event: Counted,
    State(clocked): State<Clocked>,
    mut tx: Tx<Db>,
) -> Result<(), HandlerError> {
    effect(&mut tx, format!("{}:{} at {}", event.key, event.n, clocked.world.now_ms())).await?;
    if clocked.is_failing && event.key == "key-0" {
        return Err(HandlerError::retry("it fails for ever"));
    }
    Ok(())
}

/// The effects of one run, those of each key in their order. `None` without a database.
async fn schedule(is_failing: bool) -> Option<Vec<String>> {
    let site = Site::on_memory().await?;
    let retry = Retry::exponential(seconds(1), seconds(30)).without_jitter().attempts(1_000);
    let clocking = Subscription::named("clocking").concurrency(2).batchable(10).retry(retry).on(clock_in);
    let state = Clocked { world: site.world.clone(), is_failing };
    let service = site.app().await.state(state).subscribe(clocking).build().await;
    let mut service = service.expect("fits together").start().await.expect("starts");
    for round in 1..=ROUNDS {
        publish(&service, (0..KEYS).map(|key| counted(&format!("key-{key}"), round))).await;
        service.settle().await.expect("settles");
        for _ in 0..5 {
            site.advance(&mut service, seconds(7)).await;
        }
    }
    let done = effects(service.store()).await;
    service.stop().await.expect("stops");
    Some((0..KEYS).flat_map(|key| of_key(&done, &format!("key-{key}"))).collect())
}

/// With batches, too, the other keys do not notice one that fails for ever: the same effects at the same
/// instants.
#[tokio::test(flavor = "multi_thread")]
async fn the_schedule_of_the_other_keys_is_identical() {
    let Some(healthy) = schedule(false).await else { return };
    let Some(failing) = schedule(true).await else { return };
    let (of_bad, of_others): (Vec<_>, Vec<_>) =
        healthy.into_iter().partition(|effect| effect.starts_with("key-0:"));
    assert_eq!((of_bad.len(), of_others.len()), (ROUNDS as usize, (KEYS * ROUNDS - ROUNDS) as usize));
    assert_eq!(failing, of_others);
}

/// Whether a thousand events of a hundred keys that are ready at once take more commits than that. `None`
/// without a database.
async fn takes_more_commits(than: u64, batch: usize, failing: Option<&str>) -> Option<bool> {
    let site = Site::on_memory().await?;
    let counting = Subscription::named("counting").concurrency(2).batchable(batch).on(count);
    let script = Script::default();
    failing.into_iter().for_each(|key| script.fail(key));
    site.world.crash_at(FaultPoint::AfterCommit, than);
    let mut service = ready(&site, &script, counting, &events(100, 10)).await;
    let takes_more = tokio::select! {
        settled = service.settle() => {
            settled.expect("settles");
            false
        }
        () = site.world.crashed(1) => true,
    };
    if takes_more {
        service.kill().await;
        return Some(true);
    }
    let done = effects(service.store()).await;
    for key in (0..100).map(|key| format!("key-{key}")) {
        let expected = if failing == Some(key.as_str()) { Vec::new() } else { numbered(&key, 1..=10) };
        assert_eq!(of_key(&done, &key), expected);
    }
    service.stop().await.expect("stops");
    Some(false)
}

/// 1,000 events of 100 keys are 20 full batches of 50, and some more where few were ready; one by one they
/// are more than that by far.
#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_events_take_a_few_commits() {
    let Some(takes_more) = takes_more_commits(40, 50, None).await else { return };
    assert!(!takes_more);
    assert_eq!(takes_more_commits(40, 1, None).await, Some(true));
}

/// One key that fails costs one batch more, and not a commit for each event that was in a batch with it.
#[tokio::test(flavor = "multi_thread")]
async fn one_that_fails_costs_the_others_a_few_commits() {
    let Some(takes_more) = takes_more_commits(40, 50, Some("key-3")).await else { return };
    assert!(!takes_more);
}

async fn end_it(event: Counted, State(script): State<Script>, mut tx: Tx<Db>) -> Result<(), HandlerError> {
    let what = format!("{}:{}", event.key, event.n);
    effect(&mut tx, what.clone()).await?;
    script.call(&event.key, &what).map_err(HandlerError::retry)?;
    if event.key == "ends" {
        sqlx::query("rollback").execute(&mut *tx).await?;
    }
    Ok(())
}

/// A handler that ends the transaction of its batch: no other handler works behind that end, where the
/// database would commit each of its statements.
#[tokio::test(flavor = "multi_thread")]
async fn one_that_ends_the_transaction_harms_no_other() {
    let Some(site) = Site::on_memory().await else { return };
    let ending = Subscription::named("ending").concurrency(1).batchable(50).retry(Retry::never()).on(end_it);
    let events: Vec<_> = ["a", "b", "ends", "c", "d"].map(|key| counted(key, 1)).into();
    let mut service = ready(&site, &Script::default(), ending, &events).await;
    service.settle().await.expect("settles");
    assert_eq!(sorted(effects(service.store()).await), ["a:1", "b:1", "c:1", "d:1"]);
    assert_eq!(service.dead_letters().list().await.expect("lists").len(), 1);
    service.stop().await.expect("stops");
}

/// Counts a call when it hangs.
async fn hang(event: Counted, State(script): State<Script>, mut tx: Tx<Db>) -> Result<(), HandlerError> {
    let what = format!("{}:{}", event.key, event.n);
    effect(&mut tx, what.clone()).await?;
    if event.key == "hangs" {
        script.call(&event.key, &what).map_err(HandlerError::retry)?;
        std::future::pending::<()>().await;
    }
    Ok(())
}

/// A handler that takes too long is stopped, in the batch and by itself; the others have their effects.
#[tokio::test(flavor = "multi_thread")]
async fn one_that_hangs_is_stopped_alone() {
    let Some(site) = Site::on_memory().await else { return };
    let script = Script::default();
    let hanging = Subscription::named("hanging").concurrency(1).batchable(50).timeout(seconds(1_000));
    let hanging = hanging.retry(Retry::never()).on(hang);
    let events: Vec<_> = ["a", "hangs", "b"].map(|key| counted(key, 1)).into();
    let mut service = ready(&site, &script, hanging, &events).await;
    // The clock goes on once for each call that hangs, while it does: one handler works at a time, so it is no
    // other one whose time is over.
    let mut over = 0;
    while service.dead_letters().list().await.expect("lists").is_empty() {
        let hung = script.called().len();
        if hung > over {
            over = hung;
            site.world.advance(seconds(1_000));
        }
        tokio::task::yield_now().await;
    }
    service.settle().await.expect("settles");
    assert_eq!(sorted(effects(service.store()).await), ["a:1", "b:1"]);
    let letters = service.dead_letters().list().await.expect("lists");
    assert_eq!(letters.len(), 1);
    assert!(letters[0].failure.kind.ends_with("timeout"), "{:?}", letters[0].failure);
    service.stop().await.expect("stops");
}

async fn nothing(_: Counted) -> Result<(), HandlerError> {
    Ok(())
}

/// What cannot be kept is refused before anything starts.
#[tokio::test]
async fn batches_that_cannot_be_are_refused() {
    let Some(site) = Site::on_memory().await else { return };
    for (events, said) in [(0, "handles 0 events in one transaction"), (501, "handles 501 events")] {
        let nothings = Subscription::named("nothings").batchable(events).on(nothing);
        let refused = site.app().await.subscribe(nothings).build().await.expect_err("is refused");
        assert!(refused.problems()[0].what().contains(said), "{refused}");
        assert_eq!(codes(&refused), ["batch-size"]);
    }
    let loose = Subscription::named("loose").at_least_once().batchable(2).on(nothing);
    let loose = loose.when_exhausted(Exhausted::DeadLetter);
    let refused = site.app().await.subscribe(loose).build().await.expect_err("is refused");
    assert_eq!(codes(&refused), ["batch-without-transaction"], "{refused}");
}
