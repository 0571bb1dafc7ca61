//! kcat: shell scripts, with the older librdkafka of the system's package.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use tempfile::tempdir;

use super::rdkafka_client::{self, Start};
use super::{
    BEGIN_MS, CLIENT_LIMIT, CODECS, KEYED_RECORDS, LARGE_VALUE_BYTES, PARTITIONS, Record, Stored,
    TOO_LARGE_VALUE_BYTES, assert_stored_as, compatibility, keyed, keyed_before,
};
use crate::server::Server;
use crate::{Dice, program, skip};

/// The `kcat` of this machine.
pub(crate) struct Kcat(PathBuf);

impl Kcat {
    pub(crate) fn find() -> Option<Kcat> {
        program("kcat", "-V").map(Kcat)
    }

    fn find_or_skip(test: &str) -> Option<Kcat> {
        let found = Kcat::find();
        if found.is_none() {
            skip(&format!("clients::kcat::{test}"), "kcat is not installed");
        }
        found
    }

    /// `kcat -P` with these arguments; the last names a file.
    pub(crate) fn try_produce(
        &self,
        bootstrap: &str,
        topic: &str,
        arguments: &[&str],
        file: &Path,
    ) -> Output {
        let mut all: Vec<&OsStr> = ["-P", "-b", bootstrap, "-t", topic].map(OsStr::new).into();
        all.extend(arguments.iter().map(OsStr::new));
        all.push(file.as_os_str());
        self.run(&all)
    }

    pub(crate) fn produce(&self, bootstrap: &str, topic: &str, arguments: &[&str], file: &Path) {
        let output = self.try_produce(bootstrap, topic, arguments, file);
        assert!(output.status.success(), "kcat -P: {output:?}");
    }

    /// Reads a topic to the end of all its partitions, in the order of partition and offset.
    pub(crate) fn read(&self, bootstrap: &str, topic: &str, start: Start) -> Vec<Stored> {
        let from = match start {
            Start::Beginning => "beginning".to_owned(),
            Start::At(at) => format!("s@{at}"),
        };
        let arguments = ["-C", "-q", "-e", "-b", bootstrap, "-t", topic, "-o", from.as_str()];
        let mut all: Vec<&OsStr> = arguments.map(OsStr::new).into();
        // Lengths before contents, so that every byte can be told from the frame around it.
        all.extend(["-f", r"%p %o %T %K %S\n%h\n%k%s\n"].map(OsStr::new));
        let output = self.run(&all);
        assert!(output.status.success(), "kcat -C: {}", String::from_utf8_lossy(&output.stderr));
        let mut rest = output.stdout.as_slice();
        let mut read = Vec::new();
        while !rest.is_empty() {
            read.push(stored(&mut rest));
        }
        read.sort_by_key(|stored| (stored.partition, stored.offset));
        read
    }

    fn run(&self, arguments: &[&OsStr]) -> Output {
        Command::new(&self.0)
            .args(arguments)
            // Whoever runs the tests may have settings of their own.
            .env("KCAT_CONFIG", "/dev/null")
            .stdin(Stdio::null())
            .output()
            .expect("kcat starts")
    }
}

fn stored(rest: &mut &[u8]) -> Stored {
    let numbers: Vec<i64> = line(rest)
        .split(|byte| *byte == b' ')
        .map(|word| String::from_utf8_lossy(word).parse().expect("a number"))
        .collect();
    let [partition, offset, timestamp, key_bytes, value_bytes] = numbers[..] else {
        panic!("kcat printed {numbers:?}");
    };
    let headers = headers(line(rest));
    let key = field(rest, key_bytes);
    let value = field(rest, value_bytes);
    assert_eq!(line(rest), b"", "the end of a record");
    Stored {
        partition: partition as i32,
        offset,
        record: Record { key, value, headers, timestamp: Some(timestamp) },
    }
}

fn line<'text>(rest: &mut &'text [u8]) -> &'text [u8] {
    let text: &'text [u8] = rest;
    let end = text.iter().position(|byte| *byte == b'\n');
    let end = end.expect("a whole line from kcat");
    *rest = &text[end + 1..];
    &text[..end]
}

/// A key or a value; null has the length -1.
fn field(rest: &mut &[u8], length: i64) -> Option<Vec<u8>> {
    let length = usize::try_from(length).ok()?;
    let (field, after) = rest.split_at(length);
    *rest = after;
    Some(field.to_vec())
}

/// `name=value,name=value`, where kcat writes a null value as `NULL`.
fn headers(line: &[u8]) -> Vec<(String, Option<Vec<u8>>)> {
    line.split(|byte| *byte == b',')
        .filter(|pair| !pair.is_empty())
        .map(|pair| {
            let split = pair.iter().position(|byte| *byte == b'=');
            let (name, value) = pair.split_at(split.expect("name=value"));
            let value = (&value[1..] != b"NULL").then(|| value[1..].to_vec());
            (String::from_utf8_lossy(name).into_owned(), value)
        })
        .collect()
}

/// The arguments that split a line into key and value and add the headers of [`as_kcat_writes`].
pub(crate) const KEYED: [&str; 7] = ["-K", "\t", "-H", "written-by=kcat", "-H", "note=one for all", "-l"];

/// A file of `key TAB value` lines.
pub(crate) fn keyed_lines(records: &[Record]) -> Vec<u8> {
    let mut lines = Vec::new();
    for record in records {
        lines.extend_from_slice(record.key.as_deref().unwrap_or_default());
        lines.push(b'\t');
        lines.extend_from_slice(record.value.as_deref().unwrap_or_default());
        lines.push(b'\n');
    }
    lines
}

/// What becomes of records that kcat writes: all have its headers, and its time.
pub(crate) fn as_kcat_writes(records: &[Record]) -> Vec<Record> {
    let mut written: Vec<Record> = records
        .iter()
        .map(|record| {
            Record::new(record.key.as_deref(), record.value.as_deref())
                .header("written-by", Some(b"kcat"))
                .header("note", Some(b"one for all"))
        })
        .collect();
    written.sort();
    written
}

/// Records that were read, in the form of [`as_kcat_writes`].
pub(crate) fn without_time(stored: &[Stored]) -> Vec<Record> {
    let mut records: Vec<Record> =
        stored.iter().map(|stored| Record { timestamp: None, ..stored.record.clone() }).collect();
    records.sort();
    records
}

#[test]
fn keyed_records_in_every_codec() {
    let Some(kcat) = Kcat::find_or_skip("keyed_records_in_every_codec") else {
        return;
    };
    let data = tempdir().unwrap();
    let files = tempdir().unwrap();
    let server = Server::start(data.path());
    let records = keyed(KEYED_RECORDS, "kcat");
    let file = files.path().join("lines");
    fs::write(&file, keyed_lines(&records)).unwrap();
    for (code, codec) in CODECS.into_iter().enumerate() {
        let topic = format!("kcat.{codec}");
        server.create_topic(&topic, PARTITIONS);
        let mut arguments = vec!["-z", codec];
        arguments.extend(KEYED);
        kcat.produce(&server.bootstrap(), &topic, &arguments, &file);
        let stored = kcat.read(&server.bootstrap(), &topic, Start::Beginning);
        assert!(without_time(&stored) == as_kcat_writes(&records), "{topic}: {} records read", stored.len());
        assert_in_order(&topic, &stored);
        assert_stored_as(&server, &topic, code, false);
    }
    for codec in CODECS {
        compatibility::passed("kcat", &compatibility::keyed_records_in(codec));
    }
}

/// The values begin with their number, and each partition holds a part of one sequence.
fn assert_in_order(topic: &str, stored: &[Stored]) {
    for pair in stored.windows(2) {
        if pair[0].partition == pair[1].partition {
            assert!(
                pair[0].record.value < pair[1].record.value,
                "{topic}: out of order at {:?}",
                (pair[1].partition, pair[1].offset)
            );
        }
    }
}

#[test]
fn odd_records() {
    let Some(kcat) = Kcat::find_or_skip("odd_records") else {
        return;
    };
    let data = tempdir().unwrap();
    let files = tempdir().unwrap();
    let server = Server::start(data.path());
    let large = Dice::new(900).bytes(LARGE_VALUE_BYTES);
    let file = files.path().join("input");
    let cases: [(&[u8], &[&str], Record); 5] = [
        (b"no key\n", &["-l"], Record::new(None, Some(b"no key"))),
        (b"k\t\n", &["-l", "-K", "\t"], Record::new(Some(b"k"), Some(b""))),
        (b"k\t\n", &["-l", "-K", "\t", "-Z"], Record::new(Some(b"k"), None)),
        (b"\tempty key\n", &["-l", "-K", "\t", "-Z"], Record::new(None, Some(b"empty key"))),
        (&large, &[], Record::new(None, Some(&large))),
    ];
    for (input, arguments, _) in &cases {
        fs::write(&file, input).unwrap();
        kcat.produce(&server.bootstrap(), "odd", arguments, &file);
    }
    let stored = kcat.read(&server.bootstrap(), "odd", Start::Beginning);
    assert_eq!(stored.len(), cases.len());
    for ((_, arguments, expected), stored) in cases.iter().zip(&stored) {
        let found = Record { timestamp: None, ..stored.record.clone() };
        assert!(found == *expected, "with {arguments:?}");
    }
}

#[test]
fn too_large_is_refused_as_such() {
    let Some(kcat) = Kcat::find_or_skip("too_large_is_refused_as_such") else {
        return;
    };
    let data = tempdir().unwrap();
    let files = tempdir().unwrap();
    let server = Server::start(data.path());
    let file = files.path().join("large");
    fs::write(&file, Dice::new(2).bytes(TOO_LARGE_VALUE_BYTES)).unwrap();
    let limit = format!("message.max.bytes={CLIENT_LIMIT}");
    let output = kcat.try_produce(&server.bootstrap(), "large", &["-X", &limit], &file);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success(), "kcat accepted it: {said}");
    assert!(said.contains("Broker: Message size too large"), "{said}");
    compatibility::passed("kcat", compatibility::TOO_LARGE);
}

#[test]
fn replay_from_a_timestamp() {
    let Some(kcat) = Kcat::find_or_skip("replay_from_a_timestamp") else {
        return;
    };
    let data = tempdir().unwrap();
    let server = Server::start(data.path());
    server.create_topic("replayed", PARTITIONS);
    let records = keyed(2_000, "rdkafka");
    // kcat cannot set timestamps.
    let settings = [("batch.num.messages", "50")];
    rdkafka_client::produce(&server.bootstrap(), "replayed", &settings, &records);
    let at = BEGIN_MS + 1_500;
    let stored = kcat.read(&server.bootstrap(), "replayed", Start::At(at));
    let mut replayed: Vec<Record> = stored.into_iter().map(|stored| stored.record).collect();
    replayed.sort_by_key(|record| record.timestamp);
    assert!(replayed == records[keyed_before(at)..], "replay from {at}");
    compatibility::passed("kcat", compatibility::REPLAY);
}

/// A member of a group that reads to the end and goes away; the next one has only what is new.
#[test]
fn a_member_goes_on_where_it_committed() {
    let Some(kcat) = Kcat::find_or_skip("a_member_goes_on_where_it_committed") else {
        return;
    };
    let data = tempdir().unwrap();
    let files = tempdir().unwrap();
    let server = Server::start(data.path());
    server.create_topic("orders", PARTITIONS);
    let file = files.path().join("lines");
    for round in 0..2 {
        let lines: Vec<String> = (0..300).map(|number| format!("{round}/{number}")).collect();
        fs::write(&file, lines.join("\n") + "\n").unwrap();
        kcat.produce(&server.bootstrap(), "orders", &["-l"], &file);
        let output = kcat.run(
            &[
                "-b",
                &server.bootstrap(),
                "-q",
                "-e",
                "-X",
                "auto.offset.reset=earliest",
                "-G",
                "billing",
                "orders",
            ]
            .map(OsStr::new),
        );
        assert!(output.status.success(), "kcat -G: {}", String::from_utf8_lossy(&output.stderr));
        let mut read: Vec<String> =
            String::from_utf8_lossy(&output.stdout).lines().map(str::to_owned).collect();
        read.sort_unstable();
        let mut written = lines;
        written.sort_unstable();
        assert_eq!(read, written);
    }
    compatibility::passed("kcat", compatibility::RESUME);
    let untold = "kcat runs to its end and cannot be told anything on the way";
    let untellable =
        [compatibility::SEEK, compatibility::COME_AND_GO, compatibility::RESTART, compatibility::CALM];
    for case in untellable {
        compatibility::unsupported("kcat", case, untold);
    }
    let uncreated = "kcat creates topics only by writing to them";
    compatibility::unsupported("kcat", compatibility::CREATE, uncreated);
}
