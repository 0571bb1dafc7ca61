//! Timers: there exactly with the transaction that schedules them, and their events come once, when they
//! are due, whatever is killed in between.

use std::time::Duration;

use courant::prelude::*;
use courant::store_api::Store as _;
use courant::testkit::{FaultPoint, published};
use courant::{Due, Running, TimerName};

use super::common::{
    Counted, Db, Script, Site, counted, effect, effects, numbered, of_key, publish, seconds,
};

/// What comes later.
#[derive(Event, Serialize, Deserialize, Debug, PartialEq)]
#[event(type = "test.reminder", topic = "test.reminder", key = key)]
struct Reminder {
    key: String,
    n: u32,
}

const LATER: Duration = seconds(60);

fn reminder(key: &str, n: u32) -> Reminder {
    Reminder { key: key.to_owned(), n }
}

async fn ask(event: Counted, State(script): State<Script>, mut tx: Tx<Db>) -> Result<(), HandlerError> {
    let what = format!("{}:{}", event.key, event.n);
    effect(&mut tx, what.clone()).await?;
    tx.schedule(&reminder(&event.key, event.n), LATER)?;
    script.call(&event.key, &what).map_err(HandlerError::retry)
}

async fn remind(
    reminder: Reminder,
    State(script): State<Script>,
    mut tx: Tx<Db>,
) -> Result<(), HandlerError> {
    let what = format!("again-{}:{}", reminder.key, reminder.n);
    effect(&mut tx, what.clone()).await?;
    script.call(&reminder.key, &what).map_err(HandlerError::retry)
}

async fn asking(site: &Site, script: &Script) -> Running<Db> {
    let asking = Subscription::named("asking").retry(Retry::every(seconds(10))).on(ask).on(remind);
    let service = site.app().await.state(script.clone()).subscribe(asking).build().await;
    service.expect("fits together").start().await.expect("starts")
}

/// Nothing is scheduled any more, and nothing waits to be published.
async fn is_empty(store: &Db) -> bool {
    store.next_timer_ms().await.expect("a look").is_none()
        && store.outbox_backlog().await.expect("a number") == 0
}

/// Killed at each place on the way of a timer, from the handler that schedules it to the one that handles
/// its event: the event has its effect once, and all its copies have one id.
#[tokio::test(flavor = "multi_thread")]
async fn a_timer_comes_once_whatever_is_killed() {
    let while_scheduling = [
        FaultPoint::AfterBegin,
        FaultPoint::AfterHandler,
        FaultPoint::AfterCommit,
        FaultPoint::BeforeProgress,
    ];
    let while_it_comes = [
        (FaultPoint::AfterTimers, 0),
        (FaultPoint::AfterPublish, 0),
        (FaultPoint::AfterBegin, 1),
        (FaultPoint::AfterHandler, 1),
        (FaultPoint::AfterCommit, 1),
    ];
    let scheduling = while_scheduling.map(|point| (point, 0, true));
    let coming = while_it_comes.map(|(point, passes)| (point, passes, false));
    for (point, passes, is_early) in scheduling.into_iter().chain(coming) {
        let Some(site) = Site::on_files().await else { return };
        let script = Script::default();
        site.world.crash_at(point, passes);
        let mut service = asking(&site, &script).await;
        publish(&service, [counted("a", 1)]).await;
        if !is_early {
            service.settle().await.expect("settles");
            site.world.advance(LATER);
        }
        site.world.crashed(1).await;
        service.kill().await;

        let mut service = asking(&site, &script).await;
        service.settle().await.expect("settles");
        site.advance(&mut service, LATER).await;
        assert_eq!(effects(service.store()).await, ["a:1", "again-a:1"], "{point:?} {passes}");
        assert!(is_empty(service.store()).await, "{point:?} {passes}");
        let copies = published::<Reminder>(&**service.engine()).await.expect("reads");
        let mut ids: Vec<_> = copies.iter().map(|copy| copy.meta().id().clone()).collect();
        ids.dedup();
        assert_eq!(ids.len(), 1, "{point:?} {passes}");
        // Killed between publishing and noting that, the relay publishes once more. The handler may have
        // the event before that is noted.
        let may_repeat = !is_early;
        assert!(copies.len() == 1 || may_repeat, "{point:?} {passes}");
        service.stop().await.expect("stops");
    }
}

/// A timer that was due while no service was there comes when one starts. Its event happened when it was
/// due, because of the event whose handler has scheduled it, in the same conversation.
#[tokio::test(flavor = "multi_thread")]
async fn a_timer_that_was_due_meanwhile_comes_at_the_start() {
    let Some(site) = Site::on_files().await else { return };
    let script = Script::default();
    let mut service = asking(&site, &script).await;
    publish(&service, [counted("a", 1)]).await;
    service.settle().await.expect("settles");
    let due_ms = site.world.now_ms() + 60_000;
    site.advance(&mut service, seconds(59)).await;
    assert_eq!(effects(service.store()).await, ["a:1"], "not before it is due");
    service.stop().await.expect("stops");

    site.world.advance(seconds(3_600));
    let mut service = asking(&site, &script).await;
    service.settle().await.expect("settles");
    assert_eq!(effects(service.store()).await, ["a:1", "again-a:1"]);
    let asked = published::<Counted>(&**service.engine()).await.expect("reads");
    let reminded = published::<Reminder>(&**service.engine()).await.expect("reads");
    let (asked, reminded) = (asked[0].meta(), reminded[0].meta());
    assert_eq!(reminded.time_ms(), due_ms);
    assert_eq!(reminded.causation_id(), Some(asked.id().as_str()));
    assert_eq!(reminded.correlation_id(), asked.correlation_id());
    service.stop().await.expect("stops");
}

/// What a handler schedules and then rolls back does not exist, at none of its attempts.
#[tokio::test(flavor = "multi_thread")]
async fn a_handler_that_fails_has_scheduled_nothing() {
    let Some(site) = Site::on_memory().await else { return };
    let script = Script::default();
    script.fail("a");
    let mut service = asking(&site, &script).await;
    publish(&service, [counted("a", 1), counted("b", 1)]).await;
    service.settle().await.expect("settles");
    site.advance(&mut service, LATER).await;
    assert_eq!(effects(service.store()).await, ["b:1", "again-b:1"]);
    script.repair("a");
    site.advance(&mut service, seconds(10)).await;
    assert_eq!(effects(service.store()).await, ["b:1", "again-b:1", "a:1"]);
    site.advance(&mut service, seconds(59)).await;
    assert_eq!(effects(service.store()).await.len(), 3);
    site.advance(&mut service, seconds(1)).await;
    assert_eq!(effects(service.store()).await.last().map(String::as_str), Some("again-a:1"));
    assert!(is_empty(service.store()).await);
    service.stop().await.expect("stops");
}

/// The event of a timer is an event of its key like every other one: it waits behind a parked one.
#[tokio::test(flavor = "multi_thread")]
async fn the_event_of_a_timer_waits_behind_its_parked_key() {
    let Some(site) = Site::on_memory().await else { return };
    let script = Script::default();
    script.fail_times("again-a:1", 1);
    let mut service = asking(&site, &script).await;
    let mut tx = service.transaction().await.expect("begins");
    tx.schedule(&reminder("a", 1), seconds(1)).expect("is taken");
    tx.schedule(&reminder("a", 2), seconds(5)).expect("is taken");
    tx.schedule(&reminder("b", 1), seconds(5)).expect("is taken");
    tx.commit().await.expect("commits");
    service.settle().await.expect("settles");
    site.advance(&mut service, seconds(1)).await;
    site.advance(&mut service, seconds(4)).await;
    assert_eq!(effects(service.store()).await, ["again-b:1"], "a is parked, and its second waits");
    site.advance(&mut service, seconds(6)).await;
    assert_eq!(of_key(&effects(service.store()).await, "again-a"), numbered("again-a", 1..=2));
    assert_eq!(script.called().iter().filter(|what| *what == "again-a:1").count(), 2);
    service.stop().await.expect("stops");
}

/// Timers of one key come in the order of their times, however they were scheduled, also when all of them
/// are due at one look.
#[tokio::test(flavor = "multi_thread")]
async fn timers_of_a_key_come_in_the_order_of_their_times() {
    let Some(site) = Site::on_memory().await else { return };
    let mut service = asking(&site, &Script::default()).await;
    // The task that waits for them wakes for each that is earlier than those before.
    for n in [5, 3, 1, 4, 2] {
        let mut tx = service.transaction().await.expect("begins");
        tx.schedule(&reminder("a", n), seconds(10 * u64::from(n))).expect("is taken");
        tx.commit().await.expect("commits");
        service.settle().await.expect("settles");
    }
    site.advance(&mut service, seconds(10)).await;
    assert_eq!(effects(service.store()).await, numbered("again-a", 1..=1));
    site.advance(&mut service, seconds(100)).await;
    assert_eq!(effects(service.store()).await, numbered("again-a", 1..=5));
    service.stop().await.expect("stops");
}

/// The first event of a key schedules, the second one replaces, the third one cancels.
async fn change_mind(event: Counted, mut tx: Tx<Db>) -> Result<(), HandlerError> {
    let name = TimerName::new("reminder", event.key.as_str())?;
    match event.n {
        3 => tx.cancel_timer(&name)?,
        n => tx.schedule_named(&name, &reminder(&event.key, n), LATER)?,
    }
    Ok(())
}

/// A timer goes by its name: what another handler call replaces or cancels does not come.
#[tokio::test(flavor = "multi_thread")]
async fn a_named_timer_is_replaced_and_cancelled() {
    let Some(site) = Site::on_memory().await else { return };
    let changing = Subscription::named("changing").on(change_mind).on(remind);
    let service = site.app().await.state(Script::default()).subscribe(changing).build().await;
    let mut service = service.expect("fits together").start().await.expect("starts");
    publish(&service, [counted("a", 1), counted("b", 1), counted("c", 1)]).await;
    service.settle().await.expect("settles");
    site.advance(&mut service, seconds(30)).await;
    publish(&service, [counted("b", 2), counted("c", 2), counted("c", 3)]).await;
    service.settle().await.expect("settles");
    site.advance(&mut service, seconds(30)).await;
    assert_eq!(effects(service.store()).await, ["again-a:1"]);
    site.advance(&mut service, seconds(30)).await;
    assert_eq!(effects(service.store()).await, ["again-a:1", "again-b:2"]);
    assert!(is_empty(service.store()).await);
    // Its time has come: there is nothing to cancel, and that is no error.
    publish(&service, [counted("a", 3)]).await;
    service.settle().await.expect("settles");
    service.stop().await.expect("stops");
}

/// What cannot be scheduled is said at once, and what is due in the past is due at once.
#[tokio::test(flavor = "multi_thread")]
async fn a_time_that_is_none_is_refused() {
    let Some(site) = Site::on_memory().await else { return };
    let mut service = asking(&site, &Script::default()).await;
    let mut tx = service.transaction().await.expect("begins");
    for due in [Due::from(Duration::MAX), Due::at_ms(-1)] {
        let refused = tx.schedule(&reminder("a", 1), due).expect_err("no time");
        assert!(refused.to_string().contains("test.reminder"), "{refused}");
    }
    tx.schedule(&reminder("a", 2), Due::at_ms(0)).expect("is taken");
    tx.commit().await.expect("commits");
    service.settle().await.expect("settles");
    assert_eq!(effects(service.store()).await, ["again-a:2"]);
    service.stop().await.expect("stops");
}
