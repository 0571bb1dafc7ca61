//! Another process holds the write lock.

use std::io::{BufRead as _, BufReader, Read as _};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::Duration;

use courant_sql::{BeginError, Class, CommitError, Sqlite, Store as _, StoreError, Transaction as _};

use super::steps::{Fixture, NOW, assignment, effect};

/// Names the database for the process that holds its lock.
const DATABASE: &str = "COURANT_SQL_TEST_HOLD";
const HOLDS: &str = "holds the lock";

/// The other process: this test of this binary, told by its environment what to hold. It lets go when
/// its input ends, so also when the test that started it is gone.
#[tokio::test]
async fn the_other_process() {
    let Ok(path) = std::env::var(DATABASE) else { return };
    let store = Sqlite::open(path.as_ref()).await.expect("the database");
    let tx = store.begin(None).await.expect("a transaction");
    println!("{HOLDS}");
    let mut input = String::new();
    std::io::stdin().read_to_string(&mut input).expect("an end");
    drop(tx);
}

/// Starts the other process and waits until it has the lock. Its output stays open: it says more when it
/// ends.
fn hold(fixture: &Fixture) -> (Child, BufReader<ChildStdout>) {
    let mut child = Command::new(std::env::current_exe().expect("this binary"))
        .args(["--exact", "sqlite::busy::the_other_process", "--nocapture"])
        .env(DATABASE, fixture.path())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("a process");
    let mut output = BufReader::new(child.stdout.take().expect("its output"));
    let held = output.by_ref().lines().any(|line| line.expect("a line").contains(HOLDS));
    assert!(held, "the other process has ended without the lock");
    (child, output)
}

fn is_busy(error: &StoreError) {
    assert_eq!(error.class(), Class::Busy, "{error}");
    assert!(error.is_retriable());
    assert!(error.to_string().contains("another connection holds the lock: try again"), "{error}");
}

/// Whatever writes is refused with an error that says so, by its class; reading goes on; the same again
/// succeeds once the other process has let go.
#[tokio::test]
async fn a_lock_that_another_process_holds_is_retriable() {
    let Some(fixture) = Fixture::new().await else { return };
    let store = Sqlite::open_with(&fixture.path(), Duration::from_millis(20)).await.expect("a store");
    let lease = store.take_over(&assignment("billing"), "test", NOW).await.expect("a lease");
    let (mut other, _output) = hold(&fixture);

    match store.begin(Some(&lease)).await.expect_err("it is locked") {
        BeginError::Store(error) => is_busy(&error),
        error => panic!("{error}"),
    }
    is_busy(&store.take_over(&assignment("billing"), "test", NOW).await.expect_err("it is locked"));
    assert_eq!(store.outbox_backlog().await.expect("reading goes on"), 0);

    drop(other.stdin.take());
    assert!(other.wait().expect("it ends").success());
    let mut tx = store.begin(Some(&lease)).await.expect("the same again");
    effect(&mut tx, "e-1").await;
    let committed: Result<_, CommitError> = tx.commit(NOW).await;
    committed.expect("a commit");
    assert_eq!(fixture.effects("e-1").await, 1);
}
