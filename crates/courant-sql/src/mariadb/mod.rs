//! MariaDB: many connections that write side by side, at READ COMMITTED, on InnoDB.
//!
//! Three things are other than in other databases, and each has its answer:
//!
//! - A statement that changes tables commits, and nothing can refuse a COMMIT. So an inbox row is `open`
//!   until the end of its transaction has proved that it is still the one that was begun: what commits
//!   earlier has not handled the event.
//! - A statement locks the rows that it looks at, and which ones these are its plan decides. So whatever
//!   changes rows finds them by their primary keys, in a given order of tables.
//! - A lock of a transaction is a row. So keys and names that have no row yet have slots: [`locks`].

mod admit;
mod class;
mod dead;
mod lists;
mod locks;
mod note;
mod outbox;
mod owner;
mod park;
mod prune;
mod redrive;
mod relay;
mod resolve;
mod row;
mod schema;
mod session;
mod store;
mod submitted;
mod timers;
mod told;
mod transaction;
mod who;

use std::fmt;
use std::ops::{Deref, DerefMut};
use std::str::FromStr as _;
use std::sync::Arc;
use std::time::Duration;

use sqlx::mysql::MySqlConnectOptions;
use sqlx::{ConnectOptions as _, MySqlConnection};

pub use self::transaction::MariadbTransaction;

pub(crate) use self::class::class_of_answer;

use self::class::failed;
use self::session::{Pool, Session};
use crate::address::{Use, with_known_options, without_secrets};
use crate::answers::bounded;
use crate::error::{AttachError, BeginError, ConnectError, StoreError};
use crate::limits::{CONNECTIONS_DEFAULT, CONNECTIONS_MAX};
use crate::parked::Lease;
use crate::places::For;

/// How a transaction begins, whatever its session was told meanwhile. It is one statement for all settings: each
/// statement of a text has an answer that the server sends by itself.
fn begin(idle_max: Option<Duration>, access: &str) -> String {
    // In whole seconds; 0 would be for ever.
    let seconds = idle_max.map(|max| max.as_secs().clamp(1, IDLE_SECONDS_MAX));
    let idle = seconds.map_or_else(|| "DEFAULT".to_owned(), |seconds| seconds.to_string());
    format!(
        "SET SESSION autocommit = 1, SESSION idle_transaction_timeout = {idle}, \
         SESSION tx_isolation = 'READ-COMMITTED'; START TRANSACTION {access}"
    )
}

/// How many statements [`begin`] has.
const BEGIN_STATEMENTS: usize = 2;

const TO_WRITE: &str = "READ WRITE";
const TO_READ: &str = "READ ONLY";

/// The server ends the transaction of a relay that stands still: its locks would keep everybody waiting.
const RELAY_IDLE_MAX: Duration = Duration::from_secs(5);

/// The most that the server takes.
const IDLE_SECONDS_MAX: u64 = 31_536_000;

const EXPECTED: &str = "a MariaDB database: write mariadb://USER:PASSWORD@HOST:PORT/DATABASE";
const EXPECTED_OPTIONS: &str = "a MariaDB database whose options are known: ssl-mode, ssl-ca, ssl-cert, ssl-key, charset, \
     collation, socket, timezone, statement-cache-capacity";

/// The options of an address that the driver knows. It says nothing of others.
const OPTIONS: [&str; 14] = [
    "sslmode",
    "ssl-mode",
    "sslca",
    "ssl-ca",
    "charset",
    "collation",
    "sslcert",
    "ssl-cert",
    "sslkey",
    "ssl-key",
    "statement-cache-capacity",
    "socket",
    "timezone",
    "time-zone",
];

/// Those that other clients know, and the store does without: it has bounds of its own.
const DONE_WITHOUT: [&str; 5] =
    ["connect_timeout", "pool_timeout", "read_timeout", "socket_timeout", "write_timeout"];

/// A MariaDB database with the framework's tables. Clones share its connections.
///
/// A statement that changes tables commits what was done before it, as does a COMMIT: in a handler neither
/// may happen. The event then counts as not handled, but what was done stays. What a handler sets for its
/// session stays with the connection. The connections must be those of the server, or of a proxy that
/// keeps a session to one.
#[derive(Clone)]
pub struct Mariadb {
    inner: Arc<Inner>,
}

struct Inner {
    pool: Arc<Pool>,
    /// Bytes of an event that the server takes in one packet.
    event_bytes_max: usize,
}

/// A connection for looking at tables. It cannot change anything.
#[derive(Debug)]
pub struct MariadbReader(Session);

impl Mariadb {
    /// Connects to `mariadb://USER:PASSWORD@HOST:PORT/DATABASE`; `mysql://` is taken, too. The tables are not
    /// installed yet. Options that the driver does not know are refused, except some that have no use here, such as
    /// `connect_timeout`.
    ///
    /// # Errors
    /// Says what is wrong with the address, or with the server.
    pub async fn connect(url: &str) -> Result<Self, ConnectError> {
        Self::connect_with(url, CONNECTIONS_DEFAULT).await
    }

    /// [`Mariadb::connect`], for a program whose user waits: a statement that takes longer than `statement_max`,
    /// for waiting for a lock as well, is ended by the server, and what it was a part of is rolled back. That is
    /// an error of [`Class::Busy`](crate::Class::Busy). In whole milliseconds, at least one; the server's own
    /// `innodb_lock_wait_timeout` holds beside it. An operation has several statements, and has ended after a
    /// minute however long each of them may take.
    ///
    /// # Errors
    /// Says what is wrong with the address, or with the server.
    pub async fn connect_in_time(url: &str, statement_max: Duration) -> Result<Self, ConnectError> {
        Self::connected(Pool::new(options(url)?, CONNECTIONS_DEFAULT).with_statement_max(statement_max)).await
    }

    /// [`Mariadb::connect`], with another number of connections than 16. A handler that is under way has
    /// one, and so has each operation of the framework; whoever finds none free waits for one.
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
        let mut session = Session::open(&pool).await?;
        let event_bytes_max = session::look_at_server(&mut session).await?;
        session.give_back();
        Ok(Self { inner: Arc::new(Inner { pool, event_bytes_max }) })
    }

    /// Takes a transaction of the service's own over, to publish with what it has done. Only
    /// [`Transaction::commit`](crate::Transaction::commit) makes it last then; dropped, it is rolled
    /// back, and its connection returns to the pool that it came from.
    ///
    /// # Errors
    /// [`AttachError::Isolation`] when its session is not at READ COMMITTED: the outbox's positions are
    /// given at the end of a transaction, from what was committed by then. MariaDB does not say what
    /// was asked for a single transaction.
    pub async fn attach(
        &self,
        transaction: sqlx::Transaction<'static, sqlx::MySql>,
    ) -> Result<MariadbTransaction, AttachError> {
        bounded(transaction::attach(self, transaction)).await
    }

    /// A connection for looking at tables, at what is committed. It is closed when it is dropped. To
    /// write, begin a transaction.
    ///
    /// # Errors
    /// Says what the database said.
    pub async fn read(&self) -> Result<MariadbReader, StoreError> {
        let session = Session::begin_to_read(&self.inner.pool, &begin(None, TO_READ)).await;
        session.map(MariadbReader).map_err(failed("open a connection to read"))
    }

    /// A connection for statements that read.
    async fn reader(&self) -> Result<Session, StoreError> {
        Session::open(&self.inner.pool).await
    }

    /// A transaction that may write.
    async fn writer(&self, doing: &'static str) -> Result<Session, StoreError> {
        Session::begin(&self.inner.pool, &begin(None, TO_WRITE)).await.map_err(failed(doing))
    }

    /// A transaction that may write, of a relay.
    async fn relaying(&self, doing: &'static str) -> Result<Session, StoreError> {
        let begin = begin(Some(RELAY_IDLE_MAX), TO_WRITE);
        Session::begin(&self.inner.pool, &begin).await.map_err(failed(doing))
    }

    /// A transaction that may write on behalf of a partition's owner.
    async fn owner(&self, lease: &Lease, doing: &'static str) -> Result<Session, BeginError> {
        let begin = format!("{}; {}", begin(lease.idle_max, TO_WRITE), owner::hold(lease));
        let begun = Session::begin_for(For::Anybody, &self.inner.pool, &begin).await;
        let (session, said) = begun.map_err(failed(doing))?;
        owner::held(session, &said, lease, doing).await
    }

    fn next_savepoint(&self) -> u64 {
        self.inner.pool.next_savepoint()
    }
}

/// How connections are made to the database of an address.
fn options(url: &str) -> Result<MySqlConnectOptions, ConnectError> {
    let wrong = || ConnectError::Url { url: without_secrets(url), expected: EXPECTED };
    if !url.starts_with("mysql://") && !url.starts_with("mariadb://") {
        return Err(wrong());
    }
    let heard = with_known_options(url, use_of)
        .map_err(|_| ConnectError::Url { url: without_secrets(url), expected: EXPECTED_OPTIONS })?;
    // A text may have an event in it, and what the driver writes into the log are texts.
    let options = MySqlConnectOptions::from_str(&heard).map_err(|_| wrong())?.disable_statement_logging();
    if options.get_database().is_none() {
        return Err(wrong());
    }
    Ok(options)
}

fn use_of(name: &str, _value: &str) -> Use {
    if OPTIONS.contains(&name) {
        Use::Heard
    } else if DONE_WITHOUT.contains(&name) {
        Use::DoneWithout
    } else {
        Use::Refused
    }
}

impl fmt::Debug for Mariadb {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Mariadb").field("pool", &self.inner.pool).finish_non_exhaustive()
    }
}

impl Deref for MariadbReader {
    type Target = MySqlConnection;

    fn deref(&self) -> &MySqlConnection {
        &self.0
    }
}

impl DerefMut for MariadbReader {
    fn deref_mut(&mut self) -> &mut MySqlConnection {
        &mut self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wrong_with_an_address_is_said_without_its_password() {
        for url in [
            "mysql://u:secret@host:port/db",
            "mariadb://u:secret@host",
            "mariadb://host/db?ssl-ca=secret&ssl-mode=sometimes",
        ] {
            let said = options(url).expect_err(url).to_string();
            assert!(said.contains("DATABASE") && !said.contains("secret"), "{said}");
        }
    }

    /// Symptom: a service whose address asked for TLS in other words than the driver's spoke without it. Cause: the
    /// driver says nothing of options that it does not know. Fix: they are refused.
    #[test]
    fn an_option_that_is_not_known_is_refused() {
        for url in ["mariadb://u@host/db?ssl_mode=VERIFY_IDENTITY", "mariadb://u@host/db?password=secret"] {
            let said = options(url).expect_err(url).to_string();
            assert!(said.contains("options are known: ssl-mode") && !said.contains("secret"), "{said}");
        }
        for url in [
            "mariadb://u@host/db?ssl-mode=DISABLED&charset=utf8mb4&timezone=%2B00:00",
            "mariadb://u@host/db?connect_timeout=5&pool_timeout=10",
        ] {
            options(url).expect(url);
        }
    }
}
