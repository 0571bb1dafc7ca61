//! `courant dlq list|show|export`: what could not be handled, and why.

use super::letters::{self, Meant, Pages};
use super::rows::{GroupRow, LetterRow, WholeLetter};
use super::unstored;
use crate::cli::{DlqExport, DlqList, DlqShow, Global, Standing};
use crate::exit::{Exit, Failure, note};
use crate::output::{Format, Stream, list as write_list, one};
use courant_sql::limits::LISTED_MAX;
use courant_sql::{DeadLetter, DeadState, Store};
use std::io::{self, IsTerminal};

/// Lists failures, or the letters of some.
pub(super) async fn list<S: Store>(global: &Global, store: &S, args: &DlqList) -> Result<Exit, Failure> {
    if args.letters || args.state.is_some() || !args.which.is_everything() {
        return list_letters(global, store, args).await;
    }
    let groups = store.dead_letter_groups(LISTED_MAX).await.map_err(|error| unstored(&error))?;
    if groups.is_empty() && !global.quiet && io::stderr().is_terminal() {
        note(format_args!("Nobody has to decide about any dead letter."));
    }
    let rows: Vec<GroupRow> = groups.iter().map(GroupRow::from).collect();
    let format = Format::or_default(global.output);
    write_list(&mut io::stdout().lock(), format, &rows).map_err(|error| Failure::output(&error))?;
    Ok(Exit::Ok)
}

async fn list_letters<S: Store>(global: &Global, store: &S, args: &DlqList) -> Result<Exit, Failure> {
    let meant = letters::meant(store, &args.which, &[], state_of(args.state)).await?;
    let mut stream = Stream::new(io::stdout(), Format::or_default(global.output));
    let (mut pages, mut left) = (Pages::new(), args.limit);
    'pages: while let Some(page) = pages.next(store, &meant).await? {
        for letter in &page {
            if left == 0 {
                note(format_args!("There are more than {} letters; --limit shows more.", args.limit));
                break 'pages;
            }
            left -= 1;
            stream.row(&LetterRow::from(letter)).map_err(|error| Failure::output(&error))?;
        }
    }
    stream.finish().map_err(|error| Failure::output(&error))?;
    Ok(Exit::Ok)
}

/// Shows one letter.
pub(super) async fn show<S: Store>(global: &Global, store: &S, args: &DlqShow) -> Result<Exit, Failure> {
    let whole = whole(store, &letters::one(store, args.letter).await?).await?;
    let mut out = io::stdout().lock();
    let written = match Format::or_default(global.output) {
        Format::Table => write_list(&mut out, Format::Table, &whole.lines()),
        format => one(&mut out, format, &whole),
    };
    written.map_err(|error| Failure::output(&error))?;
    Ok(Exit::Ok)
}

/// Writes letters with their bytes, as many as there are.
pub(super) async fn export<S: Store>(global: &Global, store: &S, args: &DlqExport) -> Result<Exit, Failure> {
    let meant: Meant = letters::meant(store, &args.which, &[], state_of(args.state)).await?;
    // It is read by programs, also from a terminal.
    let format = global.output.filter(|format| *format != Format::Table).unwrap_or(Format::Jsonl);
    let mut stream = Stream::new(io::stdout(), format);
    let mut pages = Pages::new();
    while let Some(page) = pages.next(store, &meant).await? {
        for summary in &page {
            let letter = store.dead_letter(summary.id).await.map_err(|error| unstored(&error))?;
            // It may have been forgotten meanwhile.
            let Some(letter) = letter else { continue };
            let whole = whole(store, &letter).await?;
            stream.row(&whole).map_err(|error| Failure::output(&error))?;
        }
    }
    stream.finish().map_err(|error| Failure::output(&error))?;
    Ok(Exit::Ok)
}

async fn whole<S: Store>(store: &S, letter: &DeadLetter) -> Result<WholeLetter, Failure> {
    let notes = store.dead_letter_notes(letter.summary.id).await.map_err(|error| unstored(&error))?;
    Ok(WholeLetter::of(letter, &notes))
}

/// `None`: wherever they stand.
fn state_of(state: Option<Standing>) -> Option<DeadState> {
    match state.unwrap_or_default() {
        Standing::Dead => Some(DeadState::Dead),
        Standing::Redriving => Some(DeadState::Redriving),
        Standing::Redriven => Some(DeadState::Redriven),
        Standing::Discarded => Some(DeadState::Discarded),
        Standing::Archived => Some(DeadState::Archived),
        Standing::Any => None,
    }
}
