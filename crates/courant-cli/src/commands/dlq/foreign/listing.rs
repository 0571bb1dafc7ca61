//! `courant dlq foreign list|show|export`: what other frameworks could not handle, and why.

use crate::cli::{ForeignExport, ForeignList, ForeignShow, Global, WhichForeign};
use crate::exit::{Exit, Failure, note};
use crate::output::{Format, Stream, list as write_list, one};
use std::collections::BTreeMap;
use std::io::{self, IsTerminal as _};

use super::decisions::Decisions;
use super::rows::{GroupRow, LetterRow, WholeLetter};
use super::scan::{Letters, Meant, topic};

/// Failures that are listed: more would take too much memory.
const GROUPS_MAX: usize = 10_000;

/// Lists failures, or the letters of some.
pub(super) async fn list(global: &Global, args: &ForeignList) -> Result<Exit, Failure> {
    let topic = topic(global, &args.topic).await?;
    let decisions = Decisions::read(global, &topic).await?;
    let meant = Meant::new(&[], &args.which, args.decided);
    let mut reading = Letters::of(global, &topic, &meant, &decisions).await?;
    if args.letters || args.which.group.is_some() || args.which.original.is_some() {
        let mut stream = Stream::new(io::stdout(), Format::or_default(global.output));
        while let Some(page) = reading.next().await? {
            for letter in &page {
                let row = LetterRow::of(letter, decisions.of(letter.at));
                stream.row(&row).map_err(|error| Failure::output(&error))?;
            }
        }
        stream.finish().map_err(|error| Failure::output(&error))?;
        return Ok(Exit::Ok);
    }
    let rows = groups(&mut reading).await?;
    if rows.is_empty() && !global.quiet && io::stderr().is_terminal() {
        note(format_args!("Nobody has to decide about any dead letter in {}.", topic.name));
    }
    let format = Format::or_default(global.output);
    write_list(&mut io::stdout().lock(), format, &rows).map_err(|error| Failure::output(&error))?;
    Ok(Exit::Ok)
}

/// The failures, those with most letters first.
async fn groups(reading: &mut Letters<'_>) -> Result<Vec<GroupRow>, Failure> {
    let mut groups: BTreeMap<String, GroupRow> = BTreeMap::new();
    while let Some(page) = reading.next().await? {
        for letter in &page {
            let group = letter.group();
            if let Some(group) = groups.get_mut(&group) {
                group.add(letter);
                continue;
            }
            if groups.len() >= GROUPS_MAX {
                let sentence =
                    format!("there are more than {GROUPS_MAX} failures; use --original, or --letters");
                return Err(Failure::new(Exit::Failed, sentence));
            }
            groups.insert(group, GroupRow::of(letter));
        }
    }
    let mut rows: Vec<GroupRow> = groups.into_values().collect();
    rows.sort_by(|a, b| b.letters.cmp(&a.letters).then_with(|| a.group.cmp(&b.group)));
    Ok(rows)
}

/// Shows one letter.
pub(super) async fn show(global: &Global, args: &ForeignShow) -> Result<Exit, Failure> {
    let topic = topic(global, &args.topic).await?;
    let decisions = Decisions::read(global, &topic).await?;
    let which = WhichForeign::default();
    let meant = Meant::new(&[args.letter], &which, true);
    let mut reading = Letters::of(global, &topic, &meant, &decisions).await?;
    let mut found = None;
    while let Some(page) = reading.next().await? {
        found = found.or(page.into_iter().next());
    }
    let Some(letter) = found else {
        let sentence = format!(
            "there is no record {} in {}; `courant dlq foreign list {} --letters` has them all",
            args.letter, topic.name, topic.name
        );
        return Err(Failure::new(Exit::NotFound, sentence));
    };
    let whole = WholeLetter::of(&letter, decisions.of(letter.at));
    let mut out = io::stdout().lock();
    let written = match Format::or_default(global.output) {
        Format::Table => write_list(&mut out, Format::Table, &whole.lines()),
        format => one(&mut out, format, &whole),
    };
    written.map_err(|error| Failure::output(&error))?;
    Ok(Exit::Ok)
}

/// Writes letters with their bytes, as many as there are.
pub(super) async fn export(global: &Global, args: &ForeignExport) -> Result<Exit, Failure> {
    let topic = topic(global, &args.topic).await?;
    let decisions = Decisions::read(global, &topic).await?;
    let meant = Meant::new(&[], &args.which, args.decided);
    let mut reading = Letters::of(global, &topic, &meant, &decisions).await?;
    // It is read by programs, also from a terminal.
    let format = global.output.filter(|format| *format != Format::Table).unwrap_or(Format::Jsonl);
    let mut stream = Stream::new(io::stdout(), format);
    while let Some(page) = reading.next().await? {
        for letter in &page {
            let whole = WholeLetter::of(letter, decisions.of(letter.at));
            stream.row(&whole).map_err(|error| Failure::output(&error))?;
        }
    }
    stream.finish().map_err(|error| Failure::output(&error))?;
    Ok(Exit::Ok)
}
