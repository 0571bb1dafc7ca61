//! The relay beside transactions that publish: it waits for their lanes only where it has to.

use std::time::Duration;

use courant_sql::{LanePosition, RelayLease, Store as _, Transaction as _};

use super::steps::{Db, Fixture, NOW, new_event, number, run};
use super::submitted::{relay, waiting};

const PUBLISHED: &str = "SELECT CAST(SUM(published) AS SIGNED) FROM courant_outbox_lane";

/// Publishes events of one key, each in a transaction of its own. Their lane.
async fn publish(store: &Db, events: u32) -> u16 {
    for number in 0..events {
        let mut tx = store.begin(None).await.expect("a transaction");
        tx.publish(new_event(&format!("p-{number}"), "k")).expect("room");
        tx.commit(NOW).await.expect("a commit");
    }
    new_event("p", "k").lane()
}

async fn advance(store: &Db, lease: &RelayLease, lane: u16, position: u64) {
    let published = [LanePosition { lane, position }];
    let advanced = tokio::time::timeout(Duration::from_secs(10), store.advance(lease, &published)).await;
    advanced.expect("it waits for nobody").expect("moved on");
}

/// Whoever publishes has the row of its lane until its commit. The relay takes out what it has published all the
/// same, and what waits is counted right, although the lane's row does not say it.
#[tokio::test]
async fn a_lane_that_somebody_has_keeps_no_relay_waiting() {
    let Some(fixture) = Fixture::new().await else { return };
    let (store, lease) = (&fixture.store, relay(&fixture.store).await);
    let lane = publish(store, 40).await;
    let mut writer = store.begin(None).await.expect("a transaction");
    let lock = format!("UPDATE courant_outbox_lane SET position = position WHERE lane = {lane}");
    run(&mut writer, &lock).await;
    advance(store, &lease, lane, 30).await;
    assert_eq!(number(store, PUBLISHED).await, 0, "somebody has the lane");
    assert_eq!(store.outbox_backlog().await.expect("a number"), 10);
    assert_eq!(waiting(store).await.len(), 10);
    writer.rollback().await.expect("a rollback");
    advance(store, &lease, lane, 31).await;
    assert_eq!(number(store, PUBLISHED).await, 31, "nobody has it now");
}

/// The row of a lane is written once for many events, and never further than they were published. Positions go
/// on where they were.
#[tokio::test]
async fn a_lane_is_touched_once_for_many_events() {
    let Some(fixture) = Fixture::new().await else { return };
    let (store, lease) = (&fixture.store, relay(&fixture.store).await);
    let lane = publish(store, 40).await;
    let mut written = 0;
    let mut last = 0;
    for position in 1..=40 {
        advance(store, &lease, lane, position).await;
        let published = number(store, PUBLISHED).await;
        assert!(published <= i64::try_from(position).expect("small") && published >= last);
        written += u32::from(published != last);
        last = published;
        assert_eq!(store.outbox_backlog().await.expect("a number"), 40 - position);
    }
    assert_eq!((written, last), (2, 32));
    assert_eq!(number(store, "SELECT COUNT(*) FROM courant_outbox").await, 0);
    assert!(store.pending(0, 10, u64::MAX).await.expect("what waits").is_empty());
    publish(store, 1).await;
    let next = store.pending(0, 10, u64::MAX).await.expect("what waits");
    assert_eq!(next[0].events[0].at, LanePosition { lane, position: 41 });
}

/// A lane that somebody always has would hide its first row further and further behind what is gone. So the relay
/// waits for it in the end, and what it reads until then begins behind what is gone.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lane_is_not_left_far_behind() {
    let Some(fixture) = Fixture::new().await else { return };
    let (store, lease) = (&fixture.store, relay(&fixture.store).await);
    let lane = publish(store, 100).await;
    let mut writer = store.begin(None).await.expect("a transaction");
    let lock = format!("UPDATE courant_outbox_lane SET position = position WHERE lane = {lane}");
    run(&mut writer, &lock).await;
    advance(store, &lease, lane, 63).await;
    let next = store.pending(0, 2, u64::MAX).await.expect("what waits");
    let read: Vec<u64> = next[0].events.iter().map(|pending| pending.at.position).collect();
    assert_eq!(read, [64, 65]);
    assert_eq!(store.outbox_backlog().await.expect("a number"), 37);
    let advancing = tokio::spawn({
        let (store, lease) = (store.clone(), lease.clone());
        async move { advance(&store, &lease, lane, 64).await }
    });
    let waits = "SELECT COUNT(*) FROM information_schema.PROCESSLIST WHERE DB = DATABASE() \
                 AND INFO LIKE 'UPDATE courant_outbox_lane FORCE%' AND ID <> CONNECTION_ID()";
    while number(store, waits).await == 0 {
        assert!(!advancing.is_finished(), "it has not waited");
    }
    writer.rollback().await.expect("a rollback");
    advancing.await.expect("moved on");
    assert_eq!(number(store, PUBLISHED).await, 64);
    assert_eq!(store.outbox_backlog().await.expect("a number"), 36);
}
