//! DescribeLogDirs (key 35): the data directory, what partitions take in it and how much is left
//! (KIP-113, KIP-827).
//!
//! Null topics mean all of them. What does not exist is left out, as in Kafka.

use std::sync::Arc;

use courant_log::{Catalog, Log, Topic};

use super::{Answered, memory_for, target};
use crate::broker::Caller;
use crate::wire::ErrorCode;
use crate::wire::messages::describe_log_dirs::{
    DescribableLogDirTopic, DescribeLogDirsPartition, DescribeLogDirsResult, DescribeLogDirsTopic,
};
use crate::wire::messages::{DescribeLogDirsRequest, DescribeLogDirsResponse};

/// Bytes of one partition and of one topic in the answer, decoded and encoded.
const PARTITION_BYTES: usize = 64;
const TOPIC_BYTES: usize = 1024;

/// Answers DescribeLogDirs.
pub(super) async fn answer(
    caller: Arc<Caller>,
    request: DescribeLogDirsRequest,
) -> Answered<DescribeLogDirsResponse> {
    let catalog = caller.log().catalog();
    let grant = memory_for(&caller, answer_bytes(&catalog, request.topics.as_deref())).await?;
    let log = caller.log().clone();
    // The storage is asked how much room it has, which may take its time.
    let work = move || describe(&log, &catalog, request.topics);
    let described = caller.broker.cold_reads.run(&caller.broker.counters, work).await;
    let mut result = described.unwrap_or_else(|failure| {
        caller.broker.lines.reads.error(format_args!("describing the data directory failed: {failure}"));
        let error_code = ErrorCode::KAFKA_STORAGE_ERROR.0;
        DescribeLogDirsResult { error_code, ..DescribeLogDirsResult::default() }
    });
    result.log_dir.clone_from(&caller.broker.config().log_dir);
    Ok((DescribeLogDirsResponse { results: vec![result], ..DescribeLogDirsResponse::default() }, grant))
}

fn answer_bytes(catalog: &Catalog, wanted: Option<&[DescribableLogDirTopic]>) -> usize {
    let bytes = |partitions: usize| TOPIC_BYTES + partitions * PARTITION_BYTES;
    match wanted {
        None => catalog.topics().map(|topic| bytes(topic.partitions.len())).sum(),
        Some(wanted) => wanted.iter().map(|topic| bytes(topic.partitions.len())).sum(),
    }
}

fn describe(
    log: &Log,
    catalog: &Catalog,
    wanted: Option<Vec<DescribableLogDirTopic>>,
) -> DescribeLogDirsResult {
    let topics: Vec<_> = match wanted {
        None => {
            let all = |topic: &Arc<Topic>| {
                // As many as an i32 can number, which is more than a topic can have.
                let indexes = (0_i32..).take(topic.partitions.len());
                described(log, topic, indexes)
            };
            catalog.topics().map(all).collect()
        }
        Some(wanted) => {
            let named = |wanted: DescribableLogDirTopic| {
                let topic = catalog.by_name(&wanted.topic)?;
                Some(described(log, topic, wanted.partitions.into_iter()))
            };
            wanted.into_iter().filter_map(named).collect()
        }
    };
    let mut result = DescribeLogDirsResult { topics, ..DescribeLogDirsResult::default() };
    if let Some((total, free)) = log.disk_bytes() {
        result.total_bytes = number(total);
        result.usable_bytes = number(free);
    }
    result
}

fn described(log: &Log, topic: &Topic, indexes: impl Iterator<Item = i32>) -> DescribeLogDirsTopic {
    let partition = |index: i32| {
        let bytes = log.partition_bytes(target::partition(topic, index).ok()?)?;
        Some(DescribeLogDirsPartition {
            partition_index: index,
            partition_size: number(bytes),
            ..DescribeLogDirsPartition::default()
        })
    };
    DescribeLogDirsTopic { name: topic.name.clone(), partitions: indexes.filter_map(partition).collect() }
}

fn number(bytes: u64) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX)
}
