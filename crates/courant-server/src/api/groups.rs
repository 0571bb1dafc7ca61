//! Consumer groups as they are: the paged list, one of them with its lag, the history of that.

use std::collections::BTreeMap;

use axum::extract::{RawQuery, State};
use axum::routing::on;
use serde::Serialize;

use super::ApiState;
use super::asked::{Asked, NameFilter, Path};
use super::json::Json;
use super::lag::{Aging, Group, Lag, Measured, Places, measure, seconds};
use super::limits::{GROUP_TOPICS_SHOWN_MAX, HISTORY_INTERVAL, MEMBERS_SHOWN_MAX, PAGE_PARTITIONS_MAX};
use super::problem::{BAD_REQUEST, Problem};
use super::route::{
    AFTER, Access, FILTER, Kind, LIMIT, Parameter, Route, Schema, Verb, answer, field, path, query,
};

pub(super) static ROUTES: &[Route] = &[
    Route {
        method: Verb::Get,
        path: "/groups",
        id: "list_groups",
        summary: "Consumer groups in the order of their names, page by page",
        access: Access::Read,
        parameters: &[LIMIT, AFTER, FILTER],
        body: None,
        answer: answer(200, &GROUPS, "A page"),
        handler: |on_method| on(on_method, list),
    },
    Route {
        method: Verb::Get,
        path: "/groups/{group}",
        id: "show_group",
        summary: "A consumer group: its members, and how far it is behind in events and in seconds",
        access: Access::Read,
        parameters: &[GROUP, LIMIT, AFTER],
        body: None,
        answer: answer(200, &SHOWN_GROUP, "The group, with a page of its partitions"),
        handler: |on_method| on(on_method, show),
    },
    Route {
        method: Verb::Get,
        path: "/groups/{group}/history",
        id: "group_history",
        summary: "The lag of a group for one topic, a point a minute for a day, since the server started",
        access: Access::Read,
        parameters: &[GROUP, query("topic", Kind::Text, "The topic, which has to be named")],
        body: None,
        answer: answer(200, &HISTORY, "The points, the oldest first; none where nothing is known"),
        handler: |on_method| on(on_method, history),
    },
];

pub(super) const GROUP: Parameter = path("group", "The group's name");

const UNKNOWN_EVENTS: Kind = Kind::OrNull(&Kind::Integer);
const UNKNOWN_SECONDS: Kind = Kind::OrNull(&Kind::Decimal);

static GROUPS: Schema = Schema {
    name: "groups",
    fields: &[
        field("groups", Kind::Many(&Kind::Of(&LISTED_GROUP)), ""),
        field("next", Kind::OrNull(&Kind::Text), "`after` of the next page; null: this is the last one"),
        field("total", Kind::Integer, "Groups on all pages"),
    ],
};

static LISTED_GROUP: Schema = Schema {
    name: "listed_group",
    fields: &[
        field("name", Kind::Text, ""),
        field("state", Kind::Text, "As Kafka calls it: Empty, Stable, PreparingRebalance, …"),
        field("protocol_type", Kind::Text, "`consumer` for consumers; empty where there was no member"),
        field("members", Kind::Integer, ""),
        field("topics", Kind::Integer, "Topics that it reads"),
        field("lag", UNKNOWN_EVENTS, "Events behind its committed offsets; null: unknown"),
        field("lag_seconds", UNKNOWN_SECONDS, "Age of the oldest of them at `sampled_ms`; null: unknown"),
        field("sampled_ms", Kind::OrNull(&Kind::Integer), "When the age was looked up; null: it was not yet"),
    ],
};

static SHOWN_GROUP: Schema = Schema {
    name: "group",
    fields: &[
        field("name", Kind::Text, ""),
        field("state", Kind::Text, "As Kafka calls it: Empty, Stable, PreparingRebalance, …"),
        field("protocol_type", Kind::Text, "`consumer` for consumers"),
        field("protocol", Kind::Text, "How partitions are assigned, such as `range`"),
        field("members", Kind::Many(&Kind::Of(&MEMBER)), "At most 1000 of them"),
        field("members_total", Kind::Integer, "All of them"),
        field(
            "topics",
            Kind::Map(&Kind::Of(&TOPIC_LAG)),
            "The lag of each topic, and where it is going: of at most 1000, those furthest behind",
        ),
        field("topics_total", Kind::Integer, "Topics that it reads"),
        field("total", Kind::Of(&LAG), "The lag of all"),
        field("partitions", Kind::Many(&Kind::Of(&PLACE)), "A page of them, by topic and number"),
        field("next", Kind::OrNull(&Kind::Text), "`after` of the next page; null: this is the last one"),
        field("partitions_total", Kind::Integer, "Partitions on all pages"),
    ],
};

static MEMBER: Schema = Schema {
    name: "member",
    fields: &[
        field("id", Kind::Text, ""),
        field("instance_id", Kind::OrNull(&Kind::Text), "Of a static member"),
        field("client_id", Kind::Text, "What the client calls itself"),
        field("host", Kind::Text, "Where it connects from"),
        field("assigned", Kind::Map(&Kind::Many(&Kind::Integer)), "Partitions by topic"),
    ],
};

static LAG: Schema = Schema {
    name: "lag",
    fields: &[
        field("events", UNKNOWN_EVENTS, "Events that were not read; null: unknown for some partition"),
        field("seconds", UNKNOWN_SECONDS, "Age of the oldest of them; null: unknown for some partition"),
    ],
};

static TOPIC_LAG: Schema = Schema {
    name: "topic_lag",
    fields: &[
        field("events", UNKNOWN_EVENTS, "Events that were not read; null: unknown for some partition"),
        field("seconds", UNKNOWN_SECONDS, "Age of the oldest of them; null: unknown for some partition"),
        field(
            "events_per_minute",
            UNKNOWN_SECONDS,
            "By how much the lag grew in a minute, over the last ten; null: not known yet",
        ),
    ],
};

static PLACE: Schema = Schema {
    name: "group_partition",
    fields: &[
        field("topic", Kind::Text, ""),
        field("partition", Kind::Integer, ""),
        field("committed", UNKNOWN_EVENTS, "The next offset to be read; null: nothing was committed"),
        field("end", Kind::Integer, "Offset behind the newest event"),
        field("lag", UNKNOWN_EVENTS, "Events between them; null: unknown"),
        field("lag_seconds", UNKNOWN_SECONDS, "Age of the oldest of them; null: unknown"),
        field("client_id", Kind::OrNull(&Kind::Text), "The client that reads it; null: nobody does"),
        field("host", Kind::OrNull(&Kind::Text), "Where that connects from"),
    ],
};

static HISTORY: Schema = Schema {
    name: "group_history",
    fields: &[
        field("group", Kind::Text, ""),
        field("topic", Kind::Text, ""),
        field("interval_seconds", Kind::Integer, "From one point to the next"),
        field("points", Kind::Many(&Kind::Of(&POINT)), "The oldest first"),
    ],
};

static POINT: Schema = Schema {
    name: "lag_point",
    fields: &[
        field("at_ms", Kind::Integer, "Milliseconds since 1970"),
        field("events", UNKNOWN_EVENTS, "null: unknown"),
        field("seconds", UNKNOWN_SECONDS, "null: unknown"),
    ],
};

#[derive(Serialize)]
struct Groups {
    groups: Vec<Listed>,
    next: Option<String>,
    total: usize,
}

#[derive(Serialize)]
struct Listed {
    name: String,
    state: &'static str,
    protocol_type: String,
    members: usize,
    topics: usize,
    lag: Option<u64>,
    lag_seconds: Option<f64>,
    sampled_ms: Option<i64>,
}

async fn list(State(state): State<ApiState>, RawQuery(query): RawQuery) -> Result<Json<Groups>, Problem> {
    let asked = Asked::of(query.as_deref(), &["limit", "after", "filter"])?;
    let (limit, filter) = (asked.limit()?, asked.filter()?);
    let after = asked.text("after").unwrap_or_default().to_owned();
    state.blocking(move |state| page(state, limit, &after, &filter)).await.map(Json)
}

fn page(state: &ApiState, limit: usize, after: &str, filter: &NameFilter) -> Result<Groups, Problem> {
    let broker = state.broker()?;
    let log = broker.log();
    let catalog = log.catalog();
    let places = Places::of(&catalog);
    let names: Vec<String> = broker.group_names().into_iter().filter(|name| filter.takes(name)).collect();
    let total = names.len();
    let (mut groups, mut looked_at, mut next): (Vec<Listed>, usize, Option<String>) = (Vec::new(), 0, None);
    let mut left = names.into_iter().filter(|name| name.as_str() > after).peekable();
    while let Some(name) = left.next() {
        if let Some(group) = Group::find(broker, &name) {
            let measured = measure(log, &group, &catalog, &places);
            looked_at += measured.len();
            groups.push(listed(state, name.clone(), &group, &measured));
        }
        // A group with very many partitions is still shown, as the last one of its page.
        if (groups.len() == limit || looked_at > PAGE_PARTITIONS_MAX) && left.peek().is_some() {
            next = Some(name);
            break;
        }
    }
    Ok(Groups { groups, next, total })
}

fn listed(state: &ApiState, name: String, group: &Group, measured: &[Measured]) -> Listed {
    let mut topics: Vec<&str> = measured.iter().map(|place| place.topic.name.as_str()).collect();
    topics.dedup();
    let sum = |sum: u64, place: &Measured| Some(sum.saturating_add(place.lag?));
    let lag = if measured.is_empty() { None } else { measured.iter().try_fold(0, sum) };
    let newest = state.history(|history| history.newest(&name));
    let (lag_seconds, sampled_ms) = match (lag, newest) {
        // Nothing is unread now, whatever there was at the last look.
        (Some(0), _) => (Some(0.0), Some(state.now_ms())),
        (_, Some(point)) => (point.lag_ms.map(seconds), Some(point.at_ms)),
        (_, None) => (None, None),
    };
    Listed {
        name,
        state: group.view.state,
        protocol_type: group.view.protocol_type.clone(),
        members: group.view.members.len(),
        topics: topics.len(),
        lag,
        lag_seconds,
        sampled_ms,
    }
}

#[derive(Serialize)]
struct Shown {
    name: String,
    state: &'static str,
    protocol_type: String,
    protocol: String,
    members: Vec<Member>,
    members_total: usize,
    topics: BTreeMap<String, TopicLag>,
    topics_total: usize,
    total: Lag,
    partitions: Vec<Place>,
    next: Option<String>,
    partitions_total: usize,
}

#[derive(Serialize)]
struct Member {
    id: String,
    instance_id: Option<String>,
    client_id: String,
    host: String,
    assigned: BTreeMap<String, Vec<i32>>,
}

#[derive(Serialize)]
struct TopicLag {
    #[serde(flatten)]
    lag: Lag,
    events_per_minute: Option<f64>,
}

#[derive(Serialize)]
struct Place {
    topic: String,
    partition: u32,
    committed: Option<u64>,
    end: u64,
    lag: Option<u64>,
    lag_seconds: Option<f64>,
    client_id: Option<String>,
    host: Option<String>,
}

async fn show(
    State(state): State<ApiState>,
    Path(name): Path<String>,
    RawQuery(query): RawQuery,
) -> Result<Json<Shown>, Problem> {
    let asked = Asked::of(query.as_deref(), &["limit", "after"])?;
    let (limit, after) = (asked.limit()?, asked.text("after").map(place_after).transpose()?);
    state.blocking(move |state| shown(state, name, limit, after)).await.map(Json)
}

/// `TOPIC/NUMBER`, as `next` of a page has it.
fn place_after(text: &str) -> Result<(String, u32), Problem> {
    let place =
        text.rsplit_once('/').and_then(|(topic, number)| Some((topic.to_owned(), number.parse().ok()?)));
    place.ok_or_else(|| Problem::new(&BAD_REQUEST, format!("after is {text:?}; give back what `next` was")))
}

fn shown(
    state: &ApiState,
    name: String,
    limit: usize,
    after: Option<(String, u32)>,
) -> Result<Shown, Problem> {
    let broker = state.broker()?;
    let log = broker.log();
    let group = Group::find(broker, &name).ok_or_else(|| Problem::group_not_found(&name))?;
    let catalog = log.catalog();
    let measured = measure(log, &group, &catalog, &Places::of(&catalog));
    let mut aging = Aging::new(state, log);
    // The page first: what is shown is looked up before what is only added up.
    let is_after = |place: &Measured| match &after {
        None => true,
        Some((topic, number)) => (place.topic.name.as_str(), place.number) > (topic.as_str(), *number),
    };
    let first = measured.iter().position(is_after).unwrap_or(measured.len());
    let page = measured.get(first..(first + limit).min(measured.len())).unwrap_or_default();
    let partitions: Vec<_> = page.iter().map(|place| place_of(&group, place, &mut aging)).collect();
    let is_last = first + page.len() == measured.len();
    let next = page.last().filter(|_| !is_last).map(|last| format!("{}/{}", last.topic.name, last.number));
    let (lags, total) = lags(&measured, &mut aging);
    let topics_total = lags.len();
    let with_trend = |(topic, lag): (String, Lag)| {
        let events_per_minute = state.history(|history| history.events_per_minute(&name, &topic));
        (topic, TopicLag { lag, events_per_minute })
    };
    let topics = furthest_behind(lags, GROUP_TOPICS_SHOWN_MAX).into_iter().map(with_trend).collect();
    let members_total = group.view.members.len();
    let members = group.view.members.into_iter().take(MEMBERS_SHOWN_MAX).map(|member| Member {
        id: member.id,
        instance_id: member.instance_id,
        client_id: member.client_id,
        host: member.host,
        assigned: member.assigned,
    });
    Ok(Shown {
        name,
        state: group.view.state,
        protocol_type: group.view.protocol_type,
        protocol: group.view.protocol,
        members: members.collect(),
        members_total,
        topics,
        topics_total,
        total,
        partitions,
        next,
        partitions_total: measured.len(),
    })
}

fn place_of(group: &Group, place: &Measured, aging: &mut Aging<'_>) -> Place {
    let reader = group.reader(&place.topic.name, place.number);
    Place {
        topic: place.topic.name.clone(),
        partition: place.number,
        committed: place.committed,
        end: place.end,
        lag: place.lag,
        lag_seconds: aging.lag_ms(place).map(seconds),
        client_id: reader.map(|member| member.client_id.clone()),
        host: reader.map(|member| member.host.clone()),
    }
}

/// The lag of each topic, and of all.
fn lags(measured: &[Measured], aging: &mut Aging<'_>) -> (BTreeMap<String, Lag>, Lag) {
    let mut topics: BTreeMap<String, Lag> = BTreeMap::new();
    let mut total = if measured.is_empty() { Lag::UNKNOWN } else { Lag::NONE };
    for place in measured {
        let lag_seconds = aging.lag_ms(place).map(seconds);
        topics.entry(place.topic.name.clone()).or_insert(Lag::NONE).add(place.lag, lag_seconds);
        total.add(place.lag, lag_seconds);
    }
    (topics, total)
}

/// So many topics at most, those with the oldest unread events.
fn furthest_behind(lags: BTreeMap<String, Lag>, max: usize) -> Vec<(String, Lag)> {
    let mut lags: Vec<(String, Lag)> = lags.into_iter().collect();
    if lags.len() > max {
        // What is unknown comes last.
        let age = |lag: &Lag| lag.seconds.unwrap_or(-1.0);
        lags.sort_by(|(_, a), (_, b)| age(b).total_cmp(&age(a)).then(b.events.cmp(&a.events)));
        lags.truncate(max);
    }
    lags
}

#[derive(Serialize)]
struct History {
    group: String,
    topic: String,
    interval_seconds: u64,
    points: Vec<Point>,
}

#[derive(Serialize)]
struct Point {
    at_ms: i64,
    events: Option<u64>,
    seconds: Option<f64>,
}

async fn history(
    State(state): State<ApiState>,
    Path(group): Path<String>,
    RawQuery(query): RawQuery,
) -> Result<Json<History>, Problem> {
    let asked = Asked::of(query.as_deref(), &["topic"])?;
    let topic = asked.text("topic").ok_or_else(|| Problem::new(&BAD_REQUEST, "name a topic: ?topic=NAME"))?;
    let topic = topic.to_owned();
    state.blocking(move |state| points(state, group, topic)).await.map(Json)
}

fn points(state: &ApiState, group: String, topic: String) -> Result<History, Problem> {
    state.topic(&topic)?;
    Group::find(state.broker()?, &group).ok_or_else(|| Problem::group_not_found(&group))?;
    let points = state.history(|history| history.points(&group, &topic));
    let points = points.into_iter().map(|point| Point {
        at_ms: point.at_ms,
        events: point.events,
        seconds: point.lag_ms.map(seconds),
    });
    Ok(History { group, topic, interval_seconds: HISTORY_INTERVAL.as_secs(), points: points.collect() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_many_topics_those_furthest_behind_are_shown() {
        let lag = |name: &str, events, seconds| (name.to_owned(), Lag { events, seconds });
        let lags = || {
            BTreeMap::from([
                lag("a", Some(1), Some(5.0)),
                lag("b", Some(9), None),
                lag("c", Some(3), Some(7.0)),
                lag("d", Some(4), Some(5.0)),
            ])
        };
        let names =
            |max| -> Vec<String> { furthest_behind(lags(), max).into_iter().map(|(name, _)| name).collect() };
        assert_eq!(names(4), ["a", "b", "c", "d"], "all, by name");
        assert_eq!(names(3), ["c", "d", "a"]);
    }

    #[test]
    fn a_place_is_a_topic_and_a_number() {
        assert_eq!(place_after("orders/7").expect("a place"), ("orders".to_owned(), 7));
        for text in ["orders", "orders/", "orders/x", "", "orders/-1"] {
            assert_eq!(place_after(text).expect_err(text).kind.code, "bad_request");
        }
    }
}
