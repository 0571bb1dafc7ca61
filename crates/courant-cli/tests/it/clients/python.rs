//! Python services with confluent-kafka, through `clients/python/client.py`.

use tempfile::tempdir;

use super::program::Program;
use super::rdkafka_client::{self, Start};
use super::{
    BEGIN_MS, CLIENT_LIMIT, CODECS, KEYED_RECORDS, PARTITIONS, Record, Report, TOO_LARGE_VALUE_BYTES,
    assert_as_reported, assert_stored_as, keyed, keyed_before, odd,
};
use crate::Dice;
use crate::server::Server;

fn find_or_skip(test: &str) -> Option<Program> {
    Program::find_or_skip("confluent-kafka", &format!("clients::python::{test}"))
}

fn round_trip(python: &Program, settings: &[(&str, &str)], idempotent: bool) {
    let data = tempdir().unwrap();
    let server = Server::start(data.path());
    let records = keyed(KEYED_RECORDS, "python");
    for (code, codec) in CODECS.into_iter().enumerate() {
        let topic = format!("python.{codec}");
        server.create_topic(&topic, PARTITIONS);
        let set = settings.iter().flat_map(|(name, value)| ["--set".to_owned(), format!("{name}={value}")]);
        let options: Vec<_> = ["--codec".to_owned(), codec.to_owned()].into_iter().chain(set).collect();
        let reports = python.produce(&server.bootstrap(), &topic, &options, &records);
        let stored = python.read(&server.bootstrap(), &topic, PARTITIONS, Start::Beginning);
        assert_as_reported(&topic, &records, &reports, &stored);
        assert_stored_as(&server, &topic, code, idempotent);
    }
}

#[test]
fn keyed_records_in_every_codec() {
    if let Some(python) = find_or_skip("keyed_records_in_every_codec") {
        round_trip(&python, &[], false);
    }
}

#[test]
fn idempotent_records_in_every_codec() {
    if let Some(python) = find_or_skip("idempotent_records_in_every_codec") {
        round_trip(&python, &[("enable.idempotence", "true")], true);
    }
}

#[test]
fn odd_records() {
    let Some(python) = find_or_skip("odd_records") else {
        return;
    };
    let data = tempdir().unwrap();
    let server = Server::start(data.path());
    let reports = python.produce(&server.bootstrap(), "odd", &[], &odd());
    let stored = python.read(&server.bootstrap(), "odd", 1, Start::Beginning);
    assert_as_reported("odd", &odd(), &reports, &stored);
}

#[test]
fn too_large_is_refused_as_such() {
    let Some(python) = find_or_skip("too_large_is_refused_as_such") else {
        return;
    };
    let data = tempdir().unwrap();
    let server = Server::start(data.path());
    let large = Dice::new(2).bytes(TOO_LARGE_VALUE_BYTES);
    let record = Record::new(None, Some(&large)).at(BEGIN_MS);
    let limit = ["--max-bytes".to_owned(), CLIENT_LIMIT.to_owned()];
    let refused = python.produce(&server.bootstrap(), "large", &limit, &[record]);
    assert_eq!(refused, [Report::Err("MSG_SIZE_TOO_LARGE".to_owned())]);
}

#[test]
fn replay_from_a_timestamp() {
    let Some(python) = find_or_skip("replay_from_a_timestamp") else {
        return;
    };
    let data = tempdir().unwrap();
    let server = Server::start(data.path());
    server.create_topic("replayed", PARTITIONS);
    let records = keyed(2_000, "python");
    let settings = [("batch.num.messages", "50")];
    rdkafka_client::produce(&server.bootstrap(), "replayed", &settings, &records);
    let at = BEGIN_MS + 777;
    let stored = python.read(&server.bootstrap(), "replayed", PARTITIONS, Start::At(at));
    let mut replayed: Vec<Record> = stored.into_iter().map(|stored| stored.record).collect();
    replayed.sort_by_key(|record| record.timestamp);
    assert!(replayed == records[keyed_before(at)..], "replay from {at}");
}
