//! What `/metrics` says of services: how many instances there are, and what is dead and parked for each
//! consumer. What a service does not say has no figure.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use courant_core::operations::{STALL_REASONS, ServiceState};

use super::announced::{Known, is_running, newest_of_each_consumer};
use crate::api::ApiState;
use crate::api::limits::SERIES_CONSUMERS_MAX;

/// A service, of what its instances say.
#[derive(Debug, Default)]
pub(crate) struct ServiceSeries {
    pub(crate) name: String,
    pub(crate) running: u64,
    /// Not heard of for some time, and not ended in order.
    pub(crate) silent: u64,
    /// Events that wait in its outbox.
    pub(crate) outbox: Option<u64>,
    pub(crate) consumers: Vec<ConsumerSeries>,
    pub(crate) stalls: Vec<StallSeries>,
}

/// What does not go on in a service, for one reason.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct StallSeries {
    /// Empty: the outbox, or what is scheduled.
    pub(crate) consumer: String,
    pub(crate) reason: &'static str,
    /// For how long, in the instance where it is the longest.
    pub(crate) for_ms: u64,
}

/// A consumer of a service.
#[derive(Debug, Default)]
pub(crate) struct ConsumerSeries {
    pub(crate) name: String,
    pub(crate) dead_letters: Option<u64>,
    pub(crate) parked_events: Option<u64>,
    /// Events that may be parked.
    pub(crate) parked_max: Option<u64>,
    /// Keys that wait for somebody to decide about a dead letter.
    pub(crate) held_keys: Option<u64>,
}

/// All services.
#[derive(Debug, Default)]
pub(crate) struct Services {
    pub(crate) services: Vec<ServiceSeries>,
    /// Instances that say what is not understood.
    pub(crate) unreadable: u64,
    /// Consumers of which nothing is said.
    pub(crate) left_out: u64,
}

/// What is known of services. May wait for the disk.
pub(crate) fn services(state: &ApiState) -> Option<Services> {
    // What cannot be read now is unknown.
    let known = state.operations().known(state).ok()?;
    let (services, left_out) = series(&known, state.now_ms(), SERIES_CONSUMERS_MAX);
    Some(Services { services, unreadable: known.unreadable as u64, left_out })
}

/// Of each service, with so many consumers of all of them; and how many consumers have no room.
fn series(known: &Known, now_ms: i64, consumers_max: usize) -> (Vec<ServiceSeries>, u64) {
    let (mut room, mut left_out) = (consumers_max, 0);
    let of_service = |(name, instances): (&String, &Vec<Arc<ServiceState>>)| {
        let newest = newest_of_each_consumer(instances);
        left_out += newest.len().saturating_sub(room) as u64;
        let consumers = newest.into_iter().take(room).map(|(consumer, (_, said))| ConsumerSeries {
            name: consumer.to_owned(),
            dead_letters: said.dead.as_ref().map(|dead| dead.letters),
            parked_events: said.parked.map(|parked| parked.events),
            parked_max: (said.policy.parked_max > 0).then_some(said.policy.parked_max),
            held_keys: said.parked.map(|parked| parked.held),
        });
        let consumers: Vec<_> = consumers.collect();
        room -= consumers.len();
        let running = instances.iter().filter(|state| is_running(state, now_ms)).count();
        // Its instances share a store, so the newest word about the outbox counts.
        let newest = instances.last();
        ServiceSeries {
            name: name.clone(),
            running: running as u64,
            silent: (instances.len() - running) as u64,
            outbox: newest.and_then(|state| state.outbox),
            stalls: stalls(instances, &consumers, now_ms),
            consumers,
        }
    };
    let services = known.services.iter().map(of_service).collect();
    (services, left_out)
}

/// What does not go on in instances that were heard of lately: of the outbox, and of consumers that are told of. Anybody
/// may write words, so those that nobody knows are one.
fn stalls(instances: &[Arc<ServiceState>], told: &[ConsumerSeries], now_ms: i64) -> Vec<StallSeries> {
    let told: BTreeSet<&str> = told.iter().map(|one| one.name.as_str()).collect();
    let mut longest: BTreeMap<(&str, &'static str), u64> = BTreeMap::new();
    for instance in instances.iter().filter(|state| is_running(state, now_ms)) {
        for stall in &instance.stalls {
            let consumer = stall.consumer.as_deref().unwrap_or_default();
            if !consumer.is_empty() && !told.contains(consumer) {
                continue;
            }
            let reason = STALL_REASONS.into_iter().find(|reason| *reason == stall.reason).unwrap_or("other");
            let for_ms = u64::try_from(now_ms.saturating_sub(stall.since_ms)).unwrap_or_default();
            let kept = longest.entry((consumer, reason)).or_default();
            *kept = for_ms.max(*kept);
        }
    }
    let series = longest.into_iter().map(|((consumer, reason), for_ms)| StallSeries {
        consumer: consumer.to_owned(),
        reason,
        for_ms,
    });
    series.collect()
}

#[cfg(test)]
mod tests {
    use courant_core::operations::{DeadState, StallState, SubscriptionState};

    use super::*;

    #[test]
    fn what_is_not_said_has_no_figure_and_the_newest_word_counts() {
        let said = |seen_ms, letters: Option<u64>, outbox| {
            let dead = letters.map(|letters| DeadState { letters, ..DeadState::default() });
            let bills = SubscriptionState { consumer: "bills".to_owned(), dead, ..Default::default() };
            let subscriptions = vec![bills];
            Arc::new(ServiceState { seen_ms, heartbeat_ms: 10, outbox, subscriptions, ..Default::default() })
        };
        let mut known = Known::default();
        known
            .services
            .insert("billing".to_owned(), vec![said(1_000, Some(3), None), said(5_000, None, Some(7))]);
        let (found, left_out) = series(&known, 5_001, 1);
        assert_eq!((found[0].running, found[0].silent, found[0].outbox), (1, 1, Some(7)));
        assert_eq!(found[0].consumers[0].dead_letters, None, "the older one does not count any more");
        assert_eq!(left_out, 0);
        let (found, left_out) = series(&known, 1_000, 0);
        assert_eq!(found[0].running, 2, "one that is a little ahead of this clock is there");
        assert_eq!((found[0].consumers.len(), left_out), (0, 1), "what has no room is counted");
    }

    /// What has stood still for the longest counts, of instances that are there and of consumers that have a place.
    #[test]
    fn what_does_not_go_on_has_a_figure_by_consumer_and_reason() {
        let stall = |consumer: Option<&str>, reason: &str, since_ms| StallState {
            consumer: consumer.map(str::to_owned),
            reason: reason.to_owned(),
            since_ms,
            ..StallState::default()
        };
        let said = |seen_ms, stalls| {
            let bills = SubscriptionState { consumer: "bills".to_owned(), ..Default::default() };
            let subscriptions = vec![bills];
            Arc::new(ServiceState { seen_ms, heartbeat_ms: 10, subscriptions, stalls, ..Default::default() })
        };
        let instances = vec![
            said(1_000, vec![stall(None, "store_full", 0)]),
            said(5_000, vec![stall(Some("bills"), "refused", 4_500), stall(Some("others"), "refused", 1)]),
            said(5_000, vec![stall(Some("bills"), "refused", 4_000), stall(None, "made up", 9_000)]),
        ];
        let known = Known { services: [("billing".to_owned(), instances)].into(), ..Known::default() };
        let (found, _) = series(&known, 5_001, 1);
        let series =
            |consumer: &str, reason, for_ms| StallSeries { consumer: consumer.to_owned(), reason, for_ms };
        assert_eq!(found[0].stalls, [series("", "other", 0), series("bills", "refused", 1_001)]);
    }
}
