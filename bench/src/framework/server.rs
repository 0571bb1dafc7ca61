//! What measurements on the servers of databases have in common.

use std::future::Future;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use courant::store_api::{Store, Transaction as _};
use tokio::task::JoinSet;

use super::Run;
use super::through::KEYS;

/// Connections that the framework has besides those of handlers.
pub(super) const CONNECTIONS_MORE: u32 = 8;

/// The name of a database for one measurement.
pub(super) struct Named {
    pub(super) server: String,
    pub(super) name: String,
    pub(super) url: String,
}

impl Named {
    pub(super) fn new(server: &str) -> Result<Self> {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("courant_bench_{}_{number}", std::process::id());
        let (place, _) = server.rsplit_once('/').context("the server's address ends with a database")?;
        let url = format!("{place}/{name}");
        Ok(Self { server: server.to_owned(), name, url })
    }
}

/// By hand they are open before the time runs, too: to open one takes as long as a dozen effects.
pub(super) async fn open_connections<S: Store>(store: &S, connections: u32) -> Result<()> {
    let mut open = Vec::new();
    for _ in 0..connections {
        open.push(store.begin(None).await?);
    }
    for transaction in open {
        transaction.rollback().await?;
    }
    Ok(())
}

/// A connection over which effects are written by hand.
pub(super) trait Hand: Send + 'static {
    fn effect(&mut self, number: u32) -> impl Future<Output = Result<()>> + Send;
}

/// Writes the effects of all events, a writer for each connection, and how long that takes. A key is the business of
/// one of them, as it is in the framework.
pub(super) async fn write<H: Hand>(connections: Vec<H>, run: Run) -> Result<Duration> {
    let begun = Instant::now();
    let mut writing = JoinSet::new();
    for (writer, mut connection) in (0..run.writers).zip(connections) {
        writing.spawn(async move {
            for number in (0..run.events).filter(|number| number % KEYS % run.writers == writer) {
                connection.effect(number).await?;
            }
            Ok::<_, anyhow::Error>(connection)
        });
    }
    // They are closed when the time is over.
    let mut connections = Vec::new();
    while let Some(written) = writing.join_next().await {
        connections.push(written??);
    }
    Ok(begun.elapsed())
}

/// Fails unless each event has its bill.
pub(super) fn ensure_bills(bills: i64, events: u32) -> Result<()> {
    ensure!(bills == i64::from(events), "{bills} of {events} events were handled");
    Ok(())
}
