//! Python services with confluent-kafka, through `clients/python/client.py`.

use tempfile::tempdir;

use super::program::Program;
use super::rdkafka_client::Start;
use super::{CODECS, KEYED_RECORDS, PARTITIONS, assert_as_reported, assert_stored_as, keyed, odd};
use crate::server::Server;

fn find_or_skip(test: &str) -> Option<Program> {
    Program::find_or_skip("confluent-kafka", &format!("clients::python::{test}"))
}

#[test]
fn idempotent_records_in_every_codec() {
    let Some(python) = find_or_skip("idempotent_records_in_every_codec") else {
        return;
    };
    let data = tempdir().unwrap();
    let server = Server::start(data.path());
    let records = keyed(KEYED_RECORDS, "python");
    for (code, codec) in CODECS.into_iter().enumerate() {
        let topic = format!("python.{codec}");
        server.create_topic(&topic, PARTITIONS);
        let options = ["--codec", codec, "--set", "enable.idempotence=true"].map(str::to_owned);
        let reports = python.produce(&server.bootstrap(), &topic, &options, &records);
        let stored = python.read(&server.bootstrap(), &topic, PARTITIONS, Start::Beginning);
        assert_as_reported(&topic, &records, &reports, &stored);
        assert_stored_as(&server, &topic, code, true);
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
