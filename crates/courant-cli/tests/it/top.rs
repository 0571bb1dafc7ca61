//! `courant top`: once for scripts, and again and again on a terminal.

use std::io::{Read as _, Write as _};
use std::process::{Command, Stdio};
use std::time::Instant;

use serde_json::Value;
use tempfile::tempdir;

use crate::cli::{assert_fails, run, said};
use crate::server::{Server, courant, fixed_port};
use crate::{PATIENCE, eventually, program, skip};

const USAGE: i32 = 2;
const UNREACHABLE: i32 = 6;
const INTERRUPTED: i32 = 130;

/// Five events in `orders`, of which `billing` has done with none.
fn with_orders(server: &Server) {
    for number in ["1", "2", "3", "4", "5"] {
        said(run(server, &["pub", "orders", number]));
    }
    said(run(server, &["group", "reset", "billing", "--topic", "orders", "--to", "start", "--execute"]));
}

#[test]
fn one_look_is_a_document_a_line_or_a_page() {
    let data = tempdir().unwrap();
    let server = Server::start(data.path());
    with_orders(&server);
    let url = format!("http://{}", server.http());
    let look = |format| said(courant(&["top", "--once", "--http-url", &url, "-o", format], ""));
    let document: Value = eventually("the group is there", PATIENCE, || {
        let document: Value = serde_json::from_str(&look("json")).expect("a document");
        (document["groups"][0]["lag"] == 5).then_some(document)
    });
    assert_eq!(document["groups"][0]["name"], "billing");
    assert!(document["groups"][0]["lag_seconds"].as_f64().is_some_and(|age| age >= 0.0), "{document}");
    assert_eq!((&document["ready"], &document["events"]), (&true.into(), &5.into()));
    assert_eq!(document["events_per_second"], Value::Null, "one look does not know it");
    let orders =
        document["topics"].as_array().and_then(|topics| topics.iter().find(|row| row["name"] == "orders"));
    assert_eq!(orders.expect("the topic")["current_offset"], 5);
    assert_eq!(look("jsonl").lines().count(), 1);
    let page = look("table");
    assert!(page.starts_with("courant ") && page.contains(": ready, up "), "{page}");
    assert!(page.contains("GROUP") && page.contains("billing") && page.contains("TOPIC"), "{page}");
}

#[test]
fn it_says_what_is_in_its_way() {
    let drawn = courant(&["top", "--http-url", "http://127.0.0.1:1"], "");
    assert_fails(&drawn, USAGE, "--once");
    let nobody = format!("http://127.0.0.1:{}", fixed_port());
    assert_fails(&courant(&["top", "--once", "--http-url", &nobody], ""), UNREACHABLE, "--http-url");
    assert_fails(
        &courant(&["top", "--once", "--http-url", "localhost:8080"], ""),
        USAGE,
        "http://127.0.0.1:8080",
    );
}

#[test]
fn a_terminal_is_drawn_on_until_ctrl_c_and_given_back() {
    if program("script", "--version").is_none() {
        return skip("a_terminal_is_drawn_on_until_ctrl_c_and_given_back", "there is no script(1)");
    }
    let data = tempdir().unwrap();
    let server = Server::start(data.path());
    with_orders(&server);
    let top = format!(
        "'{}' top --interval 100ms --http-url http://{}",
        env!("CARGO_BIN_EXE_courant"),
        server.http()
    );
    let mut child = Command::new("script")
        .args(["-qfec", &top, "/dev/null"])
        .env("SHELL", "/bin/sh")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("script starts");
    let (mut terminal, mut keyboard) = (child.stdout.take().unwrap(), child.stdin.take().unwrap());
    let (mut drawn, mut piece) = (Vec::new(), [0; 4096]);
    // It draws ten times a second, so reading goes on.
    let deadline = Instant::now() + PATIENCE;
    let text = |drawn: &[u8]| String::from_utf8_lossy(drawn).into_owned();
    // The group may come a second later than the command.
    while !["billing", "orders"].iter().all(|name| text(&drawn).contains(name)) {
        assert!(Instant::now() < deadline, "not within {PATIENCE:?}: {}", text(&drawn));
        let read = terminal.read(&mut piece).expect("a terminal");
        assert!(read > 0, "it ended: {}", text(&drawn));
        drawn.extend_from_slice(&piece[..read]);
    }
    keyboard.write_all(b"\x03").expect("somebody reads the keys");
    terminal.read_to_end(&mut drawn).expect("the end of what is drawn");
    let drawn = text(&drawn);
    let status = child.wait().expect("it ends");
    assert_eq!(status.code(), Some(INTERRUPTED), "{drawn}");
    assert!(drawn.contains("\x1b[?1049h"), "a screen of its own: {drawn:?}");
    assert!(drawn.contains("\x1b[?25h\x1b[?1049l"), "the shell's screen again: {drawn:?}");
}
