//! What a record consists of comes back as it was given.

use bytes::Bytes;
use courant_engine::{Header, NewRecord};

use crate::failure::{ensure, ensure_eq};
use crate::stage::only;
use crate::{Outcome, Stage};

/// Publishes records into one partition and reads them back, each compared in all its parts.
async fn come_back(stage: &Stage, records: impl Fn(&str) -> Vec<NewRecord>) -> Outcome {
    let ground = stage.topic(1).await?;
    let sent = records(ground.name.as_str());
    let positions = stage.publish(sent.clone()).await?;
    let found = stage.all(&ground, sent.len()).await?;
    for ((sent, found), position) in sent.into_iter().zip(found).zip(positions) {
        ensure_eq!(found.position, position, "where the record with key {:?} is", sent.key);
        ensure_eq!(found.key, sent.key, "the key");
        ensure_eq!(found.value, sent.value, "the value");
        ensure_eq!(found.headers, sent.headers, "the headers");
        if let Some(timestamp_ms) = sent.timestamp_ms {
            ensure_eq!(found.timestamp_ms, timestamp_ms, "the timestamp");
        }
    }
    Ok(())
}

pub(super) async fn every_part_comes_back_as_it_was(stage: &Stage) -> Outcome {
    come_back(stage, |topic| {
        let record = |n: i64| NewRecord {
            headers: vec![Header::new("ce_type", "test"), Header::new("n", n.to_string())],
            timestamp_ms: Some(1_700_000_000_000 + n),
            ..NewRecord::new(topic, format!("key-{n}"), format!("value-{n}"))
        };
        (0..20).map(record).collect()
    })
    .await
}

pub(super) async fn headers_repeat_and_keep_their_order(stage: &Stage) -> Outcome {
    come_back(stage, |topic| {
        let headers = vec![
            Header::new("b", "1"),
            Header::new("a", "2"),
            Header::new("b", "3"),
            Header::new("b", "1"),
            Header::new("", "no name"),
        ];
        vec![NewRecord { headers, ..NewRecord::new(topic, "key", "value") }]
    })
    .await
}

pub(super) async fn null_and_empty_are_different(stage: &Stage) -> Outcome {
    come_back(stage, |topic| {
        let record = NewRecord::new(topic, "key", "value");
        vec![
            NewRecord { key: None, ..record.clone() },
            NewRecord { key: Some(Bytes::new()), ..record.clone() },
            NewRecord { value: None, ..record.clone() },
            NewRecord { value: Some(Bytes::new()), ..record.clone() },
            NewRecord { headers: vec![Header::null("a"), Header::new("a", "")], ..record },
        ]
    })
    .await
}

pub(super) async fn bytes_need_not_be_text(stage: &Stage) -> Outcome {
    come_back(stage, |topic| {
        let all: Vec<u8> = (0..=255).collect();
        let headers = vec![Header::new("bytes", all.clone())];
        vec![NewRecord { headers, ..NewRecord::new(topic, all.clone(), all) }]
    })
    .await
}

pub(super) async fn timestamps_are_kept_to_the_millisecond(stage: &Stage) -> Outcome {
    come_back(stage, |topic| {
        let at = |ms: i64| NewRecord { timestamp_ms: Some(ms), ..NewRecord::new(topic, "key", "value") };
        [0, 1, 999, 1_700_000_000_001, 1_700_000_000_999].map(at).into()
    })
    .await
}

pub(super) async fn a_record_without_a_time_gets_one(stage: &Stage) -> Outcome {
    let ground = stage.topic(1).await?;
    stage.publish(vec![ground.record("key", "value")]).await?;
    let record = only(stage.all(&ground, 1).await?)?;
    ensure!(record.timestamp_ms > 0, "the time of its publishing is {}", record.timestamp_ms);
    Ok(())
}

pub(super) async fn large_records_come_whole(stage: &Stage) -> Outcome {
    come_back(stage, |topic| {
        let value = |bytes: usize| -> Vec<u8> {
            // The remainder of a division by 251 is a byte; a prime, so that no block is like another.
            (0..bytes).map(|at| u8::try_from(at % 251).unwrap_or_default()).collect()
        };
        [10, 70_000, 900_000].map(|bytes| NewRecord::new(topic, "key", value(bytes))).into()
    })
    .await
}
