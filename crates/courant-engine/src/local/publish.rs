//! Publishing: records into batches by partition, and batches into the log.
//!
//! A partition's next batch is handed to the log when the one before it is stored, so that nothing
//! overtakes what was refused. Partitions do not wait for each other within a round.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use courant_core::partitioner::partition_for_key;
use courant_log::batch::records;
use courant_log::{
    AppendError, Appended, Batch, Catalog, Codec, PartitionId, Topic, WriterError, topic_config,
};
use tokio::sync::oneshot;
use tokio::task::spawn_blocking;

use super::{Kind, Shared};
use crate::limits::{BATCH_BYTES_MAX, BATCH_RECORDS_MAX, HEADER_OVERHEAD_BYTES, RECORD_OVERHEAD_BYTES};
use crate::{NewRecord, Partition, Position, PublishError};

/// What became of one record.
type Outcome = Result<Position, PublishError>;

/// Publishes records; the answers are in their order.
pub(super) async fn publish(shared: &Shared, records: Vec<NewRecord>) -> Vec<Outcome> {
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
    let any = shared.keyless.fetch_add(1, Ordering::Relaxed);
    let mut lanes: BTreeMap<PartitionId, Lane> = BTreeMap::new();
    for ((index, record), result) in records.into_iter().enumerate().zip(results) {
        match place(&catalog, &record, any) {
            Ok(place) => {
                let lane = lanes.entry(place.id).or_insert_with(|| Lane::of(place));
                lane.add(index, record, now_ms);
            }
            Err(error) => *result = Err(error),
        }
    }
    lanes.into_values().collect()
}

/// Where a record goes.
struct Place {
    topic: Arc<Topic>,
    number: u32,
    id: PartitionId,
}

/// The partition of a record that its topic can take. `any` chooses where there is no key.
fn place(catalog: &Catalog, record: &NewRecord, any: u32) -> Result<Place, PublishError> {
    let Some(topic) = catalog.by_name(&record.topic) else {
        return Err(PublishError::UnknownTopic { topic: record.topic.to_string() });
    };
    let have = u32::try_from(topic.partitions.len()).unwrap_or(u32::MAX);
    let number = match (record.partition, &record.key) {
        (Some(number), _) => number,
        (None, Some(key)) => partition_for_key(key, have),
        (None, None) => any.checked_rem(have).unwrap_or(0),
    };
    let id = usize::try_from(number).ok().and_then(|number| topic.partitions.get(number)).copied();
    let Some(id) = id else {
        let partition = Partition { topic: record.topic.clone(), number };
        return Err(PublishError::UnknownPartition { partition, have });
    };
    check(topic, record)?;
    Ok(Place { topic: topic.clone(), number, id })
}

/// What a record must be, so that its batch is not refused for it.
fn check(topic: &Topic, record: &NewRecord) -> Result<(), PublishError> {
    let (bytes, max) = (record.payload_bytes(), topic_config::max_message_bytes(&topic.configs));
    // Before anything is copied. What the format adds is known when the record is encoded.
    if bytes > max {
        return Err(PublishError::TooLarge { topic: topic.name.clone(), bytes, max });
    }
    if record.key.is_none() && topic_config::is_compacted(&topic.configs) {
        return Err(PublishError::NoKey { topic: topic.name.clone() });
    }
    match record.timestamp_ms {
        Some(timestamp_ms) if timestamp_ms < 0 => Err(PublishError::Unencodable {
            reason: format!("its timestamp is {timestamp_ms}; timestamps begin with 1970, at 0"),
        }),
        _ => Ok(()),
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
    answered: oneshot::Receiver<Result<Appended, AppendError>>,
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
    partition: Partition,
    id: PartitionId,
    /// Bytes that go into one batch.
    batch_bytes: usize,
    runs: VecDeque<Run>,
}

impl Lane {
    fn of(place: Place) -> Self {
        let Place { topic, number, id } = place;
        let batch_bytes = topic_config::max_message_bytes(&topic.configs).min(BATCH_BYTES_MAX);
        let partition = Partition::new(topic.name.as_str(), number);
        Self { topic, partition, id, batch_bytes, runs: VecDeque::new() }
    }

    /// Adds a record to the last run, or to a new one when that is full.
    fn add(&mut self, index: usize, record: NewRecord, now_ms: i64) {
        let bytes =
            record.payload_bytes() + record.headers.len() * HEADER_OVERHEAD_BYTES + RECORD_OVERHEAD_BYTES;
        let is_full =
            |run: &Run| run.bytes + bytes > self.batch_bytes || run.records.len() >= BATCH_RECORDS_MAX;
        if self.runs.back().is_none_or(is_full) {
            self.runs.push_back(Run::default());
        }
        if let Some(run) = self.runs.back_mut() {
            run.bytes += bytes;
            run.indexes.push(index);
            run.records.push(new_record(record, now_ms));
        }
    }

    /// Hands the next batch to the log. `None`: there is nothing more.
    async fn send(&mut self, shared: &Shared, results: &mut [Outcome]) -> Option<Flight> {
        while let Some(mut run) = self.runs.pop_front() {
            let append_time = topic_config::has_append_time(&self.topic.configs);
            let now_ms = append_time.then(|| shared.config.clock.now_ms());
            match self.encoded(&mut run, now_ms).await {
                Encoded::Batch(batch) => {
                    let bytes = batch.bytes().len();
                    let (done, answered) = oneshot::channel();
                    shared.log.append(self.id, batch, move |result| {
                        // Whoever published may have gone; the records stay.
                        let _ = done.send(result);
                    });
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
        let codec = topic_config::codec(&self.topic.configs).unwrap_or(Codec::None);
        if codec == Codec::None {
            return encode(&self.topic, &run.records, codec, append_time_ms);
        }
        let (topic, records) = (self.topic.clone(), std::mem::take(&mut run.records));
        let encoded = spawn_blocking(move || {
            let encoded = encode(&topic, &records, codec, append_time_ms);
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
        let error = match flight.answered.await {
            Ok(Ok(appended)) => {
                shared.note_published(flight.bytes);
                for (offset, index) in (appended.base_offset..).zip(flight.indexes) {
                    results[index] = Ok(self.partition.at(offset));
                }
                return;
            }
            Ok(Err(error)) => from_append(error, &self.topic, shared.kind),
            Err(_) => PublishError::InDoubt { reason: "the log ended without an answer".to_owned() },
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

fn answer(results: &mut [Outcome], indexes: &[usize], error: &PublishError) {
    for index in indexes {
        results[*index] = Err(error.clone());
    }
}

fn new_record(record: NewRecord, now_ms: i64) -> records::NewRecord {
    records::NewRecord {
        timestamp: record.timestamp_ms.unwrap_or(now_ms.max(0)),
        key: record.key,
        value: record.value,
        headers: record.headers.into_iter().map(|header| (header.name, header.value)).collect(),
    }
}

fn encode(
    topic: &Topic,
    records: &[records::NewRecord],
    codec: Codec,
    append_time_ms: Option<i64>,
) -> Encoded {
    let unencodable = |reason: String| Encoded::Refused(PublishError::Unencodable { reason });
    let bytes = match records::encode(records, codec, None) {
        Ok(bytes) => bytes,
        Err(error) => return unencodable(error.to_string()),
    };
    let max = topic_config::max_message_bytes(&topic.configs);
    if bytes.len() > max {
        let (topic, bytes) = (topic.name.clone(), bytes.len());
        return Encoded::Refused(PublishError::TooLarge { topic, bytes, max });
    }
    match (Batch::validate(bytes), append_time_ms) {
        (Ok(batch), Some(now_ms)) => Encoded::Batch(batch.with_append_time(now_ms)),
        (Ok(batch), None) => Encoded::Batch(batch),
        (Err(error), _) => unencodable(error.to_string()),
    }
}

fn from_append(error: AppendError, topic: &Topic, kind: Kind) -> PublishError {
    match error {
        AppendError::UnknownPartition => PublishError::UnknownTopic { topic: topic.name.clone() },
        AppendError::TooLarge { bytes, max } => {
            PublishError::TooLarge { topic: topic.name.clone(), bytes, max }
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
        other => PublishError::Failed { reason: other.to_string() },
    }
}
