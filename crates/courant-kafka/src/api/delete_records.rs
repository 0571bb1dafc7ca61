//! DeleteRecords (key 21): deletes the beginning of partitions, up to an offset or, with -1, all that
//! is in them (KIP-107).

use std::sync::Arc;

use courant_log::topic_config::effective;
use courant_log::{Catalog, DeleteRecordsError, WriterError};
use tokio::sync::oneshot;
use tracing::info;
use uuid::Uuid;

use super::tally::Tally;
use super::target::{self, Naming};
use super::{Answered, memory_for};
use crate::broker::Caller;
use crate::wire::ErrorCode;
use crate::wire::messages::delete_records::{
    DeleteRecordsPartition, DeleteRecordsPartitionResult, DeleteRecordsTopicResult,
};
use crate::wire::messages::{DeleteRecordsRequest, DeleteRecordsResponse};

/// "Everything that is there".
const HIGH_WATERMARK: i64 = -1;

/// Bytes of one partition in the answer, decoded and encoded.
const PARTITION_BYTES: usize = 64;

type Deleted = oneshot::Receiver<Result<u64, DeleteRecordsError>>;

/// Deletes what DeleteRecords names.
pub(super) async fn begin(caller: Arc<Caller>, request: DeleteRecordsRequest) -> DeleteRecordsResponse {
    let catalog = caller.log().catalog();
    let steps: Vec<_> = request
        .topics
        .into_iter()
        .map(|topic| {
            let begun = |wanted: &DeleteRecordsPartition| {
                (wanted.partition_index, delete(&caller, &catalog, &topic.name, wanted))
            };
            let partitions: Vec<_> = topic.partitions.iter().map(begun).collect();
            (topic.name, partitions)
        })
        .collect();
    drop(catalog);
    // All are with the log by now, which makes them durable together.
    let mut response = DeleteRecordsResponse::default();
    let mut failures = Tally::default();
    let mut done: usize = 0;
    for (name, steps) in steps {
        let mut partitions = Vec::with_capacity(steps.len());
        for (index, step) in steps {
            let result = match step {
                Ok(deleted) => finish(deleted).await,
                Err(code) => Err(code),
            };
            match result {
                Ok(_) => done += 1,
                Err(code) => failures.note(|| format!("{name}, partition {index}: {code}")),
            }
            partitions.push(partition_result(index, result));
        }
        response.topics.push(DeleteRecordsTopicResult { name, partitions });
    }
    if done > 0 {
        info!(peer = %caller.peer, partitions = done, "records deleted");
    }
    failures.warn(&caller, &caller.broker.lines.changes, "DeleteRecords failed");
    response
}

/// Answers DeleteRecords.
pub(super) async fn answer(
    caller: Arc<Caller>,
    response: DeleteRecordsResponse,
) -> Answered<DeleteRecordsResponse> {
    let partitions: usize = response.topics.iter().map(|topic| topic.partitions.len()).sum();
    let grant = memory_for(&caller, partitions * PARTITION_BYTES).await?;
    Ok((response, grant))
}

/// Checks one partition and hands its deletion to the log.
fn delete(
    caller: &Caller,
    catalog: &Catalog,
    topic: &str,
    wanted: &DeleteRecordsPartition,
) -> Result<Deleted, ErrorCode> {
    let naming = Naming::ByName;
    let topic = naming.topic(catalog, topic, &Uuid::nil())?;
    let partition = target::partition(topic, wanted.partition_index)?;
    // What is only compacted keeps the newest event of each key, whatever anybody asks.
    if !effective(&topic.configs, "cleanup.policy").split(',').any(|word| word.trim() == "delete") {
        return Err(ErrorCode::POLICY_VIOLATION);
    }
    let before = match wanted.offset {
        HIGH_WATERMARK => caller.log().offsets(partition).ok_or(naming.unknown())?.high_watermark,
        offset => u64::try_from(offset).map_err(|_| ErrorCode::OFFSET_OUT_OF_RANGE)?,
    };
    let (done, deleted) = oneshot::channel();
    caller.log().delete_records(partition, before, move |result| {
        // The client may have gone; the records are deleted all the same.
        let _ = done.send(result);
    });
    Ok(deleted)
}

async fn finish(deleted: Deleted) -> Result<u64, ErrorCode> {
    let result = deleted.await.unwrap_or(Err(DeleteRecordsError::Writer(WriterError::Stopped)));
    result.map_err(|error| match error {
        DeleteRecordsError::UnknownPartition => ErrorCode::UNKNOWN_TOPIC_OR_PARTITION,
        DeleteRecordsError::OutOfRange { .. } => ErrorCode::OFFSET_OUT_OF_RANGE,
        // Clients look for another leader on this one, and come back.
        DeleteRecordsError::Writer(WriterError::Stopped) => ErrorCode::NOT_LEADER_OR_FOLLOWER,
        _ => ErrorCode::KAFKA_STORAGE_ERROR,
    })
}

fn partition_result(index: i32, result: Result<u64, ErrorCode>) -> DeleteRecordsPartitionResult {
    let (low_watermark, code) = match result {
        Ok(start) => (i64::try_from(start).unwrap_or(i64::MAX), ErrorCode::NONE),
        Err(code) => (-1, code),
    };
    DeleteRecordsPartitionResult { partition_index: index, low_watermark, error_code: code.0 }
}
