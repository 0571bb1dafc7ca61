//! Discarding events that are parked: they wait for their next attempt, or behind another one of their key.

use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::extract::{Extension, RawQuery, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use courant_core::operations::{Action, Outcome, ParkedChange, WhichParked};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::line::{Line, not_understood};
use super::schemas::{BY, EXECUTE, REASON};
use super::{actor, reason, short_enough};
use crate::api::asked::{self, Path};
use crate::api::problem::{INVALID, Problem, ProblemKind};
use crate::api::route::{Field, Kind, Schema, field, optional};
use crate::api::{ApiState, Asked, Caller, Change, Json};

static PARKED_NOT_FOUND: ProblemKind =
    ProblemKind { status: StatusCode::NOT_FOUND, code: "parked_not_found", title: "Nothing is parked there" };

pub(super) static DISCARD: Schema = Schema {
    name: "discard_parked",
    fields: &[field("which", Kind::Of(&WHICH), ""), REASON, BY, EXECUTE, AT_MOST],
};

const AT_MOST: Field = optional(
    "at_most",
    Kind::Integer,
    "None is given up where more than so many wait, or where that is not known",
);

static WHICH: Schema = Schema {
    name: "which_parked",
    fields: &[
        field("consumer", Kind::Text, "That they wait for"),
        optional("generation", Kind::Integer, "Of the consumer; the first one where it is missing"),
        field("topic", Kind::Text, "That they are from"),
        field("partition", Kind::Integer, ""),
        optional("key", Kind::Text, "Those with this key"),
        optional("all", Kind::Flag, "Those of every key, and those without one; then no key is said"),
    ],
};

pub(super) static DISCARDED: Schema = Schema {
    name: "parked_discarded",
    fields: &[
        field("service", Kind::Text, ""),
        field("dry_run", Kind::Flag, ""),
        field("count", Kind::Integer, "How many events"),
        field("letters", Kind::Integer, "Dead letters that keep these keys parked, and stay"),
        field("has_more", Kind::Flag, "Whether there may be more than that: ask again for the rest"),
    ],
};

/// What is asked for.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Ask {
    which: Meant,
    reason: String,
    by: Option<String>,
    #[serde(default)]
    execute: bool,
    at_most: Option<u64>,
}

/// Which parked events somebody means, in the words of the API.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Meant {
    consumer: String,
    #[serde(default = "first_generation")]
    generation: u32,
    topic: String,
    partition: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    key: Option<String>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    all: bool,
}

#[derive(Debug, Serialize)]
struct Discarded {
    service: String,
    dry_run: bool,
    count: u64,
    letters: u64,
    has_more: bool,
}

/// Most consumers have no other one.
fn first_generation() -> u32 {
    1
}

impl Meant {
    /// In the words of a request. Nothing happens to all keys by accident.
    fn which(&self) -> Result<WhichParked, Problem> {
        let Self { consumer, generation, topic, partition, key, all } = self.clone();
        let texts = [Some(&consumer), Some(&topic), key.as_ref()];
        texts.into_iter().flatten().try_for_each(|text| short_enough("a filter", text))?;
        let which = WhichParked { consumer, generation, topic, partition, key, all };
        if !which.is_plain() {
            let sentence = "say which parked events are meant: those with a `key`, or `all`, and not both";
            return Err(Problem::new(&INVALID, sentence));
        }
        Ok(which)
    }
}

pub(super) async fn discard(
    State(state): State<ApiState>,
    Extension(caller): Extension<Caller>,
    Path(service): Path<String>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Result<Response, Problem> {
    Asked::of(query.as_deref(), &[])?;
    let asked: Ask = asked::json(&headers, body)?;
    let (which, reason) = (asked.which.which()?, reason(&asked.reason)?);
    let (by, dry_run) = (actor(&caller, asked.by.as_deref())?, !asked.execute);
    let line = Line::to(&state, &service).await?;
    let detail = json!({ "which": asked.which, "reason": reason, "by": by });
    let action = Action::DiscardParked(ParkedChange { which, reason, dry_run, at_most: asked.at_most });
    if dry_run {
        let outcomes = line.ask(&by, action, &PARKED_NOT_FOUND).await?;
        return Ok(Json(discarded(service, dry_run, outcomes)?).into_response());
    }
    let change = Change { caller, action: "dead_letters.discard_parked", target: service.clone(), detail };
    let made = state.change(change, async move {
        let outcomes = line.ask(&by, action, &PARKED_NOT_FOUND).await?;
        discarded(service, dry_run, outcomes)
    });
    Ok(made.await?.answer(StatusCode::OK))
}

fn discarded(service: String, dry_run: bool, outcomes: Vec<Outcome>) -> Result<Discarded, Problem> {
    match outcomes.into_iter().next() {
        Some(Outcome::GivenUp { events, letters, has_more }) => {
            Ok(Discarded { service, dry_run, count: events, letters, has_more })
        }
        _ => Err(not_understood()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn which(more: &str) -> Result<WhichParked, Problem> {
        let json = format!(r#"{{"consumer":"billing","topic":"orders","partition":2{more}}}"#);
        serde_json::from_str::<Meant>(&json).expect("what can be asked").which()
    }

    #[test]
    fn one_key_is_meant_or_all_of_a_partition() {
        assert_eq!(which("").expect_err("nothing is said").kind.code, "invalid");
        assert_eq!(which(r#","key":"a","all":true"#).expect_err("both").kind.code, "invalid");
        let of_key = which(r#","key":"a""#).expect("a key");
        assert_eq!((of_key.key.as_deref(), of_key.generation, of_key.partition), (Some("a"), 1, 2));
        assert!(which(r#","all":true,"generation":3"#).is_ok_and(|all| all.all && all.generation == 3));
        let misspelt = r#"{"consumer":"billing","topic":"orders","partition":2,"keys":"a"}"#;
        assert!(serde_json::from_str::<Meant>(misspelt).is_err(), "misspelt");
    }

    #[test]
    fn what_the_service_has_given_up_is_told() {
        let given_up = vec![Outcome::GivenUp { events: 7, letters: 1, has_more: true }];
        let told = discarded("billing".to_owned(), false, given_up).expect("given up");
        assert_eq!((told.count, told.letters, told.has_more), (7, 1, true));
        let other = vec![Outcome::Planned { redrives: Vec::new() }];
        let other = discarded("billing".to_owned(), false, other).expect_err("no number");
        assert_eq!(other.kind.code, "service_failed");
    }
}
