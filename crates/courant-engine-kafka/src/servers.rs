//! The brokers as messages name them, and what was last heard to be wrong with their certificate or with our login.
//!
//! librdkafka connects again and again, whatever was said, and to whoever waits it says only that nobody could be
//! asked. So every client of an engine tells here what it hears, and messages about absence say it.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use rdkafka::error::{KafkaError, RDKafkaErrorCode};

use crate::limits::{REFUSAL_AGE_MAX, REFUSAL_PAUSE};
use crate::texts;

/// Where the brokers are. All copies hear the same.
#[derive(Clone)]
pub(crate) struct Servers {
    /// `host:port`, separated by commas.
    names: Arc<str>,
    has_tls: bool,
    heard: Arc<Mutex<Heard>>,
}

/// What stands in the way of every connection. It does not pass by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Obstacle {
    /// The certificate or the handshake.
    Tls,
    /// The login.
    Login,
}

/// A connection that was not to be had.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Refusal {
    pub(crate) obstacle: Obstacle,
    /// The cause, and what to change.
    pub(crate) sentence: String,
}

#[derive(Default)]
struct Heard {
    last: Option<(Instant, Refusal)>,
    /// When the log was last told.
    told: Option<Instant>,
}

impl Servers {
    pub(crate) fn new(names: &str, has_tls: bool) -> Self {
        Self { names: Arc::from(names), has_tls, heard: Arc::default() }
    }

    /// All of them, as librdkafka and messages have them.
    pub(crate) fn all(&self) -> &str {
        &self.names
    }

    /// One by one.
    pub(crate) fn each(&self) -> impl Iterator<Item = &str> {
        self.names.split(',')
    }

    /// Whether they are spoken to in TLS.
    pub(crate) fn has_tls(&self) -> bool {
        self.has_tls
    }

    fn heard(&self) -> MutexGuard<'_, Heard> {
        self.heard.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes in what a client says of its connections.
    pub(crate) fn hear(&self, error: &KafkaError, reason: &str) {
        tracing::debug!(%error, reason, "the connection to the brokers");
        let obstacle = match texts::code(error) {
            Some(RDKafkaErrorCode::SSL) => Obstacle::Tls,
            Some(RDKafkaErrorCode::Authentication) => Obstacle::Login,
            _ => return,
        };
        let sentence = texts::refused(obstacle, &self.names, reason);
        let now = Instant::now();
        let is_to_be_told = {
            let mut heard = self.heard();
            heard.last = Some((now, Refusal { obstacle, sentence: sentence.clone() }));
            let is_due = heard.told.is_none_or(|told| now.duration_since(told) >= REFUSAL_PAUSE);
            if is_due {
                heard.told = Some(now);
            }
            is_due
        };
        if is_to_be_told {
            tracing::warn!("{sentence}");
        }
    }

    /// What stands in the way now, as far as anybody knows.
    pub(crate) fn refusal(&self) -> Option<Refusal> {
        let heard = self.heard();
        let (since, refusal) = heard.last.as_ref()?;
        (since.elapsed() < REFUSAL_AGE_MAX).then(|| refusal.clone())
    }
}

impl fmt::Display for Servers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.names)
    }
}

impl fmt::Debug for Servers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&*self.names, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What librdkafka says of a certificate that nobody vouches for.
    const UNBELIEVED: &str = "ssl://host:9092/bootstrap: SSL handshake failed: error:0A000086:SSL routines::certificate \
                              verify failed: broker certificate could not be verified, verify that ssl.ca.location \
                              is correctly configured or root CA certificates are installed (install \
                              ca-certificates package) (after 1ms in state SSL_HANDSHAKE)";

    #[test]
    fn a_certificate_that_is_not_believed_is_what_absence_means() {
        let servers = Servers::new("host:9092", true);
        assert!(texts::absent(&servers).contains("nobody answers"));
        servers.clone().hear(&KafkaError::Global(RDKafkaErrorCode::SSL), UNBELIEVED);
        // What comes in between says nothing.
        servers.hear(&KafkaError::Global(RDKafkaErrorCode::AllBrokersDown), "1/1 brokers are down");
        assert_eq!(servers.refusal().map(|refusal| refusal.obstacle), Some(Obstacle::Tls));
        let said = texts::absent(&servers);
        for word in ["host:9092", "certificate verify failed", "tls_ca=FILE"] {
            assert!(said.contains(word), "no {word}: {said}");
        }
        assert!(!said.contains("ssl.ca.location") && !said.contains("nobody answers"), "{said}");
    }

    #[test]
    fn other_handshakes_and_logins_have_sentences_of_their_own() {
        let servers = Servers::new("host:9092", true);
        let reason = "ssl://host:9092/bootstrap: SSL handshake failed: wrong version number (after 0ms in state \
                      SSL_HANDSHAKE)";
        servers.hear(&KafkaError::Global(RDKafkaErrorCode::SSL), reason);
        let said = texts::absent(&servers);
        assert!(said.contains("there is no TLS with host:9092") && said.contains("wrong version"), "{said}");
        let reason = "sasl_ssl://host:9092/bootstrap: SASL authentication error: Authentication failed: Invalid \
                      username or password (after 2ms in state AUTH_REQ)";
        servers.hear(&KafkaError::Global(RDKafkaErrorCode::Authentication), reason);
        assert_eq!(servers.refusal().map(|refusal| refusal.obstacle), Some(Obstacle::Login));
        let said = texts::absent(&servers);
        assert!(said.contains("Invalid username or password: ") && said.contains("sasl"), "{said}");
    }
}
