//! Producers: idempotent, and ended by the first batch that is refused.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use courant_engine::NewRecord;
use rdkafka::client::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{Header, Message as _, OwnedHeaders};
use rdkafka::producer::{
    BaseRecord, DeliveryResult, Producer as _, ProducerContext, PurgeConfig, ThreadedProducer,
};
use tokio::sync::mpsc;
use tokio::task::spawn_blocking;

use crate::address::Address;
use crate::limits::BATCH_RECORDS_MAX;
use crate::servers::Servers;
use crate::settings;

/// A record's answer: its place in the call, and its offset or an error.
pub(crate) type Answer = (usize, Result<i64, KafkaError>);

/// What travels with a record until it is answered.
pub(crate) struct Ticket {
    index: usize,
    answers: mpsc::UnboundedSender<Answer>,
}

/// Sends the answers where they are awaited.
pub(crate) struct Reports(Servers);

impl ClientContext for Reports {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        settings::log(level, facility, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        self.0.hear(&error, reason);
    }
}

impl ProducerContext for Reports {
    type DeliveryOpaque = Box<Ticket>;

    fn delivery(&self, result: &DeliveryResult<'_>, ticket: Box<Ticket>) {
        let answer = match result {
            Ok(message) => Ok(message.offset()),
            Err((error, _)) => Err(error.clone()),
        };
        // Whoever published may have gone; the record stays.
        let _ = ticket.answers.send((ticket.index, answer));
    }
}

/// One producer.
pub(crate) struct Producer(ThreadedProducer<Reports>);

/// Whether a record was taken to be sent.
pub(crate) enum Sent {
    Yes,
    /// Too much waits.
    Full,
    /// The producer has ended.
    Ended,
    Refused(KafkaError),
}

impl Producer {
    /// Takes a record to be sent to a partition, without waiting.
    pub(crate) fn send(
        &self,
        partition: i32,
        record: &NewRecord,
        now_ms: i64,
        index: usize,
        answers: &mpsc::UnboundedSender<Answer>,
    ) -> Sent {
        let ticket = Box::new(Ticket { index, answers: answers.clone() });
        let wanted: BaseRecord<'_, [u8], [u8], Box<Ticket>> = BaseRecord {
            topic: &record.topic,
            partition: Some(partition),
            payload: record.value.as_deref(),
            key: record.key.as_deref(),
            timestamp: Some(record.timestamp_ms.unwrap_or(now_ms)),
            headers: headers(record),
            delivery_opaque: ticket,
        };
        match self.0.send(wanted) {
            Ok(()) => Sent::Yes,
            Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), _)) => Sent::Full,
            Err((KafkaError::MessageProduction(RDKafkaErrorCode::Fatal), _)) => Sent::Ended,
            Err((error, _)) => Sent::Refused(error),
        }
    }
}

/// Headers for librdkafka; those of a record that was checked have names that it takes.
fn headers(record: &NewRecord) -> Option<OwnedHeaders> {
    if record.headers.is_empty() {
        return None;
    }
    let mut headers = OwnedHeaders::new_with_capacity(record.headers.len());
    for header in &record.headers {
        let key = std::str::from_utf8(&header.name).unwrap_or_default();
        headers = headers.insert(Header { key, value: header.value.as_deref() });
    }
    Some(headers)
}

/// The producers of an engine: made when they are needed, and made anew when one has ended.
pub(crate) struct Producers {
    /// For topics that take whole batches.
    many: Slot,
    /// For topics that take less than a batch: record by record.
    single: Slot,
}

/// One of them.
pub(crate) struct Slot {
    address: Address,
    batch_records: usize,
    current: Mutex<Option<Arc<Producer>>>,
}

impl Producers {
    pub(crate) fn new(address: &Address) -> Self {
        let slot =
            |batch_records| Slot { address: address.clone(), batch_records, current: Mutex::default() };
        Self { many: slot(BATCH_RECORDS_MAX), single: slot(1) }
    }

    pub(crate) fn many(&self) -> &Slot {
        &self.many
    }

    pub(crate) fn single(&self) -> &Slot {
        &self.single
    }

    /// Ends both. What is under way is given up.
    pub(crate) fn retire_all(&self) {
        for slot in [&self.many, &self.single] {
            if let Some(producer) = slot.current().take() {
                end(producer);
            }
        }
    }
}

impl Slot {
    fn current(&self) -> MutexGuard<'_, Option<Arc<Producer>>> {
        self.current.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The producer, made if there is none.
    pub(crate) fn get(&self) -> Result<Arc<Producer>, KafkaError> {
        let mut current = self.current();
        if let Some(producer) = &*current {
            return Ok(producer.clone());
        }
        let config = settings::producer(&self.address, self.batch_records);
        let reports = Reports(self.address.servers.clone());
        let producer = Arc::new(Producer(config.create_with_context(reports)?));
        *current = Some(producer.clone());
        Ok(producer)
    }

    /// Ends a producer: what waits in it is answered as given up, and the next record gets another one.
    pub(crate) fn retire(&self, producer: &Arc<Producer>) {
        let mut current = self.current();
        if current.as_ref().is_some_and(|current| Arc::ptr_eq(current, producer)) {
            current.take();
        }
        drop(current);
        producer.0.purge(PurgeConfig::default().queue().inflight());
    }
}

/// Lets a producer go. Its last owner waits for its thread, which no worker of a runtime should.
pub(crate) fn let_go(producer: Arc<Producer>) {
    if let Some(last) = Arc::into_inner(producer) {
        drop(spawn_blocking(move || drop(last)));
    }
}

fn end(producer: Arc<Producer>) {
    producer.0.purge(PurgeConfig::default().queue().inflight());
    drop(producer);
}
