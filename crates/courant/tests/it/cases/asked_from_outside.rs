//! What another process does in the store of a running service: it asks for redrives, gives dead letters up,
//! edits them. The service looks once a second, in the time of its world.

use std::num::NonZeroU32;

use bytes::Bytes;
use courant::prelude::*;
use courant::store_api::{DeadEdit, Decision, RedriveState, Store as _, Verdict};
use courant::{EventId, Running};

use super::common::{Db, Script, Site, all, count, counted, effects, numbered, publish, seconds};

async fn start(site: &Site, script: &Script) -> Running<Db> {
    let counting = Subscription::named("counting").concurrency(4).retry(Retry::never()).on(count);
    let app = site.app().await.state(script.clone()).subscribe(counting);
    app.build().await.expect("fits together").start().await.expect("starts")
}

/// The letters that nobody has decided about, by their numbers.
async fn undecided(service: &Running<Db>) -> Vec<i64> {
    let letters = service.dead_letters().list().await.expect("lists");
    letters.iter().map(|letter| letter.id).collect()
}

/// Nobody wakes the service; it finds the request at its next look, and not before. What was parked comes
/// before what is newer.
#[tokio::test(flavor = "multi_thread")]
async fn a_redrive_that_another_process_asks_for_is_followed() {
    let Some(site) = Site::on_memory().await else { return };
    let script = Script::default();
    script.fail("a");
    let mut service = start(&site, &script).await;
    publish(&service, (1..=3).map(|n| counted("a", n))).await;
    service.settle().await.expect("settles");
    script.repair("a");

    let other = site.store().await;
    other.request_redrive("r", "somebody else", &all(), site.world.now_ms()).await.expect("asks");
    publish(&service, [counted("a", 4)]).await;
    service.settle().await.expect("settles");
    assert!(effects(&other).await.is_empty(), "no time has passed");
    site.advance(&mut service, seconds(1)).await;
    assert_eq!(effects(&other).await, numbered("a", 1..=4));
    let redrive = other.redrive("r").await.expect("is known");
    assert_eq!((redrive.state, redrive.handled), (RedriveState::Done, 1));
    service.stop().await.expect("stops");
}

/// D7, from outside: what waits behind a letter that is given up goes on, and so does a key behind which
/// nothing has waited.
#[tokio::test(flavor = "multi_thread")]
async fn letters_that_another_process_gives_up_hold_their_keys_no_longer() {
    let Some(site) = Site::on_memory().await else { return };
    let script = Script::default();
    script.fail_times("a:1", 1);
    script.fail_times("b:1", 1);
    let mut service = start(&site, &script).await;
    publish(&service, [counted("a", 1), counted("a", 2), counted("b", 1)]).await;
    service.settle().await.expect("settles");
    let letters = undecided(&service).await;
    assert_eq!(letters.len(), 2);

    let other = site.store().await;
    let decision = Decision { verdict: Verdict::Discard, by: "somebody else", reason: "not ours" };
    let decided = other.decide(&letters, &decision, site.world.now_ms()).await.expect("decides");
    assert_eq!(decided, letters);
    site.advance(&mut service, seconds(1)).await;
    assert_eq!(effects(&other).await, ["a:2"]);
    publish(&service, [counted("b", 2)]).await;
    service.settle().await.expect("settles");
    assert_eq!(effects(&other).await, ["a:2", "b:2"]);
    service.stop().await.expect("stops");
}

/// D5: a rate is kept second by second, also by a service that looks much later; and what is cancelled in
/// between is left where it was.
#[tokio::test(flavor = "multi_thread")]
async fn a_rate_is_kept_and_the_rest_can_be_cancelled() {
    let Some(site) = Site::on_memory().await else { return };
    let script = Script::default();
    let keys: Vec<String> = (0..25).map(|n| format!("k{n}")).collect();
    keys.iter().for_each(|key| script.fail_times(&format!("{key}:1"), 1));
    let mut service = start(&site, &script).await;
    publish(&service, keys.iter().map(|key| counted(key, 1))).await;
    service.settle().await.expect("settles");
    assert_eq!(undecided(&service).await.len(), 25);

    let other = site.store().await;
    let rate = NonZeroU32::new(10);
    other.request_redrive_at("r", "somebody", &all(), rate, site.world.now_ms()).await.expect("asks");
    site.advance(&mut service, seconds(3600)).await;
    assert_eq!(effects(&other).await.len(), 10, "an hour is no reason to hurry");
    service.settle().await.expect("settles");
    assert_eq!(effects(&other).await.len(), 10);
    site.advance(&mut service, seconds(1)).await;
    assert_eq!(effects(&other).await.len(), 20);
    let cancelled = other.cancel_redrive("r", site.world.now_ms()).await.expect("cancels");
    assert_eq!((cancelled.handled, cancelled.cancelled), (20, 5));
    site.advance(&mut service, seconds(60)).await;
    assert_eq!(effects(&other).await.len(), 20);
    assert_eq!(undecided(&service).await.len(), 5);
    service.stop().await.expect("stops");
}

/// D6: the handler gets the new bytes under the new id, caused by the original.
#[tokio::test(flavor = "multi_thread")]
async fn an_edited_letter_is_handled_as_it_is_now() {
    let Some(site) = Site::on_memory().await else { return };
    let script = Script::default();
    script.fail_times("a:1", 1);
    let mut service = start(&site, &script).await;
    publish(&service, [counted("a", 1), counted("a", 2)]).await;
    service.settle().await.expect("settles");
    let id = undecided(&service).await[0];
    let letter = service.dead_letters().show(id).await.expect("reads").expect("is there");

    let other = site.store().await;
    let edit = DeadEdit {
        replaces: letter.event.id.clone(),
        event_id: EventId::new("edited").expect("legal"),
        value: Some(Bytes::from_static(br#"{"key":"a","n":7}"#)),
        headers: letter.event.headers.clone(),
        by: "somebody else".to_owned(),
        reason: "a test".to_owned(),
    };
    other.edit_dead_letter(id, &edit, site.world.now_ms()).await.expect("edits");
    site.advance(&mut service, seconds(1)).await;
    assert!(effects(&other).await.is_empty(), "an edit sends nothing back");
    other.request_redrive("r", "somebody else", &all(), site.world.now_ms()).await.expect("asks");
    site.advance(&mut service, seconds(1)).await;
    assert_eq!(effects(&other).await, ["a:7", "a:2"]);
    let notes = service.dead_letters().notes(id).await.expect("reads");
    let original = notes[0].original.as_ref().expect("is kept");
    assert_eq!((&original.event_id, &original.value), (&letter.event.id, &letter.event.value));
    service.stop().await.expect("stops");
}
