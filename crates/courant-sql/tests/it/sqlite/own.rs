//! What only SQLite does, or does in its own way.

use std::path::Path;

use bytes::Bytes;
use courant_sql::sqlx;
use courant_sql::{
    BeginError, Class, CommitError, ConnectError, NewEvent, Source, Sqlite, Store as _, Transaction as _,
};

use super::steps::{Fixture, NOW, admit, effect, event, new_event, number, run};
use super::transactions::{AFTER, is_noticed, works};

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
    let Some(fixture) = Fixture::new().await else { return };
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

/// There is no room for what a handler has published, and SQLite may have ended the transaction because of
/// that. It is said as what it is, and not as something that the handler has done; nothing is committed, and
/// the same again succeeds when there is room.
#[tokio::test]
async fn a_full_disk_is_no_doing_of_the_handler() {
    let Some(fixture) = Fixture::new().await else { return };
    let mut tx = fixture.store.begin(None).await.expect("a transaction");
    effect(&mut tx, "e-1").await;
    let pages: i64 = sqlx::query_scalar("PRAGMA page_count").fetch_one(&mut *tx).await.expect("a number");
    run(&mut tx, &format!("PRAGMA max_page_count = {}", pages + 2)).await;
    for n in 0..100 {
        let value = Some(Bytes::from(vec![b'x'; 10_000]));
        tx.publish(NewEvent { value, ..new_event(&format!("p-{n}"), "k") }).expect("room");
    }
    let refused = tx.commit(NOW).await.expect_err("there is no room");
    assert!(matches!(&refused, CommitError::Store(error) if error.class() == Class::Full), "{refused}");
    assert_eq!(fixture.effects("e-1").await, 0);
    assert_eq!(fixture.store.outbox_backlog().await.expect("a number"), 0);

    let mut tx = fixture.store.begin(None).await.expect("a transaction");
    effect(&mut tx, "e-1").await;
    tx.commit(NOW).await.expect("a commit");
    assert_eq!(fixture.effects("e-1").await, 1);
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

#[tokio::test]
async fn what_is_no_database_is_named() {
    for url in ["postgres://localhost/x", "sqlite:", "service.db", ""] {
        let refused = Sqlite::connect(url).await.expect_err("no address");
        assert!(matches!(refused, ConnectError::Url { .. }), "{url}: {refused}");
    }
    let refused = Sqlite::connect("postgres://u:secret@localhost/x").await.expect_err("of another database");
    assert!(
        refused.to_string().contains("@localhost/x") && !refused.to_string().contains("secret"),
        "{refused}"
    );
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
    let Some(fixture) = Fixture::new().await else { return };
    let mut tx = fixture.store.begin(None).await.expect("a transaction");
    let mode: String = sqlx::query_scalar("PRAGMA journal_mode").fetch_one(&mut *tx).await.expect("a mode");
    let synchronous: i64 =
        sqlx::query_scalar("PRAGMA synchronous").fetch_one(&mut *tx).await.expect("a level");
    assert_eq!((mode.as_str(), synchronous), ("wal", 2));
    // A handler is under way, and the tables can be looked at.
    assert_eq!(fixture.number("SELECT COUNT(*) FROM courant_inbox").await, 0);
    tx.rollback().await.expect("a rollback");
}

/// Symptom: a service went on and committed, and all of that was gone with its next start. Cause: its file had been
/// deleted, or a backup put in its place: a connection keeps the file that it has opened, and SQLite says nothing. Fix:
/// it is looked at whether the file still is the one that was opened.
#[tokio::test]
async fn a_file_that_was_deleted_or_replaced_is_refused() {
    let Some(fixture) = Fixture::new().await else { return };
    let path = fixture.path();
    let aside = path.with_extension("aside");
    works(&fixture.store).await;
    std::fs::rename(&path, &aside).expect("moved");
    for is_replaced in [false, true] {
        if is_replaced {
            std::fs::copy(&aside, &path).expect("another file");
        }
        match fixture.store.begin(None).await.expect_err("its file is gone") {
            BeginError::Store(error) => {
                assert_eq!(error.class(), Class::CannotOpen, "{error}");
                assert!(error.to_string().contains("deleted or replaced"), "{error}");
            }
            error => panic!("{error}"),
        }
        let refused = fixture.store.read().await.expect_err("its file is gone");
        assert_eq!(refused.class(), Class::CannotOpen, "{refused}");
        assert_eq!(path.exists(), is_replaced, "nobody has made a new one");
    }
    std::fs::rename(&aside, &path).expect("moved back");
    works(&fixture.store).await;
}

/// Symptom: where a connection was dropped and the file had gone, a new database without tables was made. Cause: each
/// connection made the file if it was missing. Fix: only the first one does.
#[tokio::test]
async fn only_the_first_connection_makes_the_file() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("service.db");
    let store = Sqlite::open(&path).await.expect("it is made");
    let mut tx = store.begin(None).await.expect("a transaction");
    run(&mut tx, "CREATE TABLE effects (event_id TEXT NOT NULL, who TEXT NOT NULL) STRICT").await;
    // Its connection is closed.
    drop(tx);
    std::fs::remove_file(&path).expect("deleted");
    store.begin(None).await.expect_err("its file is gone");
    assert!(!path.exists());
}

/// Symptom: a service wrote into one file and read another one. Cause: its file had been opened by a link, which led
/// elsewhere when the next connection was opened; the file itself was still there. Fix: only the first one follows it.
#[tokio::test]
async fn a_link_is_followed_once() {
    let directory = tempfile::tempdir().expect("a directory");
    let directory = directory.path().canonicalize().expect("its name without links");
    let [first, second, link] = ["first.db", "second.db", "service.db"].map(|name| directory.join(name));
    for path in [&first, &second] {
        Sqlite::open(path).await.expect("it is made");
    }
    std::os::unix::fs::symlink(&first, &link).expect("a link");
    let store = Sqlite::open(&link).await.expect("the first one");
    std::fs::remove_file(&link).expect("removed");
    std::os::unix::fs::symlink(&second, &link).expect("a link");
    let main = "SELECT file FROM pragma_database_list WHERE name = 'main'";
    let mut reader = store.read().await.expect("a connection");
    let read: String = sqlx::query_scalar(main).fetch_one(&mut *reader).await.expect("a name");
    // The connection of the first one who writes is closed.
    drop(store.begin(None).await.expect("a transaction"));
    let mut tx = store.begin(None).await.expect("a transaction");
    let written: String = sqlx::query_scalar(main).fetch_one(&mut *tx).await.expect("a name");
    assert_eq!([read.as_str(), written.as_str()], [first.to_str().expect("UTF-8"); 2]);
}

/// Symptom: a service went on although its file had been deleted, and what it committed was gone with its next start.
/// Cause: its address was a URI of SQLite's, the file of which was looked for under the whole of the URI. Fix: where a
/// file is meant, its path has to be written.
#[tokio::test]
async fn a_uri_of_a_file_is_refused() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("service.db");
    let path = path.to_str().expect("UTF-8");
    let refused = [
        Sqlite::connect(&format!("sqlite:file:{path}")).await,
        Sqlite::connect(&format!("sqlite://file://{path}?mode=rwc")).await,
        Sqlite::connect(&format!("sqlite:file%3A{path}")).await,
        Sqlite::open(Path::new(&format!("file:{path}"))).await,
    ];
    for refused in refused {
        let refused = refused.expect_err("a URI");
        assert!(matches!(&refused, ConnectError::Url { .. }), "{refused}");
        assert!(refused.to_string().contains("write sqlite:PATH without file:"), "{refused}");
    }
    assert_eq!(std::fs::read_dir(directory.path()).expect("a directory").count(), 0, "nothing was made");
    Sqlite::connect("sqlite:file:uri-in-memory?mode=memory").await.expect("it has no file");

    // A name is no URI because it has such a beginning.
    let path = directory.path().join("file:service.db");
    let store = Sqlite::open(&path).await.expect("a database");
    std::fs::remove_file(&path).expect("deleted");
    store.begin(None).await.expect_err("its file is gone");
}

/// A file is one whatever its name says of memory, is created unless the address says otherwise, and what each
/// connection would have for itself is refused.
#[tokio::test]
async fn the_options_of_an_address_are_no_part_of_its_name() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("mode=memory.db");
    let url = format!("sqlite:{}", path.display());
    let absent = Sqlite::connect(&format!("{url}?mode=rw")).await.expect_err("no such file");
    assert!(matches!(&absent, ConnectError::Store(error) if error.class() == Class::CannotOpen), "{absent}");
    assert_eq!(std::fs::read_dir(directory.path()).expect("a directory").count(), 0, "nothing was made");
    let store = Sqlite::connect(&url).await.expect("a database");
    store.install(NOW).await.expect("the tables");
    drop(store);
    assert!(path.exists(), "it is a file");
    let store = Sqlite::connect(&format!("{url}?mode=rw")).await.expect("it is there");
    store.check().await.expect("its tables");
    let beside = format!("sqlite:{}?mode=%6Demory", directory.path().join("beside.db").display());
    let store = Sqlite::connect(&beside).await.expect("in memory");
    store.install(NOW).await.expect("the tables");
    store.check().await.expect("its other connection sees them");
    assert!(!directory.path().join("beside.db").exists(), "it has no file");
    for url in ["sqlite:%3Amemory%3A", "sqlite:?mode=rwc"] {
        let refused = Sqlite::connect(url).await.expect_err("of one connection");
        assert!(refused.to_string().contains("write sqlite:PATH, or sqlite::memory:"), "{url}: {refused}");
    }
}

/// Symptom: commits were not on the disk when they were answered, and whoever read kept them waiting. Cause: where there
/// can be no write-ahead log, SQLite goes on without one. Fix: such a database is refused.
#[tokio::test]
async fn a_database_without_a_log_is_refused() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("service.db");
    let url = format!("sqlite:{}?vfs=unix-dotfile", path.display());
    let refused = Sqlite::connect(&url).await.expect_err("no memory can be shared");
    assert!(refused.to_string().contains("no write-ahead log"), "{refused}");
    assert!(
        matches!(&refused, ConnectError::Store(error) if error.class() == Class::CannotOpen),
        "{refused}"
    );
}
