//! The clients that the server is measured with: librdkafka, as most programs use it.
//!
//! Every event carries its number, and the reader fails when one is missing or out of order: figures
//! of a run that lost something would be worth nothing.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow, bail, ensure};
use rdkafka::ClientConfig;
use rdkafka::client::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer as _};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{DeliveryResult, Message as _};
use rdkafka::producer::{BaseRecord, Producer as _, ProducerContext, ThreadedProducer};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};

/// The one topic of a run. The first event makes it, with one partition.
pub(crate) const TOPIC: &str = "bench";
pub(crate) const PARTITION: i32 = 0;

/// Events of a batch.
const BATCH: &str = "500";
/// How long an event may be on its way, in milliseconds and as a duration.
const PATIENCE_MS: &str = "60000";
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);
/// How long the sender sleeps while the client's queue is full, or for the last acknowledgements.
const NAP: Duration = Duration::from_millis(1);
/// How often a reader that gets nothing looks whether it is still wanted.
const POLL: Duration = Duration::from_millis(100);

/// What all writers have in common: an acknowledgement means that the event is on disk.
pub(crate) fn writer_config(bootstrap: &str) -> ClientConfig {
    let mut config = ClientConfig::new();
    config
        .set("bootstrap.servers", bootstrap)
        .set("acks", "all")
        .set("compression.type", "none")
        .set("message.timeout.ms", PATIENCE_MS);
    config
}

/// What compresses a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Codec {
    None,
    Lz4,
    Zstd,
    Snappy,
    Gzip,
}

impl Codec {
    pub(crate) const ALL: [Codec; 5] = [Codec::None, Codec::Lz4, Codec::Zstd, Codec::Snappy, Codec::Gzip];

    /// As clients write it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Codec::None => "none",
            Codec::Lz4 => "lz4",
            Codec::Zstd => "zstd",
            Codec::Snappy => "snappy",
            Codec::Gzip => "gzip",
        }
    }
}

/// Sends batches of 500 numbered events.
pub(crate) struct Writer {
    producer: ThreadedProducer<Acks>,
    payload: Vec<u8>,
    /// What stands behind the number, where it is not always the same: each event has the next part of it.
    text: Vec<u8>,
    sent: u64,
}

impl Writer {
    /// A writer of events of `bytes` bytes each.
    pub(crate) fn new(bootstrap: &str, bytes: usize, idempotent: bool) -> Result<Writer> {
        Writer::by(writer_config(bootstrap), bytes, idempotent)
    }

    /// One whose batches are compressed, with events like those of services.
    pub(crate) fn compressed(bootstrap: &str, bytes: usize, codec: Codec) -> Result<Writer> {
        let mut config = writer_config(bootstrap);
        config.set("compression.type", codec.name());
        let mut writer = Writer::by(config, bytes, false)?;
        writer.text = orders();
        Ok(writer)
    }

    /// One that sends to the mock that librdkafka brings along, in this process.
    pub(crate) fn on_mock(bytes: usize) -> Result<Writer> {
        // The mock puts its own address in the place of this one.
        let mut config = writer_config("127.0.0.1:1");
        config.set("test.mock.num.brokers", "1");
        Writer::by(config, bytes, false)
    }

    fn by(mut config: ClientConfig, bytes: usize, idempotent: bool) -> Result<Writer> {
        let producer = config
            .set("linger.ms", "5")
            .set("batch.num.messages", BATCH)
            .set("enable.idempotence", idempotent.to_string())
            .create_with_context(Acks::default())
            .context("no producer can be made")?;
        Ok(Writer {
            producer,
            // Room for the number.
            payload: vec![b'x'; bytes.max(size_of::<u64>())],
            text: Vec::new(),
            sent: 0,
        })
    }

    /// Sends that many more events; the moment of the last acknowledgement.
    pub(crate) fn send(&mut self, count: u64) -> Result<Instant> {
        self.send_when(count, |_| {})
    }

    /// The same, at this rate.
    pub(crate) fn send_paced(&mut self, count: u64, per_second: u64) -> Result<Instant> {
        let begun = Instant::now();
        self.send_when(count, |sent| {
            let due = begun + Duration::from_secs_f64(sent as f64 / per_second as f64);
            let early = due.saturating_duration_since(Instant::now());
            // After a nap several are due.
            if !early.is_zero() {
                thread::sleep(early.max(NAP));
            }
        })
    }

    /// Calls `before` with the number of those that were sent, before each of them.
    fn send_when(&mut self, count: u64, before: impl Fn(u64)) -> Result<Instant> {
        let first = self.sent;
        self.sent += count;
        self.acks().begin(self.sent);
        for number in first..self.sent {
            before(number - first);
            self.fill(number);
            self.send_one()?;
        }
        self.wait()
    }

    /// The event of this number.
    fn fill(&mut self, number: u64) {
        let (front, rest) = self.payload.split_at_mut(size_of::<u64>());
        front.copy_from_slice(&number.to_le_bytes());
        let parts = (self.text.len() / rest.len().max(1)) as u64;
        if let Some(part) = number.checked_rem(parts) {
            let at = part as usize * rest.len();
            rest.copy_from_slice(&self.text[at..at + rest.len()]);
        }
    }

    fn send_one(&self) -> Result<()> {
        let mut record = BaseRecord::<(), [u8]>::to(TOPIC).partition(PARTITION).payload(&self.payload);
        loop {
            match self.producer.send(record) {
                Ok(()) => return Ok(()),
                Err((error, back)) if is_full(&error) => {
                    record = back;
                    self.acks().check()?;
                    thread::sleep(NAP);
                }
                Err((error, _)) => bail!("an event cannot be sent: {error}"),
            }
        }
    }

    /// An event that is never acknowledged is refused by the client after a while, so this ends.
    fn wait(&self) -> Result<Instant> {
        loop {
            if let Some(at) = *lock(&self.acks().last) {
                return Ok(at);
            }
            self.acks().check()?;
            thread::sleep(NAP);
        }
    }

    fn acks(&self) -> &Acks {
        self.producer.context()
    }
}

/// A megabyte of JSON as services write it, with numbers that nobody guesses: the same each time.
fn orders() -> Vec<u8> {
    const BYTES: usize = 1 << 20;
    let mut text = Vec::with_capacity(BYTES + 256);
    // The multiplier and the increment of Knuth's MMIX.
    let mut random = 1_u64;
    let mut next = || {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        random >> 33
    };
    while text.len() < BYTES {
        let (order, customer, cents) = (next(), next() % 100_000, next() % 1_000_000);
        let status = ["placed", "paid", "packed", "shipped"][(next() % 4) as usize];
        let event = format!(
            r#"{{"order_id":"order-{order:010}","customer":{customer},"cents":{cents},"status":"{status}"}}"#
        );
        text.extend_from_slice(event.as_bytes());
    }
    text
}

fn is_full(error: &KafkaError) -> bool {
    error.rdkafka_error_code() == Some(RDKafkaErrorCode::QueueFull)
}

/// What became of a writer's events.
#[derive(Default)]
struct Acks {
    acked: AtomicU64,
    wanted: AtomicU64,
    /// When the last wanted one was acknowledged.
    last: Mutex<Option<Instant>>,
    refused: Mutex<Option<String>>,
    /// What the client says about the connection.
    trouble: Mutex<Option<String>>,
}

impl Acks {
    /// Before the first of the events that bring the sum to `wanted`.
    fn begin(&self, wanted: u64) {
        *lock(&self.last) = None;
        self.wanted.store(wanted, Ordering::Release);
    }

    /// Fails when an event was refused.
    fn check(&self) -> Result<()> {
        let Some(refused) = lock(&self.refused).take() else {
            return Ok(());
        };
        let acked = self.acked.load(Ordering::Relaxed);
        let trouble = lock(&self.trouble).take();
        let trouble = trouble.map_or_else(String::new, |reason| format!(" ({reason})"));
        bail!("an event was refused after {acked} acknowledged ones: {refused}{trouble}")
    }
}

impl ClientContext for Acks {
    fn log(&self, _level: RDKafkaLogLevel, _facility: &str, _message: &str) {
        // What matters comes back as an error.
    }

    fn error(&self, error: KafkaError, reason: &str) {
        *lock(&self.trouble) = Some(format!("{error}: {reason}"));
    }
}

impl ProducerContext for Acks {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        match result {
            Ok(_) => {
                let acked = self.acked.fetch_add(1, Ordering::Relaxed) + 1;
                if acked == self.wanted.load(Ordering::Acquire) {
                    *lock(&self.last) = Some(Instant::now());
                }
            }
            Err((error, _)) => *lock(&self.refused) = Some(error.to_string()),
        }
    }
}

/// Reads the partition from its beginning, in a thread of its own, without a group.
pub(crate) struct Reader {
    read: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<Result<Instant>>>,
}

impl Reader {
    /// Starts one that ends after `events` events.
    pub(crate) fn start(bootstrap: &str, events: u64) -> Result<Reader> {
        let consumer = consumer(bootstrap)?;
        let read = Arc::new(AtomicU64::new(0));
        let stop = Arc::new(AtomicBool::new(false));
        let thread = thread::spawn({
            let (read, stop) = (Arc::clone(&read), Arc::clone(&stop));
            move || read_all(&consumer, events, &read, &stop)
        });
        Ok(Reader { read, stop, thread: Some(thread) })
    }

    /// Waits until it has read its first event and is therefore connected.
    pub(crate) fn wait_for_first(&mut self) -> Result<()> {
        let begun = Instant::now();
        while self.read.load(Ordering::Relaxed) == 0 {
            if self.thread.as_ref().is_none_or(JoinHandle::is_finished) {
                return self.finish().map(drop);
            }
            ensure!(begun.elapsed() < PATIENCE, "the consumer read nothing for {} s", PATIENCE.as_secs());
            thread::sleep(NAP);
        }
        Ok(())
    }

    /// Waits for its last event; the moment it came.
    pub(crate) fn finish(&mut self) -> Result<Instant> {
        let thread = self.thread.take().context("the consumer has ended")?;
        thread.join().map_err(|_| anyhow!("the consumer panicked"))?
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // Somebody else has failed before, and that is the error to tell.
            let _ = thread.join();
        }
    }
}

/// A consumer of the partition from its beginning, without a group.
pub(crate) fn consumer(bootstrap: &str) -> Result<BaseConsumer> {
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", bootstrap)
        // The library wants a group even where assign() makes none.
        .set("group.id", "assigned-by-hand")
        .set("enable.auto.commit", "false")
        // After it has read ahead enough, the client pauses, by default for a whole second: a
        // figure would show that pause and not the server.
        .set("fetch.queue.backoff.ms", "5")
        .create()
        .context("no consumer can be made")?;
    let mut wanted = TopicPartitionList::new();
    wanted.add_partition_offset(TOPIC, PARTITION, Offset::Beginning).context("the beginning is no offset")?;
    consumer.assign(&wanted).context("the partition cannot be assigned")?;
    Ok(consumer)
}

fn read_all(consumer: &BaseConsumer, events: u64, read: &AtomicU64, stop: &AtomicBool) -> Result<Instant> {
    let mut last = Instant::now();
    let mut number = 0;
    // Answers in a row that were no event.
    let mut idle = 0;
    while number < events {
        match consumer.poll(POLL) {
            Some(Ok(message)) => {
                let found = message.payload().and_then(number_in);
                ensure!(
                    found == Some(number),
                    "event {number} was expected at offset {}, and {found:?} was there",
                    message.offset()
                );
                number += 1;
                idle = 0;
                read.store(number, Ordering::Relaxed);
                if number == events {
                    last = Instant::now();
                }
            }
            Some(Err(error)) if passes(&error) => idle += 1,
            Some(Err(error)) => bail!("reading after {number} events: {error}"),
            None => idle += 1,
        }
        ensure!(
            idle * POLL < PATIENCE,
            "the consumer got nothing for {} s after {number} of {events} events",
            PATIENCE.as_secs()
        );
        // Who drops a reader does not wait for the rest.
        ensure!(!stop.load(Ordering::Relaxed), "reading was stopped");
    }
    Ok(last)
}

/// The number at the beginning of an event.
pub(crate) fn number_in(payload: &[u8]) -> Option<u64> {
    let bytes = payload.first_chunk()?;
    Some(u64::from_le_bytes(*bytes))
}

/// What the library reports and then overcomes: that there is no coordinator for a group that is
/// none, or a connection that is only being made.
pub(crate) fn passes(error: &KafkaError) -> bool {
    let KafkaError::MessageConsumption(code) = error else { return false };
    matches!(
        code,
        RDKafkaErrorCode::BrokerTransportFailure
            | RDKafkaErrorCode::AllBrokersDown
            | RDKafkaErrorCode::OperationTimedOut
            | RDKafkaErrorCode::CoordinatorNotAvailable
            | RDKafkaErrorCode::NotCoordinator
    )
}

/// How many events the partition has.
pub(crate) fn events_stored(bootstrap: &str) -> Result<u64> {
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", bootstrap)
        .create()
        .context("no consumer can be made")?;
    let (low, high) = consumer
        .fetch_watermarks(TOPIC, PARTITION, PATIENCE)
        .context("the server does not say where the log ends")?;
    u64::try_from(high - low).with_context(|| format!("the log goes from {low} to {high}"))
}

/// Commits the beginning of the partition for a group, which reads nothing.
pub(crate) fn commit_beginning(bootstrap: &str, group: &str) -> Result<()> {
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", bootstrap)
        .set("group.id", group)
        .create()
        .context("no consumer can be made")?;
    let mut beginning = TopicPartitionList::new();
    beginning
        .add_partition_offset(TOPIC, PARTITION, Offset::Offset(0))
        .context("the beginning is no offset")?;
    consumer.commit(&beginning, CommitMode::Sync).context("an offset cannot be committed")
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_of_services_differ_and_carry_their_numbers() {
        let mut writer = Writer::by(ClientConfig::new(), 100, false).unwrap();
        writer.fill(7);
        assert_eq!(writer.payload[8..], [b'x'; 92]);
        writer.text = orders();
        writer.fill(7);
        let first = writer.payload.clone();
        writer.fill(8);
        assert_eq!((number_in(&first), number_in(&writer.payload)), (Some(7), Some(8)));
        assert_ne!(first[8..], writer.payload[8..]);
        // Behind the last part comes the first one again.
        writer.fill(u64::MAX);
        assert_eq!(number_in(&writer.payload), Some(u64::MAX));
    }

    #[test]
    fn an_event_carries_its_number() {
        let mut payload = vec![b'x'; 100];
        payload[..8].copy_from_slice(&7_u64.to_le_bytes());
        assert_eq!(number_in(&payload), Some(7));
        assert_eq!(number_in(b"short"), None);
    }
}
