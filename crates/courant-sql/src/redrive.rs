//! Sending dead letters back to the consumer where they failed: an operation with an id, that is
//! followed event by event and goes on after a crash.

use bytes::Bytes;

use crate::dead::DeadState;

/// A redrive and how far it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Redrive {
    /// Its id, given by whoever asked. Asking again under the same id changes nothing.
    pub id: String,
    /// Who asked.
    pub requested_by: String,
    /// When, in milliseconds since 1970.
    pub requested_ms: i64,
    /// What was asked for, as text.
    pub filter: String,
    /// Where it stands.
    pub state: RedriveState,
    /// When it ended.
    pub finished_ms: Option<i64>,
    /// Events that their partition's owner has not taken yet.
    pub pending: u64,
    /// Events that wait in their key's queue, or are being handled.
    pub delivering: u64,
    /// Events that were handled.
    pub handled: u64,
    /// Events that are dead letters again.
    pub failed: u64,
    /// Events that were cancelled before their turn.
    pub cancelled: u64,
}

/// Where a redrive stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RedriveState {
    /// Some of its events have no result yet.
    Running,
    /// Every event has its result.
    Done,
    /// It was cancelled; events that were under way still get their result.
    Cancelled,
}

/// One event of a redrive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RedriveEvent {
    /// The dead letter.
    pub dead_id: i64,
    /// What the redrive has made of it.
    pub state: RedriveEventState,
    /// Since when, in milliseconds since 1970.
    pub changed_ms: i64,
    /// Where the dead letter stands today.
    pub dead_state: DeadState,
}

/// What a redrive has made of one event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RedriveEventState {
    /// Its turn has not come.
    Pending,
    /// It waits in its key's queue, or is being handled.
    Delivering,
    /// It was handled.
    Handled,
    /// It is a dead letter again.
    Failed,
    /// It was cancelled before its turn.
    Cancelled,
}

/// An event that a redrive has put before the others of its key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RedriveClaim {
    /// Of which redrive.
    pub redrive: String,
    /// Which dead letter.
    pub dead_id: i64,
    /// The event's offset.
    pub offset: u64,
    /// Its key: parked from now on.
    pub key: Option<Bytes>,
}

impl RedriveState {
    pub(crate) fn parse(text: &str) -> Option<Self> {
        match text {
            "running" => Some(Self::Running),
            "done" => Some(Self::Done),
            "cancelled" => Some(Self::Cancelled),
            _ => None,
        }
    }
}

impl RedriveEventState {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Delivering => "delivering",
            Self::Handled => "handled",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
        }
    }

    pub(crate) fn parse(text: &str) -> Option<Self> {
        [Self::Pending, Self::Delivering, Self::Handled, Self::Failed, Self::Cancelled]
            .into_iter()
            .find(|state| state.as_str() == text)
    }
}
