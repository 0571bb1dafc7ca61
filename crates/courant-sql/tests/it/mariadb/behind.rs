//! A transaction that begins with the commit of the one before it: each counts by itself.

use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::task::Poll;
use std::time::Duration;

use courant_sql::{Admission, CommitError, Lease, Mariadb, Outcome, Source, Store as _, Transaction as _};

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

/// The server looks at nothing behind a proof that fails: another transaction in the place of the one that was
/// begun is not committed, and nothing begins behind it.
#[tokio::test]
async fn behind_a_refused_proof_nothing_begins() {
    let Some(fixture) = Fixture::new().await else { return };
    let lease = fixture.lease().await;
    let (first, second) = (event(1, Some("k")), event(2, Some("k")));
    let (mut tx, _) = admit(&fixture.store, &lease, &first, Source::Log).await;
    for statement in ["ROLLBACK", "BEGIN"] {
        run(&mut tx, statement).await;
    }
    effect(&mut tx, "e-1").await;
    tx.publish(new_event("p-1", "k")).expect("room for one");
    let ended = tx.commit_and_begin(&lease, &[of(&second, Source::Log)], NOW).await;
    let ended = ended.expect_err("it has ended");
    assert!(matches!(ended, CommitError::Ended), "{ended:?}");
    assert_eq!(fixture.effects("e-1").await, 0);
    for event in [&first, &second] {
        let again = admission(&fixture.store, &lease, event, Source::Log).await;
        assert_eq!(again, Admission::New, "{}", event.id);
    }
    assert_eq!(fixture.number("SELECT COUNT(*) FROM courant_outbox").await, 0);
}

/// The connection ends at any packet of the answer. What the store says of the event before is never more than it
/// has heard: only behind the answer to COMMIT is it committed, and what has begun behind that is undone.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_may_end_at_any_packet() {
    let Some(fixture) = Fixture::new().await else { return };
    let lease = fixture.lease().await;
    let left = Arc::new(AtomicI64::new(i64::MAX));
    let passing = Arc::clone(&left);
    let answers = move |_: u8, _: u8| passing.fetch_sub(1, Ordering::SeqCst) > 0;
    let through = between(&fixture.url(), |_: u8, _: u8| true, answers).await;
    let mut known = Vec::new();
    for packets in 0_i64..50 {
        left.store(i64::MAX, Ordering::SeqCst);
        let store = Mariadb::connect_with(&through, 1).await.expect("a database");
        let offset = packets.unsigned_abs() * 2;
        let (first, second) = (event(offset, Some("k")), event(offset + 1, Some("k")));
        let (mut tx, _) = admit(&store, &lease, &first, Source::Log).await;
        effect(&mut tx, first.id.as_str()).await;
        tx.publish(new_event(&format!("p-{packets}"), "k")).expect("room for one");
        left.store(packets, Ordering::SeqCst);
        let committed = tx.commit_and_begin(&lease, &[of(&second, Source::Log)], NOW).await;
        left.store(i64::MAX, Ordering::SeqCst);
        let said = match committed {
            Ok((_, Some((begun, _)))) => {
                begun.rollback().await.expect("a rollback");
                "both"
            }
            Ok((_, None)) => "the commit",
            Err(CommitError::Unknown(_)) => "nothing",
            Err(error) => panic!("{packets}: {error}"),
        };
        // The server may have been at it still: whoever asks waits for the end of the transaction.
        let asked = admission(&fixture.store, &lease, &first, Source::Log).await;
        let is_handled = asked == Admission::Seen(Outcome::Handled);
        assert!(is_handled || said == "nothing", "{packets}: {said}, and {asked:?}");
        let times = i64::from(is_handled);
        assert_eq!(fixture.effects(first.id.as_str()).await, times, "{packets}");
        let again = admission(&fixture.store, &lease, &second, Source::Log).await;
        assert_eq!(again, Admission::New, "{packets}");
        known.push(said);
        if said == "both" {
            break;
        }
    }
    known.dedup();
    assert_eq!(known, ["nothing", "the commit", "both"]);
    let effects = fixture.number("SELECT COUNT(*) FROM effects").await;
    assert_eq!(fixture.number("SELECT COUNT(*) FROM courant_outbox").await, effects, "each with its event");
}

/// Another process is at a copy of the next event: what is said of this one does not wait for the end of that one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_commit_is_answered_while_a_copy_of_the_next_event_is_handled() {
    let Some(fixture) = Fixture::new().await else { return };
    let (lease, other) = (fixture.lease().await, fixture.another().await);
    let (first, second) = (event(1, Some("k")), event(2, Some("k")));
    let (copy, admitted) = admit(&other, &lease, &second, Source::Log).await;
    assert_eq!(admitted, Admission::New);
    let (mut tx, _) = admit(&fixture.store, &lease, &first, Source::Log).await;
    // Longer than the test is patient, whatever the server was told.
    run(&mut tx, "SET SESSION innodb_lock_wait_timeout = 50").await;
    effect(&mut tx, "e-1").await;
    let next = [of(&second, Source::Log)];
    let committing = tx.commit_and_begin(&lease, &next, NOW);
    let committed = tokio::time::timeout(Duration::from_secs(20), committing).await;
    let (_, begun) = committed.expect("an answer while the copy is handled").expect("a commit");
    assert!(begun.is_none(), "the copy is not over");
    assert_eq!(fixture.effects("e-1").await, 1);
    let seen = admission(&fixture.store, &lease, &first, Source::Log).await;
    assert_eq!(seen, Admission::Seen(Outcome::Handled));
    copy.rollback().await.expect("a rollback");
    let again = admission(&fixture.store, &lease, &second, Source::Log).await;
    assert_eq!(again, Admission::New);
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
