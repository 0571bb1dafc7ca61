//! ApiVersions (key 18): which APIs and versions are served, asked before anything else.
//!
//! A client that asks in a version of the future gets the body of version 0, error 35 and the list,
//! and asks again on the same connection (KIP-511). No features are finalized: clients then use
//! transactions of the first kind, which are refused by name.

use crate::broker::Caller;
use crate::wire::messages::{ApiVersion, ApiVersionsRequest, ApiVersionsResponse};
use crate::wire::{ErrorCode, supported_apis};

/// The first version in which a client names its software.
const SOFTWARE_FROM: i16 = 3;

/// Answers ApiVersions in a version that is served.
pub(super) fn handle(caller: &Caller, request: &ApiVersionsRequest, version: i16) -> ApiVersionsResponse {
    let names = [&request.client_software_name, &request.client_software_version];
    if version >= SOFTWARE_FROM && !names.iter().all(|name| is_software(name)) {
        let line = format_args!("ApiVersions refused: the client's software is named {names:?}");
        caller.broker.lines.software.warn(caller.peer, line);
        return ApiVersionsResponse {
            error_code: ErrorCode::INVALID_REQUEST.0,
            ..ApiVersionsResponse::default()
        };
    }
    ApiVersionsResponse { api_keys: list(), ..ApiVersionsResponse::default() }
}

/// The answer, in version 0, to a version that is not served.
pub(super) fn of_the_future() -> ApiVersionsResponse {
    ApiVersionsResponse {
        error_code: ErrorCode::UNSUPPORTED_VERSION.0,
        api_keys: list(),
        ..ApiVersionsResponse::default()
    }
}

fn list() -> Vec<ApiVersion> {
    let version = |api: &crate::wire::ApiRange| ApiVersion {
        api_key: api.key.0,
        // Produce is announced from 0 and served from 3 (KAFKA-18659).
        min_version: api.advertised_min,
        max_version: api.max,
    };
    supported_apis().iter().map(version).collect()
}

/// Letters, digits, dots and dashes, of which the last two not at the ends (KIP-511).
fn is_software(name: &str) -> bool {
    let ends = |byte: &u8| byte.is_ascii_alphanumeric();
    let bytes = name.as_bytes();
    bytes.first().is_some_and(ends)
        && bytes.last().is_some_and(ends)
        && bytes.iter().all(|byte| ends(byte) || matches!(byte, b'.' | b'-'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn software_names() {
        for name in ["librdkafka", "apache-kafka-java", "2.12.1", "a"] {
            assert!(is_software(name), "{name}");
        }
        for name in ["", "-a", "a.", "a b", "a\n", "ü"] {
            assert!(!is_software(name), "{name}");
        }
    }

    #[test]
    fn produce_is_announced_from_version_0() {
        let produce = list().into_iter().find(|api| api.api_key == 0);
        let produce = produce.expect("Produce is served");
        assert_eq!((produce.min_version, produce.max_version), (0, 13));
    }
}
