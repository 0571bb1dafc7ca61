//! What says how the service is: at the start, when something has changed, and now and then.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use courant_core::event_id::EventId;
use courant_core::headers;
use courant_core::operations::{
    DeadState, FailureState, ParkedState, PartitionState, RequestsState, SERVICES, STATE_VERSION,
    ServiceState, StallState, SubscriptionState, failure_name,
};
use courant_core::position::TopicPartition;
use courant_core::topic::TopicName;
use courant_engine::{Partition, ReadBack};
use courant_sql::{Consumer, DeadGroup, NewEvent, ParkedCounts};
use tokio::sync::Mutex;
use tokio::time::Instant;
use tracing::{debug, warn};
use uuid::Uuid;

use super::desk::Counts;
use super::facts::{Facts, Looked, Reading};
use super::open::Described;
use crate::runtime::{Context, State, Status, after};

/// How often the service looks whether something has changed.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Longest time between two states.
const HEARTBEAT_MS: i64 = 10_000;

/// Shortest time between two of them, whatever has changed. A store that takes long to tell is asked less
/// often: it is busy so for 5 % of the time at most.
const CHANGES_MS: i64 = 2_000;

/// How long one state waits for the one before it to reach the engine, before it asks again.
const HELD: Duration = Duration::from_millis(250);
const BUSY_PARTS: i64 = 20;

/// How long a state is not sent because the one before it has not left yet.
const BEHIND_MS: i64 = 300_000;

/// How long the engine may take to say where partitions end.
const ENGINE_MAX: Duration = Duration::from_secs(5);

/// How long the service waits at its end until everybody can know that.
const LEAVE_MAX: Duration = Duration::from_secs(2);

/// Partitions that one state tells of.
const PARTITIONS_MAX: usize = 1_000;

/// Stalls that one state tells of.
const STALLS_MAX: usize = 100;

/// A subscription that is told of.
pub(super) struct Announced {
    pub(super) described: Described,
    pub(super) topics: Vec<String>,
    pub(super) status: Arc<Status>,
}

/// The channel of one instance.
pub(crate) struct Channel {
    context: Arc<Context>,
    facts: Arc<dyn Facts>,
    announced: Vec<Announced>,
    consumers: Vec<Reading>,
    /// `None`: it takes no requests.
    counts: Option<Arc<Counts>>,
    instance: Uuid,
    started_ms: i64,
    status: Status,
    said: Mutex<Said>,
}

/// What was said last.
#[derive(Default)]
struct Said {
    /// How much was said.
    number: u64,
    at_ms: Option<i64>,
    /// Nothing is said before, unless for the first time.
    not_before_ms: i64,
    seen: Seen,
    has_left: bool,
}

/// By what a change is noticed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Seen {
    marks: Vec<Mark>,
    failures: u64,
    /// How often something has stood still or gone on.
    stalls: u64,
}

/// By what a change of a subscription is noticed.
type Mark = (Vec<TopicPartition>, u64, bool);

impl Channel {
    pub(super) fn new(
        context: Arc<Context>,
        facts: Arc<dyn Facts>,
        announced: Vec<Announced>,
        counts: Option<Arc<Counts>>,
    ) -> Self {
        let reading = |one: &Announced| Reading {
            consumer: one.described.consumer.clone(),
            topics: one.described.topics.clone(),
        };
        let consumers = announced.iter().map(reading).collect();
        // The owner's name ends with what nobody else has.
        let said = context.owner.rsplit(' ').next().and_then(|id| id.parse().ok());
        let instance = said.unwrap_or_else(|| Uuid::new_v5(&Uuid::NAMESPACE_OID, context.owner.as_bytes()));
        let started_ms = context.time.now_ms();
        Self {
            context,
            facts,
            announced,
            consumers,
            counts,
            instance,
            started_ms,
            status: Status::default(),
            said: Mutex::default(),
        }
    }

    /// Says how the service is until it ends. Never comes back.
    pub(crate) async fn run<R>(&self) -> R {
        loop {
            self.status.update(|state| state.is_resting = false);
            // Before the look: the clock may move on meanwhile.
            let due_ms = after(self.context.time.now_ms(), LOOK_EVERY);
            if self.turn().await == Turn::Held {
                // The engine takes its time, which no clock of a test knows.
                tokio::time::sleep(HELD).await;
                continue;
            }
            self.status.update(|state| {
                state.is_resting = true;
                state.due_ms = Some(due_ms);
            });
            self.context.activity.note();
            self.context.time.sleep_until(due_ms).await;
        }
    }

    /// Nothing is to be said before the clock moves on.
    pub(crate) fn is_quiet(&self) -> bool {
        self.status.get().is_quiet(self.context.time.now_ms())
    }

    /// Says that the service has ended in order: there is no such instance any more.
    pub(crate) async fn leave(&self) {
        let left = tokio::time::timeout(LEAVE_MAX, async {
            let mut said = self.said.lock().await;
            said.has_left = true;
            if said.at_ms.is_none() {
                return;
            }
            let event = self.event(said.number, self.context.time.now_ms(), None);
            match event.map(|event| self.facts.send(event)) {
                Some(sending) => match sending.await {
                    Ok(()) => self.facts.until_left().await,
                    Err(reason) => debug!(reason, "nobody is told that the instance has ended"),
                },
                None => debug!("nobody is told that the instance has ended"),
            }
        });
        if left.await.is_err() {
            debug!("the instance ends before everybody can know; its last state says when it was seen");
        }
    }

    /// Says how the service is, if it is time to.
    async fn turn(&self) -> Turn {
        let mut said = self.said.lock().await;
        let now_ms = self.context.time.now_ms();
        let seen = self.seen();
        if said.has_left || !said.is_due(now_ms, &seen) {
            return Turn::Over;
        }
        let Some(probe) = self.event(said.number, now_ms, None) else { return Turn::Over };
        // What waits for the engine is not made more by what is old when it arrives.
        let is_behind = said.at_ms.is_some_and(|at_ms| now_ms.saturating_sub(at_ms) < BEHIND_MS);
        if is_behind && !self.facts.has_left(&probe).await {
            return Turn::Held;
        }
        // What it costs is the machine's time, whatever a test's clock says.
        let began = Instant::now();
        let state = self.state(now_ms).await;
        let pause_ms =
            i64::try_from(began.elapsed().as_millis()).unwrap_or(i64::MAX).saturating_mul(BUSY_PARTS);
        said.not_before_ms = now_ms.saturating_add(pause_ms.max(CHANGES_MS));
        let value = match serde_json::to_vec(&state) {
            Ok(value) => Bytes::from(value),
            Err(error) => {
                warn!(%error, "how the service is cannot be written");
                return Turn::Over;
            }
        };
        match self.facts.send(NewEvent { value: Some(value), ..probe }).await {
            Ok(()) => {
                let has_left = said.has_left;
                let (number, not_before_ms) = (said.number + 1, said.not_before_ms);
                *said = Said { number, at_ms: Some(now_ms), not_before_ms, seen, has_left };
            }
            Err(reason) => debug!(reason, "nobody is told how the service is; it is tried again"),
        }
        Turn::Over
    }

    fn seen(&self) -> Seen {
        let mark = |one: &Announced| -> Mark {
            let state = one.status.get();
            (state.next.into_keys().collect(), state.decisions, state.is_full)
        };
        Seen {
            marks: self.announced.iter().map(mark).collect(),
            failures: self.context.activity.failures(),
            stalls: self.context.stalls.changes(),
        }
    }

    async fn state(&self, now_ms: i64) -> ServiceState {
        let looked = self.facts.look(&self.consumers).await;
        let mut subscriptions = Vec::with_capacity(self.announced.len());
        let mut room = PARTITIONS_MAX;
        for (index, one) in self.announced.iter().enumerate() {
            let state = one.status.get();
            let partitions = self.partitions(&state, room, now_ms).await;
            room = room.saturating_sub(partitions.len());
            subscriptions.push(subscription(one, &looked, index, &state, partitions));
        }
        let requests = self.counts.as_ref().map(|counts| RequestsState {
            applied: counts.applied.load(Ordering::Relaxed),
            refused: counts.refused.load(Ordering::Relaxed),
        });
        ServiceState {
            version: STATE_VERSION,
            service: self.context.service.to_string(),
            instance: self.instance.to_string(),
            code_version: self.context.version.clone(),
            courant_version: env!("CARGO_PKG_VERSION").to_owned(),
            engine: self.context.engine.kind().to_owned(),
            store: self.facts.store().map(str::to_owned),
            operations: self.counts.is_some(),
            started_ms: self.started_ms,
            seen_ms: now_ms,
            heartbeat_ms: HEARTBEAT_MS,
            outbox: looked.outbox,
            requests: requests.unwrap_or_default(),
            subscriptions,
            stalls: self.stalls(),
        }
    }

    /// What does not go on: not what was said of it, which may be somebody's data.
    fn stalls(&self) -> Vec<StallState> {
        let stalls = self.context.stalls.all().into_iter().take(STALLS_MAX);
        let told = stalls.map(|stall| StallState {
            consumer: stall.consumer,
            reason: stall.reason.as_str().to_owned(),
            topic: stall.topic,
            partition: stall.partition,
            since_ms: stall.since_ms,
            times: stall.times,
        });
        told.collect()
    }

    /// How far behind a subscription is in each of its partitions.
    async fn partitions(&self, state: &State, room: usize, now_ms: i64) -> Vec<PartitionState> {
        let mine: Vec<(&TopicPartition, u64)> =
            state.low_water.iter().take(room).map(|(partition, next)| (partition, *next)).collect();
        let engine = &self.context.engine;
        let named: Vec<Partition> = mine.iter().map(|(partition, _)| Partition::from(*partition)).collect();
        let ends = tokio::time::timeout(ENGINE_MAX, engine.ends(named.clone())).await.unwrap_or_default();
        let mut ends = ends.into_iter();
        let mut told = Vec::with_capacity(mine.len());
        let mut behind = Vec::new();
        for (index, (partition, next)) in mine.into_iter().enumerate() {
            let end = ends.next().and_then(Result::ok).map(|ends| ends.end);
            let lag_events = end.map(|end| end.saturating_sub(next));
            if lag_events.is_some_and(|lag| lag > 0) {
                behind.push((index, named[index].at(next)));
            }
            told.push(PartitionState {
                topic: partition.topic.to_string(),
                partition: partition.partition,
                next,
                missed: state.missed.get(partition).copied().unwrap_or_default(),
                end,
                lag_events,
                lag_seconds: lag_events.filter(|lag| *lag == 0),
            });
        }
        let (indices, positions): (Vec<usize>, Vec<_>) = behind.into_iter().unzip();
        if positions.is_empty() {
            return told;
        }
        let read = tokio::time::timeout(ENGINE_MAX, engine.read(positions)).await.unwrap_or_default();
        for (index, read) in indices.into_iter().zip(read) {
            if let (Ok(ReadBack::Found(record)), Some(partition)) = (read, told.get_mut(index)) {
                let age_ms = (record.timestamp_ms >= 0).then(|| now_ms.saturating_sub(record.timestamp_ms));
                partition.lag_seconds =
                    age_ms.map(|age_ms| u64::try_from(age_ms / 1_000).unwrap_or_default());
            }
        }
        told
    }

    /// A state as an event; without a value it says that the instance has ended. `None` never comes: the
    /// topic has a legal name.
    fn event(&self, number: u64, now_ms: i64, value: Option<Bytes>) -> Option<NewEvent> {
        let id = EventId::from(Uuid::new_v5(&self.instance, &number.to_le_bytes()));
        let key = self.instance.to_string();
        let time = jiff::Timestamp::from_millisecond(now_ms).map(|time| time.to_string());
        let all = [
            (headers::ID, Some(id.to_string())),
            (headers::SOURCE, Some(self.context.service.to_string())),
            (headers::SPECVERSION, Some(headers::SPECVERSION_VALUE.to_owned())),
            (headers::TYPE, Some("courant.service".to_owned())),
            (headers::TIME, time.ok()),
            (headers::SUBJECT, Some(key.clone())),
            (headers::CONTENT_TYPE, Some("application/json".to_owned())),
        ];
        let headers = all
            .into_iter()
            .filter_map(|(name, value)| Some((name.to_owned(), Bytes::from(value?))))
            .collect();
        let topic = TopicName::new(SERVICES).ok()?;
        Some(NewEvent { id, topic, key: Some(Bytes::from(key)), value, headers, timestamp_ms: now_ms })
    }
}

/// What has become of one look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Turn {
    /// There is nothing more to say now.
    Over,
    /// What was said before has not reached the engine yet.
    Held,
}

impl Said {
    fn is_due(&self, now_ms: i64, seen: &Seen) -> bool {
        let Some(at_ms) = self.at_ms else { return true };
        // A clock that is set back puts nothing off.
        if now_ms < at_ms {
            return true;
        }
        let has_changed = self.seen != *seen;
        let is_old = now_ms.saturating_sub(at_ms) >= HEARTBEAT_MS;
        (has_changed || is_old) && now_ms >= self.not_before_ms
    }
}

fn subscription(
    one: &Announced,
    looked: &Looked,
    index: usize,
    state: &State,
    partitions: Vec<PartitionState>,
) -> SubscriptionState {
    let Described { consumer, event_types, policy, .. } = &one.described;
    let parked = looked.parked.get(index).copied().flatten();
    SubscriptionState {
        consumer: consumer.name.to_string(),
        generation: consumer.generation,
        topics: one.topics.clone(),
        event_types: event_types.clone(),
        policy: policy.clone(),
        passed: state.passed,
        full: state.is_full,
        parked: parked.as_ref().map(parked_state),
        dead: looked.failures.as_ref().map(|groups| dead_state(consumer, groups)),
        partitions,
    }
}

fn parked_state(counts: &ParkedCounts) -> ParkedState {
    ParkedState {
        // Each has one event at its head: the next attempt, or a dead letter.
        keys: counts.waiting.saturating_add(counts.blocking),
        events: counts.waiting.saturating_add(counts.queued),
        held: counts.blocking,
        next_due_ms: counts.next_due_ms,
    }
}

fn dead_state(consumer: &Consumer, groups: &[DeadGroup]) -> DeadState {
    let of_consumer = groups.iter().filter(|group| group.consumer == consumer.name);
    let failures: Vec<FailureState> = of_consumer
        .map(|group| FailureState {
            group: failure_name(group.consumer.as_str(), &group.kind, &group.place),
            error: group.kind.clone(),
            place: group.place.clone(),
            letters: group.events,
            oldest_ms: group.oldest_ms,
            newest_ms: group.newest_ms,
        })
        .collect();
    DeadState { letters: failures.iter().map(|failure| failure.letters).sum(), failures }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(at_ms: i64) -> Said {
        Said { at_ms: Some(at_ms), not_before_ms: at_ms + CHANGES_MS, ..Said::default() }
    }

    #[test]
    fn changes_are_said_soon_and_everything_now_and_then() {
        let (same, failed) = (Seen::default(), Seen { failures: 1, ..Seen::default() });
        assert!(Said::default().is_due(0, &same), "for the first time");
        let said = said(100_000);
        assert!(!said.is_due(100_000, &failed), "too soon after the last one");
        assert!(said.is_due(102_000, &failed));
        assert!(said.is_due(102_000, &Seen { stalls: 1, ..Seen::default() }));
        for mark in [(Vec::new(), 1, false), (Vec::new(), 0, true)] {
            assert!(said.is_due(102_000, &Seen { marks: vec![mark], ..Seen::default() }));
        }
        assert!(!said.is_due(102_000, &same), "nothing has changed");
        assert!(said.is_due(110_000, &same));
        assert!(said.is_due(99_999, &same), "the clock was set back");
    }

    #[test]
    fn a_parked_key_counts_once() {
        let counts = ParkedCounts { waiting: 2, queued: 5, blocking: 1, next_due_ms: Some(7) };
        let expected = ParkedState { keys: 3, events: 7, held: 1, next_due_ms: Some(7) };
        assert_eq!(parked_state(&counts), expected);
    }
}
