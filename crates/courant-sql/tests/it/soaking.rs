//! What the soaks of all databases have in common: chance that repeats itself, what a relay takes out of the lanes,
//! and whether that was everything and in order.

use std::collections::BTreeMap;

use bytes::Bytes;
use courant_sql::{RelayLease, Store};

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

    pub(crate) fn of(self, committed: i64) -> Outcome {
        Outcome { committed, seen: self.events, inversions: self.inversions }
    }
}

/// Takes out of the outbox what waits, with the keys and the numbers that are the values.
pub(crate) async fn take_lanes<S: Store>(store: &S, lease: &RelayLease) -> Vec<(String, i64)> {
    let batches = store.pending(0, 50, u64::MAX).await.expect("what waits");
    let mut taken = Vec::new();
    for pending in batches.iter().flat_map(|batch| &batch.events) {
        let text = |bytes: &Option<Bytes>| {
            let bytes = bytes.as_deref().expect("it has one");
            std::str::from_utf8(bytes).expect("text").to_owned()
        };
        let number = text(&pending.event.value).parse().expect("a number");
        taken.push((text(&pending.event.key), number));
    }
    let done: Vec<_> = batches.iter().filter_map(|batch| batch.events.last()).map(|last| last.at).collect();
    if !done.is_empty() {
        store.advance(lease, &done).await.expect("moved on");
    }
    taken
}

/// Numbers that are the same in every run: those of a linear congruence.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % bound
    }
}
