//! The transaction of the next event begins with the commit of the one before it.

use courant::prelude::*;
use courant::testkit::FaultPoint;

use super::common::{Db, Script, Site, count, counted, effects};

const KEYS: u32 = 5;

/// Transactions that stand open, and were begun by what has committed another one.
async fn begun_with_a_commit(store: &Db) -> i64 {
    let sql = "select count(*) from pg_stat_activity where datname = current_database() \
               and state = 'idle in transaction' and query like '%; COMMIT; BEGIN %'";
    let mut reader = store.read().await.expect("reads");
    let (begun,): (i64,) = sqlx::query_as(sql).fetch_one(&mut *reader).await.expect("selects");
    begun
}

/// When nobody knows yet that an event is committed, the next one is admitted already. Killed there, the service
/// has handled the one and not the other.
#[tokio::test(flavor = "multi_thread")]
async fn the_next_event_is_admitted_with_a_commit() {
    let Some(site) = Site::on_files().await else { return };
    let script = Script::default();
    let build = async || {
        let counting = Subscription::named("counting").concurrency(1).on(count);
        let service = site.app().await.state(script.clone()).subscribe(counting).build().await;
        service.expect("fits together")
    };
    site.world.crash_at(FaultPoint::AfterCommit, 0);
    let service = build().await;
    // Before it starts: all of them stand ready from the beginning.
    for key in 0..KEYS {
        let event = counted(&format!("key-{key}"), 1);
        service.publisher().publish(&event).await.expect("publishes");
    }
    let service = service.start().await.expect("starts");
    site.world.crashed(1).await;
    let other = site.store().await;
    assert_eq!(begun_with_a_commit(&other).await, 1);
    assert_eq!(effects(&other).await.len(), 1);
    service.kill().await;

    let mut service = build().await.start().await.expect("starts");
    service.settle().await.expect("settles");
    assert_eq!(effects(service.store()).await.len(), KEYS as usize);
    service.stop().await.expect("stops");
    assert_eq!(script.called().len(), KEYS as usize, "each was handled once");
}
