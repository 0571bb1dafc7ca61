//! The relay: from the outbox into the engine, in the order of each lane, and what other programs have
//! submitted into the outbox before.
//!
//! What the engine has taken is taken out of the outbox afterwards. A crash between the two publishes it
//! again under the same id. Of all relays of a store the one that has taken over last has the lease; the
//! others stand by, and take over when it is gone.

mod pace;
mod refusals;
mod shares;
mod stopped;
mod waking;

use std::collections::BTreeMap;
use std::future::pending;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use courant_core::clock::Clock;
use courant_core::entropy::Entropy;
use courant_sql::limits::{EVENT_BYTES_MAX, LANES};
use courant_sql::{LaneBatch, LanePosition, NewEvent, Pending, RelayLease, Sequencing, Store};
use tokio::sync::watch;
use tokio::time::Instant;
use tracing::{error, info, warn};

use self::pace::{Few, are_many, is_at_work};
use self::refusals::Refusals;
use self::shares::Shares;
use self::stopped::{Stopped, Why, not_created, refused as why_refused};
use self::waking::{Bell, longest_sleep, stopped, woken};
use super::context::Context;
use super::faults::FaultPoint;
use super::ledger::Trouble;
use super::passing::{Bad, Pause};
use super::timers::{Fired, fire_due};
use crate::outbox::FORMAT_BYTES;
use crate::publisher::Sender;

/// One relay for everything.
const SHARD: &str = "all";

/// Events of one lane that are published at once.
const EVENTS_PER_LANE: u32 = 100;

/// Bytes that are published at once, and that are taken in at once.
const BYTES_MAX: u64 = 4 * 1024 * 1024;

/// Submitted rows that are taken in at once.
const ROWS_MAX: u32 = 1000;

/// After so many batches in a row, or a large one, nobody has to wake the relay.
const BUSY: u32 = 3;

/// How long the relay of a service sleeps when nobody wakes it: a wake-up that is lost costs time, not
/// events.
const LOOK: Duration = Duration::from_secs(1);

/// When timers are looked at again that are just being cancelled or replaced.
const HELD_MS: i64 = 100;

/// How often a relay shows that it is there, and one that stands by looks.
const KEEP: Duration = Duration::from_secs(2);

/// A relay that has not shown itself for so long is gone. It is measured by whoever stands by, on a clock
/// of its own: no two clocks are compared.
const GONE: Duration = Duration::from_secs(8);

/// Publishes what is in the outbox until the service ends. Comes back only with what does not pass by
/// itself.
pub(crate) async fn run<D: Store>(store: D, context: Arc<Context>) -> Trouble {
    let parts = Parts {
        owner: context.owner.clone(),
        sender: context.sender.clone(),
        clock: context.time.clone(),
        entropy: context.entropy.clone(),
        look: LOOK,
        stop: None,
        service: Some(context),
    };
    match Relay::new(store, parts).run().await {
        Some(trouble) => trouble,
        // Nobody tells it to: it ends with its task.
        None => pending().await,
    }
}

/// What a relay works with besides its store.
pub(crate) struct Parts {
    /// Who it is, for people.
    pub(crate) owner: String,
    pub(crate) sender: Sender,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) entropy: Arc<dyn Entropy>,
    /// How long it sleeps at most.
    pub(crate) look: Duration,
    /// Tells it to end when what it has begun is done.
    pub(crate) stop: Option<watch::Receiver<bool>>,
    /// The service that it belongs to; without one it moves timers as well.
    pub(crate) service: Option<Arc<Context>>,
}

/// What a relay has done so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Done {
    pub(crate) published: u64,
    pub(crate) refused: u64,
}

pub(crate) struct Relay<D> {
    store: D,
    parts: Parts,
    lease: RelayLease,
    /// When the database was told last that the relay is there, and whether it is to be woken.
    kept: Instant,
    is_resting: bool,
    /// When it was told last that from then on it is.
    rests_since: Option<Instant>,
    bell: Bell,
    /// What was published last, if that were few events, and how many batches there were since the last rest.
    few: Option<Few>,
    busy: u32,
    /// Where the next look begins, so that a full lane starves no other.
    first_lane: u16,
    /// Lanes whose next event was not taken.
    stopped: Stopped,
    shares: Shares,
    refusals: Refusals,
    /// When the next timer is due, where the relay moves them.
    next_timer_ms: Option<i64>,
    done: Done,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Published,
    Empty,
    /// The engine takes nothing now.
    Stuck,
}

impl<D: Store> Relay<D> {
    pub(crate) fn new(store: D, parts: Parts) -> Self {
        // Its refusals have lines of their own, which name the event.
        let waiting = parts.service.as_ref().map(|context| context.stalls.unlogged(None));
        Self {
            store,
            parts,
            // Nobody's, until one is taken.
            lease: RelayLease { shard: SHARD.to_owned(), epoch: 0 },
            kept: Instant::now(),
            is_resting: false,
            rests_since: None,
            bell: Bell::default(),
            few: None,
            busy: 0,
            first_lane: 0,
            stopped: Stopped::new(waiting),
            shares: Shares::default(),
            refusals: Refusals::new(),
            next_timer_ms: None,
            done: Done::default(),
        }
    }

    /// What it has done so far.
    pub(crate) fn done(&self) -> Done {
        self.done
    }

    /// Relays, or stands by while another one does, until something is wrong that does not pass by itself.
    /// `None` when it was told to end.
    pub(crate) async fn run(&mut self) -> Option<Trouble> {
        loop {
            if let Err(trouble) = self.take_over().await {
                return Some(trouble);
            }
            match self.hold().await {
                Some(Trouble::Fenced) => {}
                ended => return ended,
            }
            warn!("another relay has taken the outbox over; this one stands by");
            self.told(None);
            self.tell(true);
            self.stopped.clear();
            self.bell = Bell::default();
            match self.stand_by().await {
                Ok(true) => info!("the relay of the outbox is gone; this one takes over"),
                Ok(false) => return None,
                Err(trouble) => return Some(trouble),
            }
        }
    }

    /// Relays until nothing is left, and says whether that was so: `false` when the engine has taken
    /// nothing for `patience`.
    pub(crate) async fn drain(&mut self, patience: Duration) -> Result<bool, Trouble> {
        self.take_over().await?;
        let (mut pause, mut since) = (Pause::new(), Instant::now());
        while !self.is_stopped() {
            match self.step().await {
                Ok(Step::Published) => (pause, since) = (Pause::new(), Instant::now()),
                Ok(Step::Empty) => return Ok(true),
                Ok(Step::Stuck) if since.elapsed() >= patience => return Ok(false),
                Ok(Step::Stuck) => pause.wait().await,
                Err(bad) if since.elapsed() >= patience => return Err(Trouble::from(bad)),
                Err(bad) => pause.or_trouble(bad).await?,
            }
        }
        Ok(true)
    }

    /// In a service it says that the outbox waits for the store, while it does.
    fn pause(&self) -> Pause {
        let waiting = |context: &Arc<Context>| Pause::of(context.stalls.waiting(None));
        self.parts.service.as_ref().map_or_else(Pause::new, waiting)
    }

    async fn take_over(&mut self) -> Result<(), Trouble> {
        let mut pause = self.pause();
        while !self.is_stopped() {
            let now_ms = self.parts.clock.now_ms();
            match self.store.take_over_relay(SHARD, &self.parts.owner, now_ms).await {
                Ok(lease) => {
                    (self.lease, self.kept, self.is_resting) = (lease, Instant::now(), false);
                    self.told(Some(self.lease.clone()));
                    return Ok(());
                }
                Err(error) => pause.or_trouble(Bad::from(error)).await?,
            }
        }
        Ok(())
    }

    /// Relays under its lease. `None` when it was told to end.
    async fn hold(&mut self) -> Option<Trouble> {
        let mut pause = self.pause();
        while !self.is_stopped() {
            let done = match self.step().await {
                Ok(Step::Published) => {
                    pause = self.pause();
                    Ok(())
                }
                Ok(Step::Empty) => {
                    pause.goes_on();
                    self.rest().await
                }
                Ok(Step::Stuck) => {
                    pause.goes_on();
                    pause.wait().await;
                    self.keep(self.is_resting).await
                }
                Err(bad) => Err(bad),
            };
            if let Err(bad) = done
                && let Err(trouble) = pause.or_trouble(bad).await
            {
                return Some(trouble);
            }
        }
        None
    }

    /// Waits until the relay that has the lease is gone; `false` when it was told to end.
    async fn stand_by(&mut self) -> Result<bool, Trouble> {
        let mut pause = self.pause();
        let (mut seen, mut since) = (None, Instant::now());
        while !self.is_stopped() {
            tokio::select! {
                () = tokio::time::sleep(KEEP) => {}
                () = stopped(self.parts.stop.as_mut()) => return Ok(false),
            }
            match self.store.relay(SHARD).await {
                Ok(state) if state == seen && since.elapsed() >= GONE => return Ok(true),
                Ok(state) => {
                    pause.goes_on();
                    if state != seen {
                        (seen, since) = (state, Instant::now());
                    }
                }
                Err(error) => {
                    // It may have shown itself meanwhile.
                    pause.or_trouble(Bad::from(error)).await?;
                    since = Instant::now();
                }
            }
        }
        Ok(false)
    }

    async fn step(&mut self) -> Result<Step, Bad> {
        self.tell(false);
        let took_in = self.take_in().await?;
        let lanes = self.read().await?;
        let Some(last) = lanes.last() else {
            self.stopped.clear();
            return Ok(if took_in { Step::Published } else { Step::Empty });
        };
        self.first_lane = (last.lane + 1) % LANES;
        let (fills, begun) = (self.fills(), Instant::now());
        // A relay that was stopped for long hears here that it is not the relay any more.
        self.keep(self.is_resting && self.busy < BUSY && !are_many(&lanes)).await?;
        let (published, events, stopped) = self.publish_and_keep(&lanes).await;
        self.stopped.heard(&lanes, stopped);
        if published.is_empty() {
            return Ok(Step::Stuck);
        }
        if let Some(context) = &self.parts.service {
            context.activity.note();
            context.faults.reach(FaultPoint::AfterPublish).await;
        }
        self.store.advance(&self.lease, &published).await?;
        let is_at_work = is_at_work(self.fills().saturating_sub(fills));
        self.few = Few::of(&lanes, is_at_work.then(|| begun.elapsed()));
        self.busy = self.busy.saturating_add(1);
        self.done.published += events;
        if is_at_work {
            self.busy = self.busy.max(BUSY);
            self.keep(false).await?;
        }
        Ok(Step::Published)
    }

    /// How often the service has written into the outbox so far.
    fn fills(&self) -> u64 {
        self.parts.service.as_ref().map_or(0, |context| context.outbox_fills.load(Ordering::Relaxed))
    }

    /// Takes in what other programs have submitted, and what was to come at this time. Whether there was
    /// anything.
    async fn take_in(&mut self) -> Result<bool, Bad> {
        let now_ms = self.parts.clock.now_ms();
        let mut took_in = false;
        if self.parts.service.is_none() {
            match fire_due(&self.store, &self.lease, now_ms).await? {
                Fired::Some => took_in = true,
                Fired::Held => self.next_timer_ms = Some(now_ms.saturating_add(HELD_MS)),
                Fired::None { next_ms } => self.next_timer_ms = next_ms,
            }
        }
        let record_bytes_max = self.parts.sender.engine.capabilities().record_bytes_max;
        let sequencing = Sequencing {
            entropy: &*self.parts.entropy,
            rows_max: ROWS_MAX,
            bytes_max: BYTES_MAX,
            event_bytes_max: record_bytes_max.saturating_sub(FORMAT_BYTES).min(EVENT_BYTES_MAX),
        };
        let sequenced = self.store.sequence(&self.lease, &sequencing, now_ms).await?;
        for (row, reason) in &sequenced.refused {
            error!(row, reason, "a submitted row can be no event; it is in courant_outbox_refused");
        }
        self.done.refused += sequenced.refused.len() as u64;
        Ok(took_in || !sequenced.is_empty())
    }

    /// What waits. A few events that come quickly after a few others wait for more.
    async fn read(&self) -> Result<Vec<LaneBatch>, Bad> {
        let early = self.few.filter(|_| self.is_paced()).map_or(Duration::ZERO, Few::early);
        if !early.is_zero() {
            tokio::time::sleep(early).await;
        }
        self.pending().await
    }

    /// A world with a clock of its own waits for no machine.
    fn is_paced(&self) -> bool {
        !self.parts.service.as_ref().is_some_and(|context| context.faults.is_armable())
    }

    async fn pending(&self) -> Result<Vec<LaneBatch>, Bad> {
        Ok(self.store.pending(self.first_lane, EVENTS_PER_LANE, BYTES_MAX).await?)
    }

    /// Publishes, and shows meanwhile that the relay is there: an engine that is away takes its time.
    async fn publish_and_keep(&self, lanes: &[LaneBatch]) -> (Vec<LanePosition>, u64, BTreeMap<u16, Why>) {
        let mut publishing = pin!(self.publish(lanes));
        loop {
            tokio::select! {
                biased;
                published = &mut publishing => return published,
                () = tokio::time::sleep(KEEP) => {}
            }
            // If it is not the relay any more, moving the lanes on says so.
            if let Err(error) = self.store.keep_relay(&self.lease, self.is_resting).await {
                warn!(%error, "the relay cannot show that it is there");
            }
        }
    }

    /// Publishes; gives back how far each lane has come, up to the first event that was not taken, how many
    /// events that are, and the lanes that were stopped. Such a lane goes on with one event: what is behind
    /// it may be in the engine already, and would come again with every try, or must not overtake it.
    async fn publish(&self, lanes: &[LaneBatch]) -> (Vec<LanePosition>, u64, BTreeMap<u16, Why>) {
        self.shares.learn(&*self.parts.sender.engine, lanes).await;
        let is_stopped = |lane: &LaneBatch| self.stopped.contains(lane.lane);
        let now_ms = self.parts.clock.now_ms();
        let most = |lane: &LaneBatch| if is_stopped(lane) { 1 } else { self.shares.of(lane, now_ms) };
        let pending: Vec<&Pending> =
            lanes.iter().flat_map(|lane| lane.events.iter().take(most(lane))).collect();
        let events: Vec<NewEvent> = pending.iter().map(|pending| pending.event.clone()).collect();
        let answers = match self.parts.sender.send(events).await {
            Ok(answers) => answers,
            Err(error) => {
                self.refusals.note_topic(&error, self.parts.clock.elapsed_ms());
                let why = not_created(&error);
                return (Vec::new(), 0, pending.iter().map(|one| (one.at.lane, why.clone())).collect());
            }
        };
        let mut reached: BTreeMap<u16, LanePosition> = BTreeMap::new();
        let mut stopped = BTreeMap::new();
        let mut taken = 0;
        for (pending, answer) in pending.into_iter().zip(answers) {
            let lane = pending.at.lane;
            match answer {
                Ok(_) if !stopped.contains_key(&lane) => {
                    reached.insert(lane, pending.at);
                    taken += 1;
                }
                // Behind one that was not taken: it goes again, under the same id.
                Ok(_) => {}
                Err(refused) => {
                    if !refused.is_passing() {
                        self.shares.forget(&pending.event.topic);
                    }
                    stopped.entry(lane).or_insert_with(|| {
                        self.refusals.note(pending, &refused, self.parts.clock.elapsed_ms());
                        why_refused(pending, &refused)
                    });
                }
            }
        }
        (reached.into_values().collect(), taken, stopped)
    }

    /// Waits until there is more, or until it is time to look.
    async fn rest(&mut self) -> Result<(), Bad> {
        self.busy = 0;
        let is_new = self.bell.listen(&self.store).await;
        if self.bell.can_ring() && (is_new || !self.is_resting) {
            // Whoever has written before this wakes nobody: there is one more look, and a later one for those who have
            // not committed by then.
            self.keep(true).await?;
            self.rests_since = Some(Instant::now());
            return Ok(());
        }
        self.keep(self.is_resting).await?;
        self.tell(true);
        let now_ms = self.parts.clock.now_ms();
        let until_timer = self.next_timer_ms.map(|due_ms| u64::try_from(due_ms - now_ms).unwrap_or_default());
        let look = longest_sleep(self.parts.look, self.rests_since.map(|since| since.elapsed()));
        let look = until_timer.map_or(look, |ms| look.min(Duration::from_millis(ms)));
        tokio::select! {
            () = woken(self.parts.service.as_deref()) => {}
            () = self.bell.rung() => {}
            () = stopped(self.parts.stop.as_mut()) => {}
            () = tokio::time::sleep(look.max(Duration::from_millis(1))) => {}
        }
        Ok(())
    }

    /// Shows that the relay is there, if that is due, and whether it is to be woken.
    async fn keep(&mut self, is_resting: bool) -> Result<(), Bad> {
        if self.is_resting == is_resting && self.kept.elapsed() < KEEP {
            return Ok(());
        }
        self.store.keep_relay(&self.lease, is_resting).await?;
        (self.kept, self.is_resting) = (Instant::now(), is_resting);
        Ok(())
    }

    fn is_stopped(&self) -> bool {
        self.parts.stop.as_ref().is_some_and(|stop| *stop.borrow())
    }

    /// Tells the service whose lease it is.
    fn told(&self, lease: Option<RelayLease>) {
        if let Some(context) = &self.parts.service {
            context.timers.relays(lease);
        }
    }

    /// Tells the service whether there is anything to do.
    fn tell(&self, is_resting: bool) {
        if let Some(context) = &self.parts.service {
            context.relay.update(|state| state.is_resting = is_resting);
            if is_resting {
                context.activity.note();
            }
        }
    }
}
