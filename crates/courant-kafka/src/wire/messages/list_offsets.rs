//! ListOffsets (key 2): offsets by time, and the ends of a partition.

use crate::wire::message::{wire_api, wire_message};

wire_message! {
    /// Asks for offsets.
    pub struct ListOffsetsRequest: 1..=10, flexible 6 {
        /// Node id of a follower, or -1 for a consumer.
        replica_id: i32, 1..=10;
        /// 0: read uncommitted; 1: read committed.
        isolation_level: i8, 2..=10;
        /// The topics.
        topics: Vec<ListOffsetsTopic>, 1..=10;
        /// Time limit for tiered storage look-ups, in milliseconds.
        timeout_ms: i32, 10..=10;
    }
}

wire_message! {
    /// One topic asked for.
    pub struct ListOffsetsTopic: 1..=10, flexible 6 {
        /// Topic name.
        name: String, 1..=10;
        /// The partitions.
        partitions: Vec<ListOffsetsPartition>, 1..=10;
    }
}

wire_message! {
    /// One partition asked for.
    pub struct ListOffsetsPartition: 1..=10, flexible 6 {
        /// Partition number.
        partition_index: i32, 1..=10;
        /// Leader epoch the client knows; -1 if none.
        current_leader_epoch: i32, 4..=10, default -1;
        /// Milliseconds since 1970, or -1 latest, -2 earliest, -3 the record
        /// with the largest timestamp (v7), -4 earliest local (v8), -5 latest
        /// tiered (v9).
        timestamp: i64, 1..=10;
    }
}

wire_message! {
    /// The offsets found.
    pub struct ListOffsetsResponse: 1..=10, flexible 6 {
        /// Time the request was throttled, in milliseconds.
        throttle_time_ms: i32, 2..=10;
        /// The topics.
        topics: Vec<ListOffsetsTopicResponse>, 1..=10;
    }
}

wire_message! {
    /// The offsets of one topic.
    pub struct ListOffsetsTopicResponse: 1..=10, flexible 6 {
        /// Topic name.
        name: String, 1..=10;
        /// The partitions.
        partitions: Vec<ListOffsetsPartitionResponse>, 1..=10;
    }
}

wire_message! {
    /// The offset of one partition.
    pub struct ListOffsetsPartitionResponse: 1..=10, flexible 6 {
        /// Partition number.
        partition_index: i32, 1..=10;
        /// Error code, 0 for none.
        error_code: i16, 1..=10;
        /// Timestamp of the record found; -1 if none.
        timestamp: i64, 1..=10, default -1;
        /// The offset; -1 if none.
        offset: i64, 1..=10, default -1;
        /// Leader epoch of that record; -1 if unknown.
        leader_epoch: i32, 4..=10, default -1;
    }
}

wire_api!(LIST_OFFSETS: ListOffsetsRequest => ListOffsetsResponse);
