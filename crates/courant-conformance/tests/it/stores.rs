//! The stores of this workspace keep their contract.

use courant_conformance::{StoreSubject, check_store};
use courant_sql::sqlx::{self, SqliteConnection};
use courant_sql::{Sqlite, Store as _};

/// As a handler can: with the driver. What the database says is of no interest to it.
pub(crate) async fn roll_back(connection: &mut SqliteConnection) {
    let _ = sqlx::query("ROLLBACK").execute(connection).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sqlite() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().to_owned();
    let subject = StoreSubject::<Sqlite>::new(Sqlite::NAME, move |number| {
        let file = path.join(format!("{number}.db"));
        Box::pin(async move { Ok(Sqlite::open(&file).await?) })
    });
    let report = check_store(&subject.ending(|connection| Box::pin(roll_back(connection)))).await;
    report.assert_kept();
    assert_eq!(report.left_out, Vec::<&str>::new());
}
