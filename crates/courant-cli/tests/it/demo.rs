//! `courant demo`: everything it promises happens, in the built binary, and is told by what was counted.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::{Value, json};
use tempfile::tempdir;

use crate::cli::{assert_fails, rows, run, said};
use crate::console::steps;
use crate::server::{Launch, Server, courant};
use crate::{PATIENCE, eventually};

const FAILED: i32 = 1;
const USAGE: i32 = 2;

/// What there is to see, in its order.
const TICKS: [&str; 8] =
    ["flowing", "parked", "others", "redriven", "behind", "caught_up", "repeated", "away"];

/// A demo that leaves everything to whoever has the switches.
fn by_hand(data: &Path) -> Server {
    Launch::on(data).demo().arguments(&["--seed", "1", "--script", "off"]).start()
}

fn look(demo: &Server) -> Value {
    serde_json::from_str(&demo.get("/api/v1/demo")).expect("JSON")
}

/// The ticks that are set.
fn done(demo: &Server) -> BTreeSet<String> {
    let state = look(demo);
    let ticks = state["ticks"].as_array().expect("a list").iter();
    ticks
        .filter(|tick| tick["done"] == true)
        .map(|tick| {
            assert!(tick["seen"].is_string(), "{tick}");
            tick["id"].as_str().expect("a name").to_owned()
        })
        .collect()
}

#[track_caller]
fn until_done(demo: &Server, tick: &str) {
    // Services of a busy machine heal slowly.
    eventually(&format!("the tick {tick} is set: {:?}", look(demo)), 3 * PATIENCE, || {
        done(demo).contains(tick).then_some(())
    });
}

fn figure(demo: &Server, name: &str) -> u64 {
    look(demo)["figures"][name].as_u64().expect("a number")
}

/// Status and body of the answer to a POST.
fn post(demo: &Server, path: &str, body: &str) -> (u16, Value) {
    let mut stream = TcpStream::connect(demo.http()).expect("the HTTP port accepts");
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let content = if body.is_empty() { "" } else { "Content-Type: application/json\r\n" };
    write!(
        stream,
        "POST /api/v1/demo{path} HTTP/1.1\r\nHost: {}\r\n{content}Content-Length: {}\r\nConnection: close\r\n\r\n{body}",
        demo.http(),
        body.len(),
    )
    .expect("the HTTP port reads");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an HTTP answer");
    let (head, body) = answer.split_once("\r\n\r\n").expect("an HTTP head");
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status");
    (status, serde_json::from_str(body).unwrap_or_else(|error| panic!("{error}: {body}")))
}

#[track_caller]
fn turn(demo: &Server, switch: &str, on: bool) {
    let (status, turned) = post(demo, &format!("/switches/{switch}"), &json!({ "on": on }).to_string());
    assert_eq!(status, 200, "{turned}");
    assert_eq!((&turned["id"], &turned["on"]), (&json!(switch), &json!(on)));
}

/// What was done and by whom, by the audit topic.
fn audited(demo: &Server) -> Vec<(String, String, Value)> {
    let events = rows(run(demo, &["tail", "_courant.audit", "--from", "start", "-o", "jsonl"]));
    let account = |event: &Value| {
        let account: Value = serde_json::from_str(event["value"].as_str().expect("a value")).expect("JSON");
        assert_eq!(account["result"], "done", "{account}");
        let text = |name: &str| account[name].as_str().expect("a text").to_owned();
        (text("action"), text("target"), account["who"]["name"].clone())
    };
    events.iter().map(account).collect()
}

/// Every tick, by the switches: each is set by what happens and by nothing before, and each turn of a switch is
/// an event of the audit.
#[test]
fn each_tick_is_brought_about_by_its_switches_and_each_turn_is_audited() {
    let data = tempdir().unwrap();
    let demo = by_hand(data.path());
    until_done(&demo, "flowing");
    assert_eq!(done(&demo), BTreeSet::from(["flowing".to_owned()]), "nothing breaks by itself");

    turn(&demo, "carrier", true);
    until_done(&demo, "parked");
    until_done(&demo, "others");
    assert!(figure(&demo, "dead_letters") > 0 && figure(&demo, "parked") > 0);
    turn(&demo, "carrier", false);
    assert!(!done(&demo).contains("redriven"), "a repaired carrier alone brings nothing back");
    let (status, sent) = post(&demo, "/redrive", "");
    assert_eq!(status, 200, "{sent}");
    assert!(sent["letters"].as_u64().is_some_and(|letters| letters > 0), "{sent}");
    until_done(&demo, "redriven");
    // The next order to Iceland may come while the key is still held.
    eventually("nothing is dead or parked any more", PATIENCE, || {
        ((figure(&demo, "dead_letters"), figure(&demo, "parked")) == (0, 0)).then_some(())
    });

    turn(&demo, "analytics", true);
    until_done(&demo, "behind");
    assert!(!done(&demo).contains("caught_up"), "who is slow has not caught up");
    turn(&demo, "analytics", false);
    until_done(&demo, "caught_up");

    assert!(!done(&demo).contains("repeated"));
    turn(&demo, "gateway", true);
    until_done(&demo, "repeated");
    turn(&demo, "gateway", false);

    let before = figure(&demo, "placed");
    turn(&demo, "broker", true);
    eventually("orders are taken without a broker, and wait", PATIENCE, || {
        (figure(&demo, "placed") > before + 2 && figure(&demo, "outbox") > 0).then_some(())
    });
    assert!(!done(&demo).contains("away"), "what was taken has not left yet");
    turn(&demo, "broker", false);
    until_done(&demo, "away");
    assert_eq!(done(&demo), BTreeSet::from(TICKS.map(str::to_owned)));

    let audited = audited(&demo);
    for switch in ["carrier", "analytics", "gateway", "broker"] {
        let found = audited.iter().filter(|(action, target, _)| action == "demo.switch" && target == switch);
        assert_eq!(found.count(), 2, "{switch} in {audited:?}");
    }
    assert!(audited.iter().any(|(action, ..)| action == "demo.redrive"), "{audited:?}");
    assert!(audited.iter().all(|(_, _, who)| who.is_null()), "nobody was asked for a name: {audited:?}");
}

/// The same in a browser, by the keyboard, on the page that is in the binary.
#[test]
fn the_list_of_the_console_is_ticked_off_by_what_is_broken_there() {
    let test = "demo::the_list_of_the_console_is_ticked_off_by_what_is_broken_there";
    let Some(steps) = steps(test) else { return };
    let data = tempdir().unwrap();
    let demo = by_hand(data.path());
    let mut node = Command::new("node");
    node.arg(steps.join("demo.mjs")).arg(demo.http().to_string()).stdin(Stdio::null());
    let ended = node.output().unwrap();
    let (said, errors) = (String::from_utf8_lossy(&ended.stdout), String::from_utf8_lossy(&ended.stderr));
    assert!(ended.status.success(), "{said}\n{errors}");
    assert!(said.contains("steps passed"), "{said}");
}

/// Left alone, it breaks and heals: every tick is set by the script, which the audit names.
#[test]
fn left_alone_it_breaks_and_heals_by_itself() {
    let data = tempdir().unwrap();
    let demo = Launch::on(data.path()).demo().arguments(&["--speed", "5"]).start();
    assert_eq!(look(&demo)["script"], true);
    for tick in TICKS {
        until_done(&demo, tick);
    }
    let audited = audited(&demo);
    assert!(audited.iter().all(|(_, _, who)| *who == "courant demo --script"), "{audited:?}");
    let actions: BTreeSet<&str> = audited.iter().map(|(action, ..)| action.as_str()).collect();
    assert_eq!(actions, BTreeSet::from(["demo.redrive", "demo.switch"]));
}

/// The first orders of a demo, by number.
fn first_orders(demo: &Server, wanted: u64) -> BTreeMap<u64, Value> {
    eventually("the first orders are there", PATIENCE, || {
        let events = rows(run(demo, &["tail", "shop.orders", "--from", "start", "-o", "jsonl"]));
        let orders = events.iter().map(|event| {
            let order: Value = serde_json::from_str(event["value"].as_str().expect("a value")).expect("JSON");
            (order["order"].as_u64().expect("a number"), order)
        });
        let first: BTreeMap<u64, Value> = orders.filter(|(number, _)| *number <= wanted).collect();
        (first.len() as u64 == wanted).then_some(first)
    })
}

#[test]
fn one_seed_gives_the_same_orders_and_another_one_others() {
    let directories = [tempdir().unwrap(), tempdir().unwrap(), tempdir().unwrap()];
    let [one, same, other] = [(0, "7"), (1, "7"), (2, "8")].map(|(number, seed)| {
        let directory: &tempfile::TempDir = &directories[number];
        let words = ["--seed", seed, "--script", "off", "--speed", "5"];
        let demo = Launch::on(directory.path()).demo().arguments(&words).start();
        first_orders(&demo, 20)
    });
    assert_eq!(one, same);
    assert_ne!(one, other);
}

/// Data that is temporary is gone when the demo has ended, and data that was named is gone on with.
#[test]
fn temporary_data_is_deleted_and_named_data_is_kept() {
    let directory = tempdir().unwrap();
    let place = directory.path().to_str().expect("text");
    let demo = Launch::bare(directory.path())
        .demo()
        .arguments(&["--kafka", "127.0.0.1:0", "--script", "off"])
        .variable("TMPDIR", place)
        .start();
    until_done(&demo, "flowing");
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1, "{}", demo.stderr());
    let (status, stderr) = demo.stop();
    assert!(status.success(), "{status}: {stderr}");
    assert!(stderr.contains("deleted at the end"), "{stderr}");
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0, "{stderr}");

    let kept = directory.path().join("kept");
    let demo = by_hand(&kept);
    until_done(&demo, "flowing");
    let placed = figure(&demo, "placed");
    let (status, stderr) = demo.stop();
    assert!(status.success() && !stderr.contains("deleted"), "{status}: {stderr}");
    let again = by_hand(&kept);
    assert!(figure(&again, "placed") >= placed, "it goes on where it was");
    until_done(&again, "flowing");

    // Another one is refused there, and the key of the first stays the one that its services take.
    let key = || fs::read_to_string(kept.join("shipping.key")).unwrap();
    let of_the_first = key();
    let place = kept.to_str().expect("text");
    let refused = ["demo", "--data", place, "--kafka", "127.0.0.1:0", "--http", "127.0.0.1:0"];
    assert_fails(&courant(&refused, ""), FAILED, "another process is using this data directory");
    assert_eq!(key(), of_the_first);
}

/// The services are services like any other: they say how they are, and the command line finds the dead letter
/// of the one that has a poison.
#[test]
fn the_tools_see_the_services_of_a_demo() {
    let data = tempdir().unwrap();
    let demo = by_hand(data.path());
    let names = eventually("five services say that they are there", PATIENCE, || {
        let services = rows(run(&demo, &["services", "-o", "jsonl"]));
        let names: BTreeSet<String> =
            services.iter().map(|row| row["service"].as_str().expect("a name").to_owned()).collect();
        (names.len() >= 5).then_some(names)
    });
    let expected = ["analytics", "inventory", "payments", "shipping", "storefront"];
    assert_eq!(names, BTreeSet::from(expected.map(str::to_owned)));
    until_done(&demo, "flowing");
    // Each is a group as soon as it has told the server how far it is.
    eventually("five consumers say how far they are", PATIENCE, || {
        let groups = rows(run(&demo, &["group", "list", "-o", "jsonl"]));
        expected.iter().all(|consumer| groups.iter().any(|group| group["name"] == *consumer)).then_some(())
    });
    turn(&demo, "carrier", true);
    until_done(&demo, "parked");
    let store = format!("sqlite:{}", data.path().join("services/shipping.db").display());
    let failures = rows(courant(&["dlq", "list", "--store", &store, "-o", "jsonl"], ""));
    assert_eq!(failures.len(), 1, "{failures:?}");
    assert_eq!(failures[0]["consumer"], "shipping");

    eventually("the server can ask shipping", PATIENCE, || {
        let services: Value = serde_json::from_str(&demo.get("/api/v1/services")).expect("JSON");
        let services = services["services"].as_array().expect("a list");
        services.iter().any(|one| one["service"] == "shipping" && one["operable"] == true).then_some(())
    });

    // The same through the operations channel, with the key that the demo has made.
    turn(&demo, "carrier", false);
    let (engine, key) = (format!("courant://{}", demo.kafka()), data.path().join("shipping.key"));
    let key = key.to_str().expect("text");
    said(courant(
        &["dlq", "redrive", "--all", "--engine", &engine, "--service", "shipping", "--key-file", key],
        "",
    ));
    until_done(&demo, "redriven");
    let topics = rows(run(&demo, &["topic", "list", "-o", "jsonl"]));
    let copies = topics.iter().filter(|topic| topic["name"] == "shop.stock.shipping.dlq");
    assert_eq!(copies.count(), 1, "dead letters have a copy for others: {topics:?}");
}

#[test]
fn the_demo_is_documented_where_it_runs_and_nowhere_else() {
    let data = tempdir().unwrap();
    let demo = by_hand(data.path());
    let document: Value = serde_json::from_str(&demo.get("/api/v1/openapi.json")).unwrap();
    let paths = document["paths"].as_object().expect("paths");
    let of_demo: Vec<&String> = paths.keys().filter(|path| path.starts_with("/api/v1/demo")).collect();
    assert_eq!(of_demo.len(), 3, "{of_demo:?}");
    let health: Value = serde_json::from_str(&demo.get("/api/v1/health")).unwrap();
    assert_eq!(health["demo"], true);
    let (status, problem) = post(&demo, "/switches/moon", r#"{"on":true}"#);
    assert_eq!((status, &problem["code"]), (404, &json!("not_found")), "{problem}");
    assert!(problem["detail"].as_str().is_some_and(|detail| detail.contains("carrier")), "{problem}");
    let (status, problem) = post(&demo, "/switches/carrier", r#"{"off":true}"#);
    assert_eq!((status, &problem["code"]), (400, &json!("bad_request")), "{problem}");

    let plain_data = tempdir().unwrap();
    let plain = Server::start(plain_data.path());
    assert_eq!(plain.ask("/api/v1/demo").0, 404);
    assert_eq!(post(&plain, "/switches/carrier", r#"{"on":true}"#).0, 404);
    assert_eq!(post(&plain, "/redrive", "").0, 404);
    assert!(!plain.get("/api/v1/openapi.json").contains("/demo"));
    let health: Value = serde_json::from_str(&plain.get("/api/v1/health")).unwrap();
    assert_eq!(health["demo"], false);
}

#[test]
fn a_demo_is_for_this_machine_alone() {
    let refused = courant(&["demo", "--kafka", "0.0.0.0:0", "--http", "127.0.0.1:0"], "");
    assert_fails(&refused, USAGE, "0.0.0.0");
}
