//! The services that say that they are there, with what they say.

use std::sync::Arc;

use axum::extract::{RawQuery, State};
use axum::http::StatusCode;
use courant_core::operations::{DeadState, RequestsState, ServiceState, StallState, SubscriptionState};
use serde::Serialize;

use super::announced::{is_running, newest_of_each_consumer};
use super::line::not_found;
use crate::api::asked::{NameFilter, Path};
use crate::api::limits::INSTANCES_SHOWN_MAX;
use crate::api::problem::{Problem, ProblemKind};
use crate::api::route::{Kind, Schema, field};
use crate::api::{ApiState, Asked, Json};

pub(super) static SERVICE_NOT_FOUND: ProblemKind = ProblemKind {
    status: StatusCode::NOT_FOUND,
    code: "service_not_found",
    title: "There is no such service",
};

#[derive(Serialize)]
pub(super) struct Services {
    services: Vec<Service>,
    next: Option<String>,
    total: usize,
    unreadable: usize,
}

/// A service, and what its instances say together.
#[derive(Serialize)]
pub(super) struct Service {
    service: String,
    state: &'static str,
    operable: bool,
    not_operable: Option<&'static str>,
    lag_events: Option<u64>,
    lag_seconds: Option<u64>,
    parked_keys: Option<u64>,
    parked_events: Option<u64>,
    dead_letters: Option<u64>,
    outbox: Option<u64>,
    seen_ms: i64,
    instances_running: usize,
    instances_total: usize,
    instances: Vec<Instance>,
}

#[derive(Serialize)]
struct Instance {
    instance: String,
    state: &'static str,
    code_version: String,
    courant_version: String,
    engine: String,
    store: Option<String>,
    operations: bool,
    started_ms: i64,
    seen_ms: i64,
    heartbeat_ms: i64,
    outbox: Option<u64>,
    requests: RequestsState,
    subscriptions: Vec<SubscriptionState>,
    stalls: Vec<StallState>,
}

/// For the OpenAPI document, as it stands in an answer; so what follows.
pub(super) static STALL: Schema = Schema {
    name: "service_stall",
    fields: &[
        field(
            "consumer",
            Kind::OrNull(&Kind::Text),
            "The consumer that waits; null: the outbox, or what is scheduled",
        ),
        field("reason", Kind::Text, "Why, in a word that stays, such as refused or store_full"),
        field("topic", Kind::OrNull(&Kind::Text), "The topic that it is about"),
        field("partition", Kind::OrNull(&Kind::Integer), "Its partition"),
        field("since_ms", Kind::Integer, "Since when"),
        field("times", Kind::Integer, "How often it was tried since then"),
    ],
};

pub(super) static REQUESTS: Schema = Schema {
    name: "service_requests",
    fields: &[field("applied", Kind::Integer, ""), field("refused", Kind::Integer, "")],
};

/// What is told of a subscription.
type Tell = fn(&SubscriptionState) -> SubscriptionState;

pub(super) async fn list(
    State(state): State<ApiState>,
    RawQuery(query): RawQuery,
) -> Result<Json<Services>, Problem> {
    let asked = Asked::of(query.as_deref(), &["limit", "after", "filter", "brief"])?;
    let (limit, filter) = (asked.limit()?, asked.filter()?);
    let after = asked.text("after").unwrap_or_default().to_owned();
    let tell: Tell = if asked.flag("brief")? { brief } else { SubscriptionState::clone };
    state.blocking(move |state| page(state, limit, &after, &filter, tell)).await.map(Json)
}

fn page(
    state: &ApiState,
    limit: usize,
    after: &str,
    filter: &NameFilter,
    tell: Tell,
) -> Result<Services, Problem> {
    let known = state.operations().known(state)?;
    let mut meant = known.services;
    meant.retain(|name, _| filter.takes(name));
    let total = meant.len();
    let mut services: Vec<Service> = Vec::new();
    let mut next = None;
    for (name, instances) in meant.into_iter().filter(|(name, _)| name.as_str() > after) {
        if services.len() == limit {
            next = services.last().map(|last| last.service.clone());
            break;
        }
        services.push(service(state, name, &instances, tell));
    }
    Ok(Services { services, next, total, unreadable: known.unreadable })
}

pub(super) async fn show(
    State(state): State<ApiState>,
    Path(name): Path<String>,
    RawQuery(query): RawQuery,
) -> Result<Json<Service>, Problem> {
    Asked::of(query.as_deref(), &[])?;
    let shown = state.blocking(move |state| {
        let mut known = state.operations().known(state)?;
        let instances = known.services.remove(&name).ok_or_else(|| not_found(&name))?;
        Ok(service(state, name, &instances, SubscriptionState::clone))
    });
    shown.await.map(Json)
}

/// Why requests cannot be sent to a service, as far as this server knows. `None`: they can.
pub(super) fn not_operable(
    state: &ApiState,
    name: &str,
    instances: &[Arc<ServiceState>],
) -> Option<&'static str> {
    let now_ms = state.now_ms();
    if !instances.iter().any(|instance| instance.operations) {
        Some("takes_no_requests")
    } else if state.settings().service_keys.of(name).is_none() {
        Some("no_key")
    } else if !instances.iter().any(|instance| is_running(instance, now_ms)) {
        Some("silent")
    } else {
        None
    }
}

fn service(state: &ApiState, name: String, instances: &[Arc<ServiceState>], tell: Tell) -> Service {
    let now_ms = state.now_ms();
    let running: Vec<&Arc<ServiceState>> =
        instances.iter().filter(|instance| is_running(instance, now_ms)).collect();
    // The partitions of an instance that says nothing have gone to the others.
    let lagging: Vec<&Arc<ServiceState>> =
        if running.is_empty() { instances.iter().collect() } else { running.clone() };
    let (lag_events, lag_seconds) = lag(&lagging);
    let consumers = newest_of_each_consumer(instances);
    let subscriptions: Vec<&SubscriptionState> = consumers.into_values().map(|(_, one)| one).collect();
    let newest = instances.last();
    let not_operable = not_operable(state, &name, instances);
    let mut shown: Vec<&Arc<ServiceState>> = instances.iter().collect();
    shown.sort_by_key(|instance| (!is_running(instance, now_ms), std::cmp::Reverse(instance.seen_ms)));
    Service {
        state: if running.is_empty() { "silent" } else { "running" },
        operable: not_operable.is_none(),
        not_operable,
        lag_events,
        lag_seconds,
        parked_keys: sum(&subscriptions, |one| one.parked.map(|parked| parked.keys)),
        parked_events: sum(&subscriptions, |one| one.parked.map(|parked| parked.events)),
        dead_letters: sum(&subscriptions, |one| one.dead.as_ref().map(|dead| dead.letters)),
        outbox: newest.and_then(|newest| newest.outbox),
        seen_ms: newest.map_or(0, |newest| newest.seen_ms),
        instances_running: running.len(),
        instances_total: instances.len(),
        instances: shown
            .into_iter()
            .take(INSTANCES_SHOWN_MAX)
            .map(|one| instance(one, now_ms, tell))
            .collect(),
        service: name,
    }
}

/// Of all subscriptions together. Unknown, if it is for one of them.
fn sum(subscriptions: &[&SubscriptionState], of: impl Fn(&SubscriptionState) -> Option<u64>) -> Option<u64> {
    subscriptions.iter().copied().try_fold(0_u64, |sum, one| Some(sum.saturating_add(of(one)?)))
}

fn instance(said: &ServiceState, now_ms: i64, tell: Tell) -> Instance {
    Instance {
        state: if is_running(said, now_ms) { "running" } else { "silent" },
        instance: said.instance.clone(),
        code_version: said.code_version.clone(),
        courant_version: said.courant_version.clone(),
        engine: said.engine.clone(),
        store: said.store.clone(),
        operations: said.operations,
        started_ms: said.started_ms,
        seen_ms: said.seen_ms,
        heartbeat_ms: said.heartbeat_ms,
        outbox: said.outbox,
        requests: said.requests,
        subscriptions: said.subscriptions.iter().map(tell).collect(),
        stalls: said.stalls.clone(),
    }
}

/// A subscription without its lists, which have up to a thousand partitions and a hundred failures. Whoever asks
/// for many services again and again looks at figures.
fn brief(said: &SubscriptionState) -> SubscriptionState {
    SubscriptionState {
        consumer: said.consumer.clone(),
        generation: said.generation,
        topics: Vec::new(),
        event_types: Vec::new(),
        policy: said.policy.clone(),
        passed: said.passed,
        parked: said.parked,
        full: said.full,
        dead: said.dead.as_ref().map(|dead| DeadState { letters: dead.letters, failures: Vec::new() }),
        partitions: Vec::new(),
    }
}

/// Events of all partitions together, and the age of the oldest. Unknown, if it is for one of them.
fn lag(instances: &[&Arc<ServiceState>]) -> (Option<u64>, Option<u64>) {
    let subscriptions = || instances.iter().flat_map(|instance| &instance.subscriptions);
    let partitions = || subscriptions().flat_map(|subscription| &subscription.partitions);
    let events =
        partitions().try_fold(0_u64, |sum, partition| Some(sum.saturating_add(partition.lag_events?)));
    let seconds = partitions().try_fold(0_u64, |most, partition| Some(most.max(partition.lag_seconds?)));
    (events, seconds)
}

#[cfg(test)]
mod tests {
    use super::*;
    use courant_core::operations::{FailureState, PartitionState};

    fn with(lags: &[Option<u64>]) -> Arc<ServiceState> {
        let partition =
            |lag: &Option<u64>| PartitionState { lag_events: *lag, lag_seconds: *lag, ..Default::default() };
        let partitions = lags.iter().map(partition).collect();
        let subscription = SubscriptionState { partitions, ..SubscriptionState::default() };
        Arc::new(ServiceState { subscriptions: vec![subscription], ..ServiceState::default() })
    }

    #[test]
    fn lag_adds_up_and_is_unknown_where_a_part_of_it_is() {
        let (one, two) = (with(&[Some(3), Some(30)]), with(&[Some(4)]));
        assert_eq!(lag(&[&one, &two]), (Some(37), Some(30)));
        assert_eq!(lag(&[&one, &with(&[None])]), (None, None));
        assert_eq!(lag(&[&with(&[])]), (Some(0), Some(0)));
    }

    #[test]
    fn a_brief_word_has_the_figures_and_no_lists() {
        let said = SubscriptionState {
            consumer: "billing".to_owned(),
            topics: vec!["orders".to_owned()],
            event_types: vec!["placed".to_owned()],
            full: true,
            dead: Some(DeadState { letters: 7, failures: vec![FailureState::default(); 100] }),
            partitions: vec![PartitionState::default(); 1000],
            ..SubscriptionState::default()
        };
        let brief = brief(&said);
        assert_eq!((brief.consumer.as_str(), brief.full), ("billing", true));
        assert_eq!(brief.dead, Some(DeadState { letters: 7, failures: Vec::new() }));
        let lists = brief.topics.len() + brief.event_types.len() + brief.partitions.len();
        assert_eq!(lists, 0, "{brief:?}");
        let bytes = |said: &SubscriptionState| serde_json::to_vec(said).expect("JSON").len();
        assert!(bytes(&brief) < 512 && bytes(&said) > 50_000);
    }
}
