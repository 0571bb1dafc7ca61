//! SQLite in a directory of its own.

use std::path::{Path, PathBuf};
use std::time::Duration;

use courant_sql::sqlx;
use courant_sql::{Sqlite, SqliteTransaction, Store as _, Transaction as _};
use tempfile::TempDir;

use super::steps::{NOW, run};

pub(crate) type Db = Sqlite;
pub(crate) type Tx = SqliteTransaction;

/// Counts what a handler has done that has ended its transaction: also what it has done afterwards.
pub(crate) const UNDONE: &str = "SELECT COUNT(*) FROM effects";

/// What a handler does: one row for each time it has run.
pub(crate) const EFFECT: &str = "INSERT INTO effects (event_id, who) VALUES ($1, 'handler')";
/// How often it was done for an event.
pub(crate) const EFFECTS: &str = "SELECT COUNT(*) FROM effects WHERE event_id = $1";

/// SQLite does not queue those who wait for its lock: beside a busy one, another may wait for long.
const PATIENCE: Duration = Duration::from_secs(60);

/// A database with the framework's tables and one table of the service.
pub(crate) struct Fixture {
    pub(crate) store: Sqlite,
    directory: TempDir,
}

impl Fixture {
    pub(crate) async fn new() -> Option<Self> {
        let fixture = Self::bare().await?;
        fixture.store.install(NOW).await.expect("the tables");
        let mut tx = fixture.store.begin(None).await.expect("a transaction");
        run(
            &mut tx,
            "CREATE TABLE effects (n INTEGER PRIMARY KEY, event_id TEXT NOT NULL, who TEXT NOT NULL) STRICT",
        )
        .await;
        tx.commit(NOW).await.expect("the service's table");
        Some(fixture)
    }

    /// A database without tables. SQLite is always there.
    pub(crate) async fn bare() -> Option<Self> {
        let directory = tempfile::tempdir().expect("a directory");
        let store = open(directory.path()).await;
        Some(Self { store, directory })
    }

    pub(crate) fn path(&self) -> PathBuf {
        file_in(self.directory.path())
    }

    /// A store with one connection that writes, as every one of SQLite.
    pub(crate) async fn narrow(&self) -> Sqlite {
        self.another().await
    }

    /// A second process on the same file, as far as SQLite can tell.
    pub(crate) async fn another(&self) -> Sqlite {
        open(self.directory.path()).await
    }

    /// The same database after the process was killed and started again.
    pub(crate) async fn reopened(self) -> Self {
        let Self { store, directory } = self;
        drop(store);
        let store = open(directory.path()).await;
        store.check().await.expect("its tables");
        Self { store, directory }
    }
}

/// Makes the tables those of version 2.
pub(crate) async fn make_older(store: &Db) {
    let mut tx = store.begin(None).await.expect("a transaction");
    for statement in [
        "DROP TABLE courant_dead_note",
        "CREATE TABLE courant_dead_note (id INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT, \
         dead_id INTEGER NOT NULL, \
         action TEXT NOT NULL CHECK (action IN ('edited', 'discarded', 'archived')), \
         done_by TEXT NOT NULL, reason TEXT NOT NULL, at_ms INTEGER NOT NULL, event_id TEXT, \
         event_value BLOB, headers TEXT, CHECK ((action = 'edited') = (event_id IS NOT NULL))) STRICT",
        "CREATE INDEX courant_dead_note_dead ON courant_dead_note (dead_id, id)",
        "UPDATE courant_schema SET version = 2",
    ] {
        run(&mut tx, statement).await;
    }
    tx.commit(NOW).await.expect("a commit");
}

/// A table of the service's own with a number for each name.
pub(crate) async fn make_counters(store: &Db) {
    let mut tx = store.begin(None).await.expect("a transaction");
    run(&mut tx, "CREATE TABLE counters (name TEXT NOT NULL PRIMARY KEY, number BIGINT NOT NULL)").await;
    tx.commit(NOW).await.expect("a commit");
}

/// Counts up the number of a name. Whoever comes next waits for the end of the transaction.
pub(crate) async fn next_number(tx: &mut Tx, name: &str) -> i64 {
    let sql = "INSERT INTO counters (name, number) VALUES ($1, 1) \
               ON CONFLICT (name) DO UPDATE SET number = counters.number + 1 RETURNING number";
    sqlx::query_scalar(sql).bind(name).fetch_one(&mut **tx).await.expect("a number")
}

async fn open(directory: &Path) -> Sqlite {
    Sqlite::open_with(&file_in(directory), PATIENCE).await.expect("a database")
}

fn file_in(directory: &Path) -> PathBuf {
    directory.join("service.db")
}
