//! CreateTopics (key 19).

use crate::wire::message::{wire_api, wire_message};
use uuid::Uuid;

wire_message! {
    /// Topics to create.
    pub struct CreateTopicsRequest: 2..=7, flexible 5 {
        /// The topics.
        topics: Vec<CreatableTopic>, 2..=7;
        /// Time to wait for the topics, in milliseconds.
        timeout_ms: i32, 2..=7, default 60_000;
        /// Only check whether the topics could be created.
        validate_only: bool, 2..=7;
    }
}

wire_message! {
    /// One topic to create.
    pub struct CreatableTopic: 2..=7, flexible 5 {
        /// Topic name.
        name: String, 2..=7;
        /// Number of partitions; -1 for the broker's default.
        num_partitions: i32, 2..=7;
        /// Number of replicas; -1 for the broker's default.
        replication_factor: i16, 2..=7;
        /// Manual assignment of replicas, or empty.
        assignments: Vec<CreatableReplicaAssignment>, 2..=7;
        /// Configs to set.
        configs: Vec<CreatableTopicConfig>, 2..=7;
    }
}

wire_message! {
    /// The replicas of one partition.
    pub struct CreatableReplicaAssignment: 2..=7, flexible 5 {
        /// Partition number.
        partition_index: i32, 2..=7;
        /// Node ids.
        broker_ids: Vec<i32>, 2..=7;
    }
}

wire_message! {
    /// One config to set.
    pub struct CreatableTopicConfig: 2..=7, flexible 5 {
        /// Name of the config.
        name: String, 2..=7;
        /// Its value.
        value: Option<String>, 2..=7;
    }
}

wire_message! {
    /// The outcome for each topic.
    pub struct CreateTopicsResponse: 2..=7, flexible 5 {
        /// Time the request was throttled, in milliseconds.
        throttle_time_ms: i32, 2..=7;
        /// The topics.
        topics: Vec<CreatableTopicResult>, 2..=7;
    }
}

wire_message! {
    /// The outcome for one topic.
    pub struct CreatableTopicResult: 2..=7, flexible 5 {
        /// Topic name.
        name: String, 2..=7;
        /// Topic id.
        topic_id: Uuid, 7..=7;
        /// Error code, 0 for none.
        error_code: i16, 2..=7;
        /// Error text, or null.
        error_message: Option<String>, 2..=7;
        /// Error code for the configs if they are not returned.
        topic_config_error_code: i16, 5..=7, tag 0;
        /// Number of partitions; -1 if unknown.
        num_partitions: i32, 5..=7, default -1;
        /// Number of replicas; -1 if unknown.
        replication_factor: i16, 5..=7, default -1;
        /// All configs of the topic; null if they may not be seen.
        configs: Option<Vec<CreatableTopicConfigs>>, 5..=7, default Some(Vec::new());
    }
}

wire_message! {
    /// One config of a created topic.
    pub struct CreatableTopicConfigs: 5..=7, flexible 5 {
        /// Name of the config.
        name: String, 5..=7;
        /// Its value.
        value: Option<String>, 5..=7;
        /// Whether it cannot be changed.
        read_only: bool, 5..=7;
        /// Where the value comes from: 1 topic, 4 static broker, 5 default;
        /// -1 if unknown.
        config_source: i8, 5..=7, default -1;
        /// Whether the value is a secret.
        is_sensitive: bool, 5..=7;
    }
}

wire_api!(CREATE_TOPICS: CreateTopicsRequest => CreateTopicsResponse);
