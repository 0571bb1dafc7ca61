//! OffsetForLeaderEpoch (key 23): says where a leader's epoch ended, so that a client finds out what it has
//! seen and the log has not (KIP-101, KIP-320).

use crate::wire::message::{wire_api, wire_message};

wire_message! {
    /// Epochs that are asked for.
    pub struct OffsetForLeaderEpochRequest: 2..=4, flexible 4 {
        /// Node id of a follower; -1 or -2 for clients.
        replica_id: i32, 3..=4, default -2;
        /// The topics.
        topics: Vec<OffsetForLeaderTopic>, 2..=4;
    }
}

wire_message! {
    /// One topic.
    pub struct OffsetForLeaderTopic: 2..=4, flexible 4 {
        /// Topic name.
        topic: String, 2..=4;
        /// The partitions.
        partitions: Vec<OffsetForLeaderPartition>, 2..=4;
    }
}

wire_message! {
    /// One partition.
    pub struct OffsetForLeaderPartition: 2..=4, flexible 4 {
        /// Partition number.
        partition: i32, 2..=4;
        /// Leader epoch the client believes in; -1: none.
        current_leader_epoch: i32, 2..=4, default -1;
        /// Leader epoch whose end is asked for.
        leader_epoch: i32, 2..=4;
    }
}

wire_message! {
    /// Where they ended.
    pub struct OffsetForLeaderEpochResponse: 2..=4, flexible 4 {
        /// Time the request was throttled, in milliseconds.
        throttle_time_ms: i32, 2..=4;
        /// The topics.
        topics: Vec<OffsetForLeaderTopicResult>, 2..=4;
    }
}

wire_message! {
    /// The results for one topic.
    pub struct OffsetForLeaderTopicResult: 2..=4, flexible 4 {
        /// Topic name.
        topic: String, 2..=4;
        /// The partitions.
        partitions: Vec<EpochEndOffset>, 2..=4;
    }
}

wire_message! {
    /// The end of one epoch.
    pub struct EpochEndOffset: 2..=4, flexible 4 {
        /// Error code, 0 for none.
        error_code: i16, 2..=4;
        /// Partition number.
        partition: i32, 2..=4;
        /// Leader epoch; -1 if unknown.
        leader_epoch: i32, 2..=4, default -1;
        /// Offset behind the epoch's last event; -1 if unknown.
        end_offset: i64, 2..=4, default -1;
    }
}

wire_api!(OFFSET_FOR_LEADER_EPOCH: OffsetForLeaderEpochRequest => OffsetForLeaderEpochResponse);
