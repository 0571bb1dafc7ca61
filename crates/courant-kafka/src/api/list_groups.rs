//! ListGroups (key 16): the names of all groups.
//!
//! Versions: from 4 on by state (KIP-518), from 5 on by type (KIP-848). Every group here is a classic
//! one.

use std::sync::Arc;

use super::{Answered, memory_for};
use crate::broker::Caller;
use crate::wire::messages::list_groups::ListedGroup;
use crate::wire::messages::{ListGroupsRequest, ListGroupsResponse};

const TYPE: &str = "classic";

/// Bytes of one group in the answer, besides its texts.
const GROUP_BYTES: usize = 160;

/// Answers ListGroups.
pub(super) async fn answer(caller: Arc<Caller>, request: ListGroupsRequest) -> Answered<ListGroupsResponse> {
    let asked = |filter: &[String], word: &str| {
        filter.is_empty() || filter.iter().any(|asked| asked.eq_ignore_ascii_case(word))
    };
    // They are gone through twice: who waits for memory must not have the list already.
    let mut needed = 0;
    caller.broker.groups().each(|name, _| needed += GROUP_BYTES + 2 * name.len());
    let grant = memory_for(&caller, needed).await?;
    let listed = caller.broker.groups().list();
    let groups = listed
        .into_iter()
        .filter(|(_, group)| asked(&request.states_filter, group.state) && asked(&request.types_filter, TYPE))
        .map(|(group_id, group)| ListedGroup {
            group_id,
            protocol_type: group.protocol_type,
            group_state: group.state.to_owned(),
            group_type: TYPE.to_owned(),
        });
    Ok((ListGroupsResponse { groups: groups.collect(), ..ListGroupsResponse::default() }, grant))
}
