//! Progress is kept, and what others have done is looked at, beside what is handled.

use std::time::Duration;

use courant::prelude::*;
use courant::store_api::{Store as _, Transaction as _};

use super::common::{Db, Script, Site, count, counted, effects, publish};

/// More than are settled before progress is kept.
const EVENTS: u32 = 1_500;

/// Somebody has the table of progress for as long as that takes: all events are handled meanwhile, and how far
/// that is is kept afterwards.
#[tokio::test(flavor = "multi_thread")]
async fn handlers_do_not_wait_for_progress() {
    let Some(site) = Site::on_memory().await else { return };
    let counting = Subscription::named("counting").concurrency(4).batchable(10).on(count);
    let service = site.app().await.state(Script::default()).subscribe(counting).build().await;
    let service = service.expect("fits together");
    let publisher = service.publisher();
    for n in 1..=EVENTS {
        publisher.publish(&counted(&format!("key-{}", n % 50), n)).await.expect("publishes");
    }
    let other = site.store().await;
    let mut locking = other.begin(None).await.expect("begins");
    sqlx::query("lock table courant_progress in exclusive mode").execute(&mut *locking).await.expect("locks");
    let mut service = service.start().await.expect("starts");
    let handled = async {
        while effects(&other).await.len() < EVENTS as usize {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), handled).await.expect("nobody waits");
    locking.rollback().await.expect("lets go");
    service.settle().await.expect("settles");
    let mut reader = other.read().await.expect("reads");
    let (kept,): (i64,) = sqlx::query_as("select sum(event_offset + 1)::bigint from courant_progress")
        .fetch_one(&mut *reader)
        .await
        .expect("selects");
    assert_eq!(kept, i64::from(EVENTS));
    service.stop().await.expect("stops");
}

/// Waits until somebody waits for the table of redrives.
async fn somebody_waits(store: &Db) {
    let sql = "select count(*) from pg_locks where not granted and relation = 'courant_redrive'::regclass";
    loop {
        let mut reader = store.read().await.expect("reads");
        let (waiting,): (i64,) = sqlx::query_as(sql).fetch_one(&mut *reader).await.expect("selects");
        if waiting > 0 {
            return;
        }
        tokio::task::yield_now().await;
    }
}

/// Somebody has the table that a look reads for as long as that takes: all events are handled meanwhile.
#[tokio::test(flavor = "multi_thread")]
async fn handlers_do_not_wait_for_a_look() {
    let Some(site) = Site::on_memory().await else { return };
    let counting = Subscription::named("counting").on(count);
    let service = site.app().await.state(Script::default()).subscribe(counting).build().await;
    let mut service = service.expect("fits together").start().await.expect("starts");
    service.settle().await.expect("settles");
    let other = site.store().await;
    let mut locking = other.begin(None).await.expect("begins");
    sqlx::query("lock table courant_redrive in access exclusive mode")
        .execute(&mut *locking)
        .await
        .expect("locks");
    // It is time to look.
    site.world.advance(Duration::from_secs(1));
    tokio::time::timeout(Duration::from_secs(60), somebody_waits(&other)).await.expect("there is a look");
    publish(&service, (1..=20).map(|n| counted("a", n))).await;
    let handled = async {
        while effects(&other).await.len() < 20 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), handled).await.expect("nobody waits");
    locking.rollback().await.expect("lets go");
    service.settle().await.expect("settles");
    service.stop().await.expect("stops");
}
