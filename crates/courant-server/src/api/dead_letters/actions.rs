//! Discarding and archiving: dead letters that are not sent back; and restoring archived ones.

use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::extract::{Extension, RawQuery, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use courant_core::operations::{Action, Change as Asking, Outcome};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::line::{Line, not_understood, words};
use super::{LETTER_NOT_FOUND, Meant, actor, reason};
use crate::api::asked::{self, Path};
use crate::api::limits::LETTERS_NAMED_MAX;
use crate::api::problem::Problem;
use crate::api::{ApiState, Asked, Caller, Change, Json};

/// What is asked for.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Close {
    which: Meant,
    reason: String,
    by: Option<String>,
    #[serde(default)]
    execute: bool,
}

#[derive(Debug, Serialize)]
struct Closed {
    service: String,
    dry_run: bool,
    action: &'static str,
    count: usize,
    letters: Vec<Letter>,
    others: Vec<String>,
}

#[derive(Debug, Serialize)]
struct Letter {
    letter: i64,
    position: String,
}

/// What becomes of letters.
#[derive(Clone, Copy, Debug)]
struct Verdict {
    /// As the answer has it.
    word: &'static str,
    /// As the audit has it.
    audited: &'static str,
    action: fn(Asking) -> Action,
}

static DISCARD: Verdict =
    Verdict { word: "discard", audited: "dead_letters.discard", action: Action::Discard };
static ARCHIVE: Verdict =
    Verdict { word: "archive", audited: "dead_letters.archive", action: Action::Archive };
static RESTORE: Verdict =
    Verdict { word: "restore", audited: "dead_letters.restore", action: Action::Restore };

pub(super) async fn discard(
    State(state): State<ApiState>,
    Extension(caller): Extension<Caller>,
    Path(service): Path<String>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Result<Response, Problem> {
    Asked::of(query.as_deref(), &[])?;
    close(&state, caller, service, asked::json(&headers, body)?, &DISCARD).await
}

pub(super) async fn archive(
    State(state): State<ApiState>,
    Extension(caller): Extension<Caller>,
    Path(service): Path<String>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Result<Response, Problem> {
    Asked::of(query.as_deref(), &[])?;
    close(&state, caller, service, asked::json(&headers, body)?, &ARCHIVE).await
}

pub(super) async fn restore(
    State(state): State<ApiState>,
    Extension(caller): Extension<Caller>,
    Path(service): Path<String>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Result<Response, Problem> {
    Asked::of(query.as_deref(), &[])?;
    close(&state, caller, service, asked::json(&headers, body)?, &RESTORE).await
}

async fn close(
    state: &ApiState,
    caller: Caller,
    service: String,
    asked: Close,
    verdict: &'static Verdict,
) -> Result<Response, Problem> {
    let (which, reason) = (asked.which.which()?, reason(&asked.reason)?);
    let (by, dry_run) = (actor(&caller, asked.by.as_deref())?, !asked.execute);
    let line = Line::to(state, &service).await?;
    let detail = json!({ "which": asked.which, "reason": reason, "by": by });
    let action = (verdict.action)(Asking { which, reason, dry_run });
    if dry_run {
        let outcomes = line.ask(&by, action, &LETTER_NOT_FOUND).await?;
        return Ok(Json(closed(service, dry_run, verdict.word, outcomes)?).into_response());
    }
    let change = Change { caller, action: verdict.audited, target: service.clone(), detail };
    let made = state.change(change, async move {
        let outcomes = line.ask(&by, action, &LETTER_NOT_FOUND).await?;
        closed(service, dry_run, verdict.word, outcomes)
    });
    Ok(made.await?.answer(StatusCode::OK))
}

fn closed(
    service: String,
    dry_run: bool,
    action: &'static str,
    outcomes: Vec<Outcome>,
) -> Result<Closed, Problem> {
    let mut closed = Closed { service, dry_run, action, count: 0, letters: Vec::new(), others: Vec::new() };
    let mut is_unknown = false;
    for outcome in outcomes {
        let Outcome::Decided { letters, others, only_unknown } = outcome else {
            return Err(not_understood());
        };
        closed.count += letters.len();
        let room = LETTERS_NAMED_MAX.saturating_sub(closed.letters.len());
        let shown = letters.into_iter().take(room);
        closed.letters.extend(shown.map(|one| Letter { letter: one.letter, position: one.position }));
        let room = LETTERS_NAMED_MAX.saturating_sub(closed.others.len());
        closed.others.extend(others.iter().take(room).map(|other| words(other)));
        is_unknown = only_unknown;
    }
    if closed.count == 0 && is_unknown && !closed.others.is_empty() {
        return Err(Problem::new(&LETTER_NOT_FOUND, words(&closed.others.join("; "))));
    }
    Ok(closed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use courant_core::operations::DecidedLetter;

    fn decided(letters: usize, others: &[&str], only_unknown: bool) -> Outcome {
        let letter = |letter: usize| DecidedLetter {
            letter: i64::try_from(letter).expect("small"),
            position: format!("orders/0@{letter}"),
        };
        Outcome::Decided {
            letters: (0..letters).map(letter).collect(),
            others: others.iter().map(|other| (*other).to_owned()).collect(),
            only_unknown,
        }
    }

    fn of(outcomes: Vec<Outcome>) -> Result<Closed, Problem> {
        closed("billing".to_owned(), false, "discard", outcomes)
    }

    #[test]
    fn all_are_counted_and_the_first_are_named() {
        let all = of(vec![decided(700, &[], true), decided(700, &["dead letter 9 is redriven"], false)]);
        let all = all.expect("decided");
        assert_eq!((all.count, all.letters.len(), all.others.len()), (1_400, LETTERS_NAMED_MAX, 1));
        let none = of(vec![decided(0, &["there is no dead letter 9"], true)]).expect_err("none is there");
        assert_eq!(none.kind.code, "letter_not_found");
        assert_eq!(of(vec![decided(0, &["dead letter 9 is redriven"], false)]).expect("named").count, 0);
        let other = of(vec![Outcome::Planned { redrives: Vec::new() }]).expect_err("no decision");
        assert_eq!(other.kind.code, "service_failed");
    }
}
