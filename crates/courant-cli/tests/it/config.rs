//! `courant.toml`: which settings it sets, what wins over it, and what is said of its mistakes.

use std::fs;
use std::path::Path;
use std::process::Output;

use serde_json::Value;
use tempfile::tempdir;

use crate::cli::{self, assert_fails, rows, said};
use crate::server::{Launch, Server, command, fixed_port, run};

const USAGE: i32 = 2;
const NOT_FOUND: i32 = 3;
const UNREACHABLE: i32 = 6;

/// Runs a command in this directory, with these variables.
fn run_in(directory: &Path, arguments: &[&str], variables: &[(&str, &str)]) -> Output {
    let mut command = command(arguments);
    command.current_dir(directory).envs(variables.iter().copied());
    run(command, "")
}

/// What `config show --origin` says of one setting: its value and where it comes from.
fn shown(directory: &Path, setting: &str, arguments: &[&str], variables: &[(&str, &str)]) -> (Value, String) {
    let all = [&["config", "show", "--origin", "-o", "json"], arguments].concat();
    let document: Value = serde_json::from_str(&said(run_in(directory, &all, variables))).unwrap();
    let rows = document.as_array().expect("a list");
    let row = rows.iter().find(|row| row["setting"] == setting).expect("a row for each setting");
    (row["value"].clone(), row["origin"].as_str().expect("an origin").to_owned())
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn a_server_takes_from_the_file_what_nothing_else_sets() {
    let directory = tempdir().unwrap();
    let (by_file, by_variable) = (fixed_port(), fixed_port());
    let text = format!("data = \"by-file\"\nkafka = \"127.0.0.1:{by_file}\"\npartitions = 3\n");
    fs::write(directory.path().join("courant.toml"), text).unwrap();

    let server = Launch::bare(directory.path()).start();
    assert_eq!(server.kafka().port(), by_file);
    assert!(directory.path().join("by-file").is_dir());
    let bootstrap = server.bootstrap();
    said(run_in(directory.path(), &["topic", "create", "orders", "--server", &bootstrap], &[]));
    let listed =
        rows(run_in(directory.path(), &["topic", "list", "-o", "jsonl", "--server", &bootstrap], &[]));
    assert_eq!(listed[0]["partitions"], 3);
    drop(server);

    let kafka = format!("127.0.0.1:{by_variable}");
    let server = Launch::bare(directory.path()).variable("COURANT_KAFKA", &kafka).start();
    assert_eq!(server.kafka().port(), by_variable, "a variable wins over the file");
    drop(server);
    let server = Launch::bare(directory.path())
        .variable("COURANT_KAFKA", &kafka)
        .arguments(&["--kafka", "127.0.0.1:0"])
        .start();
    assert_ne!(server.kafka().port(), by_variable, "a flag wins over both");
}

#[test]
fn a_file_of_another_name_is_named_by_a_flag_or_by_a_variable() {
    let directory = tempdir().unwrap();
    let path = directory.path().join("other.toml");
    fs::write(&path, "data = \"by-other\"\nkafka = \"127.0.0.1:0\"\n").unwrap();
    fs::write(directory.path().join("courant.toml"), "data = \"by-usual\"\n").unwrap();
    let path = path.to_str().expect("a path of text");

    drop(Launch::bare(directory.path()).arguments(&["--config", path]).start());
    assert!(directory.path().join("by-other").is_dir() && !directory.path().join("by-usual").exists());
    let by_variable = [("COURANT_CONFIG", path)];
    let (value, origin) = shown(directory.path(), "data", &[], &by_variable);
    assert_eq!((value.as_str(), origin.as_str()), (Some("by-other"), format!("{path}:1").as_str()));
}

#[test]
fn tools_take_their_server_from_the_file() {
    let data = tempdir().unwrap();
    let server = Server::start(data.path());
    server.create_topic("orders", 1);
    let directory = tempdir().unwrap();
    fs::write(directory.path().join("courant.toml"), format!("server = \"{}\"\n", server.bootstrap()))
        .unwrap();
    let list = ["topic", "list", "-o", "jsonl"];
    assert_eq!(rows(run_in(directory.path(), &list, &[])).len(), 1);

    let nobody = format!("127.0.0.1:{}", fixed_port());
    let in_vain = [&list[..], &["--timeout", "2s"]].concat();
    let by_variable = run_in(directory.path(), &in_vain, &[("COURANT_SERVER", &nobody)]);
    assert_eq!(by_variable.status.code(), Some(UNREACHABLE), "{}", stderr(&by_variable));
    // Before the command, for every command.
    let usual = directory.path().join("courant.toml");
    let elsewhere = tempdir().unwrap();
    let line = [&["--config", usual.to_str().expect("a path of text")], &list[..]].concat();
    assert_eq!(rows(run_in(elsewhere.path(), &line, &[])).len(), 1);
}

#[test]
fn each_value_is_shown_with_its_origin() {
    let directory = tempdir().unwrap();
    let text = "# ours\nhttp = \"127.0.0.1:18080\"\n\n[offsets]\nretention-minutes = 60\n";
    fs::write(directory.path().join("courant.toml"), text).unwrap();
    let variables = [("COURANT_PARTITIONS", "7")];
    let show = |setting: &str| shown(directory.path(), setting, &["--kafka", "127.0.0.1:19092"], &variables);
    let is = |value: Value, origin: &str| (value, origin.to_owned());
    assert_eq!(show("kafka"), is("127.0.0.1:19092".into(), "flag"));
    assert_eq!(show("partitions"), is(7.into(), "environment COURANT_PARTITIONS"));
    assert_eq!(show("http"), is("127.0.0.1:18080".into(), "courant.toml:2"));
    assert_eq!(show("offsets.retention-minutes"), is(60.into(), "courant.toml:5"));
    assert_eq!(show("insecure"), is(false.into(), "default"));
    assert_eq!(show("advertise"), is(Value::Null, "default"));

    let table = said(run_in(directory.path(), &["config", "show", "-o", "table"], &[]));
    assert!(table.starts_with("SETTING"), "{table}");
    assert!(!table.contains("ORIGIN"), "{table}");
}

#[test]
fn a_mistake_is_one_sentence_with_its_line_and_what_is_allowed() {
    let directory = tempdir().unwrap();
    for (text, sentence) in [
        (
            "data = \"d\"\nkafak = \"127.0.0.1:1\"\n",
            "courant.toml:2: there is no setting kafak; there are data, ",
        ),
        ("partitions = \"3\"\n", "courant.toml:1: partitions is text: write a whole number from 1 to 10000"),
        ("\n\nhttp = \"localhost\"\n", "courant.toml:3: http is \"localhost\": write HOST:PORT"),
        ("insecure = \"yes\"\n", "courant.toml:1: insecure is text: write true or false"),
        ("kafka = = 1\n", "courant.toml:1: this is not TOML: "),
    ] {
        fs::write(directory.path().join("courant.toml"), text).unwrap();
        for line in [&["config", "check"][..], &["config", "show"], &["serve"], &["topic", "list"]] {
            let refused = run_in(directory.path(), line, &[]);
            let said = stderr(&refused);
            assert_eq!(refused.status.code(), Some(USAGE), "{line:?}: {said}");
            assert!(said.starts_with(&format!("courant: {sentence}")), "{line:?}: {said}");
            assert_eq!(said.lines().count(), 1, "{line:?}: {said}");
            assert!(refused.stdout.is_empty(), "{line:?}");
        }
    }
}

#[test]
fn check_tells_every_mistake_and_is_content_with_none() {
    let directory = tempdir().unwrap();
    let without = run_in(directory.path(), &["config", "check"], &[]);
    assert!(without.status.success(), "{}", stderr(&without));
    fs::write(directory.path().join("courant.toml"), "kafka = 1\nhttp = 2\n").unwrap();
    let refused = run_in(directory.path(), &["config", "check"], &[]);
    assert_eq!(refused.status.code(), Some(USAGE));
    assert_eq!(stderr(&refused).lines().count(), 2, "{}", stderr(&refused));
    fs::write(directory.path().join("courant.toml"), "partitions = 2\n").unwrap();
    let good = run_in(directory.path(), &["config", "check"], &[]);
    assert!(good.status.success() && stderr(&good).contains("no mistakes"), "{}", stderr(&good));
    let bad_variable = run_in(directory.path(), &["config", "check"], &[("COURANT_PARTITIONS", "none")]);
    assert_eq!(bad_variable.status.code(), Some(USAGE));
    let gone = run_in(directory.path(), &["config", "check", "--config", "gone.toml"], &[]);
    assert_eq!(gone.status.code(), Some(NOT_FOUND), "{}", stderr(&gone));
    assert!(stderr(&gone).contains("gone.toml"), "{}", stderr(&gone));
}

#[test]
fn what_docs_writes_is_a_file_that_changes_nothing() {
    let directory = tempdir().unwrap();
    let docs = said(run_in(directory.path(), &["config", "docs"], &[]));
    fs::write(directory.path().join("courant.toml"), &docs).unwrap();
    said(run_in(directory.path(), &["config", "check"], &[]));
    for setting in ["data", "group.initial-rebalance-delay-ms"] {
        assert_eq!(shown(directory.path(), setting, &[], &[]).1, "default");
    }
    let set: String = docs.replace("# partitions = 1", "partitions = 5");
    fs::write(directory.path().join("courant.toml"), set).unwrap();
    assert_eq!(shown(directory.path(), "partitions", &[], &[]).0, 5);
}

/// Symptom: `courant config check` before a restart was content, and the server then refused to start. Cause: it read each
/// setting, and did not look at what they come to. Fix: it says what `courant serve` says.
#[test]
fn check_refuses_what_a_server_refuses() {
    let directory = tempdir().unwrap();
    let file = directory.path().join("courant.toml");
    for (text, sentences) in [
        ("kafka = \"0.0.0.0:9092\"\n", &["--kafka 0.0.0.0:9092 can be reached from other machines"][..]),
        ("kafka = \"127.0.0.1:9092\"\nhttp = \"127.0.0.1:9092\"\n", &["127.0.0.1:9092"][..]),
        ("[tls]\ncert = \"gone.pem\"\n", &["--tls-cert needs --tls-key"][..]),
        (
            "[api]\ntoken-file = \"gone\"\nservice-key-file = \"away\"\n",
            &["--api-token-file gone: ", "--api-service-key-file away: "][..],
        ),
    ] {
        fs::write(&file, text).unwrap();
        let refused = run_in(directory.path(), &["config", "check"], &[]);
        let said = stderr(&refused);
        assert_eq!(refused.status.code(), Some(USAGE), "{text}: {said}");
        assert_eq!(said.lines().count(), sentences.len(), "{text}: {said}");
        assert!(sentences.iter().all(|sentence| said.contains(sentence)), "{text}: {said}");
        let serve = ["serve", "--data", "never-made"];
        let serve = run_in(directory.path(), &serve, &[]);
        assert_eq!(serve.status.code(), Some(USAGE), "{text}: {}", stderr(&serve));
        assert!(said.contains(stderr(&serve).trim_end()), "{text}: {said} and {}", stderr(&serve));
    }
    // What is looked at is whether they go together.
    fs::write(&file, "kafka = \"0.0.0.0:9092\"\ninsecure = true\n").unwrap();
    said(run_in(directory.path(), &["config", "check"], &[]));
    fs::write(&file, "kafka = \"127.0.0.1:0\"\nhttp = \"127.0.0.1:0\"\n").unwrap();
    said(run_in(directory.path(), &["config", "check"], &[]));
}

/// Symptom: `COURANT_INSECURE=flase` opened a server to everybody, and `courant config check` was content. Cause: every
/// word of the environment that does not say no was a yes. Fix: what is neither is refused, by the name of the variable.
#[test]
fn a_switch_that_is_misspelt_in_the_environment_is_refused() {
    let directory = tempdir().unwrap();
    let check = |variable: &str, value: &str| {
        run_in(directory.path(), &["config", "check", "--kafka", "0.0.0.0:9092"], &[(variable, value)])
    };
    let refused = check("COURANT_INSECURE", "flase");
    assert_eq!(refused.status.code(), Some(USAGE), "{}", stderr(&refused));
    let sentence = "write true or false (COURANT_INSECURE is set to it)";
    assert!(stderr(&refused).contains(sentence), "{}", stderr(&refused));
    // Of another kind of value the variable is named, too.
    let partitions = check("COURANT_PARTITIONS", "none");
    assert!(stderr(&partitions).contains("COURANT_PARTITIONS is set to it"), "{}", stderr(&partitions));
    said(check("COURANT_INSECURE", "Yes"));
    for off in ["off", ""] {
        let closed = check("COURANT_INSECURE", off);
        assert!(stderr(&closed).contains("can be reached from other machines"), "{}", stderr(&closed));
    }
}

/// A slip in the name of a topic is told to whoever has made it, where no topic is created by asking for one.
#[test]
fn a_server_that_is_told_so_creates_no_topic_by_itself() {
    let data = tempdir().unwrap();
    let server = Launch::on(data.path()).arguments(&["--auto-create-topics", "false"]).start();
    let refused = cli::run(&server, &["pub", "ordres", "tea"]);
    assert_fails(&refused, NOT_FOUND, "courant topic create ordres");
    assert!(rows(cli::run(&server, &["topic", "list", "-o", "jsonl"])).is_empty());
    said(cli::run(&server, &["topic", "create", "orders"]));
    said(cli::run(&server, &["pub", "orders", "tea"]));
}

/// A variable that a script has left empty turns nothing off.
#[test]
fn what_is_on_by_default_is_turned_off_by_a_word_alone() {
    let directory = tempdir().unwrap();
    let show = |variables: &[(&str, &str)]| shown(directory.path(), "auto-create-topics", &[], variables);
    assert_eq!(show(&[]), (Value::Bool(true), "default".to_owned()));
    let by_variable = "environment COURANT_AUTO_CREATE_TOPICS".to_owned();
    assert_eq!(show(&[("COURANT_AUTO_CREATE_TOPICS", "no")]), (Value::Bool(false), by_variable));
    let empty = run_in(directory.path(), &["config", "check"], &[("COURANT_AUTO_CREATE_TOPICS", "")]);
    assert_eq!(empty.status.code(), Some(USAGE), "{}", stderr(&empty));
    assert!(stderr(&empty).contains("write true or false"), "{}", stderr(&empty));
    fs::write(directory.path().join("courant.toml"), "auto-create-topics = false\n").unwrap();
    assert_eq!(show(&[]), (Value::Bool(false), "courant.toml:1".to_owned()));
}
