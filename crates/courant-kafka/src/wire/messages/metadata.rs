//! Metadata (key 3): brokers, topics and partition leaders.

use crate::wire::message::{wire_api, wire_message};
use uuid::Uuid;

wire_message! {
    /// Asks for the brokers and for some or all topics.
    pub struct MetadataRequest: 0..=13, flexible 9 {
        /// The topics asked for. Null: all topics. Empty: none, except in
        /// version 0, which has no null and where empty means all.
        topics: Option<Vec<MetadataRequestTopic>>, 0..=13, null 1, default Some(Vec::new());
        /// Whether the broker may create topics that do not exist.
        allow_auto_topic_creation: bool, 4..=13, default true;
        /// Whether to return the authorized operations on the cluster.
        include_cluster_authorized_operations: bool, 8..=10;
        /// Whether to return the authorized operations on each topic.
        include_topic_authorized_operations: bool, 8..=13;
    }
}

wire_message! {
    /// One topic asked for, by name or (from version 10) by id.
    pub struct MetadataRequestTopic: 0..=13, flexible 9 {
        /// The topic id; nil if asked by name.
        topic_id: Uuid, 10..=13;
        /// The topic name; null if asked by id.
        name: Option<String>, 0..=13, null 10;
    }
}

wire_message! {
    /// The brokers and the topics.
    pub struct MetadataResponse: 0..=13, flexible 9 {
        /// Time the request was throttled, in milliseconds.
        throttle_time_ms: i32, 3..=13;
        /// The brokers of the cluster.
        brokers: Vec<MetadataResponseBroker>, 0..=13;
        /// The cluster id.
        cluster_id: Option<String>, 2..=13;
        /// Node id of the controller; -1 if unknown.
        controller_id: i32, 1..=13, default -1;
        /// The topics.
        topics: Vec<MetadataResponseTopic>, 0..=13;
        /// Bit field of authorized operations; `i32::MIN` if not asked for.
        cluster_authorized_operations: i32, 8..=10, default i32::MIN;
        /// Error code of the whole response (KIP-1102), 0 for none.
        error_code: i16, 13..=13;
    }
}

wire_message! {
    /// One broker.
    pub struct MetadataResponseBroker: 0..=13, flexible 9 {
        /// Node id.
        node_id: i32, 0..=13;
        /// Host name clients connect to.
        host: String, 0..=13;
        /// Port clients connect to.
        port: i32, 0..=13;
        /// Rack, if any.
        rack: Option<String>, 1..=13;
    }
}

wire_message! {
    /// One topic.
    pub struct MetadataResponseTopic: 0..=13, flexible 9 {
        /// Error code, 0 for none.
        error_code: i16, 0..=13;
        /// Name; null if the topic was asked for by an unknown id.
        name: Option<String>, 0..=13, null 12;
        /// Topic id; nil if unknown.
        topic_id: Uuid, 10..=13;
        /// Whether the topic is internal.
        is_internal: bool, 1..=13;
        /// The partitions.
        partitions: Vec<MetadataResponsePartition>, 0..=13;
        /// Bit field of authorized operations; `i32::MIN` if not asked for.
        topic_authorized_operations: i32, 8..=13, default i32::MIN;
    }
}

wire_message! {
    /// One partition.
    pub struct MetadataResponsePartition: 0..=13, flexible 9 {
        /// Error code, 0 for none.
        error_code: i16, 0..=13;
        /// Partition number.
        partition_index: i32, 0..=13;
        /// Node id of the leader.
        leader_id: i32, 0..=13;
        /// Leader epoch; -1 if unknown.
        leader_epoch: i32, 7..=13, default -1;
        /// Nodes that host the partition.
        replica_nodes: Vec<i32>, 0..=13;
        /// Nodes in sync with the leader.
        isr_nodes: Vec<i32>, 0..=13;
        /// Nodes that host the partition and are offline.
        offline_replicas: Vec<i32>, 5..=13;
    }
}

wire_api!(METADATA: MetadataRequest => MetadataResponse);
