//! What is not published, and what happens to the records around it.

use courant_engine::{NewRecord, NewTopic, Partition, Position, PublishError};

use crate::on_every_engine;
use crate::place::{Place, read, record, record_in, topic_name};

on_every_engine!(
    a_record_that_is_too_large_is_refused_alone_with_the_limit,
    the_limit_counts_what_the_format_adds,
    records_that_nothing_can_take_say_why,
    a_record_alone_is_answered_as_it_is_among_others,
    records_of_several_topics_are_held_each_to_its_own,
    a_record_whose_own_time_is_too_far_from_the_clock_is_refused_alone,
);

/// Small enough that a batch of some records is split as well.
const MAX: usize = 2000;

async fn small_topic(place: &Place) {
    let topic = NewTopic::new(topic_name("orders"), 1).with("max.message.bytes", MAX.to_string());
    place.topic_with(topic).await;
}

async fn a_record_that_is_too_large_is_refused_alone_with_the_limit(place: &Place) {
    small_topic(place).await;
    let sizes = [100, 1500, 5000, 1500, 100, 2001, 10];
    let records: Vec<_> = sizes.iter().map(|bytes| record("", "x".repeat(*bytes))).collect();
    let results = place.engine.publish(records).await;
    for (result, bytes) in results.iter().zip(sizes) {
        if bytes > MAX {
            let expected = PublishError::TooLarge { topic: "orders".to_owned(), bytes, max: MAX };
            assert_eq!(*result, Err(expected.clone()));
            let said = expected.to_string();
            assert!(said.contains("max.message.bytes is 2000") && said.contains("orders"), "{said}");
            assert!(!expected.is_passing());
        }
    }
    let mut subscription = place.subscribe("billing", "orders").await;
    let found: Vec<_> = read(&mut *subscription, 5)
        .await
        .into_iter()
        .map(|record| record.value.expect("a value").len())
        .collect();
    assert_eq!(found, [100, 1500, 1500, 100, 10], "the others are there, in their order");
}

/// Around the limit every record is either stored or refused with more bytes than the limit; the largest
/// that is stored leaves no room for a header of a batch and a little more.
async fn the_limit_counts_what_the_format_adds(place: &Place) {
    small_topic(place).await;
    let mut stored = Vec::new();
    for bytes in MAX - 100..=MAX {
        match place.engine.publish(vec![record_in(0, "x".repeat(bytes))]).await.remove(0) {
            Ok(_) => stored.push(bytes),
            Err(PublishError::TooLarge { bytes: needed, max, .. }) => {
                assert!(needed > max && max == MAX && needed >= bytes, "{bytes}: {needed}");
            }
            Err(other) => panic!("{bytes}: {other}"),
        }
    }
    let largest = stored.last().copied().expect("some fit");
    assert!(stored.iter().copied().eq(MAX - 100..=largest), "what is smaller fits too");
    assert!((MAX - 80..MAX - 60).contains(&largest), "{largest}");
}

async fn records_that_nothing_can_take_say_why(place: &Place) {
    place.topic("orders", 2).await;
    place.topic_with(NewTopic::new(topic_name("state"), 1).with("cleanup.policy", "compact")).await;
    let results = place
        .engine
        .publish(vec![
            NewRecord::new("payments", "key", "value"),
            record_in(2, "value"),
            NewRecord { timestamp_ms: Some(-1), ..record("key", "value") },
            NewRecord { key: None, ..NewRecord::new("state", "", "value") },
            NewRecord::new("state", "key", "value"),
        ])
        .await;
    assert_eq!(results[0], Err(PublishError::UnknownTopic { topic: "payments".to_owned() }));
    let partition = Partition::new("orders", 2);
    assert_eq!(results[1], Err(PublishError::UnknownPartition { partition, have: 2 }));
    assert!(matches!(&results[2], Err(PublishError::Unencodable { reason }) if reason.contains("-1")));
    assert_eq!(results[3], Err(PublishError::NoKey { topic: "state".to_owned() }));
    assert_eq!(results[4], Ok(Position { partition: Partition::new("state", 0), offset: 0 }));
    assert!(place.engine.publish(Vec::new()).await.is_empty());
}

/// One record takes a shorter way than many, to the same answers.
async fn a_record_alone_is_answered_as_it_is_among_others(place: &Place) {
    small_topic(place).await;
    place.topic_with(NewTopic::new(topic_name("state"), 1).with("cleanup.policy", "compact")).await;
    place.topic_with(NewTopic::new(topic_name("packed"), 1).with("compression.type", "zstd")).await;
    let records = [
        record_in(0, "value"),
        NewRecord::new("payments", "key", "value"),
        record_in(1, "value"),
        NewRecord { timestamp_ms: Some(-1), ..record("key", "value") },
        record_in(0, "x".repeat(MAX + 1)),
        NewRecord { key: None, ..NewRecord::new("state", "", "value") },
        NewRecord::new("state", "key", "value"),
        NewRecord { timestamp_ms: Some(7), ..NewRecord::new("packed", "key", "value") },
        NewRecord { key: None, ..record("", "value") },
    ];
    let together = place.engine.publish(records.to_vec()).await;
    let taken: Vec<bool> = together.iter().map(Result::is_ok).collect();
    assert_eq!(taken, [true, false, false, false, false, false, true, true, true], "{together:?}");
    for (record, among) in records.into_iter().zip(together) {
        let alone = place.engine.publish(vec![record.clone()]).await;
        // Two of those that were taken together are in one topic.
        let behind = if &*record.topic == "orders" { 2 } else { 1 };
        let expected = among.map(|Position { partition, offset }| partition.at(offset + behind));
        assert_eq!(alone, [expected]);
    }
}

/// What one topic asks for is looked up once for many records; the next record may be of another.
async fn records_of_several_topics_are_held_each_to_its_own(place: &Place) {
    small_topic(place).await;
    place.topic("wide", 1).await;
    place.topic_with(NewTopic::new(topic_name("state"), 1).with("cleanup.policy", "compact")).await;
    let of = |topic: &str, bytes: usize| NewRecord::new(topic, "key", "x".repeat(bytes));
    let keyless = |topic: &str| NewRecord { key: None, ..of(topic, 10) };
    let records = vec![
        of("orders", 100),
        of("wide", MAX + 1000),
        of("orders", MAX + 1000),
        of("state", MAX + 1000),
        keyless("state"),
        keyless("wide"),
        of("nowhere", 10),
        of("orders", 10),
    ];
    let results = place.engine.publish(records).await;
    let taken: Vec<bool> = results.iter().map(Result::is_ok).collect();
    assert_eq!(taken, [true, true, false, true, false, true, false, true], "{results:?}");
    let too_large = |error: &PublishError| matches!(error, PublishError::TooLarge { max: MAX, .. });
    assert!(results[2].as_ref().is_err_and(too_large), "{results:?}");
    assert_eq!(results[4], Err(PublishError::NoKey { topic: "state".to_owned() }));
    assert_eq!(results[6], Err(PublishError::UnknownTopic { topic: "nowhere".to_owned() }));
    for (index, topic, offset) in [(0, "orders", 0), (7, "orders", 1), (1, "wide", 0), (5, "wide", 1)] {
        assert_eq!(results[index], Ok(Position { partition: Partition::new(topic, 0), offset }));
    }
}

/// By the limits of its topic (KIP-937). Whoever gives it no time of its own is not asked.
async fn a_record_whose_own_time_is_too_far_from_the_clock_is_refused_alone(place: &Place) {
    const IN_1970: i64 = 1_000;
    const IN_3000: i64 = 32_503_680_000_000;
    // Twenty years, and an hour: the date of the engine stands still, and that of a server of its own does not.
    let (before, after) = ("message.timestamp.before.max.ms", "message.timestamp.after.max.ms");
    for (topic, config, limit, refused, taken) in
        [("recent", before, "630720000000", IN_1970, IN_3000), ("past", after, "3600000", IN_3000, IN_1970)]
    {
        place.topic_with(NewTopic::new(topic_name(topic), 1).with(config, limit)).await;
        let at = |timestamp_ms| NewRecord { timestamp_ms, ..NewRecord::new(topic, "key", "value") };
        let records = vec![at(Some(taken)), at(Some(refused)), at(None)];
        let results = place.engine.publish(records).await;
        let [Ok(first), Err(error), Ok(last)] = &results[..] else { panic!("{topic}: {results:?}") };
        assert_eq!((first.offset, last.offset), (0, 1), "{topic}");
        assert!(matches!(error, PublishError::Unencodable { .. }) && !error.is_passing(), "{error}");
        let said = error.to_string();
        assert!(said.contains(&format!("{config} is {limit} in topic {topic}")), "{said}");
        let alone = place.engine.publish(vec![at(Some(refused))]).await;
        assert_eq!(alone, [Err(error.clone())]);
    }
}
