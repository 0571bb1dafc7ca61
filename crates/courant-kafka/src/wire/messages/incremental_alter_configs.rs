//! IncrementalAlterConfigs (key 44): changes single configs of a topic (KIP-339).

use crate::wire::message::{wire_api, wire_message};

wire_message! {
    /// Configs to change.
    pub struct IncrementalAlterConfigsRequest: 0..=1, flexible 1 {
        /// The resources.
        resources: Vec<AlterConfigsResource>, 0..=1;
        /// Whether only to check.
        validate_only: bool, 0..=1;
    }
}

wire_message! {
    /// One resource.
    pub struct AlterConfigsResource: 0..=1, flexible 1 {
        /// What it is: 2 topic, 4 broker.
        resource_type: i8, 0..=1;
        /// Its name.
        resource_name: String, 0..=1;
        /// The configs.
        configs: Vec<AlterableConfig>, 0..=1;
    }
}

wire_message! {
    /// One config.
    pub struct AlterableConfig: 0..=1, flexible 1 {
        /// Name.
        name: String, 0..=1;
        /// 0 set, 1 delete, 2 append, 3 subtract.
        config_operation: i8, 0..=1;
        /// Value, or null.
        value: Option<String>, 0..=1;
    }
}

wire_message! {
    /// What became of each resource.
    pub struct IncrementalAlterConfigsResponse: 0..=1, flexible 1 {
        /// Time the request was throttled, in milliseconds.
        throttle_time_ms: i32, 0..=1;
        /// The results.
        responses: Vec<AlterConfigsResourceResponse>, 0..=1;
    }
}

wire_message! {
    /// What became of one resource.
    pub struct AlterConfigsResourceResponse: 0..=1, flexible 1 {
        /// Error code, 0 for none.
        error_code: i16, 0..=1;
        /// Error text, or null.
        error_message: Option<String>, 0..=1;
        /// What it is: 2 topic, 4 broker.
        resource_type: i8, 0..=1;
        /// Its name.
        resource_name: String, 0..=1;
    }
}

wire_api!(INCREMENTAL_ALTER_CONFIGS: IncrementalAlterConfigsRequest => IncrementalAlterConfigsResponse);
