//! A copy of the database goes on where the original was.

use std::io::Write as _;
use std::process::{Command, Stdio};

use courant_sql::sqlx;
use courant_sql::{Store as _, Transaction as _};

use super::steps::{Fixture, NOW, new_event};
use super::submitted::{relay, row, sequence, submit, values, waiting};

/// O9: what waited when `pg_dump` ran waits in the new database, under the same ids, and what is committed there
/// comes behind it.
#[tokio::test]
async fn a_restored_database_goes_on() {
    if Command::new("pg_dump").arg("--version").stdout(Stdio::null()).status().is_err() {
        // Not `eprintln!`: the test harness would swallow it.
        let _ = writeln!(std::io::stderr(), "SKIPPED: postgres::restored: no pg_dump here");
        return;
    }
    let (Some(original), Some(restored)) = (Fixture::new().await, Fixture::bare().await) else { return };
    let lease = relay(&original.store).await;
    submit(&original.store, &[&row("k", "1"), &row("k", "2")]).await;
    sequence(&original.store, &lease, 10).await;
    submit(&original.store, &[&row("k", "3")]).await;
    let ids = |events: Vec<courant_sql::NewEvent>| {
        events.into_iter().map(|event| event.id.as_str().to_owned()).collect::<Vec<_>>()
    };
    let waited = ids(waiting(&original.store).await);
    copy(&original.url(), &restored.url()).await;

    let store = &restored.store;
    store.check().await.expect("its tables");
    let mut tx = store.begin(None).await.expect("a transaction");
    tx.publish(new_event("p", "k")).expect("room");
    tx.commit(NOW).await.expect("a commit");
    submit(store, &[&row("k", "4")]).await;
    let lease = relay(store).await;
    assert_eq!(lease.epoch, 2, "whoever relayed the original is no relay of the copy");
    assert_eq!(sequence(store, &lease, 10).await.events, 2);
    let waits = ids(waiting(store).await);
    assert_eq!(waited.len(), 2);
    assert!(waited.iter().all(|id| waits.contains(id)), "under the same ids");
    let mut all = values(store).await;
    all.retain(|value| !value.starts_with("value of"));
    assert_eq!(all, ["1", "2", "3", "4"]);
}

/// `pg_dump` of one database, run in another one.
async fn copy(from: &str, to: &str) {
    let dump =
        Command::new("pg_dump").args(["--no-owner", "--inserts", from]).output().expect("pg_dump runs");
    assert!(dump.status.success(), "{}", String::from_utf8_lossy(&dump.stderr));
    let script = String::from_utf8(dump.stdout).expect("text");
    // Lines with a backslash are for psql.
    let script: String =
        script.lines().filter(|line| !line.starts_with('\\')).flat_map(|line| [line, "\n"]).collect();
    let mut connection =
        <sqlx::postgres::PgConnection as sqlx::Connection>::connect(to).await.expect("connects");
    sqlx::raw_sql(sqlx::AssertSqlSafe(script)).execute(&mut connection).await.expect("restored");
}
