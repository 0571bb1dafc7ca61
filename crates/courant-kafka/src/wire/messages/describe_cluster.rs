//! DescribeCluster (key 60): names the brokers of a cluster.
//!
//! KIP-700, KIP-919 (kind of endpoint, v1), KIP-1073 (fenced brokers, v2).

use crate::wire::message::{wire_api, wire_message};

wire_message! {
    /// What is asked for.
    pub struct DescribeClusterRequest: 0..=2, flexible 0 {
        /// Whether to say what the client may do.
        include_cluster_authorized_operations: bool, 0..=2;
        /// 1 brokers, 2 controllers.
        endpoint_type: i8, 1..=2, default 1;
        /// Whether to name brokers that are fenced.
        include_fenced_brokers: bool, 2..=2;
    }
}

wire_message! {
    /// The brokers.
    pub struct DescribeClusterResponse: 0..=2, flexible 0 {
        /// Time the request was throttled, in milliseconds.
        throttle_time_ms: i32, 0..=2;
        /// Error code, 0 for none.
        error_code: i16, 0..=2;
        /// Error text, or null.
        error_message: Option<String>, 0..=2;
        /// 1 brokers, 2 controllers.
        endpoint_type: i8, 1..=2, default 1;
        /// Id of the cluster.
        cluster_id: String, 0..=2;
        /// Node id of the controller.
        controller_id: i32, 0..=2, default -1;
        /// The brokers.
        brokers: Vec<DescribeClusterBroker>, 0..=2;
        /// Bit field of authorized operations; `i32::MIN` if not asked for.
        cluster_authorized_operations: i32, 0..=2, default i32::MIN;
    }
}

wire_message! {
    /// One broker.
    pub struct DescribeClusterBroker: 0..=2, flexible 0 {
        /// Node id.
        broker_id: i32, 0..=2;
        /// Host name.
        host: String, 0..=2;
        /// Port.
        port: i32, 0..=2;
        /// Rack, or null.
        rack: Option<String>, 0..=2;
        /// Whether it is fenced.
        is_fenced: bool, 2..=2;
    }
}

wire_api!(DESCRIBE_CLUSTER: DescribeClusterRequest => DescribeClusterResponse);
