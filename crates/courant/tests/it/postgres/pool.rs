//! Fewer connections than events that are handled at once: everybody waits for a turn, and nobody waits
//! for ever.

use std::time::Duration;

use courant::prelude::*;

use super::common::{Script, Site, count, counted, effects, numbered, of_key, publish, seconds};

const KEYS: u32 = 64;
const EVENTS: u32 = 4;

/// As many at once as there are keys, with a store of so many connections. A third of the keys fails
/// first, so that parking, retrying, progress and the relay want connections as well.
async fn all_is_handled_with(connections: u32) {
    let Some(site) = Site::on_memory().await else { return };
    let script = Script::default();
    (0..KEYS).step_by(3).for_each(|key| script.fail_times(&format!("key-{key}:1"), 1));
    let store = Postgres::connect_with(&site.home.url(), connections).await.expect("opens");
    let counting = Subscription::named("counting").concurrency(64).retry(Retry::every(seconds(1))).on(count);
    let app = App::new("test").engine(site.engine()).partitions(4).in_world(&site.world).store(store);
    let service = app.state(script.clone()).subscribe(counting).build().await.expect("fits together");
    let mut service = service.start().await.expect("starts");
    for n in 1..=EVENTS {
        publish(&service, (0..KEYS).map(|key| counted(&format!("key-{key}"), n))).await;
    }
    let settled = async {
        service.settle().await.expect("settles");
        site.advance(&mut service, seconds(1)).await;
    };
    tokio::time::timeout(Duration::from_secs(60), settled).await.expect("nobody waits for ever");
    let done = effects(service.store()).await;
    for key in (0..KEYS).map(|key| format!("key-{key}")) {
        assert_eq!(of_key(&done, &key), numbered(&key, 1..=EVENTS));
    }
    service.stop().await.expect("stops");
}

#[tokio::test(flavor = "multi_thread")]
async fn sixteen_connections_are_enough_for_64_handlers() {
    all_is_handled_with(16).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_connection_is_enough_for_64_handlers() {
    all_is_handled_with(1).await;
}
