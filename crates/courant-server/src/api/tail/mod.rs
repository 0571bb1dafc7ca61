//! Live tails: server-sent events of what is published. One stream has any number of subscriptions, which
//! are changed while it is open, so that a page needs one connection whatever it shows.

mod follower;
mod resume;
mod stream;
mod streams;
mod subscription;

use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::extract::{RawQuery, State};
use axum::http::HeaderMap;
use axum::response::Response;
use axum::routing::on;
use serde::{Deserialize, Serialize};

use self::resume::Resume;
use self::stream::Stream;
pub(crate) use self::streams::Streams;
use self::subscription::Wish;
use super::asked::Path;
use super::filter::{WHERE, Where};
use super::limits::{STREAM_PARTITIONS_MAX, SUBSCRIPTIONS_MAX};
use super::problem::{BAD_REQUEST, Problem};
use super::route::{
    Access, Answer, Kind, RequestBody, Route, Schema, Verb, answer, field, optional, path, query,
};
use super::{ApiState, Asked, Json, asked, sse};

pub(super) static ROUTES: &[Route] = &[
    Route {
        method: Verb::Get,
        path: "/tail",
        id: "open_tail",
        summary: "Records as they are published, as server-sent events",
        access: Access::Stream,
        parameters: &[
            query("topics", Kind::Text, "Topics with commas between; without them the stream waits for some"),
            query("partition", Kind::Text, "Partitions of each of them, with commas between; all if missing"),
            query(
                "from",
                Kind::Text,
                "start, end, an offset, -10 for the last ten of each partition, or @time: @-10m, \
                 @2026-01-31T08:00:00Z, or milliseconds since 1970",
            ),
            query("contains", Kind::Text, "Only records with this text somewhere in the value"),
            query("key", Kind::Text, "Only records with this key"),
            query("type", Kind::Text, "Only CloudEvents of this type"),
            query("rate", Kind::Integer, "Records a second at most, 10 to 100000; others are passed over"),
        ],
        body: None,
        answer: Answer {
            status: 200,
            content_type: sse::EVENT_STREAM,
            kind: Kind::Text,
            doc: "Events `open`, `subscribed`, `record`, `skipped`, `gap`, `ended` and at last `end`; with \
                  their ids as Last-Event-ID a stream goes on where it was",
        },
        handler: |on_method| on(on_method, open),
    },
    Route {
        method: Verb::Post,
        path: "/tail/{id}",
        id: "change_tail",
        summary: "Changes the subscriptions of a stream that is open: all of the changes, or none",
        access: Access::Stream,
        parameters: &[path("id", "The stream's id, from its first event")],
        body: Some(RequestBody::json(&CHANGES)),
        answer: answer(200, &CHANGED, "The subscriptions that the stream has now"),
        handler: |on_method| on(on_method, change),
    },
];

static CHANGES: Schema = Schema {
    name: "tail_changes",
    fields: &[
        optional("subscribe", Kind::Many(&Kind::Of(&SUBSCRIPTION)), "What the stream tells of from now on"),
        optional("unsubscribe", Kind::Many(&Kind::Text), "Names of subscriptions that end"),
    ],
};

static SUBSCRIPTION: Schema = Schema {
    name: "subscription",
    fields: &[
        optional("name", Kind::Text, "What its events are marked with; unique in the stream"),
        field("topics", Kind::Many(&Kind::Text), ""),
        optional(
            "partitions",
            Kind::Many(&Kind::Integer),
            "Partitions of each of them; all where it is missing",
        ),
        optional("from", Kind::Text, "start, end, an offset, -10, or @time; end where it is missing"),
        optional("positions", Kind::Many(&Kind::Of(&POSITION)), "Where some partitions begin instead"),
        optional("where", Kind::Of(&WHERE), "What a record must be"),
        optional("rate", Kind::Integer, "Records a second at most, 10 to 100000; others are passed over"),
    ],
};

static POSITION: Schema = Schema {
    name: "position",
    fields: &[
        field("topic", Kind::Text, ""),
        field("partition", Kind::Integer, ""),
        field("offset", Kind::Integer, ""),
    ],
};

static CHANGED: Schema = Schema {
    name: "tail",
    fields: &[
        field("stream", Kind::Text, "The stream's id"),
        field("subscriptions", Kind::Many(&Kind::Text), "Names of its subscriptions"),
    ],
};

async fn open(
    State(state): State<ApiState>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let known = ["topics", "partition", "from", "contains", "key", "type", "rate"];
    let asked = Asked::of(query.as_deref(), &known)?;
    let resume = match headers.get("last-event-id") {
        Some(id) => {
            let sentence = "the Last-Event-ID is not the id of an event of a stream; begin without it";
            let parsed = id.to_str().ok().and_then(Resume::parse);
            Some(parsed.ok_or_else(|| Problem::new(&BAD_REQUEST, sentence))?)
        }
        None => None,
    };
    let wish = wish(&asked)?;
    // Before a place is taken for it.
    let first = wish.map(|wish| wish.understood(&state, 0)).transpose()?;
    let id = resume.as_ref().map(|resume| resume.stream.as_str());
    let (held, is_resumed) = state.events().streams.open(id)?;
    if let Some(first) = first.filter(|_| !is_resumed) {
        held.entry.change(&[], 1, |_| Ok(vec![first]))?;
    }
    let places = resume.map(|resume| resume.places).unwrap_or_default();
    Ok(sse::answer(Stream::new(state.clone(), held, is_resumed, places)?))
}

/// The subscription that a query has, if it names topics.
fn wish(asked: &Asked) -> Result<Option<Wish>, Problem> {
    let text = |name: &str| asked.text(name).map(str::to_owned);
    let Some(topics) = asked.text("topics") else { return Ok(None) };
    let topics = topics.split(',').map(|topic| topic.trim().to_owned()).collect();
    let partitions = match asked.text("partition") {
        None => None,
        Some(list) => {
            let numbers = list.split(',').take(STREAM_PARTITIONS_MAX + 1);
            let numbers = numbers.map(|number| number.trim().parse()).collect::<Result<Vec<u32>, _>>();
            let problem =
                |_| Problem::new(&BAD_REQUEST, format!("partition is {list:?}; write numbers, as in 0,1"));
            Some(numbers.map_err(problem)?)
        }
    };
    let condition =
        Where { contains: text("contains"), key: text("key"), r#type: text("type"), ..Where::default() };
    let (from, rate) = (text("from"), asked.number("rate")?);
    Ok(Some(Wish { topics, partitions, from, condition, rate, ..Wish::default() }))
}

/// What to change of a stream.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Changes {
    #[serde(default)]
    subscribe: Vec<Wish>,
    #[serde(default)]
    unsubscribe: Vec<String>,
}

/// What a stream has then.
#[derive(Debug, Serialize)]
struct Changed {
    stream: String,
    subscriptions: Vec<String>,
}

async fn change(
    State(state): State<ApiState>,
    RawQuery(query): RawQuery,
    Path(id): Path<String>,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Result<Json<Changed>, Problem> {
    Asked::of(query.as_deref(), &[])?;
    let Changes { subscribe, unsubscribe } = asked::json(&headers, body)?;
    let most = SUBSCRIPTIONS_MAX;
    if subscribe.len() > most || unsubscribe.len() > most {
        let sentence = format!("a stream has at most {most} subscriptions");
        return Err(Problem::new(&BAD_REQUEST, sentence));
    }
    if subscribe.iter().any(|wish| wish.name.is_none()) {
        let sentence = "give each subscription a name: its events are marked with it";
        return Err(Problem::new(&BAD_REQUEST, sentence));
    }
    let entry = state.events().streams.get(&id)?;
    let count = u32::try_from(subscribe.len()).unwrap_or(u32::MAX);
    let subscriptions = entry.change(&unsubscribe, count, |first| {
        let numbered = (first..).zip(subscribe);
        numbered.map(|(number, wish)| wish.understood(&state, number)).collect()
    })?;
    Ok(Json(Changed { stream: id, subscriptions }))
}
