//! Connections: opened when they are wanted, up to a number, each used by one at a time.
//!
//! Whoever uses a connection holds it, and gives it back only after a clean end. Everything else, a
//! dropped future among it, drops the connection: the server then rolls back what was open. No state of
//! a transaction is ever carried over. The driver's own pool would roll back and go on with it.

use std::fmt;
use std::ops::{Deref, DerefMut};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use sqlx::postgres::{PgConnectOptions, PgTransactionManager};
use sqlx::{AssertSqlSafe, ConnectOptions as _, Connection as _, PgConnection, SqlSafeStr as _};
// The driver counts transactions inside each other through it, and sqlx itself does not give its name.
use sqlx_core::transaction::TransactionManager as _;

use super::class::{class_of_begin, failed};
use crate::answers::{is_silence, within};
use crate::error::{Class, StoreError};
use crate::limits::{ANSWER_MAX, REUSED_MAX};
use crate::places::{For, Place, Places};

/// What the server is told about a new connection, where it knows the setting: to notice within
/// seconds that its client is gone, also in the middle of a statement, because the client's locks
/// keep others waiting; and to answer a commit only when it is flushed.
const SETTINGS: &str = "SELECT set_config(wanted.name, wanted.value, false) \
     FROM (VALUES ('client_connection_check_interval', '1000'), ('tcp_keepalives_idle', '15'), \
         ('tcp_keepalives_interval', '5'), ('tcp_keepalives_count', '3')) AS wanted (name, value) \
     WHERE current_setting(wanted.name, true) IS NOT NULL \
     UNION ALL SELECT set_config('synchronous_commit', 'on', false) \
     WHERE current_setting('synchronous_commit') = 'off'";

/// Connections to one database.
pub(super) struct Pool {
    options: PgConnectOptions,
    places: Places,
    /// Those that nobody uses, the last used one at the end.
    idle: Mutex<Vec<PgConnection>>,
}

/// A connection in use. Dropped, it is closed.
pub(super) struct Session {
    // Dropped before the place, so that there are never more of them than places.
    connection: PgConnection,
    place: Place,
    pool: Arc<Pool>,
}

impl Pool {
    pub(super) fn new(options: PgConnectOptions, connections: u32) -> Self {
        let places = Places::new(usize::try_from(connections).unwrap_or(usize::MAX));
        Self { options, places, idle: Mutex::default() }
    }

    /// How its connections are made.
    pub(super) fn options(&self) -> &PgConnectOptions {
        &self.options
    }

    fn idle(&self) -> MutexGuard<'_, Vec<PgConnection>> {
        // Whoever panicked has at most lost a connection.
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take(&self) -> Option<PgConnection> {
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

    async fn connect(&self) -> Result<PgConnection, sqlx::Error> {
        let mut connection = self.options.connect().await?;
        match sqlx::query(SETTINGS).persistent(false).execute(&mut connection).await {
            // A server that cannot do it on its system does without.
            Ok(_) | Err(sqlx::Error::Database(_)) => Ok(connection),
            Err(error) => Err(error),
        }
    }
}

impl Session {
    /// Waits for a connection that answers.
    pub(super) async fn open(pool: &Arc<Pool>) -> Result<Self, StoreError> {
        Self::opened(pool).await.map_err(failed("open a connection"))
    }

    async fn opened(pool: &Arc<Pool>) -> Result<Self, sqlx::Error> {
        let place = pool.place(For::Anybody).await?;
        while let Some(mut connection) = pool.take() {
            // The server may have been started anew since it was used.
            match within(REUSED_MAX, connection.ping()).await {
                Ok(()) => return Ok(Self { connection, place, pool: Arc::clone(pool) }),
                Err(error) => pool.doubt(&error),
            }
        }
        let connection = within(ANSWER_MAX, pool.connect()).await?;
        Ok(Self { connection, place, pool: Arc::clone(pool) })
    }

    /// Waits for a connection and begins a transaction on it. `begin` is made by this crate, and may go
    /// on with a savepoint.
    pub(super) async fn begin(pool: &Arc<Pool>, begin: &str) -> Result<Self, sqlx::Error> {
        Self::begin_for(For::Anybody, pool, begin).await
    }

    /// [`Session::begin`], for somebody.
    pub(super) async fn begin_for(wanted: For, pool: &Arc<Pool>, begin: &str) -> Result<Self, sqlx::Error> {
        let place = pool.place(wanted).await?;
        loop {
            let (mut connection, is_new) = match pool.take() {
                Some(connection) => (connection, false),
                None => (within(ANSWER_MAX, pool.connect()).await?, true),
            };
            let statement = AssertSqlSafe(begin.to_owned()).into_sql_str();
            let max = if is_new { ANSWER_MAX } else { REUSED_MAX };
            match within(max, PgTransactionManager::begin(&mut connection, Some(statement))).await {
                Ok(()) => return Ok(Self { connection, place, pool: Arc::clone(pool) }),
                // Nothing was done on it yet. One that was opened before a failover still leads to the server
                // that was the primary then.
                Err(error)
                    if !is_new
                        && matches!(class_of_begin(&error), Class::ConnectionLost | Class::Standby) =>
                {
                    pool.doubt(&error);
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// How many transactions are open inside each other, as the driver counts them.
    pub(super) fn depth(&self) -> usize {
        PgTransactionManager::get_transaction_depth(&self.connection)
    }

    /// Commits and gives the connection back.
    pub(super) async fn commit(mut self) -> Result<(), sqlx::Error> {
        within(ANSWER_MAX, PgTransactionManager::commit(&mut self.connection)).await?;
        self.give_back();
        Ok(())
    }

    /// Rolls back and gives the connection back; closes it if it is in any other state than expected.
    pub(super) async fn rollback(mut self) -> Result<(), sqlx::Error> {
        if self.depth() != 1 {
            return Ok(());
        }
        within(ANSWER_MAX, PgTransactionManager::rollback(&mut self.connection)).await?;
        self.give_back();
        Ok(())
    }

    /// Gives the connection back when nothing is open on it.
    pub(super) fn give_back(self) {
        let Self { connection, place, pool } = self;
        pool.idle().push(connection);
        drop(place);
    }
}

impl Deref for Session {
    type Target = PgConnection;

    fn deref(&self) -> &PgConnection {
        &self.connection
    }
}

impl DerefMut for Session {
    fn deref_mut(&mut self) -> &mut PgConnection {
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
        f.debug_struct("Session").field("pool", &self.pool).finish_non_exhaustive()
    }
}
