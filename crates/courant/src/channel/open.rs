//! What the channel needs of a service that is built.

use std::sync::Arc;

use courant_core::consumer::ConsumerName;
use courant_core::operations::{OperationsKey, PolicyState};
use courant_core::topic::TopicName;
use courant_engine::{Access, Engine};
use courant_sql::{Consumer, Store};

use super::announcer::{Announced, Channel};
use super::desk::{CONSUMER_PREFIX, Desk};
use super::facts::{Direct, Facts, InStore};
use crate::Exhausted;
use crate::app::{Problem, ProblemCode as Code};
use crate::runtime::Context;
use crate::service::Prepared;
use crate::store::Backing;
use crate::subscription::{Registered, Settings};

/// What is said of a subscription, of what is known before it runs. `None` for one of the channel's own.
pub(crate) fn described<S: Backing, T>(
    settings: &Settings,
    handlers: &[Registered<S, T>],
    at_least_once: bool,
) -> Option<Described> {
    if settings.consumer.starts_with(CONSUMER_PREFIX) {
        return None;
    }
    let exhausted = match settings.exhausted {
        Exhausted::ParkKey => "park_key",
        Exhausted::DeadLetter => "dead_letter",
        Exhausted::Block => "block",
        Exhausted::Skip => "skip",
    };
    let mut event_types: Vec<String> = handlers.iter().map(|one| one.event_type.to_owned()).collect();
    event_types.sort_unstable();
    event_types.dedup();
    let mut topics: Vec<&str> = handlers.iter().map(|one| one.topic).collect();
    topics.extend(settings.topics.iter().map(String::as_str));
    topics.sort_unstable();
    topics.dedup();
    let name = ConsumerName::new(&settings.consumer).ok()?;
    Some(Described {
        consumer: Consumer { name, generation: settings.generation },
        topics: topics.into_iter().filter_map(|topic| TopicName::new(topic).ok()).collect(),
        event_types,
        policy: PolicyState {
            effects: if at_least_once { "at_least_once" } else { "once" }.to_owned(),
            concurrency: settings.concurrency as u64,
            attempts: settings.retry.attempts_max(),
            exhausted: exhausted.to_owned(),
            timeout_ms: u64::try_from(settings.timeout.as_millis()).unwrap_or(u64::MAX),
            parked_max: if S::IS_STORE { settings.parked_max } else { 0 },
        },
    })
}

/// A subscription, of what is known before it runs.
#[derive(Clone, Debug)]
pub(crate) struct Described {
    pub(super) consumer: Consumer,
    /// What it reads.
    pub(super) topics: Vec<TopicName>,
    pub(super) event_types: Vec<String>,
    pub(super) policy: PolicyState,
}

/// The channel of a service with a store.
pub(crate) fn prepare<D: Store>(
    context: &Arc<Context>,
    store: &D,
    described: Vec<Described>,
    prepared: &[Prepared],
    desk: Option<&Arc<Desk<D>>>,
) -> Arc<Channel> {
    if let Some(desk) = desk {
        desk.wakes(prepared);
    }
    let facts: Arc<dyn Facts> = Arc::new(InStore { store: store.clone(), context: context.clone() });
    let counts = desk.map(|desk| desk.counts());
    Arc::new(Channel::new(context.clone(), facts, announced(described, prepared), counts))
}

/// The channel of a service without one.
pub(crate) fn without_store(
    context: &Arc<Context>,
    described: Vec<Described>,
    prepared: &[Prepared],
) -> Arc<Channel> {
    let facts: Arc<dyn Facts> = Arc::new(Direct { context: context.clone() });
    Arc::new(Channel::new(context.clone(), facts, announced(described, prepared), None))
}

/// Each description with what runs of it.
fn announced(described: Vec<Described>, prepared: &[Prepared]) -> Vec<Announced> {
    let find = |described: Described| {
        let name = described.consumer.name.as_str();
        let prepared = prepared.iter().find(|prepared| prepared.orders.consumer == name)?;
        let mut topics: Vec<String> =
            prepared.partitions.iter().map(|partition| partition.topic.to_string()).collect();
        topics.sort_unstable();
        topics.dedup();
        Some(Announced { described, topics, status: prepared.status.clone() })
    };
    described.into_iter().filter_map(find).collect()
}

/// What is in the way of taking requests.
pub(crate) fn may_operate(engine: &dyn Engine, key: Option<&OperationsKey>, has_store: bool) -> Vec<Problem> {
    let Some(key) = key else { return Vec::new() };
    let mut problems = Vec::new();
    if !has_store {
        problems.push(Problem::new(
            Code::OperationsWithoutStore,
            "it takes requests, and has no store that keeps each from taking effect twice",
            "give the App a store, or leave .operations(…) away",
        ));
    }
    if engine.capabilities().access == Access::Anybody && !key.is_enough() {
        problems.push(Problem::new(
            Code::OperationsUnguarded,
            format!(
                "it takes requests, and the engine {} lets everybody write who reaches it",
                engine.kind()
            ),
            "leave .operations(…) away, or say that the signature is enough: \
             .operations(key.signature_is_enough())",
        ));
    }
    problems
}
