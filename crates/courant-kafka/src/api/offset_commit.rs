//! OffsetCommit (key 8): how far a group has come, kept like an event: durable before the answer.
//!
//! Nobody can go on from a negative offset: committing one is refused.
//!
//! Versions: up to 4 a client may say for how long its offsets are to be kept. It is not kept with them, and all of
//! a group are forgotten by the same rule.

use std::sync::Arc;

use courant_log::limits::COMMIT_METADATA_BYTES_MAX;
use courant_log::{Catalog, CommittedOffset, PartitionId};
use tracing::debug;

use super::{Answered, memory_for, target};
use crate::broker::Caller;
use crate::groups::{Commit, Coordinator, Identity};
use crate::wire::ErrorCode;
use crate::wire::messages::offset_commit::{
    OffsetCommitRequestPartition, OffsetCommitResponsePartition, OffsetCommitResponseTopic,
};
use crate::wire::messages::{OffsetCommitRequest, OffsetCommitResponse};

/// Bytes of one partition in the answer, decoded and encoded.
const PARTITION_BYTES: usize = 32;

/// Answers OffsetCommit.
pub(super) async fn answer(
    caller: Arc<Caller>,
    request: OffsetCommitRequest,
) -> Answered<OffsetCommitResponse> {
    let bytes =
        request.topics.iter().map(|topic| 2 * topic.name.len() + topic.partitions.len() * PARTITION_BYTES);
    let grant = memory_for(&caller, bytes.sum()).await?;
    let catalog = caller.log().catalog();
    let now_ms = caller.broker.now_ms();
    let mut offsets = Vec::new();
    let mut response = OffsetCommitResponse::default();
    for topic in &request.topics {
        let partition = |wanted: &OffsetCommitRequestPartition| {
            let checked = check(&catalog, &topic.name, wanted, now_ms);
            let error_code = checked.as_ref().err().copied().unwrap_or(ErrorCode::NONE).0;
            offsets.extend(checked.ok());
            OffsetCommitResponsePartition { partition_index: wanted.partition_index, error_code }
        };
        let partitions = topic.partitions.iter().map(partition).collect();
        response.topics.push(OffsetCommitResponseTopic { name: topic.name.clone(), partitions });
    }
    // A group is not asked, and not made, where nothing is left to be committed.
    if !offsets.is_empty()
        && let Err(code) = commit(&caller, request, offsets).await
    {
        debug!(peer = %caller.peer, "OffsetCommit answered with {code}");
        let partitions = response.topics.iter_mut().flat_map(|topic| &mut topic.partitions);
        for partition in partitions.filter(|partition| partition.error_code == ErrorCode::NONE.0) {
            partition.error_code = code.0;
        }
    }
    Ok((response, grant))
}

fn check(
    catalog: &Catalog,
    topic: &str,
    wanted: &OffsetCommitRequestPartition,
    now_ms: i64,
) -> Result<(PartitionId, CommittedOffset), ErrorCode> {
    let topic = catalog.by_name(topic).ok_or(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION)?;
    let partition = target::partition(topic, wanted.partition_index)?;
    let Ok(offset) = u64::try_from(wanted.committed_offset) else {
        return Err(ErrorCode::OFFSET_OUT_OF_RANGE);
    };
    let metadata = wanted.committed_metadata.clone().unwrap_or_default();
    if metadata.len() > COMMIT_METADATA_BYTES_MAX {
        return Err(ErrorCode::OFFSET_METADATA_TOO_LARGE);
    }
    let leader_epoch = wanted.committed_leader_epoch;
    Ok((partition, CommittedOffset { offset, leader_epoch, metadata, committed_ms: now_ms }))
}

async fn commit(
    caller: &Caller,
    request: OffsetCommitRequest,
    offsets: Vec<(PartitionId, CommittedOffset)>,
) -> Result<(), ErrorCode> {
    super::check_group_id(&request.group_id)?;
    let who = Identity {
        member_id: request.member_id,
        instance_id: request.group_instance_id,
        generation: request.generation_id_or_member_epoch,
    };
    let kept = caller.broker.groups().commit(&request.group_id, Commit { who, offsets })?;
    Coordinator::kept(kept).await
}
