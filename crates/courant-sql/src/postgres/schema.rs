//! On disk: the tables of `schema/postgres.sql`.

use sqlx::PgConnection;

use super::class::failed;
use super::row::Columns;
use super::{Postgres, locks};
use crate::error::{SchemaError, StoreError};
use crate::limits::LANES;
use crate::version::{Installed, VERSION};

const TABLES: &str = include_str!("../../schema/postgres.sql");

/// From version 2: a note may say that a dead letter was restored.
const RAISE: &str = "
ALTER TABLE courant_dead_note
    DROP CONSTRAINT IF EXISTS courant_dead_note_action_check,
    ADD CONSTRAINT courant_dead_note_action_check
        CHECK (action IN ('edited', 'discarded', 'archived', 'restored'));
";

const INSTALL: &str = "install its tables";
const RAISING: &str = "raise its tables to another version";
const CHECK: &str = "look at the version of its tables";

pub(super) async fn install(store: &Postgres, now_ms: i64) -> Result<(), SchemaError> {
    let mut session = store.writer(INSTALL).await?;
    locks::take(&mut session, vec![locks::installation()], INSTALL).await?;
    let found = installed(&mut session).await?;
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
    sqlx::query("INSERT INTO courant_schema (one, version, lanes, installed_ms) VALUES (1, $1, $2, $3)")
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
async fn raise(connection: &mut PgConnection) -> Result<(), StoreError> {
    sqlx::raw_sql(RAISE).execute(&mut *connection).await.map_err(failed(RAISING))?;
    sqlx::query("UPDATE courant_schema SET version = $1 WHERE one = 1")
        .bind(VERSION)
        .execute(&mut *connection)
        .await
        .map_err(failed(RAISING))?;
    Ok(())
}

pub(super) async fn check(store: &Postgres) -> Result<(), SchemaError> {
    let mut session = store.reader().await?;
    let found = installed(&mut session).await?;
    session.give_back();
    found.map_or(Err(SchemaError::Missing), Installed::check)
}

async fn installed(connection: &mut PgConnection) -> Result<Option<Installed>, StoreError> {
    let table = sqlx::query("SELECT to_regclass('courant_schema')::text")
        .fetch_one(&mut *connection)
        .await
        .map_err(failed(CHECK))?;
    if Columns::new(&table, CHECK).text_or_null(0)?.is_none() {
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
