//! What a transaction publishes and schedules, until it is committed, and what a relay reads of it
//! afterwards: the same for every database.

use std::collections::BTreeMap;

use crate::error::{PublishError, StoreError};
use crate::limits::{EVENT_BYTES_MAX, PUBLISHED_BYTES_MAX, PUBLISHED_EVENTS_MAX};
use crate::outbox::{LaneBatch, NewEvent, Pending};
use crate::timer::{NewTimer, TimerName};

/// Events that are published if their transaction is committed, in order and bounded, and timers that
/// come and go with it. A timer counts as an event, and so does the end of one.
#[derive(Debug, Default)]
pub(crate) struct Publishing {
    events: Vec<NewEvent>,
    /// Timers without a name.
    timers: Vec<NewTimer>,
    /// What becomes of each name that was used: the last word on it. `None` is a cancelled one.
    named: BTreeMap<TimerName, Option<NewEvent>>,
    counted: usize,
    bytes: usize,
}

/// What a transaction does to the table of timers: first [`Timers::names`] are deleted, then
/// [`Timers::timers`] are written.
#[derive(Debug, Default)]
pub(crate) struct Timers {
    /// Names whose timer goes, in order, each once: the cancelled and the replaced ones.
    pub(crate) names: Vec<TimerName>,
    /// Timers that come, at most one of each name.
    pub(crate) timers: Vec<NewTimer>,
}

impl Publishing {
    pub(crate) fn add(&mut self, event: NewEvent) -> Result<(), PublishError> {
        self.count(&event)?;
        self.events.push(event);
        Ok(())
    }

    pub(crate) fn schedule(&mut self, timer: NewTimer) -> Result<(), PublishError> {
        self.count(&timer.event)?;
        match timer.name {
            Some(name) => {
                self.named.insert(name, Some(timer.event));
            }
            None => self.timers.push(timer),
        }
        Ok(())
    }

    pub(crate) fn cancel(&mut self, name: TimerName) -> Result<(), PublishError> {
        self.has_room()?;
        self.counted += 1;
        self.named.insert(name, None);
        Ok(())
    }

    fn count(&mut self, event: &NewEvent) -> Result<(), PublishError> {
        let bytes = event.bytes();
        if bytes > EVENT_BYTES_MAX {
            return Err(PublishError::TooLarge { id: event.id.clone(), bytes });
        }
        self.has_room()?;
        if self.bytes + bytes > PUBLISHED_BYTES_MAX {
            return Err(PublishError::TooManyBytes);
        }
        self.counted += 1;
        self.bytes += bytes;
        Ok(())
    }

    fn has_room(&self) -> Result<(), PublishError> {
        if self.counted == PUBLISHED_EVENTS_MAX { Err(PublishError::TooMany) } else { Ok(()) }
    }

    pub(crate) fn len(&self) -> usize {
        self.events.len()
    }

    pub(crate) fn take(&mut self) -> Vec<NewEvent> {
        std::mem::take(&mut self.events)
    }

    pub(crate) fn take_timers(&mut self) -> Timers {
        let mut timers = std::mem::take(&mut self.timers);
        let mut names = Vec::with_capacity(self.named.len());
        for (name, event) in std::mem::take(&mut self.named) {
            names.push(name.clone());
            if let Some(event) = event {
                timers.push(NewTimer { event, name: Some(name) });
            }
        }
        Timers { names, timers }
    }
}

impl Timers {
    #[cfg(any(feature = "mariadb", feature = "postgres"))]
    pub(crate) fn is_empty(&self) -> bool {
        self.names.is_empty() && self.timers.is_empty()
    }

    /// When the first of those that come is due.
    pub(crate) fn next_ms(&self) -> Option<i64> {
        self.timers.iter().map(|timer| timer.event.timestamp_ms).min()
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

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use courant_core::event_id::EventId;
    use courant_core::topic::TopicName;

    use super::*;

    fn event(id: &str, due_ms: i64) -> NewEvent {
        NewEvent {
            id: EventId::new(id).expect("an id"),
            topic: TopicName::new("reminders").expect("a name"),
            key: None,
            value: Some(Bytes::from_static(b"{}")),
            headers: Vec::new(),
            timestamp_ms: due_ms,
        }
    }

    fn name(name: &str) -> TimerName {
        TimerName::new("payment-due", name).expect("a name")
    }

    /// Of each name the last word counts, whatever was said of it before in the same transaction.
    #[test]
    fn the_last_word_on_a_name_counts() {
        let mut publishing = Publishing::default();
        let mut say = |id: &str, due_ms, of: Option<TimerName>| {
            publishing.schedule(NewTimer { event: event(id, due_ms), name: of }).expect("room");
        };
        say("free", 30, None);
        say("first", 10, Some(name("o-1")));
        say("second", 20, Some(name("o-1")));
        say("gone", 5, Some(name("o-2")));
        publishing.cancel(name("o-2")).expect("room");
        publishing.cancel(name("o-3")).expect("room");
        let timers = publishing.take_timers();
        assert_eq!(timers.names, [name("o-1"), name("o-2"), name("o-3")]);
        let ids: Vec<&str> = timers.timers.iter().map(|timer| timer.event.id.as_str()).collect();
        assert_eq!(ids, ["free", "second"]);
        assert_eq!(timers.next_ms(), Some(20), "the cancelled one is not waited for");
        assert!(publishing.take_timers().is_empty());
    }

    #[test]
    fn timers_and_events_share_one_bound() {
        let mut publishing = Publishing::default();
        for number in 0..PUBLISHED_EVENTS_MAX - 2 {
            publishing.add(event(&format!("e-{number}"), 0)).expect("room");
        }
        publishing.schedule(NewTimer { event: event("t-1", 0), name: None }).expect("room");
        publishing.cancel(name("o-1")).expect("room");
        assert_eq!(publishing.add(event("e", 0)), Err(PublishError::TooMany));
        assert_eq!(publishing.cancel(name("o-2")), Err(PublishError::TooMany));
    }
}
