//! What one part of a running service is doing, for those that wait until it rests.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use courant_core::position::TopicPartition;

/// What a part is doing.
#[derive(Default)]
pub(crate) struct Status(Mutex<State>);

/// What a part is doing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct State {
    /// It waits for something to come, or for a time to pass.
    pub(crate) is_resting: bool,
    /// Events that are being handled, or batches of them.
    pub(crate) under_way: usize,
    /// As many events are parked as may be, so it reads nothing.
    pub(crate) is_full: bool,
    /// Of these: when events are tried again that wait for it where they are.
    pub(crate) backing_off: Vec<i64>,
    /// Where each partition is read next.
    pub(crate) next: BTreeMap<TopicPartition, u64>,
    /// Up to where each partition is done with.
    pub(crate) low_water: BTreeMap<TopicPartition, u64>,
    /// Events before that which were never handled, because they are not there any more: of partitions that have
    /// missed any.
    pub(crate) missed: BTreeMap<TopicPartition, u64>,
    /// The next time at which something is due by itself.
    pub(crate) due_ms: Option<i64>,
    /// Events of types that nobody here wants, so far.
    pub(crate) passed: u64,
    /// How often somebody has decided about dead letters.
    pub(crate) decisions: u64,
    /// How many of these decisions are followed.
    pub(crate) followed: u64,
}

impl Status {
    pub(crate) fn update(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.lock());
    }

    pub(crate) fn get(&self) -> State {
        self.lock().clone()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Keeps up to where each partition is done with: for those that are read, and no other.
    pub(crate) fn keep_low_water<'a>(&mut self, parts: impl Iterator<Item = (&'a TopicPartition, u64)>) {
        for (partition, next) in parts {
            match self.low_water.get_mut(partition) {
                Some(there) => *there = next,
                None => drop(self.low_water.insert(partition.clone(), next)),
            }
        }
        if self.low_water.len() > self.next.len() {
            let Self { low_water, next, .. } = self;
            low_water.retain(|partition, _| next.contains_key(partition));
        }
    }

    /// Nothing happens before something comes or the clock moves on.
    pub(crate) fn is_quiet(&self, now_ms: i64) -> bool {
        self.is_resting
            && self.decisions == self.followed
            && self.under_way == self.backing_off.len()
            && self.backing_off.iter().all(|due_ms| *due_ms > now_ms)
            && self.due_ms.is_none_or(|due_ms| due_ms > now_ms)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quiet_is_at_rest_with_nothing_due() {
        let at_rest = State { is_resting: true, due_ms: Some(10), ..State::default() };
        assert!(at_rest.is_quiet(9));
        assert!(!at_rest.is_quiet(10));
        assert!(!State { is_resting: false, ..at_rest.clone() }.is_quiet(9));
        assert!(!State { under_way: 1, ..at_rest.clone() }.is_quiet(9));
        assert!(!State { decisions: 1, ..at_rest.clone() }.is_quiet(9));
        let backing_off = State { under_way: 1, backing_off: vec![5], ..at_rest };
        assert!(backing_off.is_quiet(4));
        assert!(!backing_off.is_quiet(5));
    }
}
