//! JoinGroup (key 11): enters a consumer group, or comes back to it after a rebalance.
//!
//! KIP-345 (static members, v5), KIP-394 (a member id is given before the group is entered, v4),
//! KIP-559 (protocol type, v7), KIP-800 (reason, v8), KIP-814 (a static leader goes on, v9).

use crate::wire::message::{wire_api, wire_message};
use bytes::Bytes;

wire_message! {
    /// Enters a group.
    pub struct JoinGroupRequest: 0..=9, flexible 6 {
        /// The group.
        group_id: String, 0..=9;
        /// Silence after which the member is taken for dead, in milliseconds.
        session_timeout_ms: i32, 0..=9;
        /// Time that the member has to come back in a rebalance, in milliseconds.
        rebalance_timeout_ms: i32, 1..=9, default -1;
        /// Id of the member; empty if it has none yet.
        member_id: String, 0..=9;
        /// Name of a static member, or null.
        group_instance_id: Option<String>, 5..=9;
        /// What kind of group it is, e.g. `consumer`.
        protocol_type: String, 0..=9;
        /// Ways to assign that the member knows, the best one first.
        protocols: Vec<JoinGroupRequestProtocol>, 0..=9;
        /// Why, in words for people, or null.
        reason: Option<String>, 8..=9;
    }
}

wire_message! {
    /// One way to assign.
    pub struct JoinGroupRequestProtocol: 0..=9, flexible 6 {
        /// Name.
        name: String, 0..=9;
        /// Bytes that go with it.
        metadata: Bytes, 0..=9;
    }
}

wire_message! {
    /// The generation that the member is in, and for its leader all others.
    pub struct JoinGroupResponse: 0..=9, flexible 6 {
        /// Time the request was throttled, in milliseconds.
        throttle_time_ms: i32, 2..=9;
        /// Error code, 0 for none.
        error_code: i16, 0..=9;
        /// Generation of the group.
        generation_id: i32, 0..=9, default -1;
        /// What kind of group it is, e.g. `consumer`.
        protocol_type: Option<String>, 7..=9;
        /// The way to assign that was chosen. Null if there is none, except up to version 6, which has no
        /// null.
        protocol_name: Option<String>, 0..=9, null 7;
        /// Member id of the leader.
        leader: String, 0..=9;
        /// Whether the leader shall leave the assignments as they are.
        skip_assignment: bool, 9..=9;
        /// Id of the member; empty if it has none yet.
        member_id: String, 0..=9;
        /// The members.
        members: Vec<JoinGroupResponseMember>, 0..=9;
    }
}

wire_message! {
    /// One member, as its leader sees it.
    pub struct JoinGroupResponseMember: 0..=9, flexible 6 {
        /// Id of the member.
        member_id: String, 0..=9;
        /// Name of a static member, or null.
        group_instance_id: Option<String>, 5..=9;
        /// Bytes that the member joined with, for the way to assign that was chosen.
        metadata: Bytes, 0..=9;
    }
}

wire_api!(JOIN_GROUP: JoinGroupRequest => JoinGroupResponse);
