//! PostgreSQL: each event is a row in a transaction of its own. A transaction needs a connection, so each
//! producer has one.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use courant::prelude::sqlx;
use sqlx::Connection as _;
use sqlx::postgres::PgConnection;
use tokio::runtime::{Builder, Runtime};
use tokio::task::JoinSet;

use super::{Client, EVENT_BYTES};

const TABLE: &str = "create table bench_events (id bigserial primary key, payload bytea not null)";
/// What has to be on for a commit that is answered to be on disk.
const SETTINGS: [&str; 2] = ["fsync", "synchronous_commit"];

pub(super) struct Postgres {
    connections: Vec<PgConnection>,
    /// The one that asks.
    beside: PgConnection,
    /// After the connections, which it drives to the end.
    runtime: Runtime,
}

impl Postgres {
    pub(super) fn connect(address: &str, producers: usize) -> Result<Postgres> {
        // One thread for all, as the other clients have.
        let runtime = Builder::new_current_thread().enable_all().build().context("no runtime can be made")?;
        let (beside, connections) = runtime.block_on(async {
            let mut beside = PgConnection::connect(address).await.context("the server cannot be reached")?;
            sqlx::query(TABLE).execute(&mut beside).await?;
            let mut connections = Vec::new();
            for _ in 0..producers {
                connections.push(PgConnection::connect(address).await?);
            }
            Ok::<_, anyhow::Error>((beside, connections))
        })?;
        Ok(Postgres { connections, beside, runtime })
    }
}

impl Client for Postgres {
    fn about(&mut self) -> Result<String> {
        let beside = &mut self.beside;
        self.runtime.block_on(async {
            for setting in SETTINGS {
                let value = setting_of(beside, setting).await?;
                ensure!(value == "on", "the server has {setting} = {value}: it has to be on");
            }
            let version = setting_of(beside, "server_version").await?;
            let version = version.split(' ').next().unwrap_or_default();
            Ok(format!("PostgreSQL {version}, fsync on, synchronous_commit on"))
        })
    }

    fn wait(&mut self, time: Duration) -> Result<Vec<u32>> {
        let connections = std::mem::take(&mut self.connections);
        let (connections, taken) = self.runtime.block_on(async {
            let until = Instant::now() + time;
            let mut tasks = JoinSet::new();
            for connection in connections {
                tasks.spawn(wait_in_turn(connection, until));
            }
            let (mut connections, mut all) = (Vec::new(), Vec::new());
            while let Some(ended) = tasks.join_next().await {
                let (connection, mut taken) = ended.context("a waiting task panicked")??;
                connections.push(connection);
                all.append(&mut taken);
            }
            Ok::<_, anyhow::Error>((connections, all))
        })?;
        self.connections = connections;
        Ok(taken)
    }

    fn stored(&mut self) -> Result<u64> {
        let beside = &mut self.beside;
        let (events,): (i64,) = self.runtime.block_on(async {
            sqlx::query_as("select count(*) from bench_events").fetch_one(beside).await
        })?;
        u64::try_from(events).context("the table has fewer rows than none")
    }
}

async fn setting_of(connection: &mut PgConnection, name: &str) -> Result<String> {
    let (value,): (String,) =
        sqlx::query_as("SELECT current_setting($1)").bind(name).fetch_one(connection).await?;
    Ok(value)
}

async fn wait_in_turn(mut connection: PgConnection, until: Instant) -> Result<(PgConnection, Vec<u32>)> {
    let payload = vec![b'x'; EVENT_BYTES];
    let mut taken = Vec::new();
    loop {
        let sent = Instant::now();
        if sent >= until {
            return Ok((connection, taken));
        }
        sqlx::query("insert into bench_events (payload) values ($1)")
            .bind(payload.as_slice())
            .execute(&mut connection)
            .await
            .context("an event was not stored")?;
        taken.push(u32::try_from(sent.elapsed().as_nanos()).unwrap_or(u32::MAX));
    }
}
