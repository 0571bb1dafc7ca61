//! Lanes whose next event was not taken, and what the service says of that.

use std::collections::BTreeMap;

use courant_engine::{CreateTopicError, PublishError};
use courant_sql::{LaneBatch, Pending};

use crate::runtime::stalls::{Waiting, What, of_creating, of_publishing};

/// Why a lane waits, and what the engine says.
#[derive(Clone)]
pub(super) struct Why {
    what: What,
    said: String,
    /// It waits for an event of another lane, before it in its partition.
    is_behind: bool,
}

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
            // What is before it has a reason of its own, unless its lane has gone on.
            let is_alone = self.lanes.values().all(|why| why.is_behind);
            let whys = self.lanes.values().filter(|why| is_alone || !why.is_behind);
            waiting.only(whys.map(|why| (why.what.clone(), why.said.as_str())));
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
    because(error, pending.event.topic.as_str())
}

fn because(error: &PublishError, topic: &str) -> Why {
    let what = of_publishing(error, topic);
    Why { what, said: error.to_string(), is_behind: matches!(error, PublishError::NotTried) }
}

/// Why nothing was sent.
pub(super) fn not_created(error: &CreateTopicError) -> Why {
    Why { what: of_creating(error), said: error.to_string(), is_behind: false }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::StallReason;
    use crate::runtime::stalls::tests::stalls;

    /// Symptom: a service said that its engine was away, which had refused one event. Cause: what waited behind that event
    /// in another lane was told of as well. Fix: it is not, unless it is all there is to tell.
    #[test]
    fn what_waits_behind_another_lane_says_nothing_of_the_engine() {
        let (_, stalls) = stalls();
        let mut stopped = Stopped::new(Some(stalls.unlogged(None)));
        let refused = because(&PublishError::NoKey { topic: "orders".to_owned() }, "orders");
        let behind = because(&PublishError::NotTried, "orders");
        stopped.heard(&[], BTreeMap::from([(1, refused), (2, behind.clone())]));
        let reasons = || stalls.all().iter().map(|stall| stall.reason).collect::<Vec<_>>();
        assert_eq!(reasons(), [StallReason::Refused]);
        stopped.clear();
        assert!(reasons().is_empty());
        stopped.heard(&[], BTreeMap::from([(2, behind)]));
        assert_eq!(reasons(), [StallReason::EngineAway]);
    }
}
