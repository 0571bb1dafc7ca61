//! SQLite: one connection that writes, one that reads, write-ahead logging, every commit synced.

mod address;
mod admit;
mod class;
mod dead;
mod home;
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
mod transaction;

use std::fmt;
use std::ops::{Deref, DerefMut};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use sqlx::SqliteConnection;
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqliteSynchronous};

pub use self::transaction::SqliteTransaction;

pub(crate) use self::class::class_of_answer;

use self::address::Address;
use self::class::failed;
use self::home::Home;
use self::row::Columns;
use self::session::{Session, Slot};
use crate::error::{BeginError, Class, ConnectError, StoreError};
use crate::limits::BUSY_TIMEOUT_MS;
use crate::parked::Lease;
use crate::places::{For, Places};

/// A SQLite database with the framework's tables. Clones share its connections.
///
/// A file that is deleted or replaced while the database is open is refused from then on, with
/// [`Class::CannotOpen`](crate::Class::CannotOpen): open it anew. One whose contents another program writes over is not
/// noticed.
///
/// It may be a file that other connections use as well. While a handler's transaction is open nobody
/// else writes, so other programs should keep theirs short.
#[derive(Clone)]
pub struct Sqlite {
    inner: Arc<Inner>,
}

struct Inner {
    options: SqliteConnectOptions,
    writer: Slot,
    /// There is one place to write in, and handlers wait for it one at a time.
    places: Places,
    /// A database in memory has one slot for both.
    reader: Slot,
    /// Its file, if it has one.
    home: Option<Home>,
    /// Numbers savepoints, so that no handler meets a name of its own by accident.
    savepoints: AtomicU64,
    /// Keeps a database in memory alive while its other connections are closed.
    _anchor: Option<Slot>,
}

/// A connection for looking at tables. It cannot change anything.
#[derive(Debug)]
pub struct Reader(Session);

const OPEN: &str = "open the database";

impl Sqlite {
    /// Connects to `sqlite:PATH`, creating the file, or to a new database in memory with
    /// `sqlite::memory:`. The tables are not installed yet.
    ///
    /// Options stand behind a `?`: `mode=rw` creates no file, `mode=memory` is a database in memory, which all stores of
    /// the process share that give the same name; `vfs` names one of SQLite's. What would let nobody write
    /// (`mode=ro`, `immutable`) or let each connection have a database of its own is refused, and so is a URI of
    /// SQLite's, `sqlite:file:PATH`, unless it is one of a database in memory.
    ///
    /// # Errors
    /// Says what is wrong with the address, or with the file.
    pub async fn connect(url: &str) -> Result<Self, ConnectError> {
        let Address { options, in_memory, creates } = Address::of(url)?;
        let options = options.busy_timeout(Duration::from_millis(BUSY_TIMEOUT_MS));
        if in_memory { Self::in_memory(options).await } else { Self::file(options, creates).await }
    }

    /// Opens a file, creating it. The tables are not installed yet. A path that begins with `file:` is refused, as in
    /// an address; `./file:NAME` is a file of that name.
    ///
    /// # Errors
    /// Says what is wrong with the file.
    pub async fn open(path: &Path) -> Result<Self, ConnectError> {
        Self::open_with(path, Duration::from_millis(BUSY_TIMEOUT_MS)).await
    }

    /// [`Sqlite::open`], with another patience than 5 seconds for locks that others hold.
    ///
    /// # Errors
    /// Says what is wrong with the file.
    pub async fn open_with(path: &Path, busy_timeout: Duration) -> Result<Self, ConnectError> {
        Self::file(SqliteConnectOptions::new().filename(path).busy_timeout(busy_timeout), true).await
    }

    async fn file(options: SqliteConnectOptions, creates: bool) -> Result<Self, ConnectError> {
        let name = options.get_filename();
        // Either is a database of its own for each connection.
        if name.as_os_str().is_empty() || name == Path::new(address::MEMORY) {
            let expected = "a SQLite database by its file: write sqlite:PATH, or sqlite::memory: for tests";
            return Err(ConnectError::Url { url: name.display().to_string(), expected });
        }
        // Its file has another name, so nobody would notice that it was deleted or replaced.
        if name.as_os_str().as_encoded_bytes().starts_with(address::URI.as_bytes()) {
            let expected = "a SQLite database by its file: write sqlite:PATH without file:";
            return Err(ConnectError::Url { url: name.display().to_string(), expected });
        }
        let options = options
            .create_if_missing(creates)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
            .foreign_keys(true);
        let (writer, reader) = (Slot::default(), Slot::default());
        // What is wrong with the file shows now, and not at the first event.
        let mut session = Session::open(&writer, &options, None).await?;
        has_log(&mut session).await?;
        session.give_back();
        let home = Home::of(options.get_filename());
        // Whoever connects once more wants this file, and not a new one of its name, or the one that a link leads to by
        // then. SQLite keeps the log beside the file, and not beside a link.
        let options = match home.as_ref().and_then(Home::name) {
            Some(name) => options.filename(name),
            None => options,
        };
        Ok(Self::opened(options.create_if_missing(false), writer, reader, home, None))
    }

    async fn in_memory(options: SqliteConnectOptions) -> Result<Self, ConnectError> {
        let options = options.foreign_keys(true);
        let anchor = Slot::default();
        Session::open(&anchor, &options, None).await?.give_back();
        let slot = Slot::default();
        Session::open(&slot, &options, None).await?.give_back();
        Ok(Self::opened(options, Arc::clone(&slot), slot, None, Some(anchor)))
    }

    fn opened(
        options: SqliteConnectOptions,
        writer: Slot,
        reader: Slot,
        home: Option<Home>,
        anchor: Option<Slot>,
    ) -> Self {
        let (places, savepoints) = (Places::new(1), AtomicU64::new(0));
        let inner = Inner { options, writer, places, reader, home, savepoints, _anchor: anchor };
        Self { inner: Arc::new(inner) }
    }

    /// A connection for looking at tables, at what is committed. Others wait for it until it is
    /// dropped. To write, begin a transaction.
    ///
    /// # Errors
    /// Says what the database said.
    pub async fn read(&self) -> Result<Reader, StoreError> {
        self.reader().await.map(Reader)
    }

    async fn reader(&self) -> Result<Session, StoreError> {
        let Inner { options, reader, home, .. } = &*self.inner;
        Session::open(reader, options, home.as_ref()).await
    }

    /// A transaction that may write.
    async fn writer(&self, doing: &'static str) -> Result<Session, StoreError> {
        self.writer_for(For::Anybody, None, doing).await
    }

    /// [`Sqlite::writer`], for somebody, with a savepoint if one is wanted.
    async fn writer_for(
        &self,
        wanted: For,
        savepoint: Option<u64>,
        doing: &'static str,
    ) -> Result<Session, StoreError> {
        let Inner { options, writer, places, home, .. } = &*self.inner;
        let place = places.get(wanted).await.ok_or(sqlx::Error::PoolClosed).map_err(failed(doing))?;
        let mut session = Session::open_to_write(place, writer, options, home.as_ref()).await?;
        session.begin(savepoint).await.map_err(failed(doing))?;
        Ok(session)
    }

    /// A transaction that may write on behalf of a partition's owner.
    async fn owner(&self, lease: &Lease, doing: &'static str) -> Result<Session, BeginError> {
        self.owner_for(For::Anybody, None, lease, doing).await
    }

    /// [`Sqlite::owner`], for somebody, with a savepoint if one is wanted.
    async fn owner_for(
        &self,
        wanted: For,
        savepoint: Option<u64>,
        lease: &Lease,
        doing: &'static str,
    ) -> Result<Session, BeginError> {
        let mut session = self.writer_for(wanted, savepoint, doing).await?;
        match owner::held(&mut session, lease, doing).await {
            Ok(()) => Ok(session),
            Err(error) => {
                // The refusal is what matters; the connection is closed if this fails.
                let _ = session.rollback().await;
                Err(error)
            }
        }
    }

    fn next_savepoint(&self) -> u64 {
        self.inner.savepoints.fetch_add(1, Ordering::Relaxed)
    }
}

/// Refuses a database without a write-ahead log, as it is where no memory can be shared (`?vfs=unix-dotfile`): SQLite
/// says nothing then. Whoever reads would keep commits waiting, and they would be on the disk only when the directory
/// is, which is not waited for.
async fn has_log(session: &mut Session) -> Result<(), StoreError> {
    let row = sqlx::query("PRAGMA journal_mode").fetch_one(&mut **session).await.map_err(failed(OPEN))?;
    let mode = Columns::new(&row, OPEN).text(0)?;
    if mode == "wal" {
        return Ok(());
    }
    let what = format!("it has no write-ahead log, its journal mode stays {mode:?}");
    Err(StoreError::new(OPEN, Class::CannotOpen, sqlx::Error::Protocol(what)))
}

impl fmt::Debug for Sqlite {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sqlite").field("file", &self.inner.options.get_filename()).finish_non_exhaustive()
    }
}

impl Deref for Reader {
    type Target = SqliteConnection;

    fn deref(&self) -> &SqliteConnection {
        &self.0
    }
}

impl DerefMut for Reader {
    fn deref_mut(&mut self) -> &mut SqliteConnection {
        &mut self.0
    }
}
