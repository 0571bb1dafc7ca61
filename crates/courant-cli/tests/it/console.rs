//! The console: the page that is in the binary, driven in a browser as people drive it.
//!
//! The steps and what they prove stand in `console/e2e/`; each of them has a name that a failure shows.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::PathBuf;
use std::process::{Command, Stdio};

use crate::cli::{run, run_with, said};
use crate::server::Server;
use crate::{program, skip};

/// The folder of the steps, where this machine has been prepared for them.
pub(crate) fn steps(test: &str) -> Option<PathBuf> {
    let Some(folder) = std::env::var_os("COURANT_TEST_CONSOLE") else {
        skip(test, "the console is not built");
        return None;
    };
    let chromium = std::env::var("CHROMIUM").unwrap_or_else(|_| "/usr/bin/chromium".to_owned());
    if program(&chromium, "--version").is_none() {
        skip(test, "no Chromium here");
        return None;
    }
    Some(PathBuf::from(folder))
}

#[test]
fn people_find_their_way_through_the_console_of_a_real_server() {
    let Some(steps) = steps("console::people_find_their_way_through_the_console_of_a_real_server") else {
        return;
    };
    let data = tempfile::tempdir().unwrap();
    let mut server = Some(Server::start(data.path()));
    fill(server.as_ref().unwrap());

    let mut node = Command::new("node");
    node.arg(steps.join("server.mjs")).arg(server.as_ref().unwrap().http().to_string());
    let mut node = node.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut answers = node.stdin.take().unwrap();
    let mut seen = Vec::new();
    for line in BufReader::new(node.stdout.take().unwrap()).lines() {
        let line = line.unwrap();
        if line == "RESTART" {
            // What was acknowledged is there again, and every stream of the one before is gone.
            let (ended, _) = server.take().unwrap().stop();
            assert!(ended.success(), "{ended}");
            let again = Server::start(data.path());
            writeln!(answers, "{}", again.http()).unwrap();
            server = Some(again);
        }
        seen.push(line);
    }
    let ended = node.wait_with_output().unwrap();
    let errors = String::from_utf8_lossy(&ended.stderr);
    assert!(ended.status.success(), "{}\n{errors}", seen.join("\n"));
    assert!(seen.iter().any(|line| line == "RESTART"), "the server was never missed: {seen:?}");
}

/// What the steps find there.
fn fill(server: &Server) {
    server.create_topic("orders", 3);
    said(run(server, &["pub", "orders", "--key", "BIG", r#"{"id":9007199254740993}"#]));
    let script =
        r#"{"note":"<script>window.owned=1</script>","image":"<img src=x onerror=\"window.owned=1\">"}"#;
    said(run(server, &["pub", "orders", "--key", "SCRIPT", script]));
    let lines: String = (0..200).map(|number| format!("{{\"number\":{number}}}\n")).collect();
    said(run_with(server, &["pub", "orders", "-l"], &lines));
    said(run(server, &["tail", "orders", "--group", "billing", "--from", "start", "-n", "5", "-o", "jsonl"]));
}

#[test]
fn its_screens_hold_what_takes_a_real_server_hours() {
    made_up("console::its_screens_hold_what_takes_a_real_server_hours", "screens.mjs");
}

#[test]
fn its_dead_letters_and_traces_are_found_decided_and_followed() {
    made_up("console::its_dead_letters_and_traces_are_found_decided_and_followed", "failures.mjs");
}

/// Steps that bring their own server, which is made up.
fn made_up(test: &str, script: &str) {
    let Some(steps) = steps(test) else { return };
    let ended = Command::new("node").arg(steps.join(script)).stdin(Stdio::null()).output().unwrap();
    let (said, errors) = (String::from_utf8_lossy(&ended.stdout), String::from_utf8_lossy(&ended.stderr));
    assert!(ended.status.success(), "{said}\n{errors}");
    assert!(said.contains("steps passed"), "{said}");
}
