//! Topics: created once, described as they are, refused with a sentence.

use std::time::Duration;

use courant_engine::{CreateTopicError, Durability, NewTopic, ensure_topics};

use crate::on_every_engine;
use crate::place::{Place, topic_name};

on_every_engine!(
    a_topic_is_described_as_it_was_created,
    a_topic_says_what_is_survived_in_it,
    a_topic_that_is_there_is_not_created_again,
    what_a_topic_cannot_be_is_said,
);

async fn a_topic_is_described_as_it_was_created(place: &Place) {
    let wanted = NewTopic::new(topic_name("orders"), 3)
        .with("retention.ms", "60000")
        .with("max.message.bytes", "2000");
    let created = place.topic_with(wanted).await;
    assert_eq!((&*created.name, created.partitions), ("orders", 3));
    assert_eq!(created.retention, Some(Duration::from_secs(60)));
    assert_eq!(created.record_bytes_max, 2000);
    let found = place.engine.topics(vec![topic_name("payments"), topic_name("orders")]).await;
    assert_eq!(found, Ok(vec![None, Some(created)]));
    assert_eq!(place.topic("plain", 1).await.retention, None);
}

/// What a topic says is what is promised in it: no more than the engine can do, and less where its config says so.
async fn a_topic_says_what_is_survived_in_it(place: &Place) {
    let best = place.engine.capabilities().durability;
    assert_eq!(place.topic("orders", 1).await.durability, best);
    for (name, class) in [("clicks", "interval"), ("traces", "os")] {
        let relaxed = NewTopic::new(topic_name(name), 1).with("courant.durability", class);
        let expected = if best == Durability::Disk { Durability::Written } else { best };
        assert_eq!(place.topic_with(relaxed).await.durability, expected, "{class}");
    }
}

async fn a_topic_that_is_there_is_not_created_again(place: &Place) {
    let first = place.topic("orders", 3).await;
    let again = place.engine.create_topics(vec![NewTopic::new(topic_name("orders"), 5)]).await;
    assert_eq!(again, [Err(CreateTopicError::Exists { topic: "orders".to_owned() })]);
    let both = vec![NewTopic::new(topic_name("orders"), 5), NewTopic::new(topic_name("payments"), 2)];
    let ensured = ensure_topics(&*place.engine, both).await.expect("ensured");
    assert_eq!(ensured[0], first);
    assert_eq!((&*ensured[1].name, ensured[1].partitions), ("payments", 2));
}

async fn what_a_topic_cannot_be_is_said(place: &Place) {
    let bad = [
        (NewTopic::new(topic_name("a"), 0), "1 to 10000 partitions"),
        (NewTopic::new(topic_name("b"), 10_001), "1 to 10000 partitions"),
        (NewTopic::new(topic_name("c"), 1).with("retention.days", "1"), "retention.days"),
        (NewTopic::new(topic_name("d"), 1).with("retention.ms", "soon"), "a number from -1"),
    ];
    let (topics, reasons): (Vec<_>, Vec<_>) = bad.into_iter().unzip();
    let names: Vec<_> = topics.iter().map(|topic| topic.name.clone()).collect();
    let answers = place.engine.create_topics(topics).await;
    for (answer, expected) in answers.into_iter().zip(reasons) {
        let error = answer.expect_err("refused");
        assert!(matches!(&error, CreateTopicError::Refused { .. }), "{error}");
        assert!(error.to_string().contains(expected), "{error}");
    }
    assert_eq!(place.engine.topics(names).await, Ok(vec![None, None, None, None]));
}
