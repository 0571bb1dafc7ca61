//! Telling of dead letters: page by page, and without what their events say.

use courant_core::operations::{Outcome, ToldNote, Which, failure_name};
use courant_sql::limits::LISTED_MAX;
use courant_sql::{DeadState, DeadSummary, Store};

use super::acting::{ActError, parts};
use super::letters::{Meant, meant};
use super::wire::{state, told, told_note};

/// Letters that one request looks at: those of a failure that nobody has to decide about any more are found
/// by looking at all.
const LOOKED_AT_MAX: usize = 50_000;

/// What is asked for beside which letters.
#[derive(Clone, Copy, Debug)]
pub(super) struct Page<'a> {
    /// Where they stand; `None`: anywhere.
    pub(super) state: Option<&'a str>,
    /// Only larger numbers than this.
    pub(super) after: i64,
    pub(super) limit: u32,
    /// And what people have done with each.
    pub(super) notes: bool,
}

/// Tells of the letters that are meant, by their numbers.
pub(super) async fn tell<S: Store>(
    store: &S,
    which: &Which,
    page: Page<'_>,
) -> Result<Vec<Outcome>, ActError> {
    let standing = page.state.map(|word| state(word).ok_or_else(|| unknown_state(word))).transpose()?;
    let (meant, group) = match (&which.group, standing) {
        // The store knows by itself which those are.
        (Some(_), Some(DeadState::Dead)) => (meant(store, which).await?, None),
        (group, standing) => (Meant::standing(which, standing)?, group.as_deref()),
    };
    let limit = page.limit.clamp(1, LISTED_MAX) as usize;
    let (found, next) = find(store, &meant, group, page.after, limit).await?;
    let mut letters = Vec::with_capacity(found.len());
    for letter in found {
        let notes = if page.notes { Some(notes(store, letter.id).await?) } else { None };
        letters.push(told(letter, notes));
    }
    Ok(parts(letters, |letters| Outcome::Letters { letters, next }))
}

fn unknown_state(word: &str) -> ActError {
    ActError::Nonsense(format!(
        "no dead letter stands at {word:?}; it can be dead, redriving, redriven, discarded or archived"
    ))
}

/// The next letters, and what the look after this one begins after, where there may be more.
async fn find<S: Store>(
    store: &S,
    meant: &Meant,
    group: Option<&str>,
    mut after: i64,
    limit: usize,
) -> Result<(Vec<DeadSummary>, Option<i64>), ActError> {
    let (mut found, mut looked_at) = (Vec::new(), 0);
    loop {
        let letters = store.dead_letters(&meant.filter, after, LISTED_MAX).await?;
        let Some(last) = letters.last() else { return Ok((found, None)) };
        after = last.id;
        looked_at += letters.len();
        for letter in letters {
            if !meant.takes(&letter) || !group.is_none_or(|group| is_of(&letter, group)) {
                continue;
            }
            if found.len() == limit {
                let next = found.last().map(|last: &DeadSummary| last.id);
                return Ok((found, next));
            }
            found.push(letter);
        }
        if looked_at >= LOOKED_AT_MAX {
            return Ok((found, Some(after)));
        }
    }
}

fn is_of(letter: &DeadSummary, group: &str) -> bool {
    let failure = &letter.failure;
    failure_name(letter.consumer.name.as_str(), &failure.kind, &failure.place) == group
}

async fn notes<S: Store>(store: &S, letter: i64) -> Result<Vec<ToldNote>, ActError> {
    Ok(store.dead_letter_notes(letter).await?.into_iter().map(told_note).collect())
}
