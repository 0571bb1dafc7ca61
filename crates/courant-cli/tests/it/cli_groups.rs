//! `courant group`, and what `courant topic` changes.

use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;
use tempfile::tempdir;

use crate::cli::{assert_fails, rows, run, run_with, said};
use crate::clients::member::{Member, listen_until};
use crate::follow::Following;
use crate::server::{Server, unread};

const USAGE: i32 = 2;
const NOT_FOUND: i32 = 3;
const CONFLICT: i32 = 4;

/// A topic of three partitions with 30 events, and a member of `billing` that has them all.
fn consumed(server: &Server) -> Member {
    server.create_topic("orders", 3);
    let lines: String = (0..30).map(|number| format!("{number}\n")).collect();
    for partition in ["0", "1", "2"] {
        let some: String = lines.lines().take(10).map(|line| format!("{line}\n")).collect();
        said(run_with(server, &["pub", "orders", "-l", "--partition", partition], &some));
    }
    let binaries = Path::new(env!("CARGO_BIN_EXE_courant")).parent().expect("it is in a folder");
    let command = Command::new(binaries.join("examples/rdkafka_client"));
    let mut member = Member::start(command, "rdkafka", &server.bootstrap(), "orders", "billing");
    listen_until("it has all", &mut [&mut member], |one| one[0].records.len() == 30);
    member
}

fn document(server: &Server, arguments: &[&str]) -> Value {
    serde_json::from_str(&said(run(server, arguments))).expect("a document")
}

#[test]
fn a_group_is_shown_with_its_members_and_its_lag() {
    let data = tempdir().unwrap();
    let server = Server::start(data.path());
    let mut member = consumed(&server);
    let listed = rows(run(&server, &["group", "list"]));
    assert_eq!(listed.len(), 1);
    assert_eq!((&listed[0]["name"], &listed[0]["state"]), (&"billing".into(), &"Stable".into()));
    // Nothing is committed yet: what is not known is not zero.
    let shown = document(&server, &["group", "show", "billing", "-o", "json"]);
    assert_eq!(shown["total"]["events"], Value::Null);
    assert_eq!(shown["members"][0]["assigned"]["orders"].as_array().map(Vec::len), Some(3));
    member.ask("commit", "committed");
    let shown = document(&server, &["group", "show", "billing", "-o", "json"]);
    assert_eq!((&shown["total"]["events"], &shown["total"]["seconds"]), (&0.into(), &0.0.into()));
    member.ask("pause", "paused");
    said(run(&server, &["pub", "orders", "--partition", "1", "late"]));
    let shown = document(&server, &["group", "show", "billing", "-o", "json"]);
    assert_eq!(shown["total"]["events"], 1);
    assert!(shown["total"]["seconds"].as_f64().expect("seconds") >= 0.0);
    let places = rows(run(&server, &["group", "show", "billing"]));
    assert_eq!(places.len(), 3);
    assert_eq!(
        (&places[1]["committed"], &places[1]["end"], &places[1]["lag"]),
        (&10.into(), &11.into(), &1.into())
    );
    assert_eq!(places[1]["client_id"], "rdkafka");
    assert_fails(&run(&server, &["group", "show", "nobody"]), NOT_FOUND, "courant group list");
    member.stop();
}

#[test]
fn a_group_is_reset_when_it_has_no_members_and_only_with_execute() {
    let data = tempdir().unwrap();
    let server = Server::start(data.path());
    let mut member = consumed(&server);
    let reset = |to: &str, more: &[&str]| {
        let mut arguments = vec!["group", "reset", "billing", "--topic", "orders", "--to", to];
        arguments.extend_from_slice(more);
        run(&server, &arguments)
    };
    assert_fails(&reset("start", &["--execute"]), CONFLICT, "has members");
    // Whoever has killed them does not see whom to stop.
    assert_fails(&reset("start", &[]), CONFLICT, "counts until its session times out");
    member.stop();
    let committed = |group: &str| -> Vec<i64> {
        let places = rows(run(&server, &["group", "show", group]));
        places.iter().map(|place| place["committed"].as_i64().expect("an offset")).collect()
    };
    let planned = rows(reset("start", &[]));
    assert_eq!((&planned[0]["from"], &planned[0]["to"]), (&10.into(), &0.into()));
    assert_eq!(committed("billing"), [10, 10, 10], "a plan changes nothing");
    for (to, more, expected) in [
        ("start", &[][..], [0, 0, 0]),
        ("+4", &[][..], [4, 4, 4]),
        ("-1", &["--partition", "2"][..], [4, 4, 3]),
        ("7", &[][..], [7, 7, 7]),
        ("99", &[][..], [10, 10, 10]),
        ("@0", &[][..], [0, 0, 0]),
        ("end", &[][..], [10, 10, 10]),
    ] {
        said(reset(to, &[more, &["--execute"]].concat()));
        assert_eq!(committed("billing"), expected, "--to {to}");
    }
    // A group that nobody knows yet gets the place of another one, and it is told in case that the name is a slip.
    let to_billing = ["group", "reset", "audit", "--topic", "orders", "--to", "group:billing", "--execute"];
    let told = |made: Output| {
        let told = String::from_utf8_lossy(&made.stderr).into_owned();
        said(made);
        told.contains("There was no consumer group `audit`: it was made")
    };
    assert!(told(run(&server, &to_billing)), "nobody has heard of it before");
    assert!(!told(run(&server, &to_billing)), "it is there");
    assert_eq!(committed("audit"), [10, 10, 10]);
    let nobody = run(&server, &["group", "reset", "x", "--topic", "orders", "--to", "+1"]);
    assert_fails(&nobody, NOT_FOUND, "--to start");
    let nonsense = run(&server, &["group", "reset", "x", "--topic", "orders", "--to", "soon"]);
    assert_fails(&nonsense, USAGE, "no place");
}

#[test]
fn a_group_is_deleted_when_it_has_no_members() {
    let data = tempdir().unwrap();
    let server = Server::start(data.path());
    let mut member = consumed(&server);
    assert_fails(&run(&server, &["group", "delete", "billing", "--yes"]), CONFLICT, "has members");
    member.stop();
    assert_fails(&run(&server, &["group", "delete", "billing"]), USAGE, "--yes");
    let planned = rows(run(&server, &["group", "delete", "billing", "--dry-run"]));
    assert_eq!((&planned[0]["offsets"], &planned[0]["dry_run"]), (&3.into(), &true.into()));
    assert_eq!(rows(run(&server, &["group", "list"])).len(), 1);
    said(run(&server, &["group", "delete", "billing", "--yes"]));
    assert!(rows(run(&server, &["group", "list"])).is_empty());
    assert_fails(&run(&server, &["group", "delete", "billing", "--yes"]), NOT_FOUND, "billing");
}

#[test]
fn a_topic_is_altered() {
    let data = tempdir().unwrap();
    let server = Server::start(data.path());
    server.create_topic("orders", 1);
    let set = "retention.ms=3600000";
    let dry = run(&server, &["topic", "alter", "orders", "--config", set, "--partitions", "3", "--dry-run"]);
    assert!(said(dry).is_empty());
    assert!(rows(run(&server, &["topic", "configs", "orders"])).is_empty());
    let altered = rows(run(&server, &["topic", "alter", "orders", "--config", set, "--partitions", "3"]));
    assert_eq!((&altered[0]["name"], &altered[0]["source"]), (&"retention.ms".into(), &"topic".into()));
    assert_eq!(rows(run(&server, &["topic", "partitions", "orders"])).len(), 3);
    let all = rows(run(&server, &["topic", "configs", "orders", "--all"]));
    let durability = all.iter().find(|config| config["name"] == "courant.durability").expect("it is listed");
    assert_eq!((&durability["value"], &durability["source"]), (&"sync".into(), &"default".into()));
    said(run(&server, &["topic", "alter", "orders", "--delete-config", "retention.ms"]));
    assert!(rows(run(&server, &["topic", "configs", "orders"])).is_empty());

    let few = run(&server, &["topic", "alter", "orders", "--config", set, "--partitions", "2"]);
    let stderr = String::from_utf8_lossy(&few.stderr);
    assert_eq!(few.status.code(), Some(7), "partly done: {stderr}");
    let bad = run(&server, &["topic", "alter", "orders", "--config", "retention.ms=soon"]);
    assert!(String::from_utf8_lossy(&bad.stderr).contains("retention.ms"), "{bad:?}");
    assert_fails(&run(&server, &["topic", "alter", "orders"]), USAGE, "--config");
    assert_fails(&run(&server, &["topic", "alter", "nothing", "--config", set]), NOT_FOUND, "nothing");
}

#[test]
fn offsets_of_a_time_are_shown() {
    let data = tempdir().unwrap();
    let server = Server::start(data.path());
    said(run_with(&server, &["pub", "log", "-l"], "one\ntwo\n"));
    let offset = |at: &str| rows(run(&server, &["topic", "offsets", "log", "--at", at]))[0]["offset"].clone();
    assert_eq!((offset("start"), offset("end"), offset("@-1h")), (0.into(), 2.into(), 0.into()));
    assert_eq!(offset("@4102444800000"), Value::Null, "nothing is that new");
    assert_fails(&run(&server, &["topic", "offsets", "log", "--at", "5"]), USAGE, "--at");
}

#[test]
fn tail_reads_as_a_member_and_goes_on_where_it_committed() {
    let data = tempdir().unwrap();
    let server = Server::start(data.path());
    server.create_topic("orders", 3);
    let lines: String = (0..30).map(|number| format!("{number}\n")).collect();
    let publish = |server: &Server| {
        for partition in ["0", "1", "2"] {
            said(run_with(server, &["pub", "orders", "-l", "--partition", partition], &lines));
        }
    };
    publish(&server);
    let first = run(&server, &["tail", "orders", "--group", "audit", "-n", "50"]);
    assert!(String::from_utf8_lossy(&first.stderr).contains("audit has committed"), "{first:?}");
    assert_eq!(rows(first).len(), 50);
    // The rest, and what came since; then nothing.
    publish(&server);
    assert_eq!(rows(run(&server, &["tail", "orders", "--group", "audit"])).len(), 130);
    assert!(rows(run(&server, &["tail", "orders", "--group", "audit"])).is_empty());
    let shown = document(&server, &["group", "show", "audit", "-o", "json"]);
    assert_eq!((&shown["total"]["events"], &shown["state"]), (&0.into(), &"Empty".into()));
    assert!(rows(run(&server, &["tail", "orders", "--group", "new", "--from", "end"])).is_empty());
}

/// Symptom: after `systemctl stop` of a `courant tail --group`, up to five seconds of what it had printed were printed
/// again by the next one, and that came 45 seconds later. Cause: SIGTERM killed it. Fix: it ends as with Ctrl-C, commits
/// and leaves the group.
#[test]
fn sigterm_ends_a_tail_as_ctrl_c_does() {
    let data = tempdir().unwrap();
    let server = Server::start(data.path());
    server.create_topic("orders", 1);
    said(run(&server, &["pub", "orders", "one"]));
    let tail = Following::start(&server, &["tail", "orders", "--group", "audit", "--follow", "-o", "jsonl"]);
    assert_eq!(tail.next()["value"], "one");
    let (rest, status) = tail.terminate();
    assert_eq!((status.code(), rest.len()), (Some(130), 0), "{status}: {rest:?}");
    let shown = document(&server, &["group", "show", "audit", "-o", "json"]);
    assert_eq!((&shown["total"]["events"], &shown["state"]), (&0.into(), &"Empty".into()));
}

/// Symptom: after `courant tail --group audit | head -1` the next member of the group waited 45 seconds for its
/// partitions. Cause: a tail that ended by an error, or whose reader had gone, did not leave. Fix: it does.
#[test]
fn a_tail_whose_reader_has_gone_leaves_its_group() {
    let data = tempdir().unwrap();
    let server = Server::start(data.path());
    server.create_topic("orders", 1);
    said(run_with(&server, &["pub", "orders", "-l"], "one\ntwo\n"));
    assert_eq!(rows(run(&server, &["tail", "orders", "--group", "audit", "-n", "1"])).len(), 1);
    let ended = unread(&["tail", "orders", "--group", "audit", "--server", &server.bootstrap()]);
    assert!(ended.status.success() && ended.stderr.is_empty(), "{ended:?}");
    let shown = document(&server, &["group", "show", "audit", "-o", "json"]);
    assert_eq!((&shown["state"], &shown["members"]), (&"Empty".into(), &Value::Array(Vec::new())));
    // Nobody has read it: it is printed to whoever does.
    assert_eq!(shown["total"]["events"], 1);
}

/// Two of them share the partitions, and a client that nobody here wrote is the third.
#[test]
fn tail_shares_a_topic_with_other_clients() {
    let data = tempdir().unwrap();
    let server = Server::start(data.path());
    let mut member = consumed(&server);
    let tail =
        Following::start(&server, &["tail", "orders", "--group", "billing", "--follow", "-o", "jsonl"]);
    listen_until("it gives some away", &mut [&mut member], |one| {
        one[0].changes > 1 && !one[0].held.is_empty() && one[0].held.len() < 3
    });
    let given: Vec<i32> = (0..3).filter(|partition| !member.held.contains(partition)).collect();
    let partition = given[0].to_string();
    said(run(&server, &["pub", "orders", "--partition", &partition, "for the tail"]));
    assert_eq!(tail.next()["value"], "for the tail");
    let (rest, status) = tail.interrupt();
    assert_eq!((status.code(), rest.len()), (Some(130), 0), "{rest:?}");
    listen_until("it gets them back", &mut [&mut member], |one| one[0].held.len() == 3);
    member.stop();
    let shown = document(&server, &["group", "show", "billing", "-o", "json"]);
    assert_eq!(shown["total"]["events"], 0, "what the tail printed is committed");
}

#[test]
fn completions_are_written_for_every_shell() {
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let script = said(crate::server::courant(&["completion", shell], ""));
        assert!(script.contains("courant") && script.contains("reset"), "{shell}");
    }
}
