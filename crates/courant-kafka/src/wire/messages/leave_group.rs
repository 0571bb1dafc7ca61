//! LeaveGroup (key 13): takes members out of a consumer group.
//!
//! KIP-345 (several members at once, v3), KIP-800 (reason, v5).

use crate::wire::message::{wire_api, wire_message};

wire_message! {
    /// Takes members out of a group.
    pub struct LeaveGroupRequest: 0..=5, flexible 4 {
        /// The group.
        group_id: String, 0..=5;
        /// Id of the member; empty if it has none yet.
        member_id: String, 0..=2;
        /// The members.
        members: Vec<MemberIdentity>, 3..=5;
    }
}

wire_message! {
    /// One member that leaves.
    pub struct MemberIdentity: 3..=5, flexible 4 {
        /// Id of the member; empty if it has none yet.
        member_id: String, 3..=5;
        /// Name of a static member, or null.
        group_instance_id: Option<String>, 3..=5;
        /// Why, in words for people, or null.
        reason: Option<String>, 5..=5;
    }
}

wire_message! {
    /// What became of each member.
    pub struct LeaveGroupResponse: 0..=5, flexible 4 {
        /// Time the request was throttled, in milliseconds.
        throttle_time_ms: i32, 1..=5;
        /// Error code, 0 for none.
        error_code: i16, 0..=5;
        /// The members.
        members: Vec<MemberResponse>, 3..=5;
    }
}

wire_message! {
    /// What became of one member.
    pub struct MemberResponse: 3..=5, flexible 4 {
        /// Id of the member; empty if it has none yet.
        member_id: String, 3..=5;
        /// Name of a static member, or null.
        group_instance_id: Option<String>, 3..=5;
        /// Error code, 0 for none.
        error_code: i16, 3..=5;
    }
}

wire_api!(LEAVE_GROUP: LeaveGroupRequest => LeaveGroupResponse);
