//! Fetch (key 1): reads record batches.
//!
//! KIP-74 (byte limits), KIP-98 (isolation, v4), KIP-227 (sessions, v7),
//! KIP-320 (leader epochs, v9), KIP-392 (racks, v11), KIP-595 (v12), KIP-516
//! (topic ids, v13), KIP-903 (replica state, v15), KIP-951 (leader endpoints,
//! v16), KIP-853 (directory ids, v17), KIP-1166 (high watermark, v18).

use crate::wire::message::{wire_api, wire_message};
use bytes::Bytes;
use uuid::Uuid;

wire_message! {
    /// Asks for record batches.
    pub struct FetchRequest: 4..=18, flexible 12 {
        /// Cluster id the client expects, if known.
        cluster_id: Option<String>, 12..=18, tag 0;
        /// Node id of a follower, or -1 for a consumer; up to version 14.
        replica_id: i32, 4..=14, default -1;
        /// The follower, from version 15.
        replica_state: ReplicaState, 15..=18, tag 1;
        /// Time to wait for `min_bytes`, in milliseconds.
        max_wait_ms: i32, 4..=18;
        /// Fewest bytes to answer with before `max_wait_ms` is over.
        min_bytes: i32, 4..=18;
        /// Most bytes to answer with (KIP-74: the first batch is returned even
        /// if it is larger).
        max_bytes: i32, 4..=18, default i32::MAX;
        /// 0: read uncommitted; 1: read committed.
        isolation_level: i8, 4..=18;
        /// Fetch session; 0 for none.
        session_id: i32, 7..=18;
        /// Epoch within the session; -1 for no session.
        session_epoch: i32, 7..=18, default -1;
        /// The topics.
        topics: Vec<FetchTopic>, 4..=18;
        /// Partitions to remove from the session.
        forgotten_topics_data: Vec<ForgottenTopic>, 7..=18;
        /// Rack of the consumer, or empty.
        rack_id: String, 11..=18;
    }
}

wire_message! {
    /// A follower that fetches.
    pub struct ReplicaState: 15..=18, flexible 12 {
        /// Node id; -1 for a consumer.
        replica_id: i32, 15..=18, default -1;
        /// Epoch of the follower; -1 if none.
        replica_epoch: i64, 15..=18, default -1;
    }
}

wire_message! {
    /// One topic to read.
    pub struct FetchTopic: 4..=18, flexible 12 {
        /// Topic name, up to version 12.
        topic: String, 4..=12;
        /// Topic id, from version 13.
        topic_id: Uuid, 13..=18;
        /// The partitions.
        partitions: Vec<FetchPartition>, 4..=18;
    }
}

wire_message! {
    /// One partition to read.
    pub struct FetchPartition: 4..=18, flexible 12 {
        /// Partition number.
        partition: i32, 4..=18;
        /// Leader epoch the client knows; -1 if none.
        current_leader_epoch: i32, 9..=18, default -1;
        /// Offset to read from.
        fetch_offset: i64, 4..=18;
        /// Epoch of the last record fetched; -1 if none.
        last_fetched_epoch: i32, 12..=18, default -1;
        /// First offset of a follower; -1 from a consumer.
        log_start_offset: i64, 5..=18, default -1;
        /// Most bytes to return for this partition.
        partition_max_bytes: i32, 4..=18;
        /// Directory id of a follower.
        replica_directory_id: Uuid, 17..=18, tag 0;
        /// High watermark a follower knows.
        high_watermark: i64, 18..=18, tag 1, default i64::MAX;
    }
}

wire_message! {
    /// Partitions of one topic to remove from the session.
    pub struct ForgottenTopic: 7..=18, flexible 12 {
        /// Topic name, up to version 12.
        topic: String, 7..=12;
        /// Topic id, from version 13.
        topic_id: Uuid, 13..=18;
        /// Partition numbers.
        partitions: Vec<i32>, 7..=18;
    }
}

wire_message! {
    /// The batches read.
    pub struct FetchResponse: 4..=18, flexible 12 {
        /// Time the request was throttled, in milliseconds.
        throttle_time_ms: i32, 4..=18;
        /// Error code of the whole response, 0 for none.
        error_code: i16, 7..=18;
        /// Fetch session; 0 for none.
        session_id: i32, 7..=18;
        /// The topics.
        responses: Vec<FetchableTopicResponse>, 4..=18;
        /// Endpoints of the leaders named in the partitions.
        node_endpoints: Vec<NodeEndpoint>, 16..=18, tag 0;
    }
}

wire_message! {
    /// The batches of one topic.
    pub struct FetchableTopicResponse: 4..=18, flexible 12 {
        /// Topic name, up to version 12.
        topic: String, 4..=12;
        /// Topic id, from version 13.
        topic_id: Uuid, 13..=18;
        /// The partitions.
        partitions: Vec<PartitionData>, 4..=18;
    }
}

wire_message! {
    /// The batches of one partition.
    pub struct PartitionData: 4..=18, flexible 12 {
        /// Partition number.
        partition_index: i32, 4..=18;
        /// Error code, 0 for none.
        error_code: i16, 4..=18;
        /// High watermark: one past the last readable offset.
        high_watermark: i64, 4..=18;
        /// Last stable offset; -1 if unknown.
        last_stable_offset: i64, 4..=18, default -1;
        /// First offset of the partition; -1 if unknown.
        log_start_offset: i64, 5..=18, default -1;
        /// Where the follower's log diverges.
        diverging_epoch: EpochEndOffset, 12..=18, tag 0;
        /// The leader to use from now on.
        current_leader: LeaderIdAndEpoch, 12..=18, tag 1;
        /// The snapshot to fetch instead.
        snapshot_id: SnapshotId, 12..=18, tag 2;
        /// Aborted transactions in the range; null for read uncommitted.
        aborted_transactions: Option<Vec<AbortedTransaction>>, 4..=18, default Some(Vec::new());
        /// Replica to read from next; -1 for none.
        preferred_read_replica: i32, 11..=18, default -1;
        /// The record batches.
        records: Option<Bytes>, 4..=18, default Some(Bytes::new());
    }
}

wire_message! {
    /// An epoch and where it ends.
    pub struct EpochEndOffset: 12..=18, flexible 12 {
        /// The epoch; -1 if none.
        epoch: i32, 12..=18, default -1;
        /// Its end offset; -1 if none.
        end_offset: i64, 12..=18, default -1;
    }
}

wire_message! {
    /// The leader of a partition.
    pub struct LeaderIdAndEpoch: 12..=18, flexible 12 {
        /// Node id; -1 if unknown.
        leader_id: i32, 12..=18, default -1;
        /// Leader epoch; -1 if unknown.
        leader_epoch: i32, 12..=18, default -1;
    }
}

wire_message! {
    /// A snapshot.
    pub struct SnapshotId: 4..=18, flexible 12 {
        /// End offset; -1 if none.
        end_offset: i64, 4..=18, default -1;
        /// Epoch; -1 if none.
        epoch: i32, 4..=18, default -1;
    }
}

wire_message! {
    /// An aborted transaction.
    pub struct AbortedTransaction: 4..=18, flexible 12 {
        /// Producer id.
        producer_id: i64, 4..=18;
        /// First offset of the transaction.
        first_offset: i64, 4..=18;
    }
}

wire_message! {
    /// Address of a leader.
    pub struct NodeEndpoint: 16..=18, flexible 12 {
        /// Node id.
        node_id: i32, 16..=18;
        /// Host name.
        host: String, 16..=18;
        /// Port.
        port: i32, 16..=18;
        /// Rack, if any.
        rack: Option<String>, 16..=18;
    }
}

wire_api!(FETCH: FetchRequest => FetchResponse);
