//! Python services with confluent-kafka, through `clients/python/client.py`.

use std::fmt::Write as _;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use serde_json::{Value, json};
use tempfile::tempdir;

use super::rdkafka_client::{self, Start};
use super::{
    BEGIN_MS, CLIENT_LIMIT, CODECS, KEYED_RECORDS, PARTITIONS, Record, Report, Stored, TOO_LARGE_VALUE_BYTES,
    assert_as_reported, assert_stored_as, keyed, keyed_before, odd,
};
use crate::server::Server;
use crate::{Dice, python_script, skip};

/// A Python that has confluent-kafka.
pub(crate) struct Python(PathBuf);

impl Python {
    pub(crate) fn find() -> Option<Python> {
        std::env::var_os("COURANT_TEST_PYTHON").map(|path| Python(PathBuf::from(path)))
    }

    fn find_or_skip(test: &str) -> Option<Python> {
        let found = Python::find();
        if found.is_none() {
            skip(
                &format!("clients::python::{test}"),
                "COURANT_TEST_PYTHON names no Python with confluent-kafka",
            );
        }
        found
    }

    /// Writes records with the default configuration and these settings on top.
    pub(crate) fn produce(
        &self,
        bootstrap: &str,
        topic: &str,
        settings: &[(&str, &str)],
        records: &[Record],
    ) -> Vec<Report> {
        let mut arguments = vec!["produce".to_owned(), bootstrap.to_owned(), topic.to_owned()];
        for (name, value) in settings {
            arguments.extend(["--set".to_owned(), format!("{name}={value}")]);
        }
        self.run(&arguments, lines(records))
            .iter()
            .map(|report| match report["e"].as_str() {
                None => Ok((number(&report["p"]) as i32, number(&report["o"]))),
                Some(error) => Err(error.to_owned()),
            })
            .collect()
    }

    /// Reads a topic to the end of all its partitions, in the order of partition and offset.
    pub(crate) fn read(&self, bootstrap: &str, topic: &str, partitions: i32, start: Start) -> Vec<Stored> {
        let mut arguments =
            vec!["consume".to_owned(), bootstrap.to_owned(), topic.to_owned(), partitions.to_string()];
        if let Start::At(at) = start {
            arguments.extend(["--at".to_owned(), at.to_string()]);
        }
        let mut read: Vec<Stored> = self.run(&arguments, Vec::new()).iter().map(stored).collect();
        read.sort_by_key(|stored| (stored.partition, stored.offset));
        read
    }

    fn run(&self, arguments: &[String], input: Vec<u8>) -> Vec<Value> {
        let mut child = Command::new(&self.0)
            .arg(python_script("client.py"))
            .args(arguments)
            .env("PYTHONDONTWRITEBYTECODE", "1")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("Python starts");
        let mut stdin = child.stdin.take().expect("stdin is piped");
        // The script writes only after it has read everything; a broken pipe is its failure.
        let _ = stdin.write_all(&input);
        drop(stdin);
        let output = child.wait_with_output().expect("a child can be waited for");
        assert!(
            output.status.success(),
            "client.py {arguments:?}: {}\n{}",
            output.status,
            String::from_utf8_lossy(&output.stderr)
        );
        output
            .stdout
            .split(|byte| *byte == b'\n')
            .filter(|line| !line.is_empty())
            .map(|line| serde_json::from_slice(line).expect("a line of JSON"))
            .collect()
    }
}

fn lines(records: &[Record]) -> Vec<u8> {
    let mut lines = String::new();
    for record in records {
        let headers: Vec<Value> =
            record.headers.iter().map(|(name, value)| json!([name, hex(value.as_deref())])).collect();
        let line = json!({
            "k": hex(record.key.as_deref()),
            "v": hex(record.value.as_deref()),
            "h": headers,
            "t": record.timestamp,
        });
        writeln!(lines, "{line}").expect("writing to memory");
    }
    lines.into_bytes()
}

fn stored(line: &Value) -> Stored {
    let headers = line["h"].as_array().expect("headers").iter();
    Stored {
        partition: number(&line["p"]) as i32,
        offset: number(&line["o"]),
        record: Record {
            key: unhex(&line["k"]),
            value: unhex(&line["v"]),
            headers: headers
                .map(|header| {
                    let name = header[0].as_str().expect("a header's name");
                    (name.to_owned(), unhex(&header[1]))
                })
                .collect(),
            timestamp: Some(number(&line["t"])),
        },
    }
}

fn number(value: &Value) -> i64 {
    value.as_i64().expect("a number")
}

fn hex(bytes: Option<&[u8]>) -> Option<String> {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digit = |nibble: u8| char::from(DIGITS[usize::from(nibble)]);
    bytes.map(|bytes| bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]).collect())
}

fn unhex(value: &Value) -> Option<Vec<u8>> {
    let text = value.as_str()?.as_bytes();
    let nibble = |digit: u8| char::from(digit).to_digit(16).expect("a digit") as u8;
    Some(text.chunks_exact(2).map(|pair| (nibble(pair[0]) << 4) | nibble(pair[1])).collect())
}

fn round_trip(python: &Python, settings: &[(&str, &str)], idempotent: bool) {
    let data = tempdir().unwrap();
    let server = Server::start(data.path());
    let records = keyed(KEYED_RECORDS, "python");
    for (code, codec) in CODECS.into_iter().enumerate() {
        let topic = format!("python.{codec}");
        server.create_topic(&topic, PARTITIONS);
        let mut all = settings.to_vec();
        all.push(("compression.type", codec));
        let reports = python.produce(&server.bootstrap(), &topic, &all, &records);
        let stored = python.read(&server.bootstrap(), &topic, PARTITIONS, Start::Beginning);
        assert_as_reported(&topic, &records, &reports, &stored);
        assert_stored_as(&server, &topic, code, idempotent);
    }
}

#[test]
fn keyed_records_in_every_codec() {
    if let Some(python) = Python::find_or_skip("keyed_records_in_every_codec") {
        round_trip(&python, &[], false);
    }
}

#[test]
fn idempotent_records_in_every_codec() {
    if let Some(python) = Python::find_or_skip("idempotent_records_in_every_codec") {
        round_trip(&python, &[("enable.idempotence", "true")], true);
    }
}

#[test]
fn odd_records() {
    let Some(python) = Python::find_or_skip("odd_records") else {
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
    let Some(python) = Python::find_or_skip("too_large_is_refused_as_such") else {
        return;
    };
    let data = tempdir().unwrap();
    let server = Server::start(data.path());
    let large = Dice::new(2).bytes(TOO_LARGE_VALUE_BYTES);
    let record = Record::new(None, Some(&large)).at(BEGIN_MS);
    let limit = [("message.max.bytes", CLIENT_LIMIT)];
    let refused = python.produce(&server.bootstrap(), "large", &limit, &[record]);
    assert_eq!(refused, [Report::Err("MSG_SIZE_TOO_LARGE".to_owned())]);
}

#[test]
fn replay_from_a_timestamp() {
    let Some(python) = Python::find_or_skip("replay_from_a_timestamp") else {
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
