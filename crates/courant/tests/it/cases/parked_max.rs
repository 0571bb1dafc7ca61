//! D3: of a consumer no more is parked than it may have. With so much it reads nothing more, loses nothing, keeps
//! the order, and reads on by itself when there is room again.

use courant::prelude::*;
use courant::store_api::{Consumer, ParkedOf, Store as _};
use courant::{ConsumerName, Running};

use super::common::{
    Db, Loose, Script, Site, all, count, counted, effect, effects, numbered, of_key, publish, seconds,
};

async fn start(site: &Site, script: &Script, parked_max: u64, retry: Retry) -> Running<Db> {
    let counting = Subscription::named("counting").parked_max(parked_max).retry(retry).on(count);
    let service = site.app().await.state(script.clone()).subscribe(counting).build().await;
    service.expect("fits together").start().await.expect("starts")
}

/// How many events of the consumer are parked.
async fn parked(store: &Db) -> u64 {
    let consumer = Consumer { name: ConsumerName::new("counting").expect("legal"), generation: 1 };
    let counts = store.parked_counts(ParkedOf::all(&consumer)).await.expect("counts");
    counts.waiting + counts.queued + counts.blocking
}

/// Three events of a key are parked, which is all that may be: neither the fourth nor one of another key is read.
async fn full(site: &Site, script: &Script) -> Running<Db> {
    script.fail("bad");
    let mut service = start(site, script, 3, Retry::never()).await;
    publish(&service, (1..=3).map(|n| counted("bad", n))).await;
    service.settle().await.expect("settles");
    assert_eq!(parked(service.store()).await, 3);
    publish(&service, [counted("bad", 4), counted("good", 1)]).await;
    service.settle().await.expect("settles");
    assert_eq!(parked(service.store()).await, 3, "the fourth one waits in the log");
    assert_eq!(script.called(), ["bad:1"]);
    assert!(effects(service.store()).await.is_empty());
    service
}

/// What is parked is sent back and done with, and what has waited in the log comes behind it.
#[tokio::test(flavor = "multi_thread")]
async fn with_so_much_parked_nothing_more_is_read_until_it_is_sent_back() {
    let Some(site) = Site::on_memory().await else { return };
    let script = Script::default();
    let mut service = full(&site, &script).await;
    script.repair("bad");
    service.dead_letters().redrive("repaired", "a test", &all()).await.expect("asks");
    service.settle().await.expect("settles");
    let effects = effects(service.store()).await;
    assert_eq!(of_key(&effects, "bad"), numbered("bad", 1..=4));
    assert_eq!(of_key(&effects, "good"), numbered("good", 1..=1));
    assert_eq!(effects.len(), 5, "each once: {effects:?}");
    assert_eq!(parked(service.store()).await, 0);
    service.stop().await.expect("stops");
}

/// Giving the dead letter up makes room as well: what was behind it is handled.
#[tokio::test(flavor = "multi_thread")]
async fn giving_up_what_is_dead_makes_room() {
    let Some(site) = Site::on_memory().await else { return };
    let script = Script::default();
    let mut service = full(&site, &script).await;
    script.repair("bad");
    let letters = service.dead_letters().list().await.expect("lists");
    let ids: Vec<i64> = letters.iter().map(|letter| letter.id).collect();
    assert_eq!(service.dead_letters().discard(&ids).await.expect("discards"), ids);
    service.settle().await.expect("settles");
    let effects = effects(service.store()).await;
    assert_eq!(of_key(&effects, "bad"), numbered("bad", 2..=4));
    assert_eq!(of_key(&effects, "good"), numbered("good", 1..=1));
    service.stop().await.expect("stops");
}

/// Another process gives it up, which nobody tells the service: it looks by itself.
#[tokio::test(flavor = "multi_thread")]
async fn room_that_somebody_else_makes_is_seen() {
    let Some(site) = Site::on_memory().await else { return };
    let script = Script::default();
    let mut service = full(&site, &script).await;
    script.repair("bad");
    let letters = service.dead_letters().list().await.expect("lists");
    let ids: Vec<i64> = letters.iter().map(|letter| letter.id).collect();
    let other = site.store().await;
    assert_eq!(other.discard(&ids, site.world.now_ms()).await.expect("discards"), ids);
    site.advance(&mut service, seconds(1)).await;
    site.advance(&mut service, seconds(1)).await;
    let effects = effects(service.store()).await;
    assert_eq!(of_key(&effects, "bad"), numbered("bad", 2..=4));
    assert_eq!(of_key(&effects, "good"), numbered("good", 1..=1));
    service.stop().await.expect("stops");
}

/// A service that starts counts before it reads. With a larger number it goes on, and the order holds.
#[tokio::test(flavor = "multi_thread")]
async fn a_service_that_starts_with_so_much_reads_nothing() {
    let Some(site) = Site::on_files().await else { return };
    let script = Script::default();
    full(&site, &script).await.kill().await;

    let mut service = start(&site, &script, 3, Retry::never()).await;
    service.settle().await.expect("settles");
    assert_eq!(parked(service.store()).await, 3);
    assert!(effects(service.store()).await.is_empty());
    service.stop().await.expect("stops");

    let mut service = start(&site, &script, 10, Retry::never()).await;
    service.settle().await.expect("settles");
    assert_eq!(effects(service.store()).await, ["good:1"]);
    assert_eq!(parked(service.store()).await, 4);
    assert_eq!(script.called(), ["bad:1", "good:1"], "the fourth one waits behind the others");
    service.stop().await.expect("stops");
}

async fn loosely(event: Loose, mut tx: Tx<Db>) -> Result<(), HandlerError> {
    effect(&mut tx, format!("loose:{}", event.n)).await?;
    Ok(())
}

/// Symptom: a service that had parked as much as it may, and then was deployed without the handlers of that topic, read
/// nothing. Cause: what was parked of the topic, which nobody could be rid of by repairing anything, took all of the
/// room. Fix: what is counted is of the topics that are read.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_parked_of_a_topic_that_is_read_no_more_takes_no_room() {
    let Some(site) = Site::on_files().await else { return };
    let script = Script::default();
    full(&site, &script).await.stop().await.expect("stops");

    let counting = Subscription::named("counting").parked_max(3).retry(Retry::never()).on(loosely);
    let service = site.app().await.state(script.clone()).subscribe(counting).build().await;
    let mut service = service.expect("fits together").start().await.expect("starts");
    service.publisher().publish(&Loose { n: 1 }).await.expect("publishes");
    service.settle().await.expect("settles");
    assert_eq!(effects(service.store()).await, ["loose:1"]);
    assert_eq!(parked(service.store()).await, 3, "it is there for whoever reads the topic again");
    service.stop().await.expect("stops");
}

/// Another instance joins, and has all partitions when the first one has left: it counts before it reads, comes to
/// rest when it has them all, and reads them when there is room.
#[tokio::test(flavor = "multi_thread")]
async fn partitions_that_change_hands_are_read_when_there_is_room() {
    let Some(site) = Site::on_memory().await else { return };
    let script = Script::default();
    let start = async || {
        let counting = Subscription::named("counting").parked_max(3).retry(Retry::never()).on(count);
        let app = site.app().await.partitions(2).state(script.clone());
        let service = app.subscribe(counting).build().await;
        service.expect("fits together").start().await.expect("starts")
    };
    script.fail("bad");
    let mut first = start().await;
    publish(&first, (1..=3).map(|n| counted("bad", n))).await;
    first.settle().await.expect("settles");
    let mut second = start().await;
    publish(&first, (0..10).map(|key| counted(&format!("good-{key}"), 1))).await;
    first.stop().await.expect("stops");
    second.settle().await.expect("settles");
    assert_eq!(parked(second.store()).await, 3);
    assert_eq!(script.called(), ["bad:1"]);

    script.repair("bad");
    second.dead_letters().redrive("repaired", "a test", &all()).await.expect("asks");
    second.settle().await.expect("settles");
    let effects = effects(second.store()).await;
    assert_eq!(of_key(&effects, "bad"), numbered("bad", 1..=3));
    assert_eq!(effects.len(), 13, "each once: {effects:?}");
    second.stop().await.expect("stops");
}

/// Nobody has to decide anything where events are tried again: room comes with the first that succeeds.
#[tokio::test(flavor = "multi_thread")]
async fn an_event_that_succeeds_at_last_makes_room_by_itself() {
    let Some(site) = Site::on_memory().await else { return };
    let script = Script::default();
    script.fail_times("bad:1", 1);
    let slowly = Retry::every(seconds(10)).without_jitter().attempts(1_000);
    let mut service = start(&site, &script, 1, slowly).await;
    publish(&service, [counted("bad", 1)]).await;
    service.settle().await.expect("settles");
    publish(&service, [counted("good", 1)]).await;
    service.settle().await.expect("settles");
    assert!(effects(service.store()).await.is_empty());
    site.advance(&mut service, seconds(10)).await;
    assert_eq!(effects(service.store()).await, ["bad:1", "good:1"]);
    service.stop().await.expect("stops");
}
