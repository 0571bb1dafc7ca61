//! The coordinator of all groups: the shell around the machine.
//!
//! Each group has a lock of its own, so that the storm of one group never holds up another. One task
//! watches the deadlines of all. What a group wants to keep goes to the log; the outcome comes back
//! through a channel, because the committer's thread must not wait for anyone.

mod offsets;
#[cfg(test)]
mod tests;
mod watch;

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use courant_core::clock::Clock as _;
use courant_log::{GroupError, Log, StoredGroup, SystemClock, WriterError};
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;
use tracing::{error, warn};

pub(crate) use self::offsets::{Commit, DeleteOffsets};
use super::machine::{
    Description, Effect, Group, Identity, Join, JoinRefused, Joined, Listing, Now, Rules, Sync, Synced,
    Ticket,
};
use super::stored::StoredState;
use crate::limits;
use crate::seldom::Seldom;
use crate::wire::ErrorCode;

/// What groups are told by the server's settings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct GroupSettings {
    /// How long the first members of an empty group wait for more of them.
    pub(crate) initial_delay: Duration,
    /// How long the offsets of a group without members are kept.
    pub(crate) retention: Duration,
    /// What the members of all groups together may take.
    pub(crate) members_bytes_max: usize,
}

/// Of what the members of all groups may take, newcomers leave a part: whoever is in says more of itself when it has
/// something, and is assigned more when others come or go.
const PARTS: usize = 4;
const NEWCOMERS_PARTS: usize = 3;

/// All groups.
pub(crate) struct Coordinator {
    log: Log,
    settings: GroupSettings,
    groups: Mutex<HashMap<String, Arc<Cell>>>,
    /// What the members of all groups take.
    members_bytes: AtomicUsize,
    started: Instant,
    /// Lines about groups that there is no place for.
    full: Seldom,
    /// Lines about states that were not stored: members that join again and again cause one each time.
    not_stored: Seldom,
    events: mpsc::UnboundedSender<Event>,
    /// Taken by the task that watches.
    watched: Mutex<Option<mpsc::UnboundedReceiver<Event>>>,
}

/// One group and who waits for it.
struct Cell {
    name: String,
    inner: Mutex<Inner>,
}

struct Inner {
    group: Group,
    joins: HashMap<Ticket, oneshot::Sender<Result<Joined, JoinRefused>>>,
    syncs: HashMap<Ticket, oneshot::Sender<Result<Synced, ErrorCode>>>,
    next_ticket: Ticket,
    /// When the watching task looks at the group.
    watched_ms: Option<i64>,
    /// What its members take of what those of all groups may.
    counted: usize,
    /// The part of it that is for assignments.
    assigned: usize,
    /// Held by every commit until the log has it, or has refused it.
    committing: Arc<()>,
}

/// What the watching task is told.
enum Event {
    /// The group has to be looked at, at that moment at the latest, and not when it was to be before.
    Deadline { before_ms: Option<i64>, next_ms: Option<i64>, cell: Arc<Cell> },
    /// What a group wanted to keep is durable, or is not.
    Stored(Arc<Cell>, u64, Result<(), GroupError>),
}

impl fmt::Debug for Coordinator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Coordinator").field("settings", &self.settings).finish_non_exhaustive()
    }
}

impl Cell {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Coordinator {
    /// The coordinator of the groups in that log, as they were stored.
    pub(crate) fn new(log: Log, settings: GroupSettings) -> Self {
        let (events, watched) = mpsc::unbounded_channel();
        let coordinator = Self {
            log,
            settings,
            groups: Mutex::default(),
            members_bytes: AtomicUsize::new(0),
            started: Instant::now(),
            full: Seldom::default(),
            not_stored: Seldom::default(),
            events,
            watched: Mutex::new(Some(watched)),
        };
        for name in coordinator.log.groups() {
            coordinator.find(&name);
        }
        coordinator
    }

    /// Takes in the group of that name: as it was stored, or a new one.
    fn take_in(&self, groups: &mut HashMap<String, Arc<Cell>>, name: &str, stored: StoredGroup) -> Arc<Cell> {
        let group = match stored.state.is_empty() {
            true => Group::new(self.rules()),
            false => match StoredState::decode(stored.state) {
                Ok(state) => Group::restore(self.rules(), state, self.now()),
                Err(failure) => {
                    // The offsets are safe; its members join again.
                    error!(group = name, "the state of a group cannot be read: {failure}");
                    Group::new(self.rules())
                }
            },
        };
        let cell = Arc::new(Cell::new(name.to_owned(), group));
        self.count(&mut cell.lock());
        self.watch(&cell, &mut cell.lock());
        groups.insert(name.to_owned(), cell.clone());
        cell
    }

    fn rules(&self) -> Rules {
        let ms = |time: Duration| i64::try_from(time.as_millis()).unwrap_or(i64::MAX);
        Rules {
            session_ms_min: ms(limits::SESSION_MIN),
            session_ms_max: ms(limits::SESSION_MAX),
            initial_delay_ms: ms(self.settings.initial_delay),
            members_max: limits::MEMBERS_PER_GROUP_MAX,
            bytes_max: limits::GROUP_BYTES_MAX,
        }
    }

    fn now(&self) -> Now {
        let ms = i64::try_from(self.started.elapsed().as_millis()).unwrap_or(i64::MAX);
        Now { ms, wall_ms: SystemClock.now_ms() }
    }

    fn map(&self) -> MutexGuard<'_, HashMap<String, Arc<Cell>>> {
        self.groups.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The group of that name, if there is one.
    fn find(&self, name: &str) -> Option<Arc<Cell>> {
        let mut groups = self.map();
        if let Some(cell) = groups.get(name) {
            return Some(cell.clone());
        }
        // After a start; and where the log did not delete what was forgotten here.
        let stored = self.log.group(name)?;
        Some(self.take_in(&mut groups, name, stored))
    }

    /// The group of that name, which is made if it does not exist. `None`: there are too many.
    fn find_or_make(&self, name: &str) -> Option<Arc<Cell>> {
        let mut groups = self.map();
        if let Some(cell) = groups.get(name) {
            return Some(cell.clone());
        }
        if groups.len() >= limits::GROUPS_MAX {
            if let Some(unsaid) = self.full.say(std::time::Instant::now()) {
                warn!(group = name, unsaid, "there are {} groups already; delete some", groups.len());
            }
            return None;
        }
        // Its generation goes on where the log remembers one.
        let stored = self.log.group(name).unwrap_or_default();
        Some(self.take_in(&mut groups, name, stored))
    }

    /// Forgets a group that was deleted, or named and is nothing: nobody is in it, and nothing of it is
    /// kept.
    fn forget_if_unused(&self, cell: &Arc<Cell>, inner: MutexGuard<'_, Inner>) {
        let is_nothing = || !inner.is_used() && !self.log.has_group(&cell.name);
        if inner.group.is_dead() || is_nothing() {
            self.forget(cell, inner);
        }
    }

    /// Takes a group out of the map. Who has found it there looks it up again.
    fn forget(&self, cell: &Arc<Cell>, mut inner: MutexGuard<'_, Inner>) {
        inner.group.kill();
        self.members_bytes.fetch_sub(std::mem::take(&mut inner.counted), Ordering::Relaxed);
        // The map is never asked for while a group is locked.
        drop(inner);
        let mut groups = self.map();
        if groups.get(&cell.name).is_some_and(|found| Arc::ptr_eq(found, cell)) {
            groups.remove(&cell.name);
        }
    }

    /// Runs something on a group that nobody deletes meanwhile; makes the group if asked to. One that
    /// is nothing afterwards is forgotten: names alone take no memory.
    fn with<T>(
        &self,
        name: &str,
        make: bool,
        run: impl FnOnce(&Arc<Cell>, &mut Inner) -> T,
    ) -> Result<T, ErrorCode> {
        loop {
            let cell = if make {
                self.find_or_make(name).ok_or(ErrorCode::GROUP_MAX_SIZE_REACHED)?
            } else {
                self.find(name).ok_or(ErrorCode::GROUP_ID_NOT_FOUND)?
            };
            let mut inner = cell.lock();
            if inner.group.is_dead() {
                continue;
            }
            let outcome = run(&cell, &mut inner);
            self.forget_if_unused(&cell, inner);
            return Ok(outcome);
        }
    }

    /// A client joins. The answer comes when the rebalance is over.
    pub(crate) fn join(&self, group: &str, join: Join) -> oneshot::Receiver<Result<Joined, JoinRefused>> {
        let (done, answer) = oneshot::channel();
        let mut done = Some(done);
        let joined = self.with(group, true, |cell, inner| {
            let ticket = inner.ticket();
            inner.joins.extend(done.take().map(|done| (ticket, done)));
            // Its members are assigned anew.
            let (without, _) = inner.group.members_bytes();
            let of_all = self.settings.members_bytes_max;
            let is_in = inner.group.has_place_for(&join);
            self.bound(inner, without, if is_in { of_all } else { of_all / PARTS * NEWCOMERS_PARTS });
            let effects = inner.group.join(ticket, join, self.now());
            self.act(cell, inner, effects);
        });
        if let (Err(code), Some(done)) = (joined, done) {
            // The client may have gone.
            let _ = done.send(Err(JoinRefused::new(code)));
        }
        answer
    }

    /// A member asks for its assignment. The answer comes when the leader has assigned.
    pub(crate) fn sync(&self, group: &str, sync: Sync) -> oneshot::Receiver<Result<Synced, ErrorCode>> {
        let (done, answer) = oneshot::channel();
        let mut done = Some(done);
        let synced = self.with(group, false, |cell, inner| {
            let ticket = inner.ticket();
            inner.syncs.extend(done.take().map(|done| (ticket, done)));
            let (without, _) = inner.group.members_bytes();
            self.bound(inner, without + inner.assigned, self.settings.members_bytes_max);
            let effects = inner.group.sync(ticket, sync, self.now());
            self.act(cell, inner, effects);
        });
        if let (Err(_), Some(done)) = (synced, done) {
            // As above. Nobody is a member of a group that is not there.
            let _ = done.send(Err(ErrorCode::UNKNOWN_MEMBER_ID));
        }
        answer
    }

    pub(crate) fn heartbeat(&self, group: &str, who: &Identity) -> Result<(), ErrorCode> {
        let now = self.now();
        let alive = self.with(group, false, |cell, inner| {
            let alive = inner.group.heartbeat(who, now.ms);
            self.watch(cell, inner);
            alive
        });
        alive.unwrap_or(Err(ErrorCode::UNKNOWN_MEMBER_ID))
    }

    /// Members leave. One outcome for each.
    pub(crate) fn leave(
        &self,
        group: &str,
        leaving: &[(String, Option<String>)],
    ) -> Vec<Result<(), ErrorCode>> {
        let left = self.with(group, false, |cell, inner| {
            let (outcomes, effects) = inner.group.leave(leaving, self.now());
            self.act(cell, inner, effects);
            outcomes
        });
        left.unwrap_or_else(|_| vec![Err(ErrorCode::UNKNOWN_MEMBER_ID); leaving.len()])
    }

    /// Looks at every group, in no order. Nothing of what they have committed is copied.
    pub(crate) fn each(&self, mut look: impl FnMut(&str, &Group)) {
        // A service beside the server commits into the log, past this coordinator.
        for name in self.log.groups() {
            self.find(&name);
        }
        let cells: Vec<_> = self.map().values().cloned().collect();
        for cell in cells {
            let inner = cell.lock();
            if self.exists(&cell, &inner) {
                look(&cell.name, &inner.group);
            }
        }
    }

    /// All groups by name.
    pub(crate) fn list(&self) -> BTreeMap<String, Listing> {
        let mut listed = BTreeMap::new();
        self.each(|name, group| {
            listed.insert(name.to_owned(), group.listing());
        });
        listed
    }

    /// Whether somebody is in the group, or something of it is kept.
    fn exists(&self, cell: &Cell, inner: &Inner) -> bool {
        !inner.group.is_vacant() || self.log.has_group(&cell.name)
    }

    pub(crate) fn describe(&self, group: &str) -> Option<Description> {
        let described =
            self.with(group, false, |cell, inner| self.exists(cell, inner).then(|| inner.group.describe()));
        described.ok().flatten()
    }

    /// Lets the members of a group have what they have, `bytes`, and what those of all groups leave of `of_all`.
    fn bound(&self, inner: &mut Inner, bytes: usize, of_all: usize) {
        let left = of_all.saturating_sub(self.members_bytes.load(Ordering::Relaxed));
        inner.group.set_bytes_max(bytes.saturating_add(left).min(limits::GROUP_BYTES_MAX));
    }

    /// Counts what the members of a group take now.
    fn count(&self, inner: &mut Inner) {
        let (without, with) = inner.group.members_bytes();
        let assigned = with - without;
        // A rebalance takes all assignments away. Nobody else gets their room until there are new ones.
        inner.assigned = if inner.group.is_rebalancing() { assigned.max(inner.assigned) } else { assigned };
        let bytes = match inner.group.is_dead() {
            true => 0,
            false => without + inner.assigned + inner.group.pending_bytes(),
        };
        let before = std::mem::replace(&mut inner.counted, bytes);
        // Where it has become less, the sum goes around, and ends at what is right.
        self.members_bytes.fetch_add(bytes.wrapping_sub(before), Ordering::Relaxed);
    }

    /// Does what follows from an input.
    fn act(&self, cell: &Arc<Cell>, inner: &mut Inner, effects: Vec<Effect>) {
        for effect in effects {
            match effect {
                // Who has gone hears nothing; its session ends by itself.
                Effect::Join(ticket, answer) => {
                    if let Some(done) = inner.joins.remove(&ticket) {
                        let _ = done.send(answer);
                    }
                }
                Effect::Sync(ticket, answer) => {
                    if let Some(done) = inner.syncs.remove(&ticket) {
                        let _ = done.send(answer);
                    }
                }
                Effect::Store(number, state) => {
                    let (events, cell) = (self.events.clone(), cell.clone());
                    self.log.store_group(cell.name.clone(), state, move |stored| {
                        // After the end of the watching task nobody waits for it.
                        let _ = events.send(Event::Stored(cell, number, stored));
                    });
                }
            }
        }
        self.count(inner);
        self.watch(cell, inner);
    }

    /// Sees to it that the group is looked at when its next deadline has come.
    fn watch(&self, cell: &Arc<Cell>, inner: &mut Inner) {
        let next_ms = inner.group.next_deadline();
        let before_ms = inner.watched_ms;
        let is_new = match (next_ms, before_ms) {
            // A later deadline is seen when the earlier one, which moved, is looked at.
            (Some(next_ms), Some(before_ms)) => next_ms < before_ms,
            (next_ms, before_ms) => next_ms.is_some() || before_ms.is_some(),
        };
        if is_new {
            inner.watched_ms = next_ms;
            // As above.
            let _ = self.events.send(Event::Deadline { before_ms, next_ms, cell: cell.clone() });
        }
    }
}

impl Cell {
    fn new(name: String, group: Group) -> Self {
        let inner = Inner {
            group,
            joins: HashMap::new(),
            syncs: HashMap::new(),
            next_ticket: 0,
            watched_ms: None,
            counted: 0,
            assigned: 0,
            committing: Arc::default(),
        };
        Self { name, inner: Mutex::new(inner) }
    }
}

impl Inner {
    /// Whether the group is more than what the log has of it.
    fn is_used(&self) -> bool {
        !self.group.is_vacant() || Arc::strong_count(&self.committing) > 1
    }

    fn ticket(&mut self) -> Ticket {
        self.next_ticket += 1;
        self.next_ticket
    }
}

/// What a client is told when the log does not take a change of a group.
fn from_log(failure: &GroupError) -> ErrorCode {
    match failure {
        GroupError::TooLarge { .. } => ErrorCode::INVALID_COMMIT_OFFSET_SIZE,
        GroupError::Writer(WriterError::Busy) => ErrorCode::REQUEST_TIMED_OUT,
        // Clients look for the coordinator again, which takes them through a restart.
        _ => ErrorCode::COORDINATOR_NOT_AVAILABLE,
    }
}
