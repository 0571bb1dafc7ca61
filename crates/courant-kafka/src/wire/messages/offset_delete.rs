//! OffsetDelete (key 47): forgets what a group has committed for some partitions (KIP-496).

use crate::wire::message::{wire_api, wire_message};

wire_message! {
    /// Offsets to forget.
    pub struct OffsetDeleteRequest: 0..=0, flexible 1 {
        /// The group.
        group_id: String, 0..=0;
        /// The topics.
        topics: Vec<OffsetDeleteRequestTopic>, 0..=0;
    }
}

wire_message! {
    /// One topic.
    pub struct OffsetDeleteRequestTopic: 0..=0, flexible 1 {
        /// Name.
        name: String, 0..=0;
        /// The partitions.
        partitions: Vec<OffsetDeleteRequestPartition>, 0..=0;
    }
}

wire_message! {
    /// One partition.
    pub struct OffsetDeleteRequestPartition: 0..=0, flexible 1 {
        /// Partition number.
        partition_index: i32, 0..=0;
    }
}

wire_message! {
    /// What became of each partition.
    pub struct OffsetDeleteResponse: 0..=0, flexible 1 {
        /// Error code, 0 for none.
        error_code: i16, 0..=0;
        /// Time the request was throttled, in milliseconds.
        throttle_time_ms: i32, 0..=0;
        /// The topics.
        topics: Vec<OffsetDeleteResponseTopic>, 0..=0;
    }
}

wire_message! {
    /// The results for one topic.
    pub struct OffsetDeleteResponseTopic: 0..=0, flexible 1 {
        /// Name.
        name: String, 0..=0;
        /// The partitions.
        partitions: Vec<OffsetDeleteResponsePartition>, 0..=0;
    }
}

wire_message! {
    /// The result for one partition.
    pub struct OffsetDeleteResponsePartition: 0..=0, flexible 1 {
        /// Partition number.
        partition_index: i32, 0..=0;
        /// Error code, 0 for none.
        error_code: i16, 0..=0;
    }
}

wire_api!(OFFSET_DELETE: OffsetDeleteRequest => OffsetDeleteResponse);
