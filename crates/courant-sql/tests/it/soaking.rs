//! What the soaks of all databases have in common: chance that repeats itself, relays that take turns at the lanes,
//! and whether what they publish was everything and in order.

use std::collections::BTreeMap;
use std::mem;

use bytes::Bytes;
use courant_sql::{AdvanceError, LaneBatch, LanePosition, RelayLease, Store};

use crate::given::NOW;

/// How many events are committed at least; a run before a release takes 100,000.
pub(crate) fn events(by_default: i64) -> i64 {
    std::env::var("COURANT_SOAK_EVENTS").map_or(by_default, |events| events.parse().expect("a number"))
}

/// What the relay has seen of what was committed.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Outcome {
    pub(crate) committed: i64,
    pub(crate) seen: i64,
    /// Events that were not the next one of their key.
    pub(crate) inversions: i64,
}

/// What a relay has seen so far.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    events: i64,
    inversions: i64,
    /// The last number of each key.
    last: BTreeMap<String, i64>,
    /// What was published under each id.
    ids: BTreeMap<String, (String, i64)>,
}

impl Seen {
    /// Takes keys and numbers in, in their order.
    pub(crate) fn take(&mut self, batch: Vec<(String, i64)>) {
        for (key, number) in batch {
            self.events += 1;
            let last = self.last.entry(key).or_default();
            self.inversions += i64::from(number != *last + 1);
            *last = number;
        }
    }

    /// Publishes what was read of the lanes: keys, and numbers that are the values. What comes again is what came
    /// under its id before, and changes nothing.
    fn publish(&mut self, batches: &[LaneBatch]) {
        let text = |bytes: &Option<Bytes>| {
            let bytes = bytes.as_deref().expect("it has one");
            std::str::from_utf8(bytes).expect("text").to_owned()
        };
        let mut new = Vec::new();
        for pending in batches.iter().flat_map(|batch| &batch.events) {
            let number: i64 = text(&pending.event.value).parse().expect("a number");
            let event = (text(&pending.event.key), number);
            let id = pending.event.id.to_string();
            match self.ids.get(&id) {
                Some(first) => assert_eq!(*first, event, "{id} is two events"),
                None => {
                    self.ids.insert(id, event.clone());
                    new.push(event);
                }
            }
        }
        self.take(new);
    }

    pub(crate) fn of(self, committed: i64) -> Outcome {
        Outcome { committed, seen: self.events, inversions: self.inversions }
    }
}

/// So many steps of a relay go by, and then another one takes over.
const STEPS: u32 = 8;
/// And so many until the one before it wakes.
const ASLEEP: u32 = 4;

/// The relays of an outbox. Again and again the one at work stands still where it is, with a batch in hand that it has
/// sent or not; another one takes over and goes on; and then the first one wakes, as if nothing had been.
#[derive(Debug)]
pub(crate) struct Relays {
    lease: RelayLease,
    /// Steps in which there was something to publish.
    steps: u32,
    /// The one that stands still, what it has in hand, and until which step.
    asleep: Option<(RelayLease, Vec<LaneBatch>, u32)>,
    /// How often one has woken and was told that another one is at work.
    refused: u32,
}

impl Relays {
    pub(crate) async fn begin<S: Store>(store: &S) -> Self {
        Self { lease: take_over(store).await, steps: 0, asleep: None, refused: 0 }
    }

    /// Publishes what waits and takes it out of the outbox. Whether there may be more.
    pub(crate) async fn step<S: Store>(&mut self, store: &S, seen: &mut Seen) -> bool {
        let batches = store.pending(0, 50, u64::MAX).await.expect("what waits");
        let is_over = batches.is_empty();
        if let Some((lease, in_hand, until)) =
            self.asleep.take_if(|(_, _, until)| is_over || self.steps >= *until)
        {
            seen.publish(&in_hand);
            let refused = store.advance(&lease, &ends(&in_hand)).await.expect_err("it was replaced");
            assert!(matches!(refused, AdvanceError::Fenced { .. }), "until {until}: {refused}");
            self.refused += 1;
        }
        if is_over {
            return false;
        }
        self.steps += 1;
        if self.steps % STEPS == 2 {
            // Some have sent what they have in hand, and not noted that.
            if self.steps % (2 * STEPS) == 2 {
                seen.publish(&batches);
            }
            let old = mem::replace(&mut self.lease, take_over(store).await);
            self.asleep = Some((old, batches, self.steps + ASLEEP));
            return true;
        }
        seen.publish(&batches);
        store.advance(&self.lease, &ends(&batches)).await.expect("moved on");
        true
    }

    /// Fails unless relays have stood still and woken.
    pub(crate) fn assert_replaced(&self) {
        assert!(self.refused > 0, "nobody has woken too late");
    }
}

async fn take_over<S: Store>(store: &S) -> RelayLease {
    store.take_over_relay("all", "soak", NOW).await.expect("a lease")
}

/// Where batches end.
fn ends(batches: &[LaneBatch]) -> Vec<LanePosition> {
    batches.iter().filter_map(|batch| batch.events.last()).map(|last| last.at).collect()
}

/// Numbers that are the same in every run: those of a linear congruence.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % bound
    }
}
