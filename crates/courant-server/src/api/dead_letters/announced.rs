//! What services say of themselves, followed in the log: of each instance the newest state is kept.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use courant_core::operations::{SERVICES, ServiceState, SubscriptionState};
use courant_log::batch::records::Record;
use courant_log::{Log, PartitionId};
use uuid::Uuid;

use crate::api::limits::{INSTANCE_BYTES_MAX, INSTANCES_BYTES_MAX, INSTANCES_KEPT_MAX};
use crate::api::problem::Problem;
use crate::api::records::read::{Taken, read};

/// An instance that has not been seen for so many of its heartbeats is silent.
const SILENT_AFTER: i64 = 3;

/// What has been read of the topic.
#[derive(Debug, Default)]
pub(crate) struct Announced {
    /// The id of the topic: one that was made anew is read anew.
    topic: Option<Uuid>,
    /// Where each partition is read on.
    next: BTreeMap<u32, u64>,
    instances: BTreeMap<Bytes, Instance>,
    /// Bytes of all states, as they were read.
    bytes: usize,
}

#[derive(Debug)]
struct Instance {
    /// `None`: what it says is not understood here.
    state: Option<Arc<ServiceState>>,
    bytes: usize,
}

impl Instance {
    fn seen_ms(&self) -> Option<i64> {
        self.state.as_ref().map(|state| state.seen_ms)
    }
}

/// What is known of all services at a moment.
#[derive(Debug, Default)]
pub(super) struct Known {
    /// The instances of each service.
    pub(super) services: BTreeMap<String, Vec<Arc<ServiceState>>>,
    /// Instances whose state is not understood.
    pub(super) unreadable: usize,
}

impl Announced {
    /// Reads what has come since the last look. May wait for the disk.
    pub(super) fn follow(&mut self, log: &Log) -> Result<Known, Problem> {
        let catalog = log.catalog();
        let Some(topic) = catalog.by_name(SERVICES) else {
            *self = Self::default();
            return Ok(Known::default());
        };
        if self.topic != Some(topic.id) {
            *self = Self { topic: Some(topic.id), ..Self::default() };
        }
        for (number, id) in (0_u32..).zip(&topic.partitions) {
            self.read(log, number, *id)?;
        }
        Ok(self.known())
    }

    fn read(&mut self, log: &Log, number: u32, id: PartitionId) -> Result<(), Problem> {
        let Some(ends) = log.offsets(id) else { return Ok(()) };
        let mut next = self.next.get(&number).copied().unwrap_or(ends.start);
        while next < ends.high_watermark {
            let passed = read(log, id, next..ends.high_watermark, |record| {
                self.take(record);
                Taken::Yes
            })?;
            next = passed.next.max(next.saturating_add(1));
        }
        self.next.insert(number, next);
        Ok(())
    }

    fn take(&mut self, record: &Record) {
        let Some(key) = &record.key else { return };
        if let Some(gone) = self.instances.remove(key) {
            self.bytes -= gone.bytes;
        }
        // Without a value: the instance has ended.
        let Some(value) = record.value.as_ref().filter(|_| key.len() <= INSTANCE_BYTES_MAX) else { return };
        let bytes = key.len().saturating_add(value.len());
        let state = if bytes <= INSTANCE_BYTES_MAX { ServiceState::read(value).ok() } else { None };
        let bytes = if state.is_some() { bytes } else { key.len() };
        // A copy: the key is a part of all that was read with it.
        self.instances.insert(Bytes::copy_from_slice(key), Instance { state: state.map(Arc::new), bytes });
        self.bytes += bytes;
        while self.instances.len() > INSTANCES_KEPT_MAX || self.bytes > INSTANCES_BYTES_MAX {
            if !self.forget_one() {
                return;
            }
        }
    }

    /// Forgets the instance that was seen longest ago.
    fn forget_one(&mut self) -> bool {
        let oldest = self.instances.iter().min_by_key(|(_, instance)| instance.seen_ms());
        let Some(key) = oldest.map(|(key, _)| key.clone()) else { return false };
        if let Some(gone) = self.instances.remove(&key) {
            self.bytes -= gone.bytes;
        }
        true
    }

    fn known(&self) -> Known {
        let mut known = Known::default();
        for instance in self.instances.values() {
            match &instance.state {
                Some(state) => {
                    known.services.entry(state.service.clone()).or_default().push(Arc::clone(state));
                }
                None => known.unreadable += 1,
            }
        }
        known
    }
}

/// It has been heard of lately.
pub(super) fn is_running(state: &ServiceState, now_ms: i64) -> bool {
    let silent_ms = state.heartbeat_ms.max(1).saturating_mul(SILENT_AFTER);
    now_ms.saturating_sub(state.seen_ms) <= silent_ms
}

/// The newest word about each consumer of a service: its instances share a store, so that has all of the
/// consumer's failures.
pub(super) fn newest_of_each_consumer(
    instances: &[Arc<ServiceState>],
) -> BTreeMap<&str, (&ServiceState, &SubscriptionState)> {
    let mut newest: BTreeMap<&str, (&ServiceState, &SubscriptionState)> = BTreeMap::new();
    for state in instances {
        let state: &ServiceState = state;
        for subscription in &state.subscriptions {
            let known = newest.entry(&subscription.consumer).or_insert((state, subscription));
            if known.0.seen_ms < state.seen_ms {
                *known = (state, subscription);
            }
        }
    }
    newest
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(instance: &str, seen_ms: i64) -> Record {
        let state = ServiceState {
            version: 1,
            service: "billing".to_owned(),
            instance: instance.to_owned(),
            seen_ms,
            heartbeat_ms: 10_000,
            subscriptions: vec![SubscriptionState { consumer: "bills".to_owned(), ..Default::default() }],
            ..ServiceState::default()
        };
        let value = serde_json::to_vec(&state).expect("JSON");
        record(instance, Some(value.into()))
    }

    fn record(key: &str, value: Option<Bytes>) -> Record {
        let key = Some(Bytes::copy_from_slice(key.as_bytes()));
        Record { offset: 0, timestamp: 0, key, value, headers: Vec::new() }
    }

    #[test]
    fn the_newest_word_of_each_instance_counts_until_it_has_ended() {
        let mut announced = Announced::default();
        for record in [said("a", 1), said("b", 7), said("a", 5), record("c", Some("{".into()))] {
            announced.take(&record);
        }
        let known = announced.known();
        assert_eq!((known.services["billing"].len(), known.unreadable), (2, 1));
        let newest = newest_of_each_consumer(&known.services["billing"]);
        assert_eq!(newest["bills"].0.instance, "b");
        announced.take(&record("b", None));
        assert_eq!(announced.known().services["billing"][0].seen_ms, 5);
        for key in ["a", "c"] {
            announced.take(&record(key, None));
        }
        assert!(announced.known().services.is_empty() && announced.bytes == 0);
    }

    #[test]
    fn too_many_instances_leave_the_last_ones() {
        let mut announced = Announced::default();
        let count = i64::try_from(INSTANCES_KEPT_MAX).expect("small") + 3;
        for number in 0..count {
            announced.take(&said(&number.to_string(), number));
        }
        let known = announced.known();
        assert_eq!(known.services["billing"].len(), INSTANCES_KEPT_MAX);
        assert!(known.services["billing"].iter().all(|state| state.seen_ms >= 3));
    }

    #[test]
    fn an_instance_that_says_nothing_is_silent() {
        let state = ServiceState { seen_ms: 100_000, heartbeat_ms: 10_000, ..ServiceState::default() };
        assert!(is_running(&state, 130_000) && !is_running(&state, 130_001));
    }
}
