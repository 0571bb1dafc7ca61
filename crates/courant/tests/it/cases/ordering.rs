//! A key that fails stands aside, in order, and nothing else notices.

use courant::prelude::*;
use courant::testkit::FaultPoint;
use courant::{EventId, Running, Service};

use super::common::{
    Counted, Db, Script, Site, all, count, counted, effects, numbered, of_key, publish, seconds,
};

fn counting(retry: Retry) -> Subscription<Db, Script> {
    Subscription::named("counting").concurrency(4).retry(retry).on(count)
}

async fn start(site: &Site, script: &Script, retry: Retry) -> Running<Db> {
    let app = site.app().await.state(script.clone()).subscribe(counting(retry));
    let service: Service<Db> = app.build().await.expect("fits together");
    service.start().await.expect("starts")
}

fn slowly() -> Retry {
    Retry::every(seconds(10)).without_jitter().attempts(1_000)
}

/// D1: the other keys do what they do when nothing fails, and the one that fails has no effect at all.
#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_fails_for_ever_does_not_disturb_the_others() {
    let mut seen = Vec::new();
    for fails in [false, true] {
        let Some(site) = Site::on_memory().await else { return };
        let script = Script::default();
        if fails {
            script.fail("bad");
        }
        let mut service = start(&site, &script, slowly()).await;
        for n in 1..=5 {
            publish(&service, [counted("bad", n)]).await;
            publish(&service, (0..9).map(|key| counted(&format!("key-{key}"), n))).await;
            site.advance(&mut service, seconds(10)).await;
        }
        let effects = effects(service.store()).await;
        assert_eq!(of_key(&effects, "bad").is_empty(), fails);
        let others: Vec<_> = (0..9).map(|key| of_key(&effects, &format!("key-{key}"))).collect();
        for (key, effects) in others.iter().enumerate() {
            assert_eq!(*effects, numbered(&format!("key-{key}"), 1..=5));
        }
        seen.push(others);
        service.stop().await.expect("stops");
    }
    assert_eq!(seen[0], seen[1]);
}

/// D8: during a backoff nothing of the key overtakes, and nothing comes before its time.
#[tokio::test(flavor = "multi_thread")]
async fn a_retry_comes_at_its_time_and_later_events_of_the_key_behind_it() {
    let Some(site) = Site::on_memory().await else { return };
    let script = Script::default();
    script.fail_times("a:1", 2);
    let mut service = start(&site, &script, slowly()).await;
    publish(&service, [counted("a", 1), counted("a", 2)]).await;
    service.settle().await.expect("settles");
    assert_eq!(script.called(), ["a:1"]);
    for (wait, calls) in [(9, 1), (1, 2), (9, 2)] {
        site.advance(&mut service, seconds(wait)).await;
        assert_eq!(script.called().len(), calls);
        assert!(effects(service.store()).await.is_empty());
    }
    publish(&service, [counted("a", 3)]).await;
    site.advance(&mut service, seconds(1)).await;
    assert_eq!(script.called(), ["a:1", "a:1", "a:1", "a:2", "a:3"]);
    assert_eq!(effects(service.store()).await, numbered("a", 1..=3));
    // Nothing of the key is parked any more: the next one is handled when it comes.
    publish(&service, [counted("a", 4)]).await;
    service.settle().await.expect("settles");
    assert_eq!(effects(service.store()).await, numbered("a", 1..=4));
    service.stop().await.expect("stops");
}

/// D2: what is parked is parked in the store. The service is killed right after parking, before its
/// progress is kept, and what comes later still waits behind.
#[tokio::test(flavor = "multi_thread")]
async fn a_parked_key_stays_parked_when_the_service_is_killed() {
    for point in [FaultPoint::AfterPark, FaultPoint::BeforeProgress] {
        let Some(site) = Site::on_files().await else { return };
        let script = Script::default();
        script.fail_times("a:1", 1);
        site.world.crash_at(point, 0);
        let service = start(&site, &script, slowly()).await;
        publish(&service, [counted("a", 1)]).await;
        site.world.crashed(1).await;
        service.kill().await;

        let mut service = start(&site, &script, slowly()).await;
        publish(&service, [counted("a", 2), counted("b", 1)]).await;
        service.settle().await.expect("settles");
        assert_eq!(effects(service.store()).await, ["b:1"], "{point:?}");
        site.advance(&mut service, seconds(10)).await;
        assert_eq!(effects(service.store()).await, ["b:1", "a:1", "a:2"], "{point:?}");
        service.stop().await.expect("stops");
    }
}

/// D4: a redrive hands the parked events back in order, and what comes meanwhile queues behind them.
#[tokio::test(flavor = "multi_thread")]
async fn a_redrive_goes_before_newer_events_of_its_key() {
    let Some(site) = Site::on_memory().await else { return };
    let script = Script::default();
    script.fail("a");
    let mut service = start(&site, &script, Retry::never()).await;
    publish(&service, (1..=5).map(|n| counted("a", n))).await;
    service.settle().await.expect("settles");
    assert_eq!(script.called(), ["a:1"], "the others wait behind it");
    assert_eq!(service.dead_letters().list().await.expect("lists").len(), 1);

    script.repair("a");
    let publisher = service.publisher();
    let arriving = tokio::spawn(async move {
        for n in 6..=8 {
            publisher.publish(&counted("a", n)).await.expect("publishes");
        }
    });
    service.dead_letters().redrive("repaired", "a test", &all()).await.expect("asks");
    arriving.await.expect("arrives");
    service.settle().await.expect("settles");
    assert_eq!(effects(service.store()).await, numbered("a", 1..=8));
    let redrive = service.dead_letters().progress("repaired").await.expect("is known");
    assert_eq!((redrive.handled, redrive.failed, redrive.pending), (1, 0, 0));
    assert!(service.dead_letters().list().await.expect("lists").is_empty());
    service.stop().await.expect("stops");
}

/// D7: giving up the first parked event lets the next one go.
#[tokio::test(flavor = "multi_thread")]
async fn discarding_the_first_event_lets_the_next_one_go() {
    let Some(site) = Site::on_memory().await else { return };
    let script = Script::default();
    script.fail_times("a:1", 1);
    let mut service = start(&site, &script, Retry::never()).await;
    publish(&service, (1..=3).map(|n| counted("a", n))).await;
    service.settle().await.expect("settles");
    assert!(effects(service.store()).await.is_empty());
    let letters = service.dead_letters().list().await.expect("lists");
    let ids: Vec<i64> = letters.iter().map(|letter| letter.id).collect();
    assert_eq!(service.dead_letters().discard(&ids).await.expect("discards"), ids);
    service.settle().await.expect("settles");
    assert_eq!(effects(service.store()).await, numbered("a", 2..=3));
    service.stop().await.expect("stops");
}

/// D1: who wants no key to stand says so. Until its last attempt is over, later events of the key wait for the one
/// that fails, in their order. Then it is a dead letter that holds nothing back, or is passed and leaves no letter;
/// either way it counts as settled, and a copy of it does nothing.
#[tokio::test(flavor = "multi_thread")]
async fn an_event_that_is_given_up_lets_its_key_go_on() {
    for (exhausted, left) in [(Exhausted::DeadLetter, vec![(0, 2, false)]), (Exhausted::Skip, Vec::new())] {
        let Some(site) = Site::on_memory().await else { return };
        let script = Script::default();
        script.fail_times("a:1", 2);
        let counting = Subscription::named("counting").retry(slowly().attempts(2)).when_exhausted(exhausted);
        let service = site.app().await.state(script.clone()).subscribe(counting.on(count)).build().await;
        let mut service = service.expect("fits together").start().await.expect("starts");
        let publisher = service.publisher();
        let id = EventId::new("a-1").expect("legal");
        publisher.publish_as(&id, &counted("a", 1)).await.expect("publishes");
        publish(&service, (2..=3).map(|n| counted("a", n))).await;
        service.settle().await.expect("settles");
        assert_eq!(script.called(), ["a:1"], "{exhausted:?}: the others wait behind it");
        site.advance(&mut service, seconds(10)).await;
        publisher.publish_as(&id, &counted("a", 1)).await.expect("publishes");
        publish(&service, [counted("a", 4)]).await;
        service.settle().await.expect("settles");
        assert_eq!(script.called(), ["a:1", "a:1", "a:2", "a:3", "a:4"], "{exhausted:?}");
        assert_eq!(effects(service.store()).await, numbered("a", 2..=4), "{exhausted:?}");
        let letters = service.dead_letters().list().await.expect("lists");
        let letters =
            letters.iter().map(|letter| (letter.position.offset, letter.attempts, letter.blocks_key));
        assert_eq!(letters.collect::<Vec<_>>(), left, "{exhausted:?}");
        service.stop().await.expect("stops");
    }
}

/// Never comes back for `slow`; its calls are counted before.
async fn wait_for_ever(event: Counted, State(script): State<Script>) -> Result<(), HandlerError> {
    script.call(&event.key, &format!("{}:{}", event.key, event.n)).map_err(HandlerError::retry)?;
    if event.key == "slow" && script.called().iter().filter(|what| *what == "slow:1").count() == 1 {
        std::future::pending::<()>().await;
    }
    Ok(())
}

/// D11: 1 and 3 are done and 2 is not when the service is killed: 2 comes again, 1 and 3 are known.
#[tokio::test(flavor = "multi_thread")]
async fn progress_does_not_pass_an_event_that_is_under_way() {
    let Some(site) = Site::on_files().await else { return };
    let script = Script::default();
    let app = |app: App<Db>, script: &Script| {
        let waiting = Subscription::named("waiting").at_least_once().concurrency(4).on(wait_for_ever);
        app.state(script.clone()).subscribe(waiting)
    };
    site.world.crash_at(FaultPoint::AfterCommit, 1);
    let service = app(site.app().await, &script).build().await.expect("fits together");
    let service = service.start().await.expect("starts");
    publish(&service, [counted("a", 1), counted("slow", 1)]).await;
    while !script.called().contains(&"slow:1".to_owned()) {
        tokio::task::yield_now().await;
    }
    publish(&service, [counted("b", 1)]).await;
    // The second commit is that of the second of `a` and `b`.
    site.world.crashed(1).await;
    service.kill().await;

    let service = app(site.app().await, &script).build().await.expect("fits together");
    let mut service = service.start().await.expect("starts");
    service.settle().await.expect("settles");
    let mut called = script.called();
    called.sort_unstable();
    assert_eq!(called, ["a:1", "b:1", "slow:1", "slow:1"]);
    service.stop().await.expect("stops");
}

/// Events without a key are parked singly: one that fails stops no other.
#[tokio::test(flavor = "multi_thread")]
async fn events_without_a_key_wait_for_nobody() {
    use super::common::{Loose, effect};

    async fn loosely(event: Loose, State(script): State<Script>, mut tx: Tx<Db>) -> Result<(), HandlerError> {
        let what = format!("loose:{}", event.n);
        effect(&mut tx, what.clone()).await?;
        script.call("loose", &what).map_err(HandlerError::retry)
    }

    let Some(site) = Site::on_memory().await else { return };
    let script = Script::default();
    script.fail_times("loose:1", 1);
    let loose = Subscription::named("loose").retry(slowly()).on(loosely);
    let service =
        site.app().await.state(script.clone()).subscribe(loose).build().await.expect("fits together");
    let mut service = service.start().await.expect("starts");
    for n in 1..=3 {
        service.publisher().publish(&Loose { n }).await.expect("publishes");
    }
    service.settle().await.expect("settles");
    let mut done = effects(service.store()).await;
    done.sort_unstable();
    assert_eq!(done, ["loose:2", "loose:3"]);
    site.advance(&mut service, seconds(10)).await;
    assert_eq!(effects(service.store()).await.last().map(String::as_str), Some("loose:1"));
    service.stop().await.expect("stops");
}
