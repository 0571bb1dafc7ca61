//! Looking at topics, offsets and single records. Everything here waits for the network: it runs on the
//! threads for blocking work.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use courant_engine::{Ends, Partition, Position, ReadBack, Record, TimedOffset};
use rdkafka::consumer::{BaseConsumer, Consumer as _, ConsumerContext};
use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode};
use rdkafka::message::Message as _;
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};

use crate::limits::{PASSING_MAX, REQUEST_MAX};
use crate::member::{at, number, record};
use crate::passing::{passes, until_passed};
use crate::settings::Quiet;
use crate::texts;

/// Events that are taken out of the client's queue at a time.
const DRAINED_MAX: u32 = 1_000;

/// How long is waited for what the client tells of its connections. With no wait at all, a look ends behind each line
/// for the log.
const HEAR: Duration = Duration::from_millis(1);

/// How long one look at the client's queue lasts.
const POLL: Duration = Duration::from_millis(100);

/// A client that is asked.
pub(crate) struct Looker {
    client: BaseConsumer<Quiet>,
    /// Reads one record at a time: it has one assignment.
    reading: Mutex<()>,
}

impl Looker {
    pub(crate) fn new(client: BaseConsumer<Quiet>) -> Self {
        Self { client, reading: Mutex::new(()) }
    }

    pub(crate) fn client(&self) -> &BaseConsumer<Quiet> {
        &self.client
    }

    /// Has what librdkafka tells of connections heard.
    pub(crate) fn hear(&self) {
        self.drain(HEAR);
    }

    /// Takes out what librdkafka tells, so that it does not pile up.
    fn drain(&self, wait: Duration) {
        // Whoever reads meanwhile takes it out.
        if let Ok(_one) = self.reading.try_lock() {
            (0..DRAINED_MAX).take_while(|_| self.client.poll(wait).is_some()).for_each(drop);
        }
    }

    /// How many partitions a topic has; `None`: there is no such topic.
    pub(crate) fn partitions(&self, topic: &str) -> KafkaResult<Option<u32>> {
        until_passed(REQUEST_MAX, || self.partitions_now(topic))
    }

    fn partitions_now(&self, topic: &str) -> KafkaResult<Option<u32>> {
        self.drain(Duration::ZERO);
        let asked = self.client.fetch_metadata(Some(topic), REQUEST_MAX);
        let metadata = asked.inspect_err(|_| self.hear())?;
        let Some(found) = metadata.topics().iter().find(|found| found.name() == topic) else {
            return Ok(None);
        };
        match found.error().map(RDKafkaErrorCode::from) {
            None => Ok(u32::try_from(found.partitions().len()).ok().filter(|count| *count > 0)),
            Some(code) if is_unknown(code) => Ok(None),
            Some(code) => Err(KafkaError::MetadataFetch(code)),
        }
    }

    /// Whether every partition of a topic has somebody who answers for it. One that was just made may be
    /// known to the cluster before it is known to its leader.
    pub(crate) fn is_served(&self, topic: &str, partitions: u32) -> KafkaResult<bool> {
        let mut asked = TopicPartitionList::new();
        for number in 0..partitions {
            let number = i32::try_from(number).unwrap_or(i32::MAX);
            // The first record of all times.
            asked.add_partition_offset(topic, number, Offset::Offset(0))?;
        }
        let is_early = |code: RDKafkaErrorCode| passes(code) || is_unknown(code);
        match self.client.offsets_for_times(asked, REQUEST_MAX) {
            Ok(answered) => Ok(answered.elements().iter().all(|answer| answer.error().is_ok())),
            Err(error) if texts::code(&error).is_some_and(is_early) => Ok(false),
            Err(error) => Err(error),
        }
    }

    pub(crate) fn ends(&self, partition: &Partition) -> KafkaResult<Option<Ends>> {
        watermarks(&self.client, partition, REQUEST_MAX)
    }

    /// Reads the record at one position. `None`: there is no such partition.
    pub(crate) fn read(&self, position: &Position) -> KafkaResult<Option<ReadBack>> {
        let Some(Ends { start, end }) = self.ends(&position.partition)? else { return Ok(None) };
        if position.offset < start {
            return Ok(Some(ReadBack::Before { start }));
        }
        if position.offset >= end {
            return Ok(Some(ReadBack::Behind { end }));
        }
        let found = self.first_from(position)?;
        let found = found.filter(|record| record.position.offset == position.offset);
        Ok(Some(found.map_or(ReadBack::Gap, ReadBack::Found)))
    }

    /// The first record at a position or behind it.
    fn first_from(&self, position: &Position) -> KafkaResult<Option<Record>> {
        let _one = self.reading.lock().unwrap_or_else(PoisonError::into_inner);
        self.client.assign(&at(&position.partition, position.offset)?)?;
        let found = self.wait_for(position);
        self.client.unassign()?;
        found
    }

    fn wait_for(&self, position: &Position) -> KafkaResult<Option<Record>> {
        let deadline = Instant::now() + REQUEST_MAX;
        let mut said = RDKafkaErrorCode::OperationTimedOut;
        while Instant::now() < deadline {
            match self.client.poll(POLL) {
                Some(Ok(message)) => {
                    let is_wanted = message.topic() == &*position.partition.topic
                        && message.partition() == number(&position.partition);
                    if is_wanted {
                        let unreadable = KafkaError::MessageConsumption(RDKafkaErrorCode::BadMessage);
                        return record(&position.partition, &message).ok_or(unreadable).map(Some);
                    }
                }
                Some(Err(KafkaError::PartitionEOF(_))) => return Ok(None),
                // Retention has taken it in this moment.
                Some(Err(KafkaError::MessageConsumption(RDKafkaErrorCode::AutoOffsetReset))) => {
                    return Ok(None);
                }
                Some(Err(error)) => match texts::code(&error) {
                    Some(code) if !texts::is_absence(code) => said = code,
                    _ => {}
                },
                None => {}
            }
        }
        Err(KafkaError::MessageConsumption(said))
    }

    /// The first record that is not earlier than a time.
    pub(crate) fn at_time(&self, partition: &Partition, at_ms: i64) -> KafkaResult<Option<TimedOffset>> {
        let Some(offset) = until_passed(REQUEST_MAX, || self.offset_at(partition, at_ms))? else {
            return Ok(None);
        };
        let found = self.first_from(&partition.at(u64::try_from(offset).unwrap_or(0)))?;
        Ok(found
            .map(|record| TimedOffset { offset: record.position.offset, timestamp_ms: record.timestamp_ms }))
    }

    fn offset_at(&self, partition: &Partition, at_ms: i64) -> KafkaResult<Option<i64>> {
        // Nothing is earlier than 1970.
        let asked = at(partition, u64::try_from(at_ms).unwrap_or(0))?;
        let answered = self.client.offsets_for_times(asked, REQUEST_MAX)?;
        for answer in answered.elements() {
            answer.error()?;
            if let Offset::Offset(offset) = answer.offset() {
                return Ok(Some(offset));
            }
        }
        Ok(None)
    }
}

/// The ends of a partition. `None`: there is no such partition.
pub(crate) fn watermarks<C: ConsumerContext>(
    client: &BaseConsumer<C>,
    partition: &Partition,
    within: Duration,
) -> KafkaResult<Option<Ends>> {
    let asked = until_passed(within.min(PASSING_MAX), || {
        client.fetch_watermarks(&partition.topic, number(partition), within)
    });
    match asked {
        Ok((start, end)) => {
            // The client gives no negative ones.
            let offset = |offset: i64| u64::try_from(offset).unwrap_or(0);
            Ok(Some(Ends { start: offset(start), end: offset(end) }))
        }
        Err(error) if texts::code(&error).is_some_and(is_unknown) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Whether a code says that there is no such topic or partition.
pub(crate) fn is_unknown(code: RDKafkaErrorCode) -> bool {
    matches!(
        code,
        RDKafkaErrorCode::UnknownTopicOrPartition
            | RDKafkaErrorCode::UnknownTopic
            | RDKafkaErrorCode::UnknownPartition
            | RDKafkaErrorCode::InvalidTopic
    )
}
