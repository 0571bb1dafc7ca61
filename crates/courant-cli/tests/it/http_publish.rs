//! Publishing by the CloudEvents HTTP binding, read back as a Kafka client does.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::process::Command;
use std::time::Duration;

use serde_json::{Value, json};
use tempfile::tempdir;

use crate::cli::{rows, run};
use crate::http_records::{Answer, EXACT, JSON, get, send};
use crate::server::Server;
use crate::{PATIENCE, eventually, python_script, skip};

const BINARY: [(&str, &str); 4] =
    [("ce-specversion", "1.0"), ("ce-id", "1"), ("ce-source", "/shop"), ("ce-type", "orders.order-placed")];
const STRUCTURED: (&str, &str) = ("Content-Type", "application/cloudevents+json");
const BATCH: (&str, &str) = ("Content-Type", "application/cloudevents-batch+json");

fn publish(server: &Server, headers: &[(&str, &str)], body: impl AsRef<[u8]>) -> Answer {
    send(server, "POST", "/topics/orders/events", headers, body)
}

/// What a Kafka client finds in the topic.
fn tailed(server: &Server) -> Vec<Value> {
    rows(run(server, &["tail", "orders", "-o", "jsonl"]))
}

/// A header of a record that `courant tail` has printed.
fn header<'a>(record: &'a Value, name: &str) -> Option<&'a str> {
    let found = record["headers"].as_array()?.iter().find(|header| header["key"] == name)?;
    found["value"].as_str()
}

#[test]
fn a_binary_event_has_its_attributes_as_headers_and_its_payload_digit_by_digit() {
    let data = tempdir().unwrap();
    let server = Server::start(data.path());
    server.create_topic("orders", 3);
    let more = [("ce-partitionkey", "order%201007"), JSON, ("traceparent", "00-aa-bb-01")];
    let payload = format!(r#"{{"total": {EXACT}}}"#);
    let stored = publish(&server, &[&BINARY[..], &more].concat(), &payload).json(200);
    let records = tailed(&server);
    let [record] = records.as_slice() else { panic!("{records:?}") };
    assert_eq!(stored["events"][0]["id"], "1");
    for place in ["topic", "partition", "offset"] {
        assert_eq!(stored["events"][0][place], record[place], "{place}");
    }
    assert_eq!((&record["key"], &record["value"]), (&json!("order 1007"), &json!(payload)));
    for (name, value) in [
        ("ce_specversion", "1.0"),
        ("ce_id", "1"),
        ("ce_source", "/shop"),
        ("ce_type", "orders.order-placed"),
        ("ce_partitionkey", "order 1007"),
        ("content-type", "application/json"),
        ("traceparent", "00-aa-bb-01"),
    ] {
        assert_eq!(header(record, name), Some(value), "{name}");
    }
}

#[test]
fn structured_and_batched_events_keep_their_order_by_key() {
    let data = tempdir().unwrap();
    let server = Server::start(data.path());
    server.create_topic("orders", 4);
    let event = |id: usize| {
        let key = id % 3;
        format!(
            r#"{{"specversion":"1.0","id":"{id}","source":"/s","type":"t","partitionkey":"k{key}","data":[{EXACT}]}}"#
        )
    };
    publish(&server, &[STRUCTURED], event(0)).json(200);
    let events: Vec<String> = (1..500).map(event).collect();
    let stored = publish(&server, &[BATCH], format!("[{}]", events.join(","))).json(200);
    assert_eq!(stored["events"].as_array().map(Vec::len), Some(499));
    let records = tailed(&server);
    assert_eq!(records.len(), 500);
    for key in 0..3 {
        let key = format!("k{key}");
        let mut of_key: Vec<&Value> = records.iter().filter(|record| record["key"] == key.as_str()).collect();
        of_key.sort_by_key(|record| record["offset"].as_u64());
        assert!(of_key.iter().all(|record| record["partition"] == of_key[0]["partition"]), "{key}");
        let ids: Vec<usize> =
            of_key.iter().map(|record| header(record, "ce_id").unwrap().parse().unwrap()).collect();
        assert!(ids.is_sorted() && ids.len() >= 166, "{key}: {ids:?}");
        assert!(of_key.iter().all(|record| record["value"] == format!("[{EXACT}]")), "{key}");
    }
    // Each answer is where its event is.
    for answer in stored["events"].as_array().unwrap() {
        let at = |record: &&Value| {
            record["partition"] == answer["partition"] && record["offset"] == answer["offset"]
        };
        let record = records.iter().find(at).expect("it is there");
        assert_eq!(header(record, "ce_id"), answer["id"].as_str());
    }
}

#[test]
fn one_mistake_in_a_batch_and_nothing_is_stored() {
    let data = tempdir().unwrap();
    let server = Server::start(data.path());
    server.create_topic("orders", 1);
    let body = r#"[{"specversion":"1.0","id":"1","source":"/s","type":"t","data":1},
                   {"specversion":"1.0","id":"2","source":"/s","data":1},
                   {"specversion":"1.0","id":"3","source":"/s","type":"t","time":"noon"},
                   7]"#;
    let refused = publish(&server, &[BATCH], body).json(422);
    assert_eq!(refused["code"], "invalid_events");
    let named: Vec<(&Value, &Value)> =
        refused["events"].as_array().unwrap().iter().map(|event| (&event["index"], &event["id"])).collect();
    assert_eq!(named, [(&json!(1), &json!("2")), (&json!(2), &json!("3")), (&json!(3), &Value::Null)]);
    // Too large for the topic is a mistake as well, and found before the others are stored.
    let large = format!(
        r#"[{{"specversion":"1.0","id":"1","source":"/s","type":"t"}},
            {{"specversion":"1.0","id":"2","source":"/s","type":"t","data":"{}"}}]"#,
        "x".repeat(2_000_000)
    );
    let refused = publish(&server, &[BATCH], large).json(422);
    assert_eq!(refused["events"][0]["index"], 1, "{refused}");
    assert!(tailed(&server).is_empty(), "nothing was stored");
}

#[test]
fn a_plain_record_has_its_key_from_the_query() {
    let data = tempdir().unwrap();
    let server = Server::start(data.path());
    server.create_topic("orders", 3);
    let path = "/topics/orders/events?key=order%2F1";
    let stored = send(&server, "POST", path, &[JSON], "[1]").json(200);
    assert_eq!(stored["events"][0]["id"], Value::Null);
    let record = &tailed(&server)[0];
    assert_eq!((&record["key"], &record["value"]), (&json!("order/1"), &json!("[1]")));
    let shown = &get(&server, "/topics/orders/records").json(200)["records"][0];
    assert_eq!((&shown["cloudevent"], &shown["key"]), (&Value::Null, &json!("order/1")), "it is no event");
}

#[test]
fn what_was_answered_is_there_after_a_sigkill() {
    let data = tempdir().unwrap();
    let server = Server::start(data.path());
    server.create_topic("orders", 1);
    for _ in 0..20 {
        publish(&server, &[JSON], "1").json(200);
    }
    server.kill();
    let server = Server::start(data.path());
    assert_eq!(tailed(&server).len(), 20);
}

#[test]
fn what_cannot_be_published_is_refused_with_a_reason() {
    let data = tempdir().unwrap();
    let server = Server::start(data.path());
    server.create_topic("orders", 1);
    publish(&server, &[("Content-Type", "text/plain")], "a").assert_problem(415, "bad_content_type");
    publish(&server, &[("Content-Type", "application/cloudevents+avro")], "a")
        .assert_problem(415, "bad_content_type");
    publish(&server, &[JSON], "{").assert_problem(400, "bad_request");
    publish(&server, &[STRUCTURED], "[").assert_problem(400, "bad_request");
    publish(&server, &[BATCH], "[]").assert_problem(400, "bad_request");
    publish(&server, &[BATCH], "{}").assert_problem(400, "bad_request");
    publish(&server, &[JSON, ("Origin", "http://evil.example")], "1")
        .assert_problem(403, "origin_not_allowed");
    let too_large = vec![b'1'; 8 * 1024 * 1024 + 1];
    publish(&server, &[JSON], too_large).assert_problem(413, "body_too_large");
    let path = "/topics/_courant.audit/events";
    publish(&server, &[JSON], "1").json(200);
    send(&server, "POST", path, &[JSON], "1").assert_problem(403, "internal_topic");
    send(&server, "POST", "/topics/none/events", &[JSON], "1").assert_problem(404, "topic_not_found");
    assert_eq!(tailed(&server).len(), 1, "only what was answered with its place is there");
}

/// Bodies that are announced and do not come take all the memory for bodies, and give it back.
#[test]
fn who_announces_much_and_sends_nothing_keeps_nobody_from_publishing() {
    let data = tempdir().unwrap();
    let server = Server::start(data.path());
    server.create_topic("orders", 1);
    let silent: Vec<TcpStream> = (0..8)
        .map(|_| {
            let mut stream = TcpStream::connect(server.http()).expect("a connection");
            let head = format!(
                "POST /api/v1/topics/orders/events HTTP/1.1\r\nHost: {}\r\nContent-Length: {}\r\n\r\n1",
                server.http(),
                8 * 1024 * 1024
            );
            stream.write_all(head.as_bytes()).expect("the head is sent");
            stream.set_read_timeout(Some(Duration::from_millis(10))).expect("a timeout");
            stream
        })
        .collect();
    let said = eventually("one of them is cut off", PATIENCE, || {
        silent.iter().find_map(|stream| {
            let mut bytes = [0; 64];
            let count = (&*stream).read(&mut bytes).ok().filter(|count| *count > 0)?;
            Some(String::from_utf8_lossy(&bytes[..count]).into_owned())
        })
    });
    assert!(said.starts_with("HTTP/1.1 408 "), "{said}");
    publish(&server, &[JSON], "1").json(200);
    assert_eq!(tailed(&server).len(), 1);
}

#[test]
fn in_a_compacted_topic_events_need_keys_and_no_data_deletes_them() {
    let data = tempdir().unwrap();
    let server = Server::start(data.path());
    let configs = json!({ "cleanup.policy": "compact" });
    let topic = json!({ "name": "orders", "partitions": 1, "configs": configs }).to_string();
    send(&server, "POST", "/topics", &[JSON], topic).json(201);
    publish(&server, &BINARY, "x").assert_problem(422, "invalid_events");
    let keyed = [&BINARY[..], &[("ce-partitionkey", "k")]].concat();
    publish(&server, &keyed, "").json(200);
    let record = &tailed(&server)[0];
    assert_eq!((&record["key"], &record["value"]), (&json!("k"), &Value::Null));
}

/// The independent reader: the SDK of the CloudEvents project makes events, and takes them apart again.
#[test]
fn the_sdk_of_cloudevents_reads_what_it_has_sent() {
    let test = "http_publish::the_sdk_of_cloudevents_reads_what_it_has_sent";
    let Some(python) = std::env::var_os("COURANT_TEST_PYTHON") else {
        return skip(test, "COURANT_TEST_PYTHON names nothing");
    };
    let data = tempdir().unwrap();
    let server = Server::start(data.path());
    server.create_topic("orders", 3);
    let output = Command::new(python)
        .arg(python_script("cloudevents_http.py"))
        .args([format!("http://{}", server.http()), server.bootstrap(), "orders".to_owned()])
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .output()
        .expect("the program starts");
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(said.trim(), r#"{"read": 5}"#);
}
