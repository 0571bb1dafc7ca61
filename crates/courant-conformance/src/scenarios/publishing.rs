//! Publishing: what an answer means, and what is refused.

use std::collections::BTreeSet;

use courant_core::headers::ID;
use courant_engine::{Header, NewRecord, NewTopic, PublishError, ReadBack};

use crate::failure::{ensure, ensure_eq};
use crate::stage::{Ground, only, text, values};
use crate::{Failure, Outcome, Stage};

/// Nothing is waited for: not a moment lies between the answer and the read.
pub(super) async fn what_is_answered_can_be_read_at_once(stage: &Stage) -> Outcome {
    let ground = stage.topic(1).await?;
    for n in 0..20 {
        let position = only(stage.publish(vec![ground.record("key", n)]).await?)?;
        match only(stage.engine().read(vec![position.clone()]).await)?? {
            ReadBack::Found(found) => ensure_eq!(text(found.value.as_ref()), n.to_string(), "{position}"),
            other => return Err(Failure::new(format!("{position} was answered, and has {other:?}"))),
        }
    }
    Ok(())
}

pub(super) async fn each_record_has_an_offset_of_its_own(stage: &Stage) -> Outcome {
    let ground = stage.topic(3).await?;
    let mut seen = BTreeSet::new();
    for _ in 0..5 {
        let records = (0..20).map(|n| ground.record(format!("key-{n}"), "")).collect();
        for position in stage.publish(records).await? {
            ensure!(seen.insert(position.clone()), "{position} was answered twice");
        }
    }
    Ok(())
}

pub(super) async fn answers_are_in_the_order_of_the_records(stage: &Stage) -> Outcome {
    let ground = stage.topic(3).await?;
    let records: Vec<_> = (0..30).map(|n| ground.record(format!("key-{}", n % 7), n)).collect();
    let positions = stage.publish(records).await?;
    let mut found = stage.all(&ground, 30).await?;
    found.sort_by_key(|record| positions.iter().position(|position| *position == record.position));
    ensure_eq!(values(&found), crate::stage::numbers(30), "the events, by the answers");
    Ok(())
}

pub(super) async fn nothing_is_stored_twice(stage: &Stage) -> Outcome {
    let ground = stage.topic(2).await?;
    for call in 0..20 {
        stage.publish((0..10).map(|n| ground.record(format!("key-{n}"), call * 10 + n)).collect()).await?;
    }
    let distinct: BTreeSet<_> = values(&stage.all(&ground, 200).await?).into_iter().collect();
    ensure_eq!(distinct.len(), 200, "different events");
    Ok(())
}

/// Two records that are alike in everything are two: the engine says that it does not compare them.
pub(super) async fn the_same_record_twice_is_two_records(stage: &Stage) -> Outcome {
    let ground = stage.topic(1).await?;
    let record = NewRecord { timestamp_ms: Some(7), ..ground.record("key", "value") };
    stage.publish(vec![record.clone(), record.clone()]).await?;
    stage.publish(vec![record]).await?;
    stage.all(&ground, 3).await?;
    Ok(())
}

/// At once, and behind another one. An event that differs by its id alone is another one.
pub(super) async fn an_event_that_comes_again_is_stored_once(stage: &Stage) -> Outcome {
    let ground = stage.topic(1).await?;
    let event = |id: &'static str| {
        let headers = vec![Header::new(ID, id)];
        NewRecord { headers, timestamp_ms: Some(7), ..ground.record("key", "value") }
    };
    stage.publish(vec![event("one"), event("one")]).await?;
    for id in ["two", "one"] {
        stage.publish(vec![event(id)]).await?;
    }
    let stored = stage.all(&ground, 2).await?;
    let ids = stored.iter().map(|record| text(record.header(ID).and_then(|header| header.value.as_ref())));
    ensure_eq!(ids.collect::<Vec<_>>(), ["one", "two"], "the events");
    Ok(())
}

pub(super) async fn records_without_a_key_are_stored_as_well(stage: &Stage) -> Outcome {
    let ground = stage.topic(3).await?;
    for call in 0..6 {
        let record = |n: u32| NewRecord { key: None, ..ground.record("", call * 5 + n) };
        stage.publish((0..5).map(record).collect()).await?;
    }
    let found = stage.all(&ground, 30).await?;
    ensure!(found.iter().all(|record| record.key.is_none()), "nobody has given them keys");
    Ok(())
}

pub(super) async fn the_partition_that_was_chosen_is_taken(stage: &Stage) -> Outcome {
    let ground = stage.topic(3).await?;
    for number in [2, 0, 1] {
        // Also where the key belongs elsewhere.
        let with_key = NewRecord { partition: Some(number), ..ground.record("key", "") };
        for position in stage.publish(vec![ground.record_in(number, ""), with_key]).await? {
            ensure_eq!(position.partition, ground.partition(number), "the partition");
        }
    }
    Ok(())
}

pub(super) async fn an_unknown_partition_is_refused(stage: &Stage) -> Outcome {
    let ground = stage.topic(2).await?;
    let answer = only(stage.engine().publish(vec![ground.record_in(2, "")]).await)?;
    let is_named = matches!(&answer, Err(PublishError::UnknownPartition { have: 2, .. }));
    ensure!(is_named, "partition 2 of 2 was answered with {answer:?}");
    Ok(())
}

pub(super) async fn an_unknown_topic_is_refused_and_not_made(stage: &Stage) -> Outcome {
    let nowhere = Ground { name: stage.name()?, partitions: 1 };
    let answer = only(stage.engine().publish(vec![nowhere.record("key", "")]).await)?;
    ensure!(matches!(&answer, Err(PublishError::UnknownTopic { .. })), "it was answered with {answer:?}");
    let there = only(stage.engine().topics(vec![nowhere.name]).await?)?;
    ensure!(there.is_none(), "publishing has made the topic {there:?}");
    Ok(())
}

pub(super) async fn a_record_that_cannot_be_taken_is_refused_alone(stage: &Stage) -> Outcome {
    let name = stage.name()?;
    let topic = NewTopic::new(name.clone(), 1).with("max.message.bytes", "2000");
    only(stage.engine().create_topics(vec![topic]).await)??;
    let ground = Ground { name, partitions: 1 };
    let sizes = [100, 1_500, 5_000, 1_500, 100, 2_001, 10];
    let records = sizes.map(|bytes| ground.record("key", "x".repeat(bytes)));
    for (answer, bytes) in stage.engine().publish(records.into()).await.into_iter().zip(sizes) {
        match answer {
            Ok(_) => ensure!(bytes <= 2_000, "{bytes} bytes were taken"),
            Err(PublishError::TooLarge { .. }) => ensure!(bytes > 2_000, "{bytes} bytes were refused"),
            Err(other) => return Err(Failure::new(format!("{bytes} bytes were answered with: {other}"))),
        }
    }
    let stored: Vec<usize> = values(&stage.all(&ground, 5).await?).iter().map(String::len).collect();
    ensure_eq!(stored, [100, 1_500, 1_500, 100, 10], "the others are there, in their order");
    Ok(())
}

pub(super) async fn a_time_before_1970_is_refused(stage: &Stage) -> Outcome {
    let ground = stage.topic(1).await?;
    let record = NewRecord { timestamp_ms: Some(-1), ..ground.record("key", "") };
    let answer = only(stage.engine().publish(vec![record]).await)?;
    ensure!(matches!(&answer, Err(PublishError::Unencodable { .. })), "it was answered with {answer:?}");
    Ok(())
}
