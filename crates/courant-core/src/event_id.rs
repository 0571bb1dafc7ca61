//! Which event it is, wherever it goes.

use std::fmt;

use uuid::Uuid;

/// Longest id of an event, in bytes. Our own are UUIDs; others choose theirs.
pub const EVENT_ID_BYTES_MAX: usize = 255;

/// The id of an event: the same for every copy of it, and never given to another one.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EventId(String);

/// Why a text is not the id of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidEventId {
    /// No characters at all.
    #[error("an event's id has at least one character")]
    Empty,
    /// Longer than [`EVENT_ID_BYTES_MAX`].
    #[error("an event's id has at most {max} bytes; this one has {bytes}", max = EVENT_ID_BYTES_MAX)]
    TooLong {
        /// Length of the text in bytes.
        bytes: usize,
    },
}

impl EventId {
    /// Checks an id.
    ///
    /// # Errors
    /// Says which rule the text breaks. It never carries the text itself: that may be long.
    pub fn new(id: &str) -> Result<Self, InvalidEventId> {
        match id.len() {
            0 => Err(InvalidEventId::Empty),
            bytes if bytes > EVENT_ID_BYTES_MAX => Err(InvalidEventId::TooLong { bytes }),
            _ => Ok(Self(id.to_owned())),
        }
    }

    /// The id of an event that brings none: UUIDv5 of the log's identity, the partition and the offset. It is
    /// the same whoever reads the event, and however often.
    #[must_use]
    pub fn of_place(log: &Uuid, topic: &str, partition: u32, offset: u64) -> Self {
        Self::from(Uuid::new_v5(log, format!("{topic}/{partition}/{offset}").as_bytes()))
    }

    /// The id.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl From<Uuid> for EventId {
    fn from(id: Uuid) -> Self {
        Self(id.to_string())
    }
}

impl fmt::Display for EventId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_of_others_are_kept_as_they_are() {
        let longest = "i".repeat(255);
        for id in ["1", "order 7/paid", longest.as_str()] {
            assert_eq!(EventId::new(id).expect("legal").as_str(), id);
        }
        assert_eq!(EventId::new(""), Err(InvalidEventId::Empty));
        assert_eq!(EventId::new(&"i".repeat(256)), Err(InvalidEventId::TooLong { bytes: 256 }));
    }

    #[test]
    fn an_event_that_brings_none_has_the_id_of_its_place() {
        let log = Uuid::from_u128(1);
        let id = EventId::of_place(&log, "orders", 1, 7);
        assert_eq!(id.as_str(), Uuid::new_v5(&log, b"orders/1/7").to_string());
        for other in [
            EventId::of_place(&Uuid::from_u128(2), "orders", 1, 7),
            EventId::of_place(&log, "order", 1, 7),
            EventId::of_place(&log, "orders", 2, 7),
            EventId::of_place(&log, "orders", 1, 8),
        ] {
            assert_ne!(other, id);
        }
    }

    #[test]
    fn our_own_are_uuids() {
        let id = Uuid::from_u128(7);
        assert_eq!(EventId::from(id).to_string(), id.to_string());
    }
}
