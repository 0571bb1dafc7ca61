//! The console: the page that is in the binary, driven in a browser as people drive it.
//!
//! The steps and what they prove stand in `console/e2e/`; each of them has a name that a failure shows.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::PathBuf;
use std::process::{Command, Stdio};

use crate::cli::{run, run_with, said};
use crate::raw::{Body, CREATE_TOPICS, Connection};
use crate::server::{Launch, Server};
use crate::{program, skip};

const OFFSET_COMMIT: i16 = 8;

const TOPICS: usize = 10_000;
/// As many as one request may create.
const TOPICS_AT_ONCE: usize = 1_000;

/// What Spring Kafka says about a dead letter.
const SPRING: [&str; 4] = [
    "kafka_dlt-original-topic=orders",
    "kafka_dlt-exception-fqcn=org.springframework.kafka.listener.ListenerExecutionFailedException",
    "kafka_dlt-exception-cause-fqcn=java.lang.IllegalStateException",
    "kafka_dlt-original-consumer-group=desk",
];

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
fn ten_thousand_topics_and_five_hundred_events_of_one_trace_are_looked_through() {
    let Some(steps) =
        steps("console::ten_thousand_topics_and_five_hundred_events_of_one_trace_are_looked_through")
    else {
        return;
    };
    let data = tempfile::tempdir().unwrap();
    let server = Server::start(data.path());
    let names: Vec<String> = (0..TOPICS).map(|number| format!("load.topic-{number:05}")).collect();
    let mut connection = Connection::open(server.kafka());
    for names in names.chunks(TOPICS_AT_ONCE) {
        create(&mut connection, names);
    }
    server.create_topic("orders", 2);
    commit(&mut connection, "everything", &names);
    said(run(&server, &["pub", &names[TOPICS - 1], r#"{"last":true}"#]));
    walk(Command::new("node").arg(steps.join("many.mjs")).arg(server.http().to_string()));
}

/// Creates topics of one partition.
fn create(connection: &mut Connection, names: &[String]) {
    let mut body = Body::default().i32(i32::try_from(names.len()).unwrap());
    for name in names {
        // One partition, one copy, no assignments, no configs.
        body = body.string(name).i32(1).i16(1).i32(0).i32(0);
    }
    let mut answer = connection.call(CREATE_TOPICS, 2, &body.i32(30_000).i8(0)).unwrap();
    answer.i32().unwrap(); // throttle
    assert_eq!(answer.count().unwrap(), names.len());
    for _ in names {
        let name = answer.string().unwrap();
        assert_eq!(answer.i16().unwrap(), 0, "creating {name}");
        answer.string().unwrap(); // message
    }
}

/// Commits the beginning of each topic for a group without members.
fn commit(connection: &mut Connection, group: &str, topics: &[String]) {
    let count = i32::try_from(topics.len()).unwrap();
    // No generation, no member, no retention of its own.
    let mut body = Body::default().string(group).i32(-1).string("").i64(-1).i32(count);
    for topic in topics {
        // Of one partition: its number, the offset, no metadata.
        body = body.string(topic).i32(1).i32(0).i64(0).string("");
    }
    let mut answer = connection.call(OFFSET_COMMIT, 2, &body).unwrap();
    assert_eq!(answer.count().unwrap(), topics.len());
    for topic in topics {
        assert_eq!((&answer.string().unwrap(), answer.count().unwrap()), (topic, 1));
        answer.i32().unwrap(); // partition
        assert_eq!(answer.i16().unwrap(), 0, "committing for {topic}");
    }
}

#[test]
fn every_screen_of_a_real_server_is_read_in_both_themes() {
    let Some(steps) = steps("console::every_screen_of_a_real_server_is_read_in_both_themes") else {
        return;
    };
    let data = tempfile::tempdir().unwrap();
    let demo = Launch::on(data.path()).demo().arguments(&["--seed", "1", "--script", "off"]).start();
    demo.create_topic("orders-dlt", 1);
    let mut letter = vec!["pub", "orders-dlt"];
    for header in SPRING {
        letter.extend(["-H", header]);
    }
    letter.push(r#"{"id":9007199254740993}"#);
    said(run(&demo, &letter));
    walk(Command::new("node").arg(steps.join("real.mjs")).arg(demo.http().to_string()));
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
    walk(Command::new("node").arg(steps.join(script)));
}

/// Goes through all steps of a script.
pub(crate) fn walk(script: &mut Command) {
    let ended = script.stdin(Stdio::null()).output().unwrap();
    let (said, errors) = (String::from_utf8_lossy(&ended.stdout), String::from_utf8_lossy(&ended.stderr));
    assert!(ended.status.success(), "{said}\n{errors}");
    assert!(said.contains("steps passed"), "{said}");
}
