//! Where settings come from, and what comes of them.

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use tempfile::tempdir;

use crate::cli::{assert_fails, rows, said};
use crate::raw::{self, Body, Connection};
use crate::server::{Launch, Server, command, courant, fixed_port, run};
use crate::skip;

const FAILED: i32 = 1;
const USAGE: i32 = 2;
const UNREACHABLE: i32 = 6;

fn holds_a_log(data: &Path) -> bool {
    fs::read_dir(data).is_ok_and(|mut files| files.next().is_some())
}

#[test]
fn a_flag_wins_over_a_variable_which_wins_over_the_default() {
    let directory = tempdir().unwrap();
    let by_default = directory.path().join("courant-data");
    let by_variable = directory.path().join("by-variable");
    let by_flag = directory.path().join("by-flag");
    let text = |path: &Path| path.to_str().expect("a path of text").to_owned();

    let (port, other_port) = (fixed_port(), fixed_port());
    let set = || {
        Launch::bare(directory.path())
            .variable("COURANT_DATA", &text(&by_variable))
            .variable("COURANT_KAFKA", &format!("127.0.0.1:{port}"))
    };
    let server = set().start();
    assert_eq!(server.kafka().port(), port);
    assert!(holds_a_log(&by_variable) && !by_default.exists());
    drop(server);

    let kafka = format!("127.0.0.1:{other_port}");
    let server = set().arguments(&["--data", &text(&by_flag), "--kafka", &kafka]).start();
    assert_eq!(server.kafka().port(), other_port);
    assert!(holds_a_log(&by_flag) && !by_default.exists());
    drop(server);

    // The default port may be in use on this machine, so that it is only looked up.
    let server = Launch::bare(directory.path()).arguments(&["--kafka", "127.0.0.1:0"]).start();
    assert!(holds_a_log(&by_default));
    drop(server);
    let help = said(courant(&["serve", "--help"], ""));
    for default in ["COURANT_KAFKA=", "[default: 127.0.0.1:9092]"] {
        assert!(help.contains(default), "no {default} in {help}");
    }
}

#[test]
fn clients_take_their_server_from_a_variable_and_rather_from_a_flag() {
    let data = tempdir().unwrap();
    let server = Server::start(data.path());
    server.create_topic("orders", 1);
    let list = |variable: &str, flag: &[&str]| {
        let mut list = command(&["topic", "list", "-o", "jsonl"]);
        list.args(flag).env("COURANT_SERVER", variable);
        run(list, "")
    };
    let nobody = format!("127.0.0.1:{}", fixed_port());
    let bootstrap = server.bootstrap();
    assert_eq!(rows(list(&bootstrap, &[])).len(), 1);
    assert_eq!(rows(list(&nobody, &["--server", &bootstrap])).len(), 1);
    let in_vain = ["--timeout", "2s"];
    assert_eq!(list(&nobody, &in_vain).status.code(), Some(UNREACHABLE));
    let flags = [&["--server", nobody.as_str()], &in_vain[..]].concat();
    assert_eq!(list(&bootstrap, &flags).status.code(), Some(UNREACHABLE));
}

/// Nobody looks for another program that has the port.
#[test]
fn one_address_for_both_ports_is_told_from_one_of_another_program() {
    let data = tempdir().unwrap();
    let place = data.path().to_str().expect("text");
    let address = format!("127.0.0.1:{}", fixed_port());
    let serve = |http: &str| courant(&["serve", "--data", place, "--kafka", &address, "--http", http], "");
    assert_fails(&serve(&address), USAGE, &format!("--kafka and --http cannot both have {address}"));
    let other = TcpListener::bind("127.0.0.1:0").unwrap();
    let used = other.local_addr().unwrap().to_string();
    assert_fails(&serve(&used), FAILED, &format!("--http {used} is in use by another program"));
    assert!(!holds_a_log(data.path()), "it never came to that");
}

#[test]
fn loopback_serves_clients_of_ipv6_too() {
    if let Err(error) = TcpListener::bind("[::1]:0") {
        let reason = format!("::1 cannot be listened on: {error}");
        skip("settings::loopback_serves_clients_of_ipv6_too", &reason);
        return;
    }
    let data = tempdir().unwrap();
    // Not a port of the system's choice: that is free in one family and may be in use in the other.
    let server = Launch::on(data.path()).port(fixed_port()).start();
    assert!(server.kafka().is_ipv4());
    server.create_topic("orders", 1);
    let address = format!("[::1]:{}", server.kafka().port());
    let listed = rows(courant(&["topic", "list", "-o", "jsonl", "--server", &address], ""));
    assert_eq!(listed.len(), 1);
    assert_eq!(listed[0]["name"], "orders");
}

#[test]
fn an_open_server_warns_of_itself() {
    let data = tempdir().unwrap();
    let server = Launch::on(data.path()).host("0.0.0.0").arguments(&["--insecure"]).start();
    let said = server.stderr();
    let warning = "--insecure: whoever reaches 0.0.0.0:0 (--kafka) can read, write and delete everything";
    let warned = said.lines().filter(|line| line.contains(" WARN ") && line.contains(warning)).count();
    assert_eq!(warned, 1, "{said}");
}

#[test]
fn clients_are_told_the_advertised_address() {
    let data = tempdir().unwrap();
    let advertised = "events.example:19092";
    let server = Launch::on(data.path()).arguments(&["--advertise", advertised]).start();
    // Metadata of no topics: the brokers are what is left.
    let mut answer =
        Connection::open(server.kafka()).call(raw::METADATA, 1, &Body::default().i32(0)).expect("an answer");
    assert_eq!(answer.count().unwrap(), 1, "brokers");
    assert_eq!(answer.i32().unwrap(), 0, "node id");
    let (host, port) = (answer.string().unwrap(), answer.i32().unwrap());
    assert_eq!(format!("{host}:{port}"), advertised);
}

/// Symptom: tokens and keys of services in a file that every user of the machine may read were taken without a word, where
/// the key of TLS is refused. Cause: nobody looked at its mode. Fix: the start warns, and says what to do. Where a
/// directory above keeps all others out, there is nothing to do.
#[test]
fn secrets_that_others_may_read_are_warned_of() {
    const ENTER_OTHERS: u32 = 0o001;
    let data = tempdir().unwrap();
    let path = data.path().canonicalize().unwrap();
    let is_open = |above: &Path| fs::metadata(above).unwrap().permissions().mode() & ENTER_OTHERS != 0;
    if !path.ancestors().skip(1).all(is_open) {
        return skip(
            "settings::secrets_that_others_may_read_are_warned_of",
            "the directory of temporary files is kept from others",
        );
    }
    let (tokens, keys) = (data.path().join("tokens"), data.path().join("keys"));
    fs::write(&tokens, "ci 0123456789abcdef\n").unwrap();
    fs::write(&keys, format!("billing {}\n", "0123456789abcdef".repeat(4))).unwrap();
    let text = |path: &Path| path.to_str().expect("a path of text").to_owned();
    let log = data.path().join("log");
    let (tokens_file, keys_file) = (text(&tokens), text(&keys));
    let flags = ["--api-token-file", tokens_file.as_str(), "--api-service-key-file", keys_file.as_str()];
    for (directory, mode, warnings) in [(0o755, 0o644, 2), (0o755, 0o640, 0), (0o700, 0o644, 0)] {
        fs::set_permissions(data.path(), fs::Permissions::from_mode(directory)).unwrap();
        for file in [&tokens, &keys] {
            fs::set_permissions(file, fs::Permissions::from_mode(mode)).unwrap();
        }
        let (status, said) = Launch::on(&log).arguments(&flags).start().stop();
        assert!(status.success(), "{said}");
        let warned = said.lines().filter(|line| line.contains(" WARN ") && line.contains("chmod o= "));
        assert_eq!(warned.count(), warnings, "{mode:o} in {directory:o}: {said}");
    }
}
