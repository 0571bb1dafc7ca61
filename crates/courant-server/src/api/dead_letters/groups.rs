//! Failures: dead letters with one error from one place, as services tell of them.

use std::cmp::Reverse;
use std::sync::Arc;

use axum::extract::{RawQuery, State};
use axum::http::StatusCode;
use courant_core::operations::{FailureState, ParkedState, ServiceState, SubscriptionState};
use serde::Serialize;

use super::announced::{Known, is_running, newest_of_each_consumer};
use super::line::not_found;
use super::services::not_operable;
use crate::api::asked::Path;
use crate::api::problem::{BAD_REQUEST, Problem, ProblemKind};
use crate::api::{ApiState, Asked, Json};

static FAILURE_NOT_FOUND: ProblemKind = ProblemKind {
    status: StatusCode::NOT_FOUND,
    code: "failure_not_found",
    title: "There is no such failure",
};

#[derive(Serialize)]
pub(super) struct Groups {
    groups: Vec<Group>,
    letters: u64,
    unknown: Vec<String>,
    next: Option<String>,
    total: usize,
}

/// One failure of one consumer.
#[derive(Debug, Serialize)]
pub(super) struct Group {
    service: String,
    group: String,
    consumer: String,
    error: String,
    place: String,
    letters: u64,
    oldest_ms: i64,
    newest_ms: i64,
    topics: Vec<String>,
    parked: Option<ParkedState>,
    seen_ms: i64,
    service_state: &'static str,
    operable: bool,
    not_operable: Option<&'static str>,
}

pub(super) async fn list(
    State(state): State<ApiState>,
    RawQuery(query): RawQuery,
) -> Result<Json<Groups>, Problem> {
    let asked = Asked::of(query.as_deref(), &["service", "limit", "after"])?;
    let limit = asked.limit()?;
    let after = asked.text("after").map(place_after).transpose()?;
    let service = asked.text("service").map(str::to_owned);
    let groups = state.blocking(move |state| {
        let mut known = state.operations().known(state)?;
        if let Some(name) = &service {
            let instances = known.services.remove(name).ok_or_else(|| not_found(name))?;
            known.services = [(name.clone(), instances)].into();
        }
        Ok(page(all(state, &known), unknown(&known), limit, after.as_ref()))
    });
    groups.await.map(Json)
}

/// `TIME/SERVICE/GROUP`, as `next` of a page has it.
type Place = (Reverse<i64>, String, String);

fn place_after(text: &str) -> Result<Place, Problem> {
    let place = || {
        let (newest_ms, names) = text.split_once('/')?;
        let (service, group) = names.split_once('/')?;
        Some((Reverse(newest_ms.parse::<i64>().ok()?), service.to_owned(), group.to_owned()))
    };
    place().ok_or_else(|| Problem::new(&BAD_REQUEST, format!("after is {text:?}; give back what `next` was")))
}

impl Group {
    /// The newest failures come first.
    fn place(&self) -> Place {
        (Reverse(self.newest_ms), self.service.clone(), self.group.clone())
    }
}

fn page(mut groups: Vec<Group>, unknown: Vec<String>, limit: usize, after: Option<&Place>) -> Groups {
    groups.sort_by_cached_key(Group::place);
    let total = groups.len();
    let letters = groups.iter().fold(0_u64, |sum, group| sum.saturating_add(group.letters));
    groups.retain(|group| after.is_none_or(|after| group.place() > *after));
    let is_last = groups.len() <= limit;
    groups.truncate(limit);
    let last = groups.last().filter(|_| !is_last);
    let next = last.map(|last| format!("{}/{}/{}", last.newest_ms, last.service, last.group));
    Groups { groups, letters, unknown, next, total }
}

/// Every failure that a service tells of.
fn all(state: &ApiState, known: &Known) -> Vec<Group> {
    let mut groups = Vec::new();
    for (name, instances) in &known.services {
        let (now_ms, not_operable) = (state.now_ms(), not_operable(state, name, instances));
        let is_running = instances.iter().any(|instance| is_running(instance, now_ms));
        for (said, subscription) in newest_of_each_consumer(instances).into_values() {
            let failures = subscription.dead.iter().flat_map(|dead| &dead.failures);
            groups.extend(failures.map(|failure| Group {
                service_state: if is_running { "running" } else { "silent" },
                operable: not_operable.is_none(),
                not_operable,
                ..group(name, said, subscription, failure)
            }));
        }
    }
    groups
}

fn group(
    service: &str,
    said: &ServiceState,
    subscription: &SubscriptionState,
    failure: &FailureState,
) -> Group {
    let FailureState { group, error, place, letters, oldest_ms, newest_ms } = failure.clone();
    Group {
        service: service.to_owned(),
        group,
        consumer: subscription.consumer.clone(),
        error,
        place,
        letters,
        oldest_ms,
        newest_ms,
        topics: subscription.topics.clone(),
        parked: subscription.parked,
        seen_ms: said.seen_ms,
        service_state: "silent",
        operable: false,
        not_operable: None,
    }
}

/// Services with a store that do not say what is dead.
fn unknown(known: &Known) -> Vec<String> {
    let is_unknown = |instances: &[Arc<ServiceState>]| {
        newest_of_each_consumer(instances)
            .values()
            .any(|(said, subscription)| said.store.is_some() && subscription.dead.is_none())
    };
    let unknown = known.services.iter().filter(|(_, instances)| is_unknown(instances));
    unknown.map(|(name, _)| name.clone()).collect()
}

pub(super) async fn show(
    State(state): State<ApiState>,
    Path((service, group)): Path<(String, String)>,
    RawQuery(query): RawQuery,
) -> Result<Json<Group>, Problem> {
    Asked::of(query.as_deref(), &[])?;
    let shown = state.blocking(move |state| {
        let mut known = state.operations().known(state)?;
        let instances = known.services.remove(&service).ok_or_else(|| not_found(&service))?;
        let known = Known { services: [(service.clone(), instances)].into(), unreadable: 0 };
        let found = all(state, &known).into_iter().find(|found| found.group == group);
        found.ok_or_else(|| {
            let sentence = format!(
                "nobody has to decide about a failure {group:?} of {service}; GET /api/v1/dead-letters lists \
                 those that are there"
            );
            Problem::new(&FAILURE_NOT_FOUND, sentence)
        })
    });
    shown.await.map(Json)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failed(service: &str, name: &str, newest_ms: i64) -> Group {
        let failure =
            FailureState { group: name.to_owned(), letters: 2, newest_ms, ..FailureState::default() };
        group(service, &ServiceState::default(), &SubscriptionState::default(), &failure)
    }

    #[test]
    fn the_newest_failures_come_first_and_pages_go_on_behind_them() {
        let groups =
            || vec![failed("b", "1", 5), failed("a", "2", 5), failed("a", "3", 9), failed("a", "4", 1)];
        let mut seen = Vec::new();
        let mut after = None;
        loop {
            let page = page(groups(), Vec::new(), 3, after.as_ref());
            assert_eq!((page.total, page.letters), (4, 8));
            seen.extend(page.groups.into_iter().map(|group| group.group));
            let Some(next) = page.next else { break };
            after = Some(place_after(&next).expect("a place"));
        }
        assert_eq!(seen, ["3", "2", "1", "4"]);
        for bad in ["", "x/a/b", "5/a"] {
            assert_eq!(place_after(bad).expect_err(bad).kind.code, "bad_request");
        }
    }

    #[test]
    fn what_a_service_does_not_say_is_unknown_and_not_nothing() {
        let state = |store: Option<&str>| {
            Arc::new(ServiceState {
                store: store.map(str::to_owned),
                subscriptions: vec![SubscriptionState::default()],
                ..ServiceState::default()
            })
        };
        let services = [("a".to_owned(), vec![state(Some("SQLite"))]), ("b".to_owned(), vec![state(None)])];
        let known = Known { services: services.into(), unreadable: 0 };
        assert_eq!(unknown(&known), ["a"]);
    }
}
