//! The commands, as a person or a script at a shell meets them.

use std::fs;
use std::process::Output;

use serde_json::Value;
use tempfile::tempdir;

use crate::clients::kcat::Kcat;
use crate::server::{Launch, Server, courant, fixed_port};
use crate::skip;

const FAILED: i32 = 1;
const USAGE: i32 = 2;
const NOT_FOUND: i32 = 3;
const CONFLICT: i32 = 4;
const UNREACHABLE: i32 = 6;

/// Runs a command against this server.
pub(crate) fn run_with(server: &Server, arguments: &[&str], input: &str) -> Output {
    let bootstrap = server.bootstrap();
    let mut all = arguments.to_vec();
    all.extend(["--server", bootstrap.as_str()]);
    courant(&all, input)
}

pub(crate) fn run(server: &Server, arguments: &[&str]) -> Output {
    run_with(server, arguments, "")
}

/// stdout of a command that succeeded.
pub(crate) fn said(output: Output) -> String {
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{}: {stderr}", output.status);
    String::from_utf8(output.stdout).expect("stdout is text")
}

/// Each line of stdout as JSON: there is nothing there but data.
pub(crate) fn rows(output: Output) -> Vec<Value> {
    said(output).lines().map(|line| serde_json::from_str(line).expect("a line of JSON")).collect()
}

pub(crate) fn values(rows: &[Value]) -> Vec<&str> {
    rows.iter().map(|row| row["value"].as_str().expect("a value")).collect()
}

/// Fails unless a command ended with this code, with a sentence on stderr and nothing on stdout.
pub(crate) fn assert_fails(output: &Output, code: i32, word: &str) {
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{stderr}");
    assert!(stderr.contains(word), "no {word:?} in {stderr:?}");
    assert!(!stderr.contains("panicked"), "{stderr}");
    assert!(output.stdout.is_empty(), "{:?}", output.stdout);
}

#[test]
fn topics_are_created_listed_and_deleted() {
    let data = tempdir().unwrap();
    let server = Server::start(data.path());
    said(run(&server, &["topic", "create", "orders", "--partitions", "3"]));
    said(run(&server, &["topic", "create", "audit"]));
    let listed = rows(run(&server, &["topic", "list", "-o", "jsonl"]));
    let names: Vec<&str> = listed.iter().map(|row| row["name"].as_str().expect("a name")).collect();
    assert_eq!(names, ["audit", "orders"]);
    let document: Value =
        serde_json::from_str(&said(run(&server, &["topic", "list", "-o", "json"]))).unwrap();
    assert_eq!(document.as_array().map(Vec::len), Some(2));

    let again = run(&server, &["topic", "create", "orders"]);
    assert_fails(&again, CONFLICT, "orders");
    said(run(&server, &["topic", "delete", "orders", "--yes"]));
    let gone = run(&server, &["topic", "delete", "orders", "--yes"]);
    assert_fails(&gone, NOT_FOUND, "orders");
    let listed = rows(run(&server, &["topic", "list", "-o", "jsonl"]));
    assert_eq!(listed.len(), 1);
}

#[test]
fn bad_configs_are_refused_by_name() {
    let data = tempdir().unwrap();
    let server = Server::start(data.path());
    for (name, value) in [("retention.sm", "1"), ("max.message.bytes", "many")] {
        let setting = format!("{name}={value}");
        let refused = run(&server, &["topic", "create", "t", "--config", &setting]);
        let stderr = String::from_utf8_lossy(&refused.stderr);
        assert!(!refused.status.success(), "{setting} was accepted");
        assert!(stderr.contains(name), "no {name} in {stderr:?}");
    }
    assert!(rows(run(&server, &["topic", "list", "-o", "jsonl"])).is_empty());
}

/// Symptom: whoever was told that an event is too large was sent to `courant topic show`, which shows no configs, and to
/// create the topic anew. Cause: the sentence is older than `courant topic alter`. Fix: it says what helps.
#[test]
fn an_event_that_is_too_large_is_told_what_lets_it_in() {
    let data = tempdir().unwrap();
    let server = Server::start(data.path());
    said(run(&server, &["topic", "create", "t", "--config", "max.message.bytes=1000"]));
    let value = "x".repeat(2_000);
    let refused = run(&server, &["pub", "t", &value]);
    let remedy = "courant topic alter t --config max.message.bytes=BYTES";
    assert_fails(&refused, FAILED, remedy);
    said(run(&server, &["topic", "alter", "t", "--config", "max.message.bytes=4000"]));
    said(run(&server, &["pub", "t", &value]));
}

#[test]
fn published_events_are_read_with_all_that_belongs_to_them() {
    let data = tempdir().unwrap();
    let server = Server::start(data.path());
    let publish = ["pub", "orders", "--key", "ORD-7", "-H", "source=shop", "hello"];
    said(run(&server, &publish));
    said(run_with(&server, &["pub", "orders", "-l"], "one\ntwo\n"));
    said(run_with(&server, &["pub", "orders"], "all of\nthe input"));
    let read = rows(run(&server, &["tail", "orders", "-o", "jsonl"]));
    assert_eq!(values(&read), ["hello", "one", "two", "all of\nthe input"]);
    assert_eq!(read[0]["key"], "ORD-7");
    assert_eq!(read[1]["key"], Value::Null);
    assert_eq!(read[0]["topic"], "orders");
    assert_eq!(read[3]["offset"], 3);
    assert_eq!(read[3]["partition"], 0);
    let headers = read[0]["headers"].to_string();
    assert!(headers.contains("source") && headers.contains("shop"), "{headers}");

    let document = said(run(&server, &["tail", "orders", "-o", "json"]));
    let document: Vec<Value> = serde_json::from_str(&document).unwrap();
    assert_eq!(values(&document), values(&read));
}

/// Symptom: `courant pub orders < /dev/null`, and `generator | courant pub orders` of a generator that had failed,
/// published an empty event and ended with 0. Cause: all of stdin was an event, also when there was none. Fix: then
/// nothing is published, and that is said. An empty event is asked for by an empty argument.
#[test]
fn an_empty_input_is_no_event_and_an_empty_argument_is_one() {
    let data = tempdir().unwrap();
    let server = Server::start(data.path());
    let alone: &[&str] = &["pub", "orders"];
    for line in [alone, &["pub", "orders", "--dry-run"], &["pub", "orders", "--key", "ORD-7"]] {
        let refused = run(&server, line);
        assert_fails(&refused, FAILED, "stdin is empty, and nothing was published");
    }
    assert!(rows(run(&server, &["topic", "list", "-o", "jsonl"])).is_empty(), "it was published to");
    said(run(&server, &["pub", "orders", ""]));
    said(run_with(&server, &["pub", "orders", "-l"], "\n"));
    // So many lines as there are, also none.
    said(run(&server, &["pub", "orders", "-l"]));
    let read = rows(run(&server, &["tail", "orders", "-o", "jsonl"]));
    assert_eq!(values(&read), ["", ""]);
}

#[test]
fn tail_begins_where_it_is_told() {
    let data = tempdir().unwrap();
    let server = Server::start(data.path());
    let lines: String = (0..10).map(|number| format!("line {number}\n")).collect();
    said(run_with(&server, &["pub", "log", "-l"], &lines));
    let from = |place: &str, count: &str| {
        let arguments = ["tail", "log", "--from", place, "-n", count, "-o", "jsonl"];
        let read = rows(run(&server, &arguments));
        values(&read).join(",")
    };
    assert_eq!(from("start", "2"), "line 0,line 1");
    assert_eq!(from("7", "100"), "line 7,line 8,line 9");
    assert_eq!(from("-2", "100"), "line 8,line 9");
    assert_eq!(from("end", "100"), "");
    assert_eq!(from("@2001-01-01T00:00:00Z", "1"), "line 0");
    assert_eq!(from("@2999-01-01T00:00:00Z", "1"), "");
    assert_eq!(from("start", "100").split(',').count(), 10);
    // Nothing was read, and that is said: the number may be one of another topic.
    let beyond = run(&server, &["tail", "log", "--from", "10", "-o", "jsonl"]);
    let said = String::from_utf8_lossy(&beyond.stderr).into_owned();
    assert!(said.contains("nothing at offset 10 yet; see `courant topic show log`"), "{said}");
    assert!(rows(beyond).is_empty());
}

#[test]
fn failures_have_the_codes_of_the_guide() {
    let data = tempdir().unwrap();
    let server = Server::start(data.path());
    let absent = run(&server, &["tail", "absent", "-o", "jsonl"]);
    assert_fails(&absent, NOT_FOUND, "absent");
    let made = rows(run(&server, &["topic", "list", "-o", "jsonl"]));
    assert!(made.is_empty(), "asking for a topic made it");
    assert_fails(&run(&server, &["tail"]), USAGE, "Usage");
    assert_fails(&run(&server, &["topic", "create", "a", "--partitions", "0"]), USAGE, "0");
    let address = format!("127.0.0.1:{}", fixed_port());
    let nobody = ["topic", "list", "--timeout", "2s", "--server", &address];
    assert_fails(&courant(&nobody, ""), UNREACHABLE, &address);
}

#[test]
fn other_addresses_take_a_word_for_it() {
    let data = tempdir().unwrap();
    let Err(refused) = Launch::on(data.path()).host("0.0.0.0").try_start() else {
        panic!("it listens to everybody");
    };
    assert!(refused.ended && !refused.status.success(), "{refused}");
    assert!(refused.stderr.contains("--insecure"), "{refused}");
}

/// The first page of the guide: a log file through kcat, kill -9, start again, read.
#[test]
fn a_log_file_survives_kill_9() {
    let Some(kcat) = Kcat::find() else {
        skip("cli::a_log_file_survives_kill_9", "kcat is not installed");
        return;
    };
    let data = tempdir().unwrap();
    let files = tempdir().unwrap();
    let lines: Vec<String> = (1..=2_000)
        .map(|number| format!("2026-11-01 12:00:00 status installed package-{number}:amd64 1.0"))
        .collect();
    let file = files.path().join("dpkg.log");
    fs::write(&file, lines.join("\n")).unwrap();

    let launch = Launch::on(data.path()).port(fixed_port());
    let server = launch.start();
    kcat.produce(&server.bootstrap(), "audit", &["-l"], &file);
    server.kill();
    let server = launch.start();
    let first = ["tail", "audit", "--from", "start", "-n", "5", "-o", "jsonl"];
    let read = rows(run(&server, &first));
    assert_eq!(values(&read), lines[..5]);
    let read = rows(run(&server, &["tail", "audit", "--from", "start", "-o", "jsonl"]));
    assert_eq!(values(&read), lines);
}
