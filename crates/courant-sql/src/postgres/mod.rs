//! Postgres: many connections that write side by side, at READ COMMITTED, every commit flushed.

mod address;
mod admit;
mod bell;
mod class;
mod dead;
mod locks;
mod note;
mod outbox;
mod owner;
mod park;
mod prune;
mod redrive;
mod resolve;
mod row;
mod schema;
mod session;
mod store;
mod submitted;
mod timers;
mod told;
mod transaction;

use std::fmt;
use std::ops::{Deref, DerefMut};
use std::str::FromStr as _;
use std::sync::Arc;
use std::time::Duration;

use sqlx::postgres::PgConnectOptions;
use sqlx::{ConnectOptions as _, PgConnection};

pub use self::transaction::PostgresTransaction;

pub(crate) use self::bell::Listening;
pub(crate) use self::class::class_of_answer;

use self::address::with_known_options;
use self::class::{failed, not_begun};
use self::session::{Pool, Session};
use crate::address::without_secrets;
use crate::answers::bounded;
use crate::error::{AttachError, BeginError, ConnectError, StoreError};
use crate::limits::{CONNECTIONS_DEFAULT, CONNECTIONS_MAX};
use crate::parked::Lease;

const BEGIN: &str = "BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE";
const BEGIN_TO_READ: &str = "BEGIN ISOLATION LEVEL READ COMMITTED READ ONLY";
/// The server ends it for a relay that stands still: its locks would keep everybody waiting.
const BEGIN_TO_RELAY: &str = "BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE; \
     SET LOCAL idle_in_transaction_session_timeout = 5000";
const EXPECTED: &str = "a Postgres database: write postgres://USER:PASSWORD@HOST:PORT/DATABASE";

/// A Postgres database with the framework's tables. Clones share its connections.
///
/// What a handler sets for its session, and not for its transaction, stays with the connection: use
/// `SET LOCAL`. `RESET ALL` takes what the framework has set as well, and counts as the end of the transaction.
/// The connections must be those of the server, or of a proxy that keeps a session to one.
#[derive(Clone)]
pub struct Postgres {
    inner: Arc<Inner>,
}

struct Inner {
    pool: Arc<Pool>,
}

/// A connection for looking at tables. It cannot change anything.
#[derive(Debug)]
pub struct PostgresReader(Session);

impl Postgres {
    /// Connects to `postgres://USER:PASSWORD@HOST:PORT/DATABASE`. The tables are not installed yet. Options that the
    /// driver does not know are refused, except some of libpq that have no use here, such as `connect_timeout`.
    ///
    /// # Errors
    /// Says what is wrong with the address, or with the server.
    pub async fn connect(url: &str) -> Result<Self, ConnectError> {
        Self::connect_with(url, CONNECTIONS_DEFAULT).await
    }

    /// [`Postgres::connect`], for a program whose user waits: a statement that takes longer than `statement_max`,
    /// for waiting for a lock as well, is ended by the server, and what it was a part of is rolled back. That is
    /// an error of [`Class::Busy`](crate::Class::Busy). In whole milliseconds, at least one. An operation has
    /// several statements, and has ended after a minute however long each of them may take.
    ///
    /// # Errors
    /// Says what is wrong with the address, or with the server.
    pub async fn connect_in_time(url: &str, statement_max: Duration) -> Result<Self, ConnectError> {
        Self::connected(Pool::new(options(url)?, CONNECTIONS_DEFAULT).with_statement_max(statement_max)).await
    }

    /// [`Postgres::connect`], with another number of connections than 16. A handler that is under way
    /// has one, and so has each operation of the framework; whoever finds none free waits for one.
    /// Handlers never have the last two, if there are three or more.
    ///
    /// # Errors
    /// Says what is wrong with the address, or with the server.
    pub async fn connect_with(url: &str, connections: u32) -> Result<Self, ConnectError> {
        Self::connected(Pool::new(options(url)?, connections.clamp(1, CONNECTIONS_MAX))).await
    }

    async fn connected(pool: Pool) -> Result<Self, ConnectError> {
        let pool = Arc::new(pool);
        // What is wrong with the server shows now, and not at the first event.
        Session::open(&pool).await?.give_back();
        Ok(Self { inner: Arc::new(Inner { pool }) })
    }

    /// Takes a transaction of the service's own over, to publish with what it has done. Only
    /// [`Transaction::commit`](crate::Transaction::commit) makes it last then; dropped, it is rolled
    /// back, and its connection returns to the pool that it came from.
    ///
    /// # Errors
    /// [`AttachError::Isolation`] for one that is not at READ COMMITTED: the outbox's positions are
    /// given at the end of a transaction, from what was committed by then.
    pub async fn attach(
        &self,
        transaction: sqlx::Transaction<'static, sqlx::Postgres>,
    ) -> Result<PostgresTransaction, AttachError> {
        bounded(transaction::attach(self, transaction)).await
    }

    /// A connection for looking at tables, at what is committed. It is closed when it is dropped. To
    /// write, begin a transaction.
    ///
    /// # Errors
    /// Says what the database said.
    pub async fn read(&self) -> Result<PostgresReader, StoreError> {
        let session = Session::begin(&self.inner.pool, BEGIN_TO_READ).await;
        session.map(PostgresReader).map_err(failed("open a connection to read"))
    }

    /// A connection for one statement that reads.
    async fn reader(&self) -> Result<Session, StoreError> {
        Session::open(&self.inner.pool).await
    }

    /// A transaction that may write.
    async fn writer(&self, doing: &'static str) -> Result<Session, StoreError> {
        Session::begin(&self.inner.pool, BEGIN).await.map_err(not_begun(doing))
    }

    /// A transaction that may write, of a relay.
    async fn relaying(&self, doing: &'static str) -> Result<Session, StoreError> {
        Session::begin(&self.inner.pool, BEGIN_TO_RELAY).await.map_err(not_begun(doing))
    }

    /// A transaction that may write on behalf of a partition's owner.
    async fn owner(&self, lease: &Lease, doing: &'static str) -> Result<Session, BeginError> {
        let begin = format!("{BEGIN}; {}", owner::hold(lease));
        let session = Session::begin(&self.inner.pool, &begin).await;
        session.map_err(|error| owner::not_held(lease, doing, error))
    }

    fn next_number(&self) -> u64 {
        self.inner.pool.next_number()
    }
}

/// How connections are made to the database of an address.
fn options(url: &str) -> Result<PgConnectOptions, ConnectError> {
    let wrong = || ConnectError::Url { url: without_secrets(url), expected: EXPECTED };
    if !url.starts_with("postgres://") && !url.starts_with("postgresql://") {
        return Err(wrong());
    }
    let heard = with_known_options(url)
        .map_err(|expected| ConnectError::Url { url: without_secrets(url), expected })?;
    // A text may have an event in it, and what the driver writes into the log are texts.
    Ok(PgConnectOptions::from_str(&heard).map_err(|_| wrong())?.disable_statement_logging())
}

impl fmt::Debug for Postgres {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Postgres").field("pool", &self.inner.pool).finish_non_exhaustive()
    }
}

impl Deref for PostgresReader {
    type Target = PgConnection;

    fn deref(&self) -> &PgConnection {
        &self.0
    }
}

impl DerefMut for PostgresReader {
    fn deref_mut(&mut self) -> &mut PgConnection {
        &mut self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wrong_with_an_address_is_said_without_its_password() {
        for url in [
            "postgres://u:secret@host:port/db",
            "postgres://host/db?password=secret&sslmode=sometimes",
            "mysql://u:secret@host/db",
        ] {
            let said = options(url).expect_err(url).to_string();
            assert!(said.contains("postgres://USER") && !said.contains("secret"), "{said}");
        }
        let said = options("postgres://host/db?sslpassword=secret").expect_err("unknown").to_string();
        assert!(said.contains("options are known: sslmode") && !said.contains("secret"), "{said}");
        let known = options("postgres://u@host/db?connect_timeout=5&application_name=shop").expect("known");
        assert_eq!(known.get_application_name(), Some("shop"));
    }
}
