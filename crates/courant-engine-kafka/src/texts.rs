//! What the client's errors mean, in sentences that say what to look at.

use rdkafka::error::{KafkaError, RDKafkaErrorCode};

/// The code of an error, if it has one.
pub(crate) fn code(error: &KafkaError) -> Option<RDKafkaErrorCode> {
    error.rdkafka_error_code()
}

/// Whether an error says only that nobody could be asked.
pub(crate) fn is_absence(code: RDKafkaErrorCode) -> bool {
    matches!(
        code,
        RDKafkaErrorCode::BrokerTransportFailure
            | RDKafkaErrorCode::AllBrokersDown
            | RDKafkaErrorCode::OperationTimedOut
            | RDKafkaErrorCode::Resolve
    )
}

/// A sentence about an error of whoever is at `servers`.
pub(crate) fn reason(error: &KafkaError, servers: &str) -> String {
    match code(error) {
        Some(code) => reason_of(code, servers),
        None => error.to_string(),
    }
}

/// A sentence about a code.
pub(crate) fn reason_of(code: RDKafkaErrorCode, servers: &str) -> String {
    if is_absence(code) { absent(servers) } else { format!("{servers} says: {code}") }
}

/// Nobody answers.
pub(crate) fn absent(servers: &str) -> String {
    format!("nobody answers at {servers}: is the server running, and is this its address?")
}

/// Somebody takes connections, and nothing that is an answer comes from there.
pub(crate) fn not_understood(servers: &str) -> String {
    format!(
        "somebody listens at {servers}, and does not answer as a Kafka server: is this the address of its Kafka port, \
         and does that speak without TLS? Services speak none, and reach a server with TLS through a proxy"
    )
}
