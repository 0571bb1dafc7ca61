//! A database of its own on the Postgres server that the environment names.

use std::io::Write as _;
use std::sync::atomic::{AtomicU32, Ordering};

use courant_sql::sqlx::postgres::PgConnection;
use courant_sql::sqlx::{self, AssertSqlSafe, Connection as _};
use courant_sql::{Postgres, PostgresTransaction, Store as _, Transaction as _};

use super::steps::{NOW, run};

pub(crate) type Db = Postgres;
pub(crate) type Tx = PostgresTransaction;

/// Counts what a handler has done before it ended its transaction. What it does afterwards is committed
/// statement by statement: nothing in the database could refuse it.
pub(crate) const UNDONE: &str = "SELECT COUNT(*) FROM effects WHERE event_id <> 'after'";

/// What a handler does: one row for each time it has run.
pub(crate) const EFFECT: &str = "INSERT INTO effects (event_id, who) VALUES ($1, 'handler')";
/// How often it was done for an event.
pub(crate) const EFFECTS: &str = "SELECT COUNT(*) FROM effects WHERE event_id = $1";

/// Counts transactions that wait while they make an event a dead letter.
pub(crate) const WAITING_BURIALS: &str = "SELECT COUNT(*) FROM pg_stat_activity \
     WHERE datname = current_database() AND wait_event_type = 'Lock' \
     AND query LIKE 'INSERT INTO courant_dead (%'";
/// Counts those that wait while they take archived dead letters back.
pub(crate) const WAITING_RESTORES: &str = "SELECT COUNT(*) FROM pg_stat_activity \
     WHERE datname = current_database() AND wait_event_type = 'Lock' \
     AND query LIKE 'UPDATE courant_dead SET state = ''dead''%'";

/// What the lanes of the outbox say of how much of them was published.
pub(crate) const PUBLISHED: &str = "SELECT SUM(published)::bigint FROM courant_outbox_lane";

/// A table of the service's own with a serial id.
pub(crate) const SERIAL: &str = "CREATE TABLE serial_outbox (id BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY, \
     name TEXT NOT NULL, number BIGINT NOT NULL)";
pub(crate) const INTO_SERIAL: &str = "INSERT INTO serial_outbox (name, number) VALUES ($1, $2)";
/// What stands in it behind an id.
pub(crate) const OF_SERIAL: &str =
    "SELECT id, name, number FROM serial_outbox WHERE id > $1 ORDER BY id LIMIT 500";

/// The address of a server where databases may be created.
const SERVER: &str = "COURANT_TEST_POSTGRES";

/// A database with the framework's tables and one table of the service.
pub(crate) struct Fixture {
    pub(crate) store: Postgres,
    database: Database,
}

impl Fixture {
    /// `None` where there is no server: the test is skipped, and has said so.
    pub(crate) async fn new() -> Option<Self> {
        let fixture = Self::bare().await?;
        fixture.store.install(NOW).await.expect("the tables");
        let effects = "CREATE TABLE effects (n BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY, \
                       event_id TEXT NOT NULL, who TEXT NOT NULL)";
        make(&fixture.store, &[effects]).await;
        Some(fixture)
    }

    /// A database without tables.
    pub(crate) async fn bare() -> Option<Self> {
        let database = Database::new().await?;
        let store = open(&database).await;
        Some(Self { store, database })
    }

    pub(crate) fn url(&self) -> String {
        self.database.url()
    }

    /// A store with one connection.
    pub(crate) async fn narrow(&self) -> Postgres {
        Postgres::connect_with(&self.url(), 1).await.expect("a database")
    }

    /// A second process on the same database.
    pub(crate) async fn another(&self) -> Postgres {
        open(&self.database).await
    }

    /// The same database after the process was killed and started again.
    pub(crate) async fn reopened(self) -> Self {
        let Self { store, database } = self;
        drop(store);
        let store = open(&database).await;
        store.check().await.expect("its tables");
        Self { store, database }
    }
}

/// Makes tables.
pub(crate) async fn make(store: &Db, statements: &[&str]) {
    let mut tx = store.begin(None).await.expect("a transaction");
    for statement in statements {
        run(&mut tx, statement).await;
    }
    tx.commit(NOW).await.expect("a commit");
}

/// Makes the tables those of version 2.
pub(crate) async fn make_older(store: &Db) {
    let statements = [
        // The server gives the condition this name, and the next one the same.
        "ALTER TABLE courant_dead_note DROP CONSTRAINT courant_dead_note_action_check",
        "ALTER TABLE courant_dead_note ADD CHECK (action IN ('edited', 'discarded', 'archived'))",
        "UPDATE courant_schema SET version = 2",
    ];
    make(store, &statements).await;
}

/// A table of the service's own with a number for each name.
pub(crate) async fn make_counters(store: &Db) {
    make(store, &["CREATE TABLE counters (name TEXT NOT NULL PRIMARY KEY, number BIGINT NOT NULL)"]).await;
}

/// Counts up the number of a name. Whoever comes next waits for the end of the transaction.
pub(crate) async fn next_number(tx: &mut Tx, name: &str) -> i64 {
    let sql = "INSERT INTO counters (name, number) VALUES ($1, 1) \
               ON CONFLICT (name) DO UPDATE SET number = counters.number + 1 RETURNING number";
    sqlx::query_scalar(sql).bind(name).fetch_one(&mut **tx).await.expect("a number")
}

async fn open(database: &Database) -> Postgres {
    Postgres::connect(&database.url()).await.expect("a database")
}

/// A database that goes when it is dropped.
struct Database {
    server: String,
    name: String,
}

impl Database {
    async fn new() -> Option<Self> {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let Ok(server) = std::env::var(SERVER) else {
            let test = std::thread::current().name().unwrap_or("courant-sql").to_owned();
            // Not `eprintln!`: the test harness would swallow it.
            let _ = writeln!(std::io::stderr(), "SKIPPED: {test}: no Postgres here");
            return None;
        };
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("courant_{}_{number}", std::process::id());
        administer(&server, &format!("CREATE DATABASE {name}")).await.expect("a database");
        Some(Self { server, name })
    }

    /// The server's address with this database in it.
    fn url(&self) -> String {
        let (place, _) = self.server.rsplit_once('/').expect("an address ends with a database");
        format!("{place}/{}", self.name)
    }
}

async fn administer(server: &str, statement: &str) -> Result<(), sqlx::Error> {
    let mut connection = PgConnection::connect(server).await?;
    sqlx::raw_sql(AssertSqlSafe(statement.to_owned())).execute(&mut connection).await?;
    connection.close().await
}

impl Drop for Database {
    fn drop(&mut self) {
        let server = self.server.clone();
        let statement = format!("DROP DATABASE IF EXISTS {} WITH (FORCE)", self.name);
        // The test's own runtime cannot be waited for from inside it.
        let dropping = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            if let Ok(runtime) = runtime {
                // A database that stays does no harm: the server is there for tests.
                let _ = runtime.block_on(administer(&server, &statement));
            }
        });
        let _ = dropping.join();
    }
}
