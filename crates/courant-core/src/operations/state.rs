//! On disk: what a service says of itself in the topic `_courant.services`, as JSON. Fields are added and
//! never change their meaning; the page is `docs/formats/services.md`.
//!
//! No payload, no key of an event and no text of an error is in it: those may be somebody's data.

use serde::{Deserialize, Serialize};

/// The version that is written and read here.
pub const STATE_VERSION: u32 = 1;

/// What one instance of a service says of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServiceState {
    /// Of the format: 1.
    pub version: u32,
    /// The name of the service.
    pub service: String,
    /// Which of its instances; the key of the event as well.
    pub instance: String,
    /// The version of the service.
    pub code_version: String,
    /// The version of Courant in it.
    pub courant_version: String,
    /// The kind of engine that it runs on.
    pub engine: String,
    /// The kind of store; `None` without one.
    pub store: Option<String>,
    /// It takes requests.
    pub operations: bool,
    /// When it has started, in milliseconds since 1970.
    pub started_ms: i64,
    /// When this was written.
    pub seen_ms: i64,
    /// How long it takes at most until the next state is written, unless the instance has ended.
    pub heartbeat_ms: i64,
    /// Events that wait in the outbox, those of other instances on the same store among them; `None`
    /// without a store, or when it does not say.
    pub outbox: Option<u64>,
    /// Requests so far.
    pub requests: RequestsState,
    /// Its subscriptions.
    pub subscriptions: Vec<SubscriptionState>,
    /// What does not go on in this instance, at most 100.
    #[serde(default)]
    pub stalls: Vec<StallState>,
}

/// Something that does not go on, and is tried again.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StallState {
    /// The consumer that waits; `None`: the outbox does, or what is scheduled.
    pub consumer: Option<String>,
    /// Why: one of [`STALL_REASONS`], or a word of a later version.
    pub reason: String,
    /// The topic that it is about.
    pub topic: Option<String>,
    /// Its partition.
    pub partition: Option<u32>,
    /// Since when, in milliseconds since 1970.
    pub since_ms: i64,
    /// How often it was tried since then.
    pub times: u64,
}

/// The words for why something does not go on.
pub const STALL_REASONS: [&str; 15] = [
    "refused",
    "no_topic",
    "engine_away",
    "engine_full",
    "engine_failed",
    "unreadable",
    "not_taken_over",
    "taken_elsewhere",
    "progress_unkept",
    "event_fails",
    "store_away",
    "store_full",
    "store_files",
    "store_reads_only",
    "in_doubt",
];

/// Requests that an instance has seen since it started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RequestsState {
    /// Those that it has followed.
    pub applied: u64,
    /// Those that it has refused: expired, badly signed, or no requests at all.
    pub refused: u64,
}

/// One subscription.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SubscriptionState {
    /// The name of the consumer.
    pub consumer: String,
    /// Its generation.
    pub generation: u32,
    /// The topics that it reads.
    pub topics: Vec<String>,
    /// The types of events that it handles.
    pub event_types: Vec<String>,
    /// What happens to its events.
    pub policy: PolicyState,
    /// Events of other types that were passed since the start.
    pub passed: u64,
    /// What is parked, for all instances; `None` without a store, or when it does not say.
    pub parked: Option<ParkedState>,
    /// As many events are parked as may be, so this instance reads nothing more of its partitions.
    #[serde(default)]
    pub full: bool,
    /// What is dead, for all instances; `None` without a store, or when it does not say.
    pub dead: Option<DeadState>,
    /// The partitions that this instance has, at most 1,000.
    pub partitions: Vec<PartitionState>,
}

/// How a subscription treats its events.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PolicyState {
    /// `once`: effects take place once. `at_least_once`: they may repeat.
    pub effects: String,
    /// Events that are handled at once.
    pub concurrency: u64,
    /// Attempts that an event has.
    pub attempts: u32,
    /// What happens after the last one: `park_key`, `dead_letter`, `block` or `skip`.
    pub exhausted: String,
    /// How long a handler may take.
    pub timeout_ms: u64,
    /// Events that may be parked; 0 without a store, and from versions that do not say.
    #[serde(default)]
    pub parked_max: u64,
}

/// What is parked of a consumer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ParkedState {
    /// Keys that are set aside. Each event without a key that waits for its next attempt counts as one.
    pub keys: u64,
    /// Events that wait: for their next attempt, or behind another of their key.
    pub events: u64,
    /// Keys that wait for somebody to decide about a dead letter.
    pub held: u64,
    /// The next attempt of all, in milliseconds since 1970.
    pub next_due_ms: Option<i64>,
}

/// Dead letters that nobody has decided about.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeadState {
    /// How many, as far as the failures below tell.
    pub letters: u64,
    /// By error and place, the largest first, at most 100.
    pub failures: Vec<FailureState>,
}

/// Dead letters with the same error from the same place.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FailureState {
    /// The short name that `courant dlq` gives it.
    pub group: String,
    /// The error's type.
    pub error: String,
    /// Where it came from.
    pub place: String,
    /// How many.
    pub letters: u64,
    /// The last failure of the one that has waited longest, in milliseconds since 1970.
    pub oldest_ms: i64,
    /// The newest one's.
    pub newest_ms: i64,
}

/// A partition, and how far behind the consumer is in it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartitionState {
    /// The topic.
    pub topic: String,
    /// Its number.
    pub partition: u32,
    /// The first offset that is not done with.
    pub next: u64,
    /// Events before it that were never handled: retention has taken them, or damage.
    #[serde(default)]
    pub missed: u64,
    /// Where the partition ends; `None` when the engine does not say.
    pub end: Option<u64>,
    /// Offsets that are not done with; `None` when the engine does not say.
    pub lag_events: Option<u64>,
    /// The age of the oldest event that is not done with, 0 when there is none; `None` when the engine
    /// does not say, or the event has no time.
    pub lag_seconds: Option<u64>,
}

/// Why an event of the topic is not understood.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum UnreadableState {
    /// It is no state of a service.
    #[error("it is no state of a service: {0}")]
    Malformed(#[from] serde_json::Error),
    /// A newer version of Courant has written it.
    #[error("it is of version {version}, and this is for version {STATE_VERSION}; use a newer `courant`")]
    Newer {
        /// The version that it has.
        version: u32,
    },
}

impl ServiceState {
    /// Reads the value of an event.
    ///
    /// # Errors
    /// It is no state, or one of a later version.
    pub fn read(value: &[u8]) -> Result<Self, UnreadableState> {
        #[derive(Deserialize)]
        struct Versioned {
            version: u32,
        }
        let Versioned { version } = serde_json::from_slice(value)?;
        if version != STATE_VERSION {
            return Err(UnreadableState::Newer { version });
        }
        Ok(serde_json::from_slice(value)?)
    }

    /// How far behind it is: events of all its partitions together, and the oldest of them in seconds. What
    /// is unknown does not count.
    #[must_use]
    pub fn lag(&self) -> (u64, u64) {
        let partitions = self.subscriptions.iter().flat_map(|subscription| &subscription.partitions);
        partitions.fold((0, 0), |(events, seconds), partition| {
            let more = partition.lag_events.unwrap_or_default();
            (events.saturating_add(more), seconds.max(partition.lag_seconds.unwrap_or_default()))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_state_comes_back_and_fields_of_later_versions_are_passed() {
        let partition =
            |lag_events, lag_seconds| PartitionState { lag_events, lag_seconds, ..Default::default() };
        let subscription = SubscriptionState {
            consumer: "billing".to_owned(),
            partitions: vec![
                partition(Some(3), Some(30)),
                partition(None, None),
                partition(Some(2), Some(7)),
            ],
            ..SubscriptionState::default()
        };
        let state = ServiceState {
            version: STATE_VERSION,
            service: "shop".to_owned(),
            subscriptions: vec![subscription],
            ..ServiceState::default()
        };
        let mut json = serde_json::to_value(&state).expect("JSON");
        json["later"] = serde_json::json!({"a": 1});
        let read = ServiceState::read(json.to_string().as_bytes()).expect("is read");
        assert_eq!(read, state);
        assert_eq!(read.lag(), (5, 30));
        json.as_object_mut().expect("an object").remove("stalls").expect("it is said");
        let older = ServiceState::read(json.to_string().as_bytes()).expect("of an older one");
        assert!(older.stalls.is_empty());
    }

    #[test]
    fn what_is_no_state_is_said() {
        assert!(matches!(ServiceState::read(b"{"), Err(UnreadableState::Malformed(_))));
        assert!(matches!(ServiceState::read(b"{}"), Err(UnreadableState::Malformed(_))));
        let newer = ServiceState::read(b"{\"version\":2,\"anything\":[]}");
        assert!(matches!(newer, Err(UnreadableState::Newer { version: 2 })));
    }
}
