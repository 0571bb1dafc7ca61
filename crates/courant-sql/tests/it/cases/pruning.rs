//! Forgetting, in bounded pieces, and only what may be forgotten.

use courant_sql::{
    Admission, DeadFilter, DeadState, Outcome, RedriveError, Source, Store as _, Transaction as _,
};

use super::steps::{Fixture, NOW, admission, admit, assignment, burial, consumer, event, failure, handle};

/// The inbox forgets by time, as many rows as it is asked for, of one consumer. An undecided dead letter
/// stays in it: its event must not become a new one.
#[tokio::test]
async fn the_inbox_forgets_by_time() {
    let Some(fixture) = Fixture::new().await else { return };
    let (store, lease) = (&fixture.store, fixture.lease().await);
    for offset in 0..5 {
        let event = event(offset, None);
        let mut tx = store.begin(Some(&lease)).await.expect("a transaction");
        let now = NOW + i64::try_from(offset).expect("small");
        tx.admit(&[super::steps::of(&event, Source::Log)], now).await.expect("an answer");
        tx.commit(now).await.expect("a commit");
    }
    let dead = event(9, None);
    let mailing = store.take_over(&assignment("mailing"), "test", NOW).await.expect("a lease");
    store.bury(&lease, burial(&dead, &failure(), false), NOW).await.expect("buried");
    handle(store, &mailing, &event(0, None), Source::Log).await;
    let billing = consumer("billing");
    assert_eq!(store.prune_inbox(&billing, NOW + 3, 2).await.expect("pruned"), 2, "the bound");
    assert_eq!(store.prune_inbox(&billing, NOW + 3, 2).await.expect("pruned"), 1);
    assert_eq!(store.prune_inbox(&billing, NOW + 3, 2).await.expect("pruned"), 0);
    assert_eq!(admission(store, &lease, &event(2, None), Source::Log).await, Admission::New);
    let seen = Admission::Seen(Outcome::Handled);
    assert_eq!(admission(store, &lease, &event(3, None), Source::Log).await, seen);
    assert_eq!(admission(store, &mailing, &event(0, None), Source::Log).await, seen);
    let dead_seen = admission(store, &lease, &dead, Source::Log).await;
    assert_eq!(dead_seen, Admission::Seen(Outcome::Dead));
}

/// Dead letters are forgotten when they are closed and old: not the undecided, not the archived ones. A
/// redrive goes with the last of its events.
#[tokio::test]
async fn closed_dead_letters_are_forgotten() {
    let Some(fixture) = Fixture::new().await else { return };
    let (store, lease) = (&fixture.store, fixture.lease().await);
    let mut ids = Vec::new();
    for offset in 0..4 {
        let event = event(offset, None);
        let buried = store.bury(&lease, burial(&event, &failure(), false), NOW).await.expect("buried");
        ids.push(buried.id.expect("a number"));
    }
    store.discard(&ids[..1], NOW).await.expect("discarded");
    store.archive(&ids[1..2], NOW).await.expect("archived");
    let third = DeadFilter { ids: vec![ids[2]], ..DeadFilter::default() };
    store.request_redrive("r-1", "alice", &third, NOW).await.expect("requested");
    store.claim_redrives(&lease, 10, NOW).await.expect("taken");
    let (tx, _) = admit(store, &lease, &event(2, None), Source::Parked).await;
    tx.commit(NOW + 5).await.expect("handled");
    assert_eq!(store.prune_dead_letters(NOW, 10).await.expect("pruned"), 0, "nothing is old");
    assert_eq!(store.prune_dead_letters(NOW + 10, 1).await.expect("pruned"), 1, "the bound");
    assert_eq!(store.redrive("r-1").await.expect("it has an event").handled, 1);
    assert_eq!(store.prune_dead_letters(NOW + 10, 10).await.expect("pruned"), 1);
    let gone = store.redrive("r-1").await.expect_err("it has none left");
    assert!(matches!(gone, RedriveError::Unknown { .. }), "{gone}");
    let left = store.dead_letters(&DeadFilter::default(), 0, 10).await.expect("a list");
    let left: Vec<_> = left.iter().map(|dead| (dead.id, dead.state)).collect();
    assert_eq!(left, [(ids[1], DeadState::Archived), (ids[3], DeadState::Dead)]);
}
