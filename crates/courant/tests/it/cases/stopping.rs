//! A service that is stopped loses nothing and does nothing twice.

use courant::prelude::*;

use super::common::{Script, Site, count, counted, effects, numbered, publish};

/// G2: stopped and started again and again while events come.
#[tokio::test(flavor = "multi_thread")]
async fn restarts_under_load_lose_nothing_and_repeat_nothing() {
    let Some(site) = Site::on_files().await else { return };
    let script = Script::default();
    for round in 0..5 {
        let counting = Subscription::named("counting").concurrency(4).on(count);
        let service = site.app().await.state(script.clone()).subscribe(counting).build().await;
        let service = service.expect("fits together").start().await.expect("starts");
        for n in 1..=20 {
            publish(&service, (0..3).map(|key| counted(&format!("key-{key}"), round * 20 + n))).await;
        }
        // Without waiting: some are under way, some not begun.
        service.stop().await.expect("stops");
    }
    let counting = Subscription::named("counting").on(count);
    let service = site.app().await.state(script.clone()).subscribe(counting).build().await;
    service.expect("fits together").run_until_settled().await.expect("settles");
    let effects = effects(&site.store().await).await;
    for key in (0..3).map(|key| format!("key-{key}")) {
        assert_eq!(super::common::of_key(&effects, &key), numbered(&key, 1..=100));
    }
    assert_eq!(script.called().len(), 300, "no handler was called twice");
}
