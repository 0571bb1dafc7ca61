//! DeleteGroups (key 42): forgets groups without members, and all that they have committed (KIP-229).

use std::collections::HashSet;
use std::sync::Arc;

use tracing::info;

use super::{Answered, memory_for};
use crate::broker::Caller;
use crate::groups::Coordinator;
use crate::wire::ErrorCode;
use crate::wire::messages::delete_groups::DeletableGroupResult;
use crate::wire::messages::{DeleteGroupsRequest, DeleteGroupsResponse};

/// Bytes of one group in the answer, besides its name.
const RESULT_BYTES: usize = 64;

/// Answers DeleteGroups.
pub(super) async fn answer(
    caller: Arc<Caller>,
    request: DeleteGroupsRequest,
) -> Answered<DeleteGroupsResponse> {
    let bytes = request.groups_names.iter().map(|name| RESULT_BYTES + 2 * name.len());
    let grant = memory_for(&caller, bytes.sum()).await?;
    let mut met = HashSet::new();
    let names = request.groups_names.into_iter().filter(|name| met.insert(name.clone()));
    // All are with the log before the first is waited for, which makes them durable together.
    let begun: Vec<_> = names
        .map(|name| {
            let kept = caller.broker.groups().delete(&name);
            (name, kept)
        })
        .collect();
    let mut response = DeleteGroupsResponse::default();
    for (group_id, kept) in begun {
        let deleted = match kept {
            Ok(kept) => Coordinator::kept(kept).await,
            Err(code) => Err(code),
        };
        if deleted.is_ok() {
            info!(group = group_id, "deleted");
        }
        let error_code = deleted.err().unwrap_or(ErrorCode::NONE).0;
        response.results.push(DeletableGroupResult { group_id, error_code });
    }
    Ok((response, grant))
}
