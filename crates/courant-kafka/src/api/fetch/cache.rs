//! All fetch sessions of a broker, bounded in number and in memory (KIP-227).
//!
//! A session belongs to no connection. Whoever continues it takes it out, and it is put back when the
//! Fetch ends, answered or not; meanwhile it keeps its place and is counted. So each session is in use
//! by one Fetch at most, and nobody waits for another one's.
//!
//! Where there is no room a client gets no session, and sends whole requests.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::time::Instant;
use uuid::Uuid;

use super::session::Session;
use crate::api::target::Naming;
use crate::limits;
use crate::wire::ErrorCode;
use crate::wire::messages::{FetchTopic, ForgottenTopic};

/// The session of a client that has none.
pub(super) const NO_SESSION: i32 = 0;

/// The epoch of the request that follows the one that opened a session.
const FIRST_EPOCH: i32 = 1;

/// All fetch sessions of one broker.
#[derive(Debug)]
pub(crate) struct SessionCache(Mutex<Sessions>);

impl SessionCache {
    /// Room for `sessions_max` sessions, and `bytes_max` bytes of them.
    pub(crate) fn new(sessions_max: usize, bytes_max: usize) -> Self {
        // Ids begin anywhere, so that one from before a restart is hardly ever taken for a new one.
        let first_id = (Uuid::new_v4().as_u128() & 0x7fff_ffff) as i32;
        Self(Mutex::new(Sessions::new(sessions_max, bytes_max, first_id)))
    }

    /// Memory of all of them, those in use included.
    pub(crate) fn bytes(&self) -> usize {
        self.lock().bytes
    }

    /// Takes a session out, if this is the request that comes next in it.
    pub(super) fn take(&self, id: i32, epoch: i32, naming: Naming) -> Result<Held<'_>, ErrorCode> {
        let session = self.lock().take(id, epoch, naming)?;
        Ok(Held { cache: self, id, session })
    }

    /// Remembers a new session and returns its id, [`NO_SESSION`] where there is no room.
    pub(super) fn open(&self, session: Session, naming: Naming) -> i32 {
        self.lock().open(session, naming, Instant::now())
    }

    /// Forgets a session, if there is one with that id.
    pub(super) fn close(&self, id: i32) {
        if id != NO_SESSION {
            self.lock().close(id);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Sessions> {
        // Every critical section leaves the sessions consistent, whoever panicked.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A session in use. Dropping it puts it back.
#[derive(Debug)]
pub(super) struct Held<'a> {
    cache: &'a SessionCache,
    pub(super) id: i32,
    pub(super) session: Session,
}

impl Held<'_> {
    /// Applies what a request changes. False: there is no room for what was added.
    pub(super) fn update(&mut self, topics: Vec<FetchTopic>, forgotten: &[ForgottenTopic]) -> bool {
        if topics.is_empty() && forgotten.is_empty() {
            return true;
        }
        self.session.update(topics, forgotten);
        self.cache.lock().resize(self.id, self.session.bytes(), Instant::now())
    }

    /// Forgets the session.
    pub(super) fn close(self) {
        self.cache.close(self.id);
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        let session = std::mem::take(&mut self.session);
        self.cache.lock().put_back(self.id, session, Instant::now());
    }
}

/// The sessions and what is counted of them.
#[derive(Debug)]
struct Sessions {
    by_id: HashMap<i32, Place>,
    sessions_max: usize,
    bytes: usize,
    bytes_max: usize,
    next_id: i32,
}

/// The place of one session.
#[derive(Debug)]
struct Place {
    state: State,
    naming: Naming,
    /// The epoch of the request that comes next.
    epoch: i32,
    bytes: usize,
    opened: Instant,
    used: Instant,
}

#[derive(Debug)]
enum State {
    Idle(Session),
    /// A Fetch has it.
    InUse,
    /// A Fetch has it, and it is gone when it is put back.
    Closing,
}

impl Sessions {
    fn new(sessions_max: usize, bytes_max: usize, next_id: i32) -> Self {
        Self { by_id: HashMap::new(), sessions_max, bytes: 0, bytes_max, next_id }
    }

    fn take(&mut self, id: i32, epoch: i32, naming: Naming) -> Result<Session, ErrorCode> {
        let place = self.by_id.get_mut(&id).filter(|place| !matches!(place.state, State::Closing));
        let place = place.ok_or(ErrorCode::FETCH_SESSION_ID_NOT_FOUND)?;
        if place.epoch != epoch {
            return Err(ErrorCode::INVALID_FETCH_SESSION_EPOCH);
        }
        if place.naming != naming {
            return Err(ErrorCode::FETCH_SESSION_TOPIC_ID_ERROR);
        }
        match std::mem::replace(&mut place.state, State::InUse) {
            State::Idle(session) => {
                place.epoch = next(epoch);
                Ok(session)
            }
            // The client gave up an earlier request without waiting for its end, and begins anew.
            State::InUse | State::Closing => Err(ErrorCode::INVALID_FETCH_SESSION_EPOCH),
        }
    }

    fn put_back(&mut self, id: i32, session: Session, now: Instant) {
        let Some(place) = self.by_id.get_mut(&id) else {
            return;
        };
        match place.state {
            State::InUse => {
                place.state = State::Idle(session);
                place.used = now;
            }
            State::Closing => self.remove(id),
            State::Idle(_) => {}
        }
    }

    /// Counts a session in use anew. False, and nothing has changed, where there is no room.
    fn resize(&mut self, id: i32, bytes: usize, now: Instant) -> bool {
        let before = self.by_id.get(&id).map_or(0, |place| place.bytes);
        if !self.make_room(0, bytes.saturating_sub(before), bytes, now) {
            return false;
        }
        if let Some(place) = self.by_id.get_mut(&id) {
            place.bytes = bytes;
            self.bytes = (self.bytes - before) + bytes;
        }
        true
    }

    fn open(&mut self, session: Session, naming: Naming, now: Instant) -> i32 {
        let bytes = session.bytes();
        if session.is_empty() || !self.make_room(1, bytes, bytes, now) {
            return NO_SESSION;
        }
        while self.next_id == NO_SESSION || self.by_id.contains_key(&self.next_id) {
            self.next_id = next(self.next_id);
        }
        let id = self.next_id;
        self.next_id = next(id);
        let state = State::Idle(session);
        self.by_id.insert(id, Place { state, naming, epoch: FIRST_EPOCH, bytes, opened: now, used: now });
        self.bytes += bytes;
        id
    }

    fn close(&mut self, id: i32) {
        match self.by_id.get_mut(&id).map(|place| &mut place.state) {
            Some(State::Idle(_)) => self.remove(id),
            // It takes its memory until the Fetch ends.
            Some(state) => *state = State::Closing,
            None => {}
        }
    }

    fn remove(&mut self, id: i32) {
        if let Some(place) = self.by_id.remove(&id) {
            self.bytes -= place.bytes;
        }
    }

    /// Makes room for so many more sessions and bytes, on behalf of a session of `size` bytes.
    fn make_room(&mut self, sessions: usize, bytes: usize, size: usize, now: Instant) -> bool {
        if size > self.bytes_max {
            return false;
        }
        while self.by_id.len() + sessions > self.sessions_max || self.bytes + bytes > self.bytes_max {
            let Some(id) = self.dispensable(size, now) else {
                return false;
            };
            self.remove(id);
        }
        true
    }

    /// The session that was not used for longest, if that is long; else the smallest of those that have
    /// been there for a while, if it is smaller than `size`.
    fn dispensable(&self, size: usize, now: Instant) -> Option<i32> {
        let long_ago = |at: Instant| now.saturating_duration_since(at) > limits::FETCH_SESSION_IDLE;
        let idle = || self.by_id.iter().filter(|(_, place)| matches!(place.state, State::Idle(_)));
        let unused = idle().filter(|(_, place)| long_ago(place.used)).min_by_key(|(_, place)| place.used);
        let small = || {
            let old = idle().filter(|(_, place)| long_ago(place.opened) && place.bytes < size);
            old.min_by_key(|(_, place)| place.bytes)
        };
        unused.or_else(small).map(|(id, _)| *id)
    }
}

/// The number after `number`; after the greatest comes 1, because 0 has a meaning of its own.
fn next(number: i32) -> i32 {
    number.checked_add(1).unwrap_or(1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::messages::FetchPartition;
    use std::time::Duration;

    const ONE: usize = limits::FETCH_SESSION_PARTITION_BYTES;

    fn partitions(count: i32) -> Vec<FetchTopic> {
        let partition = |partition: i32| FetchPartition { partition, ..FetchPartition::default() };
        vec![FetchTopic { partitions: (0..count).map(partition).collect(), ..FetchTopic::default() }]
    }

    fn session(count: i32) -> Session {
        Session::of(partitions(count))
    }

    /// Room for three sessions of ten partitions in all.
    fn few() -> Sessions {
        Sessions::new(3, 10 * ONE, 7)
    }

    #[track_caller]
    fn refused(sessions: &mut Sessions, id: i32, epoch: i32, naming: Naming, code: ErrorCode) {
        assert_eq!(sessions.take(id, epoch, naming).map(|_| ()), Err(code));
    }

    #[test]
    fn epochs_follow_each_other() {
        let now = Instant::now();
        let mut sessions = few();
        let id = sessions.open(session(1), Naming::ById, now);
        assert_ne!(id, NO_SESSION);
        for epoch in 1..4 {
            refused(&mut sessions, id, epoch - 1, Naming::ById, ErrorCode::INVALID_FETCH_SESSION_EPOCH);
            refused(&mut sessions, id, epoch + 1, Naming::ById, ErrorCode::INVALID_FETCH_SESSION_EPOCH);
            refused(&mut sessions, id, epoch, Naming::ByName, ErrorCode::FETCH_SESSION_TOPIC_ID_ERROR);
            refused(&mut sessions, id + 1, epoch, Naming::ById, ErrorCode::FETCH_SESSION_ID_NOT_FOUND);
            let taken = sessions.take(id, epoch, Naming::ById).expect("it is the next one");
            sessions.put_back(id, taken, now);
        }
        assert_eq!(next(i32::MAX), 1, "0 would open a session");
        assert_eq!(next(1), 2);
    }

    #[test]
    fn a_session_in_use_is_nobody_elses() {
        let now = Instant::now();
        let mut sessions = few();
        let id = sessions.open(session(4), Naming::ById, now);
        let taken = sessions.take(id, 1, Naming::ById).expect("it is idle");
        for epoch in [1, 2] {
            refused(&mut sessions, id, epoch, Naming::ById, ErrorCode::INVALID_FETCH_SESSION_EPOCH);
        }
        sessions.close(id);
        refused(&mut sessions, id, 2, Naming::ById, ErrorCode::FETCH_SESSION_ID_NOT_FOUND);
        assert_eq!(sessions.bytes, 4 * ONE, "the Fetch still has it");
        sessions.put_back(id, taken, now);
        assert_eq!((sessions.by_id.len(), sessions.bytes), (0, 0));
        sessions.close(id);
    }

    #[test]
    fn ids_are_distinct_and_never_zero() {
        let now = Instant::now();
        let mut sessions = Sessions::new(10, usize::MAX, i32::MAX - 1);
        let ids: Vec<_> = (0..4).map(|_| sessions.open(session(1), Naming::ById, now)).collect();
        assert_eq!(ids, [i32::MAX - 1, i32::MAX, 1, 2]);
        let mut sessions = Sessions::new(10, usize::MAX, 0);
        assert_eq!(sessions.open(session(1), Naming::ById, now), 1);
    }

    #[test]
    fn without_room_there_is_no_session() {
        let now = Instant::now();
        let mut sessions = few();
        assert_eq!(sessions.open(session(0), Naming::ById, now), NO_SESSION, "nothing to read");
        assert_eq!(sessions.open(session(11), Naming::ById, now), NO_SESSION, "more than all there is");
        let first = sessions.open(session(8), Naming::ById, now);
        assert_ne!(first, NO_SESSION);
        assert_eq!(sessions.open(session(3), Naming::ById, now), NO_SESSION, "too much together");
        let others: Vec<_> = (0..3).map(|_| sessions.open(session(1), Naming::ById, now)).collect();
        assert!(others[0] != NO_SESSION && others[1] != NO_SESSION);
        assert_eq!(others[2], NO_SESSION, "too many");
        assert_eq!(sessions.bytes, 10 * ONE);
        sessions.close(first);
        assert_eq!(sessions.bytes, 2 * ONE);
        let mut none = Sessions::new(0, usize::MAX, 7);
        assert_eq!(none.open(session(1), Naming::ById, now), NO_SESSION, "switched off");
    }

    #[test]
    fn what_is_unused_or_smaller_makes_room() {
        let start = Instant::now();
        let at = |seconds: u64| start + Duration::from_secs(seconds);
        let mut sessions = few();
        let ids: Vec<_> = [3, 1, 2].map(|count| sessions.open(session(count), Naming::ById, start)).to_vec();
        assert_eq!(sessions.open(session(4), Naming::ById, at(60)), NO_SESSION, "all are fresh");
        for id in &ids {
            let taken = sessions.take(*id, 1, Naming::ById).expect("it is idle");
            sessions.put_back(*id, taken, at(if *id == ids[0] { 90 } else { 100 }));
        }
        // None was unused for long, but the second one is old and small.
        assert_eq!(sessions.open(session(1), Naming::ById, at(200)), NO_SESSION, "not smaller");
        assert_ne!(sessions.open(session(2), Naming::ById, at(200)), NO_SESSION);
        assert!(!sessions.by_id.contains_key(&ids[1]));
        // Now the first one was unused for longest, whatever its size.
        assert_ne!(sessions.open(session(1), Naming::ById, at(215)), NO_SESSION);
        assert!(!sessions.by_id.contains_key(&ids[0]));
        assert!(sessions.by_id.contains_key(&ids[2]));
    }

    #[test]
    fn a_session_in_use_makes_no_room() {
        let start = Instant::now();
        let mut sessions = Sessions::new(1, 10 * ONE, 7);
        let id = sessions.open(session(1), Naming::ById, start);
        let taken = sessions.take(id, 1, Naming::ById).expect("it is idle");
        let later = start + Duration::from_secs(1000);
        assert_eq!(sessions.open(session(5), Naming::ById, later), NO_SESSION);
        sessions.put_back(id, taken, later);
        let much_later = later + Duration::from_secs(121);
        assert_ne!(sessions.open(session(5), Naming::ById, much_later), NO_SESSION);
    }

    #[test]
    fn growing_needs_room_too() {
        let now = Instant::now();
        let mut sessions = few();
        let id = sessions.open(session(4), Naming::ById, now);
        sessions.open(session(4), Naming::ById, now);
        let mut taken = sessions.take(id, 1, Naming::ById).expect("it is idle");
        taken.update(partitions(6), &[]);
        assert!(sessions.resize(id, taken.bytes(), now));
        assert_eq!(sessions.bytes, 10 * ONE);
        taken.update(partitions(7), &[]);
        assert!(!sessions.resize(id, taken.bytes(), now));
        assert_eq!(sessions.bytes, 10 * ONE);
        assert!(sessions.resize(id, ONE, now));
        assert_eq!(sessions.bytes, 5 * ONE);
    }

    #[test]
    fn a_held_session_is_put_back_when_it_is_dropped() {
        let cache = SessionCache::new(10, 10 * ONE);
        let id = cache.open(session(1), Naming::ById);
        let mut held = cache.take(id, 1, Naming::ById).expect("it is idle");
        assert!(held.update(partitions(3), &[]));
        assert!(cache.take(id, 2, Naming::ById).is_err());
        drop(held);
        let held = cache.take(id, 2, Naming::ById).expect("it was put back");
        assert_eq!(held.session.bytes(), 3 * ONE);
        assert_eq!(cache.bytes(), 3 * ONE);
        held.close();
        assert!(cache.lock().by_id.is_empty());
    }
}
