//! Each client reads what the others wrote, byte for byte.

use std::fs;

use tempfile::tempdir;

use super::kcat::{self, Kcat};
use super::program::{Program, Unsupported};
use super::rdkafka_client::{self, Start};
use super::{CODECS, PARTITIONS, Record, Report, Stored, assert_as_reported, compatibility, keyed, odd};
use crate::server::Server;
use crate::skip;

/// Records of one writer in one codec.
const RECORDS: usize = 200;

/// The clients of this machine. rdkafka is always there: it is compiled in.
struct Readers {
    kcat: Option<Kcat>,
    programs: Vec<Program>,
}

impl Readers {
    /// Reads a topic with every client, fails when they differ, and returns what all have seen.
    fn read(&self, server: &Server, topic: &str) -> Vec<Stored> {
        let bootstrap = server.bootstrap();
        let seen = rdkafka_client::read(&bootstrap, topic, PARTITIONS, Start::Beginning);
        if let Some(kcat) = &self.kcat {
            let others = kcat.read(&bootstrap, topic, Start::Beginning);
            assert_same(topic, "kcat", &seen, &others);
        }
        for program in &self.programs {
            let others = program.read(&bootstrap, topic, PARTITIONS, Start::Beginning);
            assert_same(topic, program.name(), &seen, &others);
        }
        seen
    }
}

fn assert_same(topic: &str, client: &str, seen: &[Stored], others: &[Stored]) {
    assert_eq!(seen.len(), others.len(), "{topic}: records that {client} reads");
    for (ours, theirs) in seen.iter().zip(others) {
        assert!(
            ours == theirs,
            "{topic}: {client} reads\n{} where rdkafka reads\n{}",
            super::brief(&theirs.record),
            super::brief(&ours.record)
        );
    }
}

/// Everything a writer writes: keyed records in each codec, then the odd ones.
fn write(
    client: &str,
    odd: Vec<Record>,
    produce: impl Fn(Option<&str>, &[Record]) -> Result<Vec<Report>, Unsupported>,
) -> (Vec<Record>, Vec<Report>) {
    let mut written = Vec::new();
    let mut reports = Vec::new();
    for codec in CODECS {
        let records = keyed(RECORDS, client);
        // The table of clients names a codec that the library lacks.
        if let Ok(reported) = produce(Some(codec), &records) {
            reports.extend(reported);
            written.extend(records);
        }
    }
    reports.extend(produce(None, &odd).expect("no codec is asked for"));
    written.extend(odd);
    (written, reports)
}

#[test]
fn each_client_reads_what_the_others_wrote() {
    let readers = Readers { kcat: Kcat::find(), programs: Program::all() };
    if readers.kcat.is_none() || !Program::all_are_here() {
        skip(
            "clients::crossing::each_client_reads_what_the_others_wrote",
            "it takes kcat and every client program",
        );
        return;
    }
    let data = tempdir().unwrap();
    let server = Server::start(data.path());
    server.create_topic("from.rdkafka", PARTITIONS);
    let (written, reports) = write("rdkafka", odd(), |codec, records| {
        let settings: Vec<_> = codec.map(|codec| ("compression.type", codec)).into_iter().collect();
        Ok(rdkafka_client::produce(&server.bootstrap(), "from.rdkafka", &settings, records))
    });
    let stored = readers.read(&server, "from.rdkafka");
    assert_as_reported("from.rdkafka", &written, &reports, &stored);

    for program in &readers.programs {
        let topic = format!("from.{}", program.name());
        program.create(&server.bootstrap(), &topic, PARTITIONS);
        let (written, reports) = write(program.name(), program.odd(), |codec, records| {
            let options = codec.map(|codec| ["--codec".to_owned(), codec.to_owned()]);
            let options: Vec<_> = options.into_iter().flatten().collect();
            program.try_produce(&server.bootstrap(), &topic, &options, records)
        });
        let stored = readers.read(&server, &topic);
        assert_as_reported(&topic, &written, &reports, &stored);
    }

    if let Some(writer) = &readers.kcat {
        server.create_topic("from.kcat", PARTITIONS);
        from_kcat(&server, &readers, writer);
    }

    let names = readers.programs.iter().map(Program::name);
    for name in names.chain(["rdkafka", "kcat"]) {
        compatibility::passed(name, "reads what all others wrote, in each codec");
    }
}

fn from_kcat(server: &Server, readers: &Readers, writer: &Kcat) {
    let files = tempdir().unwrap();
    let file = files.path().join("lines");
    let records = keyed(RECORDS, "kcat");
    fs::write(&file, kcat::keyed_lines(&records)).unwrap();
    let mut written = Vec::new();
    for codec in CODECS {
        let mut arguments = vec!["-z", codec];
        arguments.extend(kcat::KEYED);
        writer.produce(&server.bootstrap(), "from.kcat", &arguments, &file);
        written.extend(kcat::as_kcat_writes(&records));
    }
    written.sort();
    let stored = readers.read(server, "from.kcat");
    assert!(
        kcat::without_time(&stored) == written,
        "from.kcat: {} records read of {}",
        stored.len(),
        written.len()
    );
}
