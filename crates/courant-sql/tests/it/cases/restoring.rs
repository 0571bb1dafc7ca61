//! O10: whoever takes an archived dead letter back waits for whoever makes it one anew, and never in a circle.
//!
//! Both change the letter and the row of its event in the inbox, and only the second of them has the lock of
//! the event's key. So both change the letter first.

use std::sync::Arc;

use courant_sql::{
    Admission, DeadState, Decision, Lease, Outcome, Source, Store as _, Transaction as _, Verdict,
};

use super::steps::{Db, Fixture, NOW, admission, burial, event, failure, number, run};
use super::support::{WAITING_BURIALS, WAITING_RESTORES};

/// Held while the two arrive: only this letter, and not its event in the inbox.
const HOLD: &str = "SELECT id FROM courant_dead WHERE consumer = 'billing' AND generation = 1 \
                    AND topic = 'orders' AND partition_id = 3 AND event_offset = 1 FOR UPDATE";

const RESTORE: Decision<'_> = Decision { verdict: Verdict::Restore, by: "bob", reason: "we need it" };

async fn bury(store: &Db, lease: &Lease) -> i64 {
    let (event, failure) = (event(1, Some("k")), failure());
    let buried = store.bury(lease, burial(&event, &failure, false), NOW).await;
    buried.expect("nobody waits in a circle").id.expect("a number")
}

/// The letter was archived so long ago that the inbox has forgotten its event, which comes again and fails
/// again. The burial waits for the letter, and a restore behind it. With the inbox first, the restore would
/// hold the event's row by then, for which the burial waits as soon as it has the letter; and the database
/// would refuse one of them.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_restore_and_a_burial_of_one_letter_take_turns() {
    let Some(fixture) = Fixture::new().await else { return };
    let (store, lease) = (&fixture.store, Arc::new(fixture.lease().await));
    let id = bury(store, &lease).await;
    assert_eq!(store.archive(&[id], NOW).await.expect("archived"), [id]);
    let forgotten = store.prune_inbox(&lease.assignment.consumer, NOW + 1, 10).await.expect("pruned");
    assert_eq!(forgotten, 1, "what is archived is not remembered for ever");

    let other = fixture.another().await;
    let mut holder = other.begin(None).await.expect("a transaction");
    run(&mut holder, HOLD).await;
    let burying = tokio::spawn({
        let (store, lease) = (fixture.another().await, Arc::clone(&lease));
        async move { bury(&store, &lease).await }
    });
    while number(store, WAITING_BURIALS).await == 0 {
        assert!(!burying.is_finished(), "it has not waited");
    }
    let restoring = tokio::spawn({
        let store = fixture.another().await;
        async move { store.decide(&[id], &RESTORE, NOW).await }
    });
    while number(store, WAITING_RESTORES).await == 0 {
        assert!(!restoring.is_finished(), "it has not waited");
    }
    holder.rollback().await.expect("a rollback");

    assert_eq!(burying.await.expect("no panic"), id, "it is the same letter");
    let restored = restoring.await.expect("no panic").expect("nobody waits in a circle");
    assert_eq!(restored, [id]);
    let letter = store.dead_letter(id).await.expect("an answer").expect("it is there");
    assert_eq!((letter.summary.state, letter.summary.attempts), (DeadState::Dead, 2));
    let seen = admission(store, &lease, &event(1, Some("k")), Source::Log).await;
    assert_eq!(seen, Admission::Seen(Outcome::Dead));
}
