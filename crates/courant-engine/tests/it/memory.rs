//! What is particular about `memory:`: it can be full.

use courant_engine::{NewRecord, NewTopic, Partition, PublishError};

use crate::engines::opened;
use crate::place::{NOW_MS, publish, record, topic_name};

/// 96 MiB, most of them for the journal and one topic that keeps everything: when they are full, what is
/// there stays readable and the refusal says what to change.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn memory_that_is_full_says_how_to_make_room() {
    let engine = opened("memory:?bytes=100663296").await.expect("opens");
    let topic = NewTopic::new(topic_name("orders"), 1).with("retention.bytes", "-1");
    engine.create_topics(vec![topic]).await.remove(0).expect("created");
    let mut taken = 0;
    let error = loop {
        match engine.publish(vec![record("key", vec![7u8; 500_000])]).await.remove(0) {
            Ok(_) => taken += 1,
            Err(error) => break error,
        }
        assert!(taken < 1000, "96 MiB hold no 500 MB");
    };
    assert!(taken > 50, "{taken}");
    assert!(matches!(error, PublishError::Full { .. }), "{error}");
    assert!(error.is_passing());
    assert!(error.to_string().contains("retention.bytes"), "{error}");
    let ends = engine.ends(vec![Partition::new("orders", 0)]).await.remove(0).expect("there");
    assert_eq!((ends.start, ends.end), (0, taken));
    engine.close().await;
}

/// Two and a half times as much as the memory holds goes through it: old records make room.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn memory_forgets_old_records_before_it_is_full() {
    let engine = opened("memory:?bytes=100663296").await.expect("opens");
    engine.create_topics(vec![NewTopic::new(topic_name("orders"), 1)]).await.remove(0).expect("created");
    for _ in 0..500 {
        publish(&*engine, vec![record("key", vec![7u8; 500_000])]).await;
    }
    let partition = Partition::new("orders", 0);
    let ends = engine.ends(vec![partition.clone()]).await.remove(0).expect("there");
    assert_eq!(ends.end, 500);
    assert!(ends.start > 300, "{ends:?}");
    let gone = engine.read(vec![partition.at(0)]).await.remove(0);
    assert!(
        matches!(gone, Ok(courant_engine::ReadBack::Before { start }) if start >= ends.start),
        "{gone:?}"
    );
    engine.close().await;
}

/// The date stands still here, so the limits can be seen to the millisecond.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn records_are_refused_by_their_time_to_the_millisecond() {
    let engine = opened("memory:").await.expect("opens");
    let topic = NewTopic::new(topic_name("orders"), 1)
        .with("message.timestamp.before.max.ms", "5")
        .with("message.timestamp.after.max.ms", "3");
    engine.create_topics(vec![topic]).await.remove(0).expect("created");
    let records: Vec<_> = [-6, -5, 0, 3, 4]
        .into_iter()
        .map(|off| NewRecord { timestamp_ms: Some(NOW_MS + off), ..record("key", "value") })
        .collect();
    let results = engine.publish(records).await;
    let taken: Vec<bool> = results.iter().map(Result::is_ok).collect();
    assert_eq!(taken, [false, true, true, true, false], "{results:?}");
    engine.close().await;
}
