//! What the engine does not take, said now and then: it is tried with every step, and may be for days.

use courant_engine::{CreateTopicError, PublishError};
use courant_sql::Pending;
use tracing::{error, warn};

use crate::runtime::seldom::Seldom;

/// How often a kind of refusal is said in a minute. More than one: the first of several lanes are named.
const SAID: u32 = 5;

/// What the engine does not take.
#[derive(Debug)]
pub(super) struct Refusals {
    /// It takes nothing now.
    passing: Seldom,
    /// It takes this event never, as things are.
    lasting: Seldom,
}

impl Refusals {
    pub(super) fn new() -> Self {
        Self { passing: Seldom::new(SAID), lasting: Seldom::new(SAID) }
    }

    /// An event was not taken.
    pub(super) fn note(&self, pending: &Pending, refused: &PublishError, elapsed_ms: u64) {
        let (event, topic, lane) = (&pending.event.id, &pending.event.topic, pending.at.lane);
        if refused.is_passing() {
            if let Some(times) = self.passing.again(elapsed_ms) {
                warn!(%event, %topic, lane, times, %refused, "the outbox waits: the engine takes nothing now");
            }
        } else if let Some(times) = self.lasting.again(elapsed_ms) {
            error!(
                %event, %topic, lane, times, %refused,
                "the engine refuses an event; what is behind it in its lane waits"
            );
        }
    }

    /// A topic was not created.
    pub(super) fn note_topic(&self, error: &CreateTopicError, elapsed_ms: u64) {
        if let Some(times) = self.passing.again(elapsed_ms) {
            warn!(%error, times, "the outbox waits: a topic cannot be created");
        }
    }
}
