//! Idempotent librdkafka producers that go on through restarts of the server.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::client::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{DeliveryResult, Message as _};
use rdkafka::producer::{BaseRecord, Producer as _, ProducerContext, ThreadedProducer};

use crate::Dice;
use crate::clients::rdkafka_client;
use crate::ledger::{Id, Ledger, Read};

/// Records that one producer has under way at most.
const UNDER_WAY: i32 = 500;

/// How long the last records may take after the last restart.
const FLUSH: Duration = Duration::from_secs(120);

/// Producers at work.
pub(crate) struct Load {
    stop: Arc<AtomicBool>,
    give_up: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Load {
    /// Starts producers that fill the ledger's topic.
    pub(crate) fn start(bootstrap: &str, ledger: &Arc<Ledger>, plan: Plan) -> Load {
        let stop = Arc::new(AtomicBool::new(false));
        let give_up = Arc::new(AtomicBool::new(false));
        let threads = (0..plan.producers)
            .map(|number| {
                let worker = Worker {
                    config: config(bootstrap, number),
                    ledger: Arc::clone(ledger),
                    number: plan.first_producer + number,
                    partitions: plan.partitions,
                    stop: Arc::clone(&stop),
                    give_up: Arc::clone(&give_up),
                };
                let dice = Dice::new(plan.seed ^ u64::from(number));
                thread::spawn(move || worker.run(dice))
            })
            .collect();
        Load { stop, give_up, threads }
    }

    /// Stops sending and waits until everything sent is acknowledged.
    pub(crate) fn finish(mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in std::mem::take(&mut self.threads) {
            thread.join().expect("a producer went to its end");
        }
    }

    /// Stops at once; what is under way is forgotten.
    pub(crate) fn abandon(self) {
        self.give_up.store(true, Ordering::Relaxed);
        self.finish();
    }
}

impl Drop for Load {
    /// After a failed test nobody should go on knocking.
    fn drop(&mut self) {
        self.give_up.store(true, Ordering::Relaxed);
        self.stop.store(true, Ordering::Relaxed);
    }
}

/// What a load does.
pub(crate) struct Plan {
    /// How many producers.
    pub(crate) producers: u32,
    /// Their numbers in the ledger count from here: a new producer instance is a new producer.
    pub(crate) first_producer: u32,
    pub(crate) partitions: i32,
    pub(crate) seed: u64,
}

/// Reads a whole topic the way the ledger wants it.
pub(crate) fn reading(bootstrap: &str, topic: &str, partitions: i32) -> Vec<Read> {
    let start = rdkafka_client::Start::Beginning;
    rdkafka_client::read(bootstrap, topic, partitions, start)
        .into_iter()
        .map(|stored| Read { partition: stored.partition, offset: stored.offset, value: stored.record.value })
        .collect()
}

/// librdkafka's defaults but for idempotence, patience and a quick reconnect. Each producer
/// compresses differently.
fn config(bootstrap: &str, number: u32) -> ClientConfig {
    const CODECS: [&str; 3] = ["none", "lz4", "gzip"];
    let mut config = ClientConfig::new();
    config
        .set("bootstrap.servers", bootstrap)
        .set("enable.idempotence", "true")
        .set("message.timeout.ms", "600000")
        .set("reconnect.backoff.ms", "20")
        .set("reconnect.backoff.max.ms", "100")
        .set("compression.type", CODECS[number as usize % CODECS.len()]);
    config
}

struct Worker {
    config: ClientConfig,
    ledger: Arc<Ledger>,
    number: u32,
    partitions: i32,
    stop: Arc<AtomicBool>,
    give_up: Arc<AtomicBool>,
}

impl Worker {
    fn run(self, mut dice: Dice) {
        let recorder = Recorder { ledger: Arc::clone(&self.ledger) };
        let producer: ThreadedProducer<Recorder> =
            self.config.create_with_context(recorder).expect("a producer");
        while !self.stop.load(Ordering::Relaxed) {
            if producer.in_flight_count() >= UNDER_WAY || !self.ledger.may_send() {
                self.ledger.wait_for_news(Duration::from_millis(50));
                continue;
            }
            let partition = i32::try_from(dice.roll() % 1_000).unwrap() % self.partitions;
            if !self.send(&producer, partition) {
                return;
            }
        }
        if !self.give_up.load(Ordering::Relaxed) {
            producer.flush(FLUSH).expect("everything sent is answered");
        }
    }

    /// Sends the next record; false when the producer can send no more.
    fn send(&self, producer: &ThreadedProducer<Recorder>, partition: i32) -> bool {
        let id = self.ledger.sending(partition, self.number);
        let key = format!("{}-{}", self.number, id.sequence % 17);
        let value = self.ledger.value(id);
        let mut record = BaseRecord::with_opaque_to(self.ledger.topic(), Box::new(id))
            .partition(partition)
            .key(&key)
            .payload(&value);
        loop {
            match producer.send(record) {
                Ok(()) => return true,
                Err((error, returned)) if error.rdkafka_error_code() == Some(RDKafkaErrorCode::QueueFull) => {
                    record = returned;
                    self.ledger.wait_for_news(Duration::from_millis(50));
                }
                Err((error, _)) => {
                    self.ledger.failed(id, error.to_string());
                    return false;
                }
            }
        }
    }
}

/// Writes what librdkafka reports into the ledger.
struct Recorder {
    ledger: Arc<Ledger>,
}

impl ClientContext for Recorder {
    fn log(&self, _level: RDKafkaLogLevel, _fac: &str, _message: &str) {
        // A server that goes away is the subject here, not news.
    }

    fn error(&self, _error: KafkaError, _reason: &str) {}
}

impl ProducerContext for Recorder {
    type DeliveryOpaque = Box<Id>;

    fn delivery(&self, result: &DeliveryResult<'_>, id: Box<Id>) {
        match result {
            Ok(message) => self.ledger.acked(*id, message.offset()),
            Err((error, _)) => self.ledger.failed(*id, error.to_string()),
        }
    }
}
