//! A program uses the tables of its own version, and no others.

use courant_sql::{Class, ConnectError, SchemaError, Sqlite, Store as _, Transaction as _};

use crate::support::{Fixture, NOW, run};

#[tokio::test]
async fn tables_are_installed_once() {
    let directory = tempfile::tempdir().expect("a directory");
    let store = Sqlite::open(&directory.path().join("service.db")).await.expect("a new database");
    let missing = store.check().await.expect_err("there are none");
    assert!(matches!(missing, SchemaError::Missing), "{missing}");
    assert!(missing.to_string().contains("install"), "{missing}");
    for _ in 0..2 {
        store.install(NOW).await.expect("the tables");
        store.check().await.expect("they are there");
    }
    assert_eq!(crate::support::number(&store, "SELECT COUNT(*) FROM courant_outbox_lane").await, 256);
}

/// Two processes start at once on an empty database.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_processes_may_install_at_once() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("service.db");
    let mut tasks = Vec::new();
    for store in [Sqlite::open(&path).await, Sqlite::open(&path).await] {
        let store = store.expect("a database");
        tasks.push(tokio::spawn(async move { store.install(NOW).await }));
    }
    for task in tasks {
        task.await.expect("no panic").expect("installed, by one of them");
    }
}

async fn with(statement: &'static str) -> (Fixture, SchemaError) {
    let fixture = Fixture::new().await;
    let mut tx = fixture.store.begin(None).await.expect("a transaction");
    run(&mut tx, statement).await;
    tx.commit(NOW).await.expect("a commit");
    let installed = fixture.store.install(NOW).await.expect_err("another version");
    let checked = fixture.store.check().await.expect_err("another version");
    assert_eq!(installed.to_string(), checked.to_string());
    (fixture, checked)
}

#[tokio::test]
async fn a_newer_version_is_refused() {
    let (fixture, refused) = with("UPDATE courant_schema SET version = 2").await;
    assert!(matches!(refused, SchemaError::OtherVersion { found: 2, known: 1 }), "{refused}");
    let said = refused.to_string();
    assert!(said.contains("version 2") && said.contains("version 1") && said.contains("newer"), "{said}");
    assert_eq!(fixture.number("SELECT version FROM courant_schema").await, 2, "nothing was changed");
}

#[tokio::test]
async fn an_older_version_is_refused() {
    let (_, refused) = with("UPDATE courant_schema SET version = 0").await;
    assert!(matches!(refused, SchemaError::OtherVersion { found: 0, known: 1 }), "{refused}");
}

#[tokio::test]
async fn another_number_of_lanes_is_refused() {
    let (_, refused) = with("UPDATE courant_schema SET lanes = 64").await;
    assert!(matches!(refused, SchemaError::OtherLanes { found: 64, known: 256 }), "{refused}");
}

#[tokio::test]
async fn what_is_no_database_is_named() {
    for url in ["postgres://localhost/x", "sqlite:", "service.db", ""] {
        let refused = Sqlite::connect(url).await.expect_err("no address");
        assert!(matches!(refused, ConnectError::Url { .. }), "{url}: {refused}");
    }
    let directory = tempfile::tempdir().expect("a directory");
    let no_directory = directory.path().join("missing").join("service.db");
    let refused = Sqlite::open(&no_directory).await.expect_err("no directory");
    assert!(
        matches!(&refused, ConnectError::Store(error) if error.class() == Class::CannotOpen),
        "{refused}"
    );
    let text = directory.path().join("text");
    std::fs::write(&text, "this is not a database, however long it is: ".repeat(100)).expect("a file");
    let refused = Sqlite::open(&text).await.expect_err("a text");
    assert!(matches!(&refused, ConnectError::Store(error) if error.class() == Class::Corrupt), "{refused}");
}

/// Every commit is on the disk when it is answered.
#[tokio::test]
async fn commits_are_synced_and_readers_are_not_held_up() {
    let fixture = Fixture::new().await;
    let mut tx = fixture.store.begin(None).await.expect("a transaction");
    let mode: String =
        courant_sql::sqlx::query_scalar("PRAGMA journal_mode").fetch_one(&mut *tx).await.expect("a mode");
    let synchronous: i64 =
        courant_sql::sqlx::query_scalar("PRAGMA synchronous").fetch_one(&mut *tx).await.expect("a level");
    assert_eq!((mode.as_str(), synchronous), ("wal", 2));
    // A handler is under way, and the tables can be looked at.
    assert_eq!(fixture.number("SELECT COUNT(*) FROM courant_inbox").await, 0);
    tx.rollback().await.expect("a rollback");
}
