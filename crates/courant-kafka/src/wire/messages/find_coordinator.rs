//! FindCoordinator (key 10): the broker in charge of a group or transaction.

use crate::wire::message::{wire_api, wire_message};

wire_message! {
    /// Asks for coordinators.
    pub struct FindCoordinatorRequest: 0..=6, flexible 3 {
        /// The key, up to version 3.
        key: String, 0..=3;
        /// What the keys are: 0 group, 1 transaction, 2 share group.
        key_type: i8, 1..=6;
        /// The keys, from version 4.
        coordinator_keys: Vec<String>, 4..=6;
    }
}

wire_message! {
    /// The coordinators.
    pub struct FindCoordinatorResponse: 0..=6, flexible 3 {
        /// Time the request was throttled, in milliseconds.
        throttle_time_ms: i32, 1..=6;
        /// Error code, 0 for none; up to version 3.
        error_code: i16, 0..=3;
        /// Error text, or null.
        error_message: Option<String>, 1..=3;
        /// Node id, up to version 3.
        node_id: i32, 0..=3;
        /// Host name, up to version 3.
        host: String, 0..=3;
        /// Port, up to version 3.
        port: i32, 0..=3;
        /// One entry per key, from version 4.
        coordinators: Vec<Coordinator>, 4..=6;
    }
}

wire_message! {
    /// The coordinator of one key.
    pub struct Coordinator: 4..=6, flexible 3 {
        /// The key.
        key: String, 4..=6;
        /// Node id.
        node_id: i32, 4..=6;
        /// Host name.
        host: String, 4..=6;
        /// Port.
        port: i32, 4..=6;
        /// Error code, 0 for none.
        error_code: i16, 4..=6;
        /// Error text, or null.
        error_message: Option<String>, 4..=6;
    }
}

wire_api!(FIND_COORDINATOR: FindCoordinatorRequest => FindCoordinatorResponse);
