//! What every program is put through beside groups, each with its library's defaults.

use tempfile::tempdir;

use super::program::{Program, Unsupported};
use super::rdkafka_client::{self, Start};
use super::{
    BEGIN_MS, CLIENT_LIMIT, CODECS, KEYED_RECORDS, PARTITIONS, Record, TOO_LARGE_VALUE_BYTES,
    assert_as_reported, assert_stored_as, compatibility, keyed, keyed_before,
};
use crate::Dice;
use crate::server::Server;

/// A client library, and what is particular to it.
struct Client {
    name: &'static str,
    /// Whether it numbers its batches when it is told nothing.
    is_idempotent: bool,
    /// What it calls a record that the server finds too large.
    too_large: &'static str,
}

impl Client {
    fn find_or_skip(&self, module: &str, test: &str) -> Option<Program> {
        Program::find_or_skip(self.name, &format!("clients::cases::{module}::{test}"))
    }
}

/// Creates topics, and writes and reads keyed records with headers in each codec.
fn keyed_records_in_every_codec(client: &Client, program: &Program) {
    let data = tempdir().unwrap();
    let server = Server::start(data.path());
    let records = keyed(KEYED_RECORDS, client.name);
    let mut outcomes = Vec::new();
    for (code, codec) in CODECS.into_iter().enumerate() {
        let topic = format!("keyed.{codec}");
        program.create(&server.bootstrap(), &topic, PARTITIONS);
        let options = ["--codec".to_owned(), codec.to_owned()];
        let reports = match program.try_produce(&server.bootstrap(), &topic, &options, &records) {
            Ok(reports) => reports,
            Err(unsupported) => {
                outcomes.push((codec, Err(unsupported)));
                continue;
            }
        };
        let stored = program.read(&server.bootstrap(), &topic, PARTITIONS, Start::Beginning);
        assert_as_reported(&topic, &records, &reports, &stored);
        assert_stored_as(&server, &topic, code, client.is_idempotent);
        outcomes.push((codec, Ok(())));
    }
    compatibility::passed(client.name, compatibility::CREATE);
    for (codec, outcome) in outcomes {
        let case = compatibility::keyed_records_in(codec);
        match outcome {
            Ok(()) => compatibility::passed(client.name, &case),
            Err(Unsupported(reason)) => compatibility::unsupported(client.name, &case, &reason),
        }
    }
}

fn too_large_is_refused_as_such(client: &Client, program: &Program) {
    let data = tempdir().unwrap();
    let server = Server::start(data.path());
    server.create_topic("large", 1);
    let large = Dice::new(2).bytes(TOO_LARGE_VALUE_BYTES);
    let record = Record::new(None, Some(&large)).at(BEGIN_MS);
    let limit = ["--max-bytes".to_owned(), CLIENT_LIMIT.to_owned()];
    let refused = program.produce(&server.bootstrap(), "large", &limit, &[record]);
    assert_eq!(refused, [Err(client.too_large.to_owned())]);
    compatibility::passed(client.name, compatibility::TOO_LARGE);
}

fn replay_from_a_timestamp(client: &Client, program: &Program) {
    let data = tempdir().unwrap();
    let server = Server::start(data.path());
    server.create_topic("replayed", PARTITIONS);
    let records = keyed(2_000, "rdkafka");
    let settings = [("batch.num.messages", "50")];
    rdkafka_client::produce(&server.bootstrap(), "replayed", &settings, &records);
    let at = BEGIN_MS + 777;
    let stored = program.read(&server.bootstrap(), "replayed", PARTITIONS, Start::At(at));
    let mut replayed: Vec<Record> = stored.into_iter().map(|stored| stored.record).collect();
    replayed.sort_by_key(|record| record.timestamp);
    assert!(replayed == records[keyed_before(at)..], "replay from {at}");
    compatibility::passed(client.name, compatibility::REPLAY);
}

macro_rules! clients {
    ($($module:ident $name:literal idempotent: $is_idempotent:literal, too_large: $too_large:literal;)*) => {
        $(
            mod $module {
                use super::Client;

                const CLIENT: Client =
                    Client { name: $name, is_idempotent: $is_idempotent, too_large: $too_large };

                clients!(@tests $module: keyed_records_in_every_codec, too_large_is_refused_as_such,
                    replay_from_a_timestamp);
            }
        )*
    };
    (@tests $module:ident: $($test:ident),*) => {
        $(
            #[test]
            fn $test() {
                if let Some(program) = CLIENT.find_or_skip(stringify!($module), stringify!($test)) {
                    super::$test(&CLIENT, &program);
                }
            }
        )*
    };
}

clients! {
    confluent_kafka "confluent-kafka" idempotent: false, too_large: "MSG_SIZE_TOO_LARGE";
    kafka_python "kafka-python" idempotent: true, too_large: "MessageSizeTooLargeError";
    aiokafka "aiokafka" idempotent: false, too_large: "MessageSizeTooLargeError";
    kafka_clients_3_9 "kafka-clients-3.9" idempotent: true, too_large: "RecordTooLargeException";
    kafka_clients_4 "kafka-clients-4" idempotent: true, too_large: "RecordTooLargeException";
    franz_go "franz-go" idempotent: true, too_large: "MESSAGE_TOO_LARGE";
    sarama "sarama" idempotent: false, too_large: "ErrMessageSizeTooLarge";
    kafkajs "kafkajs" idempotent: false, too_large: "MESSAGE_TOO_LARGE";
    platformatic_kafka "platformatic-kafka" idempotent: false, too_large: "MESSAGE_TOO_LARGE";
}
