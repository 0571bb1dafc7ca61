//! DescribeLogDirs (key 35): says how much room partitions take.
//!
//! KIP-113, KIP-827 (sizes of the volume, v4).

use crate::wire::message::{wire_api, wire_message};

wire_message! {
    /// Which topics are asked for.
    pub struct DescribeLogDirsRequest: 1..=4, flexible 2 {
        /// The topics, or null for all.
        topics: Option<Vec<DescribableLogDirTopic>>, 1..=4, default Some(Vec::new());
    }
}

wire_message! {
    /// One topic.
    pub struct DescribableLogDirTopic: 1..=4, flexible 2 {
        /// Topic name.
        topic: String, 1..=4;
        /// The partitions.
        partitions: Vec<i32>, 1..=4;
    }
}

wire_message! {
    /// The directories and what is in them.
    pub struct DescribeLogDirsResponse: 1..=4, flexible 2 {
        /// Time the request was throttled, in milliseconds.
        throttle_time_ms: i32, 1..=4;
        /// Error code, 0 for none.
        error_code: i16, 3..=4;
        /// The results.
        results: Vec<DescribeLogDirsResult>, 1..=4;
    }
}

wire_message! {
    /// One directory.
    pub struct DescribeLogDirsResult: 1..=4, flexible 2 {
        /// Error code, 0 for none.
        error_code: i16, 1..=4;
        /// Path of the directory.
        log_dir: String, 1..=4;
        /// The topics.
        topics: Vec<DescribeLogDirsTopic>, 1..=4;
        /// Bytes of the volume; -1 if unknown.
        total_bytes: i64, 4..=4, default -1;
        /// Bytes that are free; -1 if unknown.
        usable_bytes: i64, 4..=4, default -1;
    }
}

wire_message! {
    /// One topic.
    pub struct DescribeLogDirsTopic: 1..=4, flexible 2 {
        /// Name.
        name: String, 1..=4;
        /// The partitions.
        partitions: Vec<DescribeLogDirsPartition>, 1..=4;
    }
}

wire_message! {
    /// One partition.
    pub struct DescribeLogDirsPartition: 1..=4, flexible 2 {
        /// Partition number.
        partition_index: i32, 1..=4;
        /// Bytes that the partition takes.
        partition_size: i64, 1..=4;
        /// Events that are missing.
        offset_lag: i64, 1..=4;
        /// Whether the partition is moving there.
        is_future_key: bool, 1..=4;
    }
}

wire_api!(DESCRIBE_LOG_DIRS: DescribeLogDirsRequest => DescribeLogDirsResponse);
