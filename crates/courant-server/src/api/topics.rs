//! Topics as they are: the paged list, one of them, its partitions.

use std::sync::Arc;

use axum::extract::{RawQuery, State};
use axum::routing::on;
use courant_log::topic_config::TOPIC_CONFIGS;
use courant_log::{Log, Topic};
use serde::Serialize;

use super::ApiState;
use super::asked::{Asked, NameFilter, Path};
use super::json::Json;
use super::limits::PAGE_PARTITIONS_MAX;
use super::problem::{BAD_REQUEST, Problem};
use super::readers::{ByTopic, ReadBy};
use super::route::{AFTER, Access, FILTER, Kind, LIMIT, Parameter, Route, Schema, Verb, answer, field, path};

pub(super) static ROUTES: &[Route] = &[
    Route {
        method: Verb::Get,
        path: "/topics",
        id: "list_topics",
        summary: "Topics in the order of their names, page by page",
        access: Access::Read,
        parameters: &[LIMIT, AFTER, FILTER],
        body: None,
        answer: answer(200, &TOPICS, "A page"),
        handler: |on_method| on(on_method, list),
    },
    Route {
        method: Verb::Get,
        path: "/topics/{topic}",
        id: "show_topic",
        summary: "A topic with its configs and the groups that read it",
        access: Access::Read,
        parameters: &[TOPIC],
        body: None,
        answer: answer(200, &SHOWN_TOPIC, "The topic"),
        handler: |on_method| on(on_method, show),
    },
    Route {
        method: Verb::Get,
        path: "/topics/{topic}/partitions",
        id: "list_partitions",
        summary: "The partitions of a topic in the order of their numbers, page by page",
        access: Access::Read,
        parameters: &[TOPIC, LIMIT, AFTER],
        body: None,
        answer: answer(200, &PARTITIONS, "A page"),
        handler: |on_method| on(on_method, partitions),
    },
];

pub(super) const TOPIC: Parameter = path("topic", "The topic's name");

static TOPICS: Schema = Schema {
    name: "topics",
    fields: &[
        field("topics", Kind::Many(&Kind::Of(&LISTED_TOPIC)), ""),
        field("next", Kind::OrNull(&Kind::Text), "`after` of the next page; null: this is the last one"),
        field("total", Kind::Integer, "Topics on all pages"),
    ],
};

static LISTED_TOPIC: Schema = Schema {
    name: "listed_topic",
    fields: &[
        field("name", Kind::Text, ""),
        field("id", Kind::Text, "Never given twice, unlike the name"),
        field("partitions", Kind::Integer, ""),
        field("events", Kind::Integer, "Offsets between the oldest and the newest event"),
        field("bytes", Kind::Integer, "Of its segments on disk"),
        field("groups", Kind::Integer, "Groups that read it, as of a moment ago"),
        field("internal", Kind::Flag, "Whether it is the server's own"),
    ],
};

static SHOWN_TOPIC: Schema = Schema {
    name: "topic",
    fields: &[
        field("name", Kind::Text, ""),
        field("id", Kind::Text, "Never given twice, unlike the name"),
        field("partitions", Kind::Integer, ""),
        field("events", Kind::Integer, "Offsets between the oldest and the newest event"),
        field("bytes", Kind::Integer, "Of its segments on disk"),
        field("internal", Kind::Flag, "Whether it is the server's own"),
        field("groups", Kind::Integer, "Groups that read it, as of a moment ago"),
        field("group_names", Kind::Many(&Kind::Text), "The first of them by name, at most 50"),
        field("configs", Kind::Many(&Kind::Of(&CONFIG)), "Every config that topics have"),
    ],
};

static CONFIG: Schema = Schema {
    name: "config",
    fields: &[
        field("name", Kind::Text, ""),
        field("value", Kind::Text, "What holds"),
        field("source", Kind::Words(&["topic", "default"]), "`topic`: it was set"),
        field("doc", Kind::Text, "What it is about, with the unit"),
    ],
};

static PARTITIONS: Schema = Schema {
    name: "partitions",
    fields: &[
        field("partitions", Kind::Many(&Kind::Of(&PARTITION)), ""),
        field("next", Kind::OrNull(&Kind::Integer), "`after` of the next page; null: this is the last one"),
        field("total", Kind::Integer, "Partitions on all pages"),
    ],
};

static PARTITION: Schema = Schema {
    name: "partition",
    fields: &[
        field("topic", Kind::Text, ""),
        field("partition", Kind::Integer, "Its number in the topic"),
        field("leader", Kind::Integer, "The node that serves it, which is this one"),
        field("start", Kind::Integer, "Offset of the oldest event"),
        field("end", Kind::Integer, "Offset behind the newest event"),
        field("events", Kind::Integer, "Offsets between them"),
        field("bytes", Kind::Integer, "Of its segments on disk"),
    ],
};

#[derive(Serialize)]
struct Topics {
    topics: Vec<Listed>,
    next: Option<String>,
    total: usize,
}

#[derive(Serialize)]
struct Listed {
    name: String,
    id: String,
    partitions: usize,
    events: u64,
    bytes: u64,
    groups: usize,
    internal: bool,
}

async fn list(State(state): State<ApiState>, RawQuery(query): RawQuery) -> Result<Json<Topics>, Problem> {
    let asked = Asked::of(query.as_deref(), &["limit", "after", "filter"])?;
    let (limit, filter) = (asked.limit()?, asked.filter()?);
    let after = asked.text("after").unwrap_or_default().to_owned();
    state.blocking(move |state| page(state, limit, &after, &filter)).await.map(Json)
}

fn page(state: &ApiState, limit: usize, after: &str, filter: &NameFilter) -> Result<Topics, Problem> {
    let broker = state.broker()?;
    let catalog = broker.log().catalog();
    let readers = state.readers(|readers| readers.by_topic(broker));
    let (mut topics, mut total, mut looked_at, mut next) = (Vec::new(), 0, 0, None);
    for topic in catalog.topics().filter(|topic| filter.takes(&topic.name)) {
        total += 1;
        if topic.name.as_str() <= after || next.is_some() {
            continue;
        }
        // One topic is always shown, however many partitions it has.
        let is_full = topics.len() == limit
            || (!topics.is_empty() && looked_at + topic.partitions.len() > PAGE_PARTITIONS_MAX);
        if is_full {
            next = topics.last().map(|last: &Listed| last.name.clone());
            continue;
        }
        looked_at += topic.partitions.len();
        topics.push(listed(broker.log(), topic, &readers));
    }
    Ok(Topics { topics, next, total })
}

fn listed(log: &Log, topic: &Arc<Topic>, readers: &ByTopic) -> Listed {
    let Size { events, bytes } = size(log, topic);
    Listed {
        name: topic.name.clone(),
        id: topic.id.to_string(),
        partitions: topic.partitions.len(),
        events,
        bytes,
        groups: readers.get(&topic.id).map_or(0, |read_by| read_by.count),
        internal: is_internal(&topic.name),
    }
}

/// How much is in a topic.
#[derive(Debug, Default)]
pub(super) struct Size {
    pub(super) events: u64,
    pub(super) bytes: u64,
}

pub(super) fn size(log: &Log, topic: &Topic) -> Size {
    let mut size = Size::default();
    for id in &topic.partitions {
        if let Some(ends) = log.offsets(*id) {
            size.events = size.events.saturating_add(ends.high_watermark.saturating_sub(ends.start));
        }
        size.bytes = size.bytes.saturating_add(log.partition_bytes(*id).unwrap_or(0));
    }
    size
}

/// Topics of the server's own.
pub(super) fn is_internal(name: &str) -> bool {
    name.starts_with("_courant.")
}

/// A topic as `GET /topics/{topic}` shows it.
#[derive(Serialize)]
pub(super) struct Shown {
    name: String,
    id: String,
    partitions: usize,
    events: u64,
    bytes: u64,
    internal: bool,
    groups: usize,
    group_names: Vec<String>,
    configs: Vec<Config>,
}

#[derive(Serialize)]
struct Config {
    name: &'static str,
    value: String,
    source: &'static str,
    doc: &'static str,
}

async fn show(
    State(state): State<ApiState>,
    Path(name): Path<String>,
    RawQuery(query): RawQuery,
) -> Result<Json<Shown>, Problem> {
    Asked::of(query.as_deref(), &[])?;
    state.blocking(move |state| shown(state, &*state.topic(&name)?)).await.map(Json)
}

/// What is known of a topic.
pub(super) fn shown(state: &ApiState, topic: &Topic) -> Result<Shown, Problem> {
    let broker = state.broker()?;
    let Size { events, bytes } = size(broker.log(), topic);
    let readers = state.readers(|readers| readers.by_topic(broker));
    let ReadBy { named, count } = readers.get(&topic.id).cloned().unwrap_or_default();
    Ok(Shown {
        name: topic.name.clone(),
        id: topic.id.to_string(),
        partitions: topic.partitions.len(),
        events,
        bytes,
        internal: is_internal(&topic.name),
        groups: count,
        group_names: named,
        configs: configs(topic),
    })
}

fn configs(topic: &Topic) -> Vec<Config> {
    let config = |known: &'static courant_log::topic_config::TopicConfig| {
        let set = topic.configs.get(known.name);
        Config {
            name: known.name,
            value: set.map_or(known.default, String::as_str).to_owned(),
            source: if set.is_some() { "topic" } else { "default" },
            doc: known.doc,
        }
    };
    TOPIC_CONFIGS.iter().map(config).collect()
}

#[derive(Serialize)]
struct Partitions {
    partitions: Vec<Partition>,
    next: Option<u32>,
    total: usize,
}

#[derive(Serialize)]
struct Partition {
    topic: String,
    partition: u32,
    leader: i32,
    start: u64,
    end: u64,
    events: u64,
    bytes: u64,
}

async fn partitions(
    State(state): State<ApiState>,
    Path(name): Path<String>,
    RawQuery(query): RawQuery,
) -> Result<Json<Partitions>, Problem> {
    let asked = Asked::of(query.as_deref(), &["limit", "after"])?;
    let (limit, after) = (asked.limit()?, asked.number("after")?);
    let first = match after {
        None => 0,
        Some(after) => u32::try_from(after)
            .ok()
            .and_then(|after| after.checked_add(1))
            .ok_or_else(|| Problem::new(&BAD_REQUEST, "after is more than any partition's number"))?,
    };
    state.blocking(move |state| partitions_from(state, &*state.topic(&name)?, first, limit)).await.map(Json)
}

fn partitions_from(state: &ApiState, topic: &Topic, first: u32, limit: usize) -> Result<Partitions, Problem> {
    let broker = state.broker()?;
    let (log, leader) = (broker.log(), broker.config().node_id);
    let numbered = (0u32..).zip(&topic.partitions).skip_while(|(number, _)| *number < first);
    let mut partitions = Vec::with_capacity(limit.min(topic.partitions.len()));
    for (partition, id) in numbered.take(limit) {
        // A topic that is deleted meanwhile is not there any more.
        let ends = log.offsets(*id).ok_or_else(|| Problem::topic_not_found(&topic.name))?;
        partitions.push(Partition {
            topic: topic.name.clone(),
            partition,
            leader,
            start: ends.start,
            end: ends.high_watermark,
            events: ends.high_watermark.saturating_sub(ends.start),
            bytes: log.partition_bytes(*id).unwrap_or(0),
        });
    }
    let total = topic.partitions.len();
    let last = partitions.last().map(|last| last.partition);
    let next = last.filter(|last| (*last as usize) + 1 < total);
    Ok(Partitions { partitions, next, total })
}

#[cfg(test)]
mod tests {
    use super::*;
    use courant_log::PartitionId;
    use std::collections::BTreeMap;
    use uuid::Uuid;

    #[test]
    fn a_topic_has_every_config_and_says_which_were_set() {
        let topic = Topic {
            id: Uuid::nil(),
            name: "orders".to_owned(),
            partitions: vec![PartitionId(1)],
            configs: BTreeMap::from([("retention.ms".to_owned(), "5".to_owned())]),
        };
        let configs = configs(&topic);
        assert_eq!(configs.len(), TOPIC_CONFIGS.len());
        let set: Vec<_> = configs.iter().filter(|config| config.source == "topic").collect();
        assert_eq!(set.len(), 1);
        assert_eq!((set[0].name, set[0].value.as_str()), ("retention.ms", "5"));
    }

    #[test]
    fn the_servers_own_topics_are_known_by_their_names() {
        assert!(is_internal("_courant.audit"));
        assert!(!is_internal("_courantly") && !is_internal("orders") && !is_internal("x_courant.audit"));
    }
}
