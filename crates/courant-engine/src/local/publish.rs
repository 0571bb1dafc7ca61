//! Publishing: records into batches by partition, and batches into the log.
//!
//! A partition's next batch is handed to the log when the one before it is stored, so that nothing
//! overtakes what was refused. Partitions do not wait for each other within a round.
//!
//! One record is published without all that, in `one`.

mod one;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use courant_core::partitioner::partition_for_key;
use courant_log::batch::records;
use courant_log::topic_config::{self, TimestampLimits};
use courant_log::{AppendError, Appended, Batch, Catalog, Codec, PartitionId, Topic, WriterError};
use tokio::sync::oneshot;
use tokio::task::spawn_blocking;

use super::{Kind, Shared};
use crate::limits::{
    AWAITED_BYTES_MAX, BATCH_BYTES_MAX, BATCH_RECORDS_MAX, HEADER_OVERHEAD_BYTES, RECORD_OVERHEAD_BYTES,
};
use crate::{Boxed, NewRecord, Partition, Position, PublishError};

/// What became of one record.
type Outcome = Result<Position, PublishError>;

/// What the log has said of a batch, or will.
type Answered = oneshot::Receiver<Result<Appended, AppendError>>;

/// Publishes records; the answers are in their order.
pub(super) fn publish(shared: &Shared, records: Vec<NewRecord>) -> Boxed<'_, Vec<Outcome>> {
    if records.len() == 1 {
        Box::pin(one::publish(shared, records))
    } else {
        Box::pin(publish_many(shared, records))
    }
}

async fn publish_many(shared: &Shared, records: Vec<NewRecord>) -> Vec<Outcome> {
    if shared.is_closed() {
        return records.iter().map(|_| Err(PublishError::Closed)).collect();
    }
    let mut results: Vec<Outcome> = records.iter().map(|_| Err(PublishError::NotTried)).collect();
    let mut lanes = sorted(shared, records, &mut results);
    loop {
        let mut flights = Vec::with_capacity(lanes.len());
        for lane in &mut lanes {
            if let Some(flight) = lane.send(shared, &mut results).await {
                flights.push((lane, flight));
            }
        }
        if flights.is_empty() {
            return results;
        }
        for (lane, flight) in flights {
            lane.land(shared, flight, &mut results).await;
        }
    }
}

/// Sorts records by partition, and answers those that can never be taken.
fn sorted(shared: &Shared, records: Vec<NewRecord>, results: &mut [Outcome]) -> Vec<Lane> {
    let catalog = shared.log.catalog();
    let now_ms = shared.config.clock.now_ms();
    let mut topics = Topics::of(&catalog, &shared.keyless);
    let mut lanes = Lanes { expected: records.len(), ..Lanes::default() };
    for ((index, record), result) in records.into_iter().enumerate().zip(results) {
        match topics.place(&record, now_ms) {
            Ok(place) => lanes.of(&place).add(index, record, now_ms),
            Err(error) => *result = Err(error),
        }
    }
    lanes.in_order()
}

/// What a topic asks of its records. It is made once for many: its configs are words in a map.
#[derive(Clone, Copy, Debug)]
struct Rules {
    /// Bytes of the largest batch.
    max: usize,
    is_compacted: bool,
    has_append_time: bool,
    /// How far the times that records bring may be from the clock.
    times: Option<TimestampLimits>,
    codec: Codec,
}

impl Rules {
    fn of(topic: &Topic) -> Self {
        Self {
            max: topic_config::max_message_bytes(&topic.configs),
            is_compacted: topic_config::is_compacted(&topic.configs),
            has_append_time: topic_config::has_append_time(&topic.configs),
            times: TimestampLimits::of(&topic.configs),
            codec: topic_config::codec(&topic.configs).unwrap_or(Codec::None),
        }
    }

    /// What a record must be, so that its batch is not refused for it. The time is looked at where a record's own is
    /// held against it.
    fn check(
        &self,
        topic: &Topic,
        record: &NewRecord,
        now_ms: impl FnOnce() -> i64,
    ) -> Result<(), PublishError> {
        let (bytes, max) = (record.payload_bytes(), self.max);
        // Before anything is copied. What the format adds is known when the record is encoded.
        if bytes > max {
            return Err(PublishError::TooLarge { topic: topic.name.clone(), bytes, max });
        }
        if record.key.is_none() && self.is_compacted {
            return Err(PublishError::NoKey { topic: topic.name.clone() });
        }
        match record.timestamp_ms {
            Some(timestamp_ms) if timestamp_ms < 0 => Err(PublishError::Unencodable {
                reason: format!("its timestamp is {timestamp_ms}; timestamps begin with 1970, at 0"),
            }),
            Some(timestamp_ms) => match self.times.map(|times| times.check(timestamp_ms, now_ms())) {
                Some(Err(bad)) => {
                    Err(PublishError::Unencodable { reason: format!("{bad} in topic {}", topic.name) })
                }
                Some(Ok(())) | None => Ok(()),
            },
            None => Ok(()),
        }
    }
}

/// The topics of a call, as they are now.
struct Topics<'a> {
    catalog: &'a Catalog,
    /// Where the record before went: most go there too.
    newest: Option<(&'a Arc<Topic>, Rules)>,
    keyless: &'a AtomicU32,
    /// What chooses for all records of the call without a key. Where there are none, nothing is counted: publishers
    /// on other threads count there too.
    any: Option<u32>,
}

/// Where a record goes. Nothing is counted up for it: publishers on other threads use the same topic.
struct Place<'a> {
    topic: &'a Arc<Topic>,
    rules: Rules,
    number: u32,
    id: PartitionId,
}

impl<'a> Topics<'a> {
    fn of(catalog: &'a Catalog, keyless: &'a AtomicU32) -> Self {
        Self { catalog, newest: None, keyless, any: None }
    }

    fn named(&mut self, name: &str) -> Option<(&'a Arc<Topic>, Rules)> {
        if self.newest.is_none_or(|(newest, _)| newest.name != name) {
            self.newest = self.catalog.by_name(name).map(|topic| (topic, Rules::of(topic)));
        }
        self.newest
    }

    /// Chooses for records without a key.
    fn any(&mut self) -> u32 {
        *self.any.get_or_insert_with(|| self.keyless.fetch_add(1, Ordering::Relaxed))
    }

    /// The partition of a record that its topic can take.
    fn place(&mut self, record: &NewRecord, now_ms: i64) -> Result<Place<'a>, PublishError> {
        let Some((topic, rules)) = self.named(&record.topic) else {
            return Err(PublishError::UnknownTopic { topic: record.topic.to_string() });
        };
        Place::of(topic, rules, record, || self.any(), || now_ms)
    }
}

impl<'a> Place<'a> {
    /// The place of a record in its topic, if that can take it now. `any` chooses where there is no key.
    fn of(
        topic: &'a Arc<Topic>,
        rules: Rules,
        record: &NewRecord,
        any: impl FnOnce() -> u32,
        now_ms: impl FnOnce() -> i64,
    ) -> Result<Self, PublishError> {
        let have = u32::try_from(topic.partitions.len()).unwrap_or(u32::MAX);
        let number = match (record.partition, &record.key) {
            (Some(number), _) => number,
            (None, Some(key)) => partition_for_key(key, have),
            (None, None) => any().checked_rem(have).unwrap_or(0),
        };
        let id = usize::try_from(number).ok().and_then(|number| topic.partitions.get(number)).copied();
        let Some(id) = id else {
            let partition = Partition { topic: record.topic.clone(), number };
            return Err(PublishError::UnknownPartition { partition, have });
        };
        rules.check(topic, record, now_ms)?;
        Ok(Self { topic, rules, number, id })
    }
}

/// What is published by one call.
#[derive(Default)]
struct Lanes {
    /// How many records there are.
    expected: usize,
    all: Vec<Lane>,
    /// Where in `all` the lane of a partition is, but for the first.
    by_id: BTreeMap<PartitionId, usize>,
    /// Where the record before went.
    newest: usize,
}

impl Lanes {
    /// The lane of a record that goes there.
    fn of(&mut self, place: &Place<'_>) -> &mut Lane {
        if self.all.get(self.newest).is_none_or(|newest| newest.id != place.id) {
            let next = self.all.len();
            self.newest = match self.all.first() {
                Some(first) if first.id != place.id => *self.by_id.entry(place.id).or_insert(next),
                _ => 0,
            };
            if self.newest == next {
                // Most calls have one lane. Others find out how long theirs get.
                let expected = if next == 0 { self.expected.min(BATCH_RECORDS_MAX) } else { 0 };
                self.all.push(Lane::of(place, expected));
            }
        }
        &mut self.all[self.newest]
    }

    fn in_order(mut self) -> Vec<Lane> {
        self.all.sort_unstable_by_key(|lane| lane.id);
        self.all
    }
}

/// Records that become one batch, with their places in the call.
#[derive(Debug, Default)]
struct Run {
    indexes: Vec<usize>,
    records: Vec<records::NewRecord>,
    bytes: usize,
}

/// A batch on its way into the log.
struct Flight {
    indexes: Vec<usize>,
    bytes: usize,
    answered: Answered,
}

/// What became of a run.
enum Encoded {
    Batch(Batch),
    /// It cannot be stored as it is; one record alone is told this.
    Refused(PublishError),
    /// The runtime is ending.
    Interrupted,
}

/// What is published to one partition.
struct Lane {
    topic: Arc<Topic>,
    rules: Rules,
    partition: Partition,
    id: PartitionId,
    /// Bytes that go into one batch.
    batch_bytes: usize,
    runs: VecDeque<Run>,
}

impl Lane {
    /// A lane for about so many records.
    fn of(place: &Place<'_>, expected: usize) -> Self {
        let Place { topic, rules, number, id } = *place;
        let batch_bytes = rules.max.min(BATCH_BYTES_MAX);
        // A name of its own: one that many threads count up and down goes back and forth between processors.
        let partition = Partition::new(topic.name.as_str(), number);
        let run = Run {
            indexes: Vec::with_capacity(expected),
            records: Vec::with_capacity(expected),
            ..Run::default()
        };
        Self { topic: topic.clone(), rules, partition, id, batch_bytes, runs: VecDeque::from([run]) }
    }

    /// Adds a record to the last run, or to a new one when that is full.
    fn add(&mut self, index: usize, record: NewRecord, now_ms: i64) {
        let bytes =
            record.payload_bytes() + record.headers.len() * HEADER_OVERHEAD_BYTES + RECORD_OVERHEAD_BYTES;
        let is_full = |run: &Run| {
            let is_over = run.bytes + bytes > self.batch_bytes || run.records.len() >= BATCH_RECORDS_MAX;
            // A record that is more than a batch has one to itself.
            is_over && !run.records.is_empty()
        };
        if self.runs.back().is_none_or(is_full) {
            self.runs.push_back(Run::default());
        }
        if let Some(run) = self.runs.back_mut() {
            run.bytes += bytes;
            run.indexes.push(index);
            run.records.push(new_record(record, now_ms).1);
        }
    }

    /// Hands the next batch to the log. `None`: there is nothing more.
    async fn send(&mut self, shared: &Shared, results: &mut [Outcome]) -> Option<Flight> {
        while let Some(mut run) = self.runs.pop_front() {
            let now_ms = self.rules.has_append_time.then(|| shared.config.clock.now_ms());
            match self.encoded(&mut run, now_ms).await {
                Encoded::Batch(batch) => {
                    let (bytes, answered) = append(shared, self.id, batch);
                    return Some(Flight { indexes: run.indexes, bytes, answered });
                }
                // What was estimated was too little, or one record spoils the batch for the others.
                Encoded::Refused(_) if run.records.len() > 1 => {
                    let (first, second) = run.halves();
                    self.runs.push_front(second);
                    self.runs.push_front(first);
                }
                Encoded::Refused(error) => answer(results, &run.indexes, &error),
                Encoded::Interrupted => {
                    answer(results, &run.indexes, &PublishError::Closed);
                    self.runs.clear();
                }
            }
        }
        None
    }

    /// Makes a batch of a run. Where the topic wants it compressed, no worker of the runtime does it.
    async fn encoded(&self, run: &mut Run, append_time_ms: Option<i64>) -> Encoded {
        let rules = self.rules;
        if rules.codec == Codec::None {
            return encode(&self.topic.name, rules, &run.records, append_time_ms);
        }
        let (topic, records) = (self.topic.clone(), std::mem::take(&mut run.records));
        let encoded = spawn_blocking(move || {
            let encoded = encode(&topic.name, rules, &records, append_time_ms);
            (records, encoded)
        });
        match encoded.await {
            Ok((records, encoded)) => {
                run.records = records;
                encoded
            }
            Err(_) => Encoded::Interrupted,
        }
    }

    /// Awaits the answer of the log. After a failure nothing more of the partition is tried.
    async fn land(&mut self, shared: &Shared, flight: Flight, results: &mut [Outcome]) {
        let error = match landed(shared, &self.topic.name, flight.bytes, flight.answered).await {
            Ok(appended) => {
                for (offset, index) in (appended.base_offset..).zip(flight.indexes) {
                    results[index] = Ok(self.partition.at(offset));
                }
                return;
            }
            Err(error) => error,
        };
        answer(results, &flight.indexes, &error);
        self.runs.clear();
    }
}

impl Run {
    fn halves(mut self) -> (Self, Self) {
        let at = self.records.len() / 2;
        // Bytes are counted while a run is filled; these are full.
        let second = Self {
            indexes: self.indexes.split_off(at),
            records: self.records.split_off(at),
            bytes: self.bytes,
        };
        (self, second)
    }
}

/// Hands a batch to the log; its bytes, and the answer.
fn append(shared: &Shared, id: PartitionId, batch: Batch) -> (usize, Answered) {
    let bytes = batch.bytes().len();
    let (done, answered) = oneshot::channel();
    let done = move |result| {
        // Whoever published may have gone; the records stay.
        let _ = done.send(result);
    };
    if bytes <= AWAITED_BYTES_MAX {
        shared.log.append_awaited(id, batch, done);
    } else {
        shared.log.append(id, batch, done);
    }
    (bytes, answered)
}

/// Awaits what the log answers about a batch of so many bytes.
async fn landed(
    shared: &Shared,
    topic: &str,
    bytes: usize,
    answered: Answered,
) -> Result<Appended, PublishError> {
    match answered.await {
        Ok(Ok(appended)) => {
            shared.note_published(bytes);
            Ok(appended)
        }
        Ok(Err(error)) => Err(from_append(error, topic, shared.kind)),
        Err(_) => Err(PublishError::InDoubt { reason: "the log ended without an answer".to_owned() }),
    }
}

fn answer(results: &mut [Outcome], indexes: &[usize], error: &PublishError) {
    for index in indexes {
        results[*index] = Err(error.clone());
    }
}

/// The topic's name as the record had it, and the rest of the record as the log takes it.
fn new_record(record: NewRecord, now_ms: i64) -> (Arc<str>, records::NewRecord) {
    let new = records::NewRecord {
        timestamp: record.timestamp_ms.unwrap_or(now_ms.max(0)),
        key: record.key,
        value: record.value,
        headers: record.headers.into_iter().map(|header| (header.name, header.value)).collect(),
    };
    (record.topic, new)
}

fn encode(topic: &str, rules: Rules, records: &[records::NewRecord], append_time_ms: Option<i64>) -> Encoded {
    let batch = match Batch::of(records, rules.codec, None) {
        Ok(batch) => batch,
        Err(error) => return Encoded::Refused(PublishError::Unencodable { reason: error.to_string() }),
    };
    let (bytes, max) = (batch.bytes().len(), rules.max);
    if bytes > max {
        return Encoded::Refused(PublishError::TooLarge { topic: topic.to_owned(), bytes, max });
    }
    match append_time_ms {
        Some(now_ms) => Encoded::Batch(batch.with_append_time(now_ms)),
        None => Encoded::Batch(batch),
    }
}

fn from_append(error: AppendError, topic: &str, kind: Kind) -> PublishError {
    match error {
        AppendError::UnknownPartition => PublishError::UnknownTopic { topic: topic.to_owned() },
        AppendError::TooLarge { bytes, max } => {
            PublishError::TooLarge { topic: topic.to_owned(), bytes, max }
        }
        AppendError::Writer(WriterError::Busy) => PublishError::Busy,
        AppendError::Writer(WriterError::Stopped) => PublishError::Closed,
        AppendError::Writer(error @ WriterError::DiskFull { .. }) => PublishError::Full {
            hint: match kind {
                Kind::Memory { bytes_max } => format!(
                    "memory: holds {bytes_max} bytes; give its topics a smaller retention.bytes, or it more \
                     bytes: memory:?bytes=N"
                ),
                Kind::Embedded | Kind::Served => error.to_string(),
            },
        },
        // It ends by itself: a file is closed, and the same record is taken.
        AppendError::Writer(error @ WriterError::OutOfFiles) => {
            PublishError::Full { hint: error.to_string() }
        }
        other => PublishError::Failed { reason: other.to_string() },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Symptom: an event that a handler published while the process had no file left became a dead letter. Cause: that
    /// counted as an engine that writes nothing more until it is opened again. Fix: it passes, as a full disk does.
    #[test]
    fn what_the_log_takes_again_by_itself_is_passing() {
        let told = |error| from_append(AppendError::Writer(error), "orders", Kind::Embedded);
        let no_file = told(WriterError::OutOfFiles);
        assert!(no_file.is_passing() && no_file.to_string().contains("ulimit"), "{no_file}");
        assert!(told(WriterError::Busy).is_passing());
        assert!(told(WriterError::DiskFull { free_bytes: 1, needed_bytes: 2 }).is_passing());
        assert!(!told(WriterError::Ended { reason: "cannot sync".to_owned() }).is_passing());
    }
}
