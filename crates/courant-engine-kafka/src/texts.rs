//! What the client's errors mean, in sentences that say what to look at.

use rdkafka::error::{KafkaError, RDKafkaErrorCode};

use crate::servers::{Obstacle, Servers};

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
            | RDKafkaErrorCode::SSL
            | RDKafkaErrorCode::Authentication
    )
}

/// A sentence about an error of whoever is at `servers`.
pub(crate) fn reason(error: &KafkaError, servers: &Servers) -> String {
    match code(error) {
        Some(code) => reason_of(code, servers),
        None => error.to_string(),
    }
}

/// A sentence about a code.
pub(crate) fn reason_of(code: RDKafkaErrorCode, servers: &Servers) -> String {
    if is_absence(code) { absent(servers) } else { format!("{servers} says: {code}") }
}

/// Nobody answers, or nobody to whom there is a connection.
pub(crate) fn absent(servers: &Servers) -> String {
    match servers.refusal() {
        Some(refusal) => refusal.sentence,
        None => format!("nobody answers at {servers}: is the server running, and is this its address?"),
    }
}

/// Somebody takes connections, and nothing that is an answer comes from there.
pub(crate) fn not_understood(servers: &Servers) -> String {
    let asked = if servers.has_tls() {
        "does that speak TLS, as the URL says? And if it wants a login: is there one in the URL?"
    } else {
        "does that speak without TLS and without a login? Where it speaks TLS, ?tls_ca=FILE or ?tls=true belongs \
         behind the address, and where it wants a login, NAME:PASSWORD@ before it"
    };
    format!(
        "somebody listens at {servers}, and does not answer as a Kafka server: is this the address of its Kafka port, \
         and {asked}"
    )
}

/// What stands in the way of a connection, by what the client says of it.
pub(crate) fn refused(obstacle: Obstacle, servers: &str, reason: &str) -> String {
    // A server says here what it likes, before anybody knows who it is, and this stands in a line of the log and on
    // terminals.
    let reason = reason.replace(char::is_control, " ");
    // How long it took says nothing.
    let cause = reason.rsplit_once(" (after ").map_or(reason.as_str(), |(cause, _)| cause);
    // What the client advises behind this is about its own settings.
    let of_certificate = cause.split(": broker certificate could not").next().unwrap_or(cause);
    match obstacle {
        Obstacle::Login => format!(
            "{servers} does not take the login: {cause}: are its name and its password right, and is sasl= what the \
             server wants?"
        ),
        Obstacle::Tls
            if cause.contains("certificate verify failed") || cause.contains("broker certificate") =>
        {
            format!(
                "the certificate that {servers} shows is not believed: {of_certificate}: tls_ca=FILE names the file of \
                 the authority that vouches for it, and the address has to be a name that stands in it"
            )
        }
        Obstacle::Tls => format!(
            "there is no TLS with {servers}: {cause}: does it speak TLS there, and ask for no certificates of its \
             clients?"
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A server could write lines of its own into the log of whoever logs in, and sequences for the terminal.
    #[test]
    fn what_a_server_says_of_a_login_stays_within_its_line() {
        let reason = "sasl_plaintext://host:9092/bootstrap: SASL authentication error: no\n2026-11-30 ERROR all is \
                      lost\x1b[2J\u{9b}1m (after 2ms in state AUTH_REQ)";
        for obstacle in [Obstacle::Login, Obstacle::Tls] {
            let said = refused(obstacle, "host:9092", reason);
            assert!(said.contains("error: no 2026-11-30 ERROR all is lost [2J 1m: "), "{said}");
            assert!(!said.contains(char::is_control) && !said.contains("(after"), "{said:?}");
        }
    }
}
