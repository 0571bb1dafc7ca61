//! DeleteGroups (key 42): forgets groups with all they have committed (KIP-229).

use crate::wire::message::{wire_api, wire_message};

wire_message! {
    /// Groups to forget.
    pub struct DeleteGroupsRequest: 0..=2, flexible 2 {
        /// The groups.
        groups_names: Vec<String>, 0..=2;
    }
}

wire_message! {
    /// What became of each group.
    pub struct DeleteGroupsResponse: 0..=2, flexible 2 {
        /// Time the request was throttled, in milliseconds.
        throttle_time_ms: i32, 0..=2;
        /// The results.
        results: Vec<DeletableGroupResult>, 0..=2;
    }
}

wire_message! {
    /// What became of one group.
    pub struct DeletableGroupResult: 0..=2, flexible 2 {
        /// The group.
        group_id: String, 0..=2;
        /// Error code, 0 for none.
        error_code: i16, 0..=2;
    }
}

wire_api!(DELETE_GROUPS: DeleteGroupsRequest => DeleteGroupsResponse);
