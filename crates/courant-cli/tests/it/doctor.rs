//! `courant doctor`: beside a running server, without one, and where something is in the way.

use std::fs;
use std::io::Write as _;
use std::net::TcpListener;
use std::path::Path;
use std::process::Output;
use std::thread;

use serde_json::Value;
use tempfile::tempdir;

use crate::server::{Launch, Server, courant, fixed_port, unread};

const FAILED: i32 = 1;

/// Examines a server, or the lack of one, with these addresses.
fn doctor(data: &Path, kafka: &str, http: &str, more: &[&str]) -> Output {
    let data = data.to_str().expect("a path of text");
    let line = ["doctor", "-o", "json", "--timeout", "5s", "--data", data, "--kafka", kafka, "--http", http];
    courant(&[&line[..], more].concat(), "")
}

/// The findings, whatever the exit code.
fn findings(output: &Output) -> Vec<Value> {
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(!stderr.contains("panicked"), "{stderr}");
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {stderr}"))
}

fn finding<'a>(findings: &'a [Value], check: &str) -> &'a Value {
    findings
        .iter()
        .find(|finding| finding["check"] == check)
        .unwrap_or_else(|| panic!("no check of {check} in {findings:?}"))
}

/// Fails unless a check ended so, with these words in what was found or in what to change.
fn assert_verdict(findings: &[Value], check: &str, verdict: &str, word: &str) {
    let finding = finding(findings, check);
    assert_eq!(finding["verdict"], verdict, "{finding}");
    assert!(finding.to_string().contains(word), "no {word:?} in {finding}");
    assert_eq!(finding["change"].is_null(), verdict == "ok", "{finding}");
}

fn free_address() -> String {
    format!("127.0.0.1:{}", fixed_port())
}

/// A machine may have little memory, a slow disk or no IPv6; what depends on that is no failure.
fn assert_nothing_failed(output: &Output) {
    let findings = findings(output);
    let failed: Vec<_> = findings.iter().filter(|finding| finding["verdict"] == "failure").collect();
    assert!(failed.is_empty(), "{failed:?}");
    assert_eq!(output.status.code(), Some(0), "{findings:?}");
}

#[test]
fn without_a_server_the_ports_are_free_and_nothing_is_made() {
    let directory = tempdir().unwrap();
    let data = directory.path().join("data");
    let looked = doctor(&data, &free_address(), &free_address(), &[]);
    assert_nothing_failed(&looked);
    let found = findings(&looked);
    assert_verdict(&found, "kafka port", "ok", "is free");
    assert_verdict(&found, "http port", "ok", "is free");
    assert_verdict(&found, "data directory", "ok", "not there yet");
    assert_verdict(&found, "advertised address", "ok", "");
    for check in ["sync", "clock"] {
        finding(&found, check);
    }
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0, "something was left behind");
}

#[test]
fn a_running_server_is_found_and_not_disturbed() {
    let data = tempdir().unwrap();
    let server = Launch::on(data.path()).port(fixed_port()).start();
    server.create_topic("orders", 1);
    let http = server.http().to_string();
    let looked = doctor(data.path(), &server.bootstrap(), &http, &[]);
    assert_nothing_failed(&looked);
    let found = findings(&looked);
    assert_eq!(finding(&found, "kafka port")["verdict"].as_str().map(|v| v == "failure"), Some(false));
    assert_verdict(&found, "http port", "ok", "ready");
    assert_verdict(&found, "advertised address", "ok", "leads to it");
    if fs::File::open("/proc/locks").is_ok() {
        assert_verdict(&found, "kafka port", "ok", "a server answers");
        assert_verdict(&found, "data directory", "ok", &server.pid().to_string());
    }
    server.assert_well("a look at it");
    drop(server);
    Server::start(data.path()).assert_well("a look at its directory");
}

#[test]
fn a_foreign_program_at_a_port_fails_with_the_flag_to_change() {
    let data = tempdir().unwrap();
    let foreign = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = foreign.local_addr().unwrap().to_string();
    // Says something to everybody and hangs up, like a mail server that is full.
    thread::spawn(move || {
        for stream in foreign.incoming().flatten() {
            let _ = (&stream).write_all(b"421 too many connections\r\n");
        }
    });
    let looked = doctor(data.path(), &address, &address, &[]);
    assert_eq!(looked.status.code(), Some(FAILED));
    let found = findings(&looked);
    assert_verdict(&found, "kafka port", "failure", "--kafka");
    assert_verdict(&found, "http port", "failure", "--http");
}

#[test]
fn an_advertised_address_that_leads_nowhere_fails() {
    let data = tempdir().unwrap();
    let advertised = free_address();
    let server = Launch::on(data.path()).arguments(&["--advertise", &advertised]).start();
    let http = server.http().to_string();
    let looked = doctor(data.path(), &server.bootstrap(), &http, &[]);
    assert_eq!(looked.status.code(), Some(FAILED));
    let found = findings(&looked);
    assert_verdict(&found, "advertised address", "failure", &advertised);
    assert_verdict(&found, "advertised address", "failure", "--advertise");
}

#[test]
fn an_advertised_address_of_another_server_fails() {
    let (data, other_data) = (tempdir().unwrap(), tempdir().unwrap());
    let other = Server::start(other_data.path());
    let server = Launch::on(data.path()).arguments(&["--advertise", &other.bootstrap()]).start();
    let http = server.http().to_string();
    let looked = doctor(data.path(), &server.bootstrap(), &http, &[]);
    assert_eq!(looked.status.code(), Some(FAILED));
    assert_verdict(&findings(&looked), "advertised address", "failure", "another server");
}

#[test]
fn a_server_that_is_named_and_absent_fails() {
    let data = tempdir().unwrap();
    let nobody = free_address();
    let looked = doctor(data.path(), &free_address(), &free_address(), &["--server", &nobody]);
    assert_eq!(looked.status.code(), Some(FAILED));
    assert_verdict(&findings(&looked), "server", "failure", &nobody);

    let server_data = tempdir().unwrap();
    let server = Server::start(server_data.path());
    let looked = doctor(data.path(), &free_address(), &free_address(), &["--server", &server.bootstrap()]);
    assert_nothing_failed(&looked);
    assert_verdict(&findings(&looked), "server", "ok", &server.bootstrap());
}

#[test]
fn a_data_directory_that_is_a_file_fails() {
    let directory = tempdir().unwrap();
    let file = directory.path().join("data");
    fs::write(&file, "not a directory").unwrap();
    let looked = doctor(&file, &free_address(), &free_address(), &[]);
    assert_eq!(looked.status.code(), Some(FAILED));
    assert_verdict(&findings(&looked), "data directory", "failure", "--data");
}

/// Symptom: `courant doctor` found a data directory well on which the next start failed, such as one that a newer release
/// had written. Cause: it looked at who may write there, and not at what stands there. Fix: it reads what a start reads
/// first, and says what that would say.
#[test]
fn a_data_directory_that_no_server_would_start_on_fails() {
    let directory = tempdir().unwrap();
    let data = directory.path().join("data");
    let (status, said) = Server::start(&data).stop();
    assert!(status.success(), "{said}");
    assert_nothing_failed(&doctor(&data, &free_address(), &free_address(), &[]));

    let format = data.join("FORMAT");
    let line = fs::read_to_string(&format).unwrap();
    let id = line.split_whitespace().last().expect("an identity");
    fs::write(&format, format!("courant-log 4000 {id}\n")).unwrap();
    let newer = doctor(&data, &free_address(), &free_address(), &[]);
    assert_eq!(newer.status.code(), Some(FAILED));
    assert_verdict(&findings(&newer), "data directory", "failure", "newer release (format 4000)");

    fs::remove_file(&format).unwrap();
    let torn = doctor(&data, &free_address(), &free_address(), &[]);
    assert_eq!(torn.status.code(), Some(FAILED));
    assert_verdict(&findings(&torn), "data directory", "failure", "no FORMAT");
    let refused = Launch::on(&data).try_start().err().expect("no log");
    assert!(refused.stderr.contains("no FORMAT"), "{refused}");
}

#[test]
fn addresses_for_everybody_fail_without_a_word_for_it() {
    let data = tempdir().unwrap();
    let everybody = format!("0.0.0.0:{}", fixed_port());
    let looked = doctor(data.path(), &everybody, &free_address(), &[]);
    assert_eq!(looked.status.code(), Some(FAILED));
    assert_verdict(&findings(&looked), "kafka port", "failure", "--insecure");
    let looked = doctor(data.path(), &everybody, &free_address(), &["--insecure"]);
    assert_verdict(&findings(&looked), "kafka port", "ok", "is free");
}

#[test]
fn a_table_tells_people_what_to_change() {
    let directory = tempdir().unwrap();
    let file = directory.path().join("data");
    fs::write(&file, "not a directory").unwrap();
    let data = file.to_str().expect("a path of text");
    let (kafka, http) = (free_address(), free_address());
    let line = ["doctor", "-o", "table", "--data", data, "--kafka", &kafka, "--http", &http];
    let looked = courant(&line, "");
    assert_eq!(looked.status.code(), Some(FAILED));
    let table = String::from_utf8_lossy(&looked.stdout);
    assert!(table.starts_with("CHECK"), "{table}");
    let (_, changes) = table.split_once("\nWhat to change:\n").expect("what to change");
    assert!(changes.contains("  data directory: name another directory with --data"), "{table}");
}

/// Symptom: `courant doctor | grep -q failure` in a script under `pipefail` saw a doctor that was content. Cause and
/// fix: as for `courant log verify`, in `log_verify.rs`.
#[test]
fn what_fails_is_a_failure_also_when_nobody_reads_of_it() {
    let directory = tempdir().unwrap();
    let data = directory.path().to_str().expect("a path of text");
    let nobody = free_address();
    for format in ["table", "json", "jsonl"] {
        let line = ["doctor", "-o", format, "--timeout", "5s", "--data", data, "--server", &nobody];
        let ended = unread(&[&line[..], &["--kafka", &free_address(), "--http", &free_address()]].concat());
        assert_eq!(ended.status.code(), Some(FAILED), "{format}: {}", String::from_utf8_lossy(&ended.stderr));
    }
}
