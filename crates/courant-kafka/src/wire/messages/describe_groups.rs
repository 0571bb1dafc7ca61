//! DescribeGroups (key 15): says who is in a group.
//!
//! KIP-345 (static members, v4), KIP-1043 (an error for a group that is not there, v6).

use crate::wire::message::{wire_api, wire_message};
use bytes::Bytes;

wire_message! {
    /// Which groups are asked for.
    pub struct DescribeGroupsRequest: 0..=6, flexible 5 {
        /// The groups.
        groups: Vec<String>, 0..=6;
        /// Whether to say what the client may do.
        include_authorized_operations: bool, 3..=6;
    }
}

wire_message! {
    /// The groups.
    pub struct DescribeGroupsResponse: 0..=6, flexible 5 {
        /// Time the request was throttled, in milliseconds.
        throttle_time_ms: i32, 1..=6;
        /// The groups.
        groups: Vec<DescribedGroup>, 0..=6;
    }
}

wire_message! {
    /// One group.
    pub struct DescribedGroup: 0..=6, flexible 5 {
        /// Error code, 0 for none.
        error_code: i16, 0..=6;
        /// Error text, or null.
        error_message: Option<String>, 6..=6;
        /// The group.
        group_id: String, 0..=6;
        /// State of the group.
        group_state: String, 0..=6;
        /// What kind of group it is, e.g. `consumer`.
        protocol_type: String, 0..=6;
        /// The way to assign that was chosen.
        protocol_data: String, 0..=6;
        /// The members.
        members: Vec<DescribedGroupMember>, 0..=6;
        /// Bit field of authorized operations; `i32::MIN` if not asked for.
        authorized_operations: i32, 3..=6, default i32::MIN;
    }
}

wire_message! {
    /// One member.
    pub struct DescribedGroupMember: 0..=6, flexible 5 {
        /// Id of the member; empty if it has none yet.
        member_id: String, 0..=6;
        /// Name of a static member, or null.
        group_instance_id: Option<String>, 4..=6;
        /// What the client calls itself.
        client_id: String, 0..=6;
        /// Where the client connects from.
        client_host: String, 0..=6;
        /// Bytes that the member joined with.
        member_metadata: Bytes, 0..=6;
        /// Bytes of the member's assignment.
        member_assignment: Bytes, 0..=6;
    }
}

wire_api!(DESCRIBE_GROUPS: DescribeGroupsRequest => DescribeGroupsResponse);
