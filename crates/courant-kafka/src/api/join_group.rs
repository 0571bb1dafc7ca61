//! JoinGroup (key 11): into a consumer group, or into its next generation.
//!
//! Versions: from 4 on a client without an id is given one first and comes back with it (KIP-394);
//! from 5 on members may be static (KIP-345); from 9 on a leader may be told to leave the assignments
//! as they are (KIP-814). Version 0 has no time for a rebalance: the session's is taken.

use std::sync::Arc;

use tracing::debug;
use uuid::Uuid;

use super::{Answered, memory_for};
use crate::broker::Caller;
use crate::groups::{Join, JoinRefused, Joined, Protocol};
use crate::limits;
use crate::wire::ErrorCode;
use crate::wire::messages::join_group::JoinGroupResponseMember;
use crate::wire::messages::{JoinGroupRequest, JoinGroupResponse};

/// The first version in which a client gets its id before it joins.
const ID_FIRST_FROM: i16 = 4;
/// The first version in which the name of the protocol may be null.
const NULL_PROTOCOL_FROM: i16 = 7;
/// The first version in which a leader can be told to assign nothing.
const SKIP_FROM: i16 = 9;

/// Bytes of one member in the answer, besides its texts and metadata.
const MEMBER_BYTES: usize = 128;

/// Answers JoinGroup, when the rebalance that it takes part in is over.
pub(super) async fn answer(
    caller: Arc<Caller>,
    request: JoinGroupRequest,
    client_id: String,
    version: i16,
) -> Answered<JoinGroupResponse> {
    let group = request.group_id.clone();
    let joined = match check(&request) {
        Err(code) => Err(JoinRefused { code, member_id: request.member_id }),
        Ok(()) => {
            let joined = caller.broker.groups().join(&group, join(&caller, request, client_id, version));
            tokio::select! {
                joined = joined => joined.unwrap_or_else(|_| Err(gone())),
                () = caller.broker.stopped() => Err(gone()),
            }
        }
    };
    let bytes = joined.iter().flat_map(|joined| &joined.members);
    let bytes = bytes.map(|member| MEMBER_BYTES + 2 * (member.member_id.len() + member.metadata.len()));
    let grant = memory_for(&caller, bytes.sum()).await?;
    let response = match joined {
        Ok(joined) => accepted(joined),
        Err(JoinRefused { code, member_id }) => {
            debug!(peer = %caller.peer, group, "JoinGroup answered with {code}");
            refused(code, member_id, version)
        }
    };
    Ok((response, grant))
}

fn gone() -> JoinRefused {
    JoinRefused { code: ErrorCode::COORDINATOR_NOT_AVAILABLE, member_id: String::new() }
}

/// What would make the group's state longer than it may be, besides the metadata.
fn check(request: &JoinGroupRequest) -> Result<(), ErrorCode> {
    super::check_group_id(&request.group_id)?;
    let is_long = |text: &String| text.len() > limits::GROUP_TEXT_BYTES_MAX;
    if is_long(&request.member_id) {
        return Err(ErrorCode::UNKNOWN_MEMBER_ID);
    }
    if request.group_instance_id.as_ref().is_some_and(is_long) {
        return Err(ErrorCode::INVALID_REQUEST);
    }
    let protocols = &request.protocols;
    let too_many = protocols.len() > limits::PROTOCOLS_PER_MEMBER_MAX;
    if too_many || is_long(&request.protocol_type) || protocols.iter().any(|one| is_long(&one.name)) {
        return Err(ErrorCode::INCONSISTENT_GROUP_PROTOCOL);
    }
    Ok(())
}

fn join(caller: &Caller, request: JoinGroupRequest, client_id: String, version: i16) -> Join {
    let client_id: String = client_id.chars().take(limits::CLIENT_ID_CHARS_KEPT).collect();
    let session_ms = i64::from(request.session_timeout_ms);
    let rebalance_ms = Some(i64::from(request.rebalance_timeout_ms)).filter(|ms| version > 0 && *ms > 0);
    // Short enough to be taken when the client comes back with it.
    let named = request.group_instance_id.as_deref().unwrap_or(&client_id);
    let named: String = named.chars().take(limits::CLIENT_ID_CHARS_KEPT).collect();
    Join {
        fresh_id: format!("{named}-{}", Uuid::new_v4()),
        member_id: request.member_id,
        instance_id: request.group_instance_id,
        client_host: format!("/{}", caller.peer.ip().to_canonical()),
        client_id,
        session_ms,
        rebalance_ms: rebalance_ms.unwrap_or(session_ms),
        protocol_type: request.protocol_type,
        // The copies outlive the frame, which may be much longer than what is kept of it.
        protocols: request
            .protocols
            .into_iter()
            .map(|one| Protocol { name: one.name, metadata: super::copied(&one.metadata) })
            .collect(),
        id_first: version >= ID_FIRST_FROM,
        may_skip: version >= SKIP_FROM,
    }
}

fn accepted(joined: Joined) -> JoinGroupResponse {
    JoinGroupResponse {
        generation_id: joined.generation,
        protocol_type: Some(joined.protocol_type),
        protocol_name: Some(joined.protocol),
        leader: joined.leader,
        skip_assignment: joined.skip_assignment,
        member_id: joined.member_id,
        members: joined
            .members
            .into_iter()
            .map(|member| JoinGroupResponseMember {
                member_id: member.member_id,
                group_instance_id: member.instance_id,
                metadata: member.metadata,
            })
            .collect(),
        ..JoinGroupResponse::default()
    }
}

fn refused(code: ErrorCode, member_id: String, version: i16) -> JoinGroupResponse {
    JoinGroupResponse {
        error_code: code.0,
        protocol_name: (version < NULL_PROTOCOL_FROM).then(String::new),
        member_id,
        ..JoinGroupResponse::default()
    }
}
