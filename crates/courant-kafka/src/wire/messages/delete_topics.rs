//! DeleteTopics (key 20).

use crate::wire::message::{wire_api, wire_message};
use uuid::Uuid;

wire_message! {
    /// Topics to delete.
    pub struct DeleteTopicsRequest: 1..=6, flexible 4 {
        /// The topics by name or id, from version 6.
        topics: Vec<DeleteTopicState>, 6..=6;
        /// The topics by name, up to version 5.
        topic_names: Vec<String>, 1..=5;
        /// Time to wait for the deletions, in milliseconds.
        timeout_ms: i32, 1..=6;
    }
}

wire_message! {
    /// One topic to delete.
    pub struct DeleteTopicState: 6..=6, flexible 4 {
        /// Topic name; null if named by id.
        name: Option<String>, 6..=6;
        /// Topic id; nil if named by name.
        topic_id: Uuid, 6..=6;
    }
}

wire_message! {
    /// The outcome for each topic.
    pub struct DeleteTopicsResponse: 1..=6, flexible 4 {
        /// Time the request was throttled, in milliseconds.
        throttle_time_ms: i32, 1..=6;
        /// The topics.
        responses: Vec<DeletableTopicResult>, 1..=6;
    }
}

wire_message! {
    /// The outcome for one topic.
    pub struct DeletableTopicResult: 1..=6, flexible 4 {
        /// Topic name; null if named by an unknown id.
        name: Option<String>, 1..=6, null 6;
        /// Topic id.
        topic_id: Uuid, 6..=6;
        /// Error code, 0 for none.
        error_code: i16, 1..=6;
        /// Error text, or null.
        error_message: Option<String>, 5..=6;
    }
}

wire_api!(DELETE_TOPICS: DeleteTopicsRequest => DeleteTopicsResponse);
