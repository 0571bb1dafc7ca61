//! MariaDB keeps the contract of stores. Each scenario has a database of its own.

use std::io::Write as _;

use courant_conformance::{StoreSubject, check_store, store_scenarios};
use courant_sql::sqlx::mysql::MySqlConnection;
use courant_sql::sqlx::{self, AssertSqlSafe, Connection as _};
use courant_sql::{Mariadb, Store as _};

async fn run(connection: &mut MySqlConnection, statement: String) -> Result<(), sqlx::Error> {
    sqlx::raw_sql(AssertSqlSafe(statement)).execute(connection).await.map(drop)
}

async fn roll_back(connection: &mut MySqlConnection) {
    let _ = sqlx::query("ROLLBACK").execute(connection).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mariadb() {
    let Ok(server) = std::env::var("COURANT_TEST_MARIADB") else {
        // Not `eprintln!`: the test harness would swallow it.
        let _ = writeln!(std::io::stderr(), "SKIPPED: mariadb::mariadb: no MariaDB here");
        return;
    };
    let mut connection = MySqlConnection::connect(&server).await.expect("connects");
    let databases = 0..store_scenarios::<Mariadb>().len();
    let databases: Vec<_> = databases.map(|n| format!("conformance_{}_{n}", std::process::id())).collect();
    for name in &databases {
        // Not the characters that the framework's tables have: theirs are their own.
        let create = format!("CREATE DATABASE {name} CHARACTER SET latin1");
        run(&mut connection, create).await.expect("a database");
    }
    let (place, _) = server.rsplit_once('/').expect("an address ends with a database");
    let urls: Vec<String> = databases.iter().map(|name| format!("{place}/{name}")).collect();
    let subject = StoreSubject::<Mariadb>::new(Mariadb::NAME, move |number| {
        let url = urls[number as usize].clone();
        Box::pin(async move { Ok(Mariadb::connect(&url).await?) })
    });
    let report = check_store(&subject.ending(|connection| Box::pin(roll_back(connection)))).await;
    for name in &databases {
        // Who still has a transaction open in it would be waited for. One that stays does no harm: the server
        // is there for tests.
        let statement = format!("SET STATEMENT lock_wait_timeout = 5 FOR DROP DATABASE IF EXISTS {name}");
        let _ = run(&mut connection, statement).await;
    }
    report.assert_kept();
}
