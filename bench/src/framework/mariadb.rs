//! MariaDB: through the framework, and by hand. A new database for each measurement.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use courant::prelude::*;
use courant::store_api::Store as _;
use sqlx::mysql::MySqlConnection;
use sqlx::{AssertSqlSafe, Connection as _};

use super::server::{self, CONNECTIONS_MORE, Hand, Named, open_connections};
use super::through::{self, ByHand, HEADERS, OrderBilled, OrderPlaced, Seen};
use super::{Run, Took};

const BILLS: &str = "create table bills (n bigint not null auto_increment primary key, \
                     order_id varchar(100) not null, cents bigint not null)";

async fn bill(
    placed: OrderPlaced,
    State(seen): State<Seen>,
    mut tx: Tx<Mariadb>,
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

/// Its version, and the settings that say when a commit is on disk: a figure of a server that syncs nothing says
/// nothing.
pub(super) async fn check(server: &str) -> Result<String> {
    let mut connection = MySqlConnection::connect(server).await.context("the server cannot be reached")?;
    let (flush, has_binlog, sync): (i64, i64, i64) = sqlx::query_as(
        "SELECT CAST(@@innodb_flush_log_at_trx_commit AS SIGNED), CAST(@@log_bin AS SIGNED), \
         CAST(@@sync_binlog AS SIGNED)",
    )
    .fetch_one(&mut connection)
    .await?;
    ensure!(flush == 1, "the server has innodb_flush_log_at_trx_commit = {flush}: it has to be 1");
    ensure!(
        has_binlog == 0 || sync == 1,
        "the server has sync_binlog = {sync}: it has to be 1, or no log_bin"
    );
    let (version,): (String,) = sqlx::query_as("SELECT VERSION()").fetch_one(&mut connection).await?;
    connection.close().await?;
    let binlog = if has_binlog == 0 { "no log_bin" } else { "sync_binlog 1" };
    Ok(format!("MariaDB {version}, innodb_flush_log_at_trx_commit 1, {binlog}"))
}

pub(super) async fn through(server: &str, dir: &Path, run: Run) -> Result<Took> {
    let dir = tempfile::tempdir_in(dir)?;
    let database = Database::create(server).await?;
    let took = through_in(&database.0.url, dir.path(), run).await;
    database.remove().await?;
    took
}

async fn through_in(url: &str, dir: &Path, run: Run) -> Result<Took> {
    let store = Mariadb::connect_with(url, run.writers + CONNECTIONS_MORE).await?;
    store.install(0).await?;
    open_connections(&store, run.writers).await?;
    let seen = Seen::new(run);
    let billing = through::billing(run).on(bill);
    let took = through::measure(dir, store, billing, seen, run).await?;
    ensure_bills(url, took.events).await?;
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
    let store = Mariadb::connect_with(url, 1).await?;
    store.install(0).await?;
    drop(store);
    let mut connections = Vec::new();
    for _ in 0..run.writers {
        let mut connection = MySqlConnection::connect(url).await?;
        sqlx::raw_sql("SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED")
            .execute(&mut connection)
            .await?;
        connections.push(connection);
    }
    let took = server::write(connections, run).await?;
    ensure_bills(url, run.events).await?;
    Ok(took)
}

impl Hand for MySqlConnection {
    async fn effect(&mut self, number: u32) -> Result<()> {
        effect(self, number).await
    }
}

async fn effect(connection: &mut MySqlConnection, number: u32) -> Result<()> {
    let event = ByHand::new(number);
    let mut transaction = connection.begin().await?;
    sqlx::query(
        "INSERT INTO courant_inbox (consumer, generation, event_id, outcome, settled_ms) \
         VALUES ('billing', 1, ?, 'handled', ?)",
    )
    .bind(&event.id)
    .bind(i64::from(number))
    .execute(&mut *transaction)
    .await?;
    sqlx::query("insert into bills (order_id, cents) values (?, ?)")
        .bind(&event.order_id)
        .bind(i64::from(number))
        .execute(&mut *transaction)
        .await?;
    // What an UPDATE gives back here: the number comes with its answer.
    let moved =
        sqlx::query("UPDATE courant_outbox_lane SET position = LAST_INSERT_ID(position + 1) WHERE lane = ?")
            .bind(event.lane)
            .execute(&mut *transaction)
            .await?;
    sqlx::query(
        "INSERT INTO courant_outbox (lane, position, event_id, topic, event_key, event_value, headers, \
         timestamp_ms, bytes) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
    )
    .bind(event.lane)
    .bind(i64::try_from(moved.last_insert_id())?)
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

async fn ensure_bills(url: &str, events: u32) -> Result<()> {
    let mut connection = MySqlConnection::connect(url).await?;
    let (bills,): (i64,) = sqlx::query_as("select count(*) from bills").fetch_one(&mut connection).await?;
    connection.close().await?;
    server::ensure_bills(bills, events)
}

/// A database for one measurement, with the table of the service.
struct Database(Named);

impl Database {
    async fn create(server: &str) -> Result<Self> {
        let named = Named::new(server)?;
        administer(server, &format!("CREATE DATABASE {}", named.name)).await?;
        administer(&named.url, BILLS).await?;
        Ok(Self(named))
    }

    async fn remove(self) -> Result<()> {
        administer(&self.0.server, &format!("DROP DATABASE {}", self.0.name)).await
    }
}

async fn administer(server: &str, statement: &str) -> Result<()> {
    let mut connection = MySqlConnection::connect(server).await?;
    // The text is a constant, or made of a name of this program and nothing else.
    sqlx::raw_sql(AssertSqlSafe(statement.to_owned())).execute(&mut connection).await?;
    connection.close().await?;
    Ok(())
}
