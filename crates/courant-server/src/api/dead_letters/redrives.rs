//! Sending dead letters back to the consumer where they failed: what would be, how far it is, what has come
//! of each, and no more of it.

use std::num::NonZeroU32;

use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::extract::{Extension, RawQuery, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use courant_core::operations::{
    Action, Outcome, PlannedRedrive, RedriveProgress, RedriveResult, ResultPage, Which,
};
use serde::{Deserialize, Serialize};
use serde_json::json;
use uuid::Uuid;

use super::line::{Line, not_understood};
use super::{LETTER_NOT_FOUND, Meant, actor, short_enough};
use crate::api::asked::{self, Path};
use crate::api::problem::{BAD_REQUEST, INVALID, Problem, ProblemKind};
use crate::api::{ApiState, Asked, Caller, Change, Json};

static REDRIVE_NOT_FOUND: ProblemKind = ProblemKind {
    status: StatusCode::NOT_FOUND,
    code: "redrive_not_found",
    title: "There is no such redrive",
};

/// What is asked for.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Ask {
    which: Meant,
    rate: Option<u32>,
    id: Option<String>,
    by: Option<String>,
    #[serde(default)]
    execute: bool,
}

#[derive(Debug, Serialize)]
struct Begun {
    service: String,
    dry_run: bool,
    letters: u64,
    planned: Vec<Planned>,
    redrive: Option<Redrive>,
    was_known: bool,
}

/// Letters with one failure in one topic.
#[derive(Debug, Serialize)]
struct Planned {
    consumer: String,
    topic: String,
    error: String,
    place: String,
    letters: u64,
    attempts: u64,
    repeats: &'static str,
}

impl From<PlannedRedrive> for Planned {
    fn from(planned: PlannedRedrive) -> Self {
        let PlannedRedrive { consumer, topic, error, place, letters, attempts } = planned;
        // What a handler did in the store and published was undone with each failure.
        let repeats = if attempts == 0 { "nothing" } else { "calls to other systems" };
        Self { consumer, topic, error, place, letters, attempts, repeats }
    }
}

/// How far a redrive is.
#[derive(Debug, Serialize)]
pub(super) struct Redrive {
    id: String,
    state: &'static str,
    requested_by: String,
    requested_ms: i64,
    finished_ms: Option<i64>,
    filter: String,
    letters: u64,
    pending: u64,
    delivering: u64,
    handled: u64,
    failed: u64,
    cancelled: u64,
}

impl From<RedriveProgress> for Redrive {
    fn from(progress: RedriveProgress) -> Self {
        let RedriveProgress { pending, delivering, handled, failed, cancelled, .. } = progress;
        Self {
            letters: progress.letters(),
            state: known(&progress.state, &["running", "done", "cancelled"]),
            id: progress.id,
            requested_by: progress.requested_by,
            requested_ms: progress.requested_ms,
            finished_ms: progress.finished_ms,
            filter: progress.filter,
            pending,
            delivering,
            handled,
            failed,
            cancelled,
        }
    }
}

#[derive(Debug, Serialize)]
pub(super) struct Results {
    redrive: String,
    results: Vec<Made>,
    next: Option<String>,
    total: u64,
}

/// What a redrive has made of one letter.
#[derive(Debug, Serialize)]
struct Made {
    letter: i64,
    result: &'static str,
    since_ms: i64,
    state: &'static str,
}

impl From<&RedriveResult> for Made {
    fn from(result: &RedriveResult) -> Self {
        Self {
            letter: result.letter,
            result: known(&result.result, &["pending", "delivering", "handled", "failed", "cancelled"]),
            since_ms: result.since_ms,
            state: known(&result.state, &["dead", "redriving", "redriven", "discarded", "archived"]),
        }
    }
}

/// One of these words; a service of a later version may have others.
pub(super) fn known(word: &str, words: &[&'static str]) -> &'static str {
    words.iter().find(|known| **known == word).copied().unwrap_or("unknown")
}

pub(super) async fn begin(
    State(state): State<ApiState>,
    Extension(caller): Extension<Caller>,
    Path(service): Path<String>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Result<Response, Problem> {
    Asked::of(query.as_deref(), &[])?;
    let asked: Ask = asked::json(&headers, body)?;
    let (which, by) = (asked.which.which()?, actor(&caller, asked.by.as_deref())?);
    let rate = asked.rate.map(rate).transpose()?;
    let line = Line::to(&state, &service).await?;
    if !asked.execute {
        return Ok(Json(planned(&line, service, &by, which).await?).into_response());
    }
    let redrive = asked.id.unwrap_or_else(|| format!("redrive-{}", Uuid::now_v7()));
    short_enough("`id`", &redrive)?;
    if redrive.is_empty() {
        return Err(Problem::new(&INVALID, "the id of a redrive has at least one character"));
    }
    let detail = json!({ "redrive": redrive, "which": asked.which, "rate": rate, "by": by });
    let change = Change { caller, action: "dead_letters.redrive", target: service.clone(), detail };
    let action = Action::Redrive { redrive, which, rate };
    let made = state.change(change, async move {
        let outcomes = line.ask(&by, action, &LETTER_NOT_FOUND).await?;
        let (progress, was_known) = progress(outcomes)?;
        let redrive = Redrive::from(progress);
        let letters = redrive.letters;
        let redrive = Some(redrive);
        Ok(Begun { service, dry_run: false, letters, planned: Vec::new(), redrive, was_known })
    });
    Ok(made.await?.answer(StatusCode::OK))
}

fn rate(rate: u32) -> Result<NonZeroU32, Problem> {
    let sentence = "`rate` is how many letters are sent back in a second, at least 1";
    NonZeroU32::new(rate).ok_or_else(|| Problem::new(&INVALID, sentence))
}

async fn planned(line: &Line, service: String, by: &str, which: Which) -> Result<Begun, Problem> {
    let mut planned: Vec<Planned> = Vec::new();
    for outcome in line.ask(by, Action::Plan { which }, &LETTER_NOT_FOUND).await? {
        let Outcome::Planned { redrives } = outcome else { return Err(not_understood()) };
        planned.extend(redrives.into_iter().map(Planned::from));
    }
    let letters = planned.iter().fold(0_u64, |sum, row| sum.saturating_add(row.letters));
    Ok(Begun { service, dry_run: true, letters, planned, redrive: None, was_known: false })
}

fn progress(outcomes: Vec<Outcome>) -> Result<(RedriveProgress, bool), Problem> {
    match outcomes.into_iter().next() {
        Some(Outcome::Redrive { progress, was_known }) => Ok((progress, was_known)),
        _ => Err(not_understood()),
    }
}

pub(super) async fn show(
    State(state): State<ApiState>,
    Extension(caller): Extension<Caller>,
    Path((service, redrive)): Path<(String, String)>,
    RawQuery(query): RawQuery,
) -> Result<Json<Redrive>, Problem> {
    Asked::of(query.as_deref(), &[])?;
    short_enough("the id", &redrive)?;
    let line = Line::to(&state, &service).await?;
    let action = Action::Status { redrive, events: false, page: None };
    let outcomes = line.ask(&actor(&caller, None)?, action, &REDRIVE_NOT_FOUND).await?;
    Ok(Json(Redrive::from(progress(outcomes)?.0)))
}

pub(super) async fn results(
    State(state): State<ApiState>,
    Extension(caller): Extension<Caller>,
    Path((service, redrive)): Path<(String, String)>,
    RawQuery(query): RawQuery,
) -> Result<Json<Results>, Problem> {
    let asked = Asked::of(query.as_deref(), &["limit", "after"])?;
    let (limit, after) = (asked.limit()?, asked.text("after").map(letter_after).transpose()?);
    short_enough("the id", &redrive)?;
    let line = Line::to(&state, &service).await?;
    // One more than is shown says whether there are more.
    let wanted = u32::try_from(limit).unwrap_or(u32::MAX).saturating_add(1);
    let of_it = Some(ResultPage { after: after.unwrap_or(0), limit: wanted });
    let action = Action::Status { redrive: redrive.clone(), events: true, page: of_it };
    let outcomes = line.ask(&actor(&caller, None)?, action, &REDRIVE_NOT_FOUND).await?;
    Ok(Json(page(redrive, outcomes, limit, after)?))
}

/// A page of what a service has said: it, or all results, as one says that knows of no pages.
fn page(
    redrive: String,
    outcomes: Vec<Outcome>,
    limit: usize,
    after: Option<i64>,
) -> Result<Results, Problem> {
    let (mut all, mut total) = (Vec::new(), None);
    for outcome in outcomes {
        match outcome {
            Outcome::Redrive { progress, .. } => total = Some(progress.letters()),
            Outcome::Results { results } => all.extend(results),
            _ => return Err(not_understood()),
        }
    }
    // In the order of the letters.
    let mut left = all.iter().filter(|result| after.is_none_or(|after| result.letter > after)).peekable();
    let results: Vec<Made> = left.by_ref().take(limit).map(Made::from).collect();
    let next = left.peek().and_then(|_| results.last()).map(|last| last.letter.to_string());
    let total = total.unwrap_or_else(|| u64::try_from(all.len()).unwrap_or(u64::MAX));
    Ok(Results { redrive, results, next, total })
}

/// The number of a letter, as `next` of a page has it.
pub(super) fn letter_after(text: &str) -> Result<i64, Problem> {
    let problem = |_| Problem::new(&BAD_REQUEST, format!("after is {text:?}; give back what `next` was"));
    text.parse().map_err(problem)
}

/// Who cancels.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Cancel {
    by: Option<String>,
}

pub(super) async fn cancel(
    State(state): State<ApiState>,
    Extension(caller): Extension<Caller>,
    Path((service, redrive)): Path<(String, String)>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Result<Response, Problem> {
    Asked::of(query.as_deref(), &[])?;
    let asked: Cancel = asked::json(&headers, body)?;
    short_enough("the id", &redrive)?;
    let by = actor(&caller, asked.by.as_deref())?;
    let line = Line::to(&state, &service).await?;
    let detail = json!({ "redrive": redrive, "by": by });
    let change = Change { caller, action: "dead_letters.cancel_redrive", target: service, detail };
    let made = state.change(change, async move {
        let outcomes = line.ask(&by, Action::Cancel { redrive }, &REDRIVE_NOT_FOUND).await?;
        Ok(Redrive::from(progress(outcomes)?.0))
    });
    Ok(made.await?.answer(StatusCode::OK))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn progress() -> RedriveProgress {
        RedriveProgress {
            id: "r".to_owned(),
            requested_by: "grace".to_owned(),
            requested_ms: 1,
            filter: "{}".to_owned(),
            state: "of a later version".to_owned(),
            finished_ms: None,
            pending: 1,
            delivering: 2,
            handled: 3,
            failed: 4,
            cancelled: 5,
        }
    }

    #[test]
    fn a_redrive_has_all_of_its_letters() {
        let redrive = Redrive::from(progress());
        assert_eq!((redrive.letters, redrive.state), (15, "unknown"));
    }

    fn results(letters: &[i64]) -> Outcome {
        let result = |letter: &i64| RedriveResult {
            letter: *letter,
            result: "handled".to_owned(),
            since_ms: 1,
            state: "redriven".to_owned(),
        };
        Outcome::Results { results: letters.iter().map(result).collect() }
    }

    /// A service is asked for one more than is shown, and tells how many there are.
    #[test]
    fn results_come_in_pages() {
        let of = |letters: &[i64], after| {
            let how_far = Outcome::Redrive { progress: progress(), was_known: true };
            page("r".to_owned(), vec![how_far, results(letters)], 2, after).expect("results")
        };
        let first = of(&[3, 5, 9], None);
        assert_eq!((first.results.len(), first.next.as_deref(), first.total), (2, Some("5"), 15));
        let second = of(&[9], Some(5));
        assert_eq!((second.results[0].letter, second.next, second.total), (9, None, 15));
        assert_eq!(letter_after("x").expect_err("no number").kind.code, "bad_request");
        let other = page("r".to_owned(), vec![Outcome::Planned { redrives: Vec::new() }], 2, None);
        assert_eq!(other.expect_err("no results").kind.code, "service_failed");
    }

    /// A service of an earlier version tells all of them each time, in parts.
    #[test]
    fn a_page_is_taken_out_of_all_results() {
        let of = |after| {
            let outcomes = vec![results(&[3, 5]), results(&[9])];
            page("r".to_owned(), outcomes, 2, after).expect("results")
        };
        let first = of(None);
        assert_eq!((first.results.len(), first.next.as_deref(), first.total), (2, Some("5"), 3));
        let second = of(Some(5));
        assert_eq!((second.results[0].letter, second.next, second.total), (9, None, 3));
    }
}
