//! Produce (key 0): appends record batches.
//!
//! KIP-98 (transactional id, v3), KIP-467 (record errors, v8), KIP-951 (leader
//! in the response, v10), KIP-516 (topic ids, v13).

use crate::wire::message::{wire_api, wire_message};
use bytes::Bytes;
use uuid::Uuid;

wire_message! {
    /// Record batches to append.
    pub struct ProduceRequest: 3..=13, flexible 9 {
        /// Transactional id, or null.
        transactional_id: Option<String>, 3..=13;
        /// 0: no response; 1 and -1: respond once the batch is stored.
        acks: i16, 3..=13;
        /// Time to wait for the acknowledgement, in milliseconds.
        timeout_ms: i32, 3..=13;
        /// The topics.
        topic_data: Vec<TopicProduceData>, 3..=13;
    }
}

wire_message! {
    /// The batches for one topic.
    pub struct TopicProduceData: 3..=13, flexible 9 {
        /// Topic name, up to version 12.
        name: String, 3..=12;
        /// Topic id, from version 13.
        topic_id: Uuid, 13..=13;
        /// The partitions.
        partition_data: Vec<PartitionProduceData>, 3..=13;
    }
}

wire_message! {
    /// The batch for one partition.
    pub struct PartitionProduceData: 3..=13, flexible 9 {
        /// Partition number.
        index: i32, 3..=13;
        /// The record batch: a slice of the request's frame, not a copy.
        records: Option<Bytes>, 3..=13, default Some(Bytes::new());
    }
}

wire_message! {
    /// Where the batches were stored.
    pub struct ProduceResponse: 3..=13, flexible 9 {
        /// The topics.
        responses: Vec<TopicProduceResponse>, 3..=13;
        /// Time the request was throttled, in milliseconds.
        throttle_time_ms: i32, 3..=13;
        /// Endpoints of the leaders named in the partitions.
        node_endpoints: Vec<NodeEndpoint>, 10..=13, tag 0;
    }
}

wire_message! {
    /// The results for one topic.
    pub struct TopicProduceResponse: 3..=13, flexible 9 {
        /// Topic name, up to version 12.
        name: String, 3..=12;
        /// Topic id, from version 13.
        topic_id: Uuid, 13..=13;
        /// The partitions.
        partition_responses: Vec<PartitionProduceResponse>, 3..=13;
    }
}

wire_message! {
    /// The result for one partition.
    pub struct PartitionProduceResponse: 3..=13, flexible 9 {
        /// Partition number.
        index: i32, 3..=13;
        /// Error code, 0 for none.
        error_code: i16, 3..=13;
        /// Offset of the batch's first record.
        base_offset: i64, 3..=13;
        /// Append time in milliseconds since 1970 for LogAppendTime topics,
        /// otherwise -1.
        log_append_time_ms: i64, 3..=13, default -1;
        /// First offset of the partition; -1 if unknown.
        log_start_offset: i64, 5..=13, default -1;
        /// The records that caused the batch to be refused.
        record_errors: Vec<BatchIndexAndErrorMessage>, 8..=13;
        /// Summary of `record_errors`.
        error_message: Option<String>, 8..=13;
        /// The leader to use from now on.
        current_leader: LeaderIdAndEpoch, 10..=13, tag 0;
    }
}

wire_message! {
    /// One refused record.
    pub struct BatchIndexAndErrorMessage: 8..=13, flexible 9 {
        /// Index of the record in its batch.
        batch_index: i32, 8..=13;
        /// Why it was refused.
        batch_index_error_message: Option<String>, 8..=13;
    }
}

wire_message! {
    /// The leader of a partition.
    pub struct LeaderIdAndEpoch: 10..=13, flexible 9 {
        /// Node id; -1 if unknown.
        leader_id: i32, 10..=13, default -1;
        /// Leader epoch; -1 if unknown.
        leader_epoch: i32, 10..=13, default -1;
    }
}

wire_message! {
    /// Address of a leader.
    pub struct NodeEndpoint: 10..=13, flexible 9 {
        /// Node id.
        node_id: i32, 10..=13;
        /// Host name.
        host: String, 10..=13;
        /// Port.
        port: i32, 10..=13;
        /// Rack, if any.
        rack: Option<String>, 10..=13;
    }
}

wire_api!(PRODUCE: ProduceRequest => ProduceResponse);
