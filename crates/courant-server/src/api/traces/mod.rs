//! Traces: what belongs together by a correlation id, and what caused what.
//!
//! `follow` reads the log and keeps `index`, which knows places alone; `order` puts a trace in order, and
//! `nodes` takes what is shown out of the log.

mod facts;
mod follow;
mod index;
mod nodes;
mod order;
mod places;
mod schemas;

use std::collections::HashMap;

use axum::extract::{RawQuery, State};
use axum::http::StatusCode;
use axum::routing::on;
use courant_log::batch::records::Record;
use courant_log::{Log, PartitionId};
use serde::Serialize;

use self::facts::{Facts, Joined};
pub(crate) use self::index::Index;
use self::index::{Counts, Found, Listed, New};
use self::nodes::{Node, Place, Said, each};
use self::order::causal;
use self::schemas::{TRACE, TRACES};
use super::asked::Path;
use super::lag::Places;
use super::limits::{CONDITION_BYTES_MAX, TRACE_EVENTS, TRACE_PAGE_NODES};
use super::problem::{BAD_REQUEST, Problem, ProblemKind};
use super::records::shown::rfc3339;
use super::route::{AFTER, Access, Kind, LIMIT, Parameter, Route, Verb, answer, path, query};
use super::topics::is_internal;
use super::{ApiState, Asked, Json};

static TRACE_NOT_FOUND: ProblemKind = ProblemKind {
    status: StatusCode::NOT_FOUND,
    code: "trace_not_found",
    title: "Nothing is known of such a trace",
};

/// What the index of traces keeps.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TraceSettings {
    /// Records in the index at most; 0: there is none.
    pub events: usize,
    /// A header whose value joins events that have neither a correlation id nor a `traceparent`.
    pub correlation_header: Option<String>,
}

impl Default for TraceSettings {
    fn default() -> Self {
        Self { events: TRACE_EVENTS, correlation_header: None }
    }
}

const NODES: Parameter = query("limit", Kind::Integer, "Nodes at most, 1 to 1000; 500 where it is missing");

pub(super) static ROUTES: &[Route] = &[
    Route {
        method: Verb::Get,
        path: "/traces",
        id: "list_traces",
        summary: "Traces, the last changed first; within a page those with dead letters come first",
        access: Access::Read,
        parameters: &[
            query("failed", Kind::Flag, "With `true` only those with dead letters"),
            query("min_events", Kind::Integer, "Only those with so many events; 1 where it is missing"),
            LIMIT,
            AFTER,
        ],
        body: None,
        answer: answer(200, &TRACES, "Traces, and what the index knows"),
        handler: |on_method| on(on_method, list),
    },
    Route {
        method: Verb::Get,
        path: "/traces/{id}",
        id: "get_trace",
        summary: "What belongs together, each event behind its cause",
        access: Access::Read,
        parameters: &[
            path("id", "A correlation id, a trace id, or the id of one of the events"),
            NODES,
            AFTER,
        ],
        body: None,
        answer: answer(200, &TRACE, "Its events, and what the index knows"),
        handler: |on_method| on(on_method, show),
    },
];

/// Whether the records of a topic are indexed: those of the server's and of tools' own are not.
fn is_looked_at(topic: &str) -> bool {
    !is_internal(topic) && !topic.starts_with("__")
}

/// Keeps the index until the task is aborted.
pub(super) async fn keep(state: ApiState) {
    follow::keep(state).await;
}

/// What the index knows, and what it does not.
#[derive(Debug, Serialize)]
struct Known {
    state: &'static str,
    events: usize,
    events_max: usize,
    seen: u64,
    without_correlation: u64,
    behind: u64,
    passed_over: u64,
    complete_since: Option<String>,
}

impl Known {
    fn of(state: &ApiState, log: &Log) -> Self {
        let (counts, events, events_max) = state.traces(|index| (index.counts, index.len(), index.max()));
        let catalog = log.catalog();
        let topics = catalog.topics().filter(|topic| is_looked_at(&topic.name));
        let ends = topics.flat_map(|topic| &topic.partitions).filter_map(|id| log.offsets(*id));
        let end = ends.map(|ends| ends.high_watermark).fold(0, u64::saturating_add);
        let behind = if events_max == 0 { 0 } else { end.saturating_sub(counts.reached) };
        Self {
            state: word(events_max, counts),
            events,
            events_max,
            seen: counts.seen,
            without_correlation: counts.without,
            behind,
            passed_over: counts.passed_over,
            complete_since: counts.complete_since_ms.and_then(rfc3339),
        }
    }
}

/// Whether an index of so many records is kept, and how far it is.
fn word(events_max: usize, counts: Counts) -> &'static str {
    match (events_max, counts.has_failed, counts.has_caught_up) {
        (0, ..) => "off",
        (_, true, _) => "failed",
        (_, _, false) => "building",
        (_, _, true) => "following",
    }
}

/// What a record at a place says.
fn facts<'a>(state: &ApiState, log: &Log, names: &Places, id: PartitionId, record: &'a Record) -> Facts<'a> {
    let facts = Facts::of(record, state.settings().traces.correlation_header.as_deref());
    match names.get(id) {
        Some((topic, number)) => facts.placed(record, &log.id(), &topic.name, *number),
        None => facts,
    }
}

#[derive(Debug, Serialize)]
struct Traces {
    traces: Vec<Row>,
    next: Option<String>,
    index: Known,
}

/// A trace in the list.
#[derive(Debug, Serialize)]
struct Row {
    id: Option<String>,
    joined_by: Option<&'static str>,
    events: u32,
    dead_letters: u32,
    first: Option<String>,
    last: Option<String>,
    begins_before: bool,
    root: Option<Root>,
}

#[derive(Debug, Serialize)]
struct Root {
    r#type: Option<String>,
    source: Option<String>,
    topic: String,
    partition: u32,
    offset: u64,
    key: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    key_encoding: Option<&'static str>,
}

async fn list(State(state): State<ApiState>, RawQuery(query): RawQuery) -> Result<Json<Traces>, Problem> {
    let asked = Asked::of(query.as_deref(), &["failed", "min_events", "limit", "after"])?;
    let (limit, failed) = (asked.limit()?, asked.flag("failed")?);
    let (after, events_min) = (asked.number("after")?, asked.number("min_events")?.unwrap_or(1));
    let traces = state.blocking(move |state| {
        let log = state.log()?;
        let index = Known::of(state, log);
        let listing = state.traces(|index| index.list(after, limit, failed, events_min));
        let mut traces = rows(state, log, &listing.traces);
        traces.sort_by_key(|row| row.dead_letters == 0);
        Ok(Traces { traces, next: listing.next.map(|next| next.to_string()), index })
    });
    traces.await.map(Json)
}

/// What the root and the newest record of each trace say of it.
fn rows(state: &ApiState, log: &Log, listed: &[Listed]) -> Vec<Row> {
    let names = Places::of(&log.catalog());
    let mut wanted: Vec<Place> =
        listed.iter().flat_map(|one| [place(&one.root), place(&one.newest)]).collect();
    wanted.sort_unstable();
    wanted.dedup();
    let mut told: HashMap<Place, (Option<(String, Joined)>, Said)> = HashMap::new();
    each(log, &mut wanted, |place, record| {
        if let Ok(record) = record {
            // A longer one cannot be asked for, and whoever publishes makes it as long as a record.
            let trace = facts(state, log, &names, place.0, record).trace;
            let trace = trace.filter(|(id, _)| id.len() <= CONDITION_BYTES_MAX);
            let trace = trace.map(|(id, joined)| (id.into_owned(), joined));
            told.insert(place, (trace, Said::of(record)));
        }
    });
    let row = |one: &Listed| {
        let (root, newest) = (told.get(&place(&one.root)), told.get(&place(&one.newest)));
        let trace = [root, newest].into_iter().flatten().find_map(|(trace, _)| trace.as_ref());
        let root = root.zip(names.get(one.root.partition)).map(|((_, said), (topic, number))| Root {
            r#type: said.r#type.clone(),
            source: said.source.clone(),
            topic: topic.name.clone(),
            partition: *number,
            offset: one.root.offset,
            key: said.key.clone(),
            key_encoding: said.key_encoding,
        });
        Row {
            id: trace.map(|(id, _)| id.clone()),
            joined_by: trace.map(|(_, joined)| joined.word()),
            events: one.events,
            dead_letters: one.dead,
            first: rfc3339(one.first_ms),
            last: rfc3339(one.last_ms),
            begins_before: one.has_forgotten,
            root,
        }
    };
    listed.iter().map(row).collect()
}

/// A trace, or a page of it.
#[derive(Debug, Serialize)]
struct Trace {
    id: String,
    joined_by: &'static str,
    asked_event: Option<usize>,
    events: usize,
    dead_letters: usize,
    first: Option<String>,
    last: Option<String>,
    begins_before: bool,
    left_out: usize,
    nodes: Vec<Node>,
    unknown_parents: Vec<Unknown>,
    next: Option<String>,
    index: Known,
}

/// A cause that is not there.
#[derive(Debug, Serialize)]
struct Unknown {
    event_id: String,
    children: Vec<usize>,
}

async fn show(
    State(state): State<ApiState>,
    RawQuery(query): RawQuery,
    Path(id): Path<String>,
) -> Result<Json<Trace>, Problem> {
    let asked = Asked::of(query.as_deref(), &["limit", "after"])?;
    let limit = if asked.text("limit").is_some() { asked.limit()? } else { TRACE_PAGE_NODES };
    let after = asked.number("after")?.map_or(Ok(0), usize::try_from);
    let after = after.map_err(|_| Problem::new(&BAD_REQUEST, "after is no page of this trace"))?;
    if id.is_empty() || id.len() > CONDITION_BYTES_MAX {
        let sentence = format!("an id has 1 to {CONDITION_BYTES_MAX} bytes");
        return Err(Problem::new(&BAD_REQUEST, sentence));
    }
    state.blocking(move |state| page(state, id, after, limit)).await.map(Json)
}

fn page(state: &ApiState, id: String, after: usize, limit: usize) -> Result<Trace, Problem> {
    let log = state.log()?;
    let index = Known::of(state, log);
    let Some(found) = state.traces(|index| index.find(&id)) else { return Err(not_found(&id, &index)) };
    let Found { members, events, dead, has_forgotten, joined, asked } = found;
    let times = || members.iter().map(|member| member.time_ms).filter(|time_ms| *time_ms >= 0);
    let (first, last) = (times().min().and_then(rfc3339), times().max().and_then(rfc3339));
    let left_out = events.saturating_sub(members.len());
    let placed = causal(members);
    let is_asked = |new: &New| asked.is_some_and(|asked| place(&asked) == place(new));
    let asked_event = placed.iter().position(|one| is_asked(&one.new));
    let names = Places::of(&log.catalog());
    let mut nodes = Vec::new();
    let mut wanted = HashMap::new();
    for (n, one) in placed.iter().enumerate().skip(after).take(limit) {
        wanted.insert(place(&one.new), nodes.len());
        nodes.push(Node::new(n, one, &names));
    }
    let mut places: Vec<Place> = wanted.keys().copied().collect();
    let asked_place = asked.as_ref().map(place);
    // What joins them is read from the event that was asked for, wherever it stands.
    places.extend(asked_place.filter(|place| !wanted.contains_key(place)));
    let mut joined_by_id = None;
    each(log, &mut places, |place, record| {
        let told = record.map(|record| (record, facts(state, log, &names, place.0, record)));
        if let Ok((_, facts)) = &told
            && asked_place == Some(place)
        {
            joined_by_id = facts.trace.as_ref().map(|(id, _)| id.clone().into_owned());
        }
        if let Some(node) = wanted.get(&place).and_then(|at| nodes.get_mut(*at)) {
            node.tell(told);
        }
    });
    let next = after.saturating_add(nodes.len());
    Ok(Trace {
        id: joined_by_id.unwrap_or(id),
        joined_by: joined.word(),
        asked_event,
        events,
        dead_letters: dead,
        first,
        last,
        begins_before: has_forgotten,
        left_out,
        unknown_parents: unknown_parents(&nodes),
        next: (next < placed.len()).then(|| next.to_string()),
        nodes,
        index,
    })
}

fn place(new: &New) -> Place {
    (new.partition, new.offset)
}

/// The causes that nodes name and that are in no index, each with all of its effects.
fn unknown_parents(nodes: &[Node]) -> Vec<Unknown> {
    let mut found: Vec<Unknown> = Vec::new();
    let mut places: HashMap<&str, usize> = HashMap::new();
    for node in nodes {
        let Some(event_id) = node.unknown_parent() else { continue };
        let place = *places.entry(event_id).or_insert(found.len());
        match found.get_mut(place) {
            Some(unknown) => unknown.children.push(node.n()),
            None => found.push(Unknown { event_id: event_id.to_owned(), children: vec![node.n()] }),
        }
    }
    found
}

/// Says what was asked for, and why it may still be there.
fn not_found(id: &str, index: &Known) -> Problem {
    let why = match (index.state, &index.complete_since) {
        ("off", _) => "the server keeps no index; start it with --trace-index-events".to_owned(),
        ("failed", _) => {
            "nothing comes to the index any more, because of a defect; the log of the server says which, and \
             a restart builds it anew"
                .to_owned()
        }
        ("building", _) => "the index is being built; ask again in a moment".to_owned(),
        (_, Some(since)) => {
            format!("events before {since} are not indexed; POST /api/v1/searches finds them")
        }
        (_, None) => format!("{} records are indexed, and none has it", index.events),
    };
    Problem::new(&TRACE_NOT_FOUND, format!("there is no trace {id:?}: {why}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_index_that_stands_still_says_so() {
        let counts = Counts::default();
        assert_eq!(word(0, counts), "off");
        assert_eq!(word(1, counts), "building");
        assert_eq!(word(1, Counts { has_caught_up: true, ..counts }), "following");
        assert_eq!(word(1, Counts { has_caught_up: true, has_failed: true, ..counts }), "failed");
    }
}
