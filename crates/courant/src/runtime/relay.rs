//! The relay: from the outbox into the engine, in the order of each lane.
//!
//! What the engine has taken is taken out of the outbox afterwards. A crash between the two publishes it
//! again under the same id.

use std::collections::BTreeMap;
use std::sync::Arc;

use courant_sql::{AdvanceError, LaneBatch, LanePosition, NewEvent, Pending, RelayLease, Store};
use tracing::{error, warn};

use super::context::Context;
use super::faults::FaultPoint;
use super::ledger::Trouble;
use super::passing::{Bad, Pause};

/// One relay for everything.
const SHARD: &str = "all";

/// Events of one lane that are published at once.
const EVENTS_PER_LANE: u32 = 100;

/// Bytes that are published at once.
const BYTES_MAX: u64 = 4 * 1024 * 1024;

/// How long the relay sleeps when nobody wakes it: a wake-up that is lost costs time, not events.
const LOOK: std::time::Duration = std::time::Duration::from_secs(1);

/// Publishes what is in the outbox until the service ends. Comes back only with what does not pass by
/// itself.
pub(crate) async fn run<D: Store>(store: D, context: Arc<Context>) -> Trouble {
    let mut pause = Pause::new();
    let lease = loop {
        match store.take_over_relay(SHARD, &context.owner, context.time.now_ms()).await {
            Ok(lease) => break lease,
            Err(error) => match pause.or_trouble(Bad::from(error)).await {
                Ok(()) => {}
                Err(trouble) => return trouble,
            },
        }
    };
    let mut relay = Relay { store, context, lease, first_lane: 0 };
    loop {
        match relay.step().await {
            Ok(Step::Published) => pause = Pause::new(),
            Ok(Step::Empty) => relay.rest().await,
            Ok(Step::Stuck) => pause.wait().await,
            Err(bad) => {
                if let Err(trouble) = pause.or_trouble(bad).await {
                    return trouble;
                }
            }
        }
    }
}

struct Relay<D> {
    store: D,
    context: Arc<Context>,
    lease: RelayLease,
    /// Where the next look begins, so that a full lane starves no other.
    first_lane: u16,
}

enum Step {
    Published,
    Empty,
    /// The engine takes nothing now.
    Stuck,
}

impl<D: Store> Relay<D> {
    async fn step(&mut self) -> Result<Step, Bad> {
        self.context.relay.update(|state| state.is_resting = false);
        let lanes = self.store.pending(self.first_lane, EVENTS_PER_LANE, BYTES_MAX).await?;
        let Some(last) = lanes.last() else { return Ok(Step::Empty) };
        self.first_lane = (last.lane + 1) % courant_sql::limits::LANES;
        let published = self.publish(&lanes).await;
        if published.is_empty() {
            return Ok(Step::Stuck);
        }
        self.context.activity.note();
        self.context.faults.reach(FaultPoint::AfterPublish).await;
        match self.store.advance(&self.lease, &published).await {
            Ok(()) => Ok(Step::Published),
            Err(AdvanceError::Fenced { .. }) => Err(Bad::Fenced),
            Err(AdvanceError::Store(error)) => Err(Bad::from(error)),
            Err(other) => Err(Bad::Broken(other.to_string())),
        }
    }

    /// Publishes; gives back how far each lane has come: up to the first event that was not taken.
    async fn publish(&self, lanes: &[LaneBatch]) -> Vec<LanePosition> {
        let pending: Vec<&Pending> = lanes.iter().flat_map(|lane| &lane.events).collect();
        let events: Vec<NewEvent> = pending.iter().map(|pending| pending.event.clone()).collect();
        let answers = match self.context.sender.send(events).await {
            Ok(answers) => answers,
            Err(error) => {
                warn!(%error, "the outbox waits: a topic cannot be created");
                return Vec::new();
            }
        };
        let mut reached: BTreeMap<u16, LanePosition> = BTreeMap::new();
        let mut stopped: Vec<u16> = Vec::new();
        for (pending, answer) in pending.into_iter().zip(answers) {
            let lane = pending.at.lane;
            match answer {
                Ok(_) if !stopped.contains(&lane) => {
                    reached.insert(lane, pending.at);
                }
                // Behind one that was not taken: it goes again, under the same id.
                Ok(_) => {}
                Err(refused) => {
                    if !stopped.contains(&lane) {
                        stopped.push(lane);
                        note_refusal(pending, &refused);
                    }
                }
            }
        }
        reached.into_values().collect()
    }

    /// Waits until there is more, or until it is time to look.
    async fn rest(&self) {
        self.context.relay.update(|state| state.is_resting = true);
        self.context.activity.note();
        tokio::select! {
            () = self.context.outbox_filled.notified() => {}
            () = tokio::time::sleep(LOOK) => {}
        }
    }
}

fn note_refusal(pending: &Pending, refused: &courant_engine::PublishError) {
    let (event, topic, lane) = (&pending.event.id, &pending.event.topic, pending.at.lane);
    if refused.is_passing() {
        warn!(%event, %topic, lane, %refused, "the outbox waits: the engine takes nothing now");
    } else {
        error!(%event, %topic, lane, %refused, "the engine refuses an event; what is behind it in its lane waits");
    }
}
