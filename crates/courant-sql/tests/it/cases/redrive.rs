//! Dead letters on their way back: an operation that is followed event by event, that goes on after a
//! crash, and under which nothing has its effect twice.

use courant_sql::{
    Admission, DeadFilter, DeadState, Lease, Outcome, RedriveError, RedriveEventState, RedriveState, Source,
    Store as _,
};

use super::steps::{Db, Fixture, NOW, admission, burial, event, failure, handle, offsets};

/// Makes dead letters of events; their numbers.
async fn bury(store: &Db, lease: &Lease, offsets: &[u64], keep: bool) -> Vec<i64> {
    let mut ids = Vec::new();
    for &offset in offsets {
        let event = event(offset, Some("k"));
        let buried = store.bury(lease, burial(&event, &failure(), keep), NOW).await.expect("buried");
        ids.push(buried.id.expect("a number"));
    }
    ids
}

async fn states(store: &Db, id: &str) -> Vec<(RedriveEventState, DeadState)> {
    let events = store.redrive_events(id, 0, 100).await.expect("a list");
    events.iter().map(|event| (event.state, event.dead_state)).collect()
}

/// The process is killed after the request, after the owner has taken the events, and after each that
/// was handled. The redrive goes on where it was; every event has its effect once.
#[tokio::test]
async fn a_redrive_survives_being_killed() {
    let Some(mut fixture) = Fixture::new().await else { return };
    let lease = fixture.lease().await;
    bury(&fixture.store, &lease, &[0, 1, 2], false).await;
    let all = DeadFilter::default();
    let asked = fixture.store.request_redrive("r-1", "alice", &all, NOW).await.expect("requested");
    assert_eq!((asked.state, asked.pending), (RedriveState::Running, 3));

    fixture = fixture.reopened().await;
    let lease = fixture.lease().await;
    let claims = fixture.store.claim_redrives(&lease, 2, NOW).await.expect("taken");
    assert_eq!(claims.iter().map(|claim| claim.offset).collect::<Vec<_>>(), [0, 1]);
    assert!(claims.iter().all(|claim| claim.redrive == "r-1" && claim.key.as_deref() == Some(&b"k"[..])));

    for offset in 0..3 {
        fixture = fixture.reopened().await;
        let lease = fixture.lease().await;
        let (store, assignment) = (&fixture.store, &lease.assignment);
        store.claim_redrives(&lease, 10, NOW).await.expect("taken");
        let due = store.due(assignment, NOW, 10).await.expect("a list");
        assert_eq!(offsets(&due), [offset], "one after the other");
        assert_eq!((due[0].attempts, due[0].redrive.as_deref()), (0, Some("r-1")));
        handle(store, &lease, &due[0].event, Source::Parked).await;
        let again = admission(store, &lease, &due[0].event, Source::Parked).await;
        assert_eq!(again, Admission::Seen(Outcome::Handled));
    }
    let store = &fixture.store;
    let done = store.redrive("r-1").await.expect("it is known");
    assert_eq!((done.state, done.handled, done.pending), (RedriveState::Done, 3, 0));
    assert_eq!((done.requested_by.as_str(), done.finished_ms), ("alice", Some(NOW)));
    assert_eq!(states(store, "r-1").await, [(RedriveEventState::Handled, DeadState::Redriven); 3]);
    assert_eq!(fixture.number("SELECT COUNT(*) FROM effects").await, 3);
    assert_eq!(fixture.number("SELECT COUNT(*) FROM courant_parked").await, 0);

    // Asking again under the same id sends nothing back.
    let again = store.request_redrive("r-1", "bob", &all, NOW + 1).await.expect("the same");
    assert_eq!((again.requested_by.as_str(), again.state), ("alice", RedriveState::Done));
    let lease = fixture.lease().await;
    assert!(store.claim_redrives(&lease, 10, NOW).await.expect("an answer").is_empty());
}

/// A key with a dead letter at its head, and newer events behind it: the redriven one comes first, then
/// the others in order.
#[tokio::test]
async fn a_redriven_event_comes_before_newer_ones_of_its_key() {
    let Some(fixture) = Fixture::new().await else { return };
    let (store, lease) = (&fixture.store, fixture.lease().await);
    bury(store, &lease, &[0], true).await;
    store.queue(&lease, &[event(1, Some("k")), event(2, Some("k"))], NOW).await.expect("queued");
    store.request_redrive("r-1", "alice", &DeadFilter::default(), NOW).await.expect("requested");
    store.claim_redrives(&lease, 10, NOW).await.expect("taken");
    store.queue(&lease, &[event(3, Some("k"))], NOW).await.expect("queued during the redrive");
    for offset in 0..4 {
        let due = store.due(&lease.assignment, NOW, 10).await.expect("a list");
        assert_eq!(offsets(&due), [offset]);
        assert_eq!(due[0].event, event(offset, Some("k")), "with its bytes");
        handle(store, &lease, &due[0].event, Source::Parked).await;
    }
}

/// Older events of a key were set aside, a newer one has failed and waits for its next attempt: what
/// comes back is put before it.
#[tokio::test]
async fn redriven_events_are_put_before_one_that_waits() {
    let Some(fixture) = Fixture::new().await else { return };
    let (store, lease) = (&fixture.store, fixture.lease().await);
    bury(store, &lease, &[0, 1], false).await;
    store.park(&lease, &event(2, Some("k")), &failure(), 0, NOW + 50, NOW).await.expect("parked");
    store.request_redrive("r-1", "alice", &DeadFilter::default(), NOW).await.expect("requested");
    store.claim_redrives(&lease, 10, NOW).await.expect("taken");
    let waiting = event(2, Some("k"));
    assert_eq!(admission(store, &lease, &waiting, Source::Parked).await, Admission::Gone);
    let parked = store.parked(&lease.assignment, Some(b"k"), 10).await.expect("a list");
    assert_eq!(parked.iter().map(|parked| parked.due_ms).collect::<Vec<_>>(), [Some(NOW), None, None]);
    for offset in 0..3 {
        let due = store.due(&lease.assignment, NOW, 10).await.expect("a list");
        assert_eq!(offsets(&due), [offset]);
        handle(store, &lease, &due[0].event, Source::Parked).await;
    }
}

/// A redriven event that fails for good is a dead letter again, with its history; another redrive may
/// take it.
#[tokio::test]
async fn what_fails_again_can_be_sent_back_again() {
    let Some(fixture) = Fixture::new().await else { return };
    let (store, lease) = (&fixture.store, fixture.lease().await);
    let [id] = bury(store, &lease, &[0], false).await[..] else { panic!("one") };
    let first = event(0, Some("k"));
    store.request_redrive("r-1", "alice", &DeadFilter::default(), NOW).await.expect("requested");
    store.claim_redrives(&lease, 10, NOW).await.expect("taken");
    store.park(&lease, &first, &failure(), 0, NOW, NOW).await.expect("its first failure");
    let again = store.bury(&lease, burial(&first, &failure(), false), NOW).await.expect("buried");
    assert_eq!((again.id, again.drained), (Some(id), true), "the same dead letter");
    let failed = store.redrive("r-1").await.expect("it is known");
    assert_eq!((failed.state, failed.failed), (RedriveState::Done, 1));
    let letter = store.dead_letter(id).await.expect("an answer").expect("the dead letter");
    assert_eq!((letter.summary.state, letter.summary.attempts), (DeadState::Dead, 3));

    store.request_redrive("r-2", "alice", &DeadFilter::default(), NOW).await.expect("requested");
    store.claim_redrives(&lease, 10, NOW).await.expect("taken");
    handle(store, &lease, &first, Source::Parked).await;
    assert_eq!(states(store, "r-1").await, [(RedriveEventState::Failed, DeadState::Redriven)]);
    assert_eq!(states(store, "r-2").await, [(RedriveEventState::Handled, DeadState::Redriven)]);
    assert_eq!(fixture.effects("e-0").await, 1);
}

/// Cancelled: what was taken gets its result, what was not is a dead letter as before.
#[tokio::test]
async fn a_redrive_can_be_cancelled() {
    let Some(fixture) = Fixture::new().await else { return };
    let (store, lease) = (&fixture.store, fixture.lease().await);
    bury(store, &lease, &[0, 1, 2], false).await;
    store.request_redrive("r-1", "alice", &DeadFilter::default(), NOW).await.expect("requested");
    store.claim_redrives(&lease, 1, NOW).await.expect("taken");
    let cancelled = store.cancel_redrive("r-1", NOW + 1).await.expect("cancelled");
    assert_eq!((cancelled.state, cancelled.delivering, cancelled.cancelled), (RedriveState::Cancelled, 1, 2));
    assert!(store.claim_redrives(&lease, 10, NOW).await.expect("an answer").is_empty());
    handle(store, &lease, &event(0, Some("k")), Source::Parked).await;
    let kept = (RedriveEventState::Cancelled, DeadState::Dead);
    let handled = (RedriveEventState::Handled, DeadState::Redriven);
    assert_eq!(states(store, "r-1").await, [handled, kept, kept]);
    let again = store.cancel_redrive("r-1", NOW + 2).await.expect("nothing more");
    assert_eq!(again.finished_ms, Some(NOW + 1));
    for refused in [store.cancel_redrive("r-9", NOW).await, store.redrive("r-9").await] {
        let refused = refused.expect_err("nobody gave this id");
        assert!(matches!(refused, RedriveError::Unknown { .. }), "{refused}");
    }
}

/// Only what is undecided is taken, and only what the filter means; a dry run says how many.
#[tokio::test]
async fn a_redrive_takes_what_its_filter_means() {
    let Some(fixture) = Fixture::new().await else { return };
    let (store, lease) = (&fixture.store, fixture.lease().await);
    let ids = bury(store, &lease, &[0, 1, 2, 3], false).await;
    store.discard(&ids[..1], NOW).await.expect("discarded");
    let some = DeadFilter { ids: ids[..3].to_vec(), state: Some(DeadState::Dead), ..DeadFilter::default() };
    assert_eq!(store.count_dead_letters(&some).await.expect("a dry run"), 2);
    let asked = store.request_redrive("r-1", "alice", &some, NOW).await.expect("requested");
    assert_eq!(asked.pending, 2);
    assert!(asked.filter.contains(&format!("{:?}", &ids[..3]).replace(' ', "")), "{}", asked.filter);
    let rest = store.request_redrive("r-2", "alice", &DeadFilter::default(), NOW).await.expect("requested");
    assert_eq!(rest.pending, 1, "two of them are taken already");
    let none = store.request_redrive("r-3", "alice", &DeadFilter::default(), NOW).await.expect("requested");
    assert_eq!((none.pending, none.state), (0, RedriveState::Done), "nothing to do is done");
}
