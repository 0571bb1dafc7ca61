//! Why one item of a request is refused: a code for the client, a sentence for whoever reads it.

use courant_log::WriterError;

use crate::wire::ErrorCode;

/// Characters of a sentence. It may quote a client, whose names have up to 32,767 bytes, as much as
/// any text on the wire.
const MESSAGE_CHARS_MAX: usize = 1000;

/// Why one item is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Refused {
    pub(super) code: ErrorCode,
    pub(super) message: String,
}

impl Refused {
    pub(super) fn new(code: ErrorCode, mut message: String) -> Self {
        if let Some((end, _)) = message.char_indices().nth(MESSAGE_CHARS_MAX) {
            message.truncate(end);
            message.push_str(" ...");
        }
        Self { code, message }
    }

    pub(super) fn invalid(message: String) -> Self {
        Self::new(ErrorCode::INVALID_REQUEST, message)
    }

    pub(super) fn unknown_topic(name: &str) -> Self {
        Self::new(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION, format!("there is no topic {name:?}"))
    }

    /// Nothing is written now.
    pub(super) fn not_written(error: &WriterError) -> Self {
        let code = match error {
            // Clients try again on this one.
            WriterError::Stopped => ErrorCode::NOT_CONTROLLER,
            _ => ErrorCode::KAFKA_STORAGE_ERROR,
        };
        Self::new(code, error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sentence_fits_the_wire_whatever_it_quotes() {
        let long = "\u{1f4a5}".repeat(8000);
        let refused = Refused::invalid(format!("there is no topic {long}"));
        assert!(refused.message.len() < 4100, "{}", refused.message.len());
        assert!(refused.message.ends_with(" ..."));
        assert_eq!(Refused::invalid("short".to_owned()).message, "short");
    }
}
