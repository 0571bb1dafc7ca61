//! Dead letters that are closed are forgotten after their time, and no others.

use std::collections::BTreeMap;
use std::time::Duration;

use courant::Running;
use courant::prelude::*;
use courant::store_api::{
    DeadAction, DeadFilter, DeadState, DeadSummary, Decision, RedriveError, Store as _, Verdict,
};

use super::common::{Db, Script, Site, count, counted, effects, publish, seconds};

const HOUR: Duration = seconds(3_600);

const fn days(days: u64) -> Duration {
    seconds(days * 24 * 3_600)
}

/// Whoever fails is a dead letter at once. `None`: closed letters are kept as long as they are at first.
async fn started(site: &Site, script: &Script, kept: Option<Duration>) -> Running<Db> {
    let app = site.app().await;
    let app = match kept {
        Some(kept) => app.keep_closed_letters_for(kept),
        None => app,
    };
    let counting = Subscription::named("counting").retry(Retry::never()).on(count);
    let service = app.state(script.clone()).subscribe(counting).build().await;
    let mut service = service.expect("fits together").start().await.expect("starts");
    service.settle().await.expect("settles");
    service
}

/// One dead letter for each key.
async fn fail(service: &mut Running<Db>, script: &Script, keys: &[String]) {
    keys.iter().for_each(|key| script.fail(key));
    publish(service, keys.iter().map(|key| counted(key, 1))).await;
    service.settle().await.expect("settles");
}

fn key_of(letter: &DeadSummary) -> String {
    String::from_utf8(letter.key.clone().unwrap_or_default().to_vec()).expect("text")
}

/// What is there, whatever has become of it.
async fn letters(store: &Db) -> Vec<DeadSummary> {
    store.dead_letters(&DeadFilter::default(), 0, 1_000).await.expect("lists")
}

async fn states(store: &Db) -> BTreeMap<String, DeadState> {
    letters(store).await.iter().map(|letter| (key_of(letter), letter.state)).collect()
}

fn by_key<const N: usize>(states: [(&str, DeadState); N]) -> BTreeMap<String, DeadState> {
    states.into_iter().map(|(key, state)| (key.to_owned(), state)).collect()
}

/// One letter is sent back and handled, one is given up, one archived, and about one nobody decides. All stay until
/// the time is over; then the first two are gone, with their notes and the redrive, and the others stay for good.
#[tokio::test(flavor = "multi_thread")]
async fn closed_letters_are_forgotten_after_their_time_and_no_others() {
    let Some(site) = Site::on_memory().await else { return };
    let script = Script::default();
    let mut service = started(&site, &script, Some(days(3))).await;
    fail(&mut service, &script, &["a", "b", "c", "d"].map(str::to_owned)).await;
    let ids: BTreeMap<String, i64> =
        letters(service.store()).await.iter().map(|letter| (key_of(letter), letter.id)).collect();
    script.repair("a");
    let first = DeadFilter { ids: vec![ids["a"]], ..DeadFilter::default() };
    service.dead_letters().redrive("again", "tests", &first).await.expect("asks");
    for (key, verdict) in [("b", Verdict::Discard), ("c", Verdict::Archive)] {
        let decision = Decision { verdict, by: "tests", reason: "to see" };
        service.dead_letters().decide(&[ids[key]], &decision).await.expect("decides");
    }
    service.settle().await.expect("settles");

    site.advance(&mut service, days(3) - HOUR).await;
    let (archived, dead) = (("c", DeadState::Archived), ("d", DeadState::Dead));
    let whole = by_key([("a", DeadState::Redriven), ("b", DeadState::Discarded), archived, dead]);
    assert_eq!(states(service.store()).await, whole, "their time is not over");
    assert_eq!(service.dead_letters().progress("again").await.expect("is known").handled, 1);

    site.advance(&mut service, 2 * HOUR).await;
    assert_eq!(states(service.store()).await, by_key([archived, dead]));
    let gone = service.dead_letters().progress("again").await.expect_err("it has no letter left");
    assert!(matches!(gone, RedriveError::Unknown { .. }), "{gone}");
    assert!(service.dead_letters().notes(ids["b"]).await.expect("lists").is_empty());

    site.advance(&mut service, days(3_650)).await;
    assert_eq!(states(service.store()).await, by_key([archived, dead]), "they never go");
    let notes = service.dead_letters().notes(ids["c"]).await.expect("lists");
    assert_eq!(notes.iter().map(|note| note.action).collect::<Vec<_>>(), [DeadAction::Archived]);
    service.stop().await.expect("stops");
}

/// What is there of a letter that was given up so long ago.
async fn left_after(kept: Option<Duration>, passed: Duration) -> Option<usize> {
    let site = Site::on_memory().await?;
    let script = Script::default();
    let mut service = started(&site, &script, kept).await;
    fail(&mut service, &script, &["a".to_owned()]).await;
    let id = letters(service.store()).await[0].id;
    service.dead_letters().discard(&[id]).await.expect("discards");
    service.settle().await.expect("settles");
    site.advance(&mut service, passed).await;
    let left = letters(service.store()).await.len();
    service.stop().await.expect("stops");
    Some(left)
}

/// Nobody has to say how long: it is 30 days then. Who wants to keep them for ever says so.
#[tokio::test(flavor = "multi_thread")]
async fn thirty_days_unless_somebody_says_otherwise() {
    let Some(left) = left_after(None, days(30)).await else { return };
    assert_eq!(left, 1);
    assert_eq!(left_after(None, days(30) + HOUR).await, Some(0));
    assert_eq!(left_after(Some(Duration::MAX), days(36_500)).await, Some(1));
}

/// More than go in one transaction, as after an upgrade. All of them go, and the handlers go on.
#[tokio::test(flavor = "multi_thread")]
async fn many_letters_go_in_several_steps() {
    let Some(site) = Site::on_memory().await else { return };
    let script = Script::default();
    let mut service = started(&site, &script, None).await;
    let keys: Vec<String> = (0..250).map(|number| format!("key-{number}")).collect();
    fail(&mut service, &script, &keys).await;
    let ids: Vec<i64> = letters(service.store()).await.iter().map(|letter| letter.id).collect();
    assert_eq!(ids.len(), 250);
    service.dead_letters().discard(&ids).await.expect("discards");
    service.settle().await.expect("settles");
    site.world.advance(days(31));
    publish(&service, [counted("well", 1)]).await;
    service.settle().await.expect("settles");
    assert!(letters(service.store()).await.is_empty());
    assert_eq!(effects(service.store()).await, ["well:1"]);
    service.stop().await.expect("stops");
}

/// Two instances: when the one that has forgotten so far ends, the other one does it.
#[tokio::test(flavor = "multi_thread")]
async fn the_instance_that_is_left_forgets() {
    let Some(site) = Site::on_memory().await else { return };
    let script = Script::default();
    let mut first = started(&site, &script, None).await;
    fail(&mut first, &script, &["a".to_owned()]).await;
    let letter = first.dead_letters().list().await.expect("lists").remove(0);
    first.dead_letters().discard(&[letter.id]).await.expect("discards");
    first.settle().await.expect("settles");

    let counting = Subscription::named("counting").retry(Retry::never()).on(count);
    let second = site.app().await.state(script.clone()).subscribe(counting).build().await;
    let mut second = second.expect("fits together").start().await.expect("starts");
    first.stop().await.expect("stops");
    second.settle().await.expect("has the partition");
    assert_eq!(letters(second.store()).await.len(), 1);
    site.advance(&mut second, days(31)).await;
    assert!(letters(second.store()).await.is_empty());
    assert_eq!(script.called(), ["a:1"], "what is forgotten does not come again");
    second.stop().await.expect("stops");
}
