//! Connections: one that writes, one that reads, each used by one at a time.
//!
//! Whoever uses a connection holds it, and gives it back only after a clean end. Everything else, a
//! dropped future among it, drops the connection: SQLite then rolls back what was open, and the next
//! user gets a new one. No state of a transaction is ever carried over.
//!
//! A commit hook refuses every commit that the store has not asked for. So a `COMMIT` inside a handler
//! makes nothing last, and neither does a statement after its transaction has ended.

use std::ops::{Deref, DerefMut};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use sqlx::sqlite::{SqliteConnectOptions, SqliteTransactionManager};
use sqlx::{AssertSqlSafe, ConnectOptions as _, SqlSafeStr as _, SqliteConnection};
// The driver counts transactions inside each other through it, and sqlx itself does not give its name.
use sqlx_core::transaction::TransactionManager as _;
use tokio::sync::{Mutex, OwnedMutexGuard};

use super::OPEN;
use super::class::{GENERIC, LOCKED, failed, primary_code};
use super::home::Home;
use crate::error::StoreError;
use crate::places::Place;

/// How often a database in memory is opened again while it is locked.
const LOCKED_MAX: u32 = 10_000;

/// The place of a connection while nobody uses it.
pub(super) type Slot = Arc<Mutex<Option<Connected>>>;

/// An open connection.
#[derive(Debug)]
pub(super) struct Connected {
    connection: SqliteConnection,
    /// Commits pass only while this is set.
    gate: Arc<AtomicBool>,
}

/// A connection in use. Dropped, it is closed.
#[derive(Debug)]
pub(super) struct Session {
    // Dropped before the slot is free, so that two connections of one slot are never wanted at once.
    connected: Connected,
    slot: OwnedMutexGuard<Option<Connected>>,
    /// Its place among those who write.
    place: Option<Place>,
}

impl Connected {
    /// Connections to one database in memory share its cache, and one that is opened while another makes
    /// tables is turned away at once: no time-out of SQLite's helps. It is over in a moment.
    async fn open_unlocked(options: &SqliteConnectOptions) -> Result<Self, sqlx::Error> {
        for _ in 0..LOCKED_MAX {
            match Self::open(options).await {
                Err(error) if primary_code(&error) == Some(LOCKED) => tokio::task::yield_now().await,
                opened => return opened,
            }
        }
        Self::open(options).await
    }

    async fn open(options: &SqliteConnectOptions) -> Result<Self, sqlx::Error> {
        let mut connection = options.connect().await?;
        let gate = Arc::new(AtomicBool::new(false));
        let asked = Arc::clone(&gate);
        let mut handle = connection.lock_handle().await?;
        handle.set_commit_hook(move || asked.load(Ordering::SeqCst));
        drop(handle);
        Ok(Self { connection, gate })
    }
}

impl Session {
    /// Waits for the slot's connection, and opens one if there is none. The file has to be the one that was opened
    /// first.
    pub(super) async fn open(
        slot: &Slot,
        options: &SqliteConnectOptions,
        home: Option<&Home>,
    ) -> Result<Self, StoreError> {
        let mut slot = Arc::clone(slot).lock_owned().await;
        home.map_or(Ok(()), Home::check)?;
        let connected = match slot.take() {
            Some(connected) => connected,
            None => Connected::open_unlocked(options).await.map_err(failed(OPEN))?,
        };
        Ok(Self { connected, slot, place: None })
    }

    /// [`Session::open`], for somebody who has a place to write in.
    pub(super) async fn open_to_write(
        place: Place,
        slot: &Slot,
        options: &SqliteConnectOptions,
        home: Option<&Home>,
    ) -> Result<Self, StoreError> {
        Ok(Self { place: Some(place), ..Self::open(slot, options, home).await? })
    }

    /// Begins a transaction that may write, and a savepoint behind it if one is wanted: nobody else can until
    /// it ends. Every statement is a way to the connection's thread and back, so this is one text.
    pub(super) async fn begin(&mut self, savepoint: Option<u64>) -> Result<(), sqlx::Error> {
        let begin = match savepoint {
            None => "BEGIN IMMEDIATE".into_sql_str(),
            // The name is made of a number and nothing else.
            Some(number) => {
                AssertSqlSafe(format!("BEGIN IMMEDIATE; SAVEPOINT courant_{number}")).into_sql_str()
            }
        };
        SqliteTransactionManager::begin(&mut self.connected.connection, Some(begin)).await
    }

    /// How many transactions are open inside each other, as the driver counts them.
    pub(super) fn depth(&self) -> usize {
        SqliteTransactionManager::get_transaction_depth(&self.connected.connection)
    }

    /// Commits and gives the connection back.
    pub(super) async fn commit(mut self) -> Result<(), sqlx::Error> {
        self.connected.gate.store(true, Ordering::SeqCst);
        SqliteTransactionManager::commit(&mut self.connected.connection).await?;
        self.connected.gate.store(false, Ordering::SeqCst);
        self.give_back();
        Ok(())
    }

    /// Rolls back and gives the connection back; closes it if it is in any other state than expected.
    pub(super) async fn rollback(mut self) -> Result<(), sqlx::Error> {
        if self.depth() != 1 {
            return Ok(());
        }
        match SqliteTransactionManager::rollback(&mut self.connected.connection).await {
            Ok(()) => {
                self.give_back();
                Ok(())
            }
            // There was nothing to roll back any more.
            Err(error) if primary_code(&error) == Some(GENERIC) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Gives the connection back after reading.
    pub(super) fn give_back(self) {
        let Self { connected, mut slot, place } = self;
        *slot = Some(connected);
        drop(slot);
        drop(place);
    }
}

impl Deref for Session {
    type Target = SqliteConnection;

    fn deref(&self) -> &SqliteConnection {
        &self.connected.connection
    }
}

impl DerefMut for Session {
    fn deref_mut(&mut self) -> &mut SqliteConnection {
        &mut self.connected.connection
    }
}
