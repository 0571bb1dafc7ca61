//! OffsetCommit (key 8): how far a group has come, kept like an event: durable before the answer.
//!
//! Nobody can go on from a negative offset. Kafka keeps it, and whoever reads it takes it for none: so a commit of one
//! takes back what was committed. kafkajs does that to begin anew.
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
    let mut wanted = Wanted::default();
    let mut response = OffsetCommitResponse::default();
    for topic in &request.topics {
        let partition = |asked: &OffsetCommitRequestPartition| {
            let error_code = match check(&catalog, &topic.name, asked, now_ms) {
                Ok((partition, Some(committed))) => {
                    wanted.kept.push((partition, committed));
                    ErrorCode::NONE
                }
                Ok((partition, None)) => {
                    wanted.taken_back.push(partition);
                    ErrorCode::NONE
                }
                Err(code) => code,
            };
            OffsetCommitResponsePartition { partition_index: asked.partition_index, error_code: error_code.0 }
        };
        let partitions = topic.partitions.iter().map(partition).collect();
        response.topics.push(OffsetCommitResponseTopic { name: topic.name.clone(), partitions });
    }
    // A group is not asked, and not made, where nothing is left to be committed.
    if let Err(code) = commit(&caller, request, wanted).await {
        debug!(peer = %caller.peer, "OffsetCommit answered with {code}");
        let partitions = response.topics.iter_mut().flat_map(|topic| &mut topic.partitions);
        for partition in partitions.filter(|partition| partition.error_code == ErrorCode::NONE.0) {
            partition.error_code = code.0;
        }
    }
    Ok((response, grant))
}

/// What a request wants of its group.
#[derive(Debug, Default)]
struct Wanted {
    kept: Vec<(PartitionId, CommittedOffset)>,
    taken_back: Vec<PartitionId>,
}

/// The partition, and what is to be committed for it; `None`: nothing any more.
fn check(
    catalog: &Catalog,
    topic: &str,
    wanted: &OffsetCommitRequestPartition,
    now_ms: i64,
) -> Result<(PartitionId, Option<CommittedOffset>), ErrorCode> {
    let topic = catalog.by_name(topic).ok_or(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION)?;
    let partition = target::partition(topic, wanted.partition_index)?;
    let metadata = wanted.committed_metadata.clone().unwrap_or_default();
    if metadata.len() > COMMIT_METADATA_BYTES_MAX {
        return Err(ErrorCode::OFFSET_METADATA_TOO_LARGE);
    }
    let leader_epoch = wanted.committed_leader_epoch;
    let committed = u64::try_from(wanted.committed_offset).ok().map(|offset| CommittedOffset {
        offset,
        leader_epoch,
        metadata,
        committed_ms: now_ms,
    });
    Ok((partition, committed))
}

async fn commit(caller: &Caller, request: OffsetCommitRequest, wanted: Wanted) -> Result<(), ErrorCode> {
    let Wanted { kept: offsets, taken_back } = wanted;
    if offsets.is_empty() && taken_back.is_empty() {
        return Ok(());
    }
    super::check_group_id(&request.group_id)?;
    let who = Identity {
        member_id: request.member_id,
        instance_id: request.group_instance_id,
        generation: request.generation_id_or_member_epoch,
    };
    let groups = caller.broker.groups();
    // Both are with the log before the first is waited for, which makes them durable together.
    let taken_back = match taken_back.is_empty() {
        true => None,
        false => groups.take_back(&request.group_id, &who, taken_back)?,
    };
    if !offsets.is_empty() {
        Coordinator::kept(groups.commit(&request.group_id, Commit { who, offsets })?).await?;
    }
    match taken_back {
        Some(taken_back) => Coordinator::kept(taken_back).await,
        None => Ok(()),
    }
}
