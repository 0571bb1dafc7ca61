//! Progress lives in the store, and belongs to one log.

use courant::prelude::*;
use courant::{BuildError, OtherLog, Service, StartFrom};

use super::common::{Counted, Db, Script, Site, count, counted, effects, numbered, publish};
use crate::build_errors::codes;

fn counting(other_log: OtherLog) -> Subscription<Db, Script> {
    Subscription::named("counting").when_log_differs(other_log).on(count)
}

/// A service that has handled five events.
async fn five(site: &Site) {
    let service = site.app().await.state(Script::default()).subscribe(counting(OtherLog::Refuse));
    let mut service = service.build().await.expect("fits together").start().await.expect("starts");
    publish(&service, (1..=5).map(|n| counted("a", n))).await;
    service.settle().await.expect("settles");
    assert_eq!(effects(service.store()).await, numbered("a", 1..=5));
    service.stop().await.expect("stops");
}

async fn hear(_: Counted) {}

/// The same store beside an engine that is empty, or has other events.
async fn beside_another_log(
    site: &Site,
    events: u32,
    other_log: OtherLog,
) -> Result<Service<Db>, BuildError> {
    let engine = site.world.engine("memory:").await.expect("opens");
    let hearing = Subscription::named("hearing").at_least_once().when_exhausted(Exhausted::Skip).on(hear);
    let other = App::new("other").engine(engine.clone()).partitions(1).in_world(&site.world);
    let other = other.subscribe(hearing).build().await.expect("fits together");
    for n in 1..=events {
        other.publisher().publish(&counted("b", n)).await.expect("publishes");
    }
    let app = App::new("test").engine(engine).partitions(1).in_world(&site.world).store(site.store().await);
    app.state(Script::default()).subscribe(counting(other_log)).build().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_goes_on_where_it_stopped() {
    let Some(site) = Site::on_files().await else { return };
    five(&site).await;
    let script = Script::default();
    let service = site.app().await.state(script.clone()).subscribe(counting(OtherLog::Refuse)).build().await;
    let mut service = service.expect("fits together").start().await.expect("starts");
    publish(&service, [counted("a", 6)]).await;
    service.settle().await.expect("settles");
    assert_eq!(script.called(), ["a:6"], "what was handled is not even read again");
    service.stop().await.expect("stops");
}

/// A log that is shorter than what was handled, or has another event there, is another log.
#[tokio::test(flavor = "multi_thread")]
async fn a_service_does_not_start_on_another_log() {
    let Some(site) = Site::on_files().await else { return };
    five(&site).await;
    for (events, said) in [(0, "offset 4 was handled, and the partition ends at 0"), (9, "was handled there")]
    {
        let refused = beside_another_log(&site, events, OtherLog::Refuse).await.expect_err("is refused");
        let problems = refused.problems();
        assert_eq!(codes(&refused), ["other-log"], "{refused}");
        assert_eq!(problems[0].what(), "the log is not the one that progress was made in");
        let fix = problems[0].fix();
        assert!(fix.contains(said) && fix.contains(".when_log_differs(…)"), "{fix}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn another_log_is_taken_as_somebody_has_decided() {
    for (other_log, expected) in [
        (OtherLog::Adopt, numbered("b", 6..=9)),
        (OtherLog::FromStart, numbered("b", 1..=9)),
        (OtherLog::FromTime(0), numbered("b", 1..=9)),
        (OtherLog::FromTime(i64::MAX), Vec::new()),
    ] {
        let Some(site) = Site::on_files().await else { return };
        five(&site).await;
        let service = beside_another_log(&site, 9, other_log).await.expect("fits together");
        let mut service = service.start().await.expect("starts");
        service.settle().await.expect("settles");
        let mut all = numbered("a", 1..=5);
        all.extend(expected);
        assert_eq!(effects(service.store()).await, all, "{other_log:?}");
        service.stop().await.expect("stops");
    }
}

/// A consumer that begins at the end keeps where that was, although it has handled nothing yet.
#[tokio::test(flavor = "multi_thread")]
async fn a_consumer_that_begins_at_the_end_misses_nothing_after_that() {
    let Some(site) = Site::on_memory().await else { return };
    five(&site).await;
    let newest = |script: &Script| {
        let late = Subscription::named("late").start_from(StartFrom::Newest).on(count);
        (script.clone(), late)
    };
    let (state, late) = newest(&Script::default());
    let service = site.app().await.state(state).subscribe(late).build().await.expect("fits together");
    let mut service = service.start().await.expect("starts");
    service.settle().await.expect("settles");
    let publisher = service.publisher();
    service.stop().await.expect("stops");
    publisher.publish(&counted("a", 6)).await.expect("publishes");

    let script = Script::default();
    let (state, late) = newest(&script);
    let service = site.app().await.state(state).subscribe(late).build().await.expect("fits together");
    let mut service = service.start().await.expect("starts");
    service.settle().await.expect("settles");
    assert_eq!(script.called(), ["a:6"]);
    service.stop().await.expect("stops");
}

/// Symptom: what was published while a service was down that had begun at the end of an empty topic was never handled.
/// Cause: where it had begun was kept as the event before that, and there was none; so it began at the end again.
#[tokio::test(flavor = "multi_thread")]
async fn a_consumer_that_begins_at_the_end_of_nothing_misses_nothing_after_that() {
    let Some(site) = Site::on_memory().await else { return };
    let late = async |script: &Script| {
        let late = Subscription::named("late").start_from(StartFrom::Newest).on(count);
        let service = site.app().await.state(script.clone()).subscribe(late).build().await;
        let mut service = service.expect("fits together").start().await.expect("starts");
        service.settle().await.expect("settles");
        service
    };
    let service = late(&Script::default()).await;
    let publisher = service.publisher();
    service.stop().await.expect("stops");
    publisher.publish(&counted("a", 1)).await.expect("publishes");

    for expected in [&["a:1"][..], &[]] {
        let script = Script::default();
        let service = late(&script).await;
        assert_eq!(script.called(), expected, "once");
        service.stop().await.expect("stops");
    }
}

/// Symptom: a service that was told to begin anew in another log lost events there without a word, as many as events of
/// the log before were parked or dead letters. Cause: they had the same offsets, and were taken for each other.
#[tokio::test(flavor = "multi_thread")]
async fn another_log_does_not_begin_where_events_of_the_one_before_are_parked() {
    for other_log in [OtherLog::FromStart, OtherLog::FromTime(0)] {
        let Some(site) = Site::on_files().await else { return };
        let script = Script::default();
        script.fail("a");
        let failing = Subscription::named("counting").retry(Retry::never()).on(count);
        let service = site.app().await.state(script).subscribe(failing).build().await;
        let mut service = service.expect("fits together").start().await.expect("starts");
        publish(&service, [counted("a", 1), counted("a", 2)]).await;
        service.settle().await.expect("settles");
        service.stop().await.expect("stops");

        let service = beside_another_log(&site, 3, other_log).await.expect("fits together");
        let mut service = service.start().await.expect("starts");
        let refused = service.settle().await.expect_err("two events are in the way").to_string();
        assert!(refused.contains("(1 parked, 1 dead letters)"), "{refused}");
        assert!(effects(service.store()).await.is_empty());
        service.kill().await;
    }
}

/// A new generation shares nothing with the one before: everything is handled anew. What repeats by that is said
/// before the service starts, and not any more once it has begun.
#[tokio::test(flavor = "multi_thread")]
async fn a_new_generation_handles_everything_anew() {
    let Some(site) = Site::on_memory().await else { return };
    five(&site).await;
    let of_generation = async |generation| {
        let again = Subscription::named("counting").generation(generation).on(count);
        let service = site.app().await.state(Script::default()).subscribe(again).build().await;
        service.expect("fits together")
    };
    assert!(of_generation(1).await.begins_anew().is_empty(), "it goes on");
    let service = of_generation(2).await;
    let [anew] = service.begins_anew() else { panic!("{:?}", service.begins_anew()) };
    assert_eq!((anew.consumer.as_str(), anew.generation), ("counting", 2));
    assert_eq!(anew.event_types, ["test.counted"]);
    assert!(anew.to_string().contains("idempotency keys of the first time"), "{anew}");
    let mut service = service.start().await.expect("starts");
    service.settle().await.expect("settles");
    assert_eq!(effects(service.store()).await, [numbered("a", 1..=5), numbered("a", 1..=5)].concat());
    service.stop().await.expect("stops");
    assert!(of_generation(2).await.begins_anew().is_empty(), "it has begun");
}
