//! Searches: jobs that go through records and keep those that fit. A search is visible while it runs,
//! tells how far it is, shows what it has found so far, and can be cancelled.

mod condition;
mod exact;
mod job;
mod scan;
mod watching;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::extract::{RawQuery, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use axum::routing::on;
use serde::{Deserialize, Serialize};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use uuid::Uuid;

pub(crate) use self::condition::{Condition, Where};
use self::job::{Job, Plan, Progress, Results, Status};
use self::watching::Watching;
use super::asked::{self, Path};
use super::limits::{SEARCH_RESULTS, SEARCH_RESULTS_MAX, SEARCHES_RUNNING_MAX, TOPICS_NAMED_MAX};
use super::problem::{BAD_REQUEST, Problem, ProblemKind};
use super::records::begin::Begin;
use super::records::{GAP, RECORD, partition};
use super::route::{
    AFTER, Access, Answer, Field, Kind, LIMIT, Parameter, RequestBody, Route, Schema, Verb, answer, field,
    optional, path,
};
use super::{ApiState, Asked, Json, sse};

static SEARCH_NOT_FOUND: ProblemKind =
    ProblemKind { status: StatusCode::NOT_FOUND, code: "search_not_found", title: "There is no such search" };

static TOO_MANY_SEARCHES: ProblemKind = ProblemKind {
    status: StatusCode::TOO_MANY_REQUESTS,
    code: "too_many_searches",
    title: "Too many searches are under way",
};

static TOO_MANY_WATCHERS: ProblemKind = ProblemKind {
    status: StatusCode::TOO_MANY_REQUESTS,
    code: "too_many_streams",
    title: "Too many streams are open",
};

const ID: Parameter = path("id", "The search's id");

pub(super) static ROUTES: &[Route] = &[
    Route {
        method: Verb::Post,
        path: "/searches",
        id: "start_search",
        summary: "Begins to go through records for those that fit; what it has found can be had at any time",
        access: Access::Stream,
        parameters: &[],
        body: Some(RequestBody::json(&ASKED)),
        answer: answer(202, &PROGRESS, "The search, which goes on by itself"),
        handler: |on_method| on(on_method, start),
    },
    Route {
        method: Verb::Get,
        path: "/searches",
        id: "list_searches",
        summary: "The searches that are under way or ended a while ago",
        access: Access::Read,
        parameters: &[],
        body: None,
        answer: answer(200, &SEARCHES, "The newest first"),
        handler: |on_method| on(on_method, list),
    },
    Route {
        method: Verb::Get,
        path: "/searches/{id}",
        id: "get_search",
        summary: "How far a search has come",
        access: Access::Read,
        parameters: &[ID],
        body: None,
        answer: answer(200, &PROGRESS, "The search"),
        handler: |on_method| on(on_method, show),
    },
    Route {
        method: Verb::Delete,
        path: "/searches/{id}",
        id: "cancel_search",
        summary: "Ends a search; what it has found is kept until it expires",
        access: Access::Stream,
        parameters: &[ID],
        body: None,
        answer: answer(200, &PROGRESS, "The search, which has ended"),
        handler: |on_method| on(on_method, cancel),
    },
    Route {
        method: Verb::Get,
        path: "/searches/{id}/results",
        id: "get_search_results",
        summary: "What a search has found so far",
        access: Access::Read,
        parameters: &[ID, LIMIT, AFTER],
        body: None,
        answer: answer(200, &RESULTS, "Records in the order in which they were found"),
        handler: |on_method| on(on_method, results),
    },
    Route {
        method: Verb::Get,
        path: "/searches/{id}/stream",
        id: "watch_search",
        summary: "The progress of a search and what it finds, as server-sent events until it ends",
        access: Access::Stream,
        parameters: &[ID],
        body: None,
        answer: Answer {
            status: 200,
            content_type: sse::EVENT_STREAM,
            kind: Kind::Text,
            doc: "Events `record`, `progress` and at last `end`; the id of a record goes on behind it",
        },
        handler: |on_method| on(on_method, watch),
    },
];

static ASKED: Schema = Schema {
    name: "search_request",
    fields: &[
        field("topics", Kind::Many(&Kind::Text), "Topics to go through"),
        optional(
            "partitions",
            Kind::Many(&Kind::Integer),
            "Partitions of each of them; all where it is missing",
        ),
        optional("range", Kind::Of(&RANGE), "All that is there where it is missing"),
        field("where", Kind::Of(&WHERE), "What a record must be: all of it, and at least one thing"),
        optional("limit", Kind::Integer, "Records to keep, 1 to 10000; 100 where it is missing"),
    ],
};

const PLACE: &str = "start, end, an offset, -10 for the last ten of each partition, or @time: @-10m, \
                     @2026-01-31T08:00:00Z, or milliseconds since 1970";

static RANGE: Schema = Schema {
    name: "search_range",
    fields: &[optional("from", Kind::Text, PLACE), optional("to", Kind::Text, PLACE)],
};

pub(super) static WHERE: Schema = Schema {
    name: "condition",
    fields: &[
        optional("contains", Kind::Text, "A text somewhere in the value"),
        optional("key", Kind::Text, "The key, whole"),
        optional("header", Kind::Of(&WHERE_HEADER), "A header with its value"),
        optional("json", Kind::Of(&WHERE_JSON), "A place in a value that is JSON, and what stands there"),
        optional("type", Kind::Text, "The type of the CloudEvent"),
    ],
};

static WHERE_HEADER: Schema = Schema {
    name: "condition_header",
    fields: &[field("name", Kind::Text, ""), field("value", Kind::Text, "")],
};

static WHERE_JSON: Schema = Schema {
    name: "condition_json",
    fields: &[
        field("pointer", Kind::Text, "A JSON pointer, such as /order/id (RFC 6901)"),
        field(
            "equals",
            Kind::Any,
            "A text, a number, true, false or null; numbers are compared digit by digit",
        ),
    ],
};

/// Whether a search waits, runs or how it ended.
const STATUS: Field = field(
    "status",
    Kind::Words(&["queued", "running", "done", "cancelled", "failed"]),
    "Where the search stands",
);

static PROGRESS: Schema = Schema {
    name: "search",
    fields: &[
        field("id", Kind::Text, ""),
        STATUS,
        field("reason", Kind::OrNull(&Kind::Text), "Why it ended before it came to the end"),
        field("topics", Kind::Many(&Kind::Text), ""),
        field("scanned", Kind::Integer, "Offsets that were gone through"),
        field("of", Kind::OrNull(&Kind::Integer), "Offsets that there are; null: not counted yet"),
        field("bytes", Kind::Integer, "Bytes that were read"),
        field("found", Kind::Integer, "Records that fit"),
        field("kept", Kind::Integer, "Records that can be had"),
        field("rate", Kind::OrNull(&Kind::Integer), "Offsets a second; null: not known yet"),
        field("elapsed_ms", Kind::Integer, "How long it has run"),
        field("gaps", Kind::Many(&Kind::Of(&GAP)), "What was passed over because it is not there"),
        field("gaps_left_out", Kind::Integer, "Gaps that are not named"),
        field("expires_in_ms", Kind::OrNull(&Kind::Integer), "When it is forgotten; null: not while it runs"),
    ],
};

static SEARCHES: Schema = Schema {
    name: "searches",
    fields: &[field("searches", Kind::Many(&Kind::Of(&PROGRESS)), "The newest first")],
};

static RESULTS: Schema = Schema {
    name: "search_results",
    fields: &[
        STATUS,
        field("records", Kind::Many(&Kind::Of(&RECORD)), ""),
        field("next", Kind::OrNull(&Kind::Text), "The `after` of the next page; null: the search has ended"),
    ],
};

/// The searches that are remembered, the oldest first.
#[derive(Debug)]
pub(crate) struct Searches {
    jobs: Mutex<Vec<Arc<Job>>>,
    jobs_max: usize,
    turns: Arc<Semaphore>,
    /// Places of those who watch one.
    watchers: Arc<Semaphore>,
}

impl Searches {
    /// So many searches at most, which so many connections may watch at one time.
    pub(super) fn new(watchers_max: usize, jobs_max: usize) -> Self {
        Self {
            jobs: Mutex::default(),
            jobs_max,
            turns: Arc::new(Semaphore::new(SEARCHES_RUNNING_MAX)),
            watchers: Arc::new(Semaphore::new(watchers_max)),
        }
    }

    /// A place for one who watches.
    fn watcher(&self) -> Result<OwnedSemaphorePermit, Problem> {
        let place = Arc::clone(&self.watchers).try_acquire_owned();
        place.map_err(|_| {
            let sentence =
                "as many searches are watched as can be; ask GET /api/v1/searches/{id} now and then";
            Problem::new(&TOO_MANY_WATCHERS, sentence)
        })
    }

    fn jobs(&self) -> MutexGuard<'_, Vec<Arc<Job>>> {
        self.jobs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The turns that running searches have.
    fn turns(&self) -> Arc<Semaphore> {
        Arc::clone(&self.turns)
    }

    /// Remembers a search. The one that ended longest ago makes room for it.
    fn add(&self, job: &Arc<Job>) -> Result<(), Problem> {
        let mut jobs = self.jobs();
        if jobs.len() >= self.jobs_max {
            let ages = jobs.iter().map(|job| job.age()).enumerate();
            let ended = ages.filter(|(_, (is_under_way, _))| !is_under_way);
            let Some((oldest, _)) = ended.min_by_key(|(_, (_, ended))| *ended) else {
                let most = self.jobs_max;
                let sentence = format!("{most} searches are under way; cancel one, or wait for its end");
                return Err(Problem::new(&TOO_MANY_SEARCHES, sentence));
            };
            jobs.remove(oldest);
        }
        jobs.push(Arc::clone(job));
        Ok(())
    }

    /// Ends all of them, so that those who watch them are told.
    pub(super) fn stop(&self) {
        for job in self.jobs().iter() {
            job.end(Status::Cancelled, Some("the server is stopping".to_owned()));
        }
    }

    fn forget(&self, id: &str) {
        self.jobs().retain(|job| job.id != id);
    }

    fn get(&self, id: &str) -> Result<Arc<Job>, Problem> {
        let found = self.jobs().iter().find(|job| job.id == id).cloned();
        found.ok_or_else(|| {
            let sentence = "there is no such search; ended ones are forgotten after ten minutes";
            Problem::new(&SEARCH_NOT_FOUND, sentence)
        })
    }
}

/// What a search is asked to do.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Wanted {
    topics: Vec<String>,
    partitions: Option<Vec<u32>>,
    #[serde(default)]
    range: Range,
    #[serde(rename = "where")]
    condition: Where,
    limit: Option<usize>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Range {
    from: Option<String>,
    to: Option<String>,
}

impl Wanted {
    fn plan(self, state: &ApiState) -> Result<Plan, Problem> {
        let bad = |sentence: String| Problem::new(&BAD_REQUEST, sentence);
        if !(1..=TOPICS_NAMED_MAX).contains(&self.topics.len()) {
            return Err(bad(format!("name 1 to {TOPICS_NAMED_MAX} topics")));
        }
        let limit = self.limit.unwrap_or(SEARCH_RESULTS);
        if !(1..=SEARCH_RESULTS_MAX).contains(&limit) {
            return Err(bad(format!(
                "a search keeps 1 to {SEARCH_RESULTS_MAX} records; choose another limit"
            )));
        }
        let condition = Condition::of(self.condition)?;
        if condition.is_empty() {
            let sentence = "say what to look for, as in {\"where\": {\"contains\": \"text\"}}";
            return Err(bad(sentence.to_owned()));
        }
        let place = |text: Option<String>, otherwise: Begin| {
            text.map_or(Ok(otherwise), |text| text.parse::<Begin>()).map_err(bad)
        };
        let (from, to) = (place(self.range.from, Begin::Start)?, place(self.range.to, Begin::End)?);
        let mut names = self.topics;
        names.sort_unstable();
        names.dedup();
        let topics = names.iter().map(|name| state.topic(name)).collect::<Result<Vec<_>, _>>()?;
        let mut partitions = self.partitions;
        if let Some(numbers) = &mut partitions {
            numbers.sort_unstable();
            numbers.dedup();
            for topic in &topics {
                for number in &*numbers {
                    partition(topic, *number)?;
                }
            }
        }
        Ok(Plan { topics, partitions, from, to, condition, limit })
    }
}

async fn start(
    State(state): State<ApiState>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Result<(StatusCode, Json<Progress>), Problem> {
    Asked::of(query.as_deref(), &[])?;
    let wanted: Wanted = asked::json(&headers, body)?;
    let job = Arc::new(Job::new(Uuid::now_v7().to_string(), wanted.plan(&state)?));
    state.events().searches.add(&job)?;
    tokio::spawn(scan::run(state.clone(), Arc::clone(&job)));
    Ok((StatusCode::ACCEPTED, Json(job.progress())))
}

/// All searches.
#[derive(Debug, Serialize)]
struct Listed {
    searches: Vec<Progress>,
}

async fn list(State(state): State<ApiState>, RawQuery(query): RawQuery) -> Result<Json<Listed>, Problem> {
    Asked::of(query.as_deref(), &[])?;
    let searches = state.events().searches.jobs().iter().rev().map(|job| job.progress()).collect();
    Ok(Json(Listed { searches }))
}

async fn show(
    State(state): State<ApiState>,
    RawQuery(query): RawQuery,
    Path(id): Path<String>,
) -> Result<Json<Progress>, Problem> {
    Asked::of(query.as_deref(), &[])?;
    Ok(Json(state.events().searches.get(&id)?.progress()))
}

async fn cancel(
    State(state): State<ApiState>,
    RawQuery(query): RawQuery,
    Path(id): Path<String>,
) -> Result<Json<Progress>, Problem> {
    Asked::of(query.as_deref(), &[])?;
    let job = state.events().searches.get(&id)?;
    job.end(Status::Cancelled, Some("it was cancelled".to_owned()));
    Ok(Json(job.progress()))
}

async fn results(
    State(state): State<ApiState>,
    RawQuery(query): RawQuery,
    Path(id): Path<String>,
) -> Result<Json<Results>, Problem> {
    let asked = Asked::of(query.as_deref(), &["after", "limit"])?;
    let first = asked.number("after")?.map_or(0, |first| usize::try_from(first).unwrap_or(usize::MAX));
    Ok(Json(state.events().searches.get(&id)?.results(first, asked.limit()?)))
}

async fn watch(
    State(state): State<ApiState>,
    RawQuery(query): RawQuery,
    Path(id): Path<String>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    Asked::of(query.as_deref(), &[])?;
    let last = headers.get("last-event-id").and_then(|id| id.to_str().ok()?.parse().ok());
    let searches = &state.events().searches;
    Ok(sse::answer(Watching::new(searches.get(&id)?, searches.watcher()?, last.unwrap_or(0))))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::sse::Pieces as _;

    #[tokio::test]
    async fn who_watches_is_told_when_the_server_stops() {
        let searches = Searches::new(1, 2);
        let plan = Plan {
            topics: Vec::new(),
            partitions: None,
            from: Begin::Start,
            to: Begin::End,
            condition: Condition::default(),
            limit: 1,
        };
        searches.add(&Arc::new(Job::new("s".to_owned(), plan))).expect("room");
        let place = searches.watcher().expect("a place");
        let mut watching = Watching::new(searches.get("s").expect("it is there"), place, 0);
        let first = watching.next().await.expect("a word");
        assert!(first.contains("event: progress"), "{first}");
        searches.stop();
        let last = watching.next().await.expect("a word");
        assert!(last.contains("event: end") && last.contains("the server is stopping"), "{last}");
        assert!(watching.next().await.is_none());
    }
}
