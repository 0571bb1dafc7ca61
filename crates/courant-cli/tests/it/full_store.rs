//! The database of a service on a disk that is full: the service waits, and goes on by itself.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use courant_sql::{Sqlite, Store as _, Transaction as _, sqlx};

use crate::disk::Disk;
use crate::dlq::Site;
use crate::{PATIENCE, eventually};

/// More than is left between the rows of a small database, and in its log.
const LARGE: &str = "insert into bills (customer, text) values ('nobody', hex(zeroblob(4000000)))";

/// Fails unless the database has no room.
fn assert_full(database: &Path) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let written = runtime.block_on(async {
        let store = Sqlite::open(database).await.expect("opens");
        let mut tx = store.begin(None).await.expect("begins");
        match sqlx::query(LARGE).execute(&mut *tx).await {
            Ok(_) => tx.commit(1).await.map(drop).map_err(|error| error.to_string()),
            Err(error) => Err(error.to_string()),
        }
    });
    let said = written.expect_err("there is room");
    assert!(said.contains("full"), "{said}");
}

/// A service gives each order one attempt. While its database has no room it tries to commit again and again,
/// and that is no attempt: when there is room each order is billed once, in its order, and none is dead.
#[test]
fn a_service_waits_until_its_database_has_room() {
    const NAME: &str = "full_store::a_service_waits_until_its_database_has_room";
    let Some(disk) = Disk::for_test(NAME) else { return };
    let Some(site) = Site::with(NAME, &[]) else { return };
    // Its events are elsewhere: orders are taken all the time.
    fs::create_dir(disk.data()).unwrap();
    let database = disk.data().join("billing.db");
    fs::write(&database, "").unwrap();
    symlink(&database, site.path("billing.db")).unwrap();
    let mut service = site.start();
    service.place(&["ada 1 fine", "bob 1 fine"]);
    assert_eq!(site.billed(2).len(), 2);

    let ballast = disk.fill();
    assert_full(&database);
    let numbers = 2..=6;
    let orders: Vec<String> =
        numbers.flat_map(|number| ["ada", "bob"].map(|who| format!("{who} {number} fine"))).collect();
    service.place(&orders.iter().map(String::as_str).collect::<Vec<_>>());
    eventually("the first of them is tried again and again", PATIENCE, || {
        (service.has_said("billing ada 2") >= 3).then_some(())
    });
    assert_eq!(site.billed(2).len(), 2, "nothing is billed without room");

    for file in ballast {
        fs::remove_file(file).unwrap();
    }
    let billed = site.billed(12);
    for who in ["ada", "bob"] {
        let of_one: Vec<&String> = billed.iter().filter(|bill| bill.starts_with(who)).collect();
        let expected: Vec<String> = (1..=6).map(|number| format!("{who} {number}")).collect();
        assert!(of_one.iter().copied().eq(&expected), "{of_one:?}");
    }
    assert!(site.rows(&["list", "--letters"]).is_empty(), "a full disk is no failure of an order");
    service.stop();
}
