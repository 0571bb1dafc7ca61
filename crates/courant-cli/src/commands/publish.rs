//! `courant pub`: one event from the argument or stdin, or one per line.

mod input;

use super::{connect, from_stdin, interrupted, shows_progress};
use crate::cli::{Compression, Global, Publish};
use crate::exit::{Exit, Failure, note};
use crate::explain;
use crate::output::{Format, Row, one};
use crate::time::now_ms;
use bytes::Bytes;
use courant_kafka::client::{Acknowledged, AdminError, Event, Producer, ProducerConfig, partition_for_key};
use courant_log::batch::Codec;
use serde::Serialize;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io::{self, Write};
use std::time::{Duration, Instant};

/// How often progress is shown.
const PROGRESS_EVERY: Duration = Duration::from_millis(250);

/// Publishes.
pub(super) async fn run(global: &Global, args: Publish) -> Result<Exit, Failure> {
    if args.lines { lines(global, &args).await } else { single(global, &args).await }
}

/// What was published: one event.
#[derive(Debug, Serialize)]
struct Published<'a> {
    topic: &'a str,
    /// `None` in a dry run that leaves the choice to the moment of sending.
    partition: Option<i32>,
    /// `None` in a dry run.
    offset: Option<i64>,
    #[serde(skip_serializing_if = "is_false")]
    dry_run: bool,
}

impl Row for Published<'_> {
    const TITLES: &'static [&'static str] = &["topic", "partition", "offset"];

    fn cells(&self) -> Vec<String> {
        let number = |n: Option<i64>| n.map_or_else(|| "-".to_owned(), |n| n.to_string());
        vec![self.topic.to_owned(), number(self.partition.map(i64::from)), number(self.offset)]
    }
}

async fn single(global: &Global, args: &Publish) -> Result<Exit, Failure> {
    let value = match &args.value {
        _ if args.null_value => None,
        Some(value) => Some(Bytes::copy_from_slice(value.as_bytes())),
        None => {
            let quiet = global.quiet;
            Some(from_stdin(move || input::whole(quiet)).await?)
        }
    };
    let mut row =
        Published { topic: &args.topic, partition: args.partition, offset: None, dry_run: args.dry_run };
    if args.dry_run {
        let partitions = rehearse(global, args).await?;
        row.partition = args.partition.or_else(|| {
            let key = args.key.as_ref()?;
            i32::try_from(partition_for_key(key.as_bytes(), partitions)).ok()
        });
    } else {
        let mut producer = open(global, args).await?;
        let mut acknowledged = Vec::new();
        producer
            .publish(vec![event(args, value)], &mut acknowledged)
            .await
            .map_err(|e| explain::unpublished(&e, producer.is_in_doubt()))?;
        let at = acknowledged.first();
        row.partition = at.map(|at| at.partition);
        row.offset = at.map(|at| at.base_offset);
    }
    let format = Format::or_default(global.output);
    one(&mut io::stdout().lock(), format, &row).map_err(|e| Failure::output(&e))?;
    Ok(Exit::Ok)
}

/// What was published: many events.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
struct Summary {
    topic: String,
    events: u64,
    partitions: Vec<SummaryPartition>,
    #[serde(skip_serializing_if = "is_false")]
    dry_run: bool,
}

/// The part of a summary that went to one partition.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
struct SummaryPartition {
    partition: i32,
    events: u64,
    first_offset: i64,
    last_offset: i64,
}

impl Row for Summary {
    const TITLES: &'static [&'static str] = &["topic", "events", "partitions"];

    fn cells(&self) -> Vec<String> {
        vec![self.topic.clone(), self.events.to_string(), self.partitions.len().to_string()]
    }
}

async fn lines(global: &Global, args: &Publish) -> Result<Exit, Failure> {
    let sums = RefCell::new(Sums::default());
    let format = Format::or_default(global.output);
    let report = |sums: &Sums| {
        let summary = sums.summary(args);
        one(&mut io::stdout().lock(), format, &summary).map_err(|e| Failure::output(&e))
    };
    let outcome = tokio::select! {
        outcome = publish_lines(global, args, &sums) => outcome,
        () = interrupted() => Err(Failure::new(
            Exit::Interrupted,
            format!("interrupted after {} acknowledged events", sums.borrow().events),
        )),
    };
    let sums = sums.into_inner();
    match outcome {
        Ok(()) => {
            report(&sums)?;
            Ok(Exit::Ok)
        }
        Err(failure) if sums.events > 0 && !failure.sentence.is_empty() => {
            report(&sums)?;
            let exit = match failure.exit {
                Exit::Interrupted => Exit::Interrupted,
                _ => Exit::Partly,
            };
            Err(Failure::new(exit, failure.sentence))
        }
        Err(failure) => Err(failure),
    }
}

/// Publishes line after line. What is acknowledged is in `sums`, however it ends.
async fn publish_lines(global: &Global, args: &Publish, sums: &RefCell<Sums>) -> Result<(), Failure> {
    let mut producer = if args.dry_run {
        rehearse(global, args).await?;
        None
    } else {
        Some(open(global, args).await?)
    };
    let mut progress = Progress::new(shows_progress(global));
    let mut chunks = input::lines()?;
    while let Some(lines) = input::next(&mut chunks).await {
        let lines = lines?;
        let count = lines.len() as u64;
        let Some(producer) = &mut producer else {
            sums.borrow_mut().events += count;
            continue;
        };
        let events = lines.into_iter().map(|line| event(args, Some(line)));
        let mut acknowledged = Vec::new();
        let outcome = producer.publish(events.collect(), &mut acknowledged).await;
        sums.borrow_mut().add(&acknowledged);
        progress.show(sums.borrow().events);
        outcome.map_err(|e| explain::unpublished(&e, producer.is_in_doubt()))?;
    }
    Ok(())
}

/// What was acknowledged so far.
#[derive(Debug, Default)]
struct Sums {
    events: u64,
    partitions: BTreeMap<i32, SummaryPartition>,
}

impl Sums {
    fn add(&mut self, acknowledged: &[Acknowledged]) {
        for run in acknowledged {
            let events = u64::from(run.events);
            // A negative offset: the server had these already and no longer knows where.
            let last = match run.base_offset {
                unknown @ ..0 => unknown,
                first => first + i64::from(run.events) - 1,
            };
            self.events += events;
            self.partitions
                .entry(run.partition)
                .and_modify(|sum| {
                    sum.events += events;
                    sum.last_offset = last;
                })
                .or_insert(SummaryPartition {
                    partition: run.partition,
                    events,
                    first_offset: run.base_offset,
                    last_offset: last,
                });
        }
    }

    fn summary(&self, args: &Publish) -> Summary {
        Summary {
            topic: args.topic.clone(),
            events: self.events,
            partitions: self.partitions.values().cloned().collect(),
            dry_run: args.dry_run,
        }
    }
}

/// A counter on stderr, for a person who waits.
#[derive(Debug)]
struct Progress {
    shown: bool,
    wanted: bool,
    last: Instant,
}

impl Progress {
    fn new(wanted: bool) -> Self {
        Self { shown: false, wanted, last: Instant::now() }
    }

    fn show(&mut self, events: u64) {
        if self.wanted && self.last.elapsed() >= PROGRESS_EVERY {
            self.last = Instant::now();
            self.shown = true;
            let mut stderr = io::stderr().lock();
            let _ = write!(stderr, "\r{events} events").and_then(|()| stderr.flush());
        }
    }
}

impl Drop for Progress {
    /// The line belongs to whatever is written next.
    fn drop(&mut self) {
        if self.shown {
            note(format_args!(""));
        }
    }
}

async fn open(global: &Global, args: &Publish) -> Result<Producer, Failure> {
    let client = connect(global).await?;
    let config = ProducerConfig { codec: codec(args.compression), create_topic: true };
    Producer::open(client, &args.topic, config).await.map_err(|e| explain::publish(&e))
}

/// Checks what can be checked without sending. Returns the number of partitions.
async fn rehearse(global: &Global, args: &Publish) -> Result<u32, Failure> {
    let mut client = connect(global).await?;
    let topic = client.topic(&args.topic, false).await.map_err(|e| explain::admin(&e))?;
    if let Some(partition) = args.partition
        && topic.partition(partition).is_none()
    {
        return Err(explain::admin(&AdminError::UnknownPartition { topic: topic.name, partition }));
    }
    if !global.quiet {
        note(format_args!("Nothing is sent (--dry-run)."));
    }
    Ok(u32::try_from(topic.partitions.len()).unwrap_or(u32::MAX))
}

fn event(args: &Publish, value: Option<Bytes>) -> Event {
    let bytes = |text: &String| Bytes::copy_from_slice(text.as_bytes());
    Event {
        key: args.key.as_ref().map(bytes),
        value,
        headers: args.headers.iter().map(|(name, value)| (bytes(name), Some(bytes(value)))).collect(),
        timestamp_ms: now_ms(),
        partition: args.partition,
    }
}

fn codec(compression: Compression) -> Codec {
    match compression {
        Compression::None => Codec::None,
        Compression::Gzip => Codec::Gzip,
        Compression::Snappy => Codec::Snappy,
        Compression::Lz4 => Codec::Lz4,
        Compression::Zstd => Codec::Zstd,
    }
}

/// For serde, which hands over a reference.
fn is_false(value: &bool) -> bool {
    !value
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_keep_the_first_and_the_last_offset_of_each_partition() {
        let mut sums = Sums::default();
        let run = |partition, base_offset, events| Acknowledged { partition, base_offset, events };
        sums.add(&[run(1, 10, 5), run(0, 7, 1)]);
        sums.add(&[run(1, 15, 2)]);
        assert_eq!(sums.events, 8);
        let partitions: Vec<(i32, u64, i64, i64)> = sums
            .partitions
            .values()
            .map(|p| (p.partition, p.events, p.first_offset, p.last_offset))
            .collect();
        assert_eq!(partitions, [(0, 1, 7, 7), (1, 7, 10, 16)]);
    }

    #[test]
    fn one_event_prints_topic_partition_and_offset() {
        let row = Published { topic: "orders", partition: Some(3), offset: Some(i64::MAX), dry_run: false };
        assert_eq!(
            serde_json::to_string(&row).expect("json"),
            r#"{"topic":"orders","partition":3,"offset":9223372036854775807}"#
        );
    }
}
