//! Postgres keeps the contract of stores. Each scenario has a schema of its own.

use std::io::Write as _;

use courant_conformance::{StoreSubject, check_store, store_scenarios};
use courant_sql::sqlx::{self, AssertSqlSafe, Connection as _, PgConnection};
use courant_sql::{Postgres, Store as _};

async fn run(connection: &mut PgConnection, statements: String) {
    sqlx::raw_sql(AssertSqlSafe(statements)).execute(connection).await.expect("a schema");
}

async fn roll_back(connection: &mut PgConnection) {
    let _ = sqlx::query("ROLLBACK").execute(connection).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn postgres() {
    let Ok(server) = std::env::var("COURANT_TEST_POSTGRES") else {
        // Not `eprintln!`: the test harness would swallow it.
        let _ = writeln!(std::io::stderr(), "SKIPPED: postgres::postgres: no Postgres here");
        return;
    };
    let mut connection = PgConnection::connect(&server).await.expect("connects");
    let schemas = 0..store_scenarios::<Postgres>().len();
    let schemas: Vec<_> = schemas.map(|n| format!("conformance_{}_{n}", std::process::id())).collect();
    run(&mut connection, schemas.iter().map(|name| format!("CREATE SCHEMA {name};")).collect()).await;
    let subject = StoreSubject::<Postgres>::new(Postgres::NAME, {
        let schemas = schemas.clone();
        move |number| {
            let url = format!("{server}?options=-c%20search_path%3D{}", schemas[number as usize]);
            Box::pin(async move { Ok(Postgres::connect(&url).await?) })
        }
    });
    let report = check_store(&subject.ending(|connection| Box::pin(roll_back(connection)))).await;
    run(&mut connection, schemas.iter().map(|name| format!("DROP SCHEMA {name} CASCADE;")).collect()).await;
    report.assert_kept();
}
