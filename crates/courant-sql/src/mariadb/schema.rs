//! On disk: the tables of `schema/mariadb.sql`.
//!
//! MariaDB commits with each table that it creates. So each statement can be repeated, one program at a
//! time makes them, and the row of `courant_schema` comes last: without it there is no installation, and
//! the next start goes on with the one that was interrupted.

use std::time::Duration;

use sqlx::MySqlConnection;

use super::Mariadb;
use super::class::failed;
use super::row::Columns;
use crate::error::{Class, SchemaError, StoreError};
use crate::limits::LANES;
use crate::version::{Installed, VERSION};

const TABLES: &str = include_str!("../../schema/mariadb.sql");

/// From version 2: a note may say that a dead letter was restored. It can be repeated, as the rest.
const RAISE: &str = "ALTER TABLE courant_dead_note MODIFY action VARCHAR(16) NOT NULL \
                     CHECK (action IN ('edited', 'discarded', 'archived', 'restored'))";

const INSTALL: &str = "install its tables";
const RAISING: &str = "raise its tables to another version";
const CHECK: &str = "look at the version of its tables";

/// How long another program may take to install them.
const PATIENCE: Duration = Duration::from_secs(60);

/// The lock of an installation: of this database, not of the server. A name has at most 64 characters.
macro_rules! lock {
    () => {
        "CONCAT('courant.', SHA1(DATABASE()))"
    };
}

pub(super) async fn install(store: &Mariadb, now_ms: i64) -> Result<(), SchemaError> {
    let mut session = store.reader().await?;
    // It goes with the connection, whatever happens to this one.
    lock(&mut session).await?;
    let installed = install_alone(&mut session, now_ms).await;
    let unlocked = unlock(&mut session).await;
    installed?;
    unlocked?;
    session.give_back();
    Ok(())
}

async fn install_alone(connection: &mut MySqlConnection, now_ms: i64) -> Result<(), SchemaError> {
    match installed(connection).await? {
        Some(found) if found.is_raised() => return Ok(raise(connection).await?),
        Some(found) => return found.check(),
        None => {}
    }
    sqlx::raw_sql(TABLES).execute(&mut *connection).await.map_err(failed(INSTALL))?;
    sqlx::query("INSERT INTO courant_schema (one, version, lanes, installed_ms) VALUES (1, ?, ?, ?)")
        .bind(VERSION)
        .bind(i64::from(LANES))
        .bind(now_ms)
        .execute(&mut *connection)
        .await
        .map_err(failed(INSTALL))?;
    Ok(())
}

/// Makes the tables of the version before those of this one. The version comes last: what was interrupted is
/// done again.
async fn raise(connection: &mut MySqlConnection) -> Result<(), StoreError> {
    sqlx::raw_sql(RAISE).execute(&mut *connection).await.map_err(failed(RAISING))?;
    sqlx::query("UPDATE courant_schema SET version = ? WHERE one = 1")
        .bind(VERSION)
        .execute(&mut *connection)
        .await
        .map_err(failed(RAISING))?;
    Ok(())
}

async fn lock(connection: &mut MySqlConnection) -> Result<(), StoreError> {
    let row = sqlx::query(concat!("SELECT CAST(GET_LOCK(", lock!(), ", ?) AS SIGNED)"))
        .bind(i64::try_from(PATIENCE.as_secs()).unwrap_or(i64::MAX))
        .fetch_one(&mut *connection)
        .await
        .map_err(failed(INSTALL))?;
    if Columns::new(&row, INSTALL).int_or_null(0)? == Some(1) {
        return Ok(());
    }
    let why = sqlx::Error::Protocol("another program is installing the tables".to_owned());
    Err(StoreError::new(INSTALL, Class::Busy, why))
}

async fn unlock(connection: &mut MySqlConnection) -> Result<(), StoreError> {
    sqlx::query(concat!("SELECT RELEASE_LOCK(", lock!(), ")"))
        .fetch_one(&mut *connection)
        .await
        .map_err(failed(INSTALL))?;
    Ok(())
}

pub(super) async fn check(store: &Mariadb) -> Result<(), SchemaError> {
    let mut session = store.reader().await?;
    let found = installed(&mut session).await?;
    session.give_back();
    found.map_or(Err(SchemaError::Missing), Installed::check)
}

/// A table without its row is an installation that was interrupted.
async fn installed(connection: &mut MySqlConnection) -> Result<Option<Installed>, StoreError> {
    let sql = "SELECT COUNT(*) FROM information_schema.TABLES \
               WHERE TABLE_SCHEMA = DATABASE() AND TABLE_NAME = 'courant_schema'";
    let table = sqlx::query(sql).fetch_one(&mut *connection).await.map_err(failed(CHECK))?;
    if Columns::new(&table, CHECK).int(0)? == 0 {
        return Ok(None);
    }
    let row = sqlx::query("SELECT version, lanes FROM courant_schema WHERE one = 1")
        .fetch_optional(&mut *connection)
        .await
        .map_err(failed(CHECK))?;
    let Some(row) = row else { return Ok(None) };
    let columns = Columns::new(&row, CHECK);
    Ok(Some(Installed { version: columns.int(0)?, lanes: columns.int(1)? }))
}
