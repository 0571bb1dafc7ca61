//! `courant dlq discard-parked`: events that wait in the store, and that nobody wants any more.
//!
//! The command takes the partition over from whoever handles it, because only the owner of a partition may give an
//! event of it up. A service that runs can be asked to do the same.

use super::unstored;
use crate::cli::{DlqDiscardParked, Global};
use crate::commands::or_dash;
use crate::exit::{Exit, Failure, note};
use crate::output::{Format, Heedless, Row, Stream};
use crate::text::Text;
use crate::time::now_ms;
use bytes::Bytes;
use courant_core::position::TopicPartition;
use courant_sql::limits::{GIVEN_UP_AT_ONCE, LISTED_MAX};
use courant_sql::{
    Assignment, Consumer, DeadFilter, DeadState, GiveUpError, GivingUp, Lease, ParkedKey, Store, give_up,
};
use serde::Serialize;
use std::io;

/// Who gave up.
const VERSION: &str = concat!("courant ", env!("CARGO_PKG_VERSION"));

/// What was given up of a key.
#[derive(Debug, Serialize)]
struct Discarded {
    consumer: String,
    topic: String,
    partition: u32,
    /// None: those without a key, or all.
    key: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    key_encoding: Option<&'static str>,
    /// Of every key, and those without one, as a service counts them.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    all: bool,
    /// None: more than a dry run counts.
    events: Option<u64>,
    by: String,
    reason: String,
    dry_run: bool,
}

impl Row for Discarded {
    const TITLES: &'static [&'static str] =
        &["consumer", "topic", "partition", "key", "events", "by", "reason"];
    const WIDTHS: &'static [usize] = &[16, 24, 9, 16, 8, 16];

    fn cells(&self) -> Vec<String> {
        vec![
            self.consumer.clone(),
            self.topic.clone(),
            self.partition.to_string(),
            if self.all { "(all)".to_owned() } else { or_dash(self.key.as_ref()) },
            or_dash(self.events),
            self.by.clone(),
            self.reason.clone(),
        ]
    }
}

/// What is given up of a key, or would be.
struct Given {
    /// None: more than were counted.
    events: Option<u64>,
    /// A dead letter keeps the key parked.
    is_held: bool,
    /// Why the rest was not given up.
    ended: Option<Failure>,
}

/// One call of the command.
struct Run<'a, S> {
    store: &'a S,
    assignment: Assignment,
    /// None where nothing is to change.
    lease: Option<Lease>,
    how: GivingUp<'a>,
    stream: Stream<Heedless<io::Stdout>>,
    is_any: bool,
    is_held: bool,
}

/// Gives up what waits of a key, or of all of a partition.
pub(super) async fn discard<S: Store>(
    global: &Global,
    store: &S,
    args: &DlqDiscardParked,
) -> Result<Exit, Failure> {
    check_said_yes(args)?;
    let consumer = Consumer { name: args.consumer.clone(), generation: args.generation };
    let partition = TopicPartition { topic: args.topic.clone(), partition: args.partition };
    let assignment = Assignment { consumer, partition };
    let wanted = args.key.as_ref().map(|key| Bytes::copy_from_slice(key.as_bytes()));
    // Nobody becomes the owner of a partition that is named by mistake.
    check_is_there(store, &assignment, wanted.as_ref()).await?;
    let by = &args.because.by.by;
    let lease = if args.dry_run {
        None
    } else {
        let owner = format!("courant dlq, for {by}");
        let taken = store.take_over(&assignment, &owner, now_ms()).await;
        Some(taken.map_err(|error| unstored(&error))?)
    };
    let how = GivingUp { by, reason: &args.because.reason, code_version: VERSION };
    let stream = Stream::new(Heedless::new(io::stdout()), Format::or_default(global.output));
    let mut run = Run { store, assignment, lease, how, stream, is_any: false, is_held: false };
    run.keys(wanted.as_ref()).await?;
    if wanted.is_none() {
        run.one(None, None).await?;
    }
    run.end(global)
}

pub(super) fn check_said_yes(args: &DlqDiscardParked) -> Result<(), Failure> {
    if args.yes || args.dry_run {
        return Ok(());
    }
    let sentence = "events that were never handled are given up, and a service that runs loses the partition for \
                    some seconds; --dry-run says which are meant, --yes does it";
    Err(Failure::new(Exit::Usage, sentence))
}

/// Fails where nothing is parked that could be meant.
async fn check_is_there<S: Store>(
    store: &S,
    assignment: &Assignment,
    wanted: Option<&Bytes>,
) -> Result<(), Failure> {
    let key = wanted.map(|key| &key[..]);
    let found = store.parked(assignment, key, 1).await.map_err(|error| unstored(&error))?;
    let mut is_there = !found.is_empty();
    if !is_there && wanted.is_none() {
        let keys = store.parked_keys(assignment, None, 1).await.map_err(|error| unstored(&error))?;
        is_there = !keys.is_empty();
    }
    if is_there {
        return Ok(());
    }
    let of_key = if wanted.is_some() { " of this key" } else { "" };
    Err(Failure::new(Exit::NotFound, format!("nothing{of_key} is parked in {assignment}")))
}

impl<S: Store> Run<'_, S> {
    /// The keys of the partition, or the one that is wanted.
    async fn keys(&mut self, wanted: Option<&Bytes>) -> Result<(), Failure> {
        // What a key begins with comes before it.
        let mut after = wanted.filter(|key| !key.is_empty()).map(|key| key.slice(..key.len() - 1));
        loop {
            let keys = self.store.parked_keys(&self.assignment, after.as_deref(), LISTED_MAX).await;
            let keys = keys.map_err(|error| unstored(&error))?;
            let Some(last) = keys.last() else { return Ok(()) };
            for ParkedKey { key, events } in &keys {
                if wanted.is_none_or(|wanted| wanted == key) {
                    self.one(Some(key), Some(*events)).await?;
                }
            }
            if wanted.is_some_and(|wanted| last.key >= *wanted) {
                return Ok(());
            }
            after = Some(last.key.clone());
        }
    }

    /// One key, of which so many events are parked, or the events without one.
    async fn one(&mut self, key: Option<&Bytes>, parked: Option<u64>) -> Result<(), Failure> {
        let given = match &self.lease {
            Some(lease) => self.give_up(lease, key).await?,
            None => self.meant(key, parked).await?,
        };
        self.is_held |= given.is_held;
        if given.events != Some(0) {
            self.is_any = true;
            self.tell(key, given.events)?;
        }
        given.ended.map_or(Ok(()), Err)
    }

    /// Says how many events of a key were given up, or would be.
    fn tell(&mut self, key: Option<&Bytes>, events: Option<u64>) -> Result<(), Failure> {
        let Assignment { consumer, partition } = &self.assignment;
        let (key, key_encoding) = match key.map(|key| Text::of(key)) {
            Some(Text { text, encoding }) => (Some(text), encoding),
            None => (None, None),
        };
        let row = Discarded {
            consumer: consumer.name.to_string(),
            topic: partition.topic.to_string(),
            partition: partition.partition,
            key,
            key_encoding,
            all: false,
            events,
            by: self.how.by.to_owned(),
            reason: self.how.reason.to_owned(),
            dry_run: self.lease.is_none(),
        };
        self.stream.row(&row).map_err(|error| Failure::output(&error))
    }

    /// What would be given up.
    async fn meant(&self, key: Option<&Bytes>, parked: Option<u64>) -> Result<Given, Failure> {
        let Some((key, parked)) = key.zip(parked) else {
            let page = self.store.parked(&self.assignment, None, GIVEN_UP_AT_ONCE).await;
            let page = page.map_err(|error| unstored(&error))?;
            let events = (page.len() < GIVEN_UP_AT_ONCE as usize).then_some(page.len() as u64);
            return Ok(Given { events, is_held: false, ended: None });
        };
        let holding = self.holding(key).await?;
        let events = Some(parked.saturating_sub(holding));
        Ok(Given { events, is_held: holding > 0, ended: None })
    }

    /// How many dead letters keep a key parked. They are among what is parked, also while a redrive that was asked for
    /// has not come to them.
    async fn holding(&self, key: &Bytes) -> Result<u64, Failure> {
        let Assignment { consumer, partition } = &self.assignment;
        let mut count = 0;
        for state in [DeadState::Dead, DeadState::Redriving] {
            let filter = DeadFilter {
                consumer: Some(consumer.name.clone()),
                topic: Some(partition.topic.clone()),
                key: Some(key.clone()),
                state: Some(state),
                ..DeadFilter::default()
            };
            let mut after = 0;
            loop {
                let page = self.store.dead_letters(&filter, after, LISTED_MAX).await;
                let page = page.map_err(|error| unstored(&error))?;
                let Some(last) = page.last() else { break };
                after = last.id;
                let holding = page.iter().filter(|letter| {
                    letter.blocks_key
                        && letter.consumer == *consumer
                        && letter.position.partition == partition.partition
                });
                count += holding.count() as u64;
            }
        }
        Ok(count)
    }

    /// Gives up what waits of a key, or without one: page after page, until nothing is left but dead letters.
    async fn give_up(&self, lease: &Lease, key: Option<&Bytes>) -> Result<Given, Failure> {
        let mut events = 0;
        loop {
            let key = key.map(|key| &key[..]);
            let given = give_up(self.store, lease, key, &self.how, now_ms()).await;
            let given = given.map_err(|error| unstored(&error))?;
            events += given.events;
            if given.is_all || given.ended.is_some() {
                let ended = given.ended.as_ref().map(not_given_up);
                return Ok(Given { events: Some(events), is_held: given.staying > 0, ended });
            }
        }
    }

    fn end(self, global: &Global) -> Result<Exit, Failure> {
        if !self.is_any {
            let sentence =
                "nothing waits there but dead letters; decide about those with `courant dlq discard`";
            return Err(Failure::new(Exit::Conflict, sentence));
        }
        self.stream.finish().map_err(|error| Failure::output(&error))?;
        notes(global, self.is_held, self.lease.is_none());
        Ok(Exit::Ok)
    }
}

/// Says what a service has given up, or would.
pub(super) fn told(
    global: &Global,
    args: &DlqDiscardParked,
    events: u64,
    letters: u64,
    has_more: bool,
) -> Result<Exit, Failure> {
    let row = Discarded {
        consumer: args.consumer.to_string(),
        topic: args.topic.to_string(),
        partition: args.partition,
        key: args.key.clone(),
        key_encoding: None,
        all: args.all,
        events: (!args.dry_run || !has_more).then_some(events),
        by: args.because.by.by.clone(),
        reason: args.because.reason.clone(),
        dry_run: args.dry_run,
    };
    let mut stream = Stream::new(Heedless::new(io::stdout()), Format::or_default(global.output));
    stream.row(&row).map_err(|error| Failure::output(&error))?;
    stream.finish().map_err(|error| Failure::output(&error))?;
    notes(global, letters > 0, args.dry_run);
    if has_more && !args.dry_run {
        let sentence = "the service has ended before it was through; say the same again for the rest";
        return Err(Failure::new(Exit::Partly, sentence));
    }
    Ok(Exit::Ok)
}

/// Says what is to be known beside the rows.
fn notes(global: &Global, is_held: bool, is_dry_run: bool) {
    if is_held && !global.quiet {
        note(format_args!("Dead letters keep their keys parked until somebody decides about them."));
    }
    if is_dry_run && !global.quiet {
        note(format_args!("Nothing was changed (--dry-run)."));
    }
}

/// The partition is somebody else's now, or the store did not do it.
fn not_given_up(error: &GiveUpError) -> Failure {
    match error {
        GiveUpError::Lost(error) => {
            let sentence = format!(
                "{error}: a service runs and has taken it back; stop the service, and say the same again"
            );
            Failure::new(Exit::Conflict, sentence)
        }
        GiveUpError::Store(error) => unstored(error),
        other => Failure::new(Exit::Failed, other.to_string()),
    }
}
