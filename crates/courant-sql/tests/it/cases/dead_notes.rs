//! What people do with dead letters besides sending them back, and redrives that take their time.

use std::num::NonZeroU32;

use bytes::Bytes;
use courant_core::event_id::EventId;
use courant_sql::{
    Admission, DeadAction, DeadEdit, DeadFilter, DeadState, Decision, EditError, Lease, Outcome, Source,
    Store as _, Verdict,
};

use super::steps::{Db, Fixture, NOW, admission, burial, event, failure, handle, offsets};

async fn bury(store: &Db, lease: &Lease, offset: u64, key: &'static str) -> i64 {
    let event = event(offset, Some(key));
    let buried = store.bury(lease, burial(&event, &failure(), true), NOW).await.expect("buried");
    buried.id.expect("a number")
}

fn edit(replaces: &EventId, id: &str) -> DeadEdit {
    DeadEdit {
        replaces: replaces.clone(),
        event_id: EventId::new(id).expect("legal"),
        value: Some(Bytes::from_static(b"better")),
        headers: vec![("ce_id".to_owned(), Bytes::copy_from_slice(id.as_bytes()))],
        by: "alice".to_owned(),
        reason: "a typo".to_owned(),
    }
}

/// D6: the original is kept, whole; what is sent back is the new event, once; and the original that comes
/// from the log again has no effect.
#[tokio::test]
async fn an_edited_dead_letter_keeps_its_original_and_is_handled_under_its_new_id() {
    let Some(fixture) = Fixture::new().await else { return };
    let (store, lease) = (&fixture.store, fixture.lease().await);
    let original = event(0, Some("k"));
    let id = bury(store, &lease, 0, "k").await;
    store.edit_dead_letter(id, &edit(&original.id, "new"), NOW + 1).await.expect("edited");

    let notes = store.dead_letter_notes(id).await.expect("a list");
    assert_eq!(notes.len(), 1);
    assert_eq!((notes[0].action, notes[0].at_ms), (DeadAction::Edited, NOW + 1));
    assert_eq!((notes[0].by.as_str(), notes[0].reason.as_str()), ("alice", "a typo"));
    let kept = notes[0].original.as_ref().expect("the original");
    assert_eq!(
        (&kept.event_id, &kept.value, &kept.headers),
        (&original.id, &original.value, &original.headers)
    );

    store.request_redrive("r-1", "alice", &DeadFilter::default(), NOW).await.expect("requested");
    store.claim_redrives(&lease, 10, NOW).await.expect("taken");
    let due = store.due(&lease.assignment, NOW, 10).await.expect("a list");
    assert_eq!(due.len(), 1);
    assert_eq!((due[0].event.id.as_str(), due[0].event.value.as_deref()), ("new", Some(&b"better"[..])));
    handle(store, &lease, &due[0].event, Source::Parked).await;
    let seen = admission(store, &lease, &original, Source::Log).await;
    assert_eq!(seen, Admission::Seen(Outcome::Discarded), "the original is settled");
    let letter = store.dead_letter(id).await.expect("an answer").expect("it is there");
    assert_eq!(letter.summary.state, DeadState::Redriven);
}

/// Two people do not overwrite each other, and nothing is edited that is on its way or decided.
#[tokio::test]
async fn an_edit_that_comes_too_late_changes_nothing() {
    let Some(fixture) = Fixture::new().await else { return };
    let (store, lease) = (&fixture.store, fixture.lease().await);
    let original = event(0, Some("k"));
    let id = bury(store, &lease, 0, "k").await;
    store.edit_dead_letter(id, &edit(&original.id, "first"), NOW).await.expect("edited");
    let late = store.edit_dead_letter(id, &edit(&original.id, "second"), NOW).await;
    assert!(matches!(&late, Err(EditError::Changed { found, .. }) if found.as_str() == "first"), "{late:?}");
    let unknown = store.edit_dead_letter(999, &edit(&original.id, "second"), NOW).await;
    assert!(matches!(unknown, Err(EditError::Unknown { id: 999 })), "{unknown:?}");

    let decision = Decision { verdict: Verdict::Discard, by: "bob", reason: "not ours" };
    assert_eq!(store.decide(&[id], &decision, NOW).await.expect("decided"), [id]);
    let first = EventId::new("first").expect("legal");
    let decided = store.edit_dead_letter(id, &edit(&first, "second"), NOW).await;
    assert!(matches!(decided, Err(EditError::Decided { state: DeadState::Discarded, .. })), "{decided:?}");
    let notes = store.dead_letter_notes(id).await.expect("a list");
    let actions: Vec<_> = notes.iter().map(|note| (note.action, note.by.as_str())).collect();
    assert_eq!(actions, [(DeadAction::Edited, "alice"), (DeadAction::Discarded, "bob")]);
    assert!(store.decide(&[id], &decision, NOW).await.expect("an answer").is_empty(), "it is closed");
    assert_eq!(store.dead_letter_notes(id).await.expect("a list").len(), 2, "nothing was decided twice");
}

/// What was archived comes back as it was, and can be decided about again; it holds its key no more.
#[tokio::test]
async fn an_archived_dead_letter_is_restored() {
    let Some(fixture) = Fixture::new().await else { return };
    let (store, lease) = (&fixture.store, fixture.lease().await);
    let (id, other) = (bury(store, &lease, 0, "k").await, bury(store, &lease, 1, "l").await);
    let decision = |verdict| Decision { verdict, by: "bob", reason: "for the auditors" };
    let restore = decision(Verdict::Restore);
    assert!(store.decide(&[id], &restore, NOW).await.expect("an answer").is_empty(), "it is not archived");
    assert_eq!(store.decide(&[id], &decision(Verdict::Archive), NOW).await.expect("decided"), [id]);
    assert_eq!(store.decide(&[other], &decision(Verdict::Discard), NOW).await.expect("decided"), [other]);
    assert_eq!(store.decide(&[id, other, 999], &restore, NOW + 1).await.expect("decided"), [id]);
    let letter = store.dead_letter(id).await.expect("an answer").expect("it is there");
    assert_eq!((letter.summary.state, letter.summary.blocks_key), (DeadState::Dead, false));
    let notes = store.dead_letter_notes(id).await.expect("a list");
    let actions: Vec<_> = notes.iter().map(|note| note.action).collect();
    assert_eq!(actions, [DeadAction::Archived, DeadAction::Restored]);
    let seen = admission(store, &lease, &event(0, Some("k")), Source::Log).await;
    assert_eq!(seen, Admission::Seen(Outcome::Dead), "its event comes again");
    // What is undecided is not forgotten with the inbox.
    store.prune_inbox(&lease.assignment.consumer, NOW + 9, 100).await.expect("pruned");
    let seen = admission(store, &lease, &event(0, Some("k")), Source::Log).await;
    assert_eq!(seen, Admission::Seen(Outcome::Dead));
    store.request_redrive("r-1", "alice", &DeadFilter::default(), NOW).await.expect("requested");
    store.claim_redrives(&lease, 10, NOW).await.expect("taken");
    let due = store.due(&lease.assignment, NOW, 10).await.expect("a list");
    assert_eq!(offsets(&due), [0]);
    handle(store, &lease, &due[0].event, Source::Parked).await;
    let letter = store.dead_letter(id).await.expect("an answer").expect("it is there");
    assert_eq!(letter.summary.state, DeadState::Redriven);
}

/// D5: in one second no more are taken than the rate says, however often the owner asks.
#[tokio::test]
async fn a_redrive_with_a_rate_is_taken_so_many_a_second() {
    let Some(fixture) = Fixture::new().await else { return };
    let (store, lease) = (&fixture.store, fixture.lease().await);
    for (offset, key) in (0..).zip(["a", "b", "c", "d", "e"]) {
        bury(store, &lease, offset, key).await;
    }
    let assignment = &lease.assignment;
    assert!(!store.redrives_waiting(assignment, NOW).await.expect("an answer"), "nobody has asked");
    let (rate, all) = (NonZeroU32::new(2), DeadFilter::default());
    store.request_redrive_at("r-1", "alice", &all, rate, NOW).await.expect("requested");
    let mut taken = Vec::new();
    for at_ms in [NOW, NOW + 1, NOW + 999, NOW + 1000, NOW + 1999, NOW + 2000, NOW + 3000] {
        let waits = store.redrives_waiting(assignment, at_ms).await.expect("an answer");
        let claims = store.claim_redrives(&lease, 10, at_ms).await.expect("taken");
        assert_eq!(waits, !claims.is_empty(), "at {at_ms}");
        taken.push(claims.len());
    }
    assert_eq!(taken, [2, 0, 0, 2, 0, 1, 0]);
    let due = store.due(assignment, NOW + 3000, 10).await.expect("a list");
    let mut offsets = offsets(&due);
    offsets.sort_unstable();
    assert_eq!(offsets, [0, 1, 2, 3, 4]);
}
