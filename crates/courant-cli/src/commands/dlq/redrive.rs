//! `courant dlq redrive`: a request in the store, which the service follows; and how far that is.

use super::super::log::counted;
use super::letters::{self, Pages};
use super::rows::{RedriveRow, ResultRow, total};
use super::{no_redrive, unstored};
use crate::cli::{DlqRedrive, Global};
use crate::exit::{Exit, Failure, note};
use crate::output::{Format, Row, Stream, list, one};
use crate::time::now_ms;
use courant::channel::PlannedRedrive;
use courant_core::entropy::Entropy as _;
use courant_log::SystemEntropy;
use courant_sql::limits::{LISTED_MAX, REDRIVE_EVENTS_MAX};
use courant_sql::{DeadReason, DeadState, Redrive, RedriveError, Store};
use serde::Serialize;
use std::collections::BTreeMap;
use std::io;

/// Asks for a redrive, or about one.
pub(super) async fn run<S: Store>(global: &Global, store: &S, args: &DlqRedrive) -> Result<Exit, Failure> {
    if let Some(id) = &args.status {
        return status(global, store, id, args.events).await;
    }
    if let Some(id) = &args.cancel {
        let redrive = store.cancel_redrive(id, now_ms()).await.map_err(|error| no_redrive(&error))?;
        return shown(global, &redrive);
    }
    letters::said(&args.letters, args.all, &args.which)?;
    if args.dry_run { plan(global, store, args).await } else { request(global, store, args).await }
}

async fn request<S: Store>(global: &Global, store: &S, args: &DlqRedrive) -> Result<Exit, Failure> {
    // Asked again, it is the same request, whatever has become of its letters.
    if let Some(redrive) = known(store, args.id.as_deref()).await? {
        if !global.quiet {
            note(format_args!("There is a redrive {} already; nothing more was asked for.", redrive.id));
        }
        return shown(global, &redrive);
    }
    let meant = letters::meant(store, &args.which, &args.letters, Some(DeadState::Dead)).await?;
    let (filter, count) = meant.fixed(store).await?;
    // Without a letter the filter may mean everything, and nothing is asked for.
    if count == 0 {
        return Err(nothing_is_meant());
    }
    let id = args.id.clone().unwrap_or_else(|| format!("redrive-{}", SystemEntropy.uuid()));
    let requested = store.request_redrive_at(&id, &args.by.by, &filter, args.rate, now_ms()).await;
    let redrive = requested.map_err(|error| unstored(&error))?;
    shown(global, &redrive)?;
    if !global.quiet {
        note(format_args!("A running service takes them within a second, any other when it starts."));
        if count > u64::from(REDRIVE_EVENTS_MAX) {
            note(format_args!(
                "A redrive takes at most {REDRIVE_EVENTS_MAX} letters; another one takes the rest."
            ));
        }
    }
    if total(&redrive) < args.letters.len() as u64 {
        let sentence = "some of these letters are not there, or somebody has decided about them";
        return Err(Failure::new(Exit::Partly, sentence));
    }
    Ok(Exit::Ok)
}

async fn known<S: Store>(store: &S, id: Option<&str>) -> Result<Option<Redrive>, Failure> {
    let Some(id) = id else { return Ok(None) };
    match store.redrive(id).await {
        Ok(redrive) => Ok(Some(redrive)),
        Err(RedriveError::Unknown { .. }) => Ok(None),
        Err(error) => Err(no_redrive(&error)),
    }
}

fn nothing_is_meant() -> Failure {
    Failure::new(Exit::NotFound, "no dead letter that somebody has to decide about is meant")
}

fn shown(global: &Global, redrive: &Redrive) -> Result<Exit, Failure> {
    row_shown(global, &RedriveRow::from(redrive))
}

pub(super) fn row_shown(global: &Global, row: &RedriveRow) -> Result<Exit, Failure> {
    let format = Format::or_default(global.output);
    one(&mut io::stdout().lock(), format, row).map_err(|error| Failure::output(&error))?;
    Ok(Exit::Ok)
}

async fn status<S: Store>(global: &Global, store: &S, id: &str, events: bool) -> Result<Exit, Failure> {
    let redrive = store.redrive(id).await.map_err(|error| no_redrive(&error))?;
    if !events {
        return shown(global, &redrive);
    }
    let mut stream = Stream::new(io::stdout(), Format::or_default(global.output));
    let mut after = 0;
    loop {
        let page = store.redrive_events(id, after, LISTED_MAX).await.map_err(|error| unstored(&error))?;
        let Some(last) = page.last() else { break };
        after = last.dead_id;
        for event in &page {
            stream.row(&ResultRow::from(event)).map_err(|error| Failure::output(&error))?;
        }
    }
    stream.finish().map_err(|error| Failure::output(&error))?;
    Ok(Exit::Ok)
}

/// What a redrive would send back: letters with one failure in one topic.
#[derive(Debug, Default, PartialEq, Eq, Serialize)]
struct Planned {
    consumer: String,
    topic: String,
    error: String,
    place: String,
    letters: u64,
    /// How often their handlers were called.
    attempts: u64,
    /// Which effects of these attempts are there again after the redrive.
    repeats: &'static str,
}

impl Row for Planned {
    const TITLES: &'static [&'static str] =
        &["consumer", "topic", "letters", "attempts", "repeats", "error", "place"];

    fn cells(&self) -> Vec<String> {
        vec![
            self.consumer.clone(),
            self.topic.clone(),
            self.letters.to_string(),
            self.attempts.to_string(),
            self.repeats.to_owned(),
            self.error.clone(),
            self.place.clone(),
        ]
    }
}

/// Says what would be sent back, and what may repeat.
async fn plan<S: Store>(global: &Global, store: &S, args: &DlqRedrive) -> Result<Exit, Failure> {
    let meant = letters::meant(store, &args.which, &args.letters, Some(DeadState::Dead)).await?;
    let mut planned: BTreeMap<[String; 4], Planned> = BTreeMap::new();
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
    let rows: Vec<Planned> = planned.into_iter().map(|(names, row)| named(names, row)).collect();
    plan_shown(global, &rows)
}

/// Says what a service would send back.
pub(super) fn asked_plan(global: &Global, redrives: Vec<PlannedRedrive>) -> Result<Exit, Failure> {
    let row = |planned: PlannedRedrive| {
        let PlannedRedrive { consumer, topic, error, place, letters, attempts } = planned;
        named([consumer, topic, error, place], Planned { letters, attempts, ..Planned::default() })
    };
    plan_shown(global, &redrives.into_iter().map(row).collect::<Vec<_>>())
}

fn plan_shown(global: &Global, rows: &[Planned]) -> Result<Exit, Failure> {
    list(&mut io::stdout().lock(), Format::or_default(global.output), rows)
        .map_err(|error| Failure::output(&error))?;
    if !global.quiet {
        let letters: u64 = rows.iter().map(|row| row.letters).sum();
        note(format_args!(
            "{}; nothing was sent back (--dry-run). What their handlers did in the store and \
             published was undone with each failure. Calls to other systems may repeat, with the same \
             idempotency key; consumers that are at least once may repeat everything.",
            counted(letters, "letter")
        ));
    }
    Ok(Exit::Ok)
}

fn named(names: [String; 4], row: Planned) -> Planned {
    let [consumer, topic, error, place] = names;
    let repeats = if row.attempts == 0 { "nothing" } else { "calls to other systems" };
    Planned { consumer, topic, error, place, repeats, ..row }
}
