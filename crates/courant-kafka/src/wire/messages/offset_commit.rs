//! OffsetCommit (key 8): remembers how far a group has come.
//!
//! KIP-320 (leader epochs, v6), KIP-345 (static members, v7), KIP-848 (member epoch, v9).

use crate::wire::message::{wire_api, wire_message};

wire_message! {
    /// Offsets to remember.
    pub struct OffsetCommitRequest: 2..=9, flexible 8 {
        /// The group.
        group_id: String, 2..=9;
        /// Generation of a classic group, or the member's epoch.
        generation_id_or_member_epoch: i32, 2..=9, default -1;
        /// Id of the member; empty if it has none yet.
        member_id: String, 2..=9;
        /// Name of a static member, or null.
        group_instance_id: Option<String>, 7..=9;
        /// How long to keep the offsets, in milliseconds; -1: as the broker does. This one always does.
        retention_time_ms: i64, 2..=4, default -1;
        /// The topics.
        topics: Vec<OffsetCommitRequestTopic>, 2..=9;
    }
}

wire_message! {
    /// One topic.
    pub struct OffsetCommitRequestTopic: 2..=9, flexible 8 {
        /// Name.
        name: String, 2..=9;
        /// The partitions.
        partitions: Vec<OffsetCommitRequestPartition>, 2..=9;
    }
}

wire_message! {
    /// One partition.
    pub struct OffsetCommitRequestPartition: 2..=9, flexible 8 {
        /// Partition number.
        partition_index: i32, 2..=9;
        /// The next offset to be consumed; -1 if there is none.
        committed_offset: i64, 2..=9;
        /// Leader epoch of the event before it; -1 if unknown.
        committed_leader_epoch: i32, 6..=9, default -1;
        /// Text that is kept with the offset, or null.
        committed_metadata: Option<String>, 2..=9;
    }
}

wire_message! {
    /// What became of each partition.
    pub struct OffsetCommitResponse: 2..=9, flexible 8 {
        /// Time the request was throttled, in milliseconds.
        throttle_time_ms: i32, 3..=9;
        /// The topics.
        topics: Vec<OffsetCommitResponseTopic>, 2..=9;
    }
}

wire_message! {
    /// The results for one topic.
    pub struct OffsetCommitResponseTopic: 2..=9, flexible 8 {
        /// Name.
        name: String, 2..=9;
        /// The partitions.
        partitions: Vec<OffsetCommitResponsePartition>, 2..=9;
    }
}

wire_message! {
    /// The result for one partition.
    pub struct OffsetCommitResponsePartition: 2..=9, flexible 8 {
        /// Partition number.
        partition_index: i32, 2..=9;
        /// Error code, 0 for none.
        error_code: i16, 2..=9;
    }
}

wire_api!(OFFSET_COMMIT: OffsetCommitRequest => OffsetCommitResponse);
