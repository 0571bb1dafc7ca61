//! `courant dlq foreign redrive`: letters are published again where they come from.
//!
//! Before anything is published, the topic of the decisions says that the redrive has begun, and where its
//! targets end. Letters are then published some at a time, each with the redrive's id and its own place in
//! headers; when they are acknowledged, that is written down, and the next ones follow. A redrive that was
//! killed reads its targets behind the last record that was written down, and so knows every letter that it
//! has published.

use crate::cli::{ForeignRedrive, Global, LetterAt};
use crate::commands::connect;
use crate::exit::{Exit, Failure, note};
use crate::output::{Format, Row, list, one};
use courant_core::entropy::Entropy as _;
use courant_kafka::client::TopicInfo;
use courant_log::SystemEntropy;
use serde::Serialize;
use std::collections::BTreeMap;
use std::io;
use std::time::Duration;
use tokio::time::{Instant, sleep_until};

use super::decisions::{Book, Decision, Decisions, Redrive, redriven};
use super::plan::Plan;
use super::scan::{Bounds, Letters, Meant, Offsets, topic};
use super::sending::Sender;
use super::window::Killed;

/// Letters that are published before they are written down, where nobody asks for a rate.
const LETTERS_AT_A_TIME: usize = 100;

/// How a redrive has ended.
#[derive(Debug, Serialize)]
struct Redriven {
    id: String,
    state: &'static str,
    /// Letters that were meant.
    letters: u64,
    /// Letters that it has published now.
    published: u64,
    /// Letters that it had published before it was killed, and had not written down.
    found: u64,
}

impl Row for Redriven {
    const TITLES: &'static [&'static str] = &["id", "state", "letters", "published", "found"];

    fn cells(&self) -> Vec<String> {
        vec![
            self.id.clone(),
            self.state.to_owned(),
            self.letters.to_string(),
            self.published.to_string(),
            self.found.to_string(),
        ]
    }
}

/// Publishes letters again, or says what that would be.
pub(super) async fn run(global: &Global, args: &ForeignRedrive) -> Result<Exit, Failure> {
    let letters = topic(global, &args.topic).await?;
    let mut decisions = Decisions::read(global, &letters).await?;
    let id = args.id.clone().unwrap_or_else(|| SystemEntropy.uuid().to_string());
    decisions.check_nobody_redrives(&letters, Some(&id))?;
    let killed = decisions.redrive(&id).filter(|redrive| !redrive.is_ended).cloned();
    if args.cancel && killed.is_none() {
        let sentence = format!("no redrive {id} of these letters was killed; there is nothing to cancel");
        return Err(Failure::new(Exit::NotFound, sentence));
    }
    let run = Run { global, args, letters: &letters, id: &id };
    let meant = if args.cancel { None } else { Some(Meant::said(&args.letters, args.all, &args.which)?) };
    check_said_yes(args)?;
    let found = match &killed {
        Some(killed) => run.found(killed, &decisions).await?,
        None => Vec::new(),
    };
    decisions.add(found.iter().cloned());
    match (meant, killed) {
        (None, Some(killed)) => run.cancel(killed, &found).await,
        (Some(meant), killed) => run.redrive(&meant, &decisions, killed, &found).await,
        // Nothing was killed: that was said above.
        (None, None) => Ok(Exit::Ok),
    }
}

fn check_said_yes(args: &ForeignRedrive) -> Result<(), Failure> {
    if args.yes || args.dry_run || args.cancel {
        return Ok(());
    }
    let sentence = "every consumer of the topic that a letter comes from gets it again, not only the one that \
                    has failed; --dry-run says who reads there, --yes does it";
    Err(Failure::new(Exit::Usage, sentence))
}

/// Letters and what was decided about them.
type Decided = [(LetterAt, Decision)];

/// One redrive.
#[derive(Clone, Copy, Debug)]
struct Run<'a> {
    global: &'a Global,
    args: &'a ForeignRedrive,
    letters: &'a TopicInfo,
    id: &'a str,
}

impl Run<'_> {
    fn by(&self) -> &str {
        &self.args.by.by
    }

    /// What it has published before it was killed.
    async fn found(
        &self,
        killed: &Redrive,
        decisions: &Decisions,
    ) -> Result<Vec<(LetterAt, Decision)>, Failure> {
        let gives_up = self.args.cancel && self.args.yes;
        let killed = Killed { letters: self.letters, id: self.id, redrive: killed, decisions, gives_up };
        let found = killed.found(self.global).await?.into_iter();
        let decision = |target| redriven(self.letters, self.by(), self.id, target);
        Ok(found.map(|(at, target)| (at, decision(target))).collect())
    }

    /// Writes down what was found, and ends it.
    async fn cancel(&self, killed: Redrive, found: &Decided) -> Result<Exit, Failure> {
        let mut book = Book::open(self.global, self.letters).await?;
        book.decide(found).await?;
        book.redrive(self.id, &Redrive { is_ended: true, ..killed }).await?;
        self.say("cancelled", 0, 0, found)?;
        Ok(Exit::Ok)
    }

    async fn redrive(
        &self,
        meant: &Meant<'_>,
        decisions: &Decisions,
        killed: Option<Redrive>,
        found: &Decided,
    ) -> Result<Exit, Failure> {
        let to = self.args.to.as_deref();
        let plan = Plan::make(self.global, self.letters, meant, decisions, to).await?;
        self.check_named(&plan, decisions)?;
        if self.args.dry_run {
            return self.rehearsed(&plan);
        }
        if plan.letters == 0 && killed.is_none() {
            let sentence = "no dead letter that nobody has decided about is meant";
            return Err(Failure::new(Exit::NotFound, sentence));
        }
        let mut book = Book::open(self.global, self.letters).await?;
        book.decide(found).await?;
        let from = self.from(&plan, killed).await?;
        let mut redrive = Redrive::begun(self.letters, self.by(), from);
        book.redrive(self.id, &redrive).await?;
        // Nobody gives letters up from now on. What was given up since they were looked for is not published.
        let decisions = Decisions::read(self.global, self.letters).await?;
        let mut sender = Sender {
            global: self.global,
            letters: self.letters,
            targets: &plan.targets,
            id: self.id,
            by: self.by(),
            to,
            producers: BTreeMap::new(),
            published: 0,
        };
        let sent = self.send(&mut sender, &mut book, meant, &decisions).await;
        let published = sender.published;
        if let Err(failure) = sent {
            self.say("stopped", plan.letters, published, found)?;
            let exit = if published > 0 { Exit::Partly } else { failure.exit };
            return Err(Failure::new(exit, failure.sentence));
        }
        redrive.is_ended = true;
        book.redrive(self.id, &redrive).await?;
        self.say("done", plan.letters, published, found)?;
        Ok(Exit::Ok)
    }

    /// Publishes everything that is meant, as fast as it may.
    async fn send(
        &self,
        sender: &mut Sender<'_>,
        book: &mut Book,
        meant: &Meant<'_>,
        decisions: &Decisions,
    ) -> Result<(), Failure> {
        let pause = self.args.rate.map(|rate| Duration::from_secs(1) / rate.get());
        let at_a_time = if pause.is_some() { 1 } else { LETTERS_AT_A_TIME };
        let mut next = Instant::now();
        let mut reading = Letters::of(self.global, self.letters, meant, decisions).await?;
        while let Some(page) = reading.next().await? {
            for some in page.chunks(at_a_time) {
                if let Some(pause) = pause {
                    sleep_until(next).await;
                    // What took longer is not made up for.
                    next = next.max(Instant::now()) + pause;
                }
                sender.send(book, some).await?;
            }
        }
        Ok(())
    }

    /// Where the targets end before anything is published; those of a redrive that was killed stay.
    async fn from(&self, plan: &Plan, killed: Option<Redrive>) -> Result<BTreeMap<String, Offsets>, Failure> {
        let mut from = killed.map(|killed| killed.from).unwrap_or_default();
        let mut client = connect(self.global).await?;
        for (name, topic) in &plan.targets {
            if !from.contains_key(name) {
                from.insert(name.clone(), Bounds::of(&mut client, topic).await?.ends);
            }
        }
        Ok(from)
    }

    /// Fails when a letter that was named is not meant, before anything happens.
    fn check_named(&self, plan: &Plan, decisions: &Decisions) -> Result<(), Failure> {
        let is_own = |decision: &Decision| decision.redrive.as_deref() == Some(self.id);
        let mut others = plan.missing.iter().filter(|at| !decisions.of(**at).is_some_and(is_own));
        let Some(at) = others.next() else { return Ok(()) };
        Err(match decisions.of(*at) {
            Some(decision) => {
                let sentence = format!("letter {at} was {} by {}", decision.state.name(), decision.by);
                Failure::new(Exit::Conflict, sentence)
            }
            None => {
                let sentence = format!("there is no letter {at} in {} that is meant", self.letters.name);
                Failure::new(Exit::NotFound, sentence)
            }
        })
    }

    /// Says what would be published.
    fn rehearsed(&self, plan: &Plan) -> Result<Exit, Failure> {
        let format = Format::or_default(self.global.output);
        list(&mut io::stdout().lock(), format, &plan.rows).map_err(|error| Failure::output(&error))?;
        if !self.global.quiet {
            note(format_args!(
                "{} letters; nothing was published (--dry-run). Every consumer of these topics would get them, \
                 those that have handled them before, too.",
                plan.letters
            ));
        }
        Ok(Exit::Ok)
    }

    fn say(&self, state: &'static str, letters: u64, published: u64, found: &Decided) -> Result<(), Failure> {
        let found = found.len() as u64;
        let row = Redriven { id: self.id.to_owned(), state, letters, published, found };
        one(&mut io::stdout().lock(), Format::or_default(self.global.output), &row)
            .map_err(|error| Failure::output(&error))
    }
}
