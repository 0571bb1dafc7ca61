//! Clients that nobody here wrote, with their default configurations.

pub(crate) mod kcat;
pub(crate) mod program;
pub(crate) mod rdkafka_client;

mod cases;
mod compatibility;
mod crossing;
mod groups;
mod guide;
pub(crate) mod member;
mod python;
mod tls;

use std::collections::HashMap;

use crate::raw;
use crate::server::Server;

/// Kafka's codecs by the names that clients use; the position is the code in a batch's attributes.
const CODECS: [&str; 5] = ["none", "gzip", "snappy", "lz4", "zstd"];

/// Records of each workload.
const KEYED_RECORDS: usize = 10_000;

const PARTITIONS: i32 = 3;

/// The largest record that every client sends without being asked twice.
const LARGE_VALUE_BYTES: usize = 900_000;

/// More than a topic takes by default (`max.message.bytes`), and not compressible.
const TOO_LARGE_VALUE_BYTES: usize = 2_000_000;

/// What a client's own limit is raised to, so that it is the server that refuses.
const CLIENT_LIMIT: &str = "4000000";

/// When the first record of a workload happened, milliseconds since 1970.
const BEGIN_MS: i64 = 1_790_000_000_000;

/// A record as a client writes it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Record {
    pub(crate) key: Option<Vec<u8>>,
    pub(crate) value: Option<Vec<u8>>,
    pub(crate) headers: Vec<(String, Option<Vec<u8>>)>,
    /// Milliseconds since 1970; none lets the client take its own time.
    pub(crate) timestamp: Option<i64>,
}

/// A record as a client reads it; its timestamp is always there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Stored {
    pub(crate) partition: i32,
    pub(crate) offset: i64,
    pub(crate) record: Record,
}

/// What became of a record: partition and offset, or the name of the client's error.
type Report = Result<(i32, i64), String>;

impl Record {
    fn new(key: Option<&[u8]>, value: Option<&[u8]>) -> Record {
        Record {
            key: key.map(<[u8]>::to_vec),
            value: value.map(<[u8]>::to_vec),
            headers: Vec::new(),
            timestamp: None,
        }
    }

    fn header(mut self, name: &str, value: Option<&[u8]>) -> Record {
        self.headers.push((name.to_owned(), value.map(<[u8]>::to_vec)));
        self
    }

    fn at(mut self, timestamp: i64) -> Record {
        self.timestamp = Some(timestamp);
        self
    }
}

/// A value that every codec makes smaller even when it is alone in its batch: librdkafka stores a
/// batch uncompressed when compression does not pay.
fn value_of(number: usize) -> String {
    format!(r#"{{"order":{number:08},"state":"placed","note":"{}"}}"#, "again ".repeat(30))
}

/// Keyed records with headers, one millisecond apart.
pub(crate) fn keyed(count: usize, client: &str) -> Vec<Record> {
    (0..count)
        .zip(BEGIN_MS..)
        .map(|(number, at)| {
            let key = format!("customer-{}", number % 997);
            Record::new(Some(key.as_bytes()), Some(value_of(number).as_bytes()))
                .header("written-by", Some(client.as_bytes()))
                .header("number", Some(number.to_string().as_bytes()))
                .at(at)
        })
        .collect()
}

/// Records at the edges of what Kafka allows.
fn odd() -> Vec<Record> {
    let large = crate::Dice::new(900).bytes(LARGE_VALUE_BYTES);
    vec![
        Record::new(None, Some(b"a null key")),
        Record::new(Some(b"a null value"), None),
        Record::new(Some(b"an empty value"), Some(b"")),
        Record::new(Some(b""), Some(b"an empty key")),
        Record::new(None, None),
        Record::new(Some(b"900 kB"), Some(&large)),
        Record::new(Some(b"\x00\xff\n\t"), Some(b"\x00\xff\n\t")),
        Record::new(Some(b"headers"), Some(b"of all kinds"))
            .header("null", None)
            .header("empty", Some(b""))
            .header("bytes", Some(b"\x01\xfe\xff"))
            .header("twice", Some(b"1"))
            .header("twice", Some("größer".as_bytes())),
    ]
    .into_iter()
    .zip(BEGIN_MS..)
    .map(|(record, at)| record.at(at))
    .collect()
}

/// Fails unless each record is where its report says, exactly as it was written, and nothing else is
/// there.
fn assert_as_reported(what: &str, written: &[Record], reports: &[Report], stored: &[Stored]) {
    assert_eq!(written.len(), reports.len(), "{what}: reports");
    assert_eq!(written.len(), stored.len(), "{what}: records read");
    let by_place: HashMap<(i32, i64), &Record> =
        stored.iter().map(|stored| ((stored.partition, stored.offset), &stored.record)).collect();
    for (record, report) in written.iter().zip(reports) {
        let place = match report {
            Ok(place) => place,
            Err(error) => panic!("{what}: {error} for {}", brief(record)),
        };
        let found = by_place.get(place).copied();
        assert!(
            found == Some(record),
            "{what}: at {place:?} is {:?} and not {}",
            found.map(brief),
            brief(record)
        );
    }
}

/// A record without the weight of its value.
fn brief(record: &Record) -> String {
    let value = record.value.as_deref();
    let start = value.map(|value| String::from_utf8_lossy(&value[..value.len().min(40)]));
    format!(
        "key {:?}, {:?} bytes {start:?}, headers {:?}, at {:?}",
        record.key,
        value.map(<[u8]>::len),
        record.headers,
        record.timestamp
    )
}

/// Fails unless a topic holds the keyed records, and all in batches with this codec and with or
/// without a producer's id.
fn assert_stored_as(server: &Server, topic: &str, codec: usize, idempotent: bool) {
    let mut connection = raw::Connection::open(server.kafka());
    let mut records = 0;
    for partition in 0..PARTITIONS {
        for batch in connection.batches(topic, partition) {
            assert_eq!(
                usize::try_from(batch.codec),
                Ok(codec),
                "{topic}/{partition} holds {batch:?}, asked for {}",
                CODECS[codec]
            );
            assert_eq!(batch.producer_id >= 0, idempotent, "{topic}/{partition} holds {batch:?}");
            records += batch.records;
        }
    }
    assert_eq!(usize::try_from(records), Ok(KEYED_RECORDS), "{topic}");
}

/// How many of the records from [`keyed`] are at least this old, counted from the first.
fn keyed_before(at: i64) -> usize {
    usize::try_from(at - BEGIN_MS).expect("a time of the workload")
}
