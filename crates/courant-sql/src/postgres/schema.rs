//! On disk: the tables of `schema/postgres.sql`.

use sqlx::PgConnection;

use super::class::failed;
use super::row::Columns;
use super::{Postgres, locks};
use crate::error::{SchemaError, StoreError};
use crate::limits::LANES;
use crate::version::{Installed, VERSION};

const TABLES: &str = include_str!("../../schema/postgres.sql");

const INSTALL: &str = "install its tables";
const CHECK: &str = "look at the version of its tables";

pub(super) async fn install(store: &Postgres, now_ms: i64) -> Result<(), SchemaError> {
    let mut session = store.writer(INSTALL).await?;
    locks::take(&mut session, vec![locks::installation()], INSTALL).await?;
    if let Some(found) = installed(&mut session).await? {
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
