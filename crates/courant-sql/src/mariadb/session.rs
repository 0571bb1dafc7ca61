//! Connections: opened when they are wanted, up to a number, each used by one at a time.
//!
//! Whoever uses a connection holds it, and gives it back only after a clean end. Everything else, a
//! dropped future among it, drops the connection, and the server is told to end one that may have locks: it
//! would notice that its client is gone only when the statement is over, and hold them until then.
//! No state of a transaction is ever carried over. The driver's own pool would roll back and go on with it.

use std::fmt;
use std::ops::{Deref, DerefMut};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use sqlx::mysql::{MySqlConnectOptions, MySqlTransactionManager};
use sqlx::{AssertSqlSafe, ConnectOptions as _, Connection as _, MySqlConnection, Row as _, SqlSafeStr as _};
// The driver counts transactions inside each other through it, and sqlx itself does not give its name.
use sqlx_core::transaction::TransactionManager as _;
use tokio::runtime::Handle;

use super::class::{class_of, failed};
use super::row::Columns;
use crate::answers::{is_silence, within};
use crate::error::{Class, ConnectError, StoreError};
use crate::limits::{ANSWER_MAX, BUSY_TIMEOUT_MS, EVENT_BYTES_MAX, REUSED_MAX};
use crate::places::{For, Place, Places};

/// What the server is told about a new connection: a value that does not fit is an error and is not cut,
/// a COMMIT begins nothing new, and a single statement sees what is committed. Answers with its number.
const SETTINGS: &str = "SET SESSION sql_mode = CONCAT(@@sql_mode, ',STRICT_ALL_TABLES,STRICT_TRANS_TABLES'), \
     SESSION completion_type = 'NO_CHAIN', SESSION tx_isolation = 'READ-COMMITTED'; \
     SELECT CAST(CONNECTION_ID() AS SIGNED)";

const OPEN: &str = "open a connection";

/// Statements need what this version has: SKIP LOCKED, and lists as JSON.
const VERSION_MIN: (u32, u32) = (10, 6);

/// Bytes of a packet besides those of its event.
const PACKET_BYTES_BESIDES: usize = 64 * 1024;

/// Connections to one database.
pub(super) struct Pool {
    options: MySqlConnectOptions,
    places: Places,
    /// Those that nobody uses, the last used one at the end.
    idle: Mutex<Vec<Connected>>,
}

/// An open connection, and its number in the server.
struct Connected {
    connection: MySqlConnection,
    id: i64,
}

/// A connection in use. Dropped, it is closed.
pub(super) struct Session {
    // Dropped before the hold, so that there are never more of them than places.
    connection: MySqlConnection,
    hold: Hold,
}

/// What a connection in use has of the pool.
struct Hold {
    pool: Arc<Pool>,
    id: i64,
    place: Option<Place>,
    /// It was begun to write, and has not ended.
    has_locks: bool,
}

impl Pool {
    pub(super) fn new(options: MySqlConnectOptions, connections: u32) -> Self {
        let places = Places::new(usize::try_from(connections).unwrap_or(usize::MAX));
        Self { options, places, idle: Mutex::default() }
    }

    fn idle(&self) -> MutexGuard<'_, Vec<Connected>> {
        // Whoever panicked has at most lost a connection.
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take(&self) -> Option<Connected> {
        self.idle().pop()
    }

    /// One that nobody used is of no use. If nothing came from the server, the others lead to the same
    /// nowhere, and would be waited for one after the other.
    fn doubt(&self, error: &sqlx::Error) {
        if is_silence(error) {
            self.idle().clear();
        }
    }

    async fn place(&self, wanted: For) -> Result<Place, sqlx::Error> {
        self.places.get(wanted).await.ok_or(sqlx::Error::PoolClosed)
    }

    async fn connect(&self) -> Result<Connected, sqlx::Error> {
        let mut connection = self.options.connect().await?;
        let row = sqlx::raw_sql(SETTINGS).fetch_one(&mut connection).await?;
        Ok(Connected { connection, id: row.try_get::<i64, usize>(0)? })
    }

    /// Ends a connection that was dropped, whatever the server is doing for it. If this fails the server
    /// notices later.
    async fn end(&self, id: i64) {
        let ending = async {
            let mut connection = self.options.connect().await?;
            // The text is made of a number and nothing else.
            let ended = sqlx::raw_sql(AssertSqlSafe(format!("KILL CONNECTION {id}")))
                .execute(&mut connection)
                .await
                .map(|_| ());
            connection.close().await?;
            ended
        };
        // The one that was ended by itself is unknown to the server: no error.
        let _: Result<Result<(), sqlx::Error>, _> =
            tokio::time::timeout(Duration::from_millis(BUSY_TIMEOUT_MS), ending).await;
    }
}

impl Session {
    fn new(connected: Connected, place: Place, pool: &Arc<Pool>) -> Self {
        let Connected { connection, id } = connected;
        let hold = Hold { pool: Arc::clone(pool), id, place: Some(place), has_locks: false };
        Self { connection, hold }
    }

    /// To be told to the server when it is dropped.
    fn with_locks(mut self) -> Self {
        self.hold.has_locks = true;
        self
    }

    /// Waits for a connection that answers.
    pub(super) async fn open(pool: &Arc<Pool>) -> Result<Self, StoreError> {
        Self::opened(pool).await.map_err(failed(OPEN))
    }

    async fn opened(pool: &Arc<Pool>) -> Result<Self, sqlx::Error> {
        let place = pool.place(For::Anybody).await?;
        while let Some(mut connected) = pool.take() {
            // The server may have been started anew since it was used.
            match within(REUSED_MAX, connected.connection.ping()).await {
                Ok(()) => return Ok(Self::new(connected, place, pool)),
                Err(error) => pool.doubt(&error),
            }
        }
        Ok(Self::new(within(ANSWER_MAX, pool.connect()).await?, place, pool))
    }

    /// Waits for a connection and begins a transaction on it that writes. `begin` is made by this crate,
    /// and may go on with a savepoint.
    pub(super) async fn begin(pool: &Arc<Pool>, begin: &str) -> Result<Self, sqlx::Error> {
        Self::begin_for(For::Anybody, pool, begin).await
    }

    /// [`Session::begin`], for somebody.
    pub(super) async fn begin_for(wanted: For, pool: &Arc<Pool>, begin: &str) -> Result<Self, sqlx::Error> {
        Ok(Self::begun(wanted, pool, begin).await?.with_locks())
    }

    /// [`Session::begin`], for a transaction that has no locks.
    pub(super) async fn begin_to_read(pool: &Arc<Pool>, begin: &str) -> Result<Self, sqlx::Error> {
        Self::begun(For::Anybody, pool, begin).await
    }

    async fn begun(wanted: For, pool: &Arc<Pool>, begin: &str) -> Result<Self, sqlx::Error> {
        let place = pool.place(wanted).await?;
        loop {
            let (mut connected, is_new) = match pool.take() {
                Some(connected) => (connected, false),
                None => (within(ANSWER_MAX, pool.connect()).await?, true),
            };
            let statement = AssertSqlSafe(begin.to_owned()).into_sql_str();
            let max = if is_new { ANSWER_MAX } else { REUSED_MAX };
            let begun = MySqlTransactionManager::begin(&mut connected.connection, Some(statement));
            match within(max, begun).await {
                Ok(()) => return Ok(Self::new(connected, place, pool)),
                // Nothing was done on it yet. One that was opened before a failover still leads to the server
                // that was the primary then.
                Err(error)
                    if !is_new && matches!(class_of(&error), Class::ConnectionLost | Class::Standby) =>
                {
                    pool.doubt(&error);
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// How many transactions are open inside each other, as the driver counts them.
    pub(super) fn depth(&self) -> usize {
        MySqlTransactionManager::get_transaction_depth(&self.connection)
    }

    /// Commits and gives the connection back.
    pub(super) async fn commit(mut self) -> Result<(), sqlx::Error> {
        within(ANSWER_MAX, MySqlTransactionManager::commit(&mut self.connection)).await?;
        self.give_back();
        Ok(())
    }

    /// Rolls back and gives the connection back; closes it if it is in any other state than expected.
    pub(super) async fn rollback(mut self) -> Result<(), sqlx::Error> {
        if self.depth() != 1 {
            return Ok(());
        }
        within(ANSWER_MAX, MySqlTransactionManager::rollback(&mut self.connection)).await?;
        self.give_back();
        Ok(())
    }

    /// Gives the connection back when nothing is open on it.
    pub(super) fn give_back(self) {
        let Self { connection, mut hold } = self;
        hold.has_locks = false;
        hold.pool.idle().push(Connected { connection, id: hold.id });
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        if !self.has_locks {
            return;
        }
        // Outside of a runtime there is nobody who could tell the server.
        let Ok(runtime) = Handle::try_current() else { return };
        let (pool, place, id) = (Arc::clone(&self.pool), self.place.take(), self.id);
        runtime.spawn(async move {
            pool.end(id).await;
            drop(place);
        });
    }
}

/// Whether the server is one that the store can work with, and how large an event it takes.
pub(super) async fn look_at_server(session: &mut Session) -> Result<usize, ConnectError> {
    let row = sqlx::raw_sql("SELECT VERSION(), CAST(@@max_allowed_packet AS SIGNED)")
        .fetch_one(&mut **session)
        .await
        .map_err(failed(OPEN))?;
    let columns = Columns::new(&row, OPEN);
    let found = columns.text(0)?;
    if !is_known(&found) {
        return Err(ConnectError::Server { found, needed: "MariaDB 10.6 or later" });
    }
    let packet: usize = columns.number(1)?;
    Ok(packet.saturating_sub(PACKET_BYTES_BESIDES).min(EVENT_BYTES_MAX))
}

/// `10.11.19-MariaDB-0+deb12u1`, for example.
fn is_known(version: &str) -> bool {
    let mut numbers = version.split(|character: char| !character.is_ascii_digit());
    let mut next = || numbers.next().and_then(|number| number.parse::<u32>().ok()).unwrap_or(0);
    let found = (next(), next());
    version.contains("MariaDB") && found >= VERSION_MIN
}

impl Deref for Session {
    type Target = MySqlConnection;

    fn deref(&self) -> &MySqlConnection {
        &self.connection
    }
}

impl DerefMut for Session {
    fn deref_mut(&mut self) -> &mut MySqlConnection {
        &mut self.connection
    }
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Its options know the password.
        f.debug_struct("Pool")
            .field("host", &self.options.get_host())
            .field("port", &self.options.get_port())
            .field("database", &self.options.get_database())
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session").field("pool", &self.hold.pool).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn other_servers_and_older_ones_are_told_apart() {
        for version in ["10.6.0-MariaDB", "10.11.19-MariaDB-0+deb12u1", "11.4.2-MariaDB-log"] {
            assert!(is_known(version), "{version}");
        }
        for version in ["10.5.23-MariaDB", "8.0.36", "8.4.0-commercial", "MariaDB", ""] {
            assert!(!is_known(version), "{version}");
        }
    }
}
