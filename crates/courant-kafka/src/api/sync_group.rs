//! SyncGroup (key 14): the leader's assignments in, everyone's own out.

use std::sync::Arc;

use tracing::debug;

use super::{Answered, memory_for};
use crate::broker::Caller;
use crate::groups::{Identity, Sync};
use crate::wire::ErrorCode;
use crate::wire::messages::{SyncGroupRequest, SyncGroupResponse};

/// Answers SyncGroup, when the leader has assigned and that is durable.
pub(super) async fn answer(caller: Arc<Caller>, request: SyncGroupRequest) -> Answered<SyncGroupResponse> {
    let group = request.group_id;
    let sync = Sync {
        who: Identity {
            member_id: request.member_id,
            instance_id: request.group_instance_id,
            generation: request.generation_id,
        },
        protocol_type: request.protocol_type,
        protocol: request.protocol_name,
        assignments: request
            .assignments
            .into_iter()
            .map(|one| (one.member_id, super::copied(&one.assignment)))
            .collect(),
    };
    let synced = match super::check_group_id(&group) {
        Err(code) => Err(code),
        Ok(()) => {
            let gone = ErrorCode::COORDINATOR_NOT_AVAILABLE;
            tokio::select! {
                synced = caller.broker.groups().sync(&group, sync) => synced.unwrap_or(Err(gone)),
                () = caller.broker.stopped() => Err(gone),
            }
        }
    };
    let bytes = synced.as_ref().map_or(0, |synced| 2 * synced.assignment.len());
    let grant = memory_for(&caller, bytes).await?;
    let response = match synced {
        Ok(synced) => SyncGroupResponse {
            protocol_type: Some(synced.protocol_type),
            protocol_name: Some(synced.protocol),
            assignment: synced.assignment,
            ..SyncGroupResponse::default()
        },
        Err(code) => {
            debug!(peer = %caller.peer, group, "SyncGroup answered with {code}");
            SyncGroupResponse { error_code: code.0, ..SyncGroupResponse::default() }
        }
    };
    Ok((response, grant))
}
