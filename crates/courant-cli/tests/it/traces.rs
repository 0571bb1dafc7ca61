//! Traces by HTTP and with `courant trace`, and `courant find`: events of a Kafka client, of a service of the
//! framework, and of one that gives up.

use std::fs;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::{SystemTime, UNIX_EPOCH};

use rdkafka::ClientConfig;
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{BaseRecord, Producer as _, ThreadedProducer};
use serde_json::{Value, json};
use tempfile::tempdir;

use crate::cli::{assert_fails, rows, said};
use crate::dlq::Site;
use crate::http_records::{EXACT, get};
use crate::server::{Launch, Server, courant};
use crate::{PATIENCE, eventually, example, program, skip};

const USAGE: i32 = 2;
const NOT_FOUND: i32 = 3;
const UNREACHABLE: i32 = 6;
const PARTLY: i32 = 7;

/// An event as a plain Kafka client publishes it.
struct Sent<'a> {
    topic: &'a str,
    key: &'a str,
    headers: Vec<(&'a str, &'a str)>,
    at_ms: i64,
}

fn now_ms() -> i64 {
    i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis()).unwrap()
}

fn publish(server: &Server, events: &[Sent<'_>]) {
    publish_value(server, events, "{}");
}

fn publish_value(server: &Server, events: &[Sent<'_>], value: &str) {
    let producer: ThreadedProducer<_> =
        ClientConfig::new().set("bootstrap.servers", server.bootstrap()).create().expect("a producer");
    for event in events {
        let headers = event.headers.iter().fold(OwnedHeaders::new(), |headers, (key, value)| {
            headers.insert(Header { key, value: Some(*value) })
        });
        let record = BaseRecord::<str, str>::to(event.topic)
            .key(event.key)
            .payload(value)
            .headers(headers)
            .timestamp(event.at_ms);
        producer.send(record).map_err(|(error, _)| error).expect("queued");
    }
    producer.flush(PATIENCE).expect("all are acknowledged");
}

/// An event of a chain: its id, its type, its service, its cause.
fn link<'a>(topic: &'a str, id: &'a str, event_type: &'a str, source: &'a str, cause: &'a str) -> Sent<'a> {
    let mut headers = vec![("ce_id", id), ("ce_type", event_type), ("ce_source", source)];
    headers.extend([("ce_specversion", "1.0"), ("ce_correlationid", "order 7/ä")]);
    if !cause.is_empty() {
        headers.push(("ce_causationid", cause));
    }
    Sent { topic, key: "7", headers, at_ms: now_ms() }
}

/// The trace when it has so many events.
fn trace(server: &Server, id: &str, events: u64) -> Value {
    eventually("the trace is indexed", PATIENCE, || {
        let answer = get(server, &format!("/traces/{id}"));
        let trace = (answer.status == 200).then(|| answer.json(200))?;
        (trace["events"] == events).then_some(trace)
    })
}

/// The index when it has looked at everything.
fn index(server: &Server) -> Value {
    eventually("everything is looked at", PATIENCE, || {
        let index = get(server, "/traces").json(200)["index"].clone();
        (index["state"] == "following" && index["behind"] == 0).then_some(index)
    })
}

/// One field of each node.
fn each<'a>(trace: &'a Value, field: &str) -> Vec<&'a Value> {
    trace["nodes"].as_array().expect("a list").iter().map(|node| &node[field]).collect()
}

/// Runs a command that asks the HTTP API of this server.
fn asked(server: &Server, words: &[&str]) -> Output {
    let url = format!("http://{}", server.http());
    let mut all = words.to_vec();
    all.extend(["--http-url", url.as_str()]);
    courant(&all, "")
}

/// What was published by a client that knows nothing of us.
fn with_chain(server: &Server) {
    for topic in ["orders", "payments", "shipments"] {
        server.create_topic(topic, 3);
    }
    publish(server, &[link("orders", "e1", "order.placed", "shop", "")]);
    publish(server, &[link("payments", "e2", "payment.taken", "payments", "e1")]);
    publish(server, &[link("shipments", "e3", "parcel.packed", "shipping", "e2")]);
    publish(server, &[link("orders", "e4", "order.audited", "audit", "gone")]);
    publish(server, &[Sent { topic: "orders", key: "8", headers: vec![("x", "y")], at_ms: now_ms() }]);
}

#[test]
fn events_of_a_kafka_client_make_a_tree() {
    let data = tempdir().unwrap();
    let server = Server::start(data.path());
    with_chain(&server);
    let found = trace(&server, "order%207%2F%C3%A4", 4);
    assert_eq!((&found["id"], &found["joined_by"]), (&json!("order 7/ä"), &json!("correlation")));
    assert_eq!(each(&found, "event_id"), ["e1", "e2", "e3", "e4"]);
    assert_eq!(each(&found, "parent"), [&json!(null), &json!(0), &json!(1), &json!(null)]);
    assert_eq!(each(&found, "parent_state"), ["root", "known", "known", "unknown"]);
    assert_eq!(each(&found, "source"), ["shop", "payments", "shipping", "audit"]);
    assert_eq!(found["unknown_parents"], json!([{ "event_id": "gone", "children": [3] }]));
    let first = &found["nodes"][0];
    assert_eq!(
        (&first["topic"], &first["offset"], &first["key"]),
        (&json!("orders"), &json!(0), &json!("7"))
    );
    let place = format!("/topics/orders/records/{}/0", first["partition"]);
    assert_eq!(get(&server, &place).json(200)["key"], "7", "a node leads to its record");

    let by_event = trace(&server, "e3", 4);
    assert_eq!((&by_event["id"], &by_event["asked_event"]), (&json!("order 7/ä"), &json!(2)));
    get(&server, "/traces/nobody").assert_problem(404, "trace_not_found");
    get(&server, "/traces/e3?after=x").assert_problem(400, "bad_request");
    get(&server, "/traces/%ff").assert_problem(400, "bad_request");

    let index = index(&server);
    assert_eq!((&index["seen"], &index["without_correlation"]), (&json!(5), &json!(1)));
    assert_eq!((&index["events"], &index["complete_since"]), (&json!(4), &Value::Null));
    let list = get(&server, "/traces?limit=5").json(200);
    assert_eq!((list["traces"].as_array().map(Vec::len), &list["next"]), (Some(1), &Value::Null));
    let row = &list["traces"][0];
    assert_eq!((&row["id"], &row["events"], &row["dead_letters"]), (&found["id"], &json!(4), &json!(0)));
    assert_eq!((&row["root"]["type"], &row["first"]), (&json!("order.placed"), &found["first"]));
    for none in ["/traces?failed=true", "/traces?min_events=5"] {
        assert_eq!(get(&server, none).json(200)["traces"], json!([]), "{none}");
    }
}

/// Symptom: a page of traces took gigabytes, and led to addresses that are refused. Cause: the ids that join events
/// were there as long as somebody had made them. Fix: one that is longer than can be asked for is not told.
#[test]
fn an_id_that_nobody_can_ask_for_is_not_in_the_list() {
    let data = tempdir().unwrap();
    let server = Server::start(data.path());
    server.create_topic("orders", 1);
    for (id, bytes) in [("e1", 4_096), ("e2", 4_097), ("e3", 500_000)] {
        let correlation = "c".repeat(bytes);
        let headers = vec![("ce_id", id), ("ce_correlationid", correlation.as_str())];
        publish(&server, &[Sent { topic: "orders", key: "7", headers, at_ms: now_ms() }]);
    }
    assert_eq!(index(&server)["seen"], 3);
    let list = get(&server, "/traces").json(200);
    let ids = list["traces"].as_array().expect("a list").iter().map(|row| row["id"].as_str().map(str::len));
    let mut ids: Vec<_> = ids.collect();
    ids.sort_unstable();
    assert_eq!(ids, [None, None, Some(4_096)]);
    assert_eq!(trace(&server, "e3", 1)["events"], 1, "it is found by its event");
}

/// Symptom: `courant trace --last-failed` showed an older failure as the last one, or said that there is none, where the
/// last one cannot be asked for. Cause: a trace without an id in the list was passed over in silence. Fix: that is said,
/// with its first event.
#[test]
fn a_last_failure_that_cannot_be_asked_for_is_told() {
    let data = tempdir().unwrap();
    let server = Server::start(data.path());
    server.create_topic("orders.dlq", 1);
    let long = "c".repeat(4_097);
    let failure = |id: &str, correlation: &str| {
        let headers =
            vec![("ce_id", id), ("ce_correlationid", correlation), ("courant-dead-consumer", "desk")];
        publish(&server, &[Sent { topic: "orders.dlq", key: "7", headers, at_ms: now_ms() }]);
    };
    failure("e1", &long);
    assert_eq!(index(&server)["seen"], 1);
    let alone = asked(&server, &["trace", "--last-failed"]);
    assert_fails(&alone, NOT_FOUND, "1 trace with dead letters cannot be asked for");
    failure("e2", "c");
    assert_eq!(index(&server)["seen"], 2);
    let newest = asked(&server, &["trace", "--last-failed"]);
    assert!(!String::from_utf8_lossy(&newest.stderr).contains("not the last"), "{newest:?}");
    assert_eq!(rows(newest)[0]["correlation_id"], "c");
    failure("e3", &format!("{long}c"));
    assert_eq!(index(&server)["seen"], 3);
    let older = asked(&server, &["trace", "--last-failed"]);
    let told = String::from_utf8_lossy(&older.stderr).into_owned();
    assert!(
        told.contains("This is not the last failure: 1 trace ") && told.contains("orders.dlq/0@2"),
        "{told}"
    );
    assert_eq!(rows(older)[0]["correlation_id"], "c");
}

#[test]
fn a_trace_is_drawn_and_written_as_json() {
    let data = tempdir().unwrap();
    let server = Server::start(data.path());
    with_chain(&server);
    let found = trace(&server, "e1", 4);
    let id = "order 7/ä";
    let tree = said(asked(&server, &["trace", id, "--view", "tree"]));
    let lines: Vec<&str> = tree.lines().collect();
    assert_eq!(lines.len(), 4, "{tree}");
    assert!(lines[0].starts_with("order.placed  shop  orders/"), "{tree}");
    assert!(lines[1].starts_with("└─ payment.taken  payments  payments/"), "{tree}");
    assert!(lines[2].starts_with("   └─ parcel.packed  shipping  shipments/"), "{tree}");
    assert!(lines[3].starts_with("[cause gone is not indexed] order.audited"), "{tree}");
    let sequence = said(asked(&server, &["trace", id, "--view", "sequence"]));
    assert!(sequence.contains("shop ── order.placed ──▶ payments"), "{sequence}");
    assert!(sequence.contains("shipping ── parcel.packed ──▶ topic shipments"), "{sequence}");
    let table = said(asked(&server, &["trace", id, "--view", "table"]));
    assert!(table.starts_with("N ") && table.lines().count() == 5, "{table}");
    let chart = said(asked(&server, &["trace", id, "--mermaid"]));
    assert!(chart.starts_with("flowchart TD\n") && chart.contains("n0 --> n1"), "{chart}");
    let diagram = said(asked(&server, &["trace", id, "--mermaid", "--view", "sequence"]));
    assert!(diagram.starts_with("sequenceDiagram\n") && diagram.contains("->>"), "{diagram}");

    assert_eq!(rows(asked(&server, &["trace", id])), *found["nodes"].as_array().unwrap());
    let whole: Value = serde_json::from_str(&said(asked(&server, &["trace", id, "-o", "json"]))).unwrap();
    assert_eq!((&whole["nodes"], &whole["id"]), (&found["nodes"], &json!(id)));
    let output = asked(&server, &["trace", "e1", "--limit", "1", "--view", "tree"]);
    assert!(String::from_utf8_lossy(&output.stderr).contains("3 more are not shown"), "{output:?}");
    assert_fails(&asked(&server, &["trace", "nobody"]), NOT_FOUND, "nobody");
    assert_fails(&asked(&server, &["trace", "--last-failed"]), NOT_FOUND, "no trace that the server knows");
    assert_fails(&asked(&server, &["trace", id, "--mermaid", "--view", "table"]), USAGE, "--mermaid");
    let nowhere = courant(&["trace", id, "--http-url", "http://127.0.0.1:9"], "");
    assert_fails(&nowhere, UNREACHABLE, "--http-url");
    let kafka = format!("http://{}", server.bootstrap());
    assert!(!courant(&["trace", id, "--http-url", kafka.as_str(), "--timeout", "2s"], "").status.success());
}

/// Correlation and causation go through a service: what it publishes while it handles an event belongs to
/// that event. The example bills an order that it has published three times.
#[test]
fn a_service_carries_the_correlation_on() {
    let program = example("effects-once");
    if !program.is_file() {
        skip(
            "traces::a_service_carries_the_correlation_on",
            "the example effects-once was not built; build the workspace",
        );
        return;
    }
    let (data, home) = (tempdir().unwrap(), tempdir().unwrap());
    let server = Server::start(data.path());
    let engine = format!("courant://{}", server.bootstrap());
    let ran = Command::new(program).arg(engine).current_dir(home.path()).output().expect("it starts");
    assert!(ran.status.success(), "{ran:?}");
    let found = trace(&server, "order-1-placed", 4);
    let types = each(&found, "type");
    assert_eq!(types[0], "shop.order-placed");
    let billed = types.iter().position(|name| *name == "shop.order-billed").expect("it was billed");
    let node = &found["nodes"][billed];
    assert_eq!((&node["causation_id"], &node["parent"]), (&json!("order-1-placed"), &json!(0)));
    assert_eq!((&node["correlation_id"], &node["source"]), (&json!("order-1-placed"), &json!("shop")));
    let duplicates = each(&found, "duplicate").into_iter().filter(|one| **one == json!(true)).count();
    assert_eq!(duplicates, 2, "{found}");
    let by_effect = trace(&server, node["event_id"].as_str().unwrap(), 4);
    assert_eq!((&by_effect["id"], &by_effect["asked_event"]), (&found["id"], &json!(billed)));
}

#[test]
fn a_dead_letter_is_below_its_event_and_comes_first() {
    let data = tempdir().unwrap();
    let server = Server::start(data.path());
    let engine = format!("courant://{}", server.bootstrap());
    let test = "traces::a_dead_letter_is_below_its_event_and_comes_first";
    let Some(site) = Site::with(test, &[engine.as_str()]) else { return };
    let mut service = site.start();
    service.place(&["ada 1 poison"]);
    site.letters(1);
    service.place(&["bob 1 fine"]);
    site.billed(1);
    let list = eventually("the letter is indexed", PATIENCE, || {
        let list = get(&server, "/traces").json(200);
        let traces = list["traces"].as_array()?.clone();
        (traces.len() == 2 && traces[0]["dead_letters"] == 1).then_some(traces)
    });
    assert_eq!(list[1]["dead_letters"], 0, "the newer one is behind it: {list:?}");
    let failed = get(&server, "/traces?failed=true").json(200);
    assert_eq!(failed["traces"].as_array().map(Vec::len), Some(1), "{failed}");
    let id = list[0]["id"].as_str().expect("an id");
    let found = trace(&server, id, 2);
    assert_eq!(each(&found, "kind"), ["event", "dead_letter"]);
    assert_eq!(
        (&found["nodes"][1]["parent"], &found["nodes"][1]["topic"]),
        (&json!(0), &json!("shop.orders.billing.dlq"))
    );
    let letter = &found["nodes"][1]["dead_letter"];
    assert_eq!((&letter["consumer"], &letter["attempts"]), (&json!("billing"), &json!(1)));
    assert_eq!((&letter["topic"], &letter["offset"]), (&json!("shop.orders"), &json!(0)));
    assert!(letter["error"].as_str().is_some_and(|error| error.contains("card of ada")), "{letter}");
    let tree = said(asked(&server, &["trace", id, "--view", "tree"]));
    assert!(tree.contains("└─ ✗ billing gave up: "), "{tree}");
    assert_eq!(said(asked(&server, &["trace", "--last-failed", "--view", "tree"])), tree);
    assert_fails(&asked(&server, &["trace"]), USAGE, "<ID>");
    assert_fails(&asked(&server, &["trace", id, "--last-failed"]), USAGE, "--last-failed");
    service.stop();
}

/// An event without an id is the cause of what services make of it, by the id that they give it.
#[test]
fn an_event_of_a_plain_client_is_found_by_what_came_of_it() {
    let data = tempdir().unwrap();
    let server = Server::start(data.path());
    let engine = format!("courant://{}", server.bootstrap());
    let test = "traces::an_event_of_a_plain_client_is_found_by_what_came_of_it";
    let Some(site) = Site::with(test, &[engine.as_str()]) else { return };
    let service = site.start();
    let headers = vec![("ce_type", "shop.order-placed"), ("content-type", "application/json")];
    let order = Sent { topic: "shop.orders", key: "ada", headers, at_ms: now_ms() };
    eventually("the service has made its topic", PATIENCE, || {
        (get(&server, "/topics/shop.orders").status == 200).then_some(())
    });
    publish_value(&server, &[order], r#"{"customer":"ada","number":1,"text":"poison"}"#);
    let letter = site.letters(1)[0];
    let shown = site.row(&["show", &letter.to_string()]);
    let id = shown["event_id"].as_str().expect("an id").to_owned();
    let found = trace(&server, &id, 2);
    assert_eq!(each(&found, "kind"), ["event", "dead_letter"]);
    assert_eq!(each(&found, "event_id"), [&json!(id), &json!(id)]);
    assert_eq!(each(&found, "parent"), [&Value::Null, &json!(0)]);
    assert_eq!(
        (&found["nodes"][0]["topic"], &found["nodes"][0]["key"]),
        (&json!("shop.orders"), &json!("ada"))
    );
    assert_eq!(found["unknown_parents"], json!([]));
    service.stop();
}

#[test]
fn the_index_is_made_again_from_the_log() {
    let data = tempdir().unwrap();
    let server = Server::start(data.path());
    with_chain(&server);
    let before = trace(&server, "e1", 4);
    server.stop();
    let server = Launch::on(data.path()).start();
    let after = trace(&server, "e1", 4);
    assert_eq!((&after["nodes"], &after["unknown_parents"]), (&before["nodes"], &before["unknown_parents"]));
    assert_eq!(index(&server)["seen"], 5);
    publish(&server, &[link("payments", "e5", "payment.booked", "books", "e2")]);
    let more = trace(&server, "e5", 5);
    assert_eq!(each(&more, "event_id"), ["e1", "e2", "e3", "e5", "e4"]);
}

#[test]
fn a_small_index_says_what_it_has_forgotten() {
    let data = tempdir().unwrap();
    let server = Launch::on(data.path()).arguments(&["--trace-index-events", "100"]).start();
    server.create_topic("t", 1);
    let ids: Vec<String> = (0..300).map(|number| format!("id-{number}")).collect();
    // Far enough from now to be told apart, and not so old that they are deleted.
    let begin = now_ms() - 3_600_000;
    let mut events = Vec::new();
    for (number, id) in (0..).zip(&ids) {
        let (headers, at_ms) = (vec![("ce_id", id.as_str())], begin + number * 1_000);
        events.push(Sent { topic: "t", key: "k", headers, at_ms });
    }
    let since = jiff::Timestamp::from_millisecond(begin + 199_001).expect("a time");
    let since = format!("{since:.3}");
    publish(&server, &events);
    trace(&server, "id-299", 1);
    let index = index(&server);
    assert_eq!(
        (&index["events"], &index["events_max"], &index["seen"]),
        (&json!(100), &json!(100), &json!(300))
    );
    assert_eq!(index["complete_since"], since);
    trace(&server, "id-200", 1);
    let refused = get(&server, "/traces/id-199");
    refused.assert_problem(404, "trace_not_found");
    assert!(refused.text.contains(&since), "{}", refused.text);
    assert_fails(&asked(&server, &["trace", "id-199"]), NOT_FOUND, "are not indexed");
    // Every trace is on one page, and on one alone.
    let (mut path, mut seen) = ("/traces?limit=30".to_owned(), Vec::new());
    loop {
        let page = get(&server, &path).json(200);
        seen.extend(page["traces"].as_array().unwrap().iter().map(|row| row["id"].clone()));
        let Some(next) = page["next"].as_str() else { break };
        path = format!("/traces?limit=30&after={next}");
    }
    let expected: Vec<Value> = (200..300).rev().map(|number| json!(format!("id-{number}"))).collect();
    assert_eq!(seen, expected);

    server.stop();
    let server = Launch::on(data.path()).arguments(&["--trace-index-events", "0"]).start();
    assert_eq!(get(&server, "/traces").json(200)["index"]["state"], "off");
    assert_fails(&asked(&server, &["trace", "id-299"]), NOT_FOUND, "--trace-index-events");
}

#[test]
fn clients_without_correlation_ids_are_joined_by_what_they_have() {
    let data = tempdir().unwrap();
    let server = Launch::on(data.path()).arguments(&["--trace-correlation-header", "x-request-id"]).start();
    server.create_topic("t", 1);
    let sent = |headers: &[(&'static str, &'static str)]| Sent {
        topic: "t",
        key: "k",
        headers: headers.to_vec(),
        at_ms: now_ms(),
    };
    let (first, second) = (
        "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
        "00-4bf92f3577b34da6a3ce929d0e0e4736-53995c3f42cd8ad8-01",
    );
    publish(
        &server,
        &[
            sent(&[("traceparent", first)]),
            sent(&[("traceparent", second), ("x-request-id", "r")]),
            sent(&[("X-Request-Id", "r")]),
            sent(&[("x-request-id", "r"), ("ce_id", "named")]),
        ],
    );
    let by_trace = trace(&server, "4bf92f3577b34da6a3ce929d0e0e4736", 2);
    assert_eq!(by_trace["joined_by"], "traceparent");
    let ids = each(&by_trace, "event_id");
    assert!(ids[0].is_string() && ids[1].is_string() && ids[0] != ids[1], "those of their places: {ids:?}");
    assert_eq!(each(&by_trace, "parent_state"), ["root", "root"]);
    let by_header = trace(&server, "named", 2);
    assert_eq!((&by_header["id"], &by_header["joined_by"]), (&json!("r"), &json!("header")));
    assert_eq!(by_header["asked_event"], 1);
}

#[test]
fn a_long_trace_comes_in_pages() {
    const EVENTS: usize = 1_200;
    let data = tempdir().unwrap();
    let server = Server::start(data.path());
    server.create_topic("orders", 4);
    let ids: Vec<String> = (0..=EVENTS).map(|number| format!("e{number}")).collect();
    let events: Vec<Sent<'_>> = (1..EVENTS)
        .map(|number| Sent { key: &ids[number], ..link("orders", &ids[number], "t", "s", &ids[number / 2]) })
        .collect();
    publish(&server, &[link("orders", "e0", "t", "s", "")]);
    publish(&server, &events);
    let first = trace(&server, "e0", EVENTS as u64);
    assert_eq!((each(&first, "n").len(), &first["next"]), (500, &json!("500")));
    let nodes = rows(asked(&server, &["trace", "e0", "--limit", "5000"]));
    assert_eq!(nodes.len(), EVENTS);
    for (number, node) in nodes.iter().enumerate() {
        assert_eq!(node["n"], number);
        let parent = node["parent"].as_u64().map(|parent| &nodes[usize::try_from(parent).unwrap()]);
        assert!(parent.is_none_or(|parent| parent["n"].as_u64() < node["n"].as_u64()), "{node}");
        let cause = parent.map_or(&Value::Null, |parent| &parent["event_id"]);
        // The first of all names no cause, and e1 names e0.
        assert_eq!(cause, &node["causation_id"], "{node}");
    }
}

#[test]
fn what_is_looked_for_is_found_with_all_its_digits() {
    let data = tempdir().unwrap();
    let server = Server::start(data.path());
    with_chain(&server);
    let value = format!("{{\"order\":{{\"id\":{EXACT}}}}}");
    let bootstrap = server.bootstrap();
    said(courant(&["pub", "orders", &value, "--server", bootstrap.as_str()], ""));
    let found = rows(asked(&server, &["find", "orders", "--json", &format!("/order/id={EXACT}")]));
    assert_eq!((found.len(), &found[0]["value"], &found[0]["topic"]), (1, &json!(value), &json!("orders")));
    let near = asked(&server, &["find", "orders", "--json", "/order/id=9007199254740992"]);
    assert!(String::from_utf8_lossy(&near.stderr).contains("done: 0 found in "), "{near:?}");
    assert!(rows(near).is_empty());
    let all = rows(asked(&server, &["find", "orders", "payments", "--correlation", "order 7/ä"]));
    assert_eq!(all.len(), 3, "two topics of three");
    let one = rows(asked(&server, &["find", "payments", "--id", "e2", "--type", "payment.taken"]));
    assert_eq!(one[0]["cloudevent"]["id"], "e2");
    let limited = asked(&server, &["find", "orders", "payments", "--key", "7", "--limit", "1"]);
    assert!(String::from_utf8_lossy(&limited.stderr).contains("more may fit"), "{limited:?}");
    assert_eq!(rows(limited).len(), 1);
    let document = said(asked(&server, &["find", "orders", "--key", "7", "-o", "json"]));
    let document: Value = serde_json::from_str(&document).expect("one document");
    assert_eq!(document.as_array().map(Vec::len), Some(2));
    let unknown = asked(&server, &["find", "nothing", "--key", "7"]);
    assert_fails(&unknown, NOT_FOUND, "there is no topic \"nothing\"; see `courant topic list`");
    assert_fails(&asked(&server, &["find", "orders"]), USAGE, "--contains");
}

/// Symptom: `courant find --from @-1h --to @-2h` said that nothing was found and ended with 0, and `courant trace ''`, as a
/// script asks with a variable that is empty, was told of an address of the HTTP API. Cause: both were asked of the server
/// as they stood. Fix: what cannot be meant is wrong usage.
#[test]
fn what_cannot_be_meant_is_wrong_usage_and_no_empty_answer() {
    let data = tempdir().unwrap();
    let server = Server::start(data.path());
    with_chain(&server);
    for (from, to) in [("@-1h", "@-2h"), ("5", "2"), ("-2", "-5")] {
        let reversed = asked(&server, &["find", "orders", "--key", "7", "--from", from, "--to", to]);
        assert_fails(&reversed, USAGE, "--from is behind --to");
    }
    let forward = asked(&server, &["find", "orders", "--key", "7", "--from", "@-1h", "--to", "end"]);
    assert!(!rows(forward).is_empty(), "events of this hour");
    assert_fails(&asked(&server, &["trace", ""]), USAGE, "a value is required");
    assert_fails(&asked(&server, &["find", "orders", "--contains", ""]), USAGE, "a value is required");
}

/// A search keeps 8 MiB of what it finds, and up to 16 KiB of each value.
#[test]
fn a_search_that_keeps_no_more_says_that_it_is_not_whole() {
    const EVENTS: usize = 600;
    let data = tempdir().unwrap();
    let server = Server::start(data.path());
    let line = format!("{}\n", "x".repeat(17_000));
    let bootstrap = server.bootstrap();
    said(courant(&["pub", "orders", "-l", "--server", bootstrap.as_str()], &line.repeat(EVENTS)));
    let cut = asked(&server, &["find", "orders", "--contains", "xx", "--limit", "10000", "-o", "jsonl"]);
    let told = String::from_utf8_lossy(&cut.stderr).into_owned();
    assert_eq!(cut.status.code(), Some(PARTLY), "{told}");
    assert!(told.contains("has not come to its end: it kept 8388608 bytes"), "{told}");
    let found = cut.stdout.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()).count();
    assert!(0 < found && found < EVENTS, "{found} were found");
    // Who gets what was asked for misses nothing.
    let whole = rows(asked(&server, &["find", "orders", "--contains", "xx", "--limit", "10", "-o", "jsonl"]));
    assert_eq!(whole.len(), 10);
}

#[test]
fn a_token_opens_a_door_that_has_one() {
    let data = tempdir().unwrap();
    let tokens = data.path().join("tokens");
    fs::write(&tokens, "ci 0123456789abcdef\n").unwrap();
    let tokens = tokens.display().to_string();
    let log = data.path().join("log");
    fs::create_dir(&log).unwrap();
    let server = Launch::on(&log).arguments(&["--api-token-file", tokens.as_str()]).start();
    with_chain(&server);
    assert_fails(&asked(&server, &["trace", "e1"]), 5, "token");
    let words = ["find", "orders", "--id", "e1", "--http-token-file", tokens.as_str()];
    assert_eq!(rows(asked(&server, &words)).len(), 1);
}

#[test]
fn the_commands_of_the_guide_do_what_it_says() {
    if program("curl", "--version").is_none() {
        skip("traces::the_commands_of_the_guide_do_what_it_says", "curl is not installed");
        return;
    }
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/guide/what-happened-to-this-order.md");
    let page = fs::read_to_string(page).expect("the page");
    let data = tempdir().unwrap();
    let server = Server::start(data.path());
    let binaries = Path::new(env!("CARGO_BIN_EXE_courant")).parent().expect("it is in a folder");
    let path = format!("{}:{}", binaries.display(), std::env::var("PATH").expect("a path"));
    let mut ran = 0;
    for block in page.split("```sh\n").skip(1) {
        let commands = format!("set -e\n{}", block.split("```").next().expect("an end"));
        // What was published is in the trace a moment later.
        eventually(&commands, PATIENCE, || {
            let ended = Command::new("sh")
                .args(["-c", &commands])
                .env("PATH", &path)
                .env("COURANT_SERVER", server.bootstrap())
                .env("COURANT_HTTP_URL", format!("http://{}", server.http()))
                .current_dir(data.path())
                .stdin(Stdio::null())
                .output()
                .expect("sh runs");
            ended.status.success().then_some(())
        });
        ran += 1;
        if ran == 1 {
            trace(&server, "order-7", 3);
        }
    }
    assert!(ran >= 5, "{ran} blocks of commands");
    let tree = said(asked(&server, &["trace", "order-7", "--view", "tree"]));
    let lines: Vec<&str> = tree.lines().collect();
    assert!(lines[0].starts_with("order.placed  storefront  orders/0@0  ") && lines.len() == 3, "{tree}");
    assert!(lines[2].starts_with("   └─ parcel.packed  shipping  shipments/0@0  +"), "{tree}");
}
