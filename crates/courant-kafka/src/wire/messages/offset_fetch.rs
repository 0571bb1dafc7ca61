//! OffsetFetch (key 9): says how far groups have come.
//!
//! KIP-320 (leader epochs, v5), KIP-447 (stable offsets, v7), KIP-709 (several groups, v8), KIP-848
//! (member epoch, v9).

use crate::wire::message::{wire_api, wire_message};

wire_message! {
    /// Whose offsets are asked for.
    pub struct OffsetFetchRequest: 1..=9, flexible 6 {
        /// The group, up to version 7.
        group_id: String, 1..=7;
        /// The topics, or null for all that the group has committed; up to version 7. Version 1 has no
        /// null.
        topics: Option<Vec<OffsetFetchRequestTopic>>, 1..=7, null 2, default Some(Vec::new());
        /// The groups, from version 8.
        groups: Vec<OffsetFetchRequestGroup>, 8..=9;
        /// Whether to wait for transactions that commit offsets.
        require_stable: bool, 7..=9;
    }
}

wire_message! {
    /// One topic.
    pub struct OffsetFetchRequestTopic: 1..=7, flexible 6 {
        /// Name.
        name: String, 1..=7;
        /// Partition numbers.
        partition_indexes: Vec<i32>, 1..=7;
    }
}

wire_message! {
    /// One group.
    pub struct OffsetFetchRequestGroup: 8..=9, flexible 6 {
        /// The group.
        group_id: String, 8..=9;
        /// Id of the member, or null.
        member_id: Option<String>, 9..=9;
        /// The member's epoch; -1 in classic groups.
        member_epoch: i32, 9..=9, default -1;
        /// The topics, or null for all that the group has committed.
        topics: Option<Vec<OffsetFetchRequestTopics>>, 8..=9, default Some(Vec::new());
    }
}

wire_message! {
    /// One topic of a group.
    pub struct OffsetFetchRequestTopics: 8..=9, flexible 6 {
        /// Name.
        name: String, 8..=9;
        /// Partition numbers.
        partition_indexes: Vec<i32>, 8..=9;
    }
}

wire_message! {
    /// The committed offsets.
    pub struct OffsetFetchResponse: 1..=9, flexible 6 {
        /// Time the request was throttled, in milliseconds.
        throttle_time_ms: i32, 3..=9;
        /// The topics.
        topics: Vec<OffsetFetchResponseTopic>, 1..=7;
        /// Error code, 0 for none.
        error_code: i16, 2..=7;
        /// The groups.
        groups: Vec<OffsetFetchResponseGroup>, 8..=9;
    }
}

wire_message! {
    /// One topic.
    pub struct OffsetFetchResponseTopic: 1..=7, flexible 6 {
        /// Name.
        name: String, 1..=7;
        /// The partitions.
        partitions: Vec<OffsetFetchResponsePartition>, 1..=7;
    }
}

wire_message! {
    /// One partition.
    pub struct OffsetFetchResponsePartition: 1..=7, flexible 6 {
        /// Partition number.
        partition_index: i32, 1..=7;
        /// The next offset to be consumed; -1 if there is none.
        committed_offset: i64, 1..=7;
        /// Leader epoch of the event before it; -1 if unknown.
        committed_leader_epoch: i32, 5..=7, default -1;
        /// Text that is kept with the offset, or null.
        metadata: Option<String>, 1..=7;
        /// Error code, 0 for none.
        error_code: i16, 1..=7;
    }
}

wire_message! {
    /// One group.
    pub struct OffsetFetchResponseGroup: 8..=9, flexible 6 {
        /// The group.
        group_id: String, 8..=9;
        /// The topics.
        topics: Vec<OffsetFetchResponseTopics>, 8..=9;
        /// Error code, 0 for none.
        error_code: i16, 8..=9;
    }
}

wire_message! {
    /// One topic of a group.
    pub struct OffsetFetchResponseTopics: 8..=9, flexible 6 {
        /// Name.
        name: String, 8..=9;
        /// The partitions.
        partitions: Vec<OffsetFetchResponsePartitions>, 8..=9;
    }
}

wire_message! {
    /// One partition of a group.
    pub struct OffsetFetchResponsePartitions: 8..=9, flexible 6 {
        /// Partition number.
        partition_index: i32, 8..=9;
        /// The next offset to be consumed; -1 if there is none.
        committed_offset: i64, 8..=9;
        /// Leader epoch of the event before it; -1 if unknown.
        committed_leader_epoch: i32, 8..=9, default -1;
        /// Text that is kept with the offset, or null.
        metadata: Option<String>, 8..=9;
        /// Error code, 0 for none.
        error_code: i16, 8..=9;
    }
}

wire_api!(OFFSET_FETCH: OffsetFetchRequest => OffsetFetchResponse);
