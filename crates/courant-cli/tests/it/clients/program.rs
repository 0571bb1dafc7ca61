//! Client programs in other processes, all of which speak the lines of `clients/python/lines.py`.

use std::ffi::OsString;
use std::fmt::Write as _;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use super::rdkafka_client::Start;
use super::{Record, Report, Stored};
use crate::{python_script, skip};

/// What a program is written in, and where the tests find it.
#[derive(Clone, Copy)]
enum Runs {
    /// A script of `clients/python`.
    Python(&'static str),
    /// `clients/java`, compiled for the version of the library that the variable stands for.
    Java(&'static str),
    /// A program of `clients/go/cmd`.
    Go(&'static str),
    /// A program of `clients/node`.
    Node(&'static str),
}

/// Programs that create, produce and consume, by the name of their library.
const LIBRARIES: [(&str, Runs); 9] = [
    ("confluent-kafka", Runs::Python("client.py")),
    ("kafka-python", Runs::Python("kafka_python_client.py")),
    ("aiokafka", Runs::Python("aiokafka_client.py")),
    ("kafka-clients-3.9", Runs::Java("COURANT_TEST_JAVA_39")),
    ("kafka-clients-4", Runs::Java("COURANT_TEST_JAVA_4")),
    ("franz-go", Runs::Go("franz")),
    ("sarama", Runs::Go("sarama")),
    ("kafkajs", Runs::Node("kafkajs.mjs")),
    ("platformatic-kafka", Runs::Node("platformatic.mjs")),
];

impl Runs {
    /// The variable that says where it is.
    fn variable(self) -> &'static str {
        match self {
            Runs::Python(_) => "COURANT_TEST_PYTHON",
            Runs::Java(variable) => variable,
            Runs::Go(_) => "COURANT_TEST_GO",
            Runs::Node(_) => "COURANT_TEST_NODE_CLIENTS",
        }
    }

    /// The words that start it, if this machine has been prepared for it.
    fn words(self) -> Option<Vec<OsString>> {
        let place = PathBuf::from(std::env::var_os(self.variable())?);
        Some(match self {
            Runs::Python(script) => vec![place.into(), python_script(script).into()],
            Runs::Java(_) => java(&place, "courant.acceptance.Main"),
            Runs::Go(program) => vec![place.join(program).into()],
            Runs::Node(program) => node(&place, program),
        })
    }
}

/// The words that start a class of Java in the folder of its jars. A short life is not worth the
/// second compiler, nor threads that collect garbage.
pub(crate) fn java(folder: &Path, class: &str) -> Vec<OsString> {
    let mut classpath = folder.join("*").into_os_string();
    classpath.push(":");
    classpath.push(folder);
    vec![
        "java".into(),
        "-XX:TieredStopAtLevel=1".into(),
        "-XX:+UseSerialGC".into(),
        "-cp".into(),
        classpath,
        class.into(),
    ]
}

/// The words that start a program of Node.js in the folder of its packages, which may hold a Node.js
/// that is newer than the machine's.
pub(crate) fn node(folder: &Path, program: &str) -> Vec<OsString> {
    let packaged = folder.join("node_modules/.bin/node");
    let node = if packaged.is_file() { packaged.into_os_string() } else { "node".into() };
    vec![node, folder.join(program).into()]
}

/// The exit code of a program whose library has no means for what it was asked.
const EXIT_UNSUPPORTED: i32 = 3;

/// Why a library cannot do what it was asked.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Unsupported(pub(crate) String);

/// One program: a client library nobody here wrote, and the lines that drive it.
pub(crate) struct Program {
    name: &'static str,
    command: Vec<OsString>,
}

impl Program {
    /// The program of that library, if this machine has been prepared for it.
    pub(crate) fn find(name: &str) -> Option<Program> {
        let (name, runs) = LIBRARIES.into_iter().find(|(known, _)| *known == name)?;
        Some(Program { name, command: runs.words()? })
    }

    /// As [`Program::find`]; a missing one is said.
    pub(crate) fn find_or_skip(name: &str, test: &str) -> Option<Program> {
        let found = Program::find(name);
        if found.is_none() {
            skip(test, &format!("no program with {name} has been prepared"));
        }
        found
    }

    /// All of them.
    pub(crate) fn all() -> Vec<Program> {
        LIBRARIES.into_iter().filter_map(|(name, _)| Program::find(name)).collect()
    }

    /// Whether none is missing.
    pub(crate) fn all_are_here() -> bool {
        LIBRARIES.into_iter().all(|(_, runs)| std::env::var_os(runs.variable()).is_some())
    }

    pub(crate) fn name(&self) -> &'static str {
        self.name
    }

    /// The odd records that the library writes. Two refuse one with neither key nor value, and two a
    /// header that is null.
    pub(crate) fn odd(&self) -> Vec<Record> {
        let mut odd = super::odd();
        if ["kafka-python", "aiokafka"].contains(&self.name) {
            odd.retain(|record| record.key.is_some() || record.value.is_some());
        }
        if ["kafka-python", "kafkajs"].contains(&self.name) {
            odd.retain(|record| record.headers.iter().all(|(_, value)| value.is_some()));
        }
        odd
    }

    /// The program, ready to be told what to do.
    pub(crate) fn command(&self) -> Command {
        let mut command = Command::new(&self.command[0]);
        command.args(&self.command[1..]).env("PYTHONDONTWRITEBYTECODE", "1");
        command
    }

    /// Creates a topic with the library's own administration.
    pub(crate) fn create(&self, bootstrap: &str, topic: &str, partitions: i32) {
        let arguments = ["create".to_owned(), bootstrap.to_owned(), topic.to_owned(), partitions.to_string()];
        let said = self.run(&arguments, Vec::new());
        assert_eq!(said.as_deref(), Ok([json!({"created": topic})].as_slice()));
    }

    /// Writes records with the default configuration and these options.
    pub(crate) fn produce(
        &self,
        bootstrap: &str,
        topic: &str,
        options: &[String],
        records: &[Record],
    ) -> Vec<Report> {
        let reports = self.try_produce(bootstrap, topic, options, records);
        reports.unwrap_or_else(|Unsupported(reason)| panic!("{}: {reason}", self.name))
    }

    /// As [`Program::produce`], where the library may lack what the options ask for.
    pub(crate) fn try_produce(
        &self,
        bootstrap: &str,
        topic: &str,
        options: &[String],
        records: &[Record],
    ) -> Result<Vec<Report>, Unsupported> {
        let mut arguments = vec!["produce".to_owned(), bootstrap.to_owned(), topic.to_owned()];
        arguments.extend_from_slice(options);
        let reports = self.run(&arguments, lines(records))?;
        let report = |report: &Value| match report["e"].as_str() {
            None => Ok((number(&report["p"]) as i32, number(&report["o"]))),
            Some(error) => Err(error.to_owned()),
        };
        Ok(reports.iter().map(report).collect())
    }

    /// Reads a topic to the end of all its partitions, in the order of partition and offset.
    pub(crate) fn read(&self, bootstrap: &str, topic: &str, partitions: i32, start: Start) -> Vec<Stored> {
        self.read_with(bootstrap, topic, partitions, start, &[])
    }

    /// As [`Program::read`], with these options on top of the default configuration.
    pub(crate) fn read_with(
        &self,
        bootstrap: &str,
        topic: &str,
        partitions: i32,
        start: Start,
        options: &[String],
    ) -> Vec<Stored> {
        let mut arguments =
            vec!["consume".to_owned(), bootstrap.to_owned(), topic.to_owned(), partitions.to_string()];
        if let Start::At(at) = start {
            arguments.extend(["--at".to_owned(), at.to_string()]);
        }
        arguments.extend_from_slice(options);
        let said = self.run(&arguments, Vec::new()).expect("every library reads");
        let mut read: Vec<Stored> = said.iter().map(stored).collect();
        read.sort_by_key(|stored| (stored.partition, stored.offset));
        read
    }

    fn run(&self, arguments: &[String], input: Vec<u8>) -> Result<Vec<Value>, Unsupported> {
        let mut child = self
            .command()
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the program starts");
        let mut stdin = child.stdin.take().expect("stdin is piped");
        // The program writes only after it has read everything; a broken pipe is its failure.
        let _ = stdin.write_all(&input);
        drop(stdin);
        let output = child.wait_with_output().expect("a child can be waited for");
        let complaint = String::from_utf8_lossy(&output.stderr);
        if output.status.code() == Some(EXIT_UNSUPPORTED)
            && let Some(reason) = complaint.lines().find_map(|line| line.strip_prefix("UNSUPPORTED: "))
        {
            return Err(Unsupported(reason.to_owned()));
        }
        assert!(output.status.success(), "{} {arguments:?}: {}\n{complaint}", self.name, output.status);
        let lines = output.stdout.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
        Ok(lines.map(|line| serde_json::from_slice(line).expect("a line of JSON")).collect())
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

pub(super) fn number(value: &Value) -> i64 {
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
