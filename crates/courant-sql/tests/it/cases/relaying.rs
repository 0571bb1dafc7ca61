//! The relay beside transactions that publish: it does not wait for their lanes. (On MariaDB it does in the end,
//! as that store's own tests show.)

use std::time::Duration;

use courant_sql::{LanePosition, RelayLease, Store as _, Transaction as _};

use super::steps::{Db, Fixture, NOW, new_event, number, run};
use super::submitted::{relay, waiting};
use super::support::PUBLISHED;

/// Publishes events of one key, each in a transaction of its own. Their lane.
pub(crate) async fn publish(store: &Db, events: u32) -> u16 {
    for number in 0..events {
        let mut tx = store.begin(None).await.expect("a transaction");
        tx.publish(new_event(&format!("p-{number}"), "k")).expect("room");
        tx.commit(NOW).await.expect("a commit");
    }
    new_event("p", "k").lane()
}

/// The relay takes out what it has published. Whoever has a lane here has it until later: a relay that waits for
/// that waits in vain, however long.
pub(crate) async fn advance(store: &Db, lease: &RelayLease, lane: u16, position: u64) {
    let published = [LanePosition { lane, position }];
    let advanced = tokio::time::timeout(Duration::from_secs(45), store.advance(lease, &published)).await;
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
