//! DeleteRecords (key 21): deletes the beginning of partitions (KIP-107).

use crate::wire::message::{wire_api, wire_message};

wire_message! {
    /// Where partitions shall begin.
    pub struct DeleteRecordsRequest: 0..=2, flexible 2 {
        /// The topics.
        topics: Vec<DeleteRecordsTopic>, 0..=2;
        /// Time that it may take, in milliseconds.
        timeout_ms: i32, 0..=2;
    }
}

wire_message! {
    /// One topic.
    pub struct DeleteRecordsTopic: 0..=2, flexible 2 {
        /// Name.
        name: String, 0..=2;
        /// The partitions.
        partitions: Vec<DeleteRecordsPartition>, 0..=2;
    }
}

wire_message! {
    /// One partition.
    pub struct DeleteRecordsPartition: 0..=2, flexible 2 {
        /// Partition number.
        partition_index: i32, 0..=2;
        /// Where the partition shall begin; -1: behind the newest event.
        offset: i64, 0..=2;
    }
}

wire_message! {
    /// Where they begin now.
    pub struct DeleteRecordsResponse: 0..=2, flexible 2 {
        /// Time the request was throttled, in milliseconds.
        throttle_time_ms: i32, 0..=2;
        /// The topics.
        topics: Vec<DeleteRecordsTopicResult>, 0..=2;
    }
}

wire_message! {
    /// The results for one topic.
    pub struct DeleteRecordsTopicResult: 0..=2, flexible 2 {
        /// Name.
        name: String, 0..=2;
        /// The partitions.
        partitions: Vec<DeleteRecordsPartitionResult>, 0..=2;
    }
}

wire_message! {
    /// The result for one partition.
    pub struct DeleteRecordsPartitionResult: 0..=2, flexible 2 {
        /// Partition number.
        partition_index: i32, 0..=2;
        /// Offset of the oldest event.
        low_watermark: i64, 0..=2;
        /// Error code, 0 for none.
        error_code: i16, 0..=2;
    }
}

wire_api!(DELETE_RECORDS: DeleteRecordsRequest => DeleteRecordsResponse);
