//! SQLite in a directory of its own.

use std::path::{Path, PathBuf};
use std::time::Duration;

use courant::prelude::*;
use courant::store_api::{Store as _, Transaction as _};

use super::common::Site;

pub(crate) type Db = Sqlite;

pub(crate) const INSERT_EFFECT: &str = "insert into effects (what) values (?)";
pub(crate) const CREATE_EFFECTS: &str =
    "create table effects (what text not null, n integer primary key autoincrement)";
/// Counts the effects of a key up, and keeps the row of that key until the end of the transaction.
pub(crate) const COUNT_UP: &str = "update counters set number = number + 1 where name = ?";
pub(crate) const NUMBER_OF: &str = "select number from counters where name = ?";
/// Events that two nodes get at once.
pub(crate) const SHARED_EVENTS: u64 = 100;
/// An error that a handler does not pass on leaves its transaction as it was.
pub(crate) const SWALLOWED_ERROR_ENDS: bool = false;
/// What is refused as when the disk is full, and what makes room again.
pub(crate) const NO_ROOM: &str =
    "pragma max_page_count = 1; insert into effects (what) values (hex(zeroblob(1000000)))";
pub(crate) const ROOM: &str = "pragma max_page_count = 1073741823";

/// The program of the bank.
pub(crate) const BANK: &str = "bank-service";
/// Kills of the bank's service in the CI.
pub(crate) const KILLS: u64 = 25;
/// Kills of the server of its events.
pub(crate) const KILLS_ON_A_SERVER: u64 = 5;
const TABLES: &str = include_str!("../../../examples/bank/sqlite/tables.sql");

/// SQLite does not queue those who wait for its lock: beside a busy one, another may wait for long.
const PATIENCE: Duration = Duration::from_secs(60);

/// A database file.
pub(crate) struct Home(PathBuf);

impl Home {
    /// SQLite is always there.
    pub(crate) async fn new(directory: &Path) -> Option<Self> {
        Some(Self(directory.join("service.db")))
    }

    pub(crate) async fn store(&self) -> Db {
        Sqlite::open_with(&self.0, PATIENCE).await.expect("opens")
    }

    pub(crate) async fn run(&self, statement: &'static str) {
        let mut transaction = self.store().await.begin(None).await.expect("begins");
        sqlx::raw_sql(statement).execute(&mut *transaction).await.expect("creates");
        transaction.commit(0).await.expect("commits");
    }
}

/// The database of a bank. SQLite is part of the service, and dies with it.
pub(crate) struct BankHome(PathBuf);

impl BankHome {
    pub(crate) const CAN_DIE: bool = false;

    pub(crate) fn new(directory: &Path) -> Option<Self> {
        let file = directory.join("bank.db");
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(Home(file.clone()).run(TABLES));
        Some(Self(file))
    }

    pub(crate) fn url(&self) -> String {
        format!("sqlite:{}", self.0.display())
    }

    pub(crate) fn kill_and_restart(&mut self) {
        unreachable!("there is nobody to kill: {}", self.0.display());
    }
}

/// For tests that are about one database, which is always there.
impl Site {
    pub(crate) async fn memory() -> Self {
        Self::on_memory().await.expect("SQLite is there")
    }
}
