//! Publishing by the CloudEvents HTTP binding.

mod body;
mod event;
mod modes;
mod store;

use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::{Extension, RawQuery, Request, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::on;
use courant_log::Topic;
use serde::Serialize;
use serde_json::json;
use tokio::sync::OwnedSemaphorePermit;

use self::event::{Mistake, NewEvent};
use self::store::{Lane, Outcome, append, packed};
use super::asked::Path;
use super::audit::{AUDIT_HEADER, PUBLISH, place};
use super::limits::{EVENT_MISTAKES_NAMED_MAX, PUBLISH_BODY_BYTES_MAX};
use super::problem::{BAD_REQUEST, INTERNAL_TOPIC, Problem, ProblemKind};
use super::route::{Access, Kind, RequestBody, Route, Schema, Verb, answer, field, path, query};
use super::{ApiState, Asked, Caller, Change};

/// What the names of the server's own topics begin with.
const INTERNAL_PREFIX: &str = "_courant.";

/// Ids that an audit event names.
const AUDITED_IDS_MAX: usize = 20;

static INVALID_EVENTS: ProblemKind = ProblemKind {
    status: StatusCode::UNPROCESSABLE_ENTITY,
    code: "invalid_events",
    title: "Nothing was stored",
};

static PARTLY_STORED: ProblemKind = ProblemKind {
    status: StatusCode::SERVICE_UNAVAILABLE,
    code: "partly_stored",
    title: "Some of the events were stored",
};

static BUSY: ProblemKind = ProblemKind {
    status: StatusCode::SERVICE_UNAVAILABLE,
    code: "busy",
    title: "Too much is being published",
};

pub(super) static ROUTES: &[Route] = &[Route {
    method: Verb::Post,
    path: "/topics/{topic}/events",
    id: "publish_events",
    summary: "Publishes events: CloudEvents in binary, structured or batched form, or a plain record",
    access: Access::Change,
    parameters: &[
        path("topic", "The topic's name"),
        query("key", Kind::Text, "The key of what has no attribute `partitionkey`"),
    ],
    body: Some(RequestBody {
        content_types: &[modes::JSON, modes::STRUCTURED_JSON, modes::BATCH_JSON, "*/*"],
        kind: Kind::Any,
        bytes_max: PUBLISH_BODY_BYTES_MAX,
    }),
    answer: answer(200, &PUBLISHED, "All of them are stored"),
    handler: |on_method| on(on_method, publish),
}];

static PUBLISHED: Schema = Schema {
    name: "published",
    fields: &[field(
        "events",
        Kind::Many(&Kind::Of(&STORED)),
        "Where each event is, in the order of the request",
    )],
};

static STORED: Schema = Schema {
    name: "published_event",
    fields: &[
        field("id", Kind::OrNull(&Kind::Text), "The event's id; null: a plain record"),
        field("topic", Kind::Text, ""),
        field("partition", Kind::Integer, ""),
        field("offset", Kind::Integer, ""),
    ],
};

/// What was published.
#[derive(Debug, Serialize)]
struct Published {
    events: Vec<Stored>,
}

/// Where one event is, or why it is not stored.
#[derive(Debug, Serialize)]
struct Stored {
    id: Option<String>,
    topic: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    partition: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    offset: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
}

/// An event that is not one that can be stored.
#[derive(Debug, Serialize)]
struct Refused {
    index: usize,
    id: Option<String>,
    detail: String,
}

async fn publish(
    State(state): State<ApiState>,
    Extension(caller): Extension<Caller>,
    Path(name): Path<String>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
    request: Request,
) -> Result<Response, Problem> {
    let asked_for = Asked::of(query.as_deref(), &["key"])?;
    let topic = state.topic(&name)?;
    if name.starts_with(INTERNAL_PREFIX) {
        let sentence = format!("{name} is the server's own; what others say there would not be believed");
        return Err(Problem::new(&INTERNAL_TOPIC, sentence));
    }
    let key = asked_for.text("key").map(str::to_owned);
    if key.as_deref() == Some("") {
        return Err(Problem::new(&BAD_REQUEST, "the key is empty; leave it out"));
    }
    let (body, share) = body::received(&state, &headers, request.into_body()).await?;
    let (any, now_ms) = (state.events().next_keyless(), state.now_ms());
    let received = Received { topic, headers, body, key, share };
    // A large body takes a while to be understood, and memory: a few of them are at one time.
    match state.blocking(move |_| received.understood(any, now_ms)).await? {
        Ok(parcel) => store(&state, caller, parcel).await,
        Err(mistakes) => Ok(invalid(mistakes)),
    }
}

/// A request that has come whole.
#[derive(Debug)]
struct Received {
    topic: Arc<Topic>,
    headers: HeaderMap,
    body: Bytes,
    key: Option<String>,
    share: OwnedSemaphorePermit,
}

/// Events on their way into the log.
#[derive(Debug)]
struct Parcel {
    topic: Arc<Topic>,
    ids: Vec<Option<String>>,
    lanes: Vec<Lane>,
    /// Bytes of the request's body.
    bytes: usize,
    /// Given back when all of it is stored.
    share: OwnedSemaphorePermit,
}

impl Received {
    /// The events as they are stored, or what is wrong with some of them. Takes a while.
    fn understood(self, any: u32, now_ms: i64) -> Result<Result<Parcel, Mistakes>, Problem> {
        let Self { topic, headers, body, key, share } = self;
        let events = match sound(modes::events(&headers, &body, key.as_deref())?) {
            Ok(events) => events,
            Err(mistakes) => return Ok(Err(mistakes)),
        };
        let count = events.len();
        if count == 0 {
            return Err(Problem::new(&BAD_REQUEST, "the batch has no event; send at least one"));
        }
        let ids = events.iter().map(|event| event.id.clone()).collect();
        Ok(match packed(&topic, events, any, now_ms) {
            Ok(lanes) => Ok(Parcel { topic, ids, lanes, bytes: body.len(), share }),
            Err(mistakes) => Err(Mistakes { count, mistakes }),
        })
    }
}

/// The events, if there is no mistake in any of them.
fn sound(events: Vec<Result<NewEvent, Mistake>>) -> Result<Vec<NewEvent>, Mistakes> {
    let count = events.len();
    let mut sound = Vec::with_capacity(count);
    let mut mistakes = Vec::new();
    for (index, event) in events.into_iter().enumerate() {
        match event {
            Ok(event) => sound.push(event),
            Err(mistake) => mistakes.push((index, mistake)),
        }
    }
    if mistakes.is_empty() { Ok(sound) } else { Err(Mistakes { count, mistakes }) }
}

/// What is wrong with some of so many events.
#[derive(Debug)]
struct Mistakes {
    count: usize,
    mistakes: Vec<(usize, Mistake)>,
}

async fn store(state: &ApiState, caller: Caller, parcel: Parcel) -> Result<Response, Problem> {
    let Parcel { topic, ids, lanes, bytes, share } = parcel;
    let count = ids.len();
    let named: Vec<_> = ids.iter().flatten().take(AUDITED_IDS_MAX).collect();
    let detail = json!({ "events": count, "bytes": bytes, "ids": named });
    let change = Change { caller, action: PUBLISH, target: topic.name.clone(), detail };
    let log = state.log()?.clone();
    let appended = async move {
        let outcomes = append(&log, lanes, count).await;
        drop(share);
        outcomes
    };
    let changed = state.change_in_part(change, appended, |outcomes: &Vec<Outcome>| not_whole(outcomes));
    let super::Changed { value: outcomes, audited } = changed.await?;
    let problem = not_whole(&outcomes);
    let stored = |(id, outcome): (Option<String>, Outcome)| {
        let topic = topic.name.clone();
        match outcome {
            Ok((partition, offset)) => {
                Stored { id, topic, partition: Some(partition), offset: Some(offset), error: None }
            }
            Err(error) => Stored { id, topic, partition: None, offset: None, error: Some(error) },
        }
    };
    let events: Vec<_> = ids.into_iter().zip(outcomes).map(stored).collect();
    if let Some(Problem { kind, detail, .. }) = problem {
        let mut response = with_events(kind, &detail, &events);
        response.headers_mut().insert(AUDIT_HEADER, place(audited));
        return Ok(response);
    }
    let value = Published { events };
    Ok(super::Changed { value, audited }.answer(StatusCode::OK))
}

/// What is to be said where some events were not stored.
fn not_whole(outcomes: &[Outcome]) -> Option<Problem> {
    let (failed, count) = (outcomes.iter().filter(|outcome| outcome.is_err()).count(), outcomes.len());
    let sentence =
        || format!("{failed} of {count} events were not stored; send those again that have an error");
    (failed > 0).then(|| Problem::new(&PARTLY_STORED, sentence()))
}

/// The answer to events with mistakes in them.
fn invalid(found: Mistakes) -> Response {
    let Mistakes { count, mistakes } = found;
    let wrong = mistakes.len();
    let first = mistakes.first().map(|(index, mistake)| format!("event {index}: {}", mistake.detail));
    let detail = format!(
        "{wrong} of {count} events cannot be stored, so none was; the first: {}",
        first.unwrap_or_default()
    );
    let refused = mistakes.into_iter().take(EVENT_MISTAKES_NAMED_MAX);
    let refused = refused.map(|(index, Mistake { id, detail })| Refused { index, id, detail });
    with_events(&INVALID_EVENTS, &detail, &refused.collect::<Vec<_>>())
}

/// A problem that says more about each event.
fn with_events<T: Serialize>(kind: &'static ProblemKind, detail: &str, events: &[T]) -> Response {
    let body = json!({
        "type": format!("urn:courant:problem:{}", kind.code),
        "title": kind.title,
        "status": kind.status.as_u16(),
        "detail": detail,
        "code": kind.code,
        "events": events,
    });
    let mut response = (kind.status, body.to_string()).into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    if kind.status == StatusCode::SERVICE_UNAVAILABLE {
        headers.insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_event_that_is_not_stored_is_enough() {
        assert!(not_whole(&[Ok((0, 7)), Ok((1, 0))]).is_none());
        let problem = not_whole(&[Ok((0, 7)), Err("the disk is full".to_owned())]).expect("one is missing");
        assert_eq!(problem.kind.code, "partly_stored");
        assert!(problem.detail.starts_with("1 of 2 events"), "{}", problem.detail);
    }
}
