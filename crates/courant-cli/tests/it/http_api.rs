//! The HTTP API under `/api/v1`, asked as curl and browsers ask it: one request on one connection.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{SystemTime, UNIX_EPOCH};

use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer as _};
use rdkafka::producer::{BaseRecord, Producer as _, ThreadedProducer};
use rdkafka::{ClientConfig, Offset, TopicPartitionList};
use serde_json::{Value, json};
use tempfile::tempdir;

use crate::cli::{rows, run, said};
use crate::raw::{Body, CREATE_TOPICS, Connection};
use crate::server::{Launch, Server};
use crate::{PATIENCE, program, skip};

/// Operations that other files of tests call: `http_records`, `http_publish`, `http_tail` and
/// `http_dead_letters`, `traces`.
const CALLED_ELSEWHERE: &[&str] = &[
    "list_records",
    "get_record",
    "get_event",
    "start_search",
    "list_searches",
    "get_search",
    "cancel_search",
    "get_search_results",
    "watch_search",
    "publish_events",
    "open_tail",
    "change_tail",
    "list_services",
    "show_service",
    "list_failures",
    "show_failure",
    "list_dead_letters",
    "show_dead_letter",
    "export_dead_letters",
    "edit_dead_letter",
    "redrive_dead_letters",
    "show_redrive",
    "list_redrive_results",
    "cancel_redrive",
    "discard_dead_letters",
    "archive_dead_letters",
    "restore_dead_letters",
    "discard_parked_events",
    "list_foreign_topics",
    "list_foreign_failures",
    "list_foreign_dead_letters",
    "discard_foreign_dead_letters",
    "list_traces",
    "get_trace",
];

/// An HTTP answer.
#[derive(Debug)]
struct Answer {
    status: u16,
    headers: BTreeMap<String, String>,
    text: String,
}

impl Answer {
    /// The body as JSON, of an answer with this status.
    #[track_caller]
    fn json(&self, status: u16) -> Value {
        assert_eq!(self.status, status, "{}", self.text);
        serde_json::from_str(&self.text).unwrap_or_else(|error| panic!("{error}: {}", self.text))
    }

    /// Fails unless it is a problem of that code, whole and with its type.
    #[track_caller]
    fn assert_problem(&self, status: u16, code: &str) {
        let problem = self.json(status);
        assert_eq!(self.headers["content-type"], "application/problem+json");
        assert_eq!((&problem["code"], &problem["status"]), (&json!(code), &json!(status)), "{problem}");
        assert_eq!(problem["type"], format!("urn:courant:problem:{code}"));
        assert!(problem["title"].is_string() && problem["detail"].is_string(), "{problem}");
    }

    /// The offset of the change's audit event.
    #[track_caller]
    fn audited(&self) -> u64 {
        self.headers["courant-audit"].parse().expect("an offset")
    }
}

/// Sends a request to `/api/v1`. A `Host` among the headers takes the place of the right one.
fn send(server: &Server, method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> Answer {
    let mut head = format!("{method} /api/v1{path} HTTP/1.1\r\nConnection: close\r\n");
    if !headers.iter().any(|(name, _)| *name == "Host") {
        head += &format!("Host: {}\r\n", server.http());
    }
    for (name, value) in headers {
        head += &format!("{name}: {value}\r\n");
    }
    if !body.is_empty() && !headers.iter().any(|(name, _)| *name == "Transfer-Encoding") {
        head += &format!("Content-Length: {}\r\n", body.len());
    }
    let mut stream = TcpStream::connect(server.http()).expect("the HTTP port accepts");
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    // A body that is refused need not be read to its end.
    let _ = write!(stream, "{head}\r\n{body}");
    let mut answer = Vec::new();
    let ended = stream.read_to_end(&mut answer);
    let answer = String::from_utf8(answer).expect("text");
    let (head, text) = answer.split_once("\r\n\r\n").unwrap_or_else(|| panic!("{ended:?}: {answer:?}"));
    let mut lines = head.lines();
    let status = lines.next().and_then(|line| line.split(' ').nth(1)?.parse().ok()).expect("a status");
    let header = |line: &str| {
        let (name, value) = line.split_once(": ").expect("a header");
        (name.to_ascii_lowercase(), value.to_owned())
    };
    Answer { status, headers: lines.map(header).collect(), text: text.to_owned() }
}

fn get(server: &Server, path: &str) -> Answer {
    send(server, "GET", path, &[], "")
}

fn send_json(server: &Server, method: &str, path: &str, body: &Value) -> Answer {
    send(server, method, path, &[("Content-Type", "application/json")], &body.to_string())
}

fn now_ms() -> i64 {
    i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis()).unwrap()
}

/// Adds an event to partition 0 of a topic for each timestamp.
fn produce(server: &Server, topic: &str, timestamps: &[i64]) {
    let producer: ThreadedProducer<_> =
        ClientConfig::new().set("bootstrap.servers", server.bootstrap()).create().expect("a producer");
    for (number, at_ms) in timestamps.iter().enumerate() {
        let value = number.to_string();
        let record = BaseRecord::<str, str>::to(topic).partition(0).payload(&value).timestamp(*at_ms);
        producer.send(record).map_err(|(error, _)| error).expect("queued");
    }
    producer.flush(PATIENCE).expect("all are acknowledged");
}

/// Commits offsets for a group that has no members.
fn commit(server: &Server, group: &str, topic: &str, offsets: &[(i32, i64)]) {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", server.bootstrap()).set("group.id", group);
    let consumer: BaseConsumer = config.create().expect("a consumer");
    let mut places = TopicPartitionList::new();
    for (partition, offset) in offsets {
        places.add_partition_offset(topic, *partition, Offset::Offset(*offset)).unwrap();
    }
    consumer.commit(&places, CommitMode::Sync).expect("committed");
}

/// What `orders` has, and the group `billing` has committed of it: events of a minute ago, of which the
/// last two are unread.
fn with_orders(server: &Server) -> i64 {
    server.create_topic("orders", 3);
    let minute_ago = now_ms() - 60_000;
    produce(server, "orders", &[minute_ago - 5, minute_ago, minute_ago + 1, minute_ago + 2]);
    commit(server, "billing", "orders", &[(0, 2), (1, 0)]);
    minute_ago
}

/// The accounts of all audit events, in order.
fn audit(server: &Server) -> Vec<Value> {
    let account = |event: &Value| {
        let text = event["value"].as_str().expect("text");
        serde_json::from_str(text).expect("an account in JSON")
    };
    rows(run(server, &["tail", "_courant.audit", "-o", "jsonl"])).iter().map(account).collect()
}

/// What stands in the way of a value being of a schema of the document.
pub(crate) fn differs(document: &Value, schema: &Value, value: &Value, at: &str) -> Option<String> {
    if let Some(to) = schema["$ref"].as_str() {
        let schema = document.pointer(to.strip_prefix('#')?).expect("a reference leads somewhere");
        return differs(document, schema, value, at);
    }
    if let Some(either) = schema["anyOf"].as_array() {
        let all: Option<Vec<_>> = either.iter().map(|one| differs(document, one, value, at)).collect();
        return all.map(|all| all.join("; or "));
    }
    if let Some(words) = schema["enum"].as_array()
        && !words.contains(value)
    {
        return Some(format!("{at} is {value}, not one of {words:?}"));
    }
    let is_it = match schema["type"].as_str() {
        None => true,
        Some("string") => value.is_string(),
        Some("boolean") => value.is_boolean(),
        Some("integer") => value.is_u64() || value.is_i64(),
        Some("number") => value.is_number(),
        Some("null") => value.is_null(),
        Some("array") => value.is_array(),
        Some("object") => value.is_object(),
        Some(other) => panic!("{at}: there is no type {other}"),
    };
    if !is_it {
        return Some(format!("{at} is {value}, not {}", schema["type"]));
    }
    if let Some(items) = value.as_array() {
        return items.iter().find_map(|item| differs(document, &schema["items"], item, &format!("{at}[]")));
    }
    let members = value.as_object()?;
    let required = schema["required"].as_array().into_iter().flatten();
    for name in required.filter_map(Value::as_str) {
        if !members.contains_key(name) {
            return Some(format!("{at} has no {name}"));
        }
    }
    members.iter().find_map(|(name, member)| {
        let of_member = match schema["properties"].get(name) {
            Some(of_member) => of_member,
            None => match &schema["additionalProperties"] {
                Value::Bool(false) => return Some(format!("{at} has {name}, of which nothing is said")),
                other => other,
            },
        };
        differs(document, of_member, member, &format!("{at}.{name}"))
    })
}

/// Every operation of the document: its address and method, and what it says.
pub(crate) fn operations(document: &Value) -> BTreeMap<String, (String, String, Value)> {
    let mut found = BTreeMap::new();
    for (path, methods) in document["paths"].as_object().expect("paths") {
        for (method, operation) in methods.as_object().expect("methods") {
            let id = operation["operationId"].as_str().expect("a name").to_owned();
            let path = path.strip_prefix("/api/v1").expect("everything is below /api/v1").to_owned();
            let known = found.insert(id, (method.to_uppercase(), path, operation.clone()));
            assert!(known.is_none(), "{known:?} has no name of its own");
        }
    }
    found
}

/// Whether an address is of that form.
fn is_of(template: &str, path: &str) -> bool {
    let path = path.split('?').next().unwrap_or_default();
    let (template, path): (Vec<_>, Vec<_>) = (template.split('/').collect(), path.split('/').collect());
    template.len() == path.len()
        && template.iter().zip(&path).all(|(part, word)| part.starts_with('{') || part == word)
}

#[test]
fn every_documented_operation_is_there_and_answers_as_documented() {
    let data = tempdir().unwrap();
    let server = Server::start(data.path());
    with_orders(&server);
    let document = get(&server, "/openapi.json").json(200);
    assert_eq!(document["openapi"], "3.1.0");
    let none = Value::Null;
    let new = json!({ "name": "made", "partitions": 2, "configs": { "retention.ms": "1000" } });
    let change = json!({ "configs": { "retention.ms": null, "min.insync.replicas": "2" } });
    let reset = json!({ "topic": "orders", "to": { "by": -1 } });
    let calls = [
        ("openapi", "/openapi.json", &none),
        ("health", "/health", &none),
        ("create_topic", "/topics", &new),
        ("list_topics", "/topics?limit=2", &none),
        ("show_topic", "/topics/orders", &none),
        ("list_partitions", "/topics/orders/partitions?limit=2", &none),
        ("alter_topic", "/topics/made", &change),
        ("list_groups", "/groups", &none),
        ("show_group", "/groups/billing", &none),
        ("group_history", "/groups/billing/history?topic=orders", &none),
        ("reset_group", "/groups/billing/reset", &reset),
        ("delete_group", "/groups/billing?confirm=billing", &none),
        ("delete_topic", "/topics/made?confirm=made", &none),
    ];
    let operations = operations(&document);
    for (id, path, body) in calls {
        let (method, template, operation) = operations.get(id).unwrap_or_else(|| panic!("{id} is not there"));
        assert!(is_of(template, path), "{id}: {template}");
        let answer = match body {
            Value::Null => send(&server, method, path, &[], ""),
            body => send_json(&server, method, path, body),
        };
        let responses = operation["responses"].as_object().expect("responses");
        let status = responses.keys().find(|status| *status != "default").expect("a status");
        assert_eq!(answer.status.to_string(), *status, "{id}: {}", answer.text);
        let schema = &operation["responses"][status]["content"]["application/json"]["schema"];
        assert!(schema.is_object(), "{id}: {operation}");
        assert_eq!(differs(&document, schema, &answer.json(answer.status), id), None);
    }
    let called: BTreeSet<&str> =
        calls.iter().map(|(id, _, _)| *id).chain(CALLED_ELSEWHERE.iter().copied()).collect();
    let documented: BTreeSet<&str> = operations.keys().map(String::as_str).collect();
    assert_eq!(documented, called, "a documented operation is called by no test, or the other way round");
    // The check itself can fail.
    let schema = &operations["health"].2["responses"]["200"]["content"]["application/json"]["schema"];
    assert!(differs(&document, schema, &json!({ "status": "ready" }), "health").is_some());
}

/// Symptom: a name in an address of dead letters that was no UTF-8 was answered in plain text. Cause: these handlers
/// took the framework's own extractor of paths. Fix: they take the one of the API, as all others do.
#[test]
fn what_is_no_text_in_an_address_is_a_problem_everywhere() {
    let data = tempdir().unwrap();
    let server = Server::start(data.path());
    let document = get(&server, "/openapi.json").json(200);
    let mut asked = 0;
    for (method, template, _) in operations(&document).into_values() {
        let parts = template.split('/').map(|part| if part.starts_with('{') { "%ff" } else { part });
        let path = parts.collect::<Vec<_>>().join("/");
        if path != template {
            send(&server, &method, &path, &[], "").assert_problem(400, "bad_request");
            asked += 1;
        }
    }
    assert!(asked > 30, "{asked} addresses");
}

#[test]
fn what_is_not_there_is_a_problem_too() {
    let data = tempdir().unwrap();
    let server = Server::start(data.path());
    get(&server, "/nothing").assert_problem(404, "not_found");
    get(&server, "/topics/none").assert_problem(404, "topic_not_found");
    get(&server, "/topics/none/nothing/at/all").assert_problem(404, "not_found");
    get(&server, "/groups/none").assert_problem(404, "group_not_found");
    send(&server, "PUT", "/topics", &[], "").assert_problem(405, "method_not_allowed");
    get(&server, "/topics?limmit=5").assert_problem(400, "bad_request");
    // What is no text is no name; nothing else takes its place.
    for path in [
        "/topics/%ff",
        "/topics/%ff/events/1",
        "/groups/%C3%28",
        "/topics?filter=%ff",
        "/topics?after=%e2%82",
    ] {
        get(&server, path).assert_problem(400, "bad_request");
    }
    get(&server, "/topics?limit=1001").assert_problem(400, "bad_request");
    send(&server, "POST", "/topics", &[("Content-Type", "application/json")], "{")
        .assert_problem(400, "bad_request");
    send(&server, "POST", "/topics", &[("Content-Type", "text/plain")], "{}")
        .assert_problem(415, "bad_content_type");
    let unknown = json!({ "name": "a", "partition": 3 });
    send_json(&server, "POST", "/topics", &unknown).assert_problem(400, "bad_request");
    // A body is refused by what it says of its length, before it is there; one that does not say it is
    // refused when it has come to that.
    let lie = [("Content-Type", "application/json"), ("Content-Length", "9000000000000")];
    send(&server, "POST", "/topics", &lie, "").assert_problem(413, "body_too_large");
    let chunk = format!("{:x}\r\n{}\r\n0\r\n\r\n", 70_000, "x".repeat(70_000));
    let chunked = [("Content-Type", "application/json"), ("Transfer-Encoding", "chunked")];
    send(&server, "POST", "/topics", &chunked, &chunk).assert_problem(413, "body_too_large");
    server.assert_well("requests that are refused");
}

#[test]
fn health_says_what_was_looked_at() {
    let data = tempdir().unwrap();
    let server = Server::start(data.path());
    let health = get(&server, "/health").json(200);
    assert_eq!((&health["status"], &health["read_only"]), (&json!("ready"), &json!(false)));
    assert_eq!(health["version"], env!("CARGO_PKG_VERSION"));
    assert!((now_ms() - health["now_ms"].as_i64().expect("a time")).abs() < 60_000, "{health}");
    let names: Vec<_> = health["checks"].as_array().expect("checks").iter().map(|one| &one["name"]).collect();
    assert_eq!(names, ["log", "disk", "damage", "lag_history"]);
    assert_eq!(health["checks"][0]["status"], "ok");
    assert_eq!(health["limits"]["page_rows"], 1000);
}

#[test]
fn a_topic_is_created_shown_altered_and_deleted() {
    let data = tempdir().unwrap();
    let server = Server::start(data.path());
    let new = json!({ "name": "orders", "partitions": 3, "configs": { "retention.ms": "9007199254740993" } });
    let mut trial = new.clone();
    trial["dry_run"] = json!(true);
    let tried = send_json(&server, "POST", "/topics", &trial);
    assert_eq!((&tried.json(200)["id"], &tried.json(200)["dry_run"]), (&Value::Null, &json!(true)));
    get(&server, "/topics/orders").assert_problem(404, "topic_not_found");
    let created = send_json(&server, "POST", "/topics", &new).json(201);
    assert_eq!((&created["partitions"], &created["replication_factor"]), (&json!(3), &json!(1)));
    send_json(&server, "POST", "/topics", &new).assert_problem(409, "topic_exists");
    for wrong in [json!({ "name": "a b" }), json!({ "name": "a", "partitions": 0 })] {
        send_json(&server, "POST", "/topics", &wrong).assert_problem(422, "invalid");
    }
    let wrong = json!({ "name": "a", "configs": { "retention.days": "1" } });
    send_json(&server, "POST", "/topics", &wrong).assert_problem(422, "invalid");

    produce(&server, "orders", &[1, 2, 3]);
    let shown = get(&server, "/topics/orders").json(200);
    assert_eq!((&shown["id"], &shown["events"]), (&created["id"], &json!(3)));
    assert!(shown["bytes"].as_u64().expect("a number") > 0, "{shown}");
    let config = |shown: &Value, name: &str| {
        let configs = shown["configs"].as_array().expect("configs");
        configs.iter().find(|config| config["name"] == *name).expect("it is there").clone()
    };
    assert_eq!(config(&shown, "retention.ms")["value"], "9007199254740993");
    assert_eq!(config(&shown, "cleanup.policy")["source"], "default");

    let page = get(&server, "/topics/orders/partitions?limit=2").json(200);
    assert_eq!((&page["next"], &page["total"]), (&json!(1), &json!(3)));
    let first = &page["partitions"][0];
    assert_eq!((&first["partition"], &first["start"], &first["end"]), (&json!(0), &json!(0), &json!(3)));
    let page = get(&server, "/topics/orders/partitions?limit=2&after=1").json(200);
    assert_eq!((&page["next"], &page["partitions"][0]["partition"]), (&Value::Null, &json!(2)));

    let change = json!({ "configs": { "retention.ms": "1000", "cleanup.policy": "compact" } });
    send_json(&server, "PATCH", "/topics/orders", &change).json(200);
    let back = json!({ "configs": { "retention.ms": null } });
    send_json(&server, "PATCH", "/topics/orders", &back).json(200);
    let shown = get(&server, "/topics/orders").json(200);
    assert_eq!(config(&shown, "retention.ms")["source"], "default");
    assert_eq!(config(&shown, "cleanup.policy")["value"], "compact");

    send(&server, "DELETE", "/topics/orders", &[], "").assert_problem(400, "not_confirmed");
    send(&server, "DELETE", "/topics/orders?confirm=order", &[], "").assert_problem(400, "not_confirmed");
    let tried = send(&server, "DELETE", "/topics/orders?dry_run=true", &[], "").json(200);
    assert_eq!((&tried["events"], &tried["dry_run"]), (&json!(3), &json!(true)));
    get(&server, "/topics/orders").json(200);
    send(&server, "DELETE", "/topics/orders?confirm=orders", &[], "").json(200);
    get(&server, "/topics/orders").assert_problem(404, "topic_not_found");
}

#[test]
fn every_change_is_an_event_before_it_is_answered_and_nothing_else_is() {
    let data = tempdir().unwrap();
    let server = Server::start(data.path());
    let new = |name: &str| json!({ "name": name });
    // Nobody chooses for how long the account of changes is kept, before there is one.
    let short = json!({ "name": "_courant.audit", "configs": { "retention.ms": "1" } });
    send_json(&server, "POST", "/topics", &short).assert_problem(403, "internal_topic");
    let created = send_json(&server, "POST", "/topics", &new("orders"));
    // The answer has the event's offset, and whoever has the answer can read it.
    let end = get(&server, "/topics/_courant.audit/partitions").json(200)["partitions"][0]["end"].clone();
    assert_eq!(end.as_u64().expect("an offset"), created.audited() + 1);
    let trial = json!({ "name": "more", "dry_run": true });
    assert!(!send_json(&server, "POST", "/topics", &trial).headers.contains_key("courant-audit"));
    get(&server, "/topics");
    send(&server, "DELETE", "/topics/orders", &[], "").assert_problem(400, "not_confirmed");
    let deleted = send(&server, "DELETE", "/topics/orders?confirm=orders", &[], "");
    assert_eq!((deleted.status, deleted.audited()), (200, created.audited() + 1));
    send(&server, "DELETE", "/topics/_courant.audit?confirm=_courant.audit", &[], "")
        .assert_problem(403, "internal_topic");

    let accounts = audit(&server);
    let told: Vec<_> = accounts
        .iter()
        .map(|one| (one["action"].as_str(), one["target"].as_str(), one["result"].as_str()))
        .collect();
    let done = |action| (Some(action), Some("orders"), Some("done"));
    assert_eq!(told, [done("topic.create"), done("topic.delete")]);
    assert!(accounts[0]["who"]["address"].as_str().expect("an address").starts_with("127.0.0.1:"));
    assert_eq!(accounts[0]["who"]["name"], Value::Null);
    assert!((now_ms() - accounts[0]["time_ms"].as_i64().expect("a time")).abs() < 60_000);
    // An event like any other, with the headers of CloudEvents.
    let event = &rows(run(&server, &["tail", "_courant.audit", "-o", "jsonl"]))[0];
    assert!(event.to_string().contains("courant.change-made"), "{event}");
}

#[test]
fn pages_of_other_sites_and_other_names_are_shut_out() {
    let data = tempdir().unwrap();
    let server = Launch::on(data.path()).arguments(&["--api-hosts", "events.example,log.example"]).start();
    // A name that was rebound to this address: for the browser it is the same origin.
    let rebound = [("Host", "rebound.example:8080"), ("Origin", "http://rebound.example:8080")];
    send(&server, "GET", "/topics", &rebound, "").assert_problem(403, "host_not_allowed");
    send(&server, "GET", "/topics", &[("Host", "events.example")], "").json(200);
    let port = server.http().port();
    send(&server, "GET", "/topics", &[("Host", &format!("localhost:{port}"))], "").json(200);

    let body = json!({ "name": "orders" }).to_string();
    let of_other = [("Content-Type", "application/json"), ("Origin", "http://evil.example")];
    send(&server, "POST", "/topics", &of_other, &body).assert_problem(403, "origin_not_allowed");
    get(&server, "/topics/orders").assert_problem(404, "topic_not_found");
    let own = format!("http://{}", server.http());
    let of_own = [("Content-Type", "application/json"), ("Origin", own.as_str())];
    send(&server, "POST", "/topics", &of_own, &body).json(201);
    // No other site may read an answer.
    let asked = send(&server, "GET", "/topics", &[("Origin", "http://evil.example")], "");
    assert!(!asked.headers.keys().any(|name| name.starts_with("access-control")), "{asked:?}");
}

#[test]
fn a_read_only_server_changes_nothing_and_shows_everything() {
    let data = tempdir().unwrap();
    let server = Launch::on(data.path()).arguments(&["--api-read-only"]).start();
    with_orders(&server);
    let body = json!({ "name": "more" });
    send_json(&server, "POST", "/topics", &body).assert_problem(403, "read_only");
    send(&server, "DELETE", "/topics/orders?confirm=orders", &[], "").assert_problem(403, "read_only");
    send(&server, "DELETE", "/groups/billing?confirm=billing", &[], "").assert_problem(403, "read_only");
    assert_eq!(get(&server, "/topics").json(200)["total"], 1);
    assert_eq!(get(&server, "/groups").json(200)["total"], 1);
    assert_eq!(get(&server, "/health").json(200)["read_only"], true);
}

#[test]
fn with_a_token_file_nobody_else_is_let_in_and_the_audit_knows_who_came() {
    let data = tempdir().unwrap();
    let tokens = data.path().join("tokens");
    fs::write(&tokens, "# two people\nanna 0123456789abcdef\nben  fedcba9876543210\n").unwrap();
    let log = tempdir().unwrap();
    let file = tokens.to_str().expect("text");
    let server = Launch::on(log.path()).arguments(&["--api-token-file", file]).start();
    get(&server, "/topics").assert_problem(401, "unauthorized");
    assert_eq!(get(&server, "/topics").headers["www-authenticate"], "Bearer");
    let wrong = [("Authorization", "Bearer 0123456789abcdeg")];
    send(&server, "GET", "/topics", &wrong, "").assert_problem(401, "unauthorized");
    get(&server, "/health").json(200);
    let ben = [("Authorization", "Bearer fedcba9876543210"), ("Content-Type", "application/json")];
    send(&server, "GET", "/topics", &ben, "").json(200);
    send(&server, "POST", "/topics", &ben, &json!({ "name": "orders" }).to_string()).json(201);
    assert_eq!(audit(&server)[0]["who"]["name"], "ben");
    assert!(!server.stderr().contains("fedcba9876543210"), "a token is in the log");

    fs::write(&tokens, "anna short\n").unwrap();
    let other = tempdir().unwrap();
    let refused = Launch::on(other.path()).arguments(&["--api-token-file", file]).try_start();
    let refused = refused.err().expect("a token that can be guessed");
    refused.assert_orderly();
    assert!(refused.stderr.contains("line 1") && !refused.stderr.contains("short"), "{refused}");
}

#[test]
fn lag_is_told_in_events_and_in_seconds_and_what_is_unknown_is_null() {
    let data = tempdir().unwrap();
    let server = Server::start(data.path());
    let minute_ago = with_orders(&server);
    // Two events are unread in partition 0, none in 1; of 2 nothing is known to the group.
    let shown = get(&server, "/groups/billing").json(200);
    let age = (now_ms() - minute_ago) as f64 / 1000.0;
    let places = shown["partitions"].as_array().expect("partitions");
    assert_eq!(places.len(), 2);
    assert_eq!(
        (&places[0]["committed"], &places[0]["end"], &places[0]["lag"]),
        (&json!(2), &json!(4), &json!(2))
    );
    let seconds = places[0]["lag_seconds"].as_f64().expect("a number");
    assert!((59.0..=age + 1.0).contains(&seconds), "{seconds}, and {age} since the event");
    assert_eq!((&places[1]["lag"], &places[1]["lag_seconds"]), (&json!(0), &json!(0.0)));
    assert_eq!(shown["total"]["events"], 2);
    assert_eq!(shown["total"]["seconds"], shown["topics"]["orders"]["seconds"]);
    assert_eq!(shown["topics_total"], 1);
    assert_eq!((&shown["state"], &shown["members_total"]), (&json!("Empty"), &json!(0)));
    assert_eq!(shown["topics"]["orders"]["events_per_minute"], Value::Null, "two points are a minute apart");

    // An event without a timestamp makes the age unknown, and never 0; the number of events is known.
    let timeless = Connection::open(server.kafka()).produce("orders", 1, &timeless_batch());
    assert_eq!(timeless.expect("an answer").0, 0);
    let shown = get(&server, "/groups/billing").json(200);
    assert_eq!(
        (&shown["partitions"][1]["lag"], &shown["partitions"][1]["lag_seconds"]),
        (&json!(1), &Value::Null)
    );
    assert_eq!((&shown["total"]["events"], &shown["total"]["seconds"]), (&json!(3), &Value::Null));

    let first = get(&server, "/groups/billing?limit=1").json(200);
    assert_eq!((&first["next"], &first["partitions_total"]), (&json!("orders/0"), &json!(2)));
    assert_eq!(first["total"]["events"], 3, "the sum is of all pages");
    let second = get(&server, "/groups/billing?limit=1&after=orders%2F0").json(200);
    assert_eq!((&second["next"], &second["partitions"][0]["partition"]), (&Value::Null, &json!(1)));
    let listed = get(&server, "/groups?filter=BILL").json(200);
    assert_eq!((&listed["groups"][0]["lag"], &listed["groups"][0]["topics"]), (&json!(3), &json!(1)));
    crate::eventually("the topic's reader is known", PATIENCE, || {
        let topic = get(&server, "/topics/orders").json(200);
        (topic["group_names"] == json!(["billing"]) && topic["groups"] == 1).then_some(())
    });
}

/// A batch of one event that has no timestamp.
fn timeless_batch() -> Vec<u8> {
    let record = courant_log::batch::records::NewRecord { timestamp: -1, ..Default::default() };
    let batch = courant_log::batch::records::encode(&[record], courant_log::Codec::None, None);
    batch.expect("a batch").to_vec()
}

#[test]
fn a_group_is_moved_and_deleted_when_it_has_no_members() {
    let data = tempdir().unwrap();
    let server = Server::start(data.path());
    let minute_ago = with_orders(&server);
    let reset = |body: Value| send_json(&server, "POST", "/groups/billing/reset", &body);
    let committed = |partition: usize| {
        let shown = get(&server, "/groups/billing").json(200);
        shown["partitions"][partition]["committed"].as_u64().expect("an offset")
    };
    let planned = reset(json!({ "topic": "orders", "partition": 0, "to": "start" })).json(200);
    let row = json!({ "topic": "orders", "partition": 0, "from": 2, "to": 0, "dry_run": true });
    assert_eq!((&planned["moved"], &planned["dry_run"]), (&json!([row]), &json!(true)));
    assert_eq!(committed(0), 2, "a plan changes nothing");
    for (to, expected) in [
        (json!("start"), 0),
        (json!("end"), 4),
        (json!({ "offset": 3 }), 3),
        (json!({ "offset": u64::MAX }), 4),
        (json!({ "time_ms": minute_ago }), 1),
        (json!({ "by": 2 }), 3),
        (json!({ "by": i64::MIN }), 0),
    ] {
        let body = json!({ "topic": "orders", "partition": 0, "to": to, "execute": true });
        assert_eq!(reset(body).json(200)["moved"][0]["to"], expected, "{to}");
        assert_eq!(committed(0), expected, "{to}");
    }
    reset(json!({ "topic": "none", "to": "start" })).assert_problem(404, "topic_not_found");
    reset(json!({ "topic": "orders", "partition": 3, "to": "start" }))
        .assert_problem(404, "partition_not_found");
    reset(json!({ "topic": "orders", "partition": 2, "to": { "by": 1 } })).assert_problem(422, "invalid");
    reset(json!({ "topic": "orders", "to": "middle" })).assert_problem(400, "bad_request");

    // A member would go on committing what it has.
    let mut connection = Connection::open(server.kafka());
    let (error, member) = connection.join_group("billing").expect("an answer");
    assert_eq!(error, 0);
    let body = json!({ "topic": "orders", "to": "start", "execute": true });
    reset(body).assert_problem(409, "group_in_use");
    let delete = || send(&server, "DELETE", "/groups/billing?confirm=billing", &[], "");
    delete().assert_problem(409, "group_in_use");
    let shown = get(&server, "/groups/billing").json(200);
    assert_eq!((&shown["members_total"], &shown["members"][0]["id"]), (&json!(1), &json!(member)));
    assert_eq!(connection.leave_group("billing", &member).expect("an answer"), 0);

    send(&server, "DELETE", "/groups/billing", &[], "").assert_problem(400, "not_confirmed");
    assert_eq!(delete().json(200)["offsets"], 2);
    get(&server, "/groups/billing").assert_problem(404, "group_not_found");
    let accounts = audit(&server);
    let last = accounts.last().expect("the deletion");
    assert_eq!((&last["action"], &last["detail"]["offsets"]), (&json!("group.delete"), &json!(2)));
    // Symptom: the way back from a deletion had numbers of partitions that stand nowhere else. Cause: they were those
    // that the log has for itself. Fix: they are told as everywhere, by topic.
    assert_eq!(last["detail"]["committed"], json!({ "orders": { "0": 0, "1": 0 } }));
    assert_eq!(accounts.iter().filter(|one| one["action"] == "group.reset").count(), 7);
}

#[test]
fn a_group_may_have_any_name() {
    let data = tempdir().unwrap();
    let server = Server::start(data.path());
    server.create_topic("orders", 1);
    commit(&server, "a/b c?ü", "orders", &[(0, 0)]);
    let shown = get(&server, "/groups/a%2Fb%20c%3F%C3%BC").json(200);
    assert_eq!(shown["name"], "a/b c?ü");
}

/// The library below speaks HTTP/2 in this program, because a crate for backups asks it to: then one connection would
/// have as many requests at one time as all of them may have. `connections.rs` in `courant-server` has the story.
#[test]
fn http_2_is_not_spoken() {
    let data = tempdir().unwrap();
    let server = Server::start(data.path());
    let mut stream = TcpStream::connect(server.http()).expect("the HTTP port accepts");
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    // An empty SETTINGS frame follows the preface.
    stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").expect("it is sent");
    let mut answer = Vec::new();
    let ended = stream.read_to_end(&mut answer);
    assert!(answer.is_empty(), "{ended:?}: {answer:?}");
    get(&server, "/health").json(200);
}

/// Creates topics of one partition, a thousand with each request.
fn create_many(server: &Server, count: usize) {
    let mut connection = Connection::open(server.kafka());
    for first in (0..count).step_by(1000) {
        let mut body = Body::default().i32(1000);
        for number in first..first + 1000 {
            body = body.string(&format!("topic-{number:05}")).i32(1).i16(1).i32(0).i32(0);
        }
        let body = body.i32(60_000).i8(0);
        connection.call(CREATE_TOPICS, 2, &body).expect("an answer to CreateTopics");
    }
}

#[test]
fn ten_thousand_topics_come_page_by_page() {
    const ALL: usize = 10_000;
    let data = tempdir().unwrap();
    let server = Server::start(data.path());
    create_many(&server, ALL);
    let (mut names, mut after): (Vec<String>, String) = (Vec::new(), String::new());
    loop {
        let answer = get(&server, &format!("/topics?limit=1000&after={after}"));
        assert!(answer.text.len() < 300_000, "a page of {} bytes", answer.text.len());
        let page = answer.json(200);
        assert_eq!(page["total"], ALL);
        let topics = page["topics"].as_array().expect("topics");
        names.extend(topics.iter().map(|topic| topic["name"].as_str().expect("a name").to_owned()));
        match page["next"].as_str() {
            Some(next) => next.clone_into(&mut after),
            None => break,
        }
    }
    let expected: Vec<_> = (0..ALL).map(|number| format!("topic-{number:05}")).collect();
    assert_eq!(names, expected, "each once and in order");
    let default = get(&server, "/topics").json(200);
    assert_eq!(default["topics"].as_array().map(Vec::len), Some(100));
    let some = get(&server, "/topics?filter=C-0999").json(200);
    assert_eq!((&some["total"], &some["next"]), (&json!(10), &Value::Null));
}

#[test]
fn the_commands_of_the_guide_do_what_it_says() {
    if program("curl", "--version").is_none() {
        skip("http_api::the_commands_of_the_guide_do_what_it_says", "curl is not installed");
        return;
    }
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/guide/http-api.md");
    let page = fs::read_to_string(page).expect("the page");
    let data = tempdir().unwrap();
    let server = Server::start(data.path());
    said(run(&server, &["topic", "create", "shipments", "--partitions", "2"]));
    commit(&server, "billing", "shipments", &[(0, 0)]);
    let here = format!("http://{}", server.http());
    let mut ran = 0;
    for block in page.split("```sh\n").skip(1) {
        let commands = block.split("```").next().expect("an end").replace("http://127.0.0.1:8080", &here);
        let commands = format!("set -e\n{commands}");
        let ended =
            Command::new("sh").args(["-c", &commands]).stdin(Stdio::null()).output().expect("sh runs");
        let (out, err) = (String::from_utf8_lossy(&ended.stdout), String::from_utf8_lossy(&ended.stderr));
        assert!(ended.status.success(), "{commands}\n{out}{err}");
        ran += 1;
    }
    assert!(ran >= 5, "{ran} blocks of commands");
}
