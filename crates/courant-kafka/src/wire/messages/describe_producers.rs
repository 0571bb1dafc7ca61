//! DescribeProducers (key 61): names the idempotent producers of partitions (KIP-664).

use crate::wire::message::{wire_api, wire_message};

wire_message! {
    /// Which partitions are asked for.
    pub struct DescribeProducersRequest: 0..=0, flexible 0 {
        /// The topics.
        topics: Vec<TopicRequest>, 0..=0;
    }
}

wire_message! {
    /// One topic.
    pub struct TopicRequest: 0..=0, flexible 0 {
        /// Name.
        name: String, 0..=0;
        /// Partition numbers.
        partition_indexes: Vec<i32>, 0..=0;
    }
}

wire_message! {
    /// Their producers.
    pub struct DescribeProducersResponse: 0..=0, flexible 0 {
        /// Time the request was throttled, in milliseconds.
        throttle_time_ms: i32, 0..=0;
        /// The topics.
        topics: Vec<TopicResponse>, 0..=0;
    }
}

wire_message! {
    /// The results for one topic.
    pub struct TopicResponse: 0..=0, flexible 0 {
        /// Name.
        name: String, 0..=0;
        /// The partitions.
        partitions: Vec<PartitionResponse>, 0..=0;
    }
}

wire_message! {
    /// The producers of one partition.
    pub struct PartitionResponse: 0..=0, flexible 0 {
        /// Partition number.
        partition_index: i32, 0..=0;
        /// Error code, 0 for none.
        error_code: i16, 0..=0;
        /// Error text, or null.
        error_message: Option<String>, 0..=0;
        /// The producers.
        active_producers: Vec<ProducerState>, 0..=0;
    }
}

wire_message! {
    /// One producer.
    pub struct ProducerState: 0..=0, flexible 0 {
        /// Producer id.
        producer_id: i64, 0..=0;
        /// Epoch of the producer.
        producer_epoch: i32, 0..=0;
        /// Sequence of its newest event.
        last_sequence: i32, 0..=0, default -1;
        /// Time of its newest event, in milliseconds since 1970; -1 if unknown.
        last_timestamp: i64, 0..=0, default -1;
        /// Epoch of its coordinator; -1 if none.
        coordinator_epoch: i32, 0..=0;
        /// Where its open transaction begins; -1 if there is none.
        current_txn_start_offset: i64, 0..=0, default -1;
    }
}

wire_api!(DESCRIBE_PRODUCERS: DescribeProducersRequest => DescribeProducersResponse);
