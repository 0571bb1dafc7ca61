//! The loop of one subscription: it reads, gives each event its turn, and keeps how far it has come.
//!
//! What may happen is decided by [`Lanes`] and [`Progress`], which know no I/O; what it means is the
//! business of the [`Ledger`]. One task has all three, so nothing of them is locked; what it shares with its
//! workers is [`Ahead`].

mod ahead;
mod asking;
mod assigning;
mod hearing;
mod reading;
mod room;
mod saving;
mod standing;
mod turns;

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use courant_core::event_id::EventId;
use courant_engine::{FetchError, Next, Partition};
use courant_sql::Source;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::sync::{Notify, watch};
use tokio::task::{JoinError, JoinSet};
use tokio::time::Instant;
use tracing::warn;

use self::ahead::Ahead;
use self::asking::Looked;
use self::hearing::{Heard, Hearing};
use self::room::Room;
use self::saving::{Kept, Uncommitted};
use self::standing::{Sought, Standing};
use super::context::Context;
use super::lanes::Lanes;
use super::ledger::{Assigned, Ledger, Settled, Trouble, Work};
use super::missed::Missed;
use super::progress::Progress;
use super::status::Status;
use crate::{OtherLog, StartFrom};

/// Events that wait for their turn in memory. More are not read before these are fewer.
const WAITING_MAX: usize = 1_000;

/// How long one look at the engine lasts when nothing comes.
const WAIT: Duration = Duration::from_secs(10);

/// What a driver is told.
pub(crate) struct Orders {
    /// The consumer's name, which is also that of its group in the engine.
    pub(crate) consumer: String,
    pub(crate) event_types: HashSet<&'static str>,
    pub(crate) concurrency: usize,
    /// Most events that are handled in one transaction.
    pub(crate) batch: usize,
    /// Most events that may be parked before no more are read.
    pub(crate) parked_max: u64,
    pub(crate) start: StartFrom,
    pub(crate) other_log: OtherLog,
}

/// The loop of one subscription.
pub(crate) struct Driver {
    context: Arc<Context>,
    ledger: Arc<dyn Ledger>,
    orders: Orders,
    subscription: Box<dyn courant_engine::Subscription>,
    status: Arc<Status>,
    /// Somebody has decided about dead letters.
    decided: Arc<Notify>,
    lanes: Lanes<Lane, Work>,
    parts: BTreeMap<Partition, Part>,
    /// Partitions that the subscription has, and that could not be taken over yet or were taken away. When
    /// each is tried again, in the time of the machine.
    unopened: BTreeMap<Partition, Instant>,
    /// Partitions whose topic has gone since they were taken over. What is in memory and parked of one goes on until
    /// there is a topic of that name again; then until when, at most.
    gone: BTreeMap<Partition, Option<Instant>>,
    /// Partitions that could not be read, and when each is to be again.
    unreadable: BTreeMap<Partition, Instant>,
    /// Partitions that were taken over once.
    had: BTreeSet<Partition>,
    /// Partitions that stand still.
    standing: Standing,
    /// Turns that have begun for the lanes, and that no worker has yet.
    ahead: Arc<Ahead>,
    workers: JoinSet<()>,
    /// What workers say. They say little of each turn, so there is never much of it.
    reports: UnboundedReceiver<Report>,
    reporting: UnboundedSender<Report>,
    /// What keeps progress beside them, one at a time.
    savers: JoinSet<Result<Kept, Trouble>>,
    /// What looks at what others have done in the store, one at a time.
    lookers: JoinSet<Result<Looked, Trouble>>,
    /// What looks for topics whose partitions were taken away, one at a time.
    searchers: JoinSet<Sought>,
    /// What asks whether the engine is there for partitions that wait for it.
    hearing: Hearing,
    /// How much more may be parked.
    room: Room,
    serial: u64,
    /// When the loop looks next at what others have done in the store; `None` without one.
    look_ms: Option<i64>,
    /// Nothing new begins until dead letters that are to be handled again are taken.
    is_holding: bool,
    /// Events of types that nobody here wants.
    passed: u64,
    unsaved: usize,
    uncommitted: Uncommitted,
    /// When progress is to be kept that is not yet.
    save_ms: Option<i64>,
    unpruned: usize,
}

/// What must keep its order, in one assignment of one partition.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Lane {
    Key(u64, Bytes),
    /// An event without a key: nothing orders it.
    Alone(u64, u64),
}

impl Lane {
    fn of(work: &Work) -> Self {
        let serial = work.assigned.serial;
        work.event.key.clone().map_or(Self::Alone(serial, work.event.offset), |key| Self::Key(serial, key))
    }

    fn serial(&self) -> u64 {
        let (Self::Key(serial, _) | Self::Alone(serial, _)) = self;
        *serial
    }
}

/// A partition that the subscription has.
struct Part {
    assigned: Arc<Assigned>,
    progress: Progress<EventId>,
    /// Where it is read next.
    next: u64,
    /// Offsets that were passed because their events had gone.
    missed: Missed,
    is_unsaved: bool,
    /// When to look for parked events that are due.
    due_ms: BTreeSet<i64>,
    look: Look,
}

/// Whether to look for parked events that are due, whatever the time is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Look {
    No,
    /// There were more than could begin.
    WhenSomethingEnds,
    Now,
}

/// What a worker says.
enum Report {
    Ended(Ended),
    /// A turn stands ready again that a worker had taken.
    GivenBack,
}

/// What a worker has done.
struct Ended {
    partition: Partition,
    jobs: Vec<Job>,
    /// What has become of each.
    result: Result<Vec<Settled>, Trouble>,
}

/// An event that a worker has.
struct Job {
    lane: Lane,
    offset: u64,
    id: EventId,
    source: Source,
}

/// What the loop wakes up for.
enum Wake {
    Stop,
    Reported(Report),
    Kept(Result<Result<Kept, Trouble>, JoinError>),
    Looked(Result<Result<Looked, Trouble>, JoinError>),
    Sought(Result<Sought, JoinError>),
    Heard(Result<Heard, JoinError>),
    Decided,
    Due,
    Again,
    Next(Result<Next, FetchError>),
}

impl Driver {
    pub(crate) fn new(
        context: Arc<Context>,
        ledger: Arc<dyn Ledger>,
        orders: Orders,
        subscription: Box<dyn courant_engine::Subscription>,
        status: Arc<Status>,
        decided: Arc<Notify>,
    ) -> Self {
        // Of a batch nobody knows what will be in it before it begins.
        let ahead = if orders.batch == 1 && ledger.goes_on() { orders.concurrency } else { 0 };
        let lanes = Lanes::new(orders.concurrency, orders.batch).with_ahead(ahead);
        let (reporting, reports) = unbounded_channel();
        let room = Room::new(orders.parked_max);
        let standing = Standing::new(context.stalls.clone(), &orders.consumer);
        Self {
            context,
            ledger,
            orders,
            subscription,
            status,
            decided,
            lanes,
            parts: BTreeMap::new(),
            unopened: BTreeMap::new(),
            gone: BTreeMap::new(),
            unreadable: BTreeMap::new(),
            had: BTreeSet::new(),
            standing,
            ahead: Arc::default(),
            workers: JoinSet::new(),
            reports,
            reporting,
            savers: JoinSet::new(),
            lookers: JoinSet::new(),
            searchers: JoinSet::new(),
            hearing: Hearing::default(),
            room,
            serial: 0,
            look_ms: None,
            is_holding: false,
            passed: 0,
            unsaved: 0,
            uncommitted: Uncommitted::default(),
            save_ms: None,
            unpruned: 0,
        }
    }

    /// Runs until `stop` says so, or until there is trouble that does not pass.
    pub(crate) async fn run(mut self, mut stop: watch::Receiver<bool>) -> Result<(), Trouble> {
        let mut stopping = stop.clone();
        let turn_max = self.context.stop_times.turn;
        let mut goes_on = tokio::select! {
            biased;
            pruned = self.ledger.prune() => pruned.map(|()| true)?,
            () = overdue(&mut stopping, turn_max) => false,
        };
        self.begin_looking();
        while goes_on {
            // What the loop is at is dropped when it takes too long: what it has not kept comes again.
            goes_on = tokio::select! {
                biased;
                goes_on = self.turn(&mut stop) => goes_on?,
                () = overdue(&mut stopping, turn_max) => false,
            };
        }
        self.finish().await
    }

    /// One turn of the loop. Whether another one follows.
    async fn turn(&mut self, stop: &mut watch::Receiver<bool>) -> Result<bool, Trouble> {
        self.begin_turns().await?;
        self.look_around();
        self.save_in_time().await?;
        self.report();
        let wake = self.sleep(stop).await;
        self.status.update(|state| state.is_resting = false);
        match wake {
            Wake::Stop => return Ok(false),
            Wake::Reported(report) => self.reported(report).await?,
            Wake::Kept(kept) => self.kept(kept)?,
            Wake::Looked(looked) => self.looked(looked)?,
            Wake::Sought(sought) => self.sought(sought)?,
            Wake::Heard(heard) => self.heard(heard).await?,
            Wake::Decided => self.is_holding = true,
            Wake::Due => {}
            Wake::Again => {
                self.commit_again();
                self.read_again();
                self.assign_again().await?;
            }
            Wake::Next(Ok(Next::Assigned(partitions))) => self.assign(partitions).await?,
            Wake::Next(Ok(Next::Revoked(partitions))) => self.revoke(&partitions).await?,
            Wake::Next(Ok(Next::Records(fetched))) => {
                fetched.into_iter().for_each(|fetched| self.take(fetched));
            }
            Wake::Next(Ok(_)) => {}
            Wake::Next(Err(error)) => self.pass_by(error)?,
        }
        Ok(true)
    }

    async fn sleep(&mut self, stop: &mut watch::Receiver<bool>) -> Wake {
        // What is due has no turn while everything is held.
        let due_ms = self.due_ms().filter(|_| !self.is_holding);
        // While something is kept nothing else is.
        let save_ms = self.save_ms.filter(|_| self.savers.is_empty());
        let due_ms = due_ms.into_iter().chain(save_ms).min();
        let again_at = self.next_try();
        let has_room = self.lanes.waiting() < WAITING_MAX && !self.is_holding;
        tokio::select! {
            biased;
            () = told(stop) => Wake::Stop,
            Some(report) = self.reports.recv() => Wake::Reported(report),
            Some(kept) = self.savers.join_next() => Wake::Kept(kept),
            Some(looked) = self.lookers.join_next() => Wake::Looked(looked),
            Some(sought) = self.searchers.join_next() => Wake::Sought(sought),
            Some(heard) = self.hearing.next() => Wake::Heard(heard),
            () = self.decided.notified() => Wake::Decided,
            () = self.context.time.sleep_until(due_ms.unwrap_or(i64::MAX)), if due_ms.is_some() => Wake::Due,
            () = again(again_at), if again_at.is_some() => Wake::Again,
            next = self.subscription.next(WAIT), if has_room => Wake::Next(next),
        }
    }

    /// When something is tried again.
    fn next_try(&self) -> Option<Instant> {
        // While something is kept nothing else is.
        let commits_at = self.uncommitted.again().filter(|_| self.savers.is_empty());
        // While somebody looks nobody else does.
        let looks_at = self.standing.next_look().filter(|_| self.searchers.is_empty());
        let reads_at = self.unreadable.values().copied();
        let others = self.hearing.next_try(&self.unopened).into_iter().chain(looks_at).chain(commits_at);
        others.chain(reads_at).min()
    }

    /// When something is due by itself: a parked event, or the next look.
    fn due_ms(&self) -> Option<i64> {
        let parked = self.parts.values().filter_map(|part| part.due_ms.first().copied());
        parked.chain(self.look_ms).min()
    }

    /// Says what it is doing, before it sleeps.
    fn report(&mut self) {
        self.standing.forget(Instant::now());
        // Nothing is read of a topic that is gone, however far it was.
        let is_read = |one: &(&Partition, &Part)| !self.gone.contains_key(one.0);
        let read = || self.parts.iter().filter(is_read).map(|(_, part)| part);
        let next = read().map(|part| (part.assigned.partition.clone(), part.next)).collect();
        let due_ms = self.due_ms();
        let under_way = self.with_workers();
        // Every turn that may begin has begun: what waits, waits for what is under way. What a look finds may let
        // others begin.
        let is_resting = !self.is_holding && self.lookers.is_empty();
        self.status.update(|state| {
            state.is_resting = is_resting;
            state.is_full = self.room.is_full();
            state.under_way = under_way;
            state.next = next;
            state.keep_low_water(
                read().map(|part| (&part.assigned.partition, part.progress.low_water().next)),
            );
            let missed = self.parts.values().map(|part| (part.assigned.partition.clone(), part.missed.all()));
            state.missed = missed.filter(|(_, events)| *events > 0).collect();
            state.due_ms = due_ms;
            state.passed = self.passed;
        });
        self.context.activity.note();
    }

    /// Lets what is under way come to its end, and keeps how far that is.
    async fn finish(&mut self) -> Result<(), Trouble> {
        self.parts.values().for_each(|part| part.assigned.given_up.set());
        self.ahead.hold();
        for piece in self.ahead.give_up() {
            self.lanes.end(piece.lanes());
        }
        let waited = tokio::time::timeout(self.context.stop_times.handlers, self.settle_workers()).await;
        if let Ok(result) = waited {
            result?;
        } else {
            let events = self.with_workers();
            warn!(
                consumer = self.orders.consumer,
                events, "gave up waiting; what is under way is rolled back"
            );
            self.workers.shutdown().await;
        }
        let all: Vec<Partition> = self.parts.keys().cloned().collect();
        match tokio::time::timeout(self.context.stop_times.save, self.save_at_last(&all)).await {
            Ok(saved) => saved,
            Err(_) => {
                self.note_unsaved();
                Ok(())
            }
        }
    }

    /// Waits for what workers have. What stands ready is to be held.
    async fn settle_workers(&mut self) -> Result<(), Trouble> {
        while self.with_workers() > 0 {
            tokio::select! {
                biased;
                Some(report) = self.reports.recv() => self.reported(report).await?,
                // A turn of the loop that was given up may have begun what no worker has. Whoever has worked has
                // said so before.
                ended = self.workers.join_next() => if ended.is_none() {
                    return Ok(());
                },
            }
        }
        Ok(())
    }

    /// Waits until workers have nothing of some assignments. What stands ready is to be held.
    async fn settle_workers_of(&mut self, serials: &[u64]) -> Result<(), Trouble> {
        while self.lanes.has(|lane| serials.contains(&lane.serial())) {
            tokio::select! {
                biased;
                Some(report) = self.reports.recv() => {
                    self.reported(report).await?;
                    // A worker may have given something back.
                    self.give_up_ahead(serials);
                }
                ended = self.workers.join_next() => if ended.is_none() {
                    return Ok(());
                },
            }
        }
        Ok(())
    }

    /// How many turns workers have.
    fn with_workers(&self) -> usize {
        self.lanes.under_way().saturating_sub(self.ahead.len())
    }
}

/// Waits until it is said. When nobody is left who could say it, it counts as said.
async fn told(stop: &mut watch::Receiver<bool>) {
    drop(stop.wait_for(|stop| *stop).await);
}

/// Waits until it was said so long ago.
async fn overdue(stop: &mut watch::Receiver<bool>, ago: Duration) {
    told(stop).await;
    tokio::time::sleep(ago).await;
}

/// A task of the service has ended in a way that none should.
fn task_ended(error: &JoinError) -> Trouble {
    Trouble::Broken(format!("a task of the service has ended: {error}"))
}

/// Waits until then; without a time for ever.
async fn again(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}
