//! A database that cannot be written while the service is to end: another program has its lock.

use std::time::Duration;

use courant::prelude::*;
use courant::store_api::{Store as _, Transaction as _};
use tokio::time::Instant;

use super::common::{Script, Site, count, counted, effects, numbered, publish};

/// An event that nobody handles: it is settled in the loop, which keeps that at once.
#[derive(Event, Serialize, Deserialize)]
#[event(type = "test.unheard", topic = "test.counted", key = key)]
struct Unheard {
    key: String,
}

/// What the store does not do is tried again without end: to keep progress, in the loop, and to handle an
/// event, in a worker. The service ends all the same, within its bounds, and the next one goes on.
#[tokio::test]
async fn a_service_ends_while_its_store_is_away() {
    let Some(site) = Site::on_memory().await else { return };
    // The last connection that closes locks the file for a moment, and the store below waits for nobody: this
    // one is open all the time.
    let other = site.store().await;
    let store = Sqlite::open_with(&site.path("service.db"), Duration::from_millis(1)).await.expect("opens");
    let app = App::new("test").engine(site.engine()).partitions(1).in_world(&site.world).store(store);
    let app = app.state(Script::default()).subscribe(Subscription::named("counting").on(count));
    let mut service = app.build().await.expect("fits together").start().await.expect("starts");
    publish(&service, [counted("a", 1)]).await;
    service.settle().await.expect("settles");

    let lock = other.begin(None).await.expect("has the lock");
    service.publisher().publish(&Unheard { key: "a".to_owned() }).await.expect("publishes");
    publish(&service, [counted("a", 2)]).await;
    // From here on time passes whenever everybody waits. The loop comes to the events before it is stopped.
    tokio::time::pause();
    tokio::time::sleep(Duration::from_secs(1)).await;
    let begun = Instant::now();
    service.stop().await.expect("ends");
    // It gives up after a minute at the latest. Time that nobody needs passes while SQLite works, so how much of
    // the minute that takes is no matter.
    assert!(begun.elapsed() < Duration::from_secs(70), "{:?}", begun.elapsed());
    tokio::time::resume();
    lock.rollback().await.expect("rolls back");

    let counting = Subscription::named("counting").on(count);
    let service = site.app().await.state(Script::default()).subscribe(counting).build().await;
    service.expect("fits together").run_until_settled().await.expect("settles");
    assert_eq!(effects(&other).await, numbered("a", 1..=2));
}
