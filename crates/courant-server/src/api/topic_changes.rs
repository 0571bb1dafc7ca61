//! Changes of topics: create, set configs, delete. Each can be tried first with `dry_run`.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::extract::{Extension, RawQuery, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::on;
use courant_core::topic::TopicName;
use courant_log::limits::CONFIGS_PER_TOPIC_MAX;
use courant_log::topic_config::{not_in_force, validate};
use courant_log::{Log, NewTopic, Topic};
use serde::{Deserialize, Serialize};
use serde_json::json;
use tokio::sync::oneshot;

use super::ApiState;
use super::asked::{self, Asked, Path};
use super::audit::{AUDIT_TOPIC, Change};
use super::guard::Caller;
use super::json::Json;
use super::own_topics::unanswered;
use super::problem::{INTERNAL_TOPIC, INVALID, NOT_CONFIRMED, Problem, TOPIC_EXISTS};
use super::route::{Access, DRY_RUN, Kind, RequestBody, Route, Schema, Verb, answer, field, optional, query};
use super::topics::{TOPIC, size};
use crate::planted::{Defect, is_planted};

pub(super) static ROUTES: &[Route] = &[
    Route {
        method: Verb::Post,
        path: "/topics",
        id: "create_topic",
        summary: "Creates a topic",
        access: Access::Change,
        parameters: &[],
        body: Some(RequestBody::json(&NEW_TOPIC)),
        answer: answer(201, &CREATED_TOPIC, "It was created; 200 with the same body after a dry run"),
        handler: |on_method| on(on_method, create),
    },
    Route {
        method: Verb::Patch,
        path: "/topics/{topic}",
        id: "alter_topic",
        summary: "Sets configs of a topic",
        access: Access::Change,
        parameters: &[TOPIC],
        body: Some(RequestBody::json(&TOPIC_CHANGE)),
        answer: answer(200, &ALTERED_TOPIC, "The configs that were set or taken back"),
        handler: |on_method| on(on_method, alter),
    },
    Route {
        method: Verb::Delete,
        path: "/topics/{topic}",
        id: "delete_topic",
        summary: "Deletes a topic, its events and what groups have committed for it",
        access: Access::Change,
        parameters: &[
            TOPIC,
            query("confirm", Kind::Text, "The topic's name once more; without it nothing is deleted"),
            DRY_RUN,
        ],
        body: None,
        answer: answer(200, &DELETED_TOPIC, "What was deleted, or would be"),
        handler: |on_method| on(on_method, delete),
    },
];

static NEW_TOPIC: Schema = Schema {
    name: "new_topic",
    fields: &[
        field("name", Kind::Text, "1 to 249 of the characters a-z, A-Z, 0-9, '.', '_' and '-'"),
        optional("partitions", Kind::Integer, "The server's setting where it is missing"),
        optional("configs", Kind::Map(&Kind::Text), "Configs that differ from their defaults"),
        optional("dry_run", Kind::Flag, "With `true` nothing is created"),
    ],
};

static CREATED_TOPIC: Schema = Schema {
    name: "created_topic",
    fields: &[
        field("name", Kind::Text, ""),
        field("id", Kind::OrNull(&Kind::Text), "null after a dry run"),
        field("partitions", Kind::Integer, ""),
        field("replication_factor", Kind::Integer, "Always 1"),
        field("not_in_force", Kind::Many(&Kind::Text), "Configs that are kept and have no effect here"),
        field("dry_run", Kind::Flag, ""),
    ],
};

static TOPIC_CHANGE: Schema = Schema {
    name: "topic_change",
    fields: &[
        field("configs", Kind::Map(&Kind::OrNull(&Kind::Text)), "null takes a config back to its default"),
        optional("dry_run", Kind::Flag, "With `true` nothing is changed"),
    ],
};

static ALTERED_TOPIC: Schema = Schema {
    name: "altered_topic",
    fields: &[
        field("name", Kind::Text, ""),
        field("configs", Kind::Map(&Kind::OrNull(&Kind::Text)), "As they were asked for"),
        field("not_in_force", Kind::Many(&Kind::Text), "Configs that are kept and have no effect here"),
        field("dry_run", Kind::Flag, ""),
    ],
};

static DELETED_TOPIC: Schema = Schema {
    name: "deleted_topic",
    fields: &[
        field("name", Kind::Text, ""),
        field("id", Kind::Text, ""),
        field("events", Kind::Integer, "Offsets between the oldest and the newest event"),
        field("dry_run", Kind::Flag, ""),
    ],
};

/// What is asked for to create a topic.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct New {
    name: String,
    partitions: Option<u32>,
    #[serde(default)]
    configs: BTreeMap<String, String>,
    #[serde(default)]
    dry_run: bool,
}

#[derive(Debug, Serialize)]
struct Created {
    name: String,
    id: Option<String>,
    partitions: usize,
    replication_factor: u32,
    not_in_force: Vec<String>,
    dry_run: bool,
}

async fn create(
    State(state): State<ApiState>,
    Extension(caller): Extension<Caller>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Result<Response, Problem> {
    Asked::of(query.as_deref(), &[])?;
    let New { name, partitions, configs, dry_run } = asked::json(&headers, body)?;
    let invalid = |sentence: String| Problem::new(&INVALID, sentence);
    let topic = TopicName::new(&name).map_err(|error| invalid(error.to_string()))?;
    // With configs of somebody's choice it would keep its events for a moment only.
    check_is_not_audit(&name)?;
    let config = state.broker()?.config();
    let (partitions, max) = (partitions.unwrap_or(config.partitions), config.limits.partitions_per_topic_max);
    if !(1..=max).contains(&partitions) {
        return Err(invalid(format!("a topic has 1 to {max} partitions, not {partitions}")));
    }
    check_configs(configs.iter().map(|(name, value)| (name, Some(value))))?;
    if state.log()?.catalog().by_name(&name).is_some() {
        return Err(Problem::new(
            &TOPIC_EXISTS,
            format!("there is a topic {name} already; choose another name"),
        ));
    }
    let mut created = Created {
        name: name.clone(),
        id: None,
        partitions: partitions as usize,
        replication_factor: 1,
        not_in_force: without_effect(configs.iter().map(|(name, value)| (name, Some(value)))),
        dry_run,
    };
    if dry_run {
        return Ok(Json(created).into_response());
    }
    let detail = json!({ "partitions": partitions, "configs": configs });
    let change = Change { caller, action: "topic.create", target: name, detail };
    let log = state.log()?.clone();
    let new = NewTopic { name: topic, partitions, configs };
    let made = state.change(change, async move {
        let topic = create_topic(&log, new).await?;
        created.id = Some(topic.id.to_string());
        created.partitions = topic.partitions.len();
        Ok(created)
    });
    Ok(made.await?.answer(StatusCode::CREATED))
}

async fn create_topic(log: &Log, new: NewTopic) -> Result<Arc<Topic>, Problem> {
    let (done, created) = oneshot::channel();
    // Whoever waited may have gone with the runtime; as below.
    log.create_topic(new, move |result| drop(done.send(result)));
    Ok(created.await.map_err(|_| unanswered())??)
}

/// What is asked for to change a topic.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Alter {
    configs: BTreeMap<String, Option<String>>,
    #[serde(default)]
    dry_run: bool,
}

#[derive(Debug, Serialize)]
struct Altered {
    name: String,
    configs: BTreeMap<String, Option<String>>,
    not_in_force: Vec<String>,
    dry_run: bool,
}

async fn alter(
    State(state): State<ApiState>,
    Extension(caller): Extension<Caller>,
    Path(name): Path<String>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Result<Response, Problem> {
    Asked::of(query.as_deref(), &[])?;
    let Alter { configs, dry_run } = asked::json(&headers, body)?;
    let topic = state.topic(&name)?;
    check_is_not_audit(&name)?;
    if configs.is_empty() {
        return Err(Problem::new(&INVALID, "there is nothing to change; name a config"));
    }
    check_configs(configs.iter().map(|(name, value)| (name, value.as_ref())))?;
    let not_in_force = without_effect(configs.iter().map(|(name, value)| (name, value.as_ref())));
    let altered = Altered { name: name.clone(), configs: configs.clone(), not_in_force, dry_run };
    if dry_run {
        return Ok(Json(altered).into_response());
    }
    let change =
        Change { caller, action: "topic.alter", target: name, detail: json!({ "configs": configs }) };
    let log = state.log()?.clone();
    let made = state.change(change, async move {
        let (done, outcome) = oneshot::channel();
        let changes = configs.into_iter().collect();
        log.alter_topic(topic.id, changes, move |result| drop(done.send(result)));
        outcome.await.map_err(|_| unanswered())??;
        Ok(altered)
    });
    Ok(made.await?.answer(StatusCode::OK))
}

fn check_configs<'a>(
    configs: impl ExactSizeIterator<Item = (&'a String, Option<&'a String>)>,
) -> Result<(), Problem> {
    if configs.len() > CONFIGS_PER_TOPIC_MAX {
        let sentence =
            format!("{} configs are named; a topic has at most {CONFIGS_PER_TOPIC_MAX}", configs.len());
        return Err(Problem::new(&INVALID, sentence));
    }
    for (name, value) in configs {
        // A default is always valid, so only the name can be wrong where a config is taken back.
        let known = courant_log::topic_config::TOPIC_CONFIGS.iter().find(|known| known.name == *name);
        let value = value.map_or(known.map_or("", |known| known.default), String::as_str);
        validate(name, value).map_err(|error| Problem::new(&INVALID, error.to_string()))?;
    }
    Ok(())
}

/// The configs that are kept and have no effect in this release.
fn without_effect<'a>(configs: impl Iterator<Item = (&'a String, Option<&'a String>)>) -> Vec<String> {
    let has_none =
        |(name, value): &(&String, Option<&String>)| value.is_some_and(|value| not_in_force(name, value));
    configs.filter(has_none).map(|(name, _)| name.clone()).collect()
}

/// Who can change what was done should not be able to hide it.
fn check_is_not_audit(name: &str) -> Result<(), Problem> {
    if name == AUDIT_TOPIC {
        let sentence =
            format!("{AUDIT_TOPIC} has the account of every change; it is neither made nor changed by HTTP");
        return Err(Problem::new(&INTERNAL_TOPIC, sentence));
    }
    Ok(())
}

#[derive(Debug, Serialize)]
struct Deleted {
    name: String,
    id: String,
    events: u64,
    dry_run: bool,
}

async fn delete(
    State(state): State<ApiState>,
    Extension(caller): Extension<Caller>,
    Path(name): Path<String>,
    RawQuery(query): RawQuery,
) -> Result<Response, Problem> {
    let asked = Asked::of(query.as_deref(), &["confirm", "dry_run"])?;
    let dry_run = asked.flag("dry_run")?;
    let topic = state.topic(&name)?;
    check_is_not_audit(&name)?;
    let events = size(state.log()?, &topic).events;
    let deleted = Deleted { name: name.clone(), id: topic.id.to_string(), events, dry_run };
    if dry_run {
        return Ok(Json(deleted).into_response());
    }
    if asked.text("confirm") != Some(&*name) && !is_planted(Defect::UnconfirmedDeletes) {
        let sentence =
            format!("this deletes {events} events for good; add confirm={name} to the query to do it");
        return Err(Problem::new(&NOT_CONFIRMED, sentence));
    }
    let detail = json!({ "id": deleted.id, "events": events });
    let change = Change { caller, action: "topic.delete", target: name, detail };
    let log = state.log()?.clone();
    let made = state.change(change, async move {
        let (done, outcome) = oneshot::channel();
        log.delete_topic(topic.id, move |result| drop(done.send(result)));
        outcome.await.map_err(|_| unanswered())??;
        Ok(deleted)
    });
    Ok(made.await?.answer(StatusCode::OK))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(name: &str, value: Option<&str>) -> Result<(), Problem> {
        let (name, value) = (name.to_owned(), value.map(str::to_owned));
        check_configs([(&name, value.as_ref())].into_iter())
    }

    #[test]
    fn configs_are_checked_by_name_and_by_value() {
        check("retention.ms", Some("1000")).expect("a good value");
        check("retention.ms", None).expect("back to the default");
        assert_eq!(check("retention.ms", Some("soon")).expect_err("no number").kind.code, "invalid");
        assert_eq!(check("retention.days", Some("1")).expect_err("no such name").kind.code, "invalid");
        assert_eq!(check("retention.days", None).expect_err("no such name").kind.code, "invalid");
    }

    #[test]
    fn what_has_no_effect_is_said() {
        let configs: BTreeMap<_, _> = [("min.insync.replicas", "2"), ("retention.ms", "1")]
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .into();
        let without = without_effect(configs.iter().map(|(name, value)| (name, Some(value))));
        assert_eq!(without, ["min.insync.replicas"]);
    }
}
