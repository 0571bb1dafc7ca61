//! Connections: opened when they are wanted, up to a number, each used by one at a time.
//!
//! Whoever uses a connection holds it, and gives it back only after a clean end. Everything else, a
//! dropped future among it, drops the connection, and the server is told to end one that may have locks: it
//! would notice that its client is gone only when the statement is over, and hold them until then.
//! No state of a transaction is ever carried over. The driver's own pool would roll back and go on with it.
//!
//! A transaction is begun and ended in texts of several statements, so that nobody waits for an answer in
//! between. The server does what stands in a text up to the first statement that it refuses, and answers each.

use std::fmt;
use std::ops::{Deref, DerefMut};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::TryStreamExt as _;
use sqlx::mysql::{MySqlConnectOptions, MySqlRow, MySqlTransactionManager};
use sqlx::{AssertSqlSafe, ConnectOptions as _, Connection as _, Either, MySqlConnection};
// The driver counts transactions inside each other through it, and sqlx itself does not give its name.
use sqlx_core::transaction::TransactionManager as _;
use tokio::runtime::Handle;

use super::class::{class_of, failed, is_of_connection};
use super::row::Columns;
use super::told;
use super::who::{self, Who};
use crate::answers::{is_silence, within};
use crate::error::{Class, ConnectError, StoreError};
use crate::idle::Idle;
use crate::limits::{ANSWER_MAX, EVENT_BYTES_MAX, REUSED_MAX};
use crate::places::{For, Place, Places};

/// What the server is told about a new connection: a value that does not fit is an error and is not cut,
/// a COMMIT begins nothing new, and a single statement sees what is committed. What the driver has begun is ended first.
const SETTINGS: &str = "ROLLBACK; \
     SET SESSION sql_mode = CONCAT(@@sql_mode, ',STRICT_ALL_TABLES,STRICT_TRANS_TABLES'), \
     SESSION completion_type = 'NO_CHAIN', SESSION tx_isolation = 'READ-COMMITTED'";

const OPEN: &str = "open a connection";

/// Statements need what this version has: SKIP LOCKED, and lists as JSON.
const VERSION_MIN: (u32, u32) = (10, 6);

/// Bytes of a packet besides those of its event.
const PACKET_BYTES_BESIDES: usize = 64 * 1024;

/// How many transactions may begin with the commit before them, one after the other, while handlers wait for
/// the connection. Of as many handlers as connections some always wait: places are left for others.
const GONE_ON_MAX: u32 = 8;

/// The shortest time for a statement that is one, in the whole milliseconds in which it is told.
const STATEMENT_MIN: Duration = Duration::from_millis(1);

/// The longest time for a statement that the server takes.
const STATEMENT_MAX: Duration = Duration::from_secs(31_536_000);

/// How long what begins behind a commit may wait, with each of its statements: for a copy of its event that another
/// process handles, say. Whoever waits for the answer to the commit waits with it.
const BEHIND_COMMIT_MAX: Duration = Duration::from_secs(2);

/// Connections to one database.
pub(super) struct Pool {
    options: MySqlConnectOptions,
    places: Places,
    /// Those that nobody uses.
    idle: Mutex<Idle<Connected>>,
    /// Numbers savepoints, so that no handler meets a name of its own by accident.
    savepoints: AtomicU64,
    /// How long a statement may take before the server ends it; `None`: as the server is set.
    statement_max: Option<Duration>,
}

/// An open connection, and who it is in the server. The driver takes it for one with a transaction, also when
/// there is none: so what a handler begins on it is a savepoint.
struct Connected {
    connection: MySqlConnection,
    who: Who,
    /// It was told what handlers need.
    is_told: bool,
}

/// A connection in use. Dropped, it is closed.
pub(super) struct Session {
    // Dropped before the hold, so that there are never more of them than places.
    connection: MySqlConnection,
    hold: Hold,
    /// Who uses it.
    user: For,
    /// It was told what handlers need.
    is_told: bool,
    /// How many transactions have begun with the commit before them since it was taken.
    gone_on: u32,
}

/// What the server has answered to a text.
#[derive(Default)]
pub(super) struct Said {
    /// How many of its statements it has done.
    statements: usize,
    /// How many rows the last one of these has written.
    written: u64,
    /// What they have read, each row with the number of its statement.
    read: Vec<(usize, MySqlRow)>,
}

/// Why a transaction was not committed.
pub(super) enum NotCommitted {
    /// A statement before COMMIT was refused, and COMMIT not looked at.
    Before(sqlx::Error),
    /// It is not known how far the server has come.
    AtCommit(sqlx::Error),
}

/// What a connection in use has of the pool.
struct Hold {
    pool: Arc<Pool>,
    who: Who,
    place: Option<Place>,
    /// It was begun to write, and has not ended.
    has_locks: bool,
}

impl Pool {
    pub(super) fn new(options: MySqlConnectOptions, connections: u32) -> Self {
        let places = Places::new(usize::try_from(connections).unwrap_or(usize::MAX));
        let (idle, savepoints) = (Mutex::new(Idle::new()), AtomicU64::new(0));
        Self { options, places, idle, savepoints, statement_max: None }
    }

    /// Has the server end each statement that takes longer, for waiting for a lock as well.
    pub(super) fn with_statement_max(self, max: Duration) -> Self {
        Self { statement_max: Some(max), ..self }
    }

    /// A number for a savepoint, which no other one has.
    pub(super) fn next_savepoint(&self) -> u64 {
        self.savepoints.fetch_add(1, Ordering::Relaxed)
    }

    fn idle(&self) -> MutexGuard<'_, Idle<Connected>> {
        // Whoever panicked has at most lost a connection.
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take(&self, wanted: For) -> Option<Connected> {
        self.idle().take(wanted)
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
        // The driver counts what it has begun itself, and nothing else.
        MySqlTransactionManager::begin(&mut connection, None).await?;
        let text = AssertSqlSafe(format!("{SETTINGS}; {}", who::ASKED));
        let row = sqlx::raw_sql(text).fetch_one(&mut connection).await?;
        if let Some(max) = self.statement_max {
            // In seconds; 0 would be without an end. The text is made of a number and nothing else.
            let seconds = max.clamp(STATEMENT_MIN, STATEMENT_MAX).as_secs_f64();
            let sql = format!("SET SESSION max_statement_time = {seconds:.3}");
            sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut connection).await?;
        }
        Ok(Connected { connection, who: Who::of(&row)?, is_told: false })
    }
}

impl Session {
    fn new(connected: Connected, place: Place, user: For, pool: &Arc<Pool>) -> Self {
        let Connected { connection, who, is_told } = connected;
        let hold = Hold { pool: Arc::clone(pool), who, place: Some(place), has_locks: false };
        Self { connection, hold, user, is_told, gone_on: 0 }
    }

    /// Gives the place to another connection. The server is told to end this one if it may have locks.
    fn leave(mut self, may_have_locks: bool) -> Option<Place> {
        self.hold.has_locks &= may_have_locks;
        self.hold.place.take()
    }

    /// Waits for a connection that answers.
    pub(super) async fn open(pool: &Arc<Pool>) -> Result<Self, StoreError> {
        Self::opened(pool).await.map_err(failed(OPEN))
    }

    async fn opened(pool: &Arc<Pool>) -> Result<Self, sqlx::Error> {
        let place = pool.place(For::Anybody).await?;
        while let Some(mut connected) = pool.take(For::Anybody) {
            // The server may have been started anew since it was used.
            match within(REUSED_MAX, connected.connection.ping()).await {
                Ok(()) => return Ok(Self::new(connected, place, For::Anybody, pool)),
                Err(error) => pool.doubt(&error),
            }
        }
        Ok(Self::new(within(ANSWER_MAX, pool.connect()).await?, place, For::Anybody, pool))
    }

    /// Waits for a connection and begins a transaction on it that writes. `begin` is made by this crate,
    /// and may go on with a savepoint.
    pub(super) async fn begin(pool: &Arc<Pool>, begin: &str) -> Result<Self, sqlx::Error> {
        let (session, _) = Self::begin_for(For::Anybody, pool, begin).await?;
        Ok(session)
    }

    /// [`Session::begin`], for somebody, and what the server has said.
    pub(super) async fn begin_for(
        wanted: For,
        pool: &Arc<Pool>,
        begin: &str,
    ) -> Result<(Self, Said), sqlx::Error> {
        Self::begun(wanted, pool, begin, true).await
    }

    /// [`Session::begin`], for a transaction that has no locks.
    pub(super) async fn begin_to_read(pool: &Arc<Pool>, begin: &str) -> Result<Self, sqlx::Error> {
        let (session, _) = Self::begun(For::Anybody, pool, begin, false).await?;
        Ok(session)
    }

    async fn begun(
        wanted: For,
        pool: &Arc<Pool>,
        begin: &str,
        has_locks: bool,
    ) -> Result<(Self, Said), sqlx::Error> {
        let mut place = pool.place(wanted).await?;
        loop {
            let (connected, is_new) = match pool.take(wanted) {
                Some(connected) => (connected, false),
                None => (within(ANSWER_MAX, pool.connect()).await?, true),
            };
            let mut session = Self::new(connected, place, wanted, pool);
            session.hold.has_locks = has_locks;
            let mut said = Said::default();
            let is_to_be_told = wanted == For::Handler && !session.is_told;
            let once = if is_to_be_told { told::all() + "; " } else { String::new() };
            let text = once + begin;
            // The first answer says that the server is there. The last one may have to wait for a row.
            let first_max = if is_new { ANSWER_MAX } else { REUSED_MAX };
            let max = |answered: usize| if answered == 0 { first_max } else { ANSWER_MAX };
            match within(ANSWER_MAX, tell_in_time(&mut session.connection, &text, &mut said, max)).await {
                Ok(()) => {
                    session.is_told |= is_to_be_told;
                    return Ok((session, said));
                }
                // The server is there, and waits for a row. On another connection it would wait for the same one.
                Err(error) if said.statements > 0 && is_silence(&error) => return Err(error),
                // Nothing was committed on it yet. One that was opened before a failover still leads to the server
                // that was the primary then.
                Err(error)
                    if !is_new && matches!(class_of(&error), Class::ConnectionLost | Class::Standby) =>
                {
                    if said.statements == 0 {
                        pool.doubt(&error);
                    }
                    // The server may be waiting for a row, and hold others meanwhile.
                    let Some(left) = session.leave(is_silence(&error)) else { return Err(error) };
                    place = left;
                }
                Err(error) => {
                    session.undo_behind(&error).await;
                    return Err(error);
                }
            }
        }
    }

    /// What had begun before a statement was refused is rolled back. Where nothing was answered, nobody knows what
    /// has begun, and the connection is closed.
    async fn undo_behind(self, error: &sqlx::Error) {
        if matches!(error, sqlx::Error::Database(_)) {
            // The refusal is what matters; the connection is closed if this fails.
            let _: Result<(), sqlx::Error> = self.rollback().await;
        }
    }

    /// How many transactions are open inside each other, as the driver counts them.
    pub(super) fn depth(&self) -> usize {
        MySqlTransactionManager::get_transaction_depth(&self.connection)
    }

    /// Commits and gives the connection back.
    pub(super) async fn commit(mut self) -> Result<(), sqlx::Error> {
        within(ANSWER_MAX, tell(&mut self.connection, "COMMIT", &mut Said::default())).await?;
        self.give_back();
        Ok(())
    }

    /// Commits behind statements that have to succeed before, so many of them, and gives the connection back.
    pub(super) async fn commit_behind(mut self, before: &str, statements: usize) -> Result<(), NotCommitted> {
        let mut said = Said::default();
        let text = format!("{before}; COMMIT");
        let told = within(ANSWER_MAX, tell(&mut self.connection, &text, &mut said)).await;
        told.map_err(|error| said.not_committed(error, statements))?;
        self.give_back();
        Ok(())
    }

    /// [`Session::commit_behind`], and begins the next transaction on the same connection. `None` of one that was
    /// not begun behind a commit, or not within [`BEHIND_COMMIT_MAX`]. What the server has said of all of it.
    pub(super) async fn commit_and_begin(
        mut self,
        before: &str,
        statements: usize,
        begin: &str,
    ) -> Result<Option<(Self, Said)>, NotCommitted> {
        let mut said = Said::default();
        let text = format!("{before}; COMMIT; {begin}");
        let max = |answered: usize| if answered > statements { BEHIND_COMMIT_MAX } else { ANSWER_MAX };
        match within(ANSWER_MAX, tell_in_time(&mut self.connection, &text, &mut said, max)).await {
            Ok(()) => {
                self.gone_on = self.gone_on.saturating_add(1);
                Ok(Some((self, said)))
            }
            // COMMIT is one of the statements that the server has done.
            Err(error) if said.statements > statements => {
                self.undo_behind(&error).await;
                Ok(None)
            }
            Err(error) => Err(said.not_committed(error, statements)),
        }
    }

    /// Whether the next transaction may begin with the commit: nobody waits for its place who is not to wait. A
    /// handler may wait for a few transactions of another one.
    pub(super) fn may_go_on(&self) -> bool {
        let places = &self.hold.pool.places;
        let has_gone_on = self.gone_on >= GONE_ON_MAX;
        !(places.is_wanted(For::Anybody) || has_gone_on && places.is_wanted(For::Handler))
    }

    /// A number for a savepoint, which no other one has.
    pub(super) fn next_savepoint(&self) -> u64 {
        self.hold.pool.next_savepoint()
    }

    /// Rolls back and gives the connection back; closes it if it is in any other state than expected.
    pub(super) async fn rollback(mut self) -> Result<(), sqlx::Error> {
        if self.depth() != 1 {
            return Ok(());
        }
        within(ANSWER_MAX, tell(&mut self.connection, "ROLLBACK", &mut Said::default())).await?;
        self.give_back();
        Ok(())
    }

    /// Gives the connection back when nothing is open on it.
    pub(super) fn give_back(self) {
        let Self { connection, mut hold, user, is_told, .. } = self;
        hold.has_locks = false;
        hold.pool.idle().give_back(user, Connected { connection, who: hold.who.clone(), is_told });
    }
}

/// Has the server do what stands in a text, which this crate has made.
async fn tell(connection: &mut MySqlConnection, text: &str, said: &mut Said) -> Result<(), sqlx::Error> {
    tell_in_time(connection, text, said, |_| ANSWER_MAX).await
}

/// [`tell`], where `max` says how long the next answer may take, by how many statements were answered before. The
/// server sends each answer when it has it.
async fn tell_in_time(
    connection: &mut MySqlConnection,
    text: &str,
    said: &mut Said,
    max: impl Fn(usize) -> Duration + Send,
) -> Result<(), sqlx::Error> {
    let mut answers = sqlx::raw_sql(AssertSqlSafe(text.to_owned())).fetch_many(connection);
    loop {
        let next_max = max(said.statements);
        match within(next_max, answers.try_next()).await? {
            Some(Either::Left(done)) => {
                said.statements += 1;
                said.written = done.rows_affected();
            }
            Some(Either::Right(row)) => said.read.push((said.statements, row)),
            None => return Ok(()),
        }
    }
}

impl Said {
    /// The first row that was read.
    pub(super) fn first(&self) -> Option<&MySqlRow> {
        self.read.first().map(|(_, row)| row)
    }

    /// The first row that a statement has read; the first statement is number 0.
    pub(super) fn first_of(&self, statement: usize) -> Option<&MySqlRow> {
        self.read.iter().find(|(number, _)| *number == statement).map(|(_, row)| row)
    }

    /// How many rows the last statement has written.
    pub(super) fn written(&self) -> u64 {
        self.written
    }

    /// Why a transaction was not committed behind so many statements. The server answers them in their order. A
    /// connection that has ended says nothing; of its end may speak a proxy, which does not know what the server has
    /// done.
    fn not_committed(&self, error: sqlx::Error, statements: usize) -> NotCommitted {
        let is_of_connection = is_of_connection(&error);
        match error {
            error @ sqlx::Error::Database(_) if self.statements < statements && !is_of_connection => {
                NotCommitted::Before(error)
            }
            error => NotCommitted::AtCommit(error),
        }
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        if !self.has_locks {
            return;
        }
        // Outside of a runtime there is nobody who could tell the server.
        let Ok(runtime) = Handle::try_current() else { return };
        let (pool, place, who) = (Arc::clone(&self.pool), self.place.take(), self.who.clone());
        runtime.spawn(async move {
            who.end(&pool.options).await;
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
