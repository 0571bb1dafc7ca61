//! A handler cannot end its transaction, by purpose or by accident, without that being noticed: a COMMIT
//! only counts when the savepoint that was set after BEGIN is still there.

use courant_sql::sqlx::{self, Connection as _};
use courant_sql::{
    Admission, BeginError, CommitError, PublishError, Source, Sqlite, SqliteTransaction, Store as _,
    Transaction as _,
};

use crate::support::{Fixture, NOW, admission, admit, effect, event, new_event, number, run};

/// Runs a handler that ends its transaction in some way, and then goes on as if nothing had happened.
/// Nothing of it may last: no effect, no event of it, no inbox row.
async fn is_noticed(statements: &[&str]) {
    let fixture = Fixture::new().await;
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
    assert_eq!(fixture.number("SELECT COUNT(*) FROM effects").await, 0, "{statements:?}");
    assert_eq!(fixture.number("SELECT COUNT(*) FROM courant_outbox").await, 0, "{statements:?}");
    assert_eq!(fixture.store.outbox_backlog().await.expect("a number"), 0, "{statements:?}");
    let again = admission(&fixture.store, &lease, &event, Source::Log).await;
    assert_eq!(again, Admission::New, "{statements:?}");
}

const AFTER: &str = "INSERT INTO effects (event_id, who) VALUES ('after', 'handler')";

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
    is_noticed(&["ROLLBACK", "BEGIN IMMEDIATE", AFTER]).await;
    is_noticed(&["COMMIT", "BEGIN IMMEDIATE", "SAVEPOINT courant", AFTER]).await;
}

/// SQLite has rolled the whole transaction back because of one statement, and the handler has swallowed
/// its error. What it does afterwards would be committed statement by statement.
#[tokio::test]
async fn a_swallowed_error_that_has_rolled_back_is_noticed() {
    is_noticed(&[
        "CREATE UNIQUE INDEX one_effect ON effects (event_id)",
        "INSERT OR ROLLBACK INTO effects (event_id, who) VALUES ('before', 'handler')",
        AFTER,
    ])
    .await;
}

/// An error that undoes its own statement only leaves the transaction as it was: SQLite's rule, and the
/// handler's to decide about.
#[tokio::test]
async fn an_error_of_one_statement_leaves_the_rest() {
    let fixture = Fixture::new().await;
    let lease = fixture.lease().await;
    let event = event(1, Some("k"));
    let (mut tx, _) = admit(&fixture.store, &lease, &event, Source::Log).await;
    effect(&mut tx, "e-1").await;
    let wrong =
        sqlx::query("INSERT INTO effects (event_id, who) VALUES (NULL, 'handler')").execute(&mut *tx).await;
    assert!(wrong.is_err());
    tx.commit(NOW).await.expect("it is still the same transaction");
    assert_eq!(fixture.effects("e-1").await, 1);
}

/// Transactions inside it are savepoints: one is kept, one is undone, and the outer one decides.
#[tokio::test]
async fn nested_transactions_are_savepoints() {
    let fixture = Fixture::new().await;
    let mut tx = fixture.store.begin(None).await.expect("a transaction");
    for (id, keep) in [("kept", true), ("undone", false)] {
        let mut nested = tx.begin().await.expect("a savepoint");
        sqlx::query("INSERT INTO effects (event_id, who) VALUES (?1, 'handler')")
            .bind(id)
            .execute(&mut *nested)
            .await
            .expect("an effect");
        if keep { nested.commit().await.expect("kept") } else { nested.rollback().await.expect("undone") }
    }
    tx.commit(NOW).await.expect("a commit");
    assert_eq!((fixture.effects("kept").await, fixture.effects("undone").await), (1, 0));
}

#[tokio::test]
async fn a_nested_transaction_that_is_left_open_is_noticed() {
    let fixture = Fixture::new().await;
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
    let fixture = Fixture::new().await;
    let mut tx = fixture.store.begin(None).await.expect("a transaction");
    effect(&mut tx, "e-1").await;
    drop(tx);
    works(&fixture.store).await;
    assert_eq!(fixture.effects("e-1").await, 0);
}

/// A database in memory outlives the connections that are dropped in it.
#[tokio::test]
async fn a_database_in_memory_outlives_a_dropped_transaction() {
    let store = Sqlite::connect("sqlite::memory:").await.expect("a database");
    store.install(NOW).await.expect("the tables");
    let mut tx = store.begin(None).await.expect("a transaction");
    run(&mut tx, "CREATE TABLE effects (event_id TEXT NOT NULL, who TEXT NOT NULL) STRICT").await;
    tx.commit(NOW).await.expect("a commit");
    let mut tx = store.begin(None).await.expect("a transaction");
    effect(&mut tx, "e-1").await;
    drop(tx);
    works(&store).await;
    assert_eq!(number(&store, "SELECT COUNT(*) FROM effects").await, 1, "the one of works()");
    let other = Sqlite::connect("sqlite::memory:").await.expect("another database");
    other.install(NOW).await.expect("it is empty");
    assert_eq!(number(&other, "SELECT COUNT(*) FROM courant_inbox").await, 0);
}

async fn works(store: &Sqlite) {
    let mut tx = store.begin(None).await.expect("a transaction");
    effect(&mut tx, "works").await;
    tx.commit(NOW).await.expect("a commit");
}

/// What looks at tables cannot change them.
#[tokio::test]
async fn a_reader_changes_nothing() {
    let fixture = Fixture::new().await;
    let mut reader = fixture.store.read().await.expect("a connection");
    let written = sqlx::query(AFTER).execute(&mut *reader).await;
    assert!(written.is_err());
    drop(reader);
    assert_eq!(fixture.number("SELECT COUNT(*) FROM effects").await, 0);
}

#[tokio::test]
async fn what_a_transaction_publishes_is_bounded() {
    let fixture = Fixture::new().await;
    let mut tx: SqliteTransaction = fixture.store.begin(None).await.expect("a transaction");
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
    let fixture = Fixture::new().await;
    let lease = courant_sql::Lease { assignment: crate::support::assignment("nobody"), epoch: 1 };
    let refused = fixture.store.begin(Some(&lease)).await.expect_err("no such owner");
    assert!(matches!(refused, BeginError::Fenced { held: 1, current: 0, .. }), "{refused}");
}
