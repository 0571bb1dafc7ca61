//! Heartbeat (key 12): keeps a member of a consumer group alive.

use crate::wire::message::{wire_api, wire_message};

wire_message! {
    /// A sign of life.
    pub struct HeartbeatRequest: 0..=4, flexible 4 {
        /// The group.
        group_id: String, 0..=4;
        /// Generation of the group.
        generation_id: i32, 0..=4;
        /// Id of the member; empty if it has none yet.
        member_id: String, 0..=4;
        /// Name of a static member, or null.
        group_instance_id: Option<String>, 3..=4;
    }
}

wire_message! {
    /// Whether the member is still in its generation.
    pub struct HeartbeatResponse: 0..=4, flexible 4 {
        /// Time the request was throttled, in milliseconds.
        throttle_time_ms: i32, 1..=4;
        /// Error code, 0 for none.
        error_code: i16, 0..=4;
    }
}

wire_api!(HEARTBEAT: HeartbeatRequest => HeartbeatResponse);
