//! What a record consists of comes back as it was given.

use bytes::Bytes;
use courant_engine::{NewRecord, NewTopic};

use crate::on_every_engine;
use crate::place::{NOW_MS, Place, headers, read, record, topic_name};

on_every_engine!(
    every_part_comes_back_as_it_was,
    compressed_topics_give_the_same_records,
    a_topic_can_have_the_time_of_arrival,
);

/// Null and empty are different, names repeat and keep their order, and bytes need not be text.
fn curious() -> Vec<NewRecord> {
    let no_key = NewRecord { key: None, ..record("", "value") };
    let tombstone = NewRecord { value: None, timestamp_ms: Some(1), ..record("key", "") };
    let oldest = NewRecord { timestamp_ms: Some(0), ..record("key", "1970") };
    let empty = NewRecord { timestamp_ms: Some(7), ..record("", "") };
    let decorated = NewRecord {
        headers: headers(&[
            (b"a", Some(b"1")),
            (b"a", Some(b"2")),
            (b"b", None),
            (b"a", Some(b"")),
            (b"", Some(b"no name")),
            (b"bytes", Some(b"\0\xff")),
        ]),
        ..record("key", Bytes::from_static(b"\0\x01\xff"))
    };
    let foreign = NewRecord { headers: headers(&[(b"\xff\xfe", Some(b"\0\xff"))]), ..record("key", "") };
    vec![no_key, tombstone, oldest, empty, decorated, foreign]
}

async fn compare(place: &Place) {
    let sent: Vec<_> = curious().into_iter().filter(|record| place.can_send(record)).collect();
    let positions = place.publish(sent.clone()).await;
    let mut subscription = place.subscribe("billing", "orders").await;
    let found = read(&mut *subscription, sent.len()).await;
    for ((sent, found), position) in sent.into_iter().zip(found).zip(positions) {
        assert_eq!(found.position, position);
        assert_eq!(found.timestamp_ms, sent.timestamp_ms.unwrap_or(NOW_MS));
        assert_eq!((found.key, found.value), (sent.key, sent.value));
        assert_eq!(found.headers, sent.headers);
    }
}

async fn every_part_comes_back_as_it_was(place: &Place) {
    place.topic("orders", 1).await;
    compare(place).await;
}

async fn compressed_topics_give_the_same_records(place: &Place) {
    place.topic_with(NewTopic::new(topic_name("orders"), 1).with("compression.type", "zstd")).await;
    compare(place).await;
}

async fn a_topic_can_have_the_time_of_arrival(place: &Place) {
    let topic = NewTopic::new(topic_name("orders"), 1).with("message.timestamp.type", "LogAppendTime");
    place.topic_with(topic).await;
    place.publish(vec![NewRecord { timestamp_ms: Some(5), ..record("key", "value") }]).await;
    let mut subscription = place.subscribe("billing", "orders").await;
    assert!(place.is_arrival(read(&mut *subscription, 1).await[0].timestamp_ms));
}
