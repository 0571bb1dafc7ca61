//! Which events of a consumer have a transaction in this process, or are about to.
//!
//! Whoever writes the inbox row of an event waits for a transaction that has written it and is not over. Behind a
//! COMMIT, in the same text, the answer to that would wait with it: a server says what it has done of a text when
//! it is done with all of it. So no transaction begins with the commit of another one where its event is handled
//! elsewhere already; and while one is about to begin so, no other turn begins one of the same event, which would be
//! there first while the commit is written to the disk. What other processes have begun is not known here, and is
//! waited for: on MariaDB, which answers each statement by itself, for a moment, and on Postgres until it is over.

use std::collections::HashMap;
use std::collections::hash_map::{Entry, RandomState};
use std::hash::BuildHasher as _;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use courant_core::event_id::EventId;
use tokio::sync::Notify;

/// The events that are under way, by hashes of their ids: of two with the same one the second begins a little later.
#[derive(Clone, Debug, Default)]
pub(crate) struct UnderWay(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    hasher: RandomState,
    events: Mutex<HashMap<u64, Turns>>,
    /// One that was about to begin with a commit has begun, or will not.
    begun: Notify,
}

/// What an event is part of.
#[derive(Debug, Default)]
struct Turns {
    number: u32,
    /// One of them is about to begin with a commit.
    is_beginning: bool,
}

/// One of them, until this is dropped.
#[derive(Debug)]
pub(crate) struct Entered {
    shared: Arc<Shared>,
    event: u64,
    /// It was under way before.
    pub(super) is_elsewhere: bool,
    /// It is this one that is about to begin with a commit.
    is_beginning: bool,
}

impl UnderWay {
    /// An event is under way from now on.
    pub(super) fn enter(&self, id: &EventId) -> Entered {
        self.entered(id, false)
    }

    /// [`UnderWay::enter`], of one that begins with a commit, unless it is elsewhere.
    pub(super) fn enter_behind(&self, id: &EventId) -> Entered {
        self.entered(id, true)
    }

    fn entered(&self, id: &EventId, is_behind: bool) -> Entered {
        let event = self.0.hasher.hash_one(id.as_str());
        let mut events = self.0.events();
        let turns = events.entry(event).or_default();
        let is_elsewhere = turns.number > 0;
        let is_beginning = is_behind && !is_elsewhere;
        turns.number = turns.number.saturating_add(1);
        turns.is_beginning |= is_beginning;
        drop(events);
        Entered { shared: Arc::clone(&self.0), event, is_elsewhere, is_beginning }
    }
}

impl Entered {
    /// It has begun with the commit, or it has not and begins by itself. The others may go on.
    pub(super) fn has_begun(&mut self) {
        if !std::mem::take(&mut self.is_beginning) {
            return;
        }
        if let Some(turns) = self.shared.events().get_mut(&self.event) {
            turns.is_beginning = false;
        }
        self.shared.begun.notify_waiters();
    }

    /// Waits while another turn is about to begin it with a commit.
    pub(super) async fn until_begun(&self) {
        loop {
            // From here on nothing is missed, also between the look and the wait.
            let begun = self.shared.begun.notified();
            let is_beginning = self.shared.events().get(&self.event).is_some_and(|turns| turns.is_beginning);
            if !is_beginning || self.is_beginning {
                return;
            }
            begun.await;
        }
    }
}

impl Shared {
    fn events(&self) -> MutexGuard<'_, HashMap<u64, Turns>> {
        self.events.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Entered {
    fn drop(&mut self) {
        self.has_begun();
        if let Entry::Occupied(mut entry) = self.shared.events().entry(self.event) {
            match entry.get().number.saturating_sub(1) {
                0 => {
                    entry.remove();
                }
                left => entry.get_mut().number = left,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::pin::pin;
    use std::task::Poll;

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
    /// Whoever begins a copy by itself does so behind the one that begins with a commit, and waits for nobody else.
    #[tokio::test]
    async fn a_copy_does_not_overtake_one_that_begins_with_a_commit() {
        let under_way = UnderWay::default();
        let mut first = under_way.enter_behind(&id("a"));
        assert!(!first.is_elsewhere);
        first.until_begun().await;
        under_way.enter(&id("b")).until_begun().await;
        let copy = under_way.enter(&id("a"));
        {
            let mut waiting = pin!(copy.until_begun());
            let waits = poll_fn(|context| Poll::Ready(waiting.as_mut().poll(context).is_pending())).await;
            assert!(waits, "the other one comes first");
            first.has_begun();
            waiting.await;
        }
        drop(first);
        // Behind the commit of one that is elsewhere nothing begins, so nobody waits for it.
        let behind = under_way.enter_behind(&id("a"));
        assert!(behind.is_elsewhere);
        copy.until_begun().await;
        drop((behind, copy));
        // A turn that is given up keeps nobody.
        let given_up = under_way.enter_behind(&id("a"));
        let copy = under_way.enter(&id("a"));
        drop(given_up);
        copy.until_begun().await;
        drop(copy);
        assert!(under_way.0.events().is_empty(), "nothing is kept of what is over");
    }
}
