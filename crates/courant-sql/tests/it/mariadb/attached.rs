//! A transaction of the service's own that publishes.

use std::time::Duration;

use courant_sql::sqlx::mysql::{MySqlPool, MySqlPoolOptions};
use courant_sql::sqlx::{self, AssertSqlSafe, Executor as _};
use courant_sql::{AttachError, CommitError, Store as _, Transaction as _};

use super::proxy::{Cut, Proxy};
use super::steps::{Fixture, NOW, new_event};

const EFFECT: &str = "INSERT INTO effects (event_id, who) VALUES ('e-1', 'service')";

/// A pool of the service's own whose sessions are at a level.
async fn pool(fixture: &Fixture, level: &'static str) -> MySqlPool {
    pool_at(&fixture.url(), level).await
}

async fn pool_at(url: &str, level: &'static str) -> MySqlPool {
    let options = MySqlPoolOptions::new().after_connect(move |connection, _| {
        Box::pin(async move {
            let sql = format!("SET SESSION TRANSACTION ISOLATION LEVEL {level}");
            connection.execute(AssertSqlSafe(sql)).await?;
            Ok(())
        })
    });
    options.connect(url).await.expect("a pool")
}

async fn begun(pool: &MySqlPool) -> sqlx::Transaction<'static, sqlx::MySql> {
    pool.begin().await.expect("a transaction")
}

/// What the service has done and what it publishes are committed together, or not at all.
#[tokio::test]
async fn it_commits_with_what_it_publishes() {
    let Some(fixture) = Fixture::new().await else { return };
    let pool = pool(&fixture, "READ COMMITTED").await;
    for (keeps, expected) in [(false, 0), (true, 1)] {
        let mut own = begun(&pool).await;
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

/// At a stronger level a transaction would see what was committed before it began.
#[tokio::test]
async fn a_stronger_isolation_is_refused() {
    let Some(fixture) = Fixture::new().await else { return };
    for (level, found_level) in [("REPEATABLE READ", "REPEATABLE-READ"), ("SERIALIZABLE", "SERIALIZABLE")] {
        let pool = pool(&fixture, level).await;
        let refused = fixture.store.attach(begun(&pool).await).await.expect_err("too strong");
        assert!(
            matches!(&refused, AttachError::Isolation { found, .. } if found == found_level),
            "{refused}"
        );
        assert!(refused.to_string().contains("SET SESSION TRANSACTION"), "{refused}");
        pool.close().await;
    }
}

/// What has ended already is not taken over, and what ends afterwards is noticed.
#[tokio::test]
async fn what_has_ended_is_refused() {
    let Some(fixture) = Fixture::new().await else { return };
    let pool = pool(&fixture, "READ COMMITTED").await;
    for statement in ["COMMIT", "ROLLBACK", "CREATE OR REPLACE TABLE made (n BIGINT)"] {
        let mut own = begun(&pool).await;
        sqlx::query(AssertSqlSafe(statement)).execute(&mut *own).await.expect(statement);
        let refused = fixture.store.attach(own).await.expect_err("no transaction");
        assert!(matches!(refused, AttachError::NoTransaction), "{statement}: {refused}");

        let mut tx = fixture.store.attach(begun(&pool).await).await.expect("taken over");
        sqlx::query(AssertSqlSafe(statement)).execute(&mut *tx).await.expect(statement);
        tx.publish(new_event("p-1", "k")).expect("room");
        let refused = tx.commit(NOW).await.expect_err("it had ended");
        assert!(matches!(refused, CommitError::Ended), "{statement}: {refused}");
    }
    assert_eq!(fixture.store.outbox_backlog().await.expect("a number"), 0);
    pool.close().await;
}

/// Symptom: where the server's host vanished at the COMMIT of a transaction that was taken over, `commit` did not come
/// back. Cause: the driver waits without an end, and this one commit had no bound. Fix: it has that of every other one.
#[tokio::test]
async fn a_commit_that_nobody_answers_is_not_waited_for_for_ever() {
    let Some(fixture) = Fixture::new().await else { return };
    let proxy = Proxy::before(&fixture.url()).await;
    let pool = pool_at(proxy.url(), "READ COMMITTED").await;
    let mut own = begun(&pool).await;
    sqlx::query(EFFECT).execute(&mut *own).await.expect("an effect");
    let id: i64 = sqlx::query_scalar("SELECT CAST(CONNECTION_ID() AS SIGNED)")
        .fetch_one(&mut *own)
        .await
        .expect("a number");
    let tx = fixture.store.attach(own).await.expect("taken over");
    proxy.cut_next(Cut::Silence);
    let committed = tokio::time::timeout(Duration::from_secs(600), tx.commit(NOW)).await;
    tokio::time::resume();
    let unknown = committed.expect("it has a bound").expect_err("no answer");
    assert!(matches!(unknown, CommitError::Unknown(_)), "{unknown:?}");
    // The server knows nothing of it yet.
    let mut reader = fixture.store.read().await.expect("a connection");
    let kill = AssertSqlSafe(format!("KILL CONNECTION {id}"));
    sqlx::raw_sql(kill).execute(&mut *reader).await.expect("ended");
    assert_eq!(fixture.effects("e-1").await, 0);
}
