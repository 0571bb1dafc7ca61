//! The bank of `bank/service.rs` on SQLite.
#![allow(clippy::print_stdout, reason = "stdout is what the one who drives it reads")]

/// The database that it is written for.
type Db = courant::prelude::Sqlite;

/// A statement of the bank.
macro_rules! sql {
    ($name:literal) => {
        include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/examples/bank/sqlite/", $name, ".sql"))
    };
}

#[path = "bank/service.rs"]
mod service;

#[tokio::main]
async fn main() -> Result<(), courant::BoxError> {
    service::run().await
}
