//! A server that may have few files open: events in many partitions, more clients than there are
//! connections, and so few that there is nothing to begin with.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use rdkafka::ClientConfig;
use rdkafka::client::ClientContext;
use rdkafka::message::{DeliveryResult, Message as _};
use rdkafka::producer::{BaseRecord, Producer as _, ProducerContext, ThreadedProducer};
use tempfile::tempdir;

use crate::ledger::{Id, Ledger};
use crate::load::reading;
use crate::raw::{Body, Connection, PRODUCE, batch};
use crate::server::{Launch, Server};
use crate::{PATIENCE, eventually};

const TOPIC: &str = "wide";

/// Many more than the server may have open.
const PARTITIONS: i32 = 1_000;

const FILES: usize = 160;

/// A server that may have so many files open, from its first moment on.
fn limited(data: &Path, files: usize) -> Launch {
    Launch::on(data).first(&format!("ulimit -n {files}"))
}

fn open_files(server: &Server) -> usize {
    fs::read_dir(format!("/proc/{}/fd", server.pid())).expect("the server runs").count()
}

/// Tells the ledger what was answered.
struct Recorder(Arc<Ledger>);

impl ClientContext for Recorder {}

impl ProducerContext for Recorder {
    type DeliveryOpaque = Box<Id>;

    fn delivery(&self, result: &DeliveryResult<'_>, id: Box<Id>) {
        match result {
            Ok(message) => self.0.acked(*id, message.offset()),
            Err((error, _)) => self.0.failed(*id, error.to_string()),
        }
    }
}

/// One more event in every partition, all of them acknowledged.
fn produce_to_all(server: &Server, ledger: &Arc<Ledger>, producer_number: u32) {
    let producer: ThreadedProducer<Recorder> = ClientConfig::new()
        .set("bootstrap.servers", server.bootstrap())
        .set("enable.idempotence", "true")
        .create_with_context(Recorder(Arc::clone(ledger)))
        .expect("a producer");
    for partition in 0..PARTITIONS {
        let id = ledger.sending(partition, producer_number);
        let value = ledger.value(id);
        let record = BaseRecord::<(), [u8], Box<Id>>::with_opaque_to(ledger.topic(), Box::new(id))
            .partition(partition)
            .payload(&value);
        producer.send(record).map_err(|(error, _)| error).expect("queued");
    }
    producer.flush(2 * PATIENCE).expect("all are answered");
}

/// An event in each of more partitions than files may be open, of another topic, in one request.
fn produce_at_once(server: &Server) {
    const AT_ONCE: &str = "at-once";
    let partitions = i32::try_from(FILES).expect("a few");
    server.create_topic(AT_ONCE, partitions);
    let records = batch(&[b"an event"]);
    // No transactional id, acks, milliseconds, topics.
    let head = Body::default().i16(-1).i16(-1).i32(60_000).i32(1).string(AT_ONCE).i32(partitions);
    let body = (0..partitions).fold(head, |body, partition| body.i32(partition).bytes(&records));
    let mut answer = Connection::open(server.kafka()).call(PRODUCE, 3, &body).expect("an answer to Produce");
    assert_eq!(answer.count().unwrap(), 1, "topics in the answer");
    answer.string().unwrap();
    for _ in 0..answer.count().unwrap() {
        let partition = answer.i32().unwrap();
        assert_eq!(answer.i16().unwrap(), 0, "{AT_ONCE}/{partition}");
        answer.i64().unwrap(); // base offset
        answer.i64().unwrap(); // time
    }
}

fn assert_all_there(server: &Server, ledger: &Ledger, when: &str) {
    let failures = ledger.failures();
    assert!(failures.is_empty(), "{when}: {:?}; the server said:\n{}", failures.first(), server.stderr());
    let read = reading(&server.bootstrap(), TOPIC, PARTITIONS);
    ledger.check(&ledger.acked_now(), &read).assert_clean(when);
    let open = open_files(server);
    assert!(open <= FILES, "{when}: {open} files are open");
}

/// A segment with unsynced bytes stays open until a checkpoint. Symptom: with a limit of 160 the writer
/// ended for good at the 143rd partition. Cause: nothing bounded how many segments wait for a checkpoint.
/// Fix: the bound follows from the limit, and appends wait.
#[test]
fn events_in_more_partitions_than_files_wait_and_are_all_there() {
    let data = tempdir().unwrap();
    let launch = limited(data.path(), FILES);
    let server = launch.start();
    server.create_topic(TOPIC, PARTITIONS);
    let ledger = Ledger::new(TOPIC);
    produce_to_all(&server, &ledger, 0);
    // Those may have come so slowly that there was always a checkpoint in time.
    produce_at_once(&server);
    assert!(server.counter("courant_log_file_waits_total") > 0, "nothing was short");
    assert_all_there(&server, &ledger, "after the first events");
    let (status, said) = server.stop();
    assert!(status.success(), "an orderly stop: {status}\n{said}");

    let server = launch.start();
    assert_all_there(&server, &ledger, "after an orderly stop");
    produce_to_all(&server, &ledger, 1);
    server.kill();
    let server = launch.start();
    assert_all_there(&server, &ledger, "after SIGKILL");
    assert_eq!(server.get("/readyz"), "ready\n");
    server.assert_well("events in many partitions");
}

#[test]
fn clients_above_the_limit_are_refused_and_all_others_are_served() {
    const FEW: usize = 128;
    let data = tempdir().unwrap();
    let server = limited(data.path(), FEW).start();
    server.create_topic(TOPIC, 20);
    let mut connections = Vec::new();
    let refused = (0..FEW).any(|_| {
        let mut connection = Connection::open(server.kafka());
        let is_served = connection.api_versions().is_ok();
        connections.push(connection);
        !is_served
    });
    assert!(refused, "{FEW} connections, and none was refused");
    connections.pop();
    assert!(connections.len() > FEW / 4, "no more than {} connections", connections.len());

    // They leave enough for the log, and for whoever looks after the server.
    for partition in 0..20 {
        let answer = connections[0].produce(TOPIC, partition, &batch(&[b"an event"])).expect("an answer");
        assert_eq!(answer, (0, 0), "the server said:\n{}", server.stderr());
    }
    assert_eq!(server.get("/readyz"), "ready\n");
    assert!(server.counter("courant_kafka_refused_total") > 0);
    assert_eq!(server.counter("courant_kafka_connections") as usize, connections.len());

    for connection in &mut connections {
        connection.api_versions().expect("whoever is there stays");
    }
    drop(connections);
    eventually("new clients are served", PATIENCE, || Connection::open(server.kafka()).api_versions().ok());
    server.assert_well("too many clients");
}

#[test]
fn a_limit_that_leaves_nothing_to_begin_with_is_refused_with_what_to_change() {
    let data = tempdir().unwrap();
    let Err(refused) = limited(data.path(), 48).try_start() else {
        panic!("the server started");
    };
    refused.assert_orderly();
    assert!(refused.stderr.contains("LimitNOFILE="), "{refused}");
    assert!(refused.stderr.contains("48"), "{refused}");
    assert_eq!(fs::read_dir(data.path()).unwrap().count(), 0, "nothing was made");
}
