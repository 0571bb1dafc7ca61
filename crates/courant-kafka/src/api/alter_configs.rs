//! AlterConfigs (key 33): sets all configs of topics at once; what is not named goes back to its
//! default. Newer clients change single configs instead, with IncrementalAlterConfigs.

use std::sync::Arc;

use super::config_changes::{self, Change, Manner, Outcome, Resource, Wanted};
use super::{Answered, memory_for};
use crate::broker::Caller;
use crate::wire::messages::alter_configs::{
    AlterConfigsResource, AlterConfigsResourceResponse, AlterableConfig,
};
use crate::wire::messages::{AlterConfigsRequest, AlterConfigsResponse};

/// Changes what AlterConfigs names.
pub(super) async fn begin(caller: Arc<Caller>, request: AlterConfigsRequest) -> Vec<Outcome> {
    let manner = Manner { api: "AlterConfigs", replace: true, only_check: request.validate_only };
    let change = |config: AlterableConfig| Change {
        name: config.name,
        operation: config_changes::SET,
        value: config.value,
    };
    let wanted = |resource: AlterConfigsResource| Wanted {
        resource: Resource { kind: resource.resource_type, name: resource.resource_name },
        changes: resource.configs.into_iter().map(change).collect(),
    };
    let wanted = request.resources.into_iter().map(wanted).collect();
    config_changes::alter(&caller, wanted, manner).await
}

/// Answers AlterConfigs.
pub(super) async fn answer(caller: Arc<Caller>, outcomes: Vec<Outcome>) -> Answered<AlterConfigsResponse> {
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
    Ok((AlterConfigsResponse { responses, ..AlterConfigsResponse::default() }, grant))
}
