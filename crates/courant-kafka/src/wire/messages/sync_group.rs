//! SyncGroup (key 14): hands out what the leader of a group has assigned.
//!
//! KIP-345 (static members, v3), KIP-559 (protocol type, v5).

use crate::wire::message::{wire_api, wire_message};
use bytes::Bytes;

wire_message! {
    /// The leader's assignments, or the wish for one's own.
    pub struct SyncGroupRequest: 0..=5, flexible 4 {
        /// The group.
        group_id: String, 0..=5;
        /// Generation of the group.
        generation_id: i32, 0..=5;
        /// Id of the member; empty if it has none yet.
        member_id: String, 0..=5;
        /// Name of a static member, or null.
        group_instance_id: Option<String>, 3..=5;
        /// What kind of group it is, e.g. `consumer`.
        protocol_type: Option<String>, 5..=5;
        /// The way to assign that was chosen.
        protocol_name: Option<String>, 5..=5;
        /// The assignments.
        assignments: Vec<SyncGroupRequestAssignment>, 0..=5;
    }
}

wire_message! {
    /// What the leader assigns to one member.
    pub struct SyncGroupRequestAssignment: 0..=5, flexible 4 {
        /// Id of the member; empty if it has none yet.
        member_id: String, 0..=5;
        /// Bytes of the assignment.
        assignment: Bytes, 0..=5;
    }
}

wire_message! {
    /// What the member is assigned.
    pub struct SyncGroupResponse: 0..=5, flexible 4 {
        /// Time the request was throttled, in milliseconds.
        throttle_time_ms: i32, 1..=5;
        /// Error code, 0 for none.
        error_code: i16, 0..=5;
        /// What kind of group it is, e.g. `consumer`.
        protocol_type: Option<String>, 5..=5;
        /// The way to assign that was chosen.
        protocol_name: Option<String>, 5..=5;
        /// Bytes of the assignment.
        assignment: Bytes, 0..=5;
    }
}

wire_api!(SYNC_GROUP: SyncGroupRequest => SyncGroupResponse);
