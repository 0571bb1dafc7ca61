//! On disk: the tables of `schema/sqlite.sql`.

use sqlx::SqliteConnection;

use super::Sqlite;
use super::class::failed;
use super::row::Columns;
use crate::error::{SchemaError, StoreError};
use crate::limits::LANES;
use crate::version::{Installed, VERSION};

const TABLES: &str = include_str!("../../schema/sqlite.sql");

/// From version 2: a note may say that a dead letter was restored. A table of SQLite keeps the conditions
/// that it was made with, so another one takes its place. Nothing is renamed: SQLite would look at everything
/// that the service has made beside these tables, too.
const RAISE: &str = "
CREATE TABLE courant_dead_note_2 AS SELECT * FROM courant_dead_note;
DROP TABLE courant_dead_note;
CREATE TABLE courant_dead_note (
    id          INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
    dead_id     INTEGER NOT NULL,
    action      TEXT    NOT NULL CHECK (action IN ('edited', 'discarded', 'archived', 'restored')),
    done_by     TEXT    NOT NULL,
    reason      TEXT    NOT NULL,
    at_ms       INTEGER NOT NULL,
    event_id    TEXT,
    event_value BLOB,
    headers     TEXT,
    CHECK ((action = 'edited') = (event_id IS NOT NULL))
) STRICT;
CREATE INDEX courant_dead_note_dead ON courant_dead_note (dead_id, id);
INSERT INTO courant_dead_note (id, dead_id, action, done_by, reason, at_ms, event_id, event_value, headers)
    SELECT id, dead_id, action, done_by, reason, at_ms, event_id, event_value, headers FROM courant_dead_note_2;
DROP TABLE courant_dead_note_2;
";

const INSTALL: &str = "install its tables";
const RAISING: &str = "raise its tables to another version";
const CHECK: &str = "look at the version of its tables";

pub(super) async fn install(store: &Sqlite, now_ms: i64) -> Result<(), SchemaError> {
    let mut session = store.writer(INSTALL).await?;
    let found = match installed(&mut session).await {
        Ok(found) => found,
        Err(error) => {
            let _ = session.rollback().await;
            return Err(error.into());
        }
    };
    if found.is_some_and(Installed::is_raised) {
        raise(&mut session).await?;
        session.commit().await.map_err(failed(RAISING))?;
        return Ok(());
    }
    if let Some(found) = found {
        // Nothing was changed, so there is nothing that could fail to be undone.
        let _ = session.rollback().await;
        return found.check();
    }
    sqlx::raw_sql(TABLES).execute(&mut *session).await.map_err(failed(INSTALL))?;
    sqlx::query("INSERT INTO courant_schema (one, version, lanes, installed_ms) VALUES (1, ?1, ?2, ?3)")
        .bind(VERSION)
        .bind(i64::from(LANES))
        .bind(now_ms)
        .execute(&mut *session)
        .await
        .map_err(failed(INSTALL))?;
    session.commit().await.map_err(failed(INSTALL))?;
    Ok(())
}

/// Makes the tables of the version before those of this one. All of it is one transaction.
async fn raise(connection: &mut SqliteConnection) -> Result<(), StoreError> {
    sqlx::raw_sql(RAISE).execute(&mut *connection).await.map_err(failed(RAISING))?;
    sqlx::query("UPDATE courant_schema SET version = ?1 WHERE one = 1")
        .bind(VERSION)
        .execute(&mut *connection)
        .await
        .map_err(failed(RAISING))?;
    Ok(())
}

pub(super) async fn check(store: &Sqlite) -> Result<(), SchemaError> {
    let mut session = store.reader().await?;
    let found = installed(&mut session).await?;
    session.give_back();
    found.map_or(Err(SchemaError::Missing), Installed::check)
}

async fn installed(connection: &mut SqliteConnection) -> Result<Option<Installed>, StoreError> {
    let table = sqlx::query("SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name = 'courant_schema'")
        .fetch_optional(&mut *connection)
        .await
        .map_err(failed(CHECK))?;
    if table.is_none() {
        return Ok(None);
    }
    let row = sqlx::query("SELECT version, lanes FROM courant_schema WHERE one = 1")
        .fetch_optional(&mut *connection)
        .await
        .map_err(failed(CHECK))?;
    let Some(row) = row else { return Ok(Some(Installed::UNKNOWN)) };
    let columns = Columns::new(&row, CHECK);
    Ok(Some(Installed { version: columns.int(0)?, lanes: columns.int(1)? }))
}
