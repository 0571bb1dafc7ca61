//! Changes of consumer groups: where an empty one goes on, and its end.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::extract::{Extension, RawQuery, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::on;
use courant_core::consumer::COPY_OF_PROGRESS;
use courant_kafka::ChangeGroupError;
use courant_log::limits::GROUP_NAME_BYTES_MAX;
use courant_log::{CommittedOffset, PartitionId, StoredGroup, Topic};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::ApiState;
use super::asked::{self, Asked, Path};
use super::audit::Change;
use super::groups::GROUP;
use super::guard::Caller;
use super::json::Json;
use super::lag::Group;
use super::limits::AUDIT_DETAIL_BYTES_MAX;
use super::problem::{
    GROUP_IN_USE, INVALID, NOT_CONFIRMED, NOT_WRITTEN, PARTITION_NOT_FOUND, PROGRESS_ELSEWHERE, Problem,
};
use super::route::{Access, DRY_RUN, Kind, RequestBody, Route, Schema, Verb, answer, field, optional, query};

/// Bytes that places of partitions take in an account at most. What it says besides, the name of a topic above all, has
/// room beside them: an account that is too long loses all of them.
const PLACES_BYTES_MAX: usize = AUDIT_DETAIL_BYTES_MAX - 1024;

pub(super) static ROUTES: &[Route] = &[
    Route {
        method: Verb::Post,
        path: "/groups/{group}/reset",
        id: "reset_group",
        summary: "Says where a group without members would go on, and with `execute` makes it so",
        access: Access::Change,
        parameters: &[GROUP],
        body: Some(RequestBody::json(&RESET)),
        answer: answer(200, &RESET_GROUP, "Each partition that moved, or would"),
        handler: |on_method| on(on_method, reset),
    },
    Route {
        method: Verb::Delete,
        path: "/groups/{group}",
        id: "delete_group",
        summary: "Forgets a group without members, and all that it has committed",
        access: Access::Change,
        parameters: &[
            GROUP,
            query("confirm", Kind::Text, "The group's name once more; without it nothing is deleted"),
            DRY_RUN,
        ],
        body: None,
        answer: answer(200, &DELETED_GROUP, "What was deleted, or would be"),
        handler: |on_method| on(on_method, delete),
    },
];

static RESET: Schema = Schema {
    name: "reset",
    fields: &[
        field("topic", Kind::Text, ""),
        optional("partition", Kind::Integer, "Only this one; all of them where it is missing"),
        field("to", Kind::Either(&[Kind::Words(&["start", "end"]), Kind::Of(&RESET_TO)]), "Where it goes on"),
        optional("execute", Kind::Flag, "Without `true` nothing is changed"),
    ],
};

static RESET_TO: Schema = Schema {
    name: "reset_to",
    fields: &[
        optional("offset", Kind::Integer, "This one; one of the three is named"),
        optional(
            "time_ms",
            Kind::Integer,
            "The first event of that time or later, in milliseconds since 1970",
        ),
        optional("by", Kind::Integer, "So many events on, or back where it is negative"),
    ],
};

static RESET_GROUP: Schema = Schema {
    name: "reset_group",
    fields: &[
        field("group", Kind::Text, ""),
        field("dry_run", Kind::Flag, ""),
        field("moved", Kind::Many(&Kind::Of(&MOVED)), "By partition"),
    ],
};

static MOVED: Schema = Schema {
    name: "moved",
    fields: &[
        field("topic", Kind::Text, ""),
        field("partition", Kind::Integer, ""),
        field("from", Kind::OrNull(&Kind::Integer), "null: nothing was committed"),
        field("to", Kind::Integer, "The next offset to be read"),
        field("dry_run", Kind::Flag, ""),
    ],
};

static DELETED_GROUP: Schema = Schema {
    name: "deleted_group",
    fields: &[
        field("name", Kind::Text, ""),
        field("offsets", Kind::Integer, "Partitions for which it had committed something"),
        field("dry_run", Kind::Flag, ""),
    ],
};

/// What is asked for to move a group.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Reset {
    topic: String,
    partition: Option<u32>,
    to: To,
    #[serde(default)]
    execute: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum To {
    Start,
    End,
    Offset(u64),
    TimeMs(i64),
    By(i64),
}

#[derive(Debug, Serialize)]
struct ResetGroup {
    group: String,
    dry_run: bool,
    moved: Vec<Moved>,
}

#[derive(Clone, Debug, Serialize)]
struct Moved {
    topic: String,
    partition: u32,
    from: Option<u64>,
    to: u64,
    dry_run: bool,
    #[serde(skip)]
    id: PartitionId,
}

async fn reset(
    State(state): State<ApiState>,
    Extension(caller): Extension<Caller>,
    Path(group): Path<String>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Result<Response, Problem> {
    Asked::of(query.as_deref(), &[])?;
    let asked: Reset = asked::json(&headers, body)?;
    if group.is_empty() || group.len() > GROUP_NAME_BYTES_MAX {
        let sentence = format!("a group's name has 1 to {GROUP_NAME_BYTES_MAX} bytes");
        return Err(Problem::new(&INVALID, sentence));
    }
    let topic = state.topic(&asked.topic)?;
    let name = group.clone();
    let (partition, to, dry_run) = (asked.partition, asked.to, !asked.execute);
    let moved = state.blocking(move |state| targets(state, &name, &topic, partition, to, dry_run)).await?;
    let told = told(&moved);
    let detail = with_omitted(json!({ "topic": asked.topic, "moved": told }), moved.len() - told.len());
    let outcome = ResetGroup { group: group.clone(), dry_run, moved };
    if dry_run {
        return Ok(Json(outcome).into_response());
    }
    let change = Change { caller, action: "group.reset", target: group, detail };
    let (broker, committed_ms) = (Arc::clone(state.broker()?), state.now_ms());
    let made = state.change(change, async move {
        let committed = |moved: &Moved| {
            let place =
                CommittedOffset { offset: moved.to, leader_epoch: -1, metadata: String::new(), committed_ms };
            (moved.id, place)
        };
        let offsets = outcome.moved.iter().map(committed).collect();
        let changed = broker.commit_for_group(&outcome.group, offsets).await;
        changed.map_err(|error| not_changed(&outcome.group, error))?;
        Ok(outcome)
    });
    Ok(made.await?.answer(StatusCode::OK))
}

/// Where the group would go on. May wait for the disk.
fn targets(
    state: &ApiState,
    name: &str,
    topic: &Topic,
    partition: Option<u32>,
    to: To,
    dry_run: bool,
) -> Result<Vec<Moved>, Problem> {
    let broker = state.broker()?;
    let log = broker.log();
    // A group that nobody knows yet can be given a place.
    let group = Group::find(broker, name);
    if group.as_ref().is_some_and(|group| !group.view.members.is_empty()) {
        return Err(not_changed(name, ChangeGroupError::InUse));
    }
    let committed = group.map(|group| group.stored.offsets).unwrap_or_default();
    let is_copy =
        |id: &PartitionId| committed.get(id).is_some_and(|place| place.metadata == COPY_OF_PROGRESS);
    if topic.partitions.iter().any(is_copy) {
        let sentence = format!(
            "the group {name:?} is a service that keeps its progress in its own database, and what the server has \
             is a copy; to have everything handled anew, with all its effects, count up .generation(…) of its \
             subscription"
        );
        return Err(Problem::new(&PROGRESS_ELSEWHERE, sentence));
    }
    let numbered = (0u32..).zip(&topic.partitions);
    let mut moved = Vec::new();
    for (number, id) in numbered.filter(|(number, _)| partition.is_none_or(|wanted| wanted == *number)) {
        let ends = log.offsets(*id).ok_or_else(|| Problem::topic_not_found(&topic.name))?;
        let from = committed.get(id).map(|committed| committed.offset);
        let target = match to {
            To::Start => Some(ends.start),
            To::End => Some(ends.high_watermark),
            To::Offset(offset) => Some(offset),
            // Nothing is that new: the group goes on with what comes.
            To::TimeMs(at_ms) => {
                let found = log.offset_for_time(*id, at_ms)?;
                Some(found.map_or(ends.high_watermark, |found| found.offset))
            }
            To::By(count) => from.map(|from| from.saturating_add_signed(count)),
        };
        // A place outside the partition would make a consumer start wherever its settings say.
        let target = target.map(|target| target.clamp(ends.start, ends.high_watermark));
        moved.extend(target.map(|to| Moved {
            topic: topic.name.clone(),
            partition: number,
            from,
            to,
            dry_run,
            id: *id,
        }));
    }
    match (moved.is_empty(), partition) {
        (false, _) => Ok(moved),
        (true, Some(number)) if number as usize >= topic.partitions.len() => {
            let sentence = format!("{} has {} partitions, from 0 on", topic.name, topic.partitions.len());
            Err(Problem::new(&PARTITION_NOT_FOUND, sentence))
        }
        (true, _) => {
            let sentence = format!(
                "the group has committed nothing there, so there is no place to move from; reset {} to \
                 \"start\" or \"end\"",
                topic.name
            );
            Err(Problem::new(&INVALID, sentence))
        }
    }
}

#[derive(Debug, Serialize)]
struct Deleted {
    name: String,
    offsets: usize,
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
    let broker = Arc::clone(state.broker()?);
    let group = Group::find(&broker, &name).ok_or_else(|| Problem::group_not_found(&name))?;
    if !group.view.members.is_empty() {
        return Err(not_changed(&name, ChangeGroupError::InUse));
    }
    let offsets = group.stored.offsets.len();
    let deleted = Deleted { name: name.clone(), offsets, dry_run };
    if dry_run {
        return Ok(Json(deleted).into_response());
    }
    if asked.text("confirm") != Some(&*name) {
        let sentence = format!(
            "this forgets {offsets} committed offsets for good; add the group's name as confirm to the query \
             to do it"
        );
        return Err(Problem::new(&NOT_CONFIRMED, sentence));
    }
    // What it had committed is the only way back.
    let detail = {
        let catalog = broker.log().catalog();
        let (committed, omitted) = committed(catalog.topics(), &group.stored);
        with_omitted(json!({ "offsets": offsets, "committed": committed }), omitted)
    };
    let change = Change { caller, action: "group.delete", target: name, detail };
    let made = state.change(change, async move {
        let changed = broker.delete_group(&deleted.name).await;
        changed.map_err(|error| not_changed(&deleted.name, error))?;
        Ok(deleted)
    });
    Ok(made.await?.answer(StatusCode::OK))
}

/// What a group has committed, by topic and partition, as far as an account has room for it, and of how many
/// partitions it says nothing.
fn committed<'a>(
    topics: impl Iterator<Item = &'a Arc<Topic>>,
    group: &StoredGroup,
) -> (BTreeMap<&'a str, BTreeMap<u32, u64>>, usize) {
    let mut told: BTreeMap<&str, BTreeMap<u32, u64>> = BTreeMap::new();
    let (mut bytes, mut omitted) = (0, 0);
    for topic in topics {
        for (number, id) in (0u32..).zip(&topic.partitions) {
            let Some(place) = group.offsets.get(id) else { continue };
            // As in JSON: `"topic":{` and `},`, and for each partition `"number":offset,`.
            let name = if told.contains_key(&*topic.name) { 0 } else { topic.name.len() + 6 };
            let takes = name + number.to_string().len() + place.offset.to_string().len() + 4;
            if omitted > 0 || bytes + takes > PLACES_BYTES_MAX {
                omitted += 1;
                continue;
            }
            bytes += takes;
            told.entry(&topic.name).or_default().insert(number, place.offset);
        }
    }
    (told, omitted)
}

/// Of the partitions that moved the first ones, as many as an account has room for.
fn told(moved: &[Moved]) -> &[Moved] {
    let mut bytes = 0;
    let fits = moved.iter().take_while(|moved| {
        bytes += json!(moved).to_string().len() + 1;
        bytes <= PLACES_BYTES_MAX
    });
    &moved[..fits.count()]
}

/// Says in an account of how many partitions it says nothing, where it does so of any.
fn with_omitted(mut detail: Value, omitted: usize) -> Value {
    if omitted > 0 {
        detail["omitted"] = json!(omitted);
    }
    detail
}

fn not_changed(name: &str, error: ChangeGroupError) -> Problem {
    match error {
        ChangeGroupError::NotFound => Problem::group_not_found(name),
        ChangeGroupError::InUse => {
            let sentence =
                format!("the group {name:?} has members, which would go on as before; stop them first");
            Problem::new(&GROUP_IN_USE, sentence)
        }
        ChangeGroupError::Log(error) => error.into(),
        error => Problem::new(&NOT_WRITTEN, error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use std::ops::Range;

    use uuid::Uuid;

    use super::*;

    fn topic(name: &str, ids: Range<u64>) -> Arc<Topic> {
        let partitions = ids.map(PartitionId).collect();
        Arc::new(Topic { id: Uuid::nil(), name: name.to_owned(), partitions, configs: BTreeMap::new() })
    }

    fn group(places: Range<u64>, offset: u64) -> StoredGroup {
        let place = CommittedOffset { offset, leader_epoch: -1, metadata: String::new(), committed_ms: 7 };
        let offsets = places.map(|id| (PartitionId(id), place.clone())).collect();
        StoredGroup { offsets, ..StoredGroup::default() }
    }

    fn fits(detail: &Value) -> bool {
        detail.to_string().len() <= AUDIT_DETAIL_BYTES_MAX
    }

    /// Symptom: the account of a deletion did not say at all what a group with more than some 1,100 partitions had
    /// committed. Cause: it was longer than an account may be, and the longest part of such a one is left out whole.
    /// Fix: it says it of as many partitions as it has room for, and how many others there are.
    #[test]
    fn an_account_of_a_large_group_has_as_many_places_as_fit() {
        for (offset, fitting) in [(7, 1_600), (u64::MAX, 500)] {
            let topics =
                [topic(&"a".repeat(249), 0..10), topic("orders", 10..4_000), topic("rest", 4_000..4_001)];
            let group = group(0..4_001, offset);
            let (places, omitted) = committed(topics.iter(), &group);
            let shown: usize = places.values().map(BTreeMap::len).sum();
            assert!(shown > fitting && shown + omitted == 4_001, "{shown} and {omitted}");
            assert!(places["orders"].keys().copied().eq(0..u32::try_from(shown - 10).unwrap()));
            let detail = with_omitted(json!({ "offsets": 4_001, "committed": places }), omitted);
            assert!(fits(&detail) && detail["omitted"] == json!(omitted), "{}", detail.to_string().len());
        }
        let topics = [topic("orders", 0..3), topic("others", 3..5)];
        let (places, omitted) = committed(topics.iter(), &group(1..3, 42));
        let detail = with_omitted(json!(places), omitted);
        assert_eq!(detail, json!({ "orders": { "1": 42, "2": 42 } }));
    }

    #[test]
    fn an_account_of_a_large_move_has_as_many_places_as_fit() {
        let name = "a".repeat(249);
        let moved = |partition: u32| {
            let id = PartitionId(u64::from(partition));
            Moved { topic: name.clone(), partition, from: Some(u64::MAX), to: u64::MAX, dry_run: false, id }
        };
        let moved: Vec<_> = (0..1_000).map(moved).collect();
        let shown = told(&moved);
        assert!(shown.len() > 40, "{}", shown.len());
        assert!(fits(&with_omitted(json!({ "topic": name, "moved": shown }), moved.len() - shown.len())));
        assert_eq!(told(&moved[..9]).len(), 9);
    }

    fn to(json: &str) -> Option<To> {
        serde_json::from_str(json).ok()
    }

    #[test]
    fn places_are_words_or_one_exact_number() {
        assert_eq!(to("\"start\""), Some(To::Start));
        assert_eq!(to("\"end\""), Some(To::End));
        assert_eq!(to("{\"offset\":9007199254740993}"), Some(To::Offset(9_007_199_254_740_993)));
        assert_eq!(to("{\"time_ms\":1700000000001}"), Some(To::TimeMs(1_700_000_000_001)));
        assert_eq!(to("{\"by\":-5}"), Some(To::By(-5)));
        for json in
            ["\"middle\"", "{}", "{\"offset\":-1}", "{\"offset\":1.5}", "{\"offset\":1,\"by\":2}", "5"]
        {
            assert_eq!(to(json), None, "{json}");
        }
    }
}
