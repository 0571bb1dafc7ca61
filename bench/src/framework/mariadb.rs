//! MariaDB: through the framework, and by hand. A new database for each measurement.

use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use courant::prelude::*;
use courant::store_api::{Store as _, Transaction as _};
use sqlx::mysql::MySqlConnection;
use sqlx::{AssertSqlSafe, Connection as _};
use tokio::task::JoinSet;

use super::through::{self, ByHand, HEADERS, KEYS, OrderBilled, OrderPlaced, Seen};
use super::{Run, Took};

/// Connections that the framework has besides those of handlers.
const CONNECTIONS_MORE: u32 = 8;

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
    seen.handled(&order_id)?;
    Ok(OrderBilled { order_id, cents })
}

/// A figure of a server that syncs nothing says nothing.
pub(super) async fn check(server: &str) -> Result<()> {
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
    connection.close().await?;
    Ok(())
}

pub(super) async fn through(server: &str, dir: &Path, run: Run) -> Result<Took> {
    let dir = tempfile::tempdir_in(dir)?;
    let database = Database::create(server).await?;
    let took = through_in(&database.url, dir.path(), run).await;
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
/// writers. A key is the business of one of them, as it is in the framework.
pub(super) async fn by_hand(server: &str, run: Run) -> Result<Duration> {
    let database = Database::create(server).await?;
    let took = by_hand_in(&database.url, run).await;
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
    let begun = Instant::now();
    let mut writing = JoinSet::new();
    for (writer, mut connection) in (0..run.writers).zip(connections) {
        writing.spawn(async move {
            for number in (0..run.events).filter(|number| number % KEYS % run.writers == writer) {
                effect(&mut connection, number).await?;
            }
            Ok::<_, anyhow::Error>(connection)
        });
    }
    while let Some(written) = writing.join_next().await {
        written??;
    }
    let took = begun.elapsed();
    ensure_bills(url, run.events).await?;
    Ok(took)
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

/// By hand they are open before the time runs, too: to open one takes as long as a dozen effects.
async fn open_connections(store: &Mariadb, connections: u32) -> Result<()> {
    let mut open = Vec::new();
    for _ in 0..connections {
        open.push(store.begin(None).await?);
    }
    for transaction in open {
        transaction.rollback().await?;
    }
    Ok(())
}

async fn ensure_bills(url: &str, events: u32) -> Result<()> {
    let mut connection = MySqlConnection::connect(url).await?;
    let (bills,): (i64,) = sqlx::query_as("select count(*) from bills").fetch_one(&mut connection).await?;
    connection.close().await?;
    ensure!(bills == i64::from(events), "{bills} of {events} events were handled");
    Ok(())
}

/// A database for one measurement, with the table of the service.
struct Database {
    server: String,
    name: String,
    url: String,
}

impl Database {
    async fn create(server: &str) -> Result<Self> {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("courant_bench_{}_{number}", std::process::id());
        let (place, _) = server.rsplit_once('/').context("the server's address ends with a database")?;
        let url = format!("{place}/{name}");
        administer(server, &format!("CREATE DATABASE {name}")).await?;
        administer(&url, BILLS).await?;
        Ok(Self { server: server.to_owned(), name, url })
    }

    async fn remove(self) -> Result<()> {
        administer(&self.server, &format!("DROP DATABASE {}", self.name)).await
    }
}

async fn administer(server: &str, statement: &str) -> Result<()> {
    let mut connection = MySqlConnection::connect(server).await?;
    // The text is a constant, or made of a name of this program and nothing else.
    sqlx::raw_sql(AssertSqlSafe(statement.to_owned())).execute(&mut connection).await?;
    connection.close().await?;
    Ok(())
}
