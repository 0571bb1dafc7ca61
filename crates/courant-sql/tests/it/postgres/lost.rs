//! Connections that end: because a handler is cancelled, or because the server ends them.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::Duration;

use courant_sql::{
    Admission, Class, CommitError, Lease, Outcome, Postgres, Source, Store as _, Transaction as _,
};

use super::answers::{READY, between, complaint, rewriting};
use super::steps::{Db, Fixture, NOW, Tx, admission, admit, assignment, effect, event};
use super::transactions::works;
use super::vanishing::Vanishing;

/// Ends every other connection to the database, and waits until they are gone.
const END_OTHERS: &str = "SELECT COUNT(*) FROM (SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity \
     WHERE datname = current_database() AND pid <> pg_backend_pid() AND backend_type = 'client backend') ended";

async fn end_others(store: &Db) {
    let ended = super::steps::number(store, END_OTHERS).await;
    assert!(ended > 0, "there were none");
}

/// A takeover waits for the owner for five seconds. Where a busy machine takes longer to be rid of it, the
/// same again will do, as for a service; an owner that stays keeps all of them waiting.
const TAKEOVERS: u32 = 6;

async fn taken_over(other: &Db) -> Lease {
    for _ in 0..TAKEOVERS {
        match other.take_over(&assignment("billing"), "other", NOW).await {
            Ok(lease) => return lease,
            Err(error) => assert!(error.is_retriable(), "{error}"),
        }
    }
    panic!("its owner keeps the partition");
}

async fn wait_for_ever(tx: &mut Tx) {
    let waited = courant_sql::sqlx::query("SELECT pg_sleep(3600)").execute(&mut **tx).await;
    panic!("an hour is over: {waited:?}");
}

/// A handler is cancelled in the middle of a statement that goes on in the server. Its connection is
/// closed and used by nobody else; the server notices, and the partition can be taken over.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cancelled_handler_leaves_nothing_behind() {
    let Some(fixture) = Fixture::new().await else { return };
    let lease = fixture.lease().await;
    let (mut tx, _) = admit(&fixture.store, &lease, &event(1, None), Source::Log).await;
    effect(&mut tx, "e-1").await;
    tokio::time::timeout(Duration::from_millis(100), wait_for_ever(&mut tx))
        .await
        .expect_err("the handler's time is over");
    drop(tx);
    works(&fixture.store).await;
    let other = fixture.another().await;
    let new = taken_over(&other).await;
    assert_eq!(new.epoch, 2);
    assert_eq!(fixture.effects("e-1").await, 0);
}

/// A process is stopped in the middle of a handler, and keeps its connections: the server ends its transaction
/// when it has stood still for longer than handlers may take, and the partition can be taken over.
#[tokio::test]
async fn an_owner_that_stands_still_loses_its_transaction() {
    let Some(fixture) = Fixture::new().await else { return };
    let mut lease = fixture.lease().await;
    // Longer than a busy machine keeps the handler itself waiting.
    lease.idle_max = Some(Duration::from_secs(3));
    let (mut tx, _) = admit(&fixture.store, &lease, &event(1, Some("k")), Source::Log).await;
    effect(&mut tx, "e-1").await;
    let other = fixture.another().await;
    let new = taken_over(&other).await;
    assert_eq!(new.epoch, 2);
    match tx.commit(NOW).await.expect_err("it was ended") {
        CommitError::Store(error) => assert_eq!(error.class(), Class::ConnectionLost, "{error}"),
        error => panic!("{error}"),
    }
    assert_eq!(fixture.effects("e-1").await, 0);
}

/// The server has ended the connections that nobody used: the next transaction gets a new one.
#[tokio::test]
async fn idle_connections_that_have_ended_are_replaced() {
    let Some(fixture) = Fixture::new().await else { return };
    let lease = fixture.lease().await;
    let other = fixture.another().await;
    for _ in 0..2 {
        end_others(&other).await;
        works(&fixture.store).await;
        end_others(&other).await;
        assert_eq!(fixture.store.progress(&lease.assignment).await.expect("an answer"), None);
    }
}

/// An event waits for a copy of itself that another process handles: longer than a connection that was used before may
/// take to show that it is there. Another one shows that the server is, so those that nobody uses are not thrown away.
#[tokio::test]
async fn who_waits_for_a_copy_doubts_no_connection() {
    let Some(fixture) = Fixture::new().await else { return };
    let (lease, other) = (fixture.lease().await, fixture.another().await);
    let event = event(1, Some("k"));
    let (copy, _) = admit(&other, &lease, &event, Source::Log).await;
    let mut idle = fixture.store.begin(None).await.expect("a transaction");
    let asked = fixture.store.begin(None).await.expect("a transaction");
    let used = fixture.store.begin(None).await.expect("a transaction");
    let id = courant_sql::sqlx::query_scalar::<_, i64>("SELECT pg_backend_pid()::bigint")
        .fetch_one(&mut *idle)
        .await
        .expect("a number");
    // The handler gets the one that others have not used for longest, and the one that they used last is asked whether
    // the server is there.
    used.rollback().await.expect("a rollback");
    idle.rollback().await.expect("a rollback");
    asked.rollback().await.expect("a rollback");
    let waiting = admit(&fixture.store, &lease, &event, Source::Log);
    let waited = tokio::time::timeout(Duration::from_secs(12), waiting).await;
    assert!(waited.is_err(), "the copy is not over");
    let mut reader = other.read().await.expect("a connection");
    let is_there = courant_sql::sqlx::query_scalar::<_, i64>(
        "SELECT COUNT(*) FROM pg_stat_activity WHERE pid = $1::bigint",
    )
    .bind(id)
    .fetch_one(&mut *reader)
    .await
    .expect("a number");
    assert_eq!(is_there, 1);
    copy.rollback().await.expect("a rollback");
}

/// Symptom: an event waited for more than a minute, and its transaction failed, although the server answered: it had
/// connections that a router had forgotten, and one that it had not. Cause: where the server had answered on one, the
/// next one was believed for as long as a statement may take, and that was another one. Fix: it is the one.
#[tokio::test]
async fn only_the_connection_that_has_answered_is_believed() {
    let Some(fixture) = Fixture::new().await else { return };
    let lease = fixture.lease().await;
    // Longer than any answer may take.
    let server = Vanishing::before(&fixture.url(), Duration::from_secs(61)).await;
    let store = Postgres::connect_with(&server.url, 5).await.expect("a database");
    let mut open = Vec::new();
    for _ in 0..3 {
        open.push(store.begin(None).await.expect("a transaction"));
    }
    for tx in open {
        tx.rollback().await.expect("a rollback");
    }
    // The two that were used longest ago, of which a handler gets the first one.
    server.lose(0, 2);
    let (mut tx, admitted) = admit(&store, &lease, &event(1, Some("k")), Source::Log).await;
    assert_eq!(admitted, Admission::New);
    effect(&mut tx, "e-1").await;
    tx.commit(NOW).await.expect("a commit");
    assert_eq!(fixture.effects("e-1").await, 1);
}

/// A connection ends without a word while plain code, which publishes nothing, works. It has no inbox to ask, so it
/// hears that nothing was committed, and the same again will do.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn plain_code_knows_that_nothing_was_committed() {
    let Some(fixture) = Fixture::new().await else { return };
    let is_cut = Arc::new(AtomicBool::new(false));
    let cut = Arc::clone(&is_cut);
    let through = between(&fixture.url(), move |_| !cut.load(Ordering::SeqCst)).await;
    let store = Postgres::connect_with(&through, 1).await.expect("a database");
    let mut tx = store.begin(None).await.expect("a transaction");
    effect(&mut tx, "e-1").await;
    // Whatever the server says from here on, nobody hears.
    is_cut.store(true, Ordering::SeqCst);
    match tx.commit(NOW).await.expect_err("it is gone") {
        CommitError::Store(error) => {
            assert_eq!(error.class(), Class::ConnectionLost, "{error}");
            assert!(error.is_retriable());
        }
        error => panic!("{error}"),
    }
    assert_eq!(fixture.effects("e-1").await, 0);
    is_cut.store(false, Ordering::SeqCst);
    let mut tx = store.begin(None).await.expect("a transaction");
    effect(&mut tx, "e-1").await;
    tx.commit(NOW).await.expect("a commit");
    assert_eq!(fixture.effects("e-1").await, 1);
}

/// Symptom: a commit was answered, and whoever committed heard that nothing was committed, or that nobody knew. Cause:
/// an error of the server behind the answer, where it counts what was done, was taken for one of the COMMIT. Fix: an
/// answer is an answer.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_comes_behind_its_answer_undoes_no_commit() {
    let Some(fixture) = Fixture::new().await else { return };
    let lease = fixture.lease().await;
    let left = Arc::new(AtomicI64::new(i64::MAX));
    let passing = left.clone();
    let through = rewriting(&fixture.url(), move |kind, message| {
        let has_failed = kind == READY && passing.fetch_sub(1, Ordering::SeqCst) <= 0;
        Some(if has_failed { [complaint("ERROR", "53200"), message].concat() } else { message })
    })
    .await;
    let store = Postgres::connect_with(&through, 1).await.expect("a database");
    let event = event(1, Some("k"));
    let (mut tx, _) = admit(&store, &lease, &event, Source::Log).await;
    effect(&mut tx, "e-1").await;
    left.store(0, Ordering::SeqCst);
    tx.commit(NOW).await.expect("the server has answered");
    left.store(i64::MAX, Ordering::SeqCst);
    let mut plain = store.begin(None).await.expect("a transaction");
    effect(&mut plain, "e-2").await;
    // Before COMMIT it is proved that the transaction is there.
    left.store(1, Ordering::SeqCst);
    plain.commit(NOW).await.expect("the server has answered");
    left.store(i64::MAX, Ordering::SeqCst);
    assert_eq!((fixture.effects("e-1").await, fixture.effects("e-2").await), (1, 1));
    works(&store).await;
}

/// Symptom: behind a proxy, a handler's commit counted as refused although the server had done it. Cause: what the
/// proxy said of the lost server stood where the answers should have been. Fix: it says nothing about the commit.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_proxy_that_has_lost_the_server_knows_nothing_of_a_commit() {
    let Some(fixture) = Fixture::new().await else { return };
    let lease = fixture.lease().await;
    let is_lost = Arc::new(AtomicBool::new(false));
    let lost = is_lost.clone();
    let through = rewriting(&fixture.url(), move |_, message| {
        Some(if lost.load(Ordering::SeqCst) { complaint("FATAL", "08P01") } else { message })
    })
    .await;
    let store = Postgres::connect_with(&through, 1).await.expect("a database");
    let event = event(1, Some("k"));
    let (mut tx, _) = admit(&store, &lease, &event, Source::Log).await;
    effect(&mut tx, "e-1").await;
    is_lost.store(true, Ordering::SeqCst);
    let unknown = tx.commit(NOW).await.expect_err("nobody has answered");
    assert!(matches!(unknown, CommitError::Unknown(_)), "{unknown:?}");
    let seen = admission(&fixture.store, &lease, &event, Source::Log).await;
    assert_eq!(seen, Admission::Seen(Outcome::Handled));
}

/// A transaction whose connection has ended before its COMMIT is not committed, and the same again will
/// do.
#[tokio::test]
async fn a_transaction_that_has_lost_its_connection_is_retriable() {
    let Some(fixture) = Fixture::new().await else { return };
    let other = fixture.another().await;
    let mut tx = fixture.store.begin(None).await.expect("a transaction");
    effect(&mut tx, "e-1").await;
    end_others(&other).await;
    match tx.commit(NOW).await.expect_err("it is gone") {
        CommitError::Store(error) => {
            assert_eq!(error.class(), Class::ConnectionLost, "{error}");
            assert!(error.is_retriable());
        }
        error => panic!("{error}"),
    }
    assert_eq!(fixture.effects("e-1").await, 0);
    works(&fixture.store).await;
}
