//! FindCoordinator (key 10): this broker, for every group.
//!
//! Versions: up to 3 one key and one answer, from 4 on several (KIP-699). Key types: 0 group, 1
//! transaction, 2 share group (version 6).

use std::sync::Arc;

use super::{Answered, memory_for};
use crate::broker::Caller;
use crate::wire::ErrorCode;
use crate::wire::messages::{Coordinator, FindCoordinatorRequest, FindCoordinatorResponse};

/// The first version with several keys.
const KEYS_FROM: i16 = 4;

const GROUP: i8 = 0;
const TRANSACTION: i8 = 1;

/// Bytes of one coordinator in the answer, besides the texts.
const COORDINATOR_BYTES: usize = 256;

/// Answers FindCoordinator.
pub(super) async fn answer(
    caller: Arc<Caller>,
    request: FindCoordinatorRequest,
    version: i16,
) -> Answered<FindCoordinatorResponse> {
    let host_bytes = caller.advertised().host.len();
    let bytes = |key: &String| COORDINATOR_BYTES + 2 * (host_bytes + key.len());
    let grant = memory_for(&caller, request.coordinator_keys.iter().map(bytes).sum()).await?;
    Ok((handle(&caller, request, version), grant))
}

fn handle(caller: &Caller, request: FindCoordinatorRequest, version: i16) -> FindCoordinatorResponse {
    if request.key_type == TRANSACTION {
        super::warn_of_transactions(caller);
    }
    let coordinator = |key: String| coordinator(caller, request.key_type, key);
    if version >= KEYS_FROM {
        return FindCoordinatorResponse {
            coordinators: request.coordinator_keys.into_iter().map(coordinator).collect(),
            ..FindCoordinatorResponse::default()
        };
    }
    let found = coordinator(request.key);
    FindCoordinatorResponse {
        error_code: found.error_code,
        error_message: found.error_message,
        node_id: found.node_id,
        host: found.host,
        port: found.port,
        ..FindCoordinatorResponse::default()
    }
}

fn coordinator(caller: &Caller, key_type: i8, key: String) -> Coordinator {
    let refused = match key_type {
        GROUP => {
            let advertised = caller.advertised();
            return Coordinator {
                key,
                node_id: caller.broker.config().node_id,
                host: advertised.host,
                port: i32::from(advertised.port),
                ..Coordinator::default()
            };
        }
        // The one error that Java and librdkafka both take as final at this point; any other makes
        // librdkafka ask again for ever.
        TRANSACTION => (ErrorCode::TRANSACTIONAL_ID_AUTHORIZATION_FAILED, super::NO_TRANSACTIONS.to_owned()),
        other => (ErrorCode::INVALID_REQUEST, format!("coordinators of type {other} are not served")),
    };
    Coordinator {
        key,
        node_id: -1,
        port: -1,
        error_code: refused.0.0,
        error_message: Some(refused.1),
        ..Coordinator::default()
    }
}
