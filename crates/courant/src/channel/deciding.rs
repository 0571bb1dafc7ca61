//! Discarding, archiving and restoring: which letters are meant is fixed first, and the answer tells of all of
//! them, also of those that the same request has reached before it was interrupted.

use std::collections::{BTreeMap, BTreeSet};

use courant_core::operations::{Change, DecidedLetter, EXPIRY_MAX_MS, Outcome, Request, Which, failure_name};
use courant_sql::limits::{LISTED_MAX, REDRIVE_EVENTS_MAX};
use courant_sql::{DeadAction, DeadLetter, DeadState, Decision, Store, Verdict};

use super::acting::{ActError, RESULTS_MAX, Times, nothing_is_meant, parts};
use super::letters::{Fixed, Meant, Pages, meant};
use super::wire::word;
use crate::planted::{Defect, is_planted};

/// Letters that are looked at for whether the request has decided about them before, the last ones.
const LOOKED_AT_MAX: usize = 10_000;

/// Decides about letters; one that somebody else has decided about stays as it is.
pub(super) async fn decide<S: Store>(
    store: &S,
    request: &Request,
    change: &Change,
    verdict: Verdict,
    times: Times,
) -> Result<Vec<Outcome>, ActError> {
    let decision = Decision { verdict, by: &request.actor, reason: &change.reason };
    let named: BTreeSet<i64> = change.which.letters.iter().copied().collect();
    let mut done = BTreeMap::new();
    // Those that are named are looked up one by one below.
    if named.is_empty() && !change.dry_run {
        let since_ms = times.asked_ms.max(request.expires_ms.saturating_sub(EXPIRY_MAX_MS));
        done = decided_before(store, &change.which, &decision, since_ms).await?;
    }
    let meant = match verdict {
        Verdict::Discard | Verdict::Archive => meant(store, &change.which).await,
        Verdict::Restore => Meant::archived(&change.which),
    };
    let fixed = match meant {
        Ok(meant) => meant.letters(store).await?,
        // All of it was done: nobody has to decide about the failure any more.
        Err(ActError::NotFound(_)) if !done.is_empty() => Fixed::default(),
        Err(error) => return Err(error),
    };
    let meant: Vec<i64> = fixed.letters.keys().copied().collect();
    for ids in meant.chunks(LISTED_MAX as usize) {
        let decided =
            if change.dry_run { ids.to_vec() } else { store.decide(ids, &decision, times.now_ms).await? };
        done.extend(decided.into_iter().filter_map(|id| Some((id, fixed.letters.get(&id)?.clone()))));
    }
    let missing = left(named, &meant, &done);
    if done.is_empty() && missing.is_empty() {
        return Err(match verdict {
            Verdict::Discard | Verdict::Archive => nothing_is_meant(),
            Verdict::Restore => ActError::NotFound("no archived dead letter is meant".to_owned()),
        });
    }
    let (mut others, mut only_unknown) = undecided(store, &missing, &decision, &mut done).await?;
    if fixed.has_more {
        others.push(format!("more than {REDRIVE_EVENTS_MAX} dead letters are meant; ask again for the rest"));
        only_unknown = false;
    }
    Ok(answer(done, others, only_unknown))
}

/// Letters that were named, or that were meant when they were looked up, and that are not decided about: those that
/// somebody else was faster with, such as a redrive, are told of as well.
fn left(named: BTreeSet<i64>, meant: &[i64], done: &BTreeMap<i64, String>) -> BTreeSet<i64> {
    named.into_iter().chain(meant.iter().copied()).filter(|id| !done.contains_key(id)).collect()
}

/// The parts of the answer. What is said of others stands in the last one.
fn answer(done: BTreeMap<i64, String>, others: Vec<String>, only_unknown: bool) -> Vec<Outcome> {
    let letters = done.into_iter().map(|(letter, position)| DecidedLetter { letter, position }).collect();
    let without = |letters| Outcome::Decided { letters, others: Vec::new(), only_unknown };
    let mut parts = parts(letters, without);
    if let Some(Outcome::Decided { others: last, .. }) = parts.last_mut() {
        *last = others;
    }
    parts
}

/// The letters that a filter means and that this decision has reached since then, by number and with where
/// their events are: a repetition does not find them among those that somebody has to decide about.
async fn decided_before<S: Store>(
    store: &S,
    which: &Which,
    decision: &Decision<'_>,
    since_ms: i64,
) -> Result<BTreeMap<i64, String>, ActError> {
    if is_planted(Defect::DecisionsForgotten) {
        return Ok(BTreeMap::new());
    }
    let meant = Meant::standing(which, Some(target(decision.verdict).0))?;
    let mut candidates = BTreeMap::new();
    let mut pages = Pages::new();
    while let Some(page) = pages.next(store, &meant).await? {
        // The failure is known by its name alone: the store lists none that was decided about.
        let is_of = |name: &String, consumer: &str, kind: &str, place: &str| {
            failure_name(consumer, kind, place) == *name
        };
        for letter in page {
            // A restored letter holds no key, which most of the undecided ones do: their notes need no look.
            if decision.verdict == Verdict::Restore && letter.blocks_key {
                continue;
            }
            let (consumer, failure) = (letter.consumer.name.as_str(), &letter.failure);
            if which.group.as_ref().is_none_or(|name| is_of(name, consumer, &failure.kind, &failure.place)) {
                candidates.insert(letter.id, letter.position.to_string());
            }
            if candidates.len() > LOOKED_AT_MAX {
                candidates.pop_first();
            }
        }
    }
    let mut found = BTreeMap::new();
    for (id, position) in candidates {
        if is_noted(store, id, decision, since_ms).await? {
            found.insert(id, position);
        }
    }
    Ok(found)
}

/// What is said of letters that were named or meant and not decided about, and whether none of them is there. Those
/// that this decision has reached before, when its answer was not written, go to `done`.
async fn undecided<S: Store>(
    store: &S,
    missing: &BTreeSet<i64>,
    decision: &Decision<'_>,
    done: &mut BTreeMap<i64, String>,
) -> Result<(Vec<String>, bool), ActError> {
    let (mut sentences, mut only_unknown) = (Vec::new(), true);
    for &id in missing {
        let letter = store.dead_letter(id).await?;
        if let Some(letter) = &letter
            && was_decided(store, letter, decision).await?
        {
            done.insert(id, letter.summary.position.to_string());
            continue;
        }
        only_unknown &= letter.is_none();
        sentences.push(match letter {
            None => format!("there is no dead letter {id}"),
            Some(letter) if letter.summary.state == source(decision.verdict) => {
                format!("dead letter {id} is not among those that the filter means")
            }
            Some(letter) => format!("dead letter {id} is {}", word(letter.summary.state)),
        });
        if sentences.len() == RESULTS_MAX {
            break;
        }
    }
    Ok((sentences, only_unknown))
}

/// Whether a letter stands where this decision has put it.
async fn was_decided<S: Store>(
    store: &S,
    letter: &DeadLetter,
    decision: &Decision<'_>,
) -> Result<bool, ActError> {
    if letter.summary.state != target(decision.verdict).0 {
        return Ok(false);
    }
    is_noted(store, letter.summary.id, decision, i64::MIN).await
}

/// Whether the last thing that was noted of a letter is this decision, at that time or later.
pub(super) async fn is_noted<S: Store>(
    store: &S,
    id: i64,
    decision: &Decision<'_>,
    since_ms: i64,
) -> Result<bool, ActError> {
    let notes = store.dead_letter_notes(id).await?;
    Ok(notes.last().is_some_and(|note| {
        note.action == target(decision.verdict).1
            && note.by == decision.by
            && note.reason == decision.reason
            && note.at_ms >= since_ms
    }))
}

/// Where a decision puts letters, and what is noted of it.
fn target(verdict: Verdict) -> (DeadState, DeadAction) {
    match verdict {
        Verdict::Discard => (DeadState::Discarded, DeadAction::Discarded),
        Verdict::Archive => (DeadState::Archived, DeadAction::Archived),
        Verdict::Restore => (DeadState::Dead, DeadAction::Restored),
    }
}

/// Where letters stand that a decision is about.
fn source(verdict: Verdict) -> DeadState {
    match verdict {
        Verdict::Discard | Verdict::Archive => DeadState::Dead,
        Verdict::Restore => DeadState::Archived,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A filter has meant three letters, and a redrive has taken the second one before they were decided about.
    #[test]
    fn a_letter_that_somebody_else_was_faster_with_is_told_of() {
        let done = BTreeMap::from([(1, "orders/0@1".to_owned()), (3, "orders/0@3".to_owned())]);
        assert_eq!(left(BTreeSet::new(), &[1, 2, 3], &done), BTreeSet::from([2]));
        assert_eq!(left(BTreeSet::from([1, 9]), &[1], &done), BTreeSet::from([9]));
        assert_eq!(left(BTreeSet::new(), &[1, 3], &done), BTreeSet::new());
    }

    #[test]
    fn what_is_said_of_others_is_said_once() {
        let done = (0..2_500).map(|id| (id, format!("orders/0@{id}"))).collect();
        let parts = answer(done, vec!["there is no dead letter 9".to_owned()], true);
        let said: Vec<(usize, usize)> = parts
            .iter()
            .map(|part| match part {
                Outcome::Decided { letters, others, .. } => (letters.len(), others.len()),
                other => panic!("{other:?}"),
            })
            .collect();
        assert_eq!(said, [(1_000, 0), (1_000, 0), (500, 1)]);
    }
}
