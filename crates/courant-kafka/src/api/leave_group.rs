//! LeaveGroup (key 13): members go, and the others share what they had.
//!
//! Versions: up to 2 one member, from 3 on several, static ones also by their instance (KIP-345).

use std::sync::Arc;

use super::{Answered, memory_for};
use crate::broker::Caller;
use crate::wire::ErrorCode;
use crate::wire::messages::leave_group::MemberResponse;
use crate::wire::messages::{LeaveGroupRequest, LeaveGroupResponse};

/// The first version with several members.
const SEVERAL_FROM: i16 = 3;

/// Bytes of one member in the answer, besides its texts.
const MEMBER_BYTES: usize = 128;

/// Answers LeaveGroup.
pub(super) async fn answer(
    caller: Arc<Caller>,
    request: LeaveGroupRequest,
    version: i16,
) -> Answered<LeaveGroupResponse> {
    let leaving: Vec<_> = if version >= SEVERAL_FROM {
        request.members.into_iter().map(|member| (member.member_id, member.group_instance_id)).collect()
    } else {
        vec![(request.member_id, None)]
    };
    let texts = leaving.iter().map(|(id, instance)| id.len() + instance.as_ref().map_or(0, String::len));
    let grant = memory_for(&caller, texts.map(|text| MEMBER_BYTES + 2 * text).sum()).await?;
    if let Err(code) = super::check_group_id(&request.group_id) {
        return Ok((LeaveGroupResponse { error_code: code.0, ..LeaveGroupResponse::default() }, grant));
    }
    let outcomes = caller.broker.groups().leave(&request.group_id, &leaving);
    let code = |outcome: &Result<(), ErrorCode>| outcome.err().unwrap_or(ErrorCode::NONE).0;
    if version < SEVERAL_FROM {
        let error_code = outcomes.first().map_or(0, code);
        return Ok((LeaveGroupResponse { error_code, ..LeaveGroupResponse::default() }, grant));
    }
    let member = |((member_id, group_instance_id), outcome): ((String, Option<String>), _)| MemberResponse {
        member_id,
        group_instance_id,
        error_code: code(outcome),
    };
    let members = leaving.into_iter().zip(&outcomes).map(member).collect();
    Ok((LeaveGroupResponse { members, ..LeaveGroupResponse::default() }, grant))
}
