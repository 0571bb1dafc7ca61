//! A handler cannot end its transaction, by purpose or by accident, without that being noticed: a COMMIT
//! only counts when the savepoint that was set after BEGIN, or the name that it was given, is still there.

use std::sync::Mutex;

use courant_sql::sqlx::{self, Connection as _};
use courant_sql::{
    Admission, BeginError, CommitError, Lease, PublishError, Source, Store as _, Transaction as _,
};

use super::steps::{Db, Fixture, NOW, Tx, admission, admit, effect, event, new_event, of};
use super::support::{EFFECT, UNDONE};

/// Runs a handler that ends its transaction in some way, and then goes on as if nothing had happened.
/// Nothing of it may last: no effect, no event of it, no inbox row.
pub(super) async fn is_noticed(statements: &[&str]) {
    let Some(fixture) = Fixture::new().await else { return };
    let lease = fixture.lease().await;
    let event = event(1, Some("k"));
    let (mut tx, _) = admit(&fixture.store, &lease, &event, Source::Log).await;
    effect(&mut tx, "before").await;
    for statement in statements {
        // The handler does not look at what it gets back.
        let _ = sqlx::query(sqlx::AssertSqlSafe((*statement).to_owned())).execute(&mut *tx).await;
    }
    tx.publish(new_event("p-1", "k")).expect("room for one");
    let refused = tx.commit(NOW).await.expect_err("it had ended");
    assert!(matches!(refused, CommitError::Ended), "{statements:?}: {refused:?}");
    assert_eq!(fixture.number(UNDONE).await, 0, "{statements:?}");
    assert_eq!(fixture.number("SELECT COUNT(*) FROM courant_outbox").await, 0, "{statements:?}");
    assert_eq!(fixture.store.outbox_backlog().await.expect("a number"), 0, "{statements:?}");
    let again = admission(&fixture.store, &lease, &event, Source::Log).await;
    assert_eq!(again, Admission::New, "{statements:?}");
}

pub(super) const AFTER: &str = "INSERT INTO effects (event_id, who) VALUES ('after', 'handler')";

#[tokio::test]
async fn a_commit_inside_is_noticed() {
    is_noticed(&["COMMIT", AFTER]).await;
}

#[tokio::test]
async fn a_rollback_inside_is_noticed() {
    is_noticed(&["ROLLBACK", AFTER]).await;
}

/// A transaction of the handler's own in place of the one it was given.
#[tokio::test]
async fn another_transaction_in_its_place_is_noticed() {
    is_noticed(&["ROLLBACK", "BEGIN", AFTER]).await;
    is_noticed(&["COMMIT", "BEGIN", "SAVEPOINT courant", AFTER]).await;
}

/// Transactions inside it are savepoints: one is kept, one is undone, and the outer one decides.
#[tokio::test]
async fn nested_transactions_are_savepoints() {
    let Some(fixture) = Fixture::new().await else { return };
    let mut tx = fixture.store.begin(None).await.expect("a transaction");
    for (id, keep) in [("kept", true), ("undone", false)] {
        let mut nested = tx.begin().await.expect("a savepoint");
        sqlx::query(EFFECT).bind(id).execute(&mut *nested).await.expect("an effect");
        if keep { nested.commit().await.expect("kept") } else { nested.rollback().await.expect("undone") }
    }
    tx.commit(NOW).await.expect("a commit");
    assert_eq!((fixture.effects("kept").await, fixture.effects("undone").await), (1, 0));
}

#[tokio::test]
async fn a_nested_transaction_that_is_left_open_is_noticed() {
    let Some(fixture) = Fixture::new().await else { return };
    let mut tx = fixture.store.begin(None).await.expect("a transaction");
    effect(&mut tx, "e-1").await;
    std::mem::forget(tx.begin().await.expect("a savepoint"));
    let refused = tx.commit(NOW).await.expect_err("a savepoint is open");
    assert!(matches!(refused, CommitError::NestedOpen), "{refused:?}");
    assert_eq!(fixture.number("SELECT COUNT(*) FROM effects").await, 0);
    works(&fixture.store).await;
}

/// A handler that is cancelled in the middle: its connection is closed, and the next one begins anew.
#[tokio::test]
async fn a_dropped_transaction_is_rolled_back() {
    let Some(fixture) = Fixture::new().await else { return };
    let mut tx = fixture.store.begin(None).await.expect("a transaction");
    effect(&mut tx, "e-1").await;
    drop(tx);
    works(&fixture.store).await;
    assert_eq!(fixture.effects("e-1").await, 0);
}

pub(super) async fn works(store: &Db) {
    let mut tx = store.begin(None).await.expect("a transaction");
    effect(&mut tx, "works").await;
    tx.commit(NOW).await.expect("a commit");
}

async fn handled(store: &Db, lease: &Lease, order: &Mutex<Vec<&'static str>>) {
    let tx = store.begin(Some(lease)).await.expect("a transaction");
    order.lock().expect("nobody panics with it").push("handler");
    tx.rollback().await.expect("a rollback");
}

/// One handler has the only connection and three wait for it. The relay, which has come after them, waits for
/// the first one and not for all four: it would lose its lease in the meantime.
#[tokio::test]
async fn a_relay_does_not_wait_for_a_queue_of_handlers() {
    let Some(fixture) = Fixture::new().await else { return };
    let (store, lease) = (fixture.narrow().await, fixture.lease().await);
    let relay = store.take_over_relay("all", "test", NOW).await.expect("a lease");
    let under_way = store.begin(Some(&lease)).await.expect("a transaction");
    let order = Mutex::new(Vec::new());
    // They are asked in this order, and so come in it.
    tokio::join!(
        biased;
        handled(&store, &lease, &order),
        handled(&store, &lease, &order),
        handled(&store, &lease, &order),
        async {
            store.keep_relay(&relay, true).await.expect("it is the relay");
            order.lock().expect("nobody panics with it").push("relay");
        },
        async { under_way.rollback().await.expect("a rollback") },
    );
    let order = order.into_inner().expect("nobody has panicked with it");
    assert_eq!(order, ["relay", "handler", "handler", "handler"]);
}

/// What looks at tables cannot change them.
#[tokio::test]
async fn a_reader_changes_nothing() {
    let Some(fixture) = Fixture::new().await else { return };
    let mut reader = fixture.store.read().await.expect("a connection");
    let written = sqlx::query(AFTER).execute(&mut *reader).await;
    assert!(written.is_err());
    drop(reader);
    assert_eq!(fixture.number("SELECT COUNT(*) FROM effects").await, 0);
}

#[tokio::test]
async fn what_a_transaction_publishes_is_bounded() {
    let Some(fixture) = Fixture::new().await else { return };
    let mut tx: Tx = fixture.store.begin(None).await.expect("a transaction");
    let mut large = new_event("large", "k");
    large.value = Some(vec![0; 16 * 1024 * 1024].into());
    assert!(matches!(tx.publish(large), Err(PublishError::TooLarge { .. })));
    for n in 0..10_000 {
        tx.publish(new_event(&n.to_string(), "k")).expect("room");
    }
    assert_eq!(tx.publish(new_event("one more", "k")), Err(PublishError::TooMany));
    tx.rollback().await.expect("a rollback");
    let mut tx = fixture.store.begin(None).await.expect("a transaction");
    let mut big = new_event("big", "k");
    big.value = Some(vec![0; 15 * 1024 * 1024].into());
    for _ in 0..4 {
        tx.publish(big.clone()).expect("room");
    }
    assert_eq!(tx.publish(big), Err(PublishError::TooManyBytes));
}

/// A lease that nobody ever gave opens nothing.
#[tokio::test]
async fn an_invented_lease_is_refused() {
    let Some(fixture) = Fixture::new().await else { return };
    let lease = Lease::new(super::steps::assignment("nobody"), 1);
    let refused = fixture.store.begin(Some(&lease)).await.expect_err("no such owner");
    assert!(matches!(refused, BeginError::Fenced { held: 1, current: 0, .. }), "{refused}");
}

/// Whether the next transaction begins with the commit or by itself: both events are handled, each once.
#[tokio::test]
async fn the_next_transaction_may_begin_with_the_commit() {
    let Some(fixture) = Fixture::new().await else { return };
    let lease = fixture.lease().await;
    let (first, second) = (event(1, Some("k")), event(2, Some("k")));
    let (mut tx, _) = admit(&fixture.store, &lease, &first, Source::Log).await;
    effect(&mut tx, "e-1").await;
    tx.publish(new_event("p-1", "k")).expect("room for one");
    let committed = tx.commit_and_begin(&lease, &[of(&second, Source::Log)], NOW).await;
    let (committed, begun) = committed.expect("a commit");
    assert_eq!(committed.lanes.len(), 1);
    let (mut next, admissions) = match begun {
        Some(begun) => begun,
        None => {
            let (next, admission) = admit(&fixture.store, &lease, &second, Source::Log).await;
            (next, vec![admission])
        }
    };
    assert_eq!(admissions, [Admission::New]);
    effect(&mut next, "e-2").await;
    next.commit(NOW).await.expect("a commit");
    for id in ["e-1", "e-2"] {
        assert_eq!(fixture.effects(id).await, 1, "{id}");
    }
    assert_eq!(fixture.store.outbox_backlog().await.expect("a number"), 1);
}
