//! CreatePartitions (key 37): adds partitions to topics (KIP-195).

use crate::wire::message::{wire_api, wire_message};

wire_message! {
    /// Topics that shall have more partitions.
    pub struct CreatePartitionsRequest: 0..=3, flexible 2 {
        /// The topics.
        topics: Vec<CreatePartitionsTopic>, 0..=3;
        /// Time that it may take, in milliseconds.
        timeout_ms: i32, 0..=3;
        /// Whether only to check.
        validate_only: bool, 0..=3;
    }
}

wire_message! {
    /// One topic.
    pub struct CreatePartitionsTopic: 0..=3, flexible 2 {
        /// Name.
        name: String, 0..=3;
        /// Partitions that the topic shall have.
        count: i32, 0..=3;
        /// Where the new partitions are hosted, or null to leave it to the broker.
        assignments: Option<Vec<CreatePartitionsAssignment>>, 0..=3, default Some(Vec::new());
    }
}

wire_message! {
    /// Where one new partition is hosted.
    pub struct CreatePartitionsAssignment: 0..=3, flexible 2 {
        /// Nodes that host the partition.
        broker_ids: Vec<i32>, 0..=3;
    }
}

wire_message! {
    /// What became of each topic.
    pub struct CreatePartitionsResponse: 0..=3, flexible 2 {
        /// Time the request was throttled, in milliseconds.
        throttle_time_ms: i32, 0..=3;
        /// The results.
        results: Vec<CreatePartitionsTopicResult>, 0..=3;
    }
}

wire_message! {
    /// What became of one topic.
    pub struct CreatePartitionsTopicResult: 0..=3, flexible 2 {
        /// Name.
        name: String, 0..=3;
        /// Error code, 0 for none.
        error_code: i16, 0..=3;
        /// Error text, or null.
        error_message: Option<String>, 0..=3;
    }
}

wire_api!(CREATE_PARTITIONS: CreatePartitionsRequest => CreatePartitionsResponse);
