//! AlterConfigs (key 33): sets all configs of a topic at once.

use crate::wire::message::{wire_api, wire_message};

wire_message! {
    /// Configs that take the place of what is set.
    pub struct AlterConfigsRequest: 0..=2, flexible 2 {
        /// The resources.
        resources: Vec<AlterConfigsResource>, 0..=2;
        /// Whether only to check.
        validate_only: bool, 0..=2;
    }
}

wire_message! {
    /// One resource.
    pub struct AlterConfigsResource: 0..=2, flexible 2 {
        /// What it is: 2 topic, 4 broker.
        resource_type: i8, 0..=2;
        /// Its name.
        resource_name: String, 0..=2;
        /// The configs.
        configs: Vec<AlterableConfig>, 0..=2;
    }
}

wire_message! {
    /// One config.
    pub struct AlterableConfig: 0..=2, flexible 2 {
        /// Name.
        name: String, 0..=2;
        /// Value, or null.
        value: Option<String>, 0..=2;
    }
}

wire_message! {
    /// What became of each resource.
    pub struct AlterConfigsResponse: 0..=2, flexible 2 {
        /// Time the request was throttled, in milliseconds.
        throttle_time_ms: i32, 0..=2;
        /// The results.
        responses: Vec<AlterConfigsResourceResponse>, 0..=2;
    }
}

wire_message! {
    /// What became of one resource.
    pub struct AlterConfigsResourceResponse: 0..=2, flexible 2 {
        /// Error code, 0 for none.
        error_code: i16, 0..=2;
        /// Error text, or null.
        error_message: Option<String>, 0..=2;
        /// What it is: 2 topic, 4 broker.
        resource_type: i8, 0..=2;
        /// Its name.
        resource_name: String, 0..=2;
    }
}

wire_api!(ALTER_CONFIGS: AlterConfigsRequest => AlterConfigsResponse);
