//! Timers: events that are to be published later.
//!
//! A timer is written with the transaction that schedules it, so without that one it does not exist. When
//! it is due, it is taken out of its table and put into the outbox in one transaction, and is an event
//! like every other one from there on.

use crate::error::InvalidTimerName;
use crate::limits::TIMER_NAME_BYTES_MAX;
use crate::outbox::NewEvent;

/// An event that is published at an instant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewTimer {
    /// The event. It is due at its timestamp; its id is the timer's id as well, and stays what it is
    /// however often the event is sent. In the outbox it has the time at which it got there: a log that
    /// keeps events for some time keeps this one as long, however late it comes.
    pub event: NewEvent,
    /// What it is cancelled or replaced by.
    pub name: Option<TimerName>,
}

/// What a timer is found by. Of each name there is at most one timer that has not come yet.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TimerName {
    scope: String,
    name: String,
}

impl TimerName {
    /// A name in a scope: what the timer is for, and of which of these things it is the one. For example
    /// `payment-due` and the number of the order.
    ///
    /// # Errors
    /// One of them is empty or longer than [`TIMER_NAME_BYTES_MAX`].
    pub fn new(scope: impl Into<String>, name: impl Into<String>) -> Result<Self, InvalidTimerName> {
        let (scope, name) = (scope.into(), name.into());
        for (part, text) in [("scope", &scope), ("name", &name)] {
            if text.is_empty() {
                return Err(InvalidTimerName::Empty { part });
            }
            if text.len() > TIMER_NAME_BYTES_MAX {
                return Err(InvalidTimerName::TooLong { part, bytes: text.len() });
            }
        }
        Ok(Self { scope, name })
    }

    /// What the timer is for.
    #[must_use]
    pub fn scope(&self) -> &str {
        &self.scope
    }

    /// Of which of these things it is the one.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }
}

/// What [`crate::Store::fire_timers`] has done.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Fired {
    /// How many timers were due and are in the outbox now.
    pub timers: u64,
    /// Lanes that have something for the relay, in order.
    pub lanes: Vec<u16>,
}
