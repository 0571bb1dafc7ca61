//! OffsetDelete (key 47): forgets what a group has committed for some partitions (KIP-496). What
//! members of the group subscribe to is in use and stays.

use std::sync::Arc;

use super::{Answered, memory_for, target};
use crate::broker::Caller;
use crate::groups::{Coordinator, DeleteOffsets};
use crate::wire::ErrorCode;
use crate::wire::messages::offset_delete::{OffsetDeleteResponsePartition, OffsetDeleteResponseTopic};
use crate::wire::messages::{OffsetDeleteRequest, OffsetDeleteResponse};

/// Bytes of one partition in the answer, decoded and encoded.
const PARTITION_BYTES: usize = 32;

/// Answers OffsetDelete.
pub(super) async fn answer(
    caller: Arc<Caller>,
    request: OffsetDeleteRequest,
) -> Answered<OffsetDeleteResponse> {
    let bytes =
        request.topics.iter().map(|topic| 2 * topic.name.len() + topic.partitions.len() * PARTITION_BYTES);
    let grant = memory_for(&caller, bytes.sum()).await?;
    let catalog = caller.log().catalog();
    let mut response = OffsetDeleteResponse::default();
    let mut partitions = Vec::new();
    // Where in the answer the partitions are that exist, in their order.
    let mut places = Vec::new();
    for (t, topic) in request.topics.into_iter().enumerate() {
        let mut results = Vec::with_capacity(topic.partitions.len());
        for (p, wanted) in topic.partitions.into_iter().enumerate() {
            let found = catalog.by_name(&topic.name).ok_or(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION);
            let found = found.and_then(|found| target::partition(found, wanted.partition_index));
            let error_code = found.err().unwrap_or(ErrorCode::NONE).0;
            if let Ok(partition) = found {
                partitions.push((topic.name.clone(), partition));
                places.push((t, p));
            }
            results
                .push(OffsetDeleteResponsePartition { partition_index: wanted.partition_index, error_code });
        }
        response.topics.push(OffsetDeleteResponseTopic { name: topic.name, partitions: results });
    }
    let deleted = caller.broker.groups().delete_offsets(&request.group_id, &DeleteOffsets { partitions });
    match deleted {
        Err(code) => {
            response.error_code = code.0;
            response.topics.clear();
        }
        Ok((outcomes, kept)) => {
            let kept = Coordinator::kept(kept).await;
            for ((t, p), outcome) in places.into_iter().zip(outcomes) {
                let code = outcome.and(kept).err().unwrap_or(ErrorCode::NONE);
                response.topics[t].partitions[p].error_code = code.0;
            }
        }
    }
    Ok((response, grant))
}
