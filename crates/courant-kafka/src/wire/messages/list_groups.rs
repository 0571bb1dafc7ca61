//! ListGroups (key 16): names all groups.
//!
//! KIP-518 (by state, v4), KIP-848 (by type, v5).

use crate::wire::message::{wire_api, wire_message};

wire_message! {
    /// Which groups are asked for.
    pub struct ListGroupsRequest: 0..=5, flexible 3 {
        /// States that are asked for; empty: all.
        states_filter: Vec<String>, 4..=5;
        /// Types that are asked for; empty: all.
        types_filter: Vec<String>, 5..=5;
    }
}

wire_message! {
    /// The groups.
    pub struct ListGroupsResponse: 0..=5, flexible 3 {
        /// Time the request was throttled, in milliseconds.
        throttle_time_ms: i32, 1..=5;
        /// Error code, 0 for none.
        error_code: i16, 0..=5;
        /// The groups.
        groups: Vec<ListedGroup>, 0..=5;
    }
}

wire_message! {
    /// One group.
    pub struct ListedGroup: 0..=5, flexible 3 {
        /// The group.
        group_id: String, 0..=5;
        /// What kind of group it is, e.g. `consumer`.
        protocol_type: String, 0..=5;
        /// State of the group.
        group_state: String, 4..=5;
        /// Type of the group.
        group_type: String, 5..=5;
    }
}

wire_api!(LIST_GROUPS: ListGroupsRequest => ListGroupsResponse);
