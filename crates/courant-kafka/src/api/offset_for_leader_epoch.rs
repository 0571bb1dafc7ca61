//! OffsetForLeaderEpoch (key 23): where a leader epoch ended, so that a client finds out whether it has
//! seen what the log has lost (KIP-101, KIP-320).
//!
//! There is one epoch, and it goes on: it ends where the log does. Nothing is known of any other.

use std::sync::Arc;

use courant_log::{Catalog, Log};
use uuid::Uuid;

use super::target::{self, Naming};
use super::{Answered, memory_for};
use crate::broker::{Caller, LEADER_EPOCH};
use crate::wire::ErrorCode;
use crate::wire::messages::offset_for_leader_epoch::{
    EpochEndOffset, OffsetForLeaderPartition, OffsetForLeaderTopicResult,
};
use crate::wire::messages::{OffsetForLeaderEpochRequest, OffsetForLeaderEpochResponse};

/// Bytes of one partition in the answer, decoded and encoded.
const PARTITION_BYTES: usize = 64;

/// Answers OffsetForLeaderEpoch.
pub(super) async fn answer(
    caller: Arc<Caller>,
    request: OffsetForLeaderEpochRequest,
) -> Answered<OffsetForLeaderEpochResponse> {
    let partitions: usize = request.topics.iter().map(|topic| topic.partitions.len()).sum();
    let grant = memory_for(&caller, partitions * PARTITION_BYTES).await?;
    let catalog = caller.log().catalog();
    let mut response = OffsetForLeaderEpochResponse::default();
    for topic in request.topics {
        let result = |wanted: &OffsetForLeaderPartition| {
            let found = find(caller.log(), &catalog, &topic.topic, wanted);
            partition_result(wanted.partition, found)
        };
        let partitions = topic.partitions.iter().map(result).collect();
        response.topics.push(OffsetForLeaderTopicResult { topic: topic.topic, partitions });
    }
    Ok((response, grant))
}

/// The end of the epoch, if the log knows of it.
fn find(
    log: &Log,
    catalog: &Catalog,
    topic: &str,
    wanted: &OffsetForLeaderPartition,
) -> Result<Option<u64>, ErrorCode> {
    let naming = Naming::ByName;
    let topic = naming.topic(catalog, topic, &Uuid::nil())?;
    target::check_leader_epoch(wanted.current_leader_epoch)?;
    let partition = target::partition(topic, wanted.partition)?;
    let offsets = log.offsets(partition).ok_or(naming.unknown())?;
    Ok((wanted.leader_epoch == LEADER_EPOCH).then_some(offsets.high_watermark))
}

fn partition_result(index: i32, found: Result<Option<u64>, ErrorCode>) -> EpochEndOffset {
    let mut result = EpochEndOffset { partition: index, ..EpochEndOffset::default() };
    match found {
        Ok(Some(end)) => {
            result.leader_epoch = LEADER_EPOCH;
            result.end_offset = i64::try_from(end).unwrap_or(i64::MAX);
        }
        Ok(None) => {}
        Err(code) => result.error_code = code.0,
    }
    result
}
