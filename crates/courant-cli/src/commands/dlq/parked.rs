//! `courant dlq discard-parked`: events that wait in the store, and that nobody wants any more.
//!
//! Whoever owns a partition may give an event of it up, and nobody else may. So the command takes the partition over,
//! makes a dead letter of each event that waits, and discards that: the inbox knows the event from then on, its bytes
//! and who has decided are kept as of every letter. Killed in between, it leaves letters that nobody has decided about.

use super::unstored;
use crate::cli::{DlqDiscardParked, Global};
use crate::commands::or_dash;
use crate::exit::{Exit, Failure, note};
use crate::output::{Format, Heedless, Row, Stream};
use crate::text::Text;
use crate::time::now_ms;
use bytes::Bytes;
use courant_core::position::TopicPartition;
use courant_sql::limits::LISTED_MAX;
use courant_sql::{
    Admission, AdmitError, Assignment, BeginError, Burial, CommitError, Consumer, DeadFilter, DeadReason,
    DeadState, Decision, Delivery, Lease, ParkedEvent, ParkedKey, Source, Store, Transaction as _, Verdict,
};
use serde::Serialize;
use std::io;

/// Events that are in memory at one time, with their bytes.
const PAGE: u32 = 100;

/// What is said of the failure of an event that has never failed.
const KIND: &str = "courant::Discarded";
const PLACE: &str = "courant dlq discard-parked";
const MESSAGE: &str = "it was given up while it waited";

/// Who gave up.
const VERSION: &str = concat!("courant ", env!("CARGO_PKG_VERSION"));

/// What was given up of a key.
#[derive(Debug, Serialize)]
struct Discarded {
    consumer: String,
    topic: String,
    partition: u32,
    /// None: those without a key.
    key: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    key_encoding: Option<&'static str>,
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
            or_dash(self.key.as_ref()),
            or_dash(self.events),
            self.by.clone(),
            self.reason.clone(),
        ]
    }
}

/// What became of an event that was parked.
enum Taken {
    /// It is the letter of this number.
    Letter(i64),
    /// It was settled before, as the copy of another one, and waits no more.
    Settled,
    /// It is a dead letter that keeps its key parked, and stays so.
    Stays,
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
    decision: Decision<'a>,
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
    let decision = Decision { verdict: Verdict::Discard, by, reason: &args.because.reason };
    let stream = Stream::new(Heedless::new(io::stdout()), Format::or_default(global.output));
    let mut run = Run { store, assignment, lease, decision, stream, is_any: false, is_held: false };
    run.keys(wanted.as_ref()).await?;
    if wanted.is_none() {
        run.one(None, None).await?;
    }
    run.end(global)
}

fn check_said_yes(args: &DlqDiscardParked) -> Result<(), Failure> {
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
            events,
            by: self.decision.by.to_owned(),
            reason: self.decision.reason.to_owned(),
            dry_run: self.lease.is_none(),
        };
        self.stream.row(&row).map_err(|error| Failure::output(&error))
    }

    /// What would be given up.
    async fn meant(&self, key: Option<&Bytes>, parked: Option<u64>) -> Result<Given, Failure> {
        let Some((key, parked)) = key.zip(parked) else {
            let page = self.page(None).await?;
            let events = (page.len() < PAGE as usize).then_some(page.len() as u64);
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

    /// Gives up what waits of a key, or without one: page after page, until nothing is left but dead letters. What has
    /// become a letter is discarded also where the partition was lost before the page was through.
    async fn give_up(&self, lease: &Lease, key: Option<&Bytes>) -> Result<Given, Failure> {
        let mut events = 0;
        loop {
            let page = self.page(key).await?;
            let (mut letters, mut stay, mut ended) = (Vec::with_capacity(page.len()), 0, None);
            for parked in &page {
                match self.take(lease, parked).await {
                    Ok(Taken::Letter(id)) => letters.push(id),
                    Ok(Taken::Settled) => {}
                    Ok(Taken::Stays) => stay += 1,
                    Err(failure) => {
                        ended = Some(failure);
                        break;
                    }
                }
            }
            if !letters.is_empty() {
                let discarded = self.store.decide(&letters, &self.decision, now_ms()).await;
                events += discarded.map_err(|error| unstored(&error))?.len() as u64;
            }
            if ended.is_some() || stay == page.len() {
                return Ok(Given { events: Some(events), is_held: stay > 0, ended });
            }
        }
    }

    /// The first parked events of a key, or without one.
    async fn page(&self, key: Option<&Bytes>) -> Result<Vec<ParkedEvent>, Failure> {
        let key = key.map(|key| &key[..]);
        self.store.parked(&self.assignment, key, PAGE).await.map_err(|error| unstored(&error))
    }

    /// Takes one event out of the parked ones.
    async fn take(&self, lease: &Lease, parked: &ParkedEvent) -> Result<Taken, Failure> {
        let event = &parked.event;
        let waited = courant_sql::Failure {
            kind: KIND.to_owned(),
            place: PLACE.to_owned(),
            message: MESSAGE.to_owned(),
        };
        let burial = Burial {
            event,
            failure: parked.failure.as_ref().unwrap_or(&waited),
            reason: DeadReason::Exhausted,
            keep_key_parked: false,
            code_version: VERSION,
            copies: Vec::new(),
        };
        let buried = self.store.bury(lease, burial, now_ms()).await.map_err(|error| unowned(&error))?;
        if let Some(id) = buried.id {
            return Ok(Taken::Letter(id));
        }
        // The inbox knows it. Who handles events finds that out as well, and has the commit take it out.
        let (id, offset, key) = (&event.id, event.offset, event.key.as_deref());
        let delivery = Delivery { id, offset, key, source: Source::Parked };
        let begun = self.store.begin_admitted(lease, &[delivery], now_ms()).await;
        let (tx, admissions) = begun.map_err(|error| unadmitted(&error))?;
        if matches!(admissions[..], [Admission::Seen(_)]) {
            tx.commit(now_ms()).await.map_err(|error| uncommitted(&error))?;
            return Ok(Taken::Settled);
        }
        tx.rollback().await.map_err(|error| unstored(&error))?;
        Ok(Taken::Stays)
    }

    fn end(self, global: &Global) -> Result<Exit, Failure> {
        if !self.is_any {
            let sentence =
                "nothing waits there but dead letters; decide about those with `courant dlq discard`";
            return Err(Failure::new(Exit::Conflict, sentence));
        }
        self.stream.finish().map_err(|error| Failure::output(&error))?;
        if self.is_held && !global.quiet {
            note(format_args!("Dead letters keep their keys parked until somebody decides about them."));
        }
        if self.lease.is_none() && !global.quiet {
            note(format_args!("Nothing was changed (--dry-run)."));
        }
        Ok(Exit::Ok)
    }
}

fn unadmitted(error: &AdmitError) -> Failure {
    match error {
        AdmitError::Begin(error) => unowned(error),
        AdmitError::Store(error) => unstored(error),
        other => Failure::new(Exit::Failed, other.to_string()),
    }
}

fn uncommitted(error: &CommitError) -> Failure {
    match error {
        CommitError::Store(error) => unstored(error),
        other => Failure::new(Exit::Failed, other.to_string()),
    }
}

/// The partition is somebody else's now, or the store did not do it.
fn unowned(error: &BeginError) -> Failure {
    match error {
        BeginError::Fenced { .. } => {
            let sentence = format!(
                "{error}: a service runs and has taken it back; stop the service, and say the same again"
            );
            Failure::new(Exit::Conflict, sentence)
        }
        BeginError::Store(error) => unstored(error),
        other => Failure::new(Exit::Failed, other.to_string()),
    }
}
