//! Heartbeat (key 12): a member is alive; the answer says whether it has to join again.

use std::sync::Arc;

use super::Answered;
use crate::broker::Caller;
use crate::budget::Grant;
use crate::groups::Identity;
use crate::wire::ErrorCode;
use crate::wire::messages::{HeartbeatRequest, HeartbeatResponse};

/// Answers Heartbeat.
pub(super) async fn answer(caller: Arc<Caller>, request: HeartbeatRequest) -> Answered<HeartbeatResponse> {
    let who = Identity {
        member_id: request.member_id,
        instance_id: request.group_instance_id,
        generation: request.generation_id,
    };
    let alive = super::check_group_id(&request.group_id)
        .and_then(|()| caller.broker.groups().heartbeat(&request.group_id, &who));
    let code = alive.err().unwrap_or(ErrorCode::NONE);
    Ok((HeartbeatResponse { error_code: code.0, ..HeartbeatResponse::default() }, Grant::default()))
}
