//! A database of its own on the MariaDB server that the environment names.

use std::io::Write as _;
use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};

use courant::prelude::*;
use sqlx::mysql::MySqlConnection;
use sqlx::{AssertSqlSafe, Connection as _};

use super::private::PrivateMariadb;

pub(crate) type Db = Mariadb;

pub(crate) const INSERT_EFFECT: &str = "insert into effects (what) values (?)";
pub(crate) const CREATE_EFFECTS: &str =
    "create table effects (what varchar(200) not null, n bigint auto_increment primary key)";
/// Counts the effects of a key up, and keeps the row of that key until the end of the transaction.
pub(crate) const COUNT_UP: &str = "update counters set number = number + 1 where name = ?";
pub(crate) const NUMBER_OF: &str = "select number from counters where name = ?";
/// Events that two nodes get at once.
pub(crate) const SHARED_EVENTS: u64 = 300;
/// An error that a handler does not pass on leaves its transaction as it was.
pub(crate) const SWALLOWED_ERROR_ENDS: bool = false;
/// What is refused as when the disk is full, and what makes room again.
pub(crate) const NO_ROOM: &str = "signal sqlstate 'HY000' set mysql_errno = 1021, message_text = 'no room'";
pub(crate) const ROOM: &str = "select 1";
/// The program of the bank.
pub(crate) const BANK: &str = "bank-service-mariadb";
/// Kills of the bank's service and of its database in the CI.
pub(crate) const KILLS: u64 = 12;
/// Kills of the server of its events, and of its database.
pub(crate) const KILLS_ON_A_SERVER: u64 = 5;
const TABLES: &str = include_str!("../../../examples/bank/mariadb/tables.sql");

/// The address of a server where databases may be created.
const SERVER: &str = "COURANT_TEST_MARIADB";

/// A database that goes when it is dropped.
pub(crate) struct Home {
    server: String,
    name: String,
}

impl Home {
    /// `None` where there is no server: the test is skipped, and has said so.
    pub(crate) async fn new(_: &Path) -> Option<Self> {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let Ok(server) = std::env::var(SERVER) else {
            let test = std::thread::current().name().unwrap_or("courant").to_owned();
            // Not `eprintln!`: the test harness would swallow it.
            let _ = writeln!(std::io::stderr(), "SKIPPED: {test}: no MariaDB here");
            return None;
        };
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("courant_service_{}_{number}", std::process::id());
        administer(&server, &format!("CREATE DATABASE {name}")).await.expect("a database");
        Some(Self { server, name })
    }

    pub(crate) async fn store(&self) -> Db {
        Mariadb::connect(&self.url()).await.expect("opens")
    }

    pub(crate) async fn run(&self, statement: &'static str) {
        administer(&self.url(), statement).await.expect("creates");
    }

    /// The server's address with this database in it.
    pub(crate) fn url(&self) -> String {
        let (place, _) = self.server.rsplit_once('/').expect("an address ends with a database");
        format!("{place}/{}", self.name)
    }
}

/// The database of a bank, on a server that may be killed.
pub(crate) struct BankHome(PrivateMariadb);

impl BankHome {
    pub(crate) const CAN_DIE: bool = true;

    /// `None` where MariaDB is not installed: the test is skipped, and has said so.
    pub(crate) fn new(_: &Path) -> Option<Self> {
        let server = PrivateMariadb::start()?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(administer(&server.url("mysql"), "CREATE DATABASE bank")).expect("a database");
        runtime.block_on(administer(&server.url("bank"), TABLES)).expect("the tables of the bank");
        Some(Self(server))
    }

    pub(crate) fn url(&self) -> String {
        self.0.url("bank")
    }

    pub(crate) fn kill_and_restart(&mut self) {
        self.0.kill_and_restart();
    }
}

pub(super) async fn administer(server: &str, statements: &str) -> Result<(), sqlx::Error> {
    let mut connection = MySqlConnection::connect(server).await?;
    sqlx::raw_sql(AssertSqlSafe(statements.to_owned())).execute(&mut connection).await?;
    connection.close().await
}

impl Drop for Home {
    fn drop(&mut self) {
        let server = self.server.clone();
        let statement = format!("DROP DATABASE IF EXISTS {}", self.name);
        // The test's own runtime cannot be waited for from inside it.
        let dropping = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            if let Ok(runtime) = runtime {
                // A database that stays does no harm: the server is there for tests. One whose tables
                // somebody still holds is not waited for.
                let patience = std::time::Duration::from_secs(10);
                runtime.block_on(async {
                    let _ = tokio::time::timeout(patience, administer(&server, &statement)).await;
                });
            }
        });
        let _ = dropping.join();
    }
}
