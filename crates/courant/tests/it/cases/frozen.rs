//! An instance that is stopped in the middle of a handler, and keeps its partition.

use courant::prelude::*;
use courant::store_api::{Assignment, Consumer, Store as _, Transaction as _};
use courant_core::consumer::ConsumerName;
use courant_core::position::TopicPartition;
use courant_core::topic::TopicName;

use super::common::{Script, Site, count, counted, effects, publish, seconds};

/// The other instance has two partitions to take over, and one of them is kept by an owner that stands still.
/// The other one goes on at once, and this one when its owner is gone.
#[tokio::test(flavor = "multi_thread")]
async fn a_partition_that_is_kept_holds_no_other_one_up() {
    let Some(site) = Site::on_memory().await else { return };
    let store = site.store().await;
    let topic = TopicName::new("test.counted").expect("legal");
    let assignment = Assignment {
        consumer: Consumer { name: ConsumerName::new("counting").expect("legal"), generation: 1 },
        partition: TopicPartition { topic, partition: 0 },
    };
    let lease = store.take_over(&assignment, "frozen", site.world.now_ms()).await.expect("takes it");
    let frozen = store.begin(Some(&lease)).await.expect("begins");

    let app = App::new("test").engine(site.engine()).partitions(2).in_world(&site.world);
    let app = app.store(site.store().await).state(Script::default());
    let service = app.subscribe(Subscription::named("counting").on(count)).build().await;
    let mut service = service.expect("fits together").start().await.expect("starts");
    publish(&service, (0..20).map(|key| counted(&format!("key-{key}"), 1))).await;
    let others = async {
        while effects(&store).await.is_empty() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(seconds(60), others).await.expect("the other partition goes on");
    assert!(effects(&store).await.len() < 20, "some are in the partition that is kept");

    frozen.rollback().await.expect("rolls back");
    service.settle().await.expect("settles");
    assert_eq!(effects(&store).await.len(), 20);
    service.stop().await.expect("stops");
}
