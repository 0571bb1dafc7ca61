//! Records: pages of them, one by its position, and one by its event's id.

pub(crate) mod begin;
pub(crate) mod cloudevent;
pub(crate) mod read;
pub(crate) mod shown;

mod find;
mod page;
mod whole;

use std::sync::Arc;

use axum::extract::{RawQuery, State};
use axum::http::StatusCode;
use axum::response::Response;
use axum::routing::on;
use courant_log::{Log, PartitionId, Topic};
use serde_json::value::RawValue;

use self::begin::Begin;
use self::page::{First, Page};
use self::read::{Taken, read};
use self::shown::{Room, shown};
use self::whole::whole;
use super::asked::Path;
use super::limits::RECORD_PARTITIONS_MAX;
use super::problem::{BAD_REQUEST, INVALID, PARTITION_NOT_FOUND, Problem, ProblemKind};
use super::route::{
    AFTER, Access, Kind, LIMIT, Parameter, Route, Schema, Verb, answer, field, optional, path, query,
};
use super::{ApiState, Asked, Json};

pub(super) static RECORD_NOT_FOUND: ProblemKind =
    ProblemKind { status: StatusCode::NOT_FOUND, code: "record_not_found", title: "There is no such record" };

static RECORD_UNREADABLE: ProblemKind = ProblemKind {
    status: StatusCode::INTERNAL_SERVER_ERROR,
    code: "record_unreadable",
    title: "The record cannot be had",
};

const TOPIC: Parameter = path("topic", "The topic's name");

pub(super) static ROUTES: &[Route] = &[
    Route {
        method: Verb::Get,
        path: "/topics/{topic}/records",
        id: "list_records",
        summary: "Records of a topic from any place on; those of a page are in the order of time",
        access: Access::Read,
        parameters: &[
            TOPIC,
            query(
                "partition",
                Kind::Text,
                "Partitions by number, with commas between; all where it is missing",
            ),
            query(
                "from",
                Kind::Text,
                "start, end, an offset, -10 for the last ten of each partition, or @time: @-10m, \
                 @2026-01-31T08:00:00Z, or milliseconds since 1970",
            ),
            LIMIT,
            AFTER,
        ],
        body: None,
        answer: answer(200, &PAGE, "Records, and what is named because it is not there"),
        handler: |on_method| on(on_method, list),
    },
    Route {
        method: Verb::Get,
        path: "/topics/{topic}/records/{partition}/{offset}",
        id: "get_record",
        summary: "One record by its position, whole up to 8 MiB",
        access: Access::Read,
        parameters: &[
            TOPIC,
            path("partition", "The partition's number"),
            path("offset", "The record's offset"),
        ],
        body: None,
        answer: answer(200, &RECORD, "The record"),
        handler: |on_method| on(on_method, one),
    },
    Route {
        method: Verb::Get,
        path: "/topics/{topic}/events/{id}",
        id: "get_event",
        summary: "One record by the id of its CloudEvent, if it is not far from where the id says",
        access: Access::Read,
        parameters: &[TOPIC, path("id", "The event's id")],
        body: None,
        answer: answer(200, &RECORD, "The record"),
        handler: |on_method| on(on_method, by_id),
    },
];

pub(super) static RECORD: Schema = Schema {
    name: "record",
    fields: &[
        field("topic", Kind::Text, ""),
        field("partition", Kind::Integer, ""),
        field("offset", Kind::Integer, ""),
        field("timestamp", Kind::OrNull(&Kind::Text), "RFC 3339 in UTC, with milliseconds"),
        field("key", Kind::OrNull(&Kind::Text), "The key's source text"),
        optional("key_encoding", Kind::Words(&["base64"]), "How bytes that are no UTF-8 are written"),
        optional("key_truncated", Kind::Flag, "Whether the key is longer than what is shown"),
        field("value", Kind::OrNull(&Kind::Text), "The value's source text: numbers in it keep every digit"),
        optional("value_encoding", Kind::Words(&["base64"]), "How bytes that are no UTF-8 are written"),
        optional("value_format", Kind::Words(&["json"]), "Whether the whole value is JSON"),
        optional("value_truncated", Kind::Flag, "Whether the value is longer than what is shown"),
        field("headers", Kind::Many(&Kind::Of(&HEADER)), "In order; names may repeat"),
        optional("headers_left_out", Kind::Integer, "Headers that are there and not shown"),
        field("size", Kind::Integer, "Bytes of key, value and headers"),
        field(
            "cloudevent",
            Kind::OrNull(&Kind::Map(&Kind::Text)),
            "The event's attributes; null: it is none",
        ),
    ],
};

static HEADER: Schema = Schema {
    name: "header",
    fields: &[
        field("key", Kind::Text, "The header's name"),
        field("value", Kind::OrNull(&Kind::Text), ""),
        optional("value_encoding", Kind::Words(&["base64"]), "How bytes that are no UTF-8 are written"),
        optional("value_truncated", Kind::Flag, "Whether the value is longer than what is shown"),
    ],
};

pub(super) static GAP: Schema = Schema {
    name: "gap",
    fields: &[
        field("topic", Kind::Text, ""),
        field("partition", Kind::Integer, ""),
        field("first_offset", Kind::Integer, "The first offset without its record"),
        field(
            "last_offset",
            Kind::OrNull(&Kind::Integer),
            "The last one; null: nobody knows how far it goes",
        ),
        field("code", Kind::Words(&["damaged", "undecodable", "deleted"]), ""),
        field("reason", Kind::Text, "A sentence"),
    ],
};

static PAGE: Schema = Schema {
    name: "record_page",
    fields: &[
        field("topic", Kind::Text, ""),
        field("records", Kind::Many(&Kind::Of(&RECORD)), "By time; those of one partition by offset"),
        field("gaps", Kind::Many(&Kind::Of(&GAP)), "What was passed over because it is not there"),
        field("partitions", Kind::Many(&Kind::Of(&PART)), "How far each partition was read"),
        field(
            "next",
            Kind::OrNull(&Kind::Text),
            "The `after` of the next page; null: this one came to the end",
        ),
    ],
};

static PART: Schema = Schema {
    name: "record_page_partition",
    fields: &[
        field("partition", Kind::Integer, ""),
        field("start", Kind::Integer, "Offset of the oldest record that is kept"),
        field("end", Kind::Integer, "Offset behind the newest"),
        field("next", Kind::Integer, "Offset at which the next page begins"),
    ],
};

async fn list(
    State(state): State<ApiState>,
    RawQuery(query): RawQuery,
    Path(topic): Path<String>,
) -> Result<Json<Page>, Problem> {
    let asked = Asked::of(query.as_deref(), &["partition", "from", "limit", "after"])?;
    let limit = asked.limit()?;
    let topic = state.topic(&topic)?;
    let first = match asked.text("after") {
        Some(_) if asked.text("from").is_some() || asked.text("partition").is_some() => {
            let sentence = "`after` says where and in which partitions the page begins; leave the others out";
            return Err(Problem::new(&BAD_REQUEST, sentence));
        }
        Some(after) => First::after(&topic, after)?,
        None => {
            First::Begin { partitions: partitions(&topic, asked.text("partition"))?, begin: begin(&asked)? }
        }
    };
    let now_ms = state.now_ms();
    let page = state.blocking(move |state| Page::read(state.log()?, &topic, first, limit, now_ms)).await?;
    Ok(Json(page))
}

/// Where reading begins; at the start where nobody says.
fn begin(asked: &Asked) -> Result<Begin, Problem> {
    let from = asked.text("from").unwrap_or("start");
    from.parse().map_err(|sentence: String| Problem::new(&BAD_REQUEST, sentence))
}

/// The partitions that a query names, or all of them.
fn partitions(topic: &Topic, text: Option<&str>) -> Result<Vec<u32>, Problem> {
    let mut numbers = Vec::new();
    match text {
        None => {
            let all = 0..u32::try_from(topic.partitions.len()).unwrap_or(u32::MAX);
            numbers.extend(all.take(RECORD_PARTITIONS_MAX + 1));
        }
        Some(text) => {
            for word in text.split(',').take(RECORD_PARTITIONS_MAX + 1) {
                let number = number(word.trim(), "partition")?;
                partition(topic, number)?;
                if !numbers.contains(&number) {
                    numbers.push(number);
                }
            }
        }
    }
    if numbers.len() > RECORD_PARTITIONS_MAX {
        let sentence = format!(
            "{} has {} partitions; name at most {RECORD_PARTITIONS_MAX} of them, as in ?partition=0,1",
            topic.name,
            topic.partitions.len()
        );
        return Err(Problem::new(&INVALID, sentence));
    }
    Ok(numbers)
}

/// A whole number in a path or a list.
fn number<T: std::str::FromStr>(text: &str, what: &str) -> Result<T, Problem> {
    let problem = || Problem::new(&BAD_REQUEST, format!("the {what} is {text:?}; write a whole number"));
    text.parse().map_err(|_| problem())
}

/// The partition of that number.
pub(super) fn partition(topic: &Topic, number: u32) -> Result<PartitionId, Problem> {
    let found = usize::try_from(number).ok().and_then(|number| topic.partitions.get(number));
    found.copied().ok_or_else(|| {
        let have = topic.partitions.len();
        let sentence = format!("{} has {have} partitions, from 0 on; there is no {number}", topic.name);
        Problem::new(&PARTITION_NOT_FOUND, sentence)
    })
}

async fn one(
    State(state): State<ApiState>,
    RawQuery(query): RawQuery,
    Path((topic, partition_number, offset)): Path<(String, String, String)>,
) -> Result<Response, Problem> {
    Asked::of(query.as_deref(), &[])?;
    let topic = state.topic(&topic)?;
    let number: u32 = number(&partition_number, "partition")?;
    let offset: u64 = self::number(&offset, "offset")?;
    let id = partition(&topic, number)?;
    whole(&state, move |state| at(state.log()?, &topic, (number, id), offset)).await
}

/// The record at an offset.
pub(super) fn at(
    log: &Log,
    topic: &Arc<Topic>,
    (number, id): (u32, PartitionId),
    offset: u64,
) -> Result<Box<RawValue>, Problem> {
    let mut found = None;
    let passed = read(log, id, offset..offset.saturating_add(1), |record| {
        found = Some(shown(&topic.name, number, record, Room::ALONE));
        Taken::Yes
    })?;
    match (found, passed.hole) {
        (Some(Ok(found)), _) => Ok(found),
        (Some(Err(error)), _) => Err(Problem::defect(&error.to_string())),
        (None, Some(hole)) if hole.code == "deleted" => Err(Problem::new(&RECORD_NOT_FOUND, hole.reason)),
        (None, Some(hole)) => Err(Problem::new(&RECORD_UNREADABLE, hole.reason)),
        (None, None) => {
            let name = &topic.name;
            let ends = log.offsets(id).map_or_else(String::new, |ends| {
                let (start, end) = (ends.start, ends.high_watermark);
                format!("; the partition has offsets from {start} on, and the next one will be {end}")
            });
            let sentence = format!("{name}/{number} has no record at offset {offset}{ends}");
            Err(Problem::new(&RECORD_NOT_FOUND, sentence))
        }
    }
}

async fn by_id(
    State(state): State<ApiState>,
    RawQuery(query): RawQuery,
    Path((topic, id)): Path<(String, String)>,
) -> Result<Response, Problem> {
    Asked::of(query.as_deref(), &[])?;
    let topic = state.topic(&topic)?;
    whole(&state, move |state| find::by_id(state.log()?, &topic, &id)).await
}
