//! Postgres: through the framework, and by hand. A new database for each measurement.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use courant::prelude::*;
use courant::store_api::{Store as _, Transaction as _};
use sqlx::postgres::PgConnection;
use sqlx::{AssertSqlSafe, Connection as _};

use super::server::{self, CONNECTIONS_MORE, Hand, Named, open_connections};
use super::through::{self, ByHand, HEADERS, OrderBilled, OrderPlaced, Seen};
use super::{Run, Took};

const BILLS: &str = "create table bills (order_id text not null, cents bigint not null)";

/// The tables of the framework without its triggers, so that anybody may commit.
const BY_HAND: &str = "\
    CREATE TABLE hand_inbox (LIKE courant_inbox INCLUDING ALL); \
    CREATE TABLE hand_outbox (LIKE courant_outbox INCLUDING ALL); \
    CREATE TABLE hand_lane (LIKE courant_outbox_lane INCLUDING ALL) WITH (fillfactor = 10); \
    INSERT INTO hand_lane SELECT * FROM courant_outbox_lane";

async fn bill(
    placed: OrderPlaced,
    State(seen): State<Seen>,
    mut tx: Tx<Postgres>,
) -> Result<OrderBilled, HandlerError> {
    let OrderPlaced { order_id, cents } = placed;
    sqlx::query("insert into bills (order_id, cents) values ($1, $2)")
        .bind(&order_id)
        .bind(cents)
        .execute(&mut *tx)
        .await?;
    seen.handled(&order_id, cents)?;
    Ok(OrderBilled { order_id, cents })
}

/// Its version, and the settings that say when a commit is on disk: a figure of a server that syncs nothing says
/// nothing.
pub(super) async fn check(server: &str) -> Result<String> {
    let mut connection = PgConnection::connect(server).await.context("the server cannot be reached")?;
    for setting in ["fsync", "synchronous_commit"] {
        let (value,): (String,) =
            sqlx::query_as("SELECT current_setting($1)").bind(setting).fetch_one(&mut connection).await?;
        ensure!(value == "on", "the server has {setting} = {value}: it has to be on");
    }
    let (version,): (String,) =
        sqlx::query_as("SELECT current_setting('server_version')").fetch_one(&mut connection).await?;
    connection.close().await?;
    let version = version.split(' ').next().unwrap_or_default();
    Ok(format!("PostgreSQL {version}, fsync on, synchronous_commit on"))
}

pub(super) async fn through(server: &str, dir: &Path, run: Run) -> Result<Took> {
    let dir = tempfile::tempdir_in(dir)?;
    let database = Database::create(server).await?;
    let took = through_in(&database.0.url, dir.path(), run).await;
    database.remove().await?;
    took
}

async fn through_in(url: &str, dir: &Path, run: Run) -> Result<Took> {
    let store = Postgres::connect_with(url, run.writers + CONNECTIONS_MORE).await?;
    prepare(&store, &[BILLS]).await?;
    open_connections(&store, run.writers).await?;
    let seen = Seen::new(run);
    let billing = through::billing(run).on(bill);
    let took = through::measure(dir, store, billing, seen, run).await?;
    let mut connection = PgConnection::connect(url).await?;
    ensure_bills(&mut connection, took.events).await?;
    connection.close().await?;
    Ok(took)
}

/// The same rows in the same tables, one transaction for each event, in as many connections as there are
/// writers.
pub(super) async fn by_hand(server: &str, run: Run) -> Result<Duration> {
    let database = Database::create(server).await?;
    let took = by_hand_in(&database.0.url, run).await;
    database.remove().await?;
    took
}

async fn by_hand_in(url: &str, run: Run) -> Result<Duration> {
    let store = Postgres::connect_with(url, 1).await?;
    prepare(&store, &[BILLS, BY_HAND]).await?;
    drop(store);
    let mut connections = Vec::new();
    for _ in 0..run.writers {
        connections.push(PgConnection::connect(url).await?);
    }
    let took = server::write(connections, run).await?;
    let mut connection = PgConnection::connect(url).await?;
    ensure_bills(&mut connection, run.events).await?;
    connection.close().await?;
    Ok(took)
}

impl Hand for PgConnection {
    async fn effect(&mut self, number: u32) -> Result<()> {
        effect(self, number).await
    }
}

async fn effect(connection: &mut PgConnection, number: u32) -> Result<()> {
    let event = ByHand::new(number);
    let mut transaction = connection.begin().await?;
    sqlx::query(
        "INSERT INTO hand_inbox (consumer, generation, event_id, outcome, settled_ms) \
         VALUES ('billing', 1, $1, 'handled', $2) ON CONFLICT DO NOTHING",
    )
    .bind(&event.id)
    .bind(i64::from(number))
    .execute(&mut *transaction)
    .await?;
    sqlx::query("insert into bills (order_id, cents) values ($1, $2)")
        .bind(&event.order_id)
        .bind(i64::from(number))
        .execute(&mut *transaction)
        .await?;
    let (position,): (i64,) =
        sqlx::query_as("UPDATE hand_lane SET position = position + 1 WHERE lane = $1 RETURNING position")
            .bind(event.lane)
            .fetch_one(&mut *transaction)
            .await?;
    sqlx::query(
        "INSERT INTO hand_outbox (lane, position, event_id, topic, event_key, event_value, headers, \
         timestamp_ms, bytes) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)",
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
    .execute(&mut *transaction)
    .await?;
    transaction.commit().await?;
    Ok(())
}

/// The framework's tables, and what else there is to be.
async fn prepare(store: &Postgres, statements: &[&'static str]) -> Result<()> {
    store.install(0).await?;
    let mut transaction = store.begin(None).await?;
    for statement in statements {
        sqlx::raw_sql(*statement).execute(&mut *transaction).await?;
    }
    transaction.commit(0).await?;
    Ok(())
}

async fn ensure_bills(connection: &mut PgConnection, events: u32) -> Result<()> {
    let (bills,): (i64,) = sqlx::query_as("select count(*) from bills").fetch_one(connection).await?;
    server::ensure_bills(bills, events)
}

/// A database for one measurement.
struct Database(Named);

impl Database {
    async fn create(server: &str) -> Result<Self> {
        let named = Named::new(server)?;
        administer(server, &[format!("CREATE DATABASE {}", named.name), "CHECKPOINT".to_owned()]).await?;
        Ok(Self(named))
    }

    async fn remove(self) -> Result<()> {
        administer(&self.0.server, &[format!("DROP DATABASE {} WITH (FORCE)", self.0.name)]).await
    }
}

async fn administer(server: &str, statements: &[String]) -> Result<()> {
    let mut connection = PgConnection::connect(server).await?;
    for statement in statements {
        // The text is made of a name of this program and nothing else.
        sqlx::raw_sql(AssertSqlSafe(statement.clone())).execute(&mut connection).await?;
    }
    connection.close().await?;
    Ok(())
}
