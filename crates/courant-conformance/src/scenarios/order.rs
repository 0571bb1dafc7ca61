//! The order of records: within a key, within a partition, and nothing from elsewhere.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use courant_core::partitioner::partition_for_key;
use courant_engine::Record;
use tokio::task::JoinSet;

use crate::failure::{ensure, ensure_eq};
use crate::stage::{Ground, numbers, publish, text, values};
use crate::{Failure, Outcome, Stage};

const PARTITIONS: u32 = 4;

/// The values of each key, in the order in which they were read.
fn by_key(records: &[Record]) -> BTreeMap<String, Vec<String>> {
    let mut keys: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for record in records {
        keys.entry(text(record.key.as_ref())).or_default().push(text(record.value.as_ref()));
    }
    keys
}

fn counted_up(keys: &BTreeMap<String, Vec<String>>, count: u32) -> Outcome {
    for (key, values) in keys {
        ensure_eq!(*values, numbers(count), "the events of {key}");
    }
    Ok(())
}

pub(super) async fn a_key_keeps_its_order_over_many_calls(stage: &Stage) -> Outcome {
    let ground = stage.topic(PARTITIONS).await?;
    for n in 0..50 {
        stage.publish((0..5).map(|key| ground.record(format!("key-{key}"), n)).collect()).await?;
    }
    let keys = by_key(&stage.all(&ground, 250).await?);
    ensure_eq!(keys.len(), 5, "keys");
    counted_up(&keys, 50)
}

pub(super) async fn a_key_keeps_its_order_within_a_call(stage: &Stage) -> Outcome {
    let ground = stage.topic(PARTITIONS).await?;
    stage.publish((0..200).map(|n| ground.record("key", n)).collect()).await?;
    counted_up(&by_key(&stage.all(&ground, 200).await?), 200)
}

pub(super) async fn a_partition_keeps_the_order_of_different_keys(stage: &Stage) -> Outcome {
    let ground = stage.topic(1).await?;
    stage.publish((0..200).map(|n| ground.record(format!("key-{n}"), n)).collect()).await?;
    ensure_eq!(values(&stage.all(&ground, 200).await?), numbers(200), "the events of the partition");
    Ok(())
}

/// 5 MB in one call: more than engines store at once.
pub(super) async fn a_large_call_stays_in_order(stage: &Stage) -> Outcome {
    let ground = stage.topic(1).await?;
    let value = |n: u32| format!("{n:05}").repeat(2_000);
    let positions = stage.publish((0..500).map(|n| ground.record("key", value(n))).collect()).await?;
    ensure!(positions.is_sorted_by(|a, b| a.offset < b.offset), "the offsets of one call ascend");
    for (n, found) in (0..500).zip(values(&stage.all(&ground, 500).await?)) {
        ensure!(found == value(n), "the {n}th event is {}…", found.get(..5).unwrap_or(&found));
    }
    Ok(())
}

pub(super) async fn a_key_has_one_partition(stage: &Stage) -> Outcome {
    let ground = stage.topic(PARTITIONS).await?;
    let mut partitions: BTreeMap<u32, BTreeSet<u32>> = BTreeMap::new();
    for _ in 0..8 {
        let positions =
            stage.publish((0..9).map(|key| ground.record(format!("key-{key}"), "")).collect()).await?;
        for (key, position) in (0..).zip(positions) {
            partitions.entry(key).or_default().insert(position.partition.number);
        }
    }
    for (key, partitions) in partitions {
        ensure_eq!(partitions.len(), 1, "partitions of key-{key}");
    }
    Ok(())
}

/// As Java's default partitioner chooses it, so that programs in different languages keep one order.
pub(super) async fn a_key_is_where_other_clients_look_for_it(stage: &Stage) -> Outcome {
    let ground = stage.topic(PARTITIONS).await?;
    let keys: Vec<String> = (0..40).map(|n| format!("key-{n}")).collect();
    let positions = stage.publish(keys.iter().map(|key| ground.record(key, "")).collect()).await?;
    for (key, position) in keys.iter().zip(positions) {
        let expected = partition_for_key(key.as_bytes(), PARTITIONS);
        ensure_eq!(position.partition.number, expected, "the partition of {key}");
    }
    Ok(())
}

/// 16 publishers at a time, each with keys of its own, 3,200 records: nothing is lost, nothing comes twice,
/// each key is in the order in which its publisher was answered.
pub(super) async fn concurrent_publishers_lose_nothing_and_keep_their_order(stage: &Stage) -> Outcome {
    const PUBLISHERS: u32 = 16;
    const CALLS: u32 = 50;
    const EACH: u32 = 4;
    let ground = stage.topic(PARTITIONS).await?;
    let mut publishers = JoinSet::new();
    for publisher in 0..PUBLISHERS {
        let (engine, ground, patience) = (Arc::clone(stage.engine()), ground.clone(), stage.patience());
        publishers.spawn(async move {
            for n in 0..CALLS {
                let record = |key: u32| ground.record(format!("{publisher}-{key}"), n);
                publish(&*engine, (0..EACH).map(record).collect(), patience).await?;
            }
            Ok::<(), Failure>(())
        });
    }
    while let Some(published) = publishers.join_next().await {
        published??;
    }
    let keys = by_key(&stage.all(&ground, (PUBLISHERS * CALLS * EACH) as usize).await?);
    ensure_eq!(keys.len(), (PUBLISHERS * EACH) as usize, "keys");
    counted_up(&keys, CALLS)
}

pub(super) async fn topics_do_not_leak_into_each_other(stage: &Stage) -> Outcome {
    let (one, other) = (stage.topic(1).await?, stage.topic(1).await?);
    stage.publish(vec![one.record("key", "one"), other.record("key", "other")]).await?;
    stage.publish(vec![other.record("key", "other again")]).await?;
    let has = |ground: Ground, count: usize| async move {
        Ok::<_, Failure>(values(&stage.all(&ground, count).await?))
    };
    ensure_eq!(has(one, 1).await?, ["one"], "what is in the first topic");
    ensure_eq!(has(other, 2).await?, ["other", "other again"], "what is in the second topic");
    Ok(())
}
