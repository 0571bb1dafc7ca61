//! The order of records: within a partition, and so within a key.

use std::collections::HashMap;
use std::sync::Arc;

use courant_core::partitioner::partition_for_key;
use courant_engine::{NewRecord, NewTopic, Record};

use crate::on_every_engine;
use crate::place::{Place, publish, read, record, topic_name};

on_every_engine!(
    records_of_a_key_keep_their_order,
    answers_say_where_each_record_is,
    thousands_of_concurrent_publishes_keep_the_order_of_each_key,
    a_large_publish_is_split_and_stays_in_order,
    records_without_a_key_go_to_one_partition_per_call,
);

const PARTITIONS: u32 = 4;

fn text(bytes: Option<&bytes::Bytes>) -> String {
    String::from_utf8(bytes.expect("not null").to_vec()).expect("text")
}

/// The values of each key as they were read, after having looked at offsets and partitions: within a
/// partition offsets follow each other, and a key is where the Java client looks for it.
fn by_key(records: &[Record]) -> HashMap<String, Vec<u32>> {
    let mut ends: HashMap<u32, u64> = HashMap::new();
    let mut keys: HashMap<String, Vec<u32>> = HashMap::new();
    for record in records {
        let number = record.position.partition.number;
        let end = ends.entry(number).or_default();
        assert_eq!(record.position.offset, *end, "partition {number}");
        *end += 1;
        let key = text(record.key.as_ref());
        assert_eq!(number, partition_for_key(key.as_bytes(), PARTITIONS), "{key}");
        keys.entry(key).or_default().push(text(record.value.as_ref()).parse().expect("a number"));
    }
    keys
}

async fn records_of_a_key_keep_their_order(place: &Place) {
    place.topic("orders", PARTITIONS).await;
    let records: Vec<NewRecord> =
        (0..1000u32).map(|n| record(&format!("key-{}", n % 17), n.to_string())).collect();
    for call in records.chunks(37) {
        place.publish(call.to_vec()).await;
    }
    let mut subscription = place.subscribe("billing", "orders").await;
    let keys = by_key(&read(&mut *subscription, 1000).await);
    assert_eq!(keys.len(), 17);
    for (key, values) in keys {
        let number: u32 = key.trim_start_matches("key-").parse().expect("a number");
        let expected: Vec<u32> = (0..1000).filter(|n| n % 17 == number).collect();
        assert_eq!(values, expected, "{key}");
    }
}

async fn answers_say_where_each_record_is(place: &Place) {
    place.topic("orders", PARTITIONS).await;
    let records: Vec<_> = (0..100).map(|n| record(&format!("key-{}", n % 7), n.to_string())).collect();
    let positions = place.publish(records.clone()).await;
    let mut subscription = place.subscribe("billing", "orders").await;
    let found: HashMap<_, _> = read(&mut *subscription, 100)
        .await
        .into_iter()
        .map(|record| (record.position.clone(), record))
        .collect();
    for (record, position) in records.into_iter().zip(positions) {
        assert_eq!(found[&position].value, record.value);
        assert_eq!(found[&position].key, record.key);
    }
}

/// 64 publishers at a time, each with two keys of its own: nothing is lost, nothing comes twice, and
/// each key is in the order in which its publisher was answered.
async fn thousands_of_concurrent_publishes_keep_the_order_of_each_key(place: &Place) {
    const PUBLISHERS: u32 = 64;
    const EACH: u32 = 50;
    place.topic("orders", PARTITIONS).await;
    let publishers: Vec<_> = (0..PUBLISHERS)
        .map(|publisher| {
            let engine = Arc::clone(&place.engine);
            tokio::spawn(async move {
                for n in 0..EACH {
                    let key = |which: &str| format!("{publisher}-{which}");
                    let records = vec![record(&key("a"), n.to_string()), record(&key("b"), n.to_string())];
                    publish(&*engine, records).await;
                }
            })
        })
        .collect();
    for publisher in publishers {
        publisher.await.expect("publishes");
    }
    let mut subscription = place.subscribe("billing", "orders").await;
    let keys = by_key(&read(&mut *subscription, (PUBLISHERS * EACH * 2) as usize).await);
    assert_eq!(keys.len(), 2 * PUBLISHERS as usize);
    for (key, values) in keys {
        assert!(values.iter().copied().eq(0..EACH), "{key}: {values:?}");
    }
}

/// 5 MB in one call are several batches of the log, of which one read gives some.
async fn a_large_publish_is_split_and_stays_in_order(place: &Place) {
    place.topic("orders", 1).await;
    let value = |n: u32| format!("{n:05}").repeat(2000);
    let positions = place.publish((0..500).map(|n| record("key", value(n))).collect()).await;
    assert!(positions.iter().map(|position| position.offset).eq(0..500));
    let mut subscription = place.subscribe("billing", "orders").await;
    let mut read = 0;
    let mut reads = 0;
    while read < 500 {
        let courant_engine::Next::Records(fetched) = crate::place::next(&mut *subscription).await else {
            panic!("records, after {read}");
        };
        assert_eq!(fetched.len(), 1);
        assert_eq!(fetched[0].next_offset, u64::from(read) + fetched[0].records.len() as u64);
        assert_eq!((fetched[0].start, fetched[0].end), (0, 500));
        for record in &fetched[0].records {
            assert_eq!(record.position.offset, u64::from(read));
            assert_eq!(text(record.value.as_ref()), value(read));
            read += 1;
        }
        reads += 1;
    }
    assert!(reads >= 5, "5 MB came in {reads} reads of at most 1 MiB");
}

/// Also where a call has one record, which is published in a shorter way unless its topic compresses it.
async fn records_without_a_key_go_to_one_partition_per_call(place: &Place) {
    place.topic("orders", PARTITIONS).await;
    let packed = NewTopic::new(topic_name("packed"), PARTITIONS).with("compression.type", "zstd");
    place.topic_with(packed).await;
    for (topic, count) in [("orders", 5), ("orders", 1), ("packed", 1)] {
        let keyless = |n: u32| NewRecord { key: None, ..NewRecord::new(topic, "", n.to_string()) };
        let mut used = Vec::new();
        for _ in 0..PARTITIONS {
            let positions = place.publish((0..count).map(keyless).collect()).await;
            let number = positions[0].partition.number;
            assert!(positions.iter().all(|position| position.partition.number == number));
            used.push(number);
        }
        used.sort_unstable();
        assert!(used.iter().copied().eq(0..PARTITIONS), "calls take turns: {topic}, {count}: {used:?}");
    }
}
