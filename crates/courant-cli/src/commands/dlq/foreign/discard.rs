//! `courant dlq foreign discard`: letters that are not published again.

use crate::cli::{ForeignDiscard, Global, LetterAt};
use crate::exit::{Exit, Failure, note};
use crate::output::{Format, Heedless, Row, Stream};
use courant_kafka::client::TopicInfo;
use serde::Serialize;
use std::io;

use super::decisions::{Book, Decision, Decisions, discarded};
use super::scan::{Letters, Meant, topic};

/// A letter that was given up.
#[derive(Debug, Serialize)]
struct Discarded {
    letter: String,
    by: String,
    reason: String,
    dry_run: bool,
}

impl Row for Discarded {
    const TITLES: &'static [&'static str] = &["letter", "by", "reason"];
    const WIDTHS: &'static [usize] = &[8, 16];

    fn cells(&self) -> Vec<String> {
        vec![self.letter.clone(), self.by.clone(), self.reason.clone()]
    }
}

/// Gives letters up. One that somebody has decided about stays as it is.
pub(super) async fn run(global: &Global, args: &ForeignDiscard) -> Result<Exit, Failure> {
    let topic = topic(global, &args.topic).await?;
    let decisions = Decisions::read(global, &topic).await?;
    decisions.check_nobody_redrives(&topic, None)?;
    let meant = Meant::said(&args.letters, args.all, &args.which)?;
    let (by, reason) = (&args.because.by.by, &args.because.reason);
    let mut book = if args.dry_run { None } else { Some(Book::open(global, &topic).await?) };
    let mut stream = Stream::new(Heedless::new(io::stdout()), Format::or_default(global.output));
    let (mut missing, mut count) = (meant.named().clone(), 0_u64);
    let mut reading = Letters::of(global, &topic, &meant, &decisions).await?;
    while let Some(page) = reading.next().await? {
        let decided: Vec<(LetterAt, Decision)> =
            page.iter().map(|letter| (letter.at, discarded(&topic, by, reason))).collect();
        if let Some(book) = &mut book {
            book.decide(&decided).await?;
        }
        for (at, _) in &decided {
            missing.remove(at);
            count += 1;
            let (letter, by, reason) = (at.to_string(), by.clone(), reason.clone());
            let row = Discarded { letter, by, reason, dry_run: args.dry_run };
            stream.row(&row).map_err(|error| Failure::output(&error))?;
        }
    }
    if count > 0 {
        stream.finish().map_err(|error| Failure::output(&error))?;
    }
    if args.dry_run && !global.quiet {
        note(format_args!("Nothing was changed (--dry-run)."));
    }
    if book.is_some() && count > 0 {
        check_nobody_has_redriven(global, &topic, &decisions).await?;
    }
    match missing.first() {
        None if count == 0 => {
            Err(Failure::new(Exit::NotFound, "no dead letter that nobody has decided about is meant"))
        }
        None => Ok(Exit::Ok),
        Some(at) => Err(undecided(*at, &decisions, count)),
    }
}

/// Fails when a redrive has begun while letters were given up: it has not seen all that was decided.
async fn check_nobody_has_redriven(
    global: &Global,
    topic: &TopicInfo,
    before: &Decisions,
) -> Result<(), Failure> {
    let now = Decisions::read(global, topic).await?;
    let Some(redrive) = now.redriven_since(before) else { return Ok(()) };
    let sentence = format!(
        "the redrive {redrive} of these letters has begun meanwhile: it may have published some of them before they \
         were given up; look for the header courant-redrive where they come from"
    );
    Err(Failure::new(Exit::Partly, sentence))
}

/// What is said of a letter that was named, and about which nothing was decided now.
fn undecided(at: LetterAt, decisions: &Decisions, count: u64) -> Failure {
    let (exit, sentence) = match decisions.of(at) {
        Some(decision) => {
            (Exit::Conflict, format!("letter {at} was {} by {}", decision.state.name(), decision.by))
        }
        None => (Exit::NotFound, format!("there is no letter {at} that is meant")),
    };
    Failure::new(if count > 0 { Exit::Partly } else { exit }, sentence)
}
