//! Doing what a request asks for, in the store.
//!
//! Everything here can be done again without a second effect: a letter that was decided about is not decided
//! about again, a redrive is done once under its name, an edit replaces the event that it was made for. So a
//! service that is killed between an action and the note of it in the inbox does it again, and nothing
//! happens twice.

use std::collections::BTreeMap;

use bytes::Bytes;
use courant_core::event_id::EventId;
use courant_core::operations::{
    Action, Outcome, PlannedRedrive, RedriveResult, Request, ResultPage, Which, unhex,
};
use courant_sql::limits::{EVENT_BYTES_MAX, LISTED_MAX};
use courant_sql::{DeadEdit, DeadReason, EditError, Event, RedriveError, Store, StoreError, Verdict};
use serde::Serialize;

use super::deciding::decide;
use super::letters::{Pages, edited_headers, meant, unlike_its_type};
use super::parked::discard_parked;
use super::readers::{Asker, Readers};
use super::telling::{Page, tell};
use super::wire::{progress, result};

/// Results that one part of an answer has at most.
pub(super) const RESULTS_MAX: usize = 1_000;

/// Bytes of the results in one part of an answer: less than any topic takes in one record, with room for
/// what is said of others.
const PART_BYTES_MAX: usize = 256 * 1024;

/// When a request was sent, and when it is followed, in milliseconds since 1970.
#[derive(Clone, Copy, Debug)]
pub(super) struct Times {
    pub(super) asked_ms: i64,
    pub(super) now_ms: i64,
}

/// Why a request could not be followed.
#[derive(Debug, thiserror::Error)]
pub(super) enum ActError {
    /// It makes no sense.
    #[error("{0}")]
    Nonsense(String),
    /// What it names is not there.
    #[error("{0}")]
    NotFound(String),
    /// It contradicts what is there.
    #[error("{0}")]
    Conflict(String),
    /// The store did not do its part.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl From<RedriveError> for ActError {
    fn from(error: RedriveError) -> Self {
        match error {
            RedriveError::Store(error) => Self::Store(error),
            other => Self::NotFound(other.to_string()),
        }
    }
}

impl From<EditError> for ActError {
    fn from(error: EditError) -> Self {
        match error {
            EditError::Store(error) => Self::Store(error),
            EditError::Unknown { .. } => Self::NotFound(error.to_string()),
            other => Self::Conflict(other.to_string()),
        }
    }
}

/// Follows a request; edits are held against what `readers` can read. Gives back the parts of the answer, at
/// least one.
pub(super) async fn act<S: Store>(
    store: &S,
    request: &Request,
    times: Times,
    readers: Option<&Readers>,
) -> Result<Vec<Outcome>, ActError> {
    let now_ms = times.now_ms;
    match &request.action {
        Action::Discard(change) => decide(store, request, change, Verdict::Discard, times).await,
        Action::Archive(change) => decide(store, request, change, Verdict::Archive, times).await,
        Action::Restore(change) => decide(store, request, change, Verdict::Restore, times).await,
        Action::DiscardParked(change) => Box::pin(discard_parked(store, request, change, times)).await,
        Action::Plan { which } => {
            let planned = plan(store, which).await?;
            Ok(parts(planned, |redrives| Outcome::Planned { redrives }))
        }
        Action::Redrive { redrive, which, rate } => {
            let was_known = match store.redrive(redrive).await {
                Ok(known) => Some(known),
                Err(RedriveError::Unknown { .. }) => None,
                Err(error) => return Err(error.into()),
            };
            if let Some(known) = was_known {
                return Ok(vec![Outcome::Redrive { progress: progress(&known), was_known: true }]);
            }
            let filter = meant(store, which).await?.fixed(store).await?.ok_or_else(nothing_is_meant)?;
            let begun = store.request_redrive_at(redrive, &request.actor, &filter, *rate, now_ms).await?;
            Ok(vec![Outcome::Redrive { progress: progress(&begun), was_known: false }])
        }
        Action::Status { redrive, events, page } => status(store, redrive, *events, *page).await,
        Action::Cancel { redrive } => {
            let cancelled = store.cancel_redrive(redrive, now_ms).await?;
            Ok(vec![Outcome::Redrive { progress: progress(&cancelled), was_known: true }])
        }
        Action::Edit { .. } => Ok(vec![edit(store, request, now_ms, readers).await?]),
        Action::Letters { which, state, after, limit, notes } => {
            let page = Page { state: state.as_deref(), after: *after, limit: *limit, notes: *notes };
            tell(store, which, page).await
        }
        // One that a later version of Courant knows.
        _ => Err(ActError::Nonsense("it asks for something that this service does not know".to_owned())),
    }
}

pub(super) fn nothing_is_meant() -> ActError {
    ActError::NotFound("no dead letter that somebody has to decide about is meant".to_owned())
}

/// A long answer in parts, at least one.
pub(super) fn parts<R: Serialize>(all: Vec<R>, outcome: impl Fn(Vec<R>) -> Outcome) -> Vec<Outcome> {
    let mut parts = Vec::new();
    let (mut part, mut part_bytes) = (Vec::new(), 0);
    for one in all {
        // What has no JSON is found when the part is written.
        let bytes = serde_json::to_vec(&one).map_or(0, |json| json.len());
        if part.len() == RESULTS_MAX || (!part.is_empty() && part_bytes + bytes > PART_BYTES_MAX) {
            parts.push(outcome(std::mem::take(&mut part)));
            part_bytes = 0;
        }
        part_bytes += bytes;
        part.push(one);
    }
    parts.push(outcome(part));
    parts
}

async fn plan<S: Store>(store: &S, which: &Which) -> Result<Vec<PlannedRedrive>, ActError> {
    let meant = meant(store, which).await?;
    let mut planned: BTreeMap<[String; 4], PlannedRedrive> = BTreeMap::new();
    let mut pages = Pages::new();
    while let Some(page) = pages.next(store, &meant).await? {
        for letter in page {
            let failure = letter.failure;
            let names = [
                letter.consumer.name.to_string(),
                letter.position.topic.to_string(),
                failure.kind,
                failure.place,
            ];
            let row = planned.entry(names).or_default();
            row.letters += 1;
            // Bytes that are no event have never come to a handler.
            if letter.reason != DeadReason::Undecodable {
                row.attempts += u64::from(letter.attempts);
            }
        }
    }
    if planned.is_empty() {
        return Err(nothing_is_meant());
    }
    let named = planned.into_iter().map(|([consumer, topic, error, place], row)| PlannedRedrive {
        consumer,
        topic,
        error,
        place,
        ..row
    });
    Ok(named.collect())
}

/// How far a redrive is, or what has become of its letters. Before a page of that stands how far it is: who
/// asks for a page does not count the letters.
async fn status<S: Store>(
    store: &S,
    redrive: &str,
    events: bool,
    page: Option<ResultPage>,
) -> Result<Vec<Outcome>, ActError> {
    let found = store.redrive(redrive).await?;
    let how_far = Outcome::Redrive { progress: progress(&found), was_known: true };
    if !events {
        return Ok(vec![how_far]);
    }
    let mut said = Vec::new();
    let (after, limit) = page.map_or((0, usize::MAX), |page| {
        said.push(how_far);
        (page.after, usize::try_from(page.limit).unwrap_or(usize::MAX))
    });
    let results = results(store, redrive, after, limit).await?;
    said.extend(parts(results, |results| Outcome::Results { results }));
    Ok(said)
}

async fn results<S: Store>(
    store: &S,
    redrive: &str,
    mut after: i64,
    limit: usize,
) -> Result<Vec<RedriveResult>, ActError> {
    let mut results = Vec::new();
    while results.len() < limit {
        let left = u32::try_from(limit - results.len()).unwrap_or(u32::MAX);
        let page = store.redrive_events(redrive, after, left.min(LISTED_MAX)).await?;
        let Some(last) = page.last() else { break };
        after = last.dead_id;
        results.extend(page.iter().map(result));
    }
    Ok(results)
}

async fn edit<S: Store>(
    store: &S,
    request: &Request,
    now_ms: i64,
    readers: Option<&Readers>,
) -> Result<Outcome, ActError> {
    let Action::Edit { letter, event_id, value_hex, headers, deleted, force, reason } = &request.action
    else {
        return Err(ActError::Nonsense("it is no edit".to_owned()));
    };
    let unknown = || ActError::NotFound(format!("there is no dead letter {letter}"));
    let found = store.dead_letter(*letter).await?.ok_or_else(unknown)?;
    let (summary, original) = (found.summary, found.event);
    let event_id = EventId::new(event_id).map_err(|error| ActError::Nonsense(error.to_string()))?;
    // Done before, by a service that was killed then.
    if original.id == event_id {
        return already_edited(store, *letter, &event_id).await;
    }
    let value = match value_hex {
        None => original.value.clone(),
        Some(text) => Some(value_of(text)?),
    };
    let headers = edited_headers(&original, &event_id, headers, deleted);
    if let Some(unlike) = unlike_its_type(value.as_ref(), &headers).filter(|_| !force) {
        return Err(ActError::Nonsense(unlike));
    }
    if let Some(readers) = readers.filter(|_| !force) {
        let asker = if value_hex.is_some() { Asker::Author } else { Asker::Stranger };
        let event = Event {
            offset: original.offset,
            id: event_id.clone(),
            key: original.key.clone(),
            value: value.clone(),
            headers: headers.clone(),
            timestamp_ms: original.timestamp_ms,
        };
        let consumer = summary.consumer.name.as_str();
        if let Some(unlike) = readers.unlike(consumer, &summary.position.topic, event, asker) {
            return Err(ActError::Nonsense(unlike));
        }
    }
    let original_event_id = original.id.to_string();
    let edit = DeadEdit {
        replaces: original.id,
        event_id,
        value,
        headers,
        by: request.actor.clone(),
        reason: reason.clone(),
    };
    store.edit_dead_letter(*letter, &edit, now_ms).await?;
    Ok(Outcome::Edited { event_id: edit.event_id.to_string(), original_event_id })
}

async fn already_edited<S: Store>(store: &S, letter: i64, event_id: &EventId) -> Result<Outcome, ActError> {
    let notes = store.dead_letter_notes(letter).await?;
    let original = notes.into_iter().rev().find_map(|note| note.original);
    let original_event_id = original.map(|original| original.event_id.to_string()).unwrap_or_default();
    Ok(Outcome::Edited { event_id: event_id.to_string(), original_event_id })
}

fn value_of(text: &str) -> Result<Bytes, ActError> {
    let value = unhex(text).filter(|value| value.len() <= EVENT_BYTES_MAX);
    let value = value.ok_or_else(|| ActError::Nonsense("its value is not in hexadecimal".to_owned()))?;
    Ok(Bytes::from(value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_answer_comes_in_parts() {
        let results = |count: usize| {
            let one = PlannedRedrive::default();
            parts(vec![one; count], |redrives| Outcome::Planned { redrives })
        };
        assert_eq!(results(0).len(), 1);
        assert_eq!(results(RESULTS_MAX).len(), 1);
        assert_eq!(results(RESULTS_MAX * 2 + 1).len(), 3);
    }

    /// No part is larger than a record may be, and none is lost.
    #[test]
    fn parts_are_bounded_by_their_bytes_as_well() {
        let long = |number| PlannedRedrive {
            letters: number,
            error: "e".repeat(100_000),
            ..PlannedRedrive::default()
        };
        let parts = parts((0..5).map(long).collect(), |redrives| Outcome::Planned { redrives });
        let mut numbers = Vec::new();
        for part in &parts {
            assert!(serde_json::to_vec(part).expect("JSON").len() < 300_000);
            let Outcome::Planned { redrives } = part else { panic!("{part:?}") };
            numbers.extend(redrives.iter().map(|redrive| redrive.letters));
        }
        assert_eq!((parts.len(), numbers), (3, vec![0, 1, 2, 3, 4]));
        let larger_than_a_part = PlannedRedrive { error: "e".repeat(300_000), ..PlannedRedrive::default() };
        let alone = super::parts(vec![larger_than_a_part], |redrives| Outcome::Planned { redrives });
        assert_eq!(alone.len(), 1, "no part is empty for the sake of it");
    }
}
