//! DescribeConfigs (key 32): says how topics and brokers are configured.
//!
//! KIP-226 (sources and synonyms, v1), KIP-569 (types and documentation, v3).

use crate::wire::message::{wire_api, wire_message};

wire_message! {
    /// What is asked for.
    pub struct DescribeConfigsRequest: 1..=4, flexible 4 {
        /// The resources.
        resources: Vec<DescribeConfigsResource>, 1..=4;
        /// Whether to name the places that a value may come from.
        include_synonyms: bool, 1..=4;
        /// Whether to explain the configs.
        include_documentation: bool, 3..=4;
    }
}

wire_message! {
    /// One resource.
    pub struct DescribeConfigsResource: 1..=4, flexible 4 {
        /// What it is: 2 topic, 4 broker.
        resource_type: i8, 1..=4;
        /// Its name.
        resource_name: String, 1..=4;
        /// Names that are asked for, or null for all.
        configuration_keys: Option<Vec<String>>, 1..=4, default Some(Vec::new());
    }
}

wire_message! {
    /// The configs.
    pub struct DescribeConfigsResponse: 1..=4, flexible 4 {
        /// Time the request was throttled, in milliseconds.
        throttle_time_ms: i32, 1..=4;
        /// The results.
        results: Vec<DescribeConfigsResult>, 1..=4;
    }
}

wire_message! {
    /// One resource.
    pub struct DescribeConfigsResult: 1..=4, flexible 4 {
        /// Error code, 0 for none.
        error_code: i16, 1..=4;
        /// Error text, or null.
        error_message: Option<String>, 1..=4;
        /// What it is: 2 topic, 4 broker.
        resource_type: i8, 1..=4;
        /// Its name.
        resource_name: String, 1..=4;
        /// The configs.
        configs: Vec<DescribeConfigsResourceResult>, 1..=4;
    }
}

wire_message! {
    /// One config.
    pub struct DescribeConfigsResourceResult: 1..=4, flexible 4 {
        /// Name.
        name: String, 1..=4;
        /// Value, or null.
        value: Option<String>, 1..=4;
        /// Whether it cannot be changed.
        read_only: bool, 1..=4;
        /// Where the value comes from: 1 topic, 4 broker, 5 default.
        config_source: i8, 1..=4, default -1;
        /// Whether the value is a secret.
        is_sensitive: bool, 1..=4;
        /// Places that a value may come from, the strongest first.
        synonyms: Vec<DescribeConfigsSynonym>, 1..=4;
        /// Type of the value: 1 boolean, 2 string, 3 32-bit, 5 64-bit number, 6 double, 7 list.
        config_type: i8, 3..=4;
        /// What it is about, or null.
        documentation: Option<String>, 3..=4;
    }
}

wire_message! {
    /// One place that a value may come from.
    pub struct DescribeConfigsSynonym: 1..=4, flexible 4 {
        /// Name.
        name: String, 1..=4;
        /// Value, or null.
        value: Option<String>, 1..=4;
        /// Where the value comes from.
        source: i8, 1..=4;
    }
}

wire_api!(DESCRIBE_CONFIGS: DescribeConfigsRequest => DescribeConfigsResponse);
