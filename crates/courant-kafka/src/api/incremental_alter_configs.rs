//! IncrementalAlterConfigs (key 44): sets, takes back and extends single configs of topics (KIP-339).

use std::sync::Arc;

use super::config_changes::{self, Change, Manner, Outcome, Resource, Wanted};
use super::{Answered, memory_for};
use crate::broker::Caller;
use crate::wire::messages::incremental_alter_configs::{
    AlterConfigsResource, AlterConfigsResourceResponse, AlterableConfig,
};
use crate::wire::messages::{IncrementalAlterConfigsRequest, IncrementalAlterConfigsResponse};

/// Changes what IncrementalAlterConfigs names.
pub(super) async fn begin(caller: Arc<Caller>, request: IncrementalAlterConfigsRequest) -> Vec<Outcome> {
    let manner = Manner { api: "IncrementalAlterConfigs", replace: false, only_check: request.validate_only };
    let change = |config: AlterableConfig| Change {
        name: config.name,
        operation: config.config_operation,
        value: config.value,
    };
    let wanted = |resource: AlterConfigsResource| Wanted {
        resource: Resource { kind: resource.resource_type, name: resource.resource_name },
        changes: resource.configs.into_iter().map(change).collect(),
    };
    let wanted = request.resources.into_iter().map(wanted).collect();
    config_changes::alter(&caller, wanted, manner).await
}

/// Answers IncrementalAlterConfigs.
pub(super) async fn answer(
    caller: Arc<Caller>,
    outcomes: Vec<Outcome>,
) -> Answered<IncrementalAlterConfigsResponse> {
    let grant = memory_for(&caller, outcomes.iter().map(Outcome::answer_bytes).sum()).await?;
    let result = |outcome: Outcome| {
        let (error_code, error_message) = outcome.error();
        AlterConfigsResourceResponse {
            error_code,
            error_message,
            resource_type: outcome.resource.kind,
            resource_name: outcome.resource.name,
        }
    };
    let responses = outcomes.into_iter().map(result).collect();
    Ok((IncrementalAlterConfigsResponse { responses, ..IncrementalAlterConfigsResponse::default() }, grant))
}
