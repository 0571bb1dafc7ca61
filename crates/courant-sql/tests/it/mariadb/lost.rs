//! Connections that end: because a handler is cancelled, or because the server or the network ends them.

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use courant_sql::sqlx::{self, AssertSqlSafe};
use courant_sql::{
    Admission, AdmitError, BeginError, Class, CommitError, Lease, Mariadb, Outcome, Parked, Source,
    Store as _, Transaction as _,
};

use super::answers::{Packet, refusal, rewriting};
use super::proxy::{Cut, Proxy};
use super::steps::{Db, Fixture, NOW, admission, admit, assignment, effect, event, failure, new_event, of};
use super::support::{make_counters, next_number};
use super::transactions::works;

const OTHERS: &str = "SELECT id FROM information_schema.PROCESSLIST \
                      WHERE DB = DATABASE() AND ID <> CONNECTION_ID()";

/// Ends every other connection to the database, and waits until they are gone.
async fn end_others(store: &Db) {
    let mut reader = store.read().await.expect("a connection");
    let sql = format!("SELECT CAST(id AS SIGNED) FROM ({OTHERS}) others");
    let others: Vec<i64> =
        sqlx::query_scalar(AssertSqlSafe(sql)).fetch_all(&mut *reader).await.expect("a list");
    assert!(!others.is_empty(), "there were none");
    for id in others {
        // One that has ended meanwhile is unknown.
        let _ = sqlx::raw_sql(AssertSqlSafe(format!("KILL CONNECTION {id}"))).execute(&mut *reader).await;
    }
    let sql = format!("SELECT COUNT(*) FROM ({OTHERS}) others");
    loop {
        let left: i64 =
            sqlx::query_scalar(AssertSqlSafe(sql.clone())).fetch_one(&mut *reader).await.expect("a number");
        if left == 0 {
            return;
        }
        tokio::task::yield_now().await;
    }
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

/// A handler is cancelled while it waits for a row that somebody else holds. The server would not notice
/// that its client is gone as long as it waits, so it is told: the locks that the handler had are free at
/// once, its connection is closed and used by nobody else, and the partition can be taken over.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cancelled_handler_leaves_nothing_behind() {
    let Some(fixture) = Fixture::new().await else { return };
    make_counters(&fixture.store).await;
    let other = fixture.another().await;
    let mut holder = other.begin(None).await.expect("a transaction");
    next_number(&mut holder, "key-1").await;
    let lease = fixture.lease().await;
    let (mut tx, _) = admit(&fixture.store, &lease, &event(1, None), Source::Log).await;
    effect(&mut tx, "e-1").await;
    tokio::time::timeout(Duration::from_millis(100), next_number(&mut tx, "key-1"))
        .await
        .expect_err("the handler's time is over");
    drop(tx);
    works(&fixture.store).await;
    let new = taken_over(&other).await;
    assert_eq!(new.epoch, 2);
    holder.rollback().await.expect("a rollback");
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
    // Everything stands in one text, so whether COMMIT was reached it cannot say, and asks the inbox.
    match tx.commit(NOW).await.expect_err("it was ended") {
        CommitError::Store(error) | CommitError::Unknown(error) => {
            assert_eq!(error.class(), Class::ConnectionLost, "{error}");
        }
        error => panic!("{error}"),
    }
    let again = admission(&other, &new, &event(1, Some("k")), Source::Log).await;
    assert_eq!(again, Admission::New);
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
/// take to show that it is there. It has shown that, so those that nobody uses are not thrown away.
#[tokio::test]
async fn who_waits_for_a_copy_doubts_no_connection() {
    let Some(fixture) = Fixture::new().await else { return };
    let (lease, other) = (fixture.lease().await, fixture.another().await);
    let event = event(1, Some("k"));
    let (copy, _) = admit(&other, &lease, &event, Source::Log).await;
    let mut idle = fixture.store.begin(None).await.expect("a transaction");
    let used = fixture.store.begin(None).await.expect("a transaction");
    let id: i64 = sqlx::query_scalar("SELECT CAST(CONNECTION_ID() AS SIGNED)")
        .fetch_one(&mut *idle)
        .await
        .expect("a number");
    // The handler gets the one that others have not used for longest.
    used.rollback().await.expect("a rollback");
    idle.rollback().await.expect("a rollback");
    let waiting = admit(&fixture.store, &lease, &event, Source::Log);
    let waited = tokio::time::timeout(Duration::from_secs(12), waiting).await;
    assert!(waited.is_err(), "the copy is not over");
    let mut reader = other.read().await.expect("a connection");
    let is_there: i64 =
        sqlx::query_scalar("SELECT COUNT(*) FROM information_schema.PROCESSLIST WHERE ID = ?")
            .bind(id)
            .fetch_one(&mut *reader)
            .await
            .expect("a number");
    assert_eq!(is_there, 1);
    copy.rollback().await.expect("a rollback");
}

/// Symptom: where the server lets a row be waited for for longer than a minute, an event that waited for a copy of
/// itself took one connection after the other that nobody used, each for a minute, and closed it. Cause: what did not
/// end in time counted as a connection that leads nowhere, also when the server had answered on it. Fix: it is an error
/// then.
#[tokio::test]
async fn who_waits_for_a_copy_for_too_long_takes_no_other_connection() {
    let Some(fixture) = Fixture::new().await else { return };
    let (lease, other) = (fixture.lease().await, fixture.another().await);
    let event = event(1, Some("k"));
    let (copy, _) = admit(&other, &lease, &event, Source::Log).await;
    let mut idle = fixture.store.begin(None).await.expect("a transaction");
    let used = fixture.store.begin(None).await.expect("a transaction");
    let id: i64 = sqlx::query_scalar("SELECT CAST(CONNECTION_ID() AS SIGNED)")
        .fetch_one(&mut *idle)
        .await
        .expect("a number");
    // The handler gets the one that others have not used for longest.
    used.rollback().await.expect("a rollback");
    idle.rollback().await.expect("a rollback");
    let mut reader = other.read().await.expect("a connection");
    let deliveries = [of(&event, Source::Log)];
    let begun = tokio::time::Instant::now();
    let mut waiting = pin!(fixture.store.begin_admitted(&lease, &deliveries, NOW));
    let sql = "SELECT COUNT(*) FROM information_schema.PROCESSLIST \
               WHERE DB = DATABASE() AND ID <> CONNECTION_ID() AND INFO LIKE 'INSERT INTO courant_inbox%'";
    // What was answered before is read while the question is asked again.
    let mut seen = 0;
    while seen < 3 {
        tokio::select! {
            biased;
            _ = &mut waiting => panic!("the copy is not over"),
            count = sqlx::query_scalar::<_, i64>(sql).fetch_one(&mut *reader) => {
                seen += count.expect("a number");
            }
        }
    }
    // From here on the time passes by itself.
    tokio::time::pause();
    let refused = waiting.await.expect_err("the copy is not over");
    let waited = begun.elapsed();
    tokio::time::resume();
    assert!(waited < Duration::from_secs(100), "it has waited more than once: {waited:?}");
    match refused {
        AdmitError::Begin(BeginError::Store(error)) => assert!(error.is_retriable(), "{error}"),
        error => panic!("{error}"),
    }
    let is_there: i64 =
        sqlx::query_scalar("SELECT COUNT(*) FROM information_schema.PROCESSLIST WHERE ID = ?")
            .bind(id)
            .fetch_one(&mut *reader)
            .await
            .expect("a number");
    assert_eq!(is_there, 1);
    copy.rollback().await.expect("a rollback");
    works(&fixture.store).await;
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

/// The connection is cut at COMMIT, before the server has seen it or before its answer. The store says that
/// it does not know; the inbox does, and parking the event is no attempt if it was handled.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_that_is_lost_at_commit_is_decided_by_the_inbox() {
    let Some(fixture) = Fixture::new().await else { return };
    let proxy = Proxy::before(&fixture.url()).await;
    let store = Mariadb::connect(proxy.url()).await.expect("a database");
    let lease = fixture.lease().await;
    for (offset, cut) in [(1, Cut::Answer), (2, Cut::Question)] {
        let event = event(offset, Some("k"));
        let (mut tx, _) = admit(&store, &lease, &event, Source::Log).await;
        effect(&mut tx, event.id.as_str()).await;
        tx.publish(new_event(&format!("p-{offset}"), "k")).expect("room");
        proxy.cut_next(cut);
        match tx.commit(NOW).await.expect_err("no answer") {
            CommitError::Unknown(error) => assert_eq!(error.class(), Class::ConnectionLost, "{error}"),
            error => panic!("{cut:?}: {error}"),
        }
        // Whoever asks waits for the end of the transaction, if the server is still busy with it.
        let asked = admission(&fixture.store, &lease, &event, Source::Log).await;
        let parked = fixture.store.park(&lease, &event, &failure(), 0, NOW, NOW).await.expect("an answer");
        let effects = fixture.effects(event.id.as_str()).await;
        let waiting = fixture.store.outbox_backlog().await.expect("a number");
        if cut == Cut::Answer {
            assert_eq!(asked, Admission::Seen(Outcome::Handled));
            assert_eq!((parked, effects, waiting), (Parked::Settled, 1, 1));
        } else {
            assert_eq!(asked, Admission::New);
            assert_eq!((parked, effects, waiting), (Parked::Waiting { attempts: 1 }, 0, 1));
        }
    }
}

/// Symptom: behind a proxy, a handler's commit counted as refused although the server had done it. Cause: what the
/// proxy said of the lost server stood where the answers should have been. Fix: it says nothing about the commit.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_proxy_that_has_lost_the_server_knows_nothing_of_a_commit() {
    let Some(fixture) = Fixture::new().await else { return };
    let lease = fixture.lease().await;
    let is_lost = Arc::new(AtomicBool::new(false));
    let lost = is_lost.clone();
    let answers = move |packet: Packet| {
        if !lost.load(Ordering::SeqCst) {
            return Some(packet.bytes);
        }
        // Only when the server has done all of it.
        Some(if packet.has_more() { Vec::new() } else { refusal(packet.number, 1927, "08S01") })
    };
    let through = rewriting(&fixture.url(), |_: u8, _: u8| true, answers).await;
    let store = Mariadb::connect_with(&through, 1).await.expect("a database");
    let event = event(1, Some("k"));
    let (mut tx, _) = admit(&store, &lease, &event, Source::Log).await;
    effect(&mut tx, "e-1").await;
    is_lost.store(true, Ordering::SeqCst);
    let unknown = tx.commit(NOW).await.expect_err("nobody has answered");
    assert!(matches!(unknown, CommitError::Unknown(_)), "{unknown:?}");
    let seen = admission(&fixture.store, &lease, &event, Source::Log).await;
    assert_eq!(seen, Admission::Seen(Outcome::Handled));
}

/// Symptom: plain code was told that another connection held a lock, where the server had become a replica before its
/// commit. Cause: what handlers are not blamed for was said to be of that kind, to all. Fix: only handlers hear that.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn plain_code_hears_of_a_server_that_became_a_replica() {
    let Some(fixture) = Fixture::new().await else { return };
    let (is_replica, answered) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let becomes = is_replica.clone();
    let answers = move |packet: Packet| {
        // The server still does what comes before COMMIT.
        let refuses = is_replica.load(Ordering::SeqCst) && answered.fetch_add(1, Ordering::SeqCst) > 0;
        Some(if refuses { refusal(packet.number, 1290, "HY000") } else { packet.bytes })
    };
    let through = rewriting(&fixture.url(), |_: u8, _: u8| true, answers).await;
    let store = Mariadb::connect_with(&through, 1).await.expect("a database");
    let mut tx = store.begin(None).await.expect("a transaction");
    effect(&mut tx, "e-1").await;
    becomes.store(true, Ordering::SeqCst);
    let refused = tx.commit(NOW).await.expect_err("it only reads");
    assert!(matches!(&refused, CommitError::Store(error) if error.class() == Class::Standby), "{refused:?}");
}

/// The server's host vanishes at COMMIT: nothing comes any more, and nothing ends the connection. After a
/// minute the store says that it does not know, as for any commit without an answer; the inbox decides.
#[tokio::test]
async fn a_commit_that_nobody_answers_is_not_waited_for_for_ever() {
    let Some(fixture) = Fixture::new().await else { return };
    let proxy = Proxy::before(&fixture.url()).await;
    let store = Mariadb::connect(proxy.url()).await.expect("a database");
    let lease = fixture.lease().await;
    let event = event(1, Some("k"));
    let (mut tx, _) = admit(&store, &lease, &event, Source::Log).await;
    effect(&mut tx, "e-1").await;
    proxy.cut_next(Cut::Silence);
    let unknown = tx.commit(NOW).await.expect_err("no answer");
    tokio::time::resume();
    match unknown {
        CommitError::Unknown(error) => assert_eq!(error.class(), Class::ConnectionLost, "{error}"),
        error => panic!("{error}"),
    }
    // The server is told to end the connection, and the store has another one.
    works(&store).await;
    assert_eq!(admission(&fixture.store, &lease, &event, Source::Log).await, Admission::New);
    assert_eq!(fixture.effects("e-1").await, 0);
}
