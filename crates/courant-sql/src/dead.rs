//! Events that could not be handled.

use bytes::Bytes;
use courant_core::consumer::ConsumerName;
use courant_core::event_id::EventId;
use courant_core::position::Position;
use courant_core::topic::TopicName;
use serde_json::json;

use crate::consumer::Consumer;
use crate::event::{Event, Failure};
use crate::headers::hex;
use crate::outbox::NewEvent;

/// An event that becomes a dead letter.
#[derive(Clone, Debug)]
pub struct Burial<'a> {
    /// The event.
    pub event: &'a Event,
    /// Its last failure.
    pub failure: &'a Failure,
    /// Why it is not tried again.
    pub reason: DeadReason,
    /// Its key stays parked until somebody redrives, discards or archives it. Without a key it has
    /// no meaning.
    pub keep_key_parked: bool,
    /// The version of the service that gave up.
    pub code_version: &'a str,
    /// What to publish in the same transaction: the copy for `T.G.dlq`.
    pub copies: Vec<NewEvent>,
}

/// What became of a burial.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Buried {
    /// The dead letter's number; `None` when the event turned out to be handled.
    pub id: Option<i64>,
    /// Lanes that have something for the relay.
    pub lanes: Vec<u16>,
    /// The event's key has no parked events any more.
    pub drained: bool,
}

/// Why an event is not tried again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum DeadReason {
    /// It has failed as often as the subscription allows.
    Exhausted,
    /// Its bytes are not what its type says.
    Undecodable,
    /// The handler asked for it.
    Refused,
}

/// Where a dead letter stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum DeadState {
    /// Nobody has decided.
    Dead,
    /// A redrive has it.
    Redriving,
    /// It was sent back and handled.
    Redriven,
    /// It was given up.
    Discarded,
    /// It is kept, and out of the way.
    Archived,
}

/// A dead letter in a list: everything but its bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeadSummary {
    /// Its number.
    pub id: i64,
    /// Whose it is.
    pub consumer: Consumer,
    /// Where the event stands in the log.
    pub position: Position,
    /// The event's id.
    pub event_id: EventId,
    /// What the event is about.
    pub key: Option<Bytes>,
    /// Where it stands.
    pub state: DeadState,
    /// Why it is one.
    pub reason: DeadReason,
    /// Its key is parked because of it.
    pub blocks_key: bool,
    /// How often it was tried, redrives included.
    pub attempts: u32,
    /// Its first failure, in milliseconds since 1970.
    pub first_failed_ms: i64,
    /// Its last one.
    pub last_failed_ms: i64,
    /// What the last one was.
    pub failure: Failure,
    /// The version of the service that gave up.
    pub code_version: String,
}

/// A dead letter with its bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeadLetter {
    /// What a list shows of it.
    pub summary: DeadSummary,
    /// The event, as it was delivered.
    pub event: Event,
}

/// Which dead letters are meant. What is `None` or empty does not restrict.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DeadFilter {
    /// Of this consumer, in any generation.
    pub consumer: Option<ConsumerName>,
    /// Of this topic.
    pub topic: Option<TopicName>,
    /// With this key.
    pub key: Option<Bytes>,
    /// With this kind of error.
    pub kind: Option<String>,
    /// From this place.
    pub place: Option<String>,
    /// In this state. A redrive takes [`DeadState::Dead`] ones, whatever stands here.
    pub state: Option<DeadState>,
    /// With one of these numbers.
    pub ids: Vec<i64>,
}

/// Dead letters with the same kind of error from the same place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeadGroup {
    /// Whose.
    pub consumer: ConsumerName,
    /// The error's type.
    pub kind: String,
    /// Where it came from.
    pub place: String,
    /// How many.
    pub events: u64,
    /// The oldest one's last failure.
    pub oldest_ms: i64,
    /// The newest one's.
    pub newest_ms: i64,
}

impl DeadFilter {
    /// What is meant as JSON, for people.
    pub(crate) fn in_words(&self) -> String {
        json!({
            "consumer": self.consumer.as_ref().map(|consumer| consumer.as_str()),
            "topic": self.topic.as_ref().map(|topic| topic.as_str()),
            "key_hex": self.key.as_ref().map(|key| hex(key)),
            "kind": self.kind,
            "place": self.place,
            "ids": self.ids,
        })
        .to_string()
    }
}

impl DeadReason {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Exhausted => "exhausted",
            Self::Undecodable => "undecodable",
            Self::Refused => "refused",
        }
    }

    pub(crate) fn parse(text: &str) -> Option<Self> {
        [Self::Exhausted, Self::Undecodable, Self::Refused].into_iter().find(|reason| reason.as_str() == text)
    }
}

impl DeadState {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Dead => "dead",
            Self::Redriving => "redriving",
            Self::Redriven => "redriven",
            Self::Discarded => "discarded",
            Self::Archived => "archived",
        }
    }

    pub(crate) fn parse(text: &str) -> Option<Self> {
        [Self::Dead, Self::Redriving, Self::Redriven, Self::Discarded, Self::Archived]
            .into_iter()
            .find(|state| state.as_str() == text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_and_states_come_back_from_their_text() {
        for reason in [DeadReason::Exhausted, DeadReason::Undecodable, DeadReason::Refused] {
            assert_eq!(DeadReason::parse(reason.as_str()), Some(reason));
        }
        for state in [
            DeadState::Dead,
            DeadState::Redriving,
            DeadState::Redriven,
            DeadState::Discarded,
            DeadState::Archived,
        ] {
            assert_eq!(DeadState::parse(state.as_str()), Some(state));
        }
        assert_eq!(DeadReason::parse("late"), None);
        assert_eq!(DeadState::parse(""), None);
    }
}
