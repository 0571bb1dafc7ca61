//! A transaction of the service's own that publishes.

use std::time::Duration;

use courant_sql::sqlx::postgres::PgPool;
use courant_sql::sqlx::{self, AssertSqlSafe};
use courant_sql::{AttachError, CommitError, Store as _, Transaction as _};

use super::steps::{Fixture, NOW, new_event};
use super::vanishing::Vanishing;

const EFFECT: &str = "INSERT INTO effects (event_id, who) VALUES ('e-1', 'service')";

async fn begun(pool: &PgPool, begin: &'static str) -> sqlx::Transaction<'static, sqlx::Postgres> {
    pool.begin_with(begin).await.expect("a transaction")
}

/// What the service has done and what it publishes are committed together, or not at all.
#[tokio::test]
async fn it_commits_with_what_it_publishes() {
    let Some(fixture) = Fixture::new().await else { return };
    let pool = PgPool::connect(&fixture.url()).await.expect("a pool");
    for (keeps, expected) in [(false, 0), (true, 1)] {
        let mut own = begun(&pool, "BEGIN").await;
        sqlx::query(EFFECT).execute(&mut *own).await.expect("an effect");
        let mut tx = fixture.store.attach(own).await.expect("taken over");
        tx.publish(new_event("p-1", "k")).expect("room");
        if keeps {
            tx.commit(NOW).await.expect("a commit");
        } else {
            tx.rollback().await.expect("a rollback");
        }
        assert_eq!(fixture.effects("e-1").await, expected);
        let waiting = fixture.store.outbox_backlog().await.expect("a number");
        assert_eq!(i64::try_from(waiting).expect("small"), expected);
    }
    pool.close().await;
}

/// At a stronger level a transaction would give positions from what was committed before it began.
#[tokio::test]
async fn a_stronger_isolation_is_refused() {
    let Some(fixture) = Fixture::new().await else { return };
    let pool = PgPool::connect(&fixture.url()).await.expect("a pool");
    for (begin, level) in [
        ("BEGIN ISOLATION LEVEL REPEATABLE READ", "repeatable read"),
        ("BEGIN ISOLATION LEVEL SERIALIZABLE", "serializable"),
    ] {
        let refused = fixture.store.attach(begun(&pool, begin).await).await.expect_err("too strong");
        assert!(matches!(&refused, AttachError::Isolation { found, .. } if found == level), "{refused}");
        assert!(refused.to_string().contains("READ COMMITTED"), "{refused}");
    }
    pool.close().await;
}

/// Symptom: where the server's host had vanished, `attach` did not come back. Cause: the driver waits without an end,
/// and nothing bounded it. Fix: what is asked of the server has a minute, as everywhere.
#[tokio::test]
async fn a_server_that_says_nothing_is_not_waited_for_for_ever() {
    let Some(fixture) = Fixture::new().await else { return };
    let server = Vanishing::before(&fixture.url(), Duration::from_secs(61)).await;
    let pool = PgPool::connect(&server.url).await.expect("a pool");
    let own = begun(&pool, "BEGIN").await;
    server.lose(0, usize::MAX);
    let attached = fixture.store.attach(own);
    let attached = tokio::time::timeout(Duration::from_secs(90), attached).await;
    let silence = attached.expect("it has a bound").expect_err("no answer");
    assert!(matches!(silence, AttachError::Store(_)), "{silence}");
}

/// What has failed or ended already is not taken over, and what ends afterwards is noticed.
#[tokio::test]
async fn what_has_ended_is_refused() {
    let Some(fixture) = Fixture::new().await else { return };
    let pool = PgPool::connect(&fixture.url()).await.expect("a pool");
    for statement in ["SELECT 1 / 0", "COMMIT"] {
        let mut own = begun(&pool, "BEGIN").await;
        let _ = sqlx::query(AssertSqlSafe(statement)).execute(&mut *own).await;
        let refused = fixture.store.attach(own).await.expect_err("no transaction");
        assert!(matches!(refused, AttachError::NoTransaction), "{statement}: {refused}");

        let own = begun(&pool, "BEGIN").await;
        let mut tx = fixture.store.attach(own).await.expect("taken over");
        let _ = sqlx::query(AssertSqlSafe(statement)).execute(&mut *tx).await;
        tx.publish(new_event("p-1", "k")).expect("room");
        let refused = tx.commit(NOW).await.expect_err("it had ended");
        assert!(matches!(refused, CommitError::Ended), "{statement}: {refused}");
    }
    assert_eq!(fixture.store.outbox_backlog().await.expect("a number"), 0);
    pool.close().await;
}
