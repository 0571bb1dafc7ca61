//! ApiVersions (key 18): which APIs and versions the broker serves.
//!
//! KIP-35, KIP-511 (client name and version), KIP-584 (features). The response
//! travels behind response header v0 in every version, so that a client can
//! read it before it knows anything about the broker.

use crate::wire::message::{wire_api, wire_message};

wire_message! {
    /// Asks which APIs and versions are served.
    pub struct ApiVersionsRequest: 0..=4, flexible 3 {
        /// Name of the client library.
        client_software_name: String, 3..=4;
        /// Version of the client library.
        client_software_version: String, 3..=4;
    }
}

wire_message! {
    /// The served APIs, and the features of the cluster.
    pub struct ApiVersionsResponse: 0..=4, flexible 3 {
        /// Error code, 0 for none.
        error_code: i16, 0..=4;
        /// The served APIs.
        api_keys: Vec<ApiVersion>, 0..=4;
        /// Time the request was throttled, in milliseconds.
        throttle_time_ms: i32, 1..=4;
        /// Features the broker supports. Before version 4, features whose
        /// minimum is 0 have to be left out.
        supported_features: Vec<SupportedFeatureKey>, 3..=4, tag 0;
        /// Epoch of `finalized_features`; -1 if unknown.
        finalized_features_epoch: i64, 3..=4, tag 1, default -1;
        /// Features finalized for the whole cluster.
        finalized_features: Vec<FinalizedFeatureKey>, 3..=4, tag 2;
        /// ZooKeeper migration readiness of a KRaft controller.
        zk_migration_ready: bool, 3..=4, tag 3;
    }
}

wire_message! {
    /// One served API.
    pub struct ApiVersion: 0..=4, flexible 3 {
        /// The API key.
        api_key: i16, 0..=4;
        /// Lowest version, inclusive.
        min_version: i16, 0..=4;
        /// Highest version, inclusive.
        max_version: i16, 0..=4;
    }
}

wire_message! {
    /// One feature the broker supports.
    pub struct SupportedFeatureKey: 3..=4, flexible 3 {
        /// Name of the feature.
        name: String, 3..=4;
        /// Lowest supported level.
        min_version: i16, 3..=4;
        /// Highest supported level.
        max_version: i16, 3..=4;
    }
}

wire_message! {
    /// One feature finalized for the cluster.
    pub struct FinalizedFeatureKey: 3..=4, flexible 3 {
        /// Name of the feature.
        name: String, 3..=4;
        /// Highest finalized level.
        max_version_level: i16, 3..=4;
        /// Lowest finalized level.
        min_version_level: i16, 3..=4;
    }
}

wire_api!(API_VERSIONS: ApiVersionsRequest => ApiVersionsResponse);
