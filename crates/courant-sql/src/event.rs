//! An event as it was delivered, and why it could not be handled.

use bytes::Bytes;
use courant_core::event_id::EventId;

/// An event as the log delivered it. Topic and partition are those of the lease it is used with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// Its offset.
    pub offset: u64,
    /// Its id.
    pub id: EventId,
    /// What it is about.
    pub key: Option<Bytes>,
    /// What it says.
    pub value: Option<Bytes>,
    /// Its headers in their order; a name may come twice.
    pub headers: Vec<(String, Bytes)>,
    /// Its timestamp, in milliseconds since 1970.
    pub timestamp_ms: i64,
}

/// Why a handler failed. Equal `kind` and `place` make a group of failures.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Failure {
    /// The error's type.
    pub kind: String,
    /// Where it came from: the handler, or a place in the code.
    pub place: String,
    /// The error's text with the texts of what caused it. Long ones are cut.
    pub message: String,
}

/// The longest beginning of `text` that has at most `bytes_max` bytes.
pub(crate) fn cut(text: &str, bytes_max: usize) -> &str {
    let mut end = text.len().min(bytes_max);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_text_is_cut_between_characters() {
        assert_eq!(cut("abc", 5), "abc");
        assert_eq!(cut("aé", 2), "a");
        assert_eq!(cut("é", 1), "");
    }
}
