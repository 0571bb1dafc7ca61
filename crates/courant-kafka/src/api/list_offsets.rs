//! ListOffsets (key 2): the first and last offset of a partition, or the first at a time.
//!
//! Versions: 4 and later carry leader epochs; 7 asks for the newest timestamp (KIP-734), 8 and 9
//! for the ends of tiered storage, of which there is none.

use std::io;
use std::sync::Arc;

use courant_log::{Catalog, Log, PartitionId, ReadError, TimedOffset};

use super::target::{self, Naming};
use super::{Answered, memory_for};
use crate::broker::{Caller, LEADER_EPOCH};
use crate::wire::ErrorCode;
use crate::wire::messages::{
    ListOffsetsPartition, ListOffsetsPartitionResponse, ListOffsetsRequest, ListOffsetsResponse,
    ListOffsetsTopicResponse,
};

const LATEST: i64 = -1;
const EARLIEST: i64 = -2;
const MAX_TIMESTAMP: i64 = -3;
const EARLIEST_LOCAL: i64 = -4;
const LATEST_TIERED: i64 = -5;

/// Offset and timestamp of a record, if there is such a record.
type Found = Option<(i64, i64)>;

/// Bytes of one partition in the answer, decoded and encoded.
const PARTITION_BYTES: usize = 96;

/// Answers ListOffsets.
pub(super) async fn answer(
    caller: Arc<Caller>,
    request: ListOffsetsRequest,
) -> Answered<ListOffsetsResponse> {
    let partitions: usize = request.topics.iter().map(|topic| topic.partitions.len()).sum();
    let grant = memory_for(&caller, partitions * PARTITION_BYTES).await?;
    let catalog = caller.log().catalog();
    let mut response = ListOffsetsResponse::default();
    for topic in request.topics {
        let mut partitions = Vec::with_capacity(topic.partitions.len());
        for wanted in &topic.partitions {
            partitions.push(partition(&caller, &catalog, &topic.name, wanted).await);
        }
        response.topics.push(ListOffsetsTopicResponse { name: topic.name, partitions });
    }
    Ok((response, grant))
}

async fn partition(
    caller: &Caller,
    catalog: &Catalog,
    topic: &str,
    wanted: &ListOffsetsPartition,
) -> ListOffsetsPartitionResponse {
    let found = find(caller, catalog, topic, wanted).await;
    let mut response = ListOffsetsPartitionResponse {
        partition_index: wanted.partition_index,
        timestamp: -1,
        offset: -1,
        leader_epoch: -1,
        ..ListOffsetsPartitionResponse::default()
    };
    match found {
        Ok(Some((offset, timestamp))) => {
            response.offset = offset;
            response.timestamp = timestamp;
            response.leader_epoch = LEADER_EPOCH;
        }
        Ok(None) => {}
        Err(code) => response.error_code = code.0,
    }
    response
}

/// Offset and timestamp, where an offset asked for by name has the timestamp -1.
async fn find(
    caller: &Caller,
    catalog: &Catalog,
    topic: &str,
    wanted: &ListOffsetsPartition,
) -> Result<Found, ErrorCode> {
    let naming = Naming::ByName;
    let topic = naming.topic(catalog, topic, &uuid::Uuid::nil())?;
    target::check_leader_epoch(wanted.current_leader_epoch)?;
    let partition = target::partition(topic, wanted.partition_index)?;
    let offsets = caller.log().offsets(partition).ok_or(naming.unknown())?;
    match wanted.timestamp {
        LATEST => Ok(Some((number(offsets.high_watermark), -1))),
        EARLIEST | EARLIEST_LOCAL => Ok(Some((number(offsets.start), -1))),
        LATEST_TIERED => Ok(None),
        MAX_TIMESTAMP => look(caller, partition, |log, at| log.max_timestamp(at)).await,
        time if time >= 0 => look(caller, partition, move |log, at| log.offset_for_time(at, time)).await,
        _ => Err(ErrorCode::UNSUPPORTED_VERSION),
    }
}

/// Runs a lookup that may read the disk, away from this thread, when there is a place for it.
async fn look(
    caller: &Caller,
    partition: PartitionId,
    lookup: impl FnOnce(&Log, PartitionId) -> Result<Option<TimedOffset>, ReadError> + Send + 'static,
) -> Result<Found, ErrorCode> {
    let log = caller.log().clone();
    let time_looks = &caller.broker.time_looks;
    let found = time_looks.run(&caller.broker.counters, move || lookup(&log, partition)).await;
    let found =
        found.unwrap_or_else(|failure| Err(ReadError::Io { partition, source: io::Error::other(failure) }));
    match found {
        Ok(found) => Ok(found.map(|at| (number(at.offset), at.timestamp_ms))),
        Err(ReadError::UnknownPartition) => Err(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION),
        Err(failure) => {
            let line = format_args!("a lookup in partition {partition} failed: {failure}");
            caller.broker.lines.reads.error(line);
            Err(ErrorCode::KAFKA_STORAGE_ERROR)
        }
    }
}

fn number(offset: u64) -> i64 {
    i64::try_from(offset).unwrap_or(i64::MAX)
}
