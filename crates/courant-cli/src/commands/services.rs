//! `courant services`: who says that it is there, and how it is.

use super::channel::states;
use super::or_dash;
use crate::cli::{Global, Services};
use crate::exit::{Exit, Failure, note};
use crate::output::{Format, Row, list};
use crate::time::{now_ms, rfc3339};
use courant::channel::{ServiceState, StallState, SubscriptionState};
use serde::Serialize;
use std::io::{self, IsTerminal};

/// An instance that has not been seen for so many of its heartbeats is silent.
const SILENT_AFTER: i64 = 3;

/// One instance of a service.
#[derive(Debug, Serialize)]
struct ServiceRow {
    service: String,
    instance: String,
    /// `running`; `full` when it runs, and one of its consumers reads nothing more because of all that is parked;
    /// `stalled` when something of it does not go on; or `silent` when it has not said anything for a while.
    state: &'static str,
    code_version: String,
    courant_version: String,
    engine: String,
    store: Option<String>,
    operations: bool,
    started: Option<String>,
    seen: Option<String>,
    outbox: Option<u64>,
    lag_events: u64,
    lag_seconds: u64,
    parked_keys: u64,
    parked_events: u64,
    dead_letters: u64,
    subscriptions: Vec<SubscriptionState>,
    stalls: Vec<StallState>,
}

impl ServiceRow {
    fn of(state: ServiceState, now_ms: i64) -> Self {
        let (lag_events, lag_seconds) = state.lag();
        let silent_ms = state.heartbeat_ms.max(1).saturating_mul(SILENT_AFTER);
        let is_silent = now_ms.saturating_sub(state.seen_ms) > silent_ms;
        let is_full = state.subscriptions.iter().any(|one| one.full);
        let parked = || state.subscriptions.iter().filter_map(|one| one.parked.as_ref());
        let dead = state.subscriptions.iter().filter_map(|one| one.dead.as_ref());
        Self {
            state: match (is_silent, is_full, state.stalls.is_empty()) {
                (true, ..) => "silent",
                (false, true, _) => "full",
                (false, false, false) => "stalled",
                (false, false, true) => "running",
            },
            started: rfc3339(state.started_ms),
            seen: rfc3339(state.seen_ms),
            lag_events,
            lag_seconds,
            parked_keys: parked().map(|parked| parked.keys).sum(),
            parked_events: parked().map(|parked| parked.events).sum(),
            dead_letters: dead.map(|dead| dead.letters).sum(),
            service: state.service,
            instance: state.instance,
            code_version: state.code_version,
            courant_version: state.courant_version,
            engine: state.engine,
            store: state.store,
            operations: state.operations,
            outbox: state.outbox,
            subscriptions: state.subscriptions,
            stalls: state.stalls,
        }
    }
}

impl Row for ServiceRow {
    const TITLES: &'static [&'static str] = &[
        "service",
        "instance",
        "state",
        "version",
        "store",
        "consumers",
        "lag",
        "oldest",
        "parked",
        "dead",
        "outbox",
        "seen",
    ];

    fn cells(&self) -> Vec<String> {
        let consumers: Vec<&str> = self.subscriptions.iter().map(|one| one.consumer.as_str()).collect();
        vec![
            self.service.clone(),
            self.instance.clone(),
            self.state.to_owned(),
            self.code_version.clone(),
            or_dash(self.store.as_ref()),
            consumers.join(","),
            self.lag_events.to_string(),
            format!("{}s", self.lag_seconds),
            self.parked_keys.to_string(),
            self.dead_letters.to_string(),
            or_dash(self.outbox),
            or_dash(self.seen.as_ref()),
        ]
    }
}

/// Lists them.
pub(super) async fn run(global: &Global, args: &Services) -> Result<Exit, Failure> {
    let servers = if args.engine.is_empty() { &global.server } else { &args.engine };
    let mut found = states(global, servers).await?;
    found.sort_by(|a, b| {
        (&a.service, a.started_ms, &a.instance).cmp(&(&b.service, b.started_ms, &b.instance))
    });
    if found.is_empty() && !global.quiet && io::stderr().is_terminal() {
        note(format_args!("No service has said anything of itself on this engine."));
    }
    let now_ms = now_ms();
    let rows: Vec<ServiceRow> = found.into_iter().map(|state| ServiceRow::of(state, now_ms)).collect();
    list(&mut io::stdout().lock(), Format::or_default(global.output), &rows)
        .map_err(|error| Failure::output(&error))?;
    Ok(Exit::Ok)
}

#[cfg(test)]
mod tests {
    use super::*;
    use courant::channel::{DeadState, ParkedState, PartitionState};

    #[test]
    fn an_instance_that_says_nothing_is_silent() {
        let state = || ServiceState { seen_ms: 100_000, heartbeat_ms: 10_000, ..ServiceState::default() };
        assert_eq!(ServiceRow::of(state(), 130_000).state, "running");
        assert_eq!(ServiceRow::of(state(), 130_001).state, "silent");
    }

    #[test]
    fn an_instance_that_reads_nothing_more_is_full() {
        let one = |full| SubscriptionState { full, ..SubscriptionState::default() };
        let state = ServiceState { subscriptions: vec![one(false), one(true)], ..ServiceState::default() };
        assert_eq!(ServiceRow::of(state.clone(), 0).state, "full");
        assert_eq!(ServiceRow::of(state, 100_000).state, "silent", "what it said last is old");
    }

    #[test]
    fn an_instance_of_which_something_does_not_go_on_is_stalled() {
        let stalls = vec![StallState { reason: "store_full".to_owned(), ..StallState::default() }];
        let state = ServiceState { stalls, ..ServiceState::default() };
        assert_eq!(ServiceRow::of(state.clone(), 0).state, "stalled");
        let subscriptions = vec![SubscriptionState { full: true, ..SubscriptionState::default() }];
        assert_eq!(ServiceRow::of(ServiceState { subscriptions, ..state }, 0).state, "full");
    }

    #[test]
    fn what_its_consumers_say_adds_up() {
        let one = |lag, seconds, keys| SubscriptionState {
            consumer: "billing".to_owned(),
            parked: Some(ParkedState { keys, events: 2 * keys, ..ParkedState::default() }),
            dead: Some(DeadState { letters: keys, failures: Vec::new() }),
            partitions: vec![PartitionState {
                lag_events: Some(lag),
                lag_seconds: Some(seconds),
                ..PartitionState::default()
            }],
            ..SubscriptionState::default()
        };
        let state =
            ServiceState { subscriptions: vec![one(3, 30, 1), one(4, 5, 2)], ..ServiceState::default() };
        let row = ServiceRow::of(state, 0);
        assert_eq!((row.lag_events, row.lag_seconds), (7, 30));
        assert_eq!((row.parked_keys, row.parked_events, row.dead_letters), (3, 6, 3));
        assert_eq!(row.cells().len(), ServiceRow::TITLES.len());
    }
}
