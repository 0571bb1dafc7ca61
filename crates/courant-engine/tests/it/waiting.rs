//! Waiting for records: what wakes a subscription, and what ends it.

use std::time::Duration;

use courant_engine::{CommitError, FetchError, Next, Partition, PublishError, ReadError, TopicsError};
use tokio::time::timeout;

use crate::on_every_engine;
use crate::place::{PATIENCE, Place, read, record, topic_name};

on_every_engine!(
    a_wait_ends_when_something_is_published,
    a_wait_without_news_ends_with_nothing,
    closing_ends_a_wait_with_an_error_and_everything_after_it,
    a_next_that_is_dropped_loses_nothing,
    after_a_wait_that_was_given_up_everything_is_found,
    the_shortest_waits_find_what_there_is,
);

/// Longer than the test's patience: only being woken ends such a wait in time.
const FOR_EVER: Duration = Duration::from_secs(300);

/// Many times, so that the record comes before the wait, during its beginning and after it.
async fn a_wait_ends_when_something_is_published(place: &Place) {
    place.topic("orders", 3).await;
    let mut subscription = place.subscribe("billing", "orders").await;
    for n in 0..100 {
        assert_eq!(subscription.next(Duration::ZERO).await, Ok(Next::Nothing), "{n}");
        let publishing = place.publish(vec![record(&format!("key-{n}"), "value")]);
        let both = async { tokio::join!(subscription.next(FOR_EVER), publishing) };
        let (found, positions) = timeout(PATIENCE, both).await.expect("it is woken");
        let Ok(Next::Records(fetched)) = found else { panic!("records, not {found:?}") };
        assert_eq!(fetched[0].records[0].position, positions[0]);
    }
}

async fn a_wait_without_news_ends_with_nothing(place: &Place) {
    place.topic("orders", 1).await;
    place.topic("payments", 1).await;
    let mut subscription = place.subscribe("billing", "orders").await;
    // What is published elsewhere is no news.
    place.publish(vec![courant_engine::NewRecord::new("payments", "key", "value")]).await;
    let found = timeout(PATIENCE, subscription.next(Duration::from_millis(20))).await.expect("in time");
    assert_eq!(found, Ok(Next::Nothing));
}

async fn closing_ends_a_wait_with_an_error_and_everything_after_it(place: &Place) {
    place.topic("orders", 1).await;
    let partition = Partition::new("orders", 0);
    let mut subscription = place.subscribe("billing", "orders").await;
    let both = async { tokio::join!(subscription.next(FOR_EVER), place.engine.close()) };
    let (found, ()) = timeout(PATIENCE, both).await.expect("it is woken");
    assert_eq!(found, Err(FetchError::Closed));
    assert_eq!(subscription.next(FOR_EVER).await, Err(FetchError::Closed));
    let engine = &place.engine;
    assert_eq!(engine.publish(vec![record("key", "value")]).await, [Err(PublishError::Closed)]);
    assert_eq!(engine.topics(vec![topic_name("orders")]).await, Err(TopicsError::Closed));
    assert_eq!(engine.ends(vec![partition.clone()]).await, [Err(ReadError::Closed)]);
    assert_eq!(engine.read(vec![partition.at(0)]).await, [Err(ReadError::Closed)]);
    let committed = engine.commit("billing".to_owned(), vec![partition.at(0)]).await;
    assert_eq!(committed, Err(CommitError::Closed));
    engine.close().await;
}

/// Every second call is given up after it has begun; each record still comes once, in order.
async fn a_next_that_is_dropped_loses_nothing(place: &Place) {
    place.topic("orders", 1).await;
    let mut subscription = place.subscribe("billing", "orders").await;
    for n in 0..50u64 {
        place.publish(vec![record("key", n.to_string())]).await;
        // A timeout of nothing lets the future begin, and drops it.
        if let Ok(found) = timeout(Duration::ZERO, subscription.next(FOR_EVER)).await {
            let Ok(Next::Records(fetched)) = found else { panic!("records, not {found:?}") };
            assert_eq!(fetched[0].records[0].position.offset, n);
            continue;
        }
        assert_eq!(read(&mut *subscription, 1).await[0].position.offset, n);
    }
}

/// A wait that was given up goes on with the next call: it hears what was published meanwhile, and of a partition
/// that is sought or was paused it does not go by what it knew.
async fn after_a_wait_that_was_given_up_everything_is_found(place: &Place) {
    place.topic("orders", 1).await;
    let partition = Partition::new("orders", 0);
    let mut subscription = place.subscribe("billing", "orders").await;
    for n in 0..20u64 {
        let given_up = timeout(Duration::from_millis(5), subscription.next(FOR_EVER)).await;
        assert!(given_up.is_err(), "there is nothing yet: {given_up:?}");
        place.publish(vec![record("key", n.to_string())]).await;
        assert_eq!(read(&mut *subscription, 1).await[0].position.offset, n);
    }
    assert!(timeout(Duration::from_millis(5), subscription.next(FOR_EVER)).await.is_err());
    subscription.seek(vec![partition.at(3)]).expect("it has the partition");
    assert_eq!(read(&mut *subscription, 17).await[0].position.offset, 3);
    subscription.pause(std::slice::from_ref(&partition));
    subscription.seek(vec![partition.at(4)]).expect("it has the partition");
    assert!(timeout(Duration::from_millis(5), subscription.next(FOR_EVER)).await.is_err(), "it is paused");
    subscription.resume(std::slice::from_ref(&partition));
    assert_eq!(read(&mut *subscription, 16).await[0].position.offset, 4);
}

/// A wait that is over as soon as it begins has not waited for anything, and finds what was published before.
async fn the_shortest_waits_find_what_there_is(place: &Place) {
    place.topic("orders", 1).await;
    let mut subscription = place.subscribe("billing", "orders").await;
    let given_up = timeout(Duration::from_millis(5), subscription.next(FOR_EVER)).await;
    assert!(given_up.is_err(), "there is nothing yet: {given_up:?}");
    place.publish(vec![record("key", "value")]).await;
    let found = timeout(PATIENCE, async {
        loop {
            match subscription.next(Duration::from_nanos(1)).await {
                Ok(Next::Nothing) => tokio::task::yield_now().await,
                found => return found,
            }
        }
    });
    let found = found.await.expect("in time");
    let Ok(Next::Records(fetched)) = found else { panic!("records, not {found:?}") };
    assert_eq!(fetched[0].records[0].position.offset, 0);
}
