//! DescribeTopicPartitions (key 75): describes topics page by page (KIP-966).

use crate::wire::field::{Field, Format};
use crate::wire::message::{wire_api, wire_message};
use crate::wire::{Reader, WireError, Writer};
use uuid::Uuid;

wire_message! {
    /// Which topics are asked for, and where the page begins.
    pub struct DescribeTopicPartitionsRequest: 0..=0, flexible 0 {
        /// The topics.
        topics: Vec<TopicRequest>, 0..=0;
        /// Partitions that one page may have.
        response_partition_limit: i32, 0..=0, default 2000;
        /// Where the page begins, or null.
        cursor: Option<Cursor>, 0..=0;
    }
}

wire_message! {
    /// One topic.
    pub struct TopicRequest: 0..=0, flexible 0 {
        /// Name.
        name: String, 0..=0;
    }
}

wire_message! {
    /// The first partition of a page.
    pub struct Cursor: 0..=0, flexible 0 {
        /// Topic name.
        topic_name: String, 0..=0;
        /// Partition number.
        partition_index: i32, 0..=0;
    }
}

wire_message! {
    /// One page of topics.
    pub struct DescribeTopicPartitionsResponse: 0..=0, flexible 0 {
        /// Time the request was throttled, in milliseconds.
        throttle_time_ms: i32, 0..=0;
        /// The topics.
        topics: Vec<DescribeTopicPartitionsResponseTopic>, 0..=0;
        /// Where the next page begins, or null.
        next_cursor: Option<Cursor>, 0..=0;
    }
}

wire_message! {
    /// One topic.
    pub struct DescribeTopicPartitionsResponseTopic: 0..=0, flexible 0 {
        /// Error code, 0 for none.
        error_code: i16, 0..=0;
        /// Name, or null.
        name: Option<String>, 0..=0;
        /// Topic id.
        topic_id: Uuid, 0..=0;
        /// Whether the topic is internal.
        is_internal: bool, 0..=0;
        /// The partitions.
        partitions: Vec<DescribeTopicPartitionsResponsePartition>, 0..=0;
        /// Bit field of authorized operations; `i32::MIN` if not asked for.
        topic_authorized_operations: i32, 0..=0, default i32::MIN;
    }
}

wire_message! {
    /// One partition.
    pub struct DescribeTopicPartitionsResponsePartition: 0..=0, flexible 0 {
        /// Error code, 0 for none.
        error_code: i16, 0..=0;
        /// Partition number.
        partition_index: i32, 0..=0;
        /// Node id of the leader.
        leader_id: i32, 0..=0;
        /// Leader epoch; -1 if unknown.
        leader_epoch: i32, 0..=0, default -1;
        /// Nodes that host the partition.
        replica_nodes: Vec<i32>, 0..=0;
        /// Nodes in sync with the leader.
        isr_nodes: Vec<i32>, 0..=0;
        /// Nodes that may lead, or null.
        eligible_leader_replicas: Option<Vec<i32>>, 0..=0;
        /// Nodes that could lead last, or null.
        last_known_elr: Option<Vec<i32>>, 0..=0;
        /// Nodes that host the partition and are offline.
        offline_replicas: Vec<i32>, 0..=0;
    }
}

wire_api!(DESCRIBE_TOPIC_PARTITIONS: DescribeTopicPartitionsRequest => DescribeTopicPartitionsResponse);

/// A struct that may be null has a byte in front of it: -1 for null, else 1.
impl Field for Option<Cursor> {
    fn min_bytes(_format: Format) -> usize {
        1
    }

    fn decode(reader: &mut Reader, format: Format) -> Result<Self, WireError> {
        if i8::decode(reader, format)? < 0 {
            Ok(None)
        } else {
            <Cursor as Field>::decode(reader, format).map(Some)
        }
    }

    fn encode(&self, writer: &mut Writer, format: Format) -> Result<(), WireError> {
        match self {
            None => (-1_i8).encode(writer, format),
            Some(cursor) => {
                1_i8.encode(writer, format)?;
                Field::encode(cursor, writer, format)
            }
        }
    }
}
