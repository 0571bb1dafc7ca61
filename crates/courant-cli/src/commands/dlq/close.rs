//! `courant dlq discard|archive|restore`: letters that are not sent back, or not yet.

use super::letters::{self, Pages};
use super::rows::state_name;
use super::unstored;
use crate::cli::{DlqClose, Global};
use crate::exit::{Exit, Failure, note};
use crate::output::{Format, Heedless, Row, Stream};
use crate::time::now_ms;
use courant::channel::DecidedLetter;
use courant_sql::{DeadState, DeadSummary, Decision, Store, Verdict};
use serde::Serialize;
use std::collections::BTreeSet;
use std::io;

/// Letters that nothing was decided about and that are told of one by one: each is looked up by itself.
const TOLD_MAX: usize = 100;

/// A letter that was decided about.
#[derive(Debug, Serialize)]
struct Closed {
    letter: i64,
    position: String,
    state: &'static str,
    by: String,
    reason: String,
    dry_run: bool,
}

impl Row for Closed {
    const TITLES: &'static [&'static str] = &["letter", "position", "state", "by", "reason"];
    const WIDTHS: &'static [usize] = &[8, 24, 10, 16];

    fn cells(&self) -> Vec<String> {
        vec![
            self.letter.to_string(),
            self.position.clone(),
            self.state.to_owned(),
            self.by.clone(),
            self.reason.clone(),
        ]
    }
}

/// Decides about letters, page by page; a letter that somebody else has decided about stays as it is.
pub(super) async fn run<S: Store>(
    global: &Global,
    store: &S,
    args: &DlqClose,
    verdict: Verdict,
) -> Result<Exit, Failure> {
    letters::said(&args.letters, args.all, &args.which)?;
    let meant = letters::meant(store, &args.which, &args.letters, Some(source(verdict))).await?;
    let decision = Decision { verdict, by: &args.because.by.by, reason: &args.because.reason };
    let mut stream = Stream::new(Heedless::new(io::stdout()), Format::or_default(global.output));
    let mut missing: BTreeSet<i64> = args.letters.iter().copied().collect();
    let (mut pages, mut count) = (Pages::new(), 0_u64);
    while let Some(page) = pages.next(store, &meant).await? {
        let ids: Vec<i64> = page.iter().map(|letter| letter.id).collect();
        let decided = if args.dry_run {
            ids
        } else {
            store.decide(&ids, &decision, now_ms()).await.map_err(|error| unstored(&error))?
        };
        for letter in &page {
            if !decided.contains(&letter.id) {
                // Somebody else was faster, such as a redrive.
                missing.insert(letter.id);
                continue;
            }
            missing.remove(&letter.id);
            count += 1;
            let row = closed(letter, &decision, args.dry_run);
            stream.row(&row).map_err(|error| Failure::output(&error))?;
        }
    }
    if count == 0 && missing.is_empty() {
        let sentence = match verdict {
            Verdict::Discard | Verdict::Archive => {
                "no dead letter that somebody has to decide about is meant"
            }
            Verdict::Restore => "no archived dead letter is meant",
        };
        return Err(Failure::new(Exit::NotFound, sentence));
    }
    if count > 0 || missing.is_empty() {
        stream.finish().map_err(|error| Failure::output(&error))?;
    }
    if args.dry_run && !global.quiet {
        note(format_args!("Nothing was changed (--dry-run)."));
    }
    undecided(store, &missing, count, verdict).await
}

/// Writes letters that a service has decided about, and says why others were not.
pub(super) fn shown(
    global: &Global,
    args: &DlqClose,
    verdict: Verdict,
    letters: Vec<DecidedLetter>,
    others: &[String],
    only_unknown: bool,
) -> Result<Exit, Failure> {
    let mut stream = Stream::new(Heedless::new(io::stdout()), Format::or_default(global.output));
    let count = letters.len();
    for DecidedLetter { letter, position } in letters {
        let row = Closed {
            letter,
            position,
            state: state_name(state_of(verdict)),
            by: args.because.by.by.clone(),
            reason: args.because.reason.clone(),
            dry_run: args.dry_run,
        };
        stream.row(&row).map_err(|error| Failure::output(&error))?;
    }
    if count > 0 {
        stream.finish().map_err(|error| Failure::output(&error))?;
    }
    if args.dry_run && !global.quiet {
        note(format_args!("Nothing was changed (--dry-run)."));
    }
    match (others.is_empty(), count) {
        (true, _) => Ok(Exit::Ok),
        (false, 0) if only_unknown => Err(Failure::new(Exit::NotFound, others.join("; "))),
        (false, 0) => Err(Failure::new(Exit::Conflict, others.join("; "))),
        (false, _) => Err(Failure::new(Exit::Partly, others.join("; "))),
    }
}

fn state_of(verdict: Verdict) -> DeadState {
    match verdict {
        Verdict::Discard => DeadState::Discarded,
        Verdict::Archive => DeadState::Archived,
        Verdict::Restore => DeadState::Dead,
    }
}

/// Where letters stand that a decision is about.
fn source(verdict: Verdict) -> DeadState {
    match verdict {
        Verdict::Discard | Verdict::Archive => DeadState::Dead,
        Verdict::Restore => DeadState::Archived,
    }
}

fn closed(letter: &DeadSummary, decision: &Decision<'_>, dry_run: bool) -> Closed {
    Closed {
        letter: letter.id,
        position: letter.position.to_string(),
        state: state_name(state_of(decision.verdict)),
        by: decision.by.to_owned(),
        reason: decision.reason.to_owned(),
        dry_run,
    }
}

/// What is said of letters that were named or meant and not decided about.
async fn undecided<S: Store>(
    store: &S,
    missing: &BTreeSet<i64>,
    count: u64,
    verdict: Verdict,
) -> Result<Exit, Failure> {
    if missing.is_empty() {
        return Ok(Exit::Ok);
    }
    let mut exit = Exit::NotFound;
    let mut sentences = Vec::with_capacity(missing.len().min(TOLD_MAX));
    for &id in missing.iter().take(TOLD_MAX) {
        let letter = store.dead_letter(id).await.map_err(|error| unstored(&error))?;
        sentences.push(match letter {
            None => format!("there is no dead letter {id}"),
            Some(letter) if letter.summary.state == source(verdict) => {
                exit = Exit::Conflict;
                format!("dead letter {id} is not among those that the filter means")
            }
            Some(letter) => {
                exit = Exit::Conflict;
                format!("dead letter {id} is {}", state_name(letter.summary.state))
            }
        });
    }
    let exit = if count > 0 { Exit::Partly } else { exit };
    Err(Failure::new(exit, told(&sentences, missing.len())))
}

/// Sentences about some of so many letters.
fn told(sentences: &[String], letters: usize) -> String {
    match letters.saturating_sub(sentences.len()) {
        0 => sentences.join("; "),
        more => format!("{}; and {more} more", sentences.join("; ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A redrive that takes a whole failure at that moment leaves no line of megabytes.
    #[test]
    fn of_many_letters_a_few_are_told_of_and_the_others_are_counted() {
        let sentences = ["dead letter 1 is redriving".to_owned(), "dead letter 2 is redriving".to_owned()];
        assert_eq!(told(&sentences, 2), "dead letter 1 is redriving; dead letter 2 is redriving");
        assert_eq!(told(&sentences[..1], 9), "dead letter 1 is redriving; and 8 more");
    }
}
