//! Connections: opened when they are wanted, up to a number, each used by one at a time.
//!
//! Whoever uses a connection holds it, and gives it back only after a clean end. Everything else, a
//! dropped future among it, drops the connection: the server then rolls back what was open. No state of
//! a transaction is ever carried over. The driver's own pool would roll back and go on with it.
//!
//! A transaction is begun and ended in texts of several statements, so that nobody waits for an answer in
//! between. The server does what stands in a text up to the first statement that it refuses.

use std::fmt;
use std::ops::{Deref, DerefMut};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::TryStreamExt as _;
use sqlx::postgres::{PgConnectOptions, PgTransactionManager};
use sqlx::{AssertSqlSafe, ConnectOptions as _, Connection as _, PgConnection, SqlSafeStr as _};
// The driver counts transactions inside each other through it, and sqlx itself does not give its name.
use sqlx_core::transaction::TransactionManager as _;

use super::class::{FORGOTTEN, class_of_begin, failed, sqlstate};
use super::told::{Once, Told};
use crate::answers::{is_silence, within};
use crate::error::{Class, StoreError};
use crate::idle::Idle;
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

/// How many transactions may begin with the commit before them, one after the other, while handlers wait for
/// the connection. Of as many handlers as connections some always wait: places are left for others.
const GONE_ON_MAX: u32 = 8;

/// The longest time for a statement that the server takes, in milliseconds.
const STATEMENT_MS_MAX: u128 = 2_147_483_647;

/// How long a server may take to answer a question for which it has nothing to do.
const ASKED_MAX: Duration = Duration::from_secs(5);

/// How the codes of what is about a connection begin.
const OF_CONNECTION: &str = "08";

/// Connections to one database.
pub(super) struct Pool {
    options: PgConnectOptions,
    places: Places,
    /// Those that nobody uses.
    idle: Mutex<Idle<Connected>>,
    /// Numbers transactions, so that no handler meets a name of its own by accident.
    numbers: AtomicU64,
    /// A handler makes its session forget what it was told. It does so each time.
    forgets: AtomicBool,
    /// How long a statement may take before the server ends it; `None`: as the server is set.
    statement_max: Option<Duration>,
}

/// An open connection. The driver takes it for one with a transaction, also when there is none: so what a
/// handler begins on it is a savepoint.
struct Connected {
    connection: PgConnection,
    told: Told,
}

/// A connection in use. Dropped, it is closed.
pub(super) struct Session {
    // Dropped before the place, so that there are never more of them than places.
    connected: Connected,
    place: Place,
    /// Who uses it.
    user: For,
    pool: Arc<Pool>,
    /// How many transactions have begun with the commit before them since it was taken.
    gone_on: u32,
}

/// What begins a transaction, in one text. It is made by this crate, of constants, numbers and names that have
/// no letter which means anything.
#[derive(Clone, Copy, Debug)]
pub(super) struct Begin<'a> {
    /// BEGIN itself, and what else may stand there.
    pub(super) begin: &'a str,
    /// What the connection is told if it was not yet, and keeps however the transaction ends.
    pub(super) once: &'static [Once],
    /// What follows.
    pub(super) then: Option<&'a str>,
}

/// What the server has done of a text.
#[derive(Debug, Default)]
struct Said {
    /// How many of its statements.
    statements: usize,
    /// How many rows the last one of these has written, or read.
    rows: u64,
}

/// Why a transaction was not committed.
pub(super) enum NotCommitted {
    /// A statement before COMMIT was refused, and COMMIT not looked at.
    Before(sqlx::Error),
    /// It is not known how far the server has come.
    AtCommit(sqlx::Error),
}

impl Pool {
    pub(super) fn new(options: PgConnectOptions, connections: u32) -> Self {
        let places = Places::new(usize::try_from(connections).unwrap_or(usize::MAX));
        let (numbers, forgets) = (AtomicU64::new(0), AtomicBool::new(false));
        let idle = Mutex::new(Idle::new());
        Self { options, places, idle, numbers, forgets, statement_max: None }
    }

    /// Has the server end each statement that takes longer, for waiting for a lock as well.
    pub(super) fn with_statement_max(self, max: Duration) -> Self {
        Self { statement_max: Some(max), ..self }
    }

    /// How its connections are made.
    pub(super) fn options(&self) -> &PgConnectOptions {
        &self.options
    }

    /// A number for a transaction, which no other one has.
    pub(super) fn next_number(&self) -> u64 {
        self.numbers.fetch_add(1, Ordering::Relaxed)
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

    /// One that nobody used, and on which the server has answered now. What begins a transaction may have to wait for
    /// a row, and says nothing meanwhile; a server that is there answers this one at once. Where it does not, the
    /// others lead to the same nowhere.
    async fn answering(&self) -> Option<Connected> {
        while let Some(mut other) = self.take(For::Anybody) {
            match within(ASKED_MAX, other.connection.ping()).await {
                Ok(()) => return Some(other),
                Err(error) if is_silence(&error) => {
                    self.idle().clear();
                    return None;
                }
                // It has ended by itself, and says nothing of the others.
                Err(_) => {}
            }
        }
        None
    }

    async fn place(&self, wanted: For) -> Result<Place, sqlx::Error> {
        self.places.get(wanted).await.ok_or(sqlx::Error::PoolClosed)
    }

    async fn connect(&self) -> Result<Connected, sqlx::Error> {
        let mut connection = self.options.connect().await?;
        match sqlx::query(SETTINGS).persistent(false).execute(&mut connection).await {
            // A server that cannot do it on its system does without.
            Ok(_) | Err(sqlx::Error::Database(_)) => {}
            Err(error) => return Err(error),
        }
        if let Some(max) = self.statement_max {
            // 0 would be without an end. The text is made of a number and nothing else.
            let ms = max.as_millis().clamp(1, STATEMENT_MS_MAX);
            let sql = format!("SET statement_timeout = {ms}");
            sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut connection).await?;
        }
        // The driver counts what it has begun itself, and nothing else.
        PgTransactionManager::begin(&mut connection, Some("BEGIN".into_sql_str())).await?;
        sqlx::raw_sql("ROLLBACK").execute(&mut connection).await?;
        Ok(Connected { connection, told: Told::default() })
    }
}

impl Connected {
    /// Has the server do what stands in a text.
    async fn tell(&mut self, text: &str, said: &mut Said) -> Result<(), sqlx::Error> {
        let mut answers = sqlx::raw_sql(AssertSqlSafe(text.to_owned())).execute_many(&mut self.connection);
        while let Some(answer) = answers.try_next().await? {
            *said = Said { statements: said.statements + 1, rows: answer.rows_affected() };
        }
        Ok(())
    }

    /// Begins a transaction; how many rows the last statement has written, or read.
    async fn begin(&mut self, begin: Begin<'_>) -> Result<u64, sqlx::Error> {
        let once = begin.once.iter().filter(|once| !self.told.has(**once)).map(|once| once.text());
        let parts: Vec<&str> = std::iter::once(begin.begin).chain(once).chain(begin.then).collect();
        let mut said = Said::default();
        self.tell(&parts.join("; "), &mut said).await?;
        self.told.add(begin.once);
        Ok(said.rows)
    }
}

impl Said {
    /// Whether COMMIT, which stands behind so many statements, was answered. What comes behind its answer, such as an
    /// error of the server when it counts what was done, undoes nothing.
    fn is_committed(&self, statements: usize) -> bool {
        self.statements > statements
    }

    /// Why a transaction was not committed behind so many statements. The server says what it has done in its
    /// order. A connection that has ended says nothing; of its end may speak who stands between, and does not know
    /// what the server has done.
    fn not_committed(&self, error: sqlx::Error, statements: usize) -> NotCommitted {
        let is_of_connection = sqlstate(&error).is_some_and(|code| code.starts_with(OF_CONNECTION));
        match error {
            error @ sqlx::Error::Database(_) if self.statements < statements && !is_of_connection => {
                NotCommitted::Before(error)
            }
            error => NotCommitted::AtCommit(error),
        }
    }
}

impl<'a> Begin<'a> {
    pub(super) fn plainly(begin: &'a str) -> Self {
        Self { begin, once: &[], then: None }
    }
}

impl Session {
    fn new(connected: Connected, place: Place, user: For, pool: &Arc<Pool>) -> Self {
        Self { connected, place, user, pool: Arc::clone(pool), gone_on: 0 }
    }

    /// Waits for a connection that answers.
    pub(super) async fn open(pool: &Arc<Pool>) -> Result<Self, StoreError> {
        Self::opened(pool).await.map_err(failed("open a connection"))
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
        let connected = within(ANSWER_MAX, pool.connect()).await?;
        Ok(Self::new(connected, place, For::Anybody, pool))
    }

    /// Waits for a connection and begins a transaction on it.
    pub(super) async fn begin(pool: &Arc<Pool>, begin: &str) -> Result<Self, sqlx::Error> {
        let (session, _) = Self::begin_for(For::Anybody, pool, Begin::plainly(begin)).await?;
        Ok(session)
    }

    /// [`Session::begin`], for somebody. How many rows the last statement has written, or read.
    pub(super) async fn begin_for(
        wanted: For,
        pool: &Arc<Pool>,
        begin: Begin<'_>,
    ) -> Result<(Self, u64), sqlx::Error> {
        let place = pool.place(wanted).await?;
        // One on which the server has answered: if it says nothing now, it waits for a row, as the one before it has.
        // Of any other one that nobody used that is not known.
        let mut answering: Option<Connected> = None;
        loop {
            let is_there = answering.is_some();
            let (mut connected, is_new) = match answering.take().or_else(|| pool.take(wanted)) {
                Some(connected) => (connected, false),
                None => (within(ANSWER_MAX, pool.connect()).await?, true),
            };
            let max = if is_new || is_there { ANSWER_MAX } else { REUSED_MAX };
            match within(max, connected.begin(begin)).await {
                Ok(rows) => return Ok((Self::new(connected, place, wanted, pool), rows)),
                Err(error) if is_there && is_silence(&error) => return Err(error),
                // Nothing was committed on it yet. One that was opened before a failover still leads to the
                // server that was the primary then.
                Err(error)
                    if !is_new
                        && matches!(class_of_begin(&error), Class::ConnectionLost | Class::Standby) =>
                {
                    // The server is to let go of what it waits for.
                    drop(connected);
                    if is_silence(&error) {
                        answering = pool.answering().await;
                    }
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// How many transactions are open inside each other, as the driver counts them.
    pub(super) fn depth(&self) -> usize {
        PgTransactionManager::get_transaction_depth(&self.connected.connection)
    }

    /// Commits and gives the connection back.
    pub(super) async fn commit(mut self) -> Result<(), sqlx::Error> {
        let mut said = Said::default();
        let told = within(ANSWER_MAX, self.connected.tell("COMMIT", &mut said)).await;
        match told {
            Ok(()) => self.give_back(),
            // The connection is closed.
            Err(_) if said.is_committed(0) => {}
            Err(error) => return Err(error),
        }
        Ok(())
    }

    /// Commits behind statements that have to succeed before, so many of them, and gives the connection back.
    pub(super) async fn commit_behind(mut self, proof: &str, statements: usize) -> Result<(), NotCommitted> {
        let mut said = Said::default();
        let text = format!("{proof}; COMMIT");
        let told = within(ANSWER_MAX, self.connected.tell(&text, &mut said)).await;
        match told {
            Ok(()) => self.give_back(),
            // The connection is closed.
            Err(_) if said.is_committed(statements) => {}
            Err(error) => return Err(self.not_committed(&said, error, statements)),
        }
        Ok(())
    }

    /// [`Session::commit_behind`], and begins the next transaction on the same connection. `None` of one that was
    /// not begun behind a commit: its connection is closed. How many rows its last statement has written.
    pub(super) async fn commit_and_begin(
        mut self,
        proof: &str,
        statements: usize,
        begin: &str,
    ) -> Result<Option<(Self, u64)>, NotCommitted> {
        let mut said = Said::default();
        let text = format!("{proof}; COMMIT; {begin}");
        let told = within(ANSWER_MAX, self.connected.tell(&text, &mut said)).await;
        match told {
            Ok(()) => {
                self.gone_on = self.gone_on.saturating_add(1);
                Ok(Some((self, said.rows)))
            }
            Err(_) if said.is_committed(statements) => Ok(None),
            Err(error) => Err(self.not_committed(&said, error, statements)),
        }
    }

    fn not_committed(&self, said: &Said, error: sqlx::Error, statements: usize) -> NotCommitted {
        if sqlstate(&error).as_deref() == Some(FORGOTTEN) {
            self.pool.forgets.store(true, Ordering::Relaxed);
        }
        said.not_committed(error, statements)
    }

    /// Whether what is prepared may stand in the text of a commit: the connection was told, and no handler is known
    /// that makes connections forget. With one, the next attempt would end as this one.
    pub(super) fn is_told(&self, once: Once) -> bool {
        self.connected.told.has(once) && !self.pool.forgets.load(Ordering::Relaxed)
    }

    /// Whether the next transaction may begin with the commit: the connection was told what begins it, and nobody
    /// waits for its place who is not to wait. A handler may wait for a few transactions of another one.
    pub(super) fn may_go_on(&self, once: &[Once]) -> bool {
        let places = &self.pool.places;
        let has_gone_on = self.gone_on >= GONE_ON_MAX;
        let is_wanted = places.is_wanted(For::Anybody) || (has_gone_on && places.is_wanted(For::Handler));
        self.connected.told.has_all(once) && !is_wanted
    }

    /// A number for a transaction, which no other one has.
    pub(super) fn next_number(&self) -> u64 {
        self.pool.next_number()
    }

    /// Rolls back and gives the connection back; closes it if it is in any other state than expected.
    pub(super) async fn rollback(mut self) -> Result<(), sqlx::Error> {
        if self.depth() != 1 {
            return Ok(());
        }
        within(ANSWER_MAX, self.connected.tell("ROLLBACK", &mut Said::default())).await?;
        self.give_back();
        Ok(())
    }

    /// Gives the connection back when nothing is open on it.
    pub(super) fn give_back(self) {
        let Self { connected, place, user, pool, .. } = self;
        pool.idle().give_back(user, connected);
        drop(place);
    }
}

impl Deref for Session {
    type Target = PgConnection;

    fn deref(&self) -> &PgConnection {
        &self.connected.connection
    }
}

impl DerefMut for Session {
    fn deref_mut(&mut self) -> &mut PgConnection {
        &mut self.connected.connection
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
