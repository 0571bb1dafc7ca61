//! PostgreSQL: each event is a row in a transaction of its own. A transaction needs a connection, so each
//! producer has one.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use courant::prelude::sqlx;
use sqlx::Connection as _;
use sqlx::postgres::PgConnection;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::Mutex;
use tokio::sync::mpsc::{self, UnboundedReceiver, UnboundedSender};
use tokio::task::JoinSet;

use super::{Client, EVENT_BYTES};
use crate::passing::{Receiver, Sender};

const TABLE: &str = "create table bench_events (id bigserial primary key, payload bytea not null)";
/// Connections of a producer that waits for nobody: each has one event on its way.
const SENDERS: usize = 16;
/// How long a consumer that finds nothing waits, and how often before it gives up.
const POLL: Duration = Duration::from_millis(1);
const POLLS_MAX: u32 = 30_000;
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

    fn wait(&mut self, waiting: usize, time: Duration) -> Result<Vec<u32>> {
        ensure!(waiting <= self.connections.len(), "{waiting} producers, each with a connection");
        let waiting: Vec<PgConnection> = self.connections.drain(..waiting).collect();
        let (connections, taken) = self.runtime.block_on(async {
            let until = Instant::now() + time;
            let mut tasks = JoinSet::new();
            for connection in waiting {
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
        self.connections.extend(connections);
        Ok(taken)
    }

    fn stored(&mut self) -> Result<Option<u64>> {
        let beside = &mut self.beside;
        let (events,): (i64,) = self.runtime.block_on(async {
            sqlx::query_as("select count(*) from bench_events").fetch_one(beside).await
        })?;
        u64::try_from(events).map(Some).context("the table has fewer rows than none")
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

/// A producer that waits for nobody, and a consumer that asks again and again.
pub(super) fn pass(address: &str) -> Result<(Box<dyn Sender>, Box<dyn Receiver>)> {
    let Postgres { connections, beside, runtime } = Postgres::connect(address, SENDERS)?;
    drop(beside);
    let (sender, events) = mpsc::unbounded_channel();
    // Ends with the sender.
    thread::spawn(move || runtime.block_on(insert_all(connections, events)));
    let runtime = Builder::new_current_thread().enable_all().build().context("no runtime can be made")?;
    let connection =
        runtime.block_on(PgConnection::connect(address)).context("the server cannot be reached")?;
    let consumer = Consumer { connection, came: Came::default(), runtime };
    Ok((Box::new(Producer(sender)), Box::new(consumer)))
}

/// Whichever connection has nothing to do takes the next event.
async fn insert_all(connections: Vec<PgConnection>, events: UnboundedReceiver<Vec<u8>>) {
    let events = Arc::new(Mutex::new(events));
    let mut tasks = JoinSet::new();
    for mut connection in connections {
        let events = Arc::clone(&events);
        tasks.spawn(async move {
            loop {
                let Some(event) = events.lock().await.recv().await else { return };
                let insert = sqlx::query("insert into bench_events (payload) values ($1)").bind(event);
                if insert.execute(&mut connection).await.is_err() {
                    // The consumer waits for the event, and says that it has not come.
                    return;
                }
            }
        });
    }
    tasks.join_all().await;
}

struct Producer(UnboundedSender<Vec<u8>>);

impl Sender for Producer {
    fn send(&mut self, payload: &[u8]) -> Result<()> {
        self.0.send(payload.to_vec()).ok().context("the server stores no events any more")
    }
}

struct Consumer {
    connection: PgConnection,
    came: Came,
    /// After the connection, which it drives to the end.
    runtime: Runtime,
}

impl Receiver for Consumer {
    fn receive(&mut self) -> Result<Vec<Vec<u8>>> {
        let Consumer { connection, came, runtime } = self;
        runtime.block_on(async {
            for _ in 0..POLLS_MAX {
                let rows: Vec<(i64, Vec<u8>)> =
                    sqlx::query_as("select id, payload from bench_events where id > $1 order by id")
                        .bind(came.all_up_to)
                        .fetch_all(&mut *connection)
                        .await?;
                let rows = rows.into_iter().filter(|(id, _)| came.is_new(*id));
                let events: Vec<Vec<u8>> = rows.map(|(_, payload)| payload).collect();
                if !events.is_empty() {
                    return Ok(events);
                }
                tokio::time::sleep(POLL).await;
            }
            bail!("no event came in time")
        })
    }
}

/// Ids of events that have come. They are given out in order, and their transactions end in any.
#[derive(Default)]
struct Came {
    all_up_to: i64,
    beyond: BTreeSet<i64>,
}

impl Came {
    fn is_new(&mut self, id: i64) -> bool {
        if id <= self.all_up_to || !self.beyond.insert(id) {
            return false;
        }
        while self.beyond.remove(&(self.all_up_to + 1)) {
            self.all_up_to += 1;
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_that_comes_late_is_not_passed_over() {
        let mut came = Came::default();
        assert!(came.is_new(1) && came.is_new(3) && !came.is_new(3));
        assert_eq!(came.all_up_to, 1);
        assert!(came.is_new(2) && !came.is_new(3));
        assert_eq!((came.all_up_to, came.beyond.len()), (3, 0));
    }
}
