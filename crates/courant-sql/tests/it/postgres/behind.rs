//! A transaction that begins with the commit of the one before it: each counts by itself.

use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::task::Poll;

use courant_sql::{
    Admission, Class, CommitError, Lease, Outcome, Postgres, Source, Store as _, Transaction as _,
};

use super::answers::between;
use super::steps::{Fixture, NOW, admission, admit, effect, event, new_event, of, run};

/// What is dropped or undone behind a commit has no part in it.
#[tokio::test]
async fn what_becomes_of_the_next_one_undoes_no_commit() {
    let Some(fixture) = Fixture::new().await else { return };
    let lease = fixture.lease().await;
    let (first, second) = (event(1, Some("k")), event(2, Some("k")));
    let (mut tx, _) = admit(&fixture.store, &lease, &first, Source::Log).await;
    effect(&mut tx, "e-1").await;
    let committed = tx.commit_and_begin(&lease, &[of(&second, Source::Log)], NOW).await;
    let (_, begun) = committed.expect("a commit");
    let (mut next, admissions) = begun.expect("a transaction");
    assert_eq!(admissions, [Admission::New]);
    effect(&mut next, "e-2").await;
    assert_eq!((fixture.effects("e-1").await, fixture.effects("e-2").await), (1, 0));
    next.rollback().await.expect("a rollback");
    let seen = admission(&fixture.store, &lease, &first, Source::Log).await;
    assert_eq!(seen, Admission::Seen(Outcome::Handled));
    let again = admission(&fixture.store, &lease, &second, Source::Log).await;
    assert_eq!(again, Admission::New);
    assert_eq!(fixture.effects("e-2").await, 0);
}

/// An event that comes twice in a row is seen the second time, and one of a lease that is over has no
/// transaction: whoever asks for it hears why.
#[tokio::test]
async fn the_next_one_is_admitted_like_any_other() {
    let Some(fixture) = Fixture::new().await else { return };
    let lease = fixture.lease().await;
    let (first, second) = (event(1, Some("k")), event(2, Some("k")));
    let (tx, _) = admit(&fixture.store, &lease, &first, Source::Log).await;
    let (_, begun) = tx.commit_and_begin(&lease, &[of(&first, Source::Log)], NOW).await.expect("a commit");
    let (again, admissions) = begun.expect("a transaction");
    assert_eq!(admissions, [Admission::Seen(Outcome::Handled)]);
    again.rollback().await.expect("a rollback");
    let (tx, _) = admit(&fixture.store, &lease, &second, Source::Log).await;
    let over = Lease::new(lease.assignment.clone(), lease.epoch - 1);
    let third = event(3, Some("k"));
    let (_, begun) = tx.commit_and_begin(&over, &[of(&third, Source::Log)], NOW).await.expect("a commit");
    assert!(begun.is_none(), "its lease is over");
    let seen = admission(&fixture.store, &lease, &second, Source::Log).await;
    assert_eq!(seen, Admission::Seen(Outcome::Handled));
    let new = admission(&fixture.store, &lease, &third, Source::Log).await;
    assert_eq!(new, Admission::New);
}

/// The server looks at nothing behind a COMMIT that it refuses, nor behind a proof that fails.
#[tokio::test]
async fn behind_a_refused_commit_nothing_begins() {
    let Some(fixture) = Fixture::new().await else { return };
    let lease = fixture.lease().await;
    let (first, second) = (event(1, Some("k")), event(2, Some("k")));
    let (mut tx, _) = admit(&fixture.store, &lease, &first, Source::Log).await;
    run(&mut tx, "CREATE TABLE late (n BIGINT UNIQUE DEFERRABLE INITIALLY DEFERRED)").await;
    run(&mut tx, "INSERT INTO late VALUES (1), (1)").await;
    tx.publish(new_event("p-1", "k")).expect("room for one");
    let refused = tx.commit_and_begin(&lease, &[of(&second, Source::Log)], NOW).await;
    let refused = refused.expect_err("a constraint at the commit");
    assert!(
        matches!(&refused, CommitError::Store(error) if error.class() == Class::Constraint),
        "{refused:?}"
    );
    let (mut tx, admitted) = admit(&fixture.store, &lease, &first, Source::Log).await;
    assert_eq!(admitted, Admission::New, "it was not handled");
    // In the way of the handler's own: nobody knows any more what belongs to it.
    for statement in ["ROLLBACK", "BEGIN"] {
        run(&mut tx, statement).await;
    }
    tx.publish(new_event("p-1", "k")).expect("room for one");
    let ended = tx.commit_and_begin(&lease, &[of(&second, Source::Log)], NOW).await;
    let ended = ended.expect_err("it has ended");
    assert!(matches!(ended, CommitError::Ended), "{ended:?}");
    for event in [&first, &second] {
        let again = admission(&fixture.store, &lease, event, Source::Log).await;
        assert_eq!(again, Admission::New, "{}", event.id);
    }
    assert_eq!(fixture.number("SELECT COUNT(*) FROM courant_outbox").await, 0);
}

/// The connection ends at any message of the answer. What the store says of the event before is never more than it
/// has heard: only behind the answer to COMMIT is it committed, and what has begun behind that is undone.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_may_end_at_any_message() {
    let Some(fixture) = Fixture::new().await else { return };
    let lease = fixture.lease().await;
    let left = Arc::new(AtomicI64::new(i64::MAX));
    let passing = left.clone();
    let through = between(&fixture.url(), move |_| passing.fetch_sub(1, Ordering::SeqCst) > 0).await;
    let mut known = Vec::new();
    for messages in 0_i64..50 {
        left.store(i64::MAX, Ordering::SeqCst);
        let store = Postgres::connect_with(&through, 1).await.expect("a database");
        let offset = messages.unsigned_abs() * 2;
        let (first, second) = (event(offset, Some("k")), event(offset + 1, Some("k")));
        let (mut tx, _) = admit(&store, &lease, &first, Source::Log).await;
        effect(&mut tx, first.id.as_str()).await;
        tx.publish(new_event(&format!("p-{messages}"), "k")).expect("room for one");
        left.store(messages, Ordering::SeqCst);
        known.push(match tx.commit_and_begin(&lease, &[of(&second, Source::Log)], NOW).await {
            Ok((_, Some(_))) => "both",
            Ok((_, None)) => "the commit",
            Err(CommitError::Unknown(_)) => "nothing",
            Err(error) => panic!("behind {messages} messages: {error}"),
        });
        // The server answers when it has done all of it, so the first one is committed each time.
        let seen = admission(&fixture.store, &lease, &first, Source::Log).await;
        assert_eq!(seen, Admission::Seen(Outcome::Handled), "behind {messages} messages");
        let new = admission(&fixture.store, &lease, &second, Source::Log).await;
        assert_eq!(new, Admission::New, "behind {messages} messages");
        assert_eq!(fixture.effects(first.id.as_str()).await, 1);
        if known.ends_with(&["both"]) {
            break;
        }
    }
    let published = fixture.number("SELECT COUNT(*) FROM courant_outbox").await;
    assert_eq!(usize::try_from(published).ok(), Some(known.len()), "each once");
    known.dedup();
    assert_eq!(known, ["nothing", "the commit", "both"]);
}

/// A handler that waits for the only connection has it after a few events of another one, and not after all of
/// them.
#[tokio::test]
async fn a_handler_waits_for_a_few_events_of_another_one() {
    let Some(fixture) = Fixture::new().await else { return };
    let store = fixture.narrow().await;
    let lease = fixture.lease().await;
    let events: Vec<_> = (0..100).map(|offset| event(offset, Some("k"))).collect();
    let (mut tx, _) = admit(&store, &lease, &events[0], Source::Log).await;
    let mut waiting = pin!(store.begin(Some(&lease)));
    let is_waiting = poll_fn(|context| Poll::Ready(waiting.as_mut().poll(context).is_pending())).await;
    assert!(is_waiting, "there is one connection");
    let mut handled = 1;
    for next in &events[1..] {
        let committed = tx.commit_and_begin(&lease, &[of(next, Source::Log)], NOW).await;
        let (_, begun) = committed.expect("a commit");
        let Some((begun, _)) = begun else { break };
        tx = begun;
        handled += 1;
    }
    assert!((2..=20).contains(&handled), "{handled} were handled before it");
    waiting.await.expect("the connection").rollback().await.expect("a rollback");
}

/// Who waits for a connection for a moment has it before the next event.
#[tokio::test]
async fn nobody_goes_on_with_a_connection_that_others_wait_for() {
    let Some(fixture) = Fixture::new().await else { return };
    let store = fixture.narrow().await;
    let lease = fixture.lease().await;
    let (first, second) = (event(1, Some("k")), event(2, Some("k")));
    let (tx, _) = admit(&store, &lease, &first, Source::Log).await;
    let mut waiting = pin!(store.begin(None));
    let is_waiting = poll_fn(|context| Poll::Ready(waiting.as_mut().poll(context).is_pending())).await;
    assert!(is_waiting, "there is one connection");
    let (_, begun) = tx.commit_and_begin(&lease, &[of(&second, Source::Log)], NOW).await.expect("a commit");
    assert!(begun.is_none());
    waiting.await.expect("the connection").rollback().await.expect("a rollback");
    let seen = admission(&store, &lease, &first, Source::Log).await;
    assert_eq!(seen, Admission::Seen(Outcome::Handled));
}
