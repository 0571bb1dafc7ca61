//! librdkafka over TLS: with OpenSSL, which nothing of the server has in common with it.

use tempfile::tempdir;

use super::program::Program;
use super::rdkafka_client::Start;
use super::{PARTITIONS, assert_as_reported, keyed, odd};
use crate::server::fixed_port;
use crate::tls::{Files, launch};

/// Small records, and some of nearly a megabyte, which are many records of TLS each.
#[test]
fn confluent_kafka_writes_and_reads() {
    let test = "clients::tls::confluent_kafka_writes_and_reads";
    let Some(python) = Program::find_or_skip("confluent-kafka", test) else {
        return;
    };
    let (data, files) = (tempdir().unwrap(), Files::of("server"));
    let port = fixed_port();
    let bootstrap = format!("localhost:{port}");
    let server = launch(data.path(), &files).port(port).arguments(&["--advertise", &bootstrap]).start();
    let options = |version: &str| {
        [
            "security.protocol=ssl".to_owned(),
            format!("ssl.ca.location={}", files.authority()),
            // What librdkafka does by itself; it is said so that nobody has to know.
            "ssl.endpoint.identification.algorithm=https".to_owned(),
            format!("client.id=tls-{version}"),
        ]
        .into_iter()
        .flat_map(|setting| ["--set".to_owned(), setting])
        .collect::<Vec<_>>()
    };
    for (topic, records) in [("keyed", keyed(2_000, "python")), ("odd", odd())] {
        server.create_topic_with(&files, topic, PARTITIONS);
        let reports = python.produce(&bootstrap, topic, &options(topic), &records);
        let stored = python.read_with(&bootstrap, topic, PARTITIONS, Start::Beginning, &options(topic));
        assert_as_reported(topic, &records, &reports, &stored);
    }
}
