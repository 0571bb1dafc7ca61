//! What a transaction publishes, until it is committed, and what a relay reads of it afterwards: the
//! same for every database.

use crate::error::{PublishError, StoreError};
use crate::limits::{EVENT_BYTES_MAX, PUBLISHED_BYTES_MAX, PUBLISHED_EVENTS_MAX};
use crate::outbox::{LaneBatch, NewEvent, Pending};

/// Events that are published if their transaction is committed, in order and bounded.
#[derive(Debug, Default)]
pub(crate) struct Publishing {
    events: Vec<NewEvent>,
    bytes: usize,
}

impl Publishing {
    pub(crate) fn add(&mut self, event: NewEvent) -> Result<(), PublishError> {
        let bytes = event.bytes();
        if bytes > EVENT_BYTES_MAX {
            return Err(PublishError::TooLarge { id: event.id, bytes });
        }
        if self.events.len() == PUBLISHED_EVENTS_MAX {
            return Err(PublishError::TooMany);
        }
        if self.bytes + bytes > PUBLISHED_BYTES_MAX {
            return Err(PublishError::TooManyBytes);
        }
        self.bytes += bytes;
        self.events.push(event);
        Ok(())
    }

    pub(crate) fn len(&self) -> usize {
        self.events.len()
    }

    pub(crate) fn take(&mut self) -> Vec<NewEvent> {
        self.bytes = 0;
        std::mem::take(&mut self.events)
    }
}

/// Events that were read in the order of their lanes, lane by lane.
pub(crate) fn by_lane(
    events: impl Iterator<Item = Result<Pending, StoreError>>,
) -> Result<Vec<LaneBatch>, StoreError> {
    let mut batches: Vec<LaneBatch> = Vec::new();
    for pending in events {
        let pending = pending?;
        match batches.last_mut() {
            Some(batch) if batch.lane == pending.at.lane => batch.events.push(pending),
            _ => batches.push(LaneBatch { lane: pending.at.lane, events: vec![pending] }),
        }
    }
    Ok(batches)
}
