//! Lanes whose next event was not taken, and what the service says of that.

use std::collections::BTreeMap;

use courant_engine::{CreateTopicError, PublishError};
use courant_sql::{LaneBatch, Pending};

use crate::runtime::stalls::{Waiting, What, of_creating, of_publishing};

/// Why a lane waits, and what the engine says.
pub(super) type Why = (What, String);

/// Lanes whose next event was not taken.
pub(super) struct Stopped {
    lanes: BTreeMap<u16, Why>,
    /// `None`: the relay belongs to no service.
    waiting: Option<Waiting>,
}

impl Stopped {
    pub(super) fn new(waiting: Option<Waiting>) -> Self {
        Self { lanes: BTreeMap::new(), waiting }
    }

    pub(super) fn contains(&self, lane: u16) -> bool {
        self.lanes.contains_key(&lane)
    }

    /// Of the lanes that were read these were stopped.
    pub(super) fn heard(&mut self, read: &[LaneBatch], stopped: BTreeMap<u16, Why>) {
        self.lanes.retain(|lane, _| read.iter().all(|read| read.lane != *lane));
        self.lanes.extend(stopped);
        if let Some(waiting) = &mut self.waiting {
            waiting.only(self.lanes.values().map(|(what, said)| (what.clone(), said.as_str())));
        }
    }

    /// Nothing waits, or it is another relay's business.
    pub(super) fn clear(&mut self) {
        self.lanes.clear();
        if let Some(waiting) = &mut self.waiting {
            waiting.goes_on();
        }
    }
}

/// Why an event was not taken.
pub(super) fn refused(pending: &Pending, error: &PublishError) -> Why {
    (of_publishing(error, pending.event.topic.as_str()), error.to_string())
}

/// Why nothing was sent.
pub(super) fn not_created(error: &CreateTopicError) -> Why {
    (of_creating(error), error.to_string())
}
