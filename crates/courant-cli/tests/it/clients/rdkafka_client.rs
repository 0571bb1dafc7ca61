//! Rust services with rdkafka, which is librdkafka of the newest kind.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::{ClientContext, DefaultClientContext};
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{BorrowedMessage, DeliveryResult, Header, Headers as _, Message as _, OwnedHeaders};
use rdkafka::producer::{BaseRecord, Producer as _, ProducerContext, ThreadedProducer};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use tempfile::tempdir;

use super::{
    BEGIN_MS, CLIENT_LIMIT, CODECS, KEYED_RECORDS, PARTITIONS, Record, Report, Stored, TOO_LARGE_VALUE_BYTES,
    assert_as_reported, assert_stored_as, compatibility, keyed, keyed_before, odd,
};
use crate::server::Server;
use crate::{Dice, PATIENCE};

/// Where reading begins.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Start {
    Beginning,
    /// The first record of each partition at or after this time, milliseconds since 1970.
    At(i64),
}

/// Writes records with the default configuration and these settings on top.
pub(crate) fn produce(
    bootstrap: &str,
    topic: &str,
    settings: &[(&str, &str)],
    records: &[Record],
) -> Vec<Report> {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", bootstrap);
    for (name, value) in settings {
        config.set(*name, *value);
    }
    let reports = Reports::default();
    let kept = reports.clone();
    let producer: ThreadedProducer<Reports> = config.create_with_context(reports).expect("a producer");
    for (number, record) in records.iter().enumerate() {
        send(&producer, topic, number, record);
    }
    producer.flush(2 * PATIENCE).expect("all are answered");
    drop(producer);
    let mut reports = std::mem::take(&mut *kept.0.lock().unwrap());
    reports.sort_by_key(|(number, _)| *number);
    reports.into_iter().map(|(_, report)| report).collect()
}

fn send(producer: &ThreadedProducer<Reports>, topic: &str, number: usize, record: &Record) {
    let mut sending: BaseRecord<'_, [u8], [u8], usize> = BaseRecord::with_opaque_to(topic, number);
    sending.key = record.key.as_deref();
    sending.payload = record.value.as_deref();
    sending.timestamp = record.timestamp;
    if !record.headers.is_empty() {
        let mut headers = OwnedHeaders::new();
        for (name, value) in &record.headers {
            headers = headers.insert(Header { key: name, value: value.as_ref() });
        }
        sending.headers = Some(headers);
    }
    loop {
        match producer.send(sending) {
            Ok(()) => return,
            Err((error, back)) => {
                let code = error.rdkafka_error_code();
                assert_eq!(code, Some(RDKafkaErrorCode::QueueFull), "{error}");
                sending = back;
                producer.poll(Duration::from_millis(10));
            }
        }
    }
}

/// Delivery reports by the number of their record.
#[derive(Clone, Default)]
struct Reports(Arc<Mutex<Vec<(usize, Report)>>>);

impl ClientContext for Reports {}

impl ProducerContext for Reports {
    type DeliveryOpaque = usize;

    fn delivery(&self, result: &DeliveryResult<'_>, number: usize) {
        let report = match result {
            Ok(message) => Ok((message.partition(), message.offset())),
            Err((error, _)) => Err(match error.rdkafka_error_code() {
                Some(code) => format!("{code:?}"),
                None => error.to_string(),
            }),
        };
        self.0.lock().unwrap().push((number, report));
    }
}

/// Reads a topic to the end of all its partitions, in the order of partition and offset.
pub(crate) fn read(bootstrap: &str, topic: &str, partitions: i32, start: Start) -> Vec<Stored> {
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", bootstrap)
        // The library wants a group even where assign() makes none.
        .set("group.id", "assigned-by-hand")
        .set("enable.auto.commit", "false")
        .set("enable.partition.eof", "true")
        .set("check.crcs", "true")
        .create()
        .expect("a consumer");
    let mut wanted = TopicPartitionList::new();
    for partition in 0..partitions {
        let offset = match start {
            Start::Beginning => Offset::Beginning,
            Start::At(at) => Offset::Offset(at),
        };
        wanted.add_partition_offset(topic, partition, offset).expect("an assignment");
    }
    if matches!(start, Start::At(_)) {
        wanted = consumer.offsets_for_times(wanted, PATIENCE).expect("offsets by time");
    }
    // A busy partition has no end to run into, so reading ends where the end was when it began. All are
    // asked for at once, and before anything is assigned: the library looks for the leader of each
    // assigned partition again, and would wait for that a thousand times.
    let ends = ends(&consumer, topic, partitions);
    consumer.assign(&wanted).expect("an assignment");
    let mut read = Vec::new();
    let mut at_end: Vec<bool> = ends.iter().map(|end| *end == 0).collect();
    let deadline = Instant::now() + 2 * PATIENCE;
    while at_end.contains(&false) {
        assert!(Instant::now() < deadline, "no end of {topic}: {at_end:?}");
        match consumer.poll(Duration::from_millis(200)) {
            Some(Ok(message)) => {
                let index = usize::try_from(message.partition()).unwrap();
                at_end[index] |= message.offset() + 1 >= ends[index];
                read.push(stored(&message));
            }
            Some(Err(KafkaError::PartitionEOF(partition))) => {
                at_end[usize::try_from(partition).unwrap()] = true;
            }
            Some(Err(KafkaError::MessageConsumption(code))) if passes(code) => {}
            None => {}
            Some(Err(error)) => panic!("reading {topic}: {error}"),
        }
    }
    read.sort_by_key(|stored| (stored.partition, stored.offset));
    read
}

/// The offset behind the last event of each partition.
fn ends(consumer: &BaseConsumer, topic: &str, partitions: i32) -> Vec<i64> {
    let mut wanted = TopicPartitionList::new();
    for partition in 0..partitions {
        wanted.add_partition_offset(topic, partition, Offset::End).expect("a place");
    }
    let found = consumer.offsets_for_times(wanted, PATIENCE).expect("the ends");
    let end = |partition| {
        let place = found.find_partition(topic, partition).expect("every partition has an end");
        place.error().expect("the end is known");
        place.offset().to_raw().expect("an offset")
    };
    (0..partitions).map(end).collect()
}

/// What the library reports and then overcomes: a server that is only just back, or that has no
/// coordinator for a group that is not one.
fn passes(code: RDKafkaErrorCode) -> bool {
    matches!(
        code,
        RDKafkaErrorCode::BrokerTransportFailure
            | RDKafkaErrorCode::AllBrokersDown
            | RDKafkaErrorCode::OperationTimedOut
            | RDKafkaErrorCode::CoordinatorNotAvailable
            | RDKafkaErrorCode::NotCoordinator
    )
}

fn stored(message: &BorrowedMessage<'_>) -> Stored {
    let headers = message.headers().map_or_else(Vec::new, |headers| {
        headers.iter().map(|header| (header.key.to_owned(), header.value.map(<[u8]>::to_vec))).collect()
    });
    Stored {
        partition: message.partition(),
        offset: message.offset(),
        record: Record {
            key: message.key().map(<[u8]>::to_vec),
            value: message.payload().map(<[u8]>::to_vec),
            headers,
            timestamp: message.timestamp().to_millis(),
        },
    }
}

/// Creates a topic with the library's own administration.
fn create(bootstrap: &str, topic: &str) {
    let admin: AdminClient<DefaultClientContext> =
        ClientConfig::new().set("bootstrap.servers", bootstrap).create().expect("an admin client");
    let new = NewTopic::new(topic, PARTITIONS, TopicReplication::Fixed(1));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let created = runtime.block_on(admin.create_topics([&new], &AdminOptions::new())).expect("an answer");
    assert_eq!(created, [Ok(topic.to_owned())]);
}

fn round_trip(settings: &[(&str, &str)], idempotent: bool) {
    let data = tempdir().unwrap();
    let server = Server::start(data.path());
    let records = keyed(KEYED_RECORDS, "rdkafka");
    for (code, codec) in CODECS.into_iter().enumerate() {
        let topic = format!("rdkafka.{codec}");
        create(&server.bootstrap(), &topic);
        let mut all = settings.to_vec();
        all.push(("compression.type", codec));
        let reports = produce(&server.bootstrap(), &topic, &all, &records);
        let stored = read(&server.bootstrap(), &topic, PARTITIONS, Start::Beginning);
        assert_as_reported(&topic, &records, &reports, &stored);
        assert_stored_as(&server, &topic, code, idempotent);
    }
}

#[test]
fn keyed_records_in_every_codec() {
    round_trip(&[], false);
    compatibility::passed("rdkafka", compatibility::CREATE);
    for codec in CODECS {
        compatibility::passed("rdkafka", &compatibility::keyed_records_in(codec));
    }
}

#[test]
fn idempotent_records_in_every_codec() {
    round_trip(&[("enable.idempotence", "true")], true);
}

#[test]
fn odd_records() {
    let data = tempdir().unwrap();
    let server = Server::start(data.path());
    // Nobody created this topic: writing to it does, with one partition.
    let reports = produce(&server.bootstrap(), "odd", &[], &odd());
    let stored = read(&server.bootstrap(), "odd", 1, Start::Beginning);
    assert_as_reported("odd", &odd(), &reports, &stored);
}

#[test]
fn too_large_is_refused_as_such() {
    let data = tempdir().unwrap();
    let server = Server::start(data.path());
    let large = Dice::new(2).bytes(TOO_LARGE_VALUE_BYTES);
    let records =
        [Record::new(None, Some(&large)).at(BEGIN_MS), Record::new(None, Some(b"after it")).at(BEGIN_MS)];
    let limit = [("message.max.bytes", CLIENT_LIMIT)];
    let refused = produce(&server.bootstrap(), "large", &limit, &records[..1]);
    assert_eq!(refused, [Report::Err("MessageSizeTooLarge".to_owned())]);
    let accepted = produce(&server.bootstrap(), "large", &limit, &records[1..]);
    let stored = read(&server.bootstrap(), "large", 1, Start::Beginning);
    assert_as_reported("large", &records[1..], &accepted, &stored);
    compatibility::passed("rdkafka", compatibility::TOO_LARGE);
}

#[test]
fn replay_from_a_timestamp() {
    let data = tempdir().unwrap();
    let server = Server::start(data.path());
    server.create_topic("replayed", PARTITIONS);
    let records = keyed(2_000, "rdkafka");
    // Small batches, so that the time is looked for among many.
    let settings = [("batch.num.messages", "50")];
    produce(&server.bootstrap(), "replayed", &settings, &records);
    for at in [BEGIN_MS, BEGIN_MS + 1, BEGIN_MS + 1_234, BEGIN_MS + 1_999] {
        let stored = read(&server.bootstrap(), "replayed", PARTITIONS, Start::At(at));
        let mut replayed: Vec<Record> = stored.into_iter().map(|stored| stored.record).collect();
        replayed.sort_by_key(|record| record.timestamp);
        assert!(replayed == records[keyed_before(at)..], "replay from {at}");
    }
    let after = Start::At(BEGIN_MS + 2_000);
    assert!(read(&server.bootstrap(), "replayed", PARTITIONS, after).is_empty());
    compatibility::passed("rdkafka", compatibility::REPLAY);
}
