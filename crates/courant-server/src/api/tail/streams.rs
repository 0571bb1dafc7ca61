//! The streams that are open, and those that broke a moment ago and may be taken up again.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use axum::http::StatusCode;
use tokio::sync::Notify;
use uuid::Uuid;

use super::subscription::{Subscription, check_width};
use crate::api::limits::{STREAM_KEPT, SUBSCRIPTIONS_MAX};
use crate::api::problem::{BAD_REQUEST, Problem, ProblemKind};

static STREAM_NOT_FOUND: ProblemKind =
    ProblemKind { status: StatusCode::NOT_FOUND, code: "stream_not_found", title: "There is no such stream" };

static TOO_MANY_STREAMS: ProblemKind = ProblemKind {
    status: StatusCode::TOO_MANY_REQUESTS,
    code: "too_many_streams",
    title: "Too many streams are open",
};

/// All streams.
#[derive(Debug)]
pub(crate) struct Streams {
    entries: Mutex<Vec<Arc<Entry>>>,
    /// How many there may be, those that broke a moment ago included.
    max: usize,
}

/// One stream, as it is known to those who change it.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) id: String,
    state: Mutex<State>,
    /// Tells the stream of changes.
    pub(super) changed: Notify,
}

#[derive(Debug, Default)]
struct State {
    /// Counts the connections that the stream has had; the newest has it.
    connection: u64,
    /// Counts changes of the subscriptions.
    version: u64,
    next_number: u32,
    subscriptions: Vec<Arc<Subscription>>,
    /// When its connection broke.
    closed: Option<Instant>,
}

/// A connection's hold on its stream.
#[derive(Debug)]
pub(super) struct Held {
    pub(super) entry: Arc<Entry>,
    connection: u64,
}

impl Streams {
    pub(crate) fn new(max: usize) -> Self {
        Self { entries: Mutex::default(), max }
    }

    fn entries(&self) -> MutexGuard<'_, Vec<Arc<Entry>>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Opens a stream, or takes up the one of that id. True: it was taken up.
    pub(super) fn open(&self, id: Option<&str>) -> Result<(Held, bool), Problem> {
        let mut entries = self.entries();
        entries.retain(|entry| entry.state().closed.is_none_or(|closed| closed.elapsed() < STREAM_KEPT));
        if let Some(found) = id.and_then(|id| entries.iter().find(|entry| entry.id == id)) {
            return Ok((Held::of(found), true));
        }
        if entries.len() >= self.max {
            let closed = entries.iter().enumerate();
            let closed = closed.filter_map(|(index, entry)| Some((entry.state().closed?, index)));
            let Some((_, oldest)) = closed.min() else {
                let sentence = format!("{} streams are open, and there can be no more; close one", self.max);
                return Err(Problem::new(&TOO_MANY_STREAMS, sentence));
            };
            entries.remove(oldest);
        }
        let (id, state) = (Uuid::new_v4().simple().to_string(), Mutex::default());
        let entry = Arc::new(Entry { id, state, changed: Notify::new() });
        entries.push(Arc::clone(&entry));
        Ok((Held::of(&entry), false))
    }

    pub(super) fn get(&self, id: &str) -> Result<Arc<Entry>, Problem> {
        let found = self.entries().iter().find(|entry| entry.id == id).cloned();
        found.ok_or_else(|| {
            let sentence =
                "there is no such stream; open one with GET /api/v1/tail, whose first event names it";
            Problem::new(&STREAM_NOT_FOUND, sentence)
        })
    }
}

impl Entry {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes subscriptions out and puts others in, all or none of them. `make` is told the numbers that
    /// the new ones get.
    pub(super) fn change(
        &self,
        out: &[String],
        count: u32,
        make: impl FnOnce(u32) -> Result<Vec<Subscription>, Problem>,
    ) -> Result<Vec<String>, Problem> {
        let mut state = self.state();
        let new = make(state.next_number)?;
        let bad = |sentence: String| Problem::new(&BAD_REQUEST, sentence);
        let is_named =
            |subscription: &Arc<Subscription>, name: &String| subscription.name.as_ref() == Some(name);
        for name in out {
            if !state.subscriptions.iter().any(|subscription| is_named(subscription, name)) {
                return Err(bad(format!("the stream has no subscription {name:?}")));
            }
        }
        let mut subscriptions = state.subscriptions.clone();
        subscriptions.retain(|subscription| !out.iter().any(|name| is_named(subscription, name)));
        for subscription in new {
            if subscriptions.iter().any(|other| other.name == subscription.name) {
                let name = subscription.name.unwrap_or_default();
                return Err(bad(format!(
                    "the stream has a subscription {name:?} already; take it out first"
                )));
            }
            subscriptions.push(Arc::new(subscription));
        }
        if subscriptions.len() > SUBSCRIPTIONS_MAX {
            return Err(bad(format!("a stream has at most {SUBSCRIPTIONS_MAX} subscriptions")));
        }
        check_width(subscriptions.iter().map(|subscription| subscription.width).sum())?;
        state.subscriptions = subscriptions;
        state.next_number = state.next_number.saturating_add(count);
        state.version += 1;
        let names = state.subscriptions.iter().filter_map(|subscription| subscription.name.clone()).collect();
        drop(state);
        self.changed.notify_one();
        Ok(names)
    }
}

impl Held {
    fn of(entry: &Arc<Entry>) -> Self {
        let mut state = entry.state();
        state.connection += 1;
        state.closed = None;
        let connection = state.connection;
        drop(state);
        // The connection that had it before, if it still waits, ends.
        entry.changed.notify_one();
        Self { entry: Arc::clone(entry), connection }
    }

    /// Whether no other connection has taken the stream up.
    pub(super) fn is_ours(&self) -> bool {
        self.entry.state().connection == self.connection
    }

    /// The subscriptions, if they are not those of that version.
    pub(super) fn news(&self, version: Option<u64>) -> Option<(u64, Vec<Arc<Subscription>>)> {
        let state = self.entry.state();
        (Some(state.version) != version).then(|| (state.version, state.subscriptions.clone()))
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let mut state = self.entry.state();
        if state.connection == self.connection {
            state.closed = Some(Instant::now());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::filter::Condition;
    use crate::api::records::begin::Begin;

    fn subscription(number: u32, name: &str, width: usize) -> Subscription {
        Subscription {
            number,
            name: Some(name.to_owned()),
            topics: vec!["t".to_owned()],
            partitions: None,
            begin: Begin::End,
            positions: Vec::new(),
            condition: Condition::default(),
            rate: None,
            width,
        }
    }

    fn add(held: &Held, name: &str, width: usize) -> Result<Vec<String>, Problem> {
        held.entry.change(&[], 1, |number| Ok(vec![subscription(number, name, width)]))
    }

    #[test]
    fn a_stream_that_broke_is_taken_up_with_its_subscriptions() {
        let streams = Streams::new(4);
        let (held, taken_up) = streams.open(None).expect("room");
        assert!(!taken_up && held.is_ours());
        add(&held, "a", 1).expect("room");
        let id = held.entry.id.clone();
        // Also when nobody has noticed yet that it broke.
        let (second, taken_up) = streams.open(Some(&id)).expect("it is there");
        assert!(taken_up && second.is_ours() && !held.is_ours());
        drop(held);
        assert_eq!(second.news(None).expect("news").1.len(), 1);
        assert!(second.entry.state().closed.is_none(), "the first one's end is not the stream's");
        drop(second);
        assert!(streams.get(&id).expect("it is kept").state().closed.is_some());
        let (third, taken_up) = streams.open(Some("of nobody")).expect("room");
        assert!(!taken_up && third.entry.id != id);
    }

    #[test]
    fn streams_are_counted_and_closed_ones_make_room() {
        let streams = Streams::new(4);
        let mut open: Vec<_> = (0..4).map(|_| streams.open(None).expect("room").0).collect();
        assert_eq!(streams.open(None).expect_err("no room").kind.code, "too_many_streams");
        open.pop();
        streams.open(None).expect("the closed one has gone");
        assert_eq!(streams.entries().len(), 4);
    }

    #[test]
    fn a_change_is_made_whole_or_not_at_all() {
        let streams = Streams::new(4);
        let (held, _) = streams.open(None).expect("room");
        assert_eq!(add(&held, "a", 200).expect("room"), ["a"]);
        let version = held.news(None).expect("news").0;
        assert!(add(&held, "a", 1).is_err(), "a name is given once");
        assert!(add(&held, "b", 200).is_err(), "too many partitions");
        assert!(held.entry.change(&["c".to_owned()], 0, |_| Ok(vec![])).is_err(), "nobody has that name");
        assert!(held.news(Some(version)).is_none(), "nothing has changed");
        let changed =
            held.entry.change(&["a".to_owned()], 1, |number| Ok(vec![subscription(number, "b", 200)]));
        assert_eq!(changed.expect("one takes the place of the other"), ["b"]);
        let (_, subscriptions) = held.news(Some(version)).expect("news");
        assert_eq!(subscriptions[0].number, 1, "numbers are not given twice");
    }
}
