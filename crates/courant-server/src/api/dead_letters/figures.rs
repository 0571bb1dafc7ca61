//! What `/metrics` says of services: how many instances there are, and what is dead and parked for each
//! consumer. What a service does not say has no figure.

use std::sync::Arc;

use courant_core::operations::ServiceState;

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
            consumers,
        }
    };
    let services = known.services.iter().map(of_service).collect();
    (services, left_out)
}

#[cfg(test)]
mod tests {
    use courant_core::operations::{DeadState, SubscriptionState};

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
}
