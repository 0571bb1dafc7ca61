//! The server dies in the middle of publishes and comes back: whatever was acknowledged is there once, in
//! order, and so is what was sent when it died, without the publisher doing anything.

use std::sync::Arc;

use courant_core::partitioner::partition_for_key;
use courant_engine::{Engine, Partition};
use tempfile::TempDir;
use tokio::sync::watch;

use crate::place::{Place, publish, read, record};
use crate::server::{Server, opened};

const PARTITIONS: u32 = 3;
const PUBLISHERS: u64 = 4;
const CALLS: u64 = 150;
const RECORDS: u64 = 5;
const DEATHS: u64 = 3;

/// Publishes one key's records in order, a few at a time, and counts the calls that were answered.
async fn publishes(engine: Arc<dyn Engine>, publisher: u64, answered: watch::Sender<u64>) {
    for call in 0..CALLS {
        let numbers = call * RECORDS..(call + 1) * RECORDS;
        let records = numbers.map(|n| record(&format!("key-{publisher}"), n.to_string())).collect();
        publish(&*engine, records).await;
        answered.send_modify(|answered| *answered += 1);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_lost_or_comes_twice_when_the_server_dies() {
    let data = TempDir::new().expect("a directory");
    let test = "nothing_is_lost_or_comes_twice_when_the_server_dies";
    let Some(mut server) = Server::start(data.path(), test) else { return };
    let engine = opened(&server.url()).await.expect("opens");
    let place = Place::new(engine.clone(), false, None);
    place.topic("orders", PARTITIONS).await;
    let answered = watch::Sender::new(0);
    let publishers: Vec<_> = (0..PUBLISHERS)
        .map(|publisher| tokio::spawn(publishes(engine.clone(), publisher, answered.clone())))
        .collect();
    let all = PUBLISHERS * CALLS;
    for death in 1..=DEATHS {
        let mut seen = answered.subscribe();
        // In the middle: a part of the calls was answered, and others are under way.
        seen.wait_for(|answered| *answered >= all * death / (DEATHS + 1)).await.expect("there");
        server = tokio::task::spawn_blocking({
            let data = data.path().to_owned();
            move || server.restart(&data)
        })
        .await
        .expect("restarts");
    }
    for publisher in publishers {
        publisher.await.expect("every record is taken");
    }
    let mut subscription = place.subscribe("audit", "orders").await;
    let found = read(&mut *subscription, usize::try_from(all * RECORDS).expect("few")).await;
    for publisher in 0..PUBLISHERS {
        let key = format!("key-{publisher}");
        let number = partition_for_key(key.as_bytes(), PARTITIONS);
        let of_key = found.iter().filter(|record| record.key.as_deref() == Some(key.as_bytes()));
        let values = of_key.map(|record| {
            assert_eq!(record.position.partition.number, number);
            let value = record.value.as_deref().expect("a value");
            std::str::from_utf8(value).expect("text").parse::<u64>().expect("a number")
        });
        assert!(values.eq(0..CALLS * RECORDS), "{key}: lost, twice or out of order");
    }
    let partitions = (0..PARTITIONS).map(|number| Partition::new("orders", number)).collect();
    let ends = engine.ends(partitions).await;
    let stored: u64 = ends.into_iter().map(|ends| ends.expect("there").end).sum();
    assert_eq!(stored, all * RECORDS, "nothing else is there");
    engine.close().await;
    drop(server);
}
