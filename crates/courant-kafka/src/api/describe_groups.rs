//! DescribeGroups (key 15): who is in a group and what each one has.
//!
//! Versions: a group that nobody knows is `Dead`, from 6 on it is an error too (KIP-1043).

use std::collections::HashSet;
use std::sync::Arc;

use super::refused::Refused;
use super::{Answered, memory_for, operations};
use crate::broker::Caller;
use crate::groups::Description;
use crate::wire::ErrorCode;
use crate::wire::messages::describe_groups::{DescribedGroup, DescribedGroupMember};
use crate::wire::messages::{DescribeGroupsRequest, DescribeGroupsResponse};

/// The first version that tells a group that is not there by an error.
const NOT_FOUND_FROM: i16 = 6;

/// Bytes of one member or group in the answer, besides its texts and bytes.
const PART_BYTES: usize = 256;

/// Answers DescribeGroups.
pub(super) async fn answer(
    caller: Arc<Caller>,
    request: DescribeGroupsRequest,
    version: i16,
) -> Answered<DescribeGroupsResponse> {
    // A group that is asked for twice is answered once: the answer would else have no bounds.
    let mut met = HashSet::new();
    let mut names = request.groups;
    names.retain(|name| met.insert(name.clone()));
    drop(met);
    // They are described twice: who waits for memory must not have the answer already.
    let needed = names.iter().map(|name| needed(&caller, name)).sum();
    let grant = memory_for(&caller, needed).await?;
    let asked = request.include_authorized_operations;
    let groups = names.into_iter().map(|name| DescribedGroup {
        authorized_operations: if asked { operations::ON_GROUP } else { operations::NOT_ASKED },
        ..match caller.broker.groups().describe(&name) {
            Some(group) => known(name, group),
            None => unknown(name, version),
        }
    });
    Ok((DescribeGroupsResponse { groups: groups.collect(), ..DescribeGroupsResponse::default() }, grant))
}

fn needed(caller: &Caller, name: &str) -> usize {
    let group = caller.broker.groups().describe(name);
    PART_BYTES + 2 * name.len() + group.as_ref().map_or(0, bytes)
}

fn bytes(group: &Description) -> usize {
    let member = |bytes: usize, texts: usize| PART_BYTES + 2 * (bytes + texts);
    let members = group.members.iter();
    members
        .map(|one| {
            let texts = one.member_id.len() + one.client_id.len() + one.client_host.len();
            member(one.metadata.len() + one.assignment.len(), texts)
        })
        .sum()
}

fn known(group_id: String, group: Description) -> DescribedGroup {
    let members = group.members.into_iter().map(|member| DescribedGroupMember {
        member_id: member.member_id,
        group_instance_id: member.instance_id,
        client_id: member.client_id,
        client_host: member.client_host,
        member_metadata: member.metadata,
        member_assignment: member.assignment,
    });
    DescribedGroup {
        group_id,
        group_state: group.state.to_owned(),
        protocol_type: group.protocol_type,
        protocol_data: group.protocol,
        members: members.collect(),
        ..DescribedGroup::default()
    }
}

fn unknown(group_id: String, version: i16) -> DescribedGroup {
    let refused = Refused::new(ErrorCode::GROUP_ID_NOT_FOUND, format!("there is no group {group_id}"));
    let refused = Some(refused).filter(|_| version >= NOT_FOUND_FROM);
    DescribedGroup {
        error_code: refused.as_ref().map_or(ErrorCode::NONE, |refused| refused.code).0,
        error_message: refused.map(|refused| refused.message),
        group_id,
        group_state: "Dead".to_owned(),
        ..DescribedGroup::default()
    }
}
