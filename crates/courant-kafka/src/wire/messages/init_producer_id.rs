//! InitProducerId (key 22): a producer id for idempotent produce (KIP-98,
//! KIP-360).

use crate::wire::message::{wire_api, wire_message};

wire_message! {
    /// Asks for a producer id.
    pub struct InitProducerIdRequest: 0..=5, flexible 2 {
        /// Transactional id; null for a producer that is only idempotent.
        transactional_id: Option<String>, 0..=5;
        /// Time after which an idle transaction is aborted, in milliseconds.
        transaction_timeout_ms: i32, 0..=5;
        /// Producer id the client has already; -1 if none.
        producer_id: i64, 3..=5, default -1;
        /// Epoch the client has already; -1 if none.
        producer_epoch: i16, 3..=5, default -1;
    }
}

wire_message! {
    /// The producer id.
    pub struct InitProducerIdResponse: 0..=5, flexible 2 {
        /// Time the request was throttled, in milliseconds.
        throttle_time_ms: i32, 0..=5;
        /// Error code, 0 for none.
        error_code: i16, 0..=5;
        /// The producer id; -1 with an error.
        producer_id: i64, 0..=5, default -1;
        /// The epoch.
        producer_epoch: i16, 0..=5;
    }
}

wire_api!(INIT_PRODUCER_ID: InitProducerIdRequest => InitProducerIdResponse);
