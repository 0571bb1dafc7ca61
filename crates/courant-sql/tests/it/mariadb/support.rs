//! A database of its own on the MariaDB server that the environment names.

use std::io::Write as _;
use std::sync::atomic::{AtomicU32, Ordering};

use courant_sql::sqlx::mysql::MySqlConnection;
use courant_sql::sqlx::{self, AssertSqlSafe, Connection as _};
use courant_sql::{Mariadb, MariadbTransaction, Store as _, Transaction as _};

use super::steps::{NOW, run};

pub(crate) type Db = Mariadb;
pub(crate) type Tx = MariadbTransaction;

/// Counts events that count as settled although their handler has ended its transaction. What such a
/// handler has done before a COMMIT of its own stays: nothing in the database could refuse it.
pub(crate) const UNDONE: &str = "SELECT COUNT(*) FROM courant_inbox WHERE outcome <> 'open'";

/// What a handler does: one row for each time it has run.
pub(crate) const EFFECT: &str = "INSERT INTO effects (event_id, who) VALUES (?, 'handler')";
/// How often it was done for an event.
pub(crate) const EFFECTS: &str = "SELECT COUNT(*) FROM effects WHERE event_id = ?";

/// Counts transactions that are making an event a dead letter: that takes long only where they wait.
pub(crate) const WAITING_BURIALS: &str = "SELECT COUNT(*) FROM information_schema.PROCESSLIST \
     WHERE DB = DATABASE() AND ID <> CONNECTION_ID() AND INFO LIKE 'INSERT INTO courant_dead (%'";
/// Counts those that are taking archived dead letters back.
pub(crate) const WAITING_RESTORES: &str = "SELECT COUNT(*) FROM information_schema.PROCESSLIST \
     WHERE DB = DATABASE() AND ID <> CONNECTION_ID() AND INFO LIKE 'UPDATE %courant_dead d %SET d.state%'";

/// What the lanes of the outbox say of how much of them was published.
pub(crate) const PUBLISHED: &str = "SELECT CAST(SUM(published) AS SIGNED) FROM courant_outbox_lane";

/// A table of the service's own with a serial id.
pub(crate) const SERIAL: &str = "CREATE TABLE serial_outbox (id BIGINT NOT NULL AUTO_INCREMENT PRIMARY KEY, \
     name VARCHAR(255) NOT NULL, number BIGINT NOT NULL)";
pub(crate) const INTO_SERIAL: &str = "INSERT INTO serial_outbox (name, number) VALUES (?, ?)";
/// What stands in it behind an id.
pub(crate) const OF_SERIAL: &str =
    "SELECT id, name, number FROM serial_outbox WHERE id > ? ORDER BY id LIMIT 500";

/// The address of a server where databases may be created.
const SERVER: &str = "COURANT_TEST_MARIADB";

/// A database with the framework's tables and one table of the service.
pub(crate) struct Fixture {
    pub(crate) store: Mariadb,
    database: Database,
}

impl Fixture {
    /// `None` where there is no server: the test is skipped, and has said so.
    pub(crate) async fn new() -> Option<Self> {
        let fixture = Self::bare().await?;
        fixture.store.install(NOW).await.expect("the tables");
        let effects = "CREATE TABLE effects (n BIGINT NOT NULL AUTO_INCREMENT PRIMARY KEY, \
                       event_id VARCHAR(255) NOT NULL, who VARCHAR(255) NOT NULL) \
                       CHARACTER SET utf8mb4 COLLATE utf8mb4_bin";
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
    pub(crate) async fn narrow(&self) -> Mariadb {
        Mariadb::connect_with(&self.url(), 1).await.expect("a database")
    }

    /// A second process on the same database.
    pub(crate) async fn another(&self) -> Mariadb {
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

/// Makes tables. Each statement commits what it does, so nothing is left of the transaction that it was
/// begun in.
pub(crate) async fn make(store: &Db, statements: &[&str]) {
    let mut tx = store.begin(None).await.expect("a transaction");
    for statement in statements {
        run(&mut tx, statement).await;
    }
    tx.rollback().await.expect("nothing to roll back");
}

/// Makes the tables those of version 2.
pub(crate) async fn make_older(store: &Db) {
    let action = "ALTER TABLE courant_dead_note MODIFY action VARCHAR(16) NOT NULL \
                  CHECK (action IN ('edited', 'discarded', 'archived'))";
    make(store, &[action]).await;
    let mut tx = store.begin(None).await.expect("a transaction");
    run(&mut tx, "UPDATE courant_schema SET version = 2").await;
    tx.commit(NOW).await.expect("a commit");
}

/// A table of the service's own with a number for each name.
pub(crate) async fn make_counters(store: &Db) {
    let table = "CREATE TABLE counters (name VARCHAR(255) NOT NULL PRIMARY KEY, number BIGINT NOT NULL)";
    // The names are there from the beginning: whoever inserts one waits for gaps, too.
    let names = "INSERT INTO counters (name, number) SELECT CONCAT('key-', seq), 0 FROM seq_0_to_99";
    make(store, &[table, names]).await;
}

/// Counts up the number of a name. Whoever comes next waits for the end of the transaction.
pub(crate) async fn next_number(tx: &mut Tx, name: &str) -> i64 {
    let counted = sqlx::query("UPDATE counters SET number = number + 1 WHERE name = ?")
        .bind(name)
        .execute(&mut **tx)
        .await
        .expect("a row");
    assert_eq!(counted.rows_affected(), 1, "{name}");
    sqlx::query_scalar::<_, i64>("SELECT number FROM counters WHERE name = ?")
        .bind(name)
        .fetch_one(&mut **tx)
        .await
        .expect("a number")
}

async fn open(database: &Database) -> Mariadb {
    Mariadb::connect(&database.url()).await.expect("a database")
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
            let _ = writeln!(std::io::stderr(), "SKIPPED: {test}: no MariaDB here");
            return None;
        };
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("courant_{}_{number}", std::process::id());
        // Not the characters that the framework's tables have: theirs are their own.
        let create = format!("CREATE DATABASE {name} CHARACTER SET latin1");
        administer(&server, &create).await.expect("a database");
        Some(Self { server, name })
    }

    /// The server's address with this database in it.
    fn url(&self) -> String {
        let (place, _) = self.server.rsplit_once('/').expect("an address ends with a database");
        format!("{place}/{}", self.name)
    }
}

async fn administer(server: &str, statement: &str) -> Result<(), sqlx::Error> {
    let mut connection = MySqlConnection::connect(server).await?;
    sqlx::raw_sql(AssertSqlSafe(statement.to_owned())).execute(&mut connection).await?;
    connection.close().await
}

impl Drop for Database {
    fn drop(&mut self) {
        let server = self.server.clone();
        // Who still has a transaction open in it would be waited for.
        let statement =
            format!("SET STATEMENT lock_wait_timeout = 5 FOR DROP DATABASE IF EXISTS {}", self.name);
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
