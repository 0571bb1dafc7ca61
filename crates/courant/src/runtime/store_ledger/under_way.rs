//! Which events of a consumer have a transaction in this process, or are about to.
//!
//! Whoever writes the inbox row of an event waits for a transaction that has written it and is not over. Behind a
//! COMMIT, in the same text, the answer to that would wait with it: a server says what it has done of a text when
//! it is done with all of it. So no transaction begins with the commit of another one where its event is handled
//! elsewhere already. What other processes have begun is not known here, and is waited for: on MariaDB, which answers
//! each statement by itself, for a moment, and on Postgres until it is over.

use std::collections::HashMap;
use std::collections::hash_map::{Entry, RandomState};
use std::hash::BuildHasher as _;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use courant_core::event_id::EventId;

/// The events that are under way, by hashes of their ids: of two with the same one the second begins a little later.
#[derive(Clone, Debug, Default)]
pub(crate) struct UnderWay(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    hasher: RandomState,
    /// How many turns each of them is part of.
    events: Mutex<HashMap<u64, u32>>,
}

/// One of them, until this is dropped.
#[derive(Debug)]
pub(crate) struct Entered {
    shared: Arc<Shared>,
    event: u64,
    /// It was under way before.
    pub(super) is_elsewhere: bool,
}

impl UnderWay {
    /// An event is under way from now on.
    pub(super) fn enter(&self, id: &EventId) -> Entered {
        let event = self.0.hasher.hash_one(id.as_str());
        let mut events = self.0.events();
        let turns = events.entry(event).or_default();
        let is_elsewhere = *turns > 0;
        *turns = turns.saturating_add(1);
        drop(events);
        Entered { shared: Arc::clone(&self.0), event, is_elsewhere }
    }
}

impl Shared {
    fn events(&self) -> MutexGuard<'_, HashMap<u64, u32>> {
        self.events.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Entered {
    fn drop(&mut self) {
        if let Entry::Occupied(mut entry) = self.shared.events().entry(self.event) {
            match entry.get().saturating_sub(1) {
                0 => {
                    entry.remove();
                }
                left => *entry.get_mut() = left,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(text: &str) -> EventId {
        EventId::new(text).expect("legal")
    }

    #[test]
    fn an_event_is_elsewhere_until_all_its_turns_are_over() {
        let under_way = UnderWay::default();
        let first = under_way.enter(&id("a"));
        assert!(!first.is_elsewhere);
        let again = under_way.enter(&id("a"));
        assert!(again.is_elsewhere && !under_way.enter(&id("b")).is_elsewhere);
        drop(first);
        assert!(under_way.enter(&id("a")).is_elsewhere, "one turn is not over");
        drop(again);
        assert!(!under_way.enter(&id("a")).is_elsewhere);
        assert!(under_way.0.events().is_empty(), "nothing is kept of what is over");
    }

    /// As when two workers end their events at the same time, and the next of both are copies of each other.
    #[test]
    fn of_two_that_begin_at_once_one_is_the_first() {
        let under_way = UnderWay::default();
        let barrier = std::sync::Barrier::new(2);
        let enter = || {
            barrier.wait();
            let entered = under_way.enter(&id("copy"));
            barrier.wait();
            entered.is_elsewhere
        };
        let (one, other) = std::thread::scope(|scope| {
            let (one, other) = (scope.spawn(enter), scope.spawn(enter));
            (one.join().expect("no panic"), other.join().expect("no panic"))
        });
        assert_ne!(one, other);
    }
}
