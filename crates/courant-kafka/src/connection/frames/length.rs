//! What the first bytes of a frame say: its length, its API where that matters, or that no Kafka client sends it.

use super::FrameError;
use crate::limits;
use crate::wire::ApiKey;

pub(super) const PREFIX_BYTES: usize = 4;

/// The first field of a request.
pub(super) const API_KEY_BYTES: usize = 2;

/// A protocol that is recognised by its first four bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::connection) enum Stranger {
    Http,
    Tls,
    Ssh,
}

impl std::fmt::Display for Stranger {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Http => "an HTTP client",
            Self::Tls => "a TLS client (a Kafka client with security.protocol=SSL?)",
            Self::Ssh => "an SSH client",
        })
    }
}

/// Refuses a large frame unless it is for Produce.
pub(super) fn check_large(length: usize, key: [u8; API_KEY_BYTES]) -> Result<(), FrameError> {
    match ApiKey(i16::from_be_bytes(key)) {
        ApiKey::PRODUCE => Ok(()),
        key => Err(FrameError::TooLargeFor { key, claimed: length }),
    }
}

/// The length a frame claims, if a Kafka request can have it.
pub(super) fn frame_length(prefix: [u8; PREFIX_BYTES], max: usize) -> Result<usize, FrameError> {
    if let Some(stranger) = stranger(prefix) {
        return Err(FrameError::NotKafka(stranger));
    }
    let claimed = i32::from_be_bytes(prefix);
    usize::try_from(claimed)
        .ok()
        .filter(|length| (limits::FRAME_BYTES_MIN..=max).contains(length))
        .ok_or(FrameError::Length { claimed, max })
}

/// What to do about a request that is only too large because the server keeps to a budget of memory.
pub(super) fn advice(claimed: &i32, max: &usize) -> &'static str {
    let claimed = usize::try_from(*claimed).unwrap_or_default();
    if *max < claimed && claimed <= limits::FRAME_BYTES_MAX {
        ", because the server keeps to --memory: name more there, or lower the client's max.request.size"
    } else {
        ""
    }
}

/// Read as a length, each of these is above 340 MB, so that no Kafka frame is mistaken for one.
fn stranger(prefix: [u8; PREFIX_BYTES]) -> Option<Stranger> {
    match &prefix {
        b"GET " | b"POST" | b"HEAD" | b"PUT " | b"DELE" | b"OPTI" | b"PATC" | b"CONN" | b"PRI " => {
            Some(Stranger::Http)
        }
        b"SSH-" => Some(Stranger::Ssh),
        [0x16, 0x03, ..] => Some(Stranger::Tls),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAX: usize = 1_000_000;

    #[track_caller]
    fn refused(prefix: [u8; 4]) -> FrameError {
        frame_length(prefix, MAX).expect_err("the prefix must be refused")
    }

    #[test]
    fn lengths_outside_the_bounds_are_refused() {
        for claimed in [i32::MIN, -1, 0, 7, 1_000_001, i32::MAX] {
            match refused(claimed.to_be_bytes()) {
                FrameError::Length { claimed: told, .. } => assert_eq!(told, claimed),
                other => panic!("{claimed}: {other}"),
            }
        }
        assert_eq!(frame_length(8_i32.to_be_bytes(), MAX).ok(), Some(8));
        assert_eq!(frame_length(1_000_000_i32.to_be_bytes(), MAX).ok(), Some(MAX));
    }

    /// Who sends a request that is served without a budget is told of the budget, and nobody else is.
    #[test]
    fn a_budget_that_makes_requests_smaller_is_named() {
        let said = |claimed: usize, max| {
            let claimed = i32::try_from(claimed).expect("a length");
            frame_length(claimed.to_be_bytes(), max).expect_err("it is too large").to_string()
        };
        assert!(said(MAX + 1, MAX).contains("--memory: name more"));
        assert!(said(limits::FRAME_BYTES_MAX, MAX).contains("--memory"));
        assert!(!said(limits::FRAME_BYTES_MAX + 1, MAX).contains("--memory"), "no budget takes it");
        assert!(!said(limits::FRAME_BYTES_MAX + 1, limits::FRAME_BYTES_MAX).contains("--memory"));
        assert!(!said(limits::FRAME_BYTES_MIN - 1, MAX).contains("--memory"), "it is too small");
    }

    #[test]
    fn strangers_are_named() {
        let named = |prefix| refused(prefix).to_string();
        assert!(named(*b"GET ").starts_with("an HTTP client"));
        assert!(named(*b"SSH-").starts_with("an SSH client"));
        assert!(named([0x16, 0x03, 0x01, 0x02]).starts_with("a TLS client"));
    }

    #[test]
    fn only_produce_is_large() {
        assert!(check_large(MAX, ApiKey::PRODUCE.0.to_be_bytes()).is_ok());
        let refused = check_large(MAX, ApiKey::METADATA.0.to_be_bytes()).expect_err("it is too large");
        assert!(matches!(refused, FrameError::TooLargeFor { key: ApiKey::METADATA, claimed: MAX }));
    }
}
