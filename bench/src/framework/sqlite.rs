//! SQLite: through the framework, and by hand.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use courant::prelude::*;
use courant::store_api::{Store as _, Transaction as _};
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection, SqliteJournalMode, SqliteSynchronous};
use sqlx::{ConnectOptions as _, Connection as _};

use super::through::{self, ByHand, HEADERS, OrderBilled, OrderPlaced, Seen};
use super::{Run, Took};

const BILLS: &str = "create table bills (order_id text not null, cents integer not null)";

async fn bill(
    placed: OrderPlaced,
    State(seen): State<Seen>,
    mut tx: Tx<Sqlite>,
) -> Result<OrderBilled, HandlerError> {
    let OrderPlaced { order_id, cents } = placed;
    sqlx::query("insert into bills (order_id, cents) values (?, ?)")
        .bind(&order_id)
        .bind(cents)
        .execute(&mut *tx)
        .await?;
    seen.handled(&order_id, cents)?;
    Ok(OrderBilled { order_id, cents })
}

/// Its version, and how both of those that are compared have set it.
pub(super) async fn about() -> Result<String> {
    let mut connection = SqliteConnectOptions::new().in_memory(true).connect().await?;
    let (version,): (String,) = sqlx::query_as("select sqlite_version()").fetch_one(&mut connection).await?;
    connection.close().await?;
    Ok(format!("SQLite {version}, WAL, synchronous FULL"))
}

pub(super) async fn through(dir: &Path, run: Run) -> Result<Took> {
    let dir = tempfile::tempdir_in(dir)?;
    let store = Sqlite::open(&dir.path().join("framework.db")).await?;
    store.install(0).await?;
    let mut transaction = store.begin(None).await?;
    sqlx::query(BILLS).execute(&mut *transaction).await?;
    transaction.commit(0).await?;
    let seen = Seen::new(run);
    let billing = through::billing(run).on(bill);
    let took = through::measure(&dir.path().join("events"), store.clone(), billing, seen, run).await?;
    let mut reader = store.read().await?;
    let (bills,): (i64,) = sqlx::query_as("select count(*) from bills").fetch_one(&mut *reader).await?;
    ensure!(bills == i64::from(took.events), "{bills} of {} events were handled", took.events);
    Ok(took)
}

/// The same rows in the same tables, one transaction for each event, one after the other: what a service
/// would do that has only these.
pub(super) async fn by_hand(dir: &Path, events: u32) -> Result<Duration> {
    let dir = tempfile::tempdir_in(dir)?;
    let file = dir.path().join("by-hand.db");
    let store = Sqlite::open(&file).await?;
    store.install(0).await?;
    drop(store);
    let mut connection = SqliteConnectOptions::new()
        .filename(&file)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Full)
        .foreign_keys(true)
        .connect()
        .await?;
    sqlx::query(BILLS).execute(&mut connection).await?;
    let begun = Instant::now();
    for number in 0..events {
        effect(&mut connection, number).await?;
    }
    let took = begun.elapsed();
    let (bills,): (i64,) = sqlx::query_as("select count(*) from bills").fetch_one(&mut connection).await?;
    ensure!(bills == i64::from(events), "{bills} of {events} rows were written");
    connection.close().await?;
    Ok(took)
}

async fn effect(connection: &mut SqliteConnection, number: u32) -> Result<()> {
    let event = ByHand::new(number);
    sqlx::query("BEGIN IMMEDIATE").execute(&mut *connection).await?;
    sqlx::query(
        "INSERT INTO courant_inbox (consumer, generation, event_id, outcome, settled_ms) \
         VALUES ('billing', 1, ?, 'handled', ?)",
    )
    .bind(&event.id)
    .bind(i64::from(number))
    .execute(&mut *connection)
    .await?;
    sqlx::query("insert into bills (order_id, cents) values (?, ?)")
        .bind(&event.order_id)
        .bind(i64::from(number))
        .execute(&mut *connection)
        .await?;
    let (position,): (i64,) = sqlx::query_as(
        "UPDATE courant_outbox_lane SET position = position + 1 WHERE lane = ? RETURNING position",
    )
    .bind(event.lane)
    .fetch_one(&mut *connection)
    .await?;
    sqlx::query(
        "INSERT INTO courant_outbox (lane, position, event_id, topic, event_key, event_value, headers, \
         timestamp_ms, bytes) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
    )
    .bind(event.lane)
    .bind(position)
    .bind(&event.id)
    .bind(OrderBilled::TOPIC)
    .bind(event.order_id.as_bytes())
    .bind(event.value.as_bytes())
    .bind(HEADERS)
    .bind(i64::from(number))
    .bind(event.bytes)
    .execute(&mut *connection)
    .await?;
    sqlx::query("COMMIT").execute(&mut *connection).await?;
    Ok(())
}
