//! Records by HTTP: pages, one by its position or its event's id, damage that is named, and searches.

use std::collections::BTreeMap;
use std::fs::OpenOptions;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::os::unix::fs::FileExt as _;
use std::time::{SystemTime, UNIX_EPOCH};

use courant_log::Codec;
use courant_log::batch::records::{NewRecord, encode};
use serde_json::{Value, json};
use tempfile::tempdir;

use crate::PATIENCE;
use crate::log_verify::{EVENTS, filled};
use crate::raw;
use crate::server::Server;

/// No double-precision number is this one.
pub(crate) const EXACT: &str = "9007199254740993";

pub(crate) const JSON: (&str, &str) = ("Content-Type", "application/json");

/// An HTTP answer.
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) text: String,
}

impl Answer {
    /// The JSON of an answer with this status.
    #[track_caller]
    pub(crate) fn json(&self, status: u16) -> Value {
        assert_eq!(self.status, status, "{}", self.text);
        serde_json::from_str(&self.text).unwrap_or_else(|error| panic!("{error}: {}", self.text))
    }

    /// Fails unless it is this problem.
    #[track_caller]
    pub(crate) fn assert_problem(&self, status: u16, code: &str) {
        assert_eq!(self.json(status)["code"], code, "{}", self.text);
    }
}

fn connect(server: &Server, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> TcpStream {
    // HTTP/1.0: the answer ends with the connection, and is not cut into chunks.
    let mut head = format!("{method} /api/v1{path} HTTP/1.0\r\nHost: {}\r\n", server.http());
    for (name, value) in headers {
        head += &format!("{name}: {value}\r\n");
    }
    if method == "POST" {
        head += &format!("Content-Length: {}\r\n", body.len());
    }
    let mut stream = TcpStream::connect(server.http()).expect("the HTTP port accepts");
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    // A body that is refused need not be read to its end.
    let _ = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(b"\r\n"));
    let _ = stream.write_all(body);
    stream
}

/// Sends a request below `/api/v1`.
pub(crate) fn send(
    server: &Server,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: impl AsRef<[u8]>,
) -> Answer {
    let mut stream = connect(server, method, path, headers, body.as_ref());
    let mut answer = Vec::new();
    let ended = stream.read_to_end(&mut answer);
    let answer = String::from_utf8(answer).expect("text");
    let (head, text) = answer.split_once("\r\n\r\n").unwrap_or_else(|| panic!("{ended:?}: {answer:?}"));
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status");
    Answer { status, text: text.to_owned() }
}

pub(crate) fn get(server: &Server, path: &str) -> Answer {
    send(server, "GET", path, &[], "")
}

pub(crate) fn post(server: &Server, path: &str, body: &Value) -> Answer {
    send(server, "POST", path, &[JSON], body.to_string())
}

/// One server-sent event.
#[derive(Clone, Debug)]
pub(crate) struct Event {
    pub(crate) name: String,
    pub(crate) id: Option<String>,
    /// Its source text, and what that says.
    pub(crate) text: String,
    pub(crate) data: Value,
}

/// A stream of them, read line by line as they come.
pub(crate) struct Stream(BufReader<TcpStream>);

impl Stream {
    pub(crate) fn open(server: &Server, path: &str, headers: &[(&str, &str)]) -> Stream {
        Stream::try_open(server, path, headers).unwrap_or_else(|status| panic!("{path}: {status}"))
    }

    /// Opens one, or tells the status of the refusal.
    pub(crate) fn try_open(server: &Server, path: &str, headers: &[(&str, &str)]) -> Result<Stream, String> {
        let mut stream = Stream(BufReader::new(connect(server, "GET", path, headers, b"")));
        let status = stream.line().expect("an answer");
        if !status.contains(" 200 ") {
            return Err(status);
        }
        while !stream.line().expect("the head of an answer").is_empty() {}
        Ok(stream)
    }

    /// The next line; nothing at the end.
    pub(crate) fn line(&mut self) -> Option<String> {
        let mut line = String::new();
        let read = self.0.read_line(&mut line).expect("a line in time");
        (read > 0).then(|| line.trim_end().to_owned())
    }

    /// The next event; nothing at the end. Heartbeats are passed over.
    pub(crate) fn next(&mut self) -> Option<Event> {
        let (mut name, mut id, mut text) = (None, None, None);
        loop {
            let line = self.line()?;
            match line.split_once(": ") {
                Some(("event", word)) => name = Some(word.to_owned()),
                Some(("id", word)) => id = Some(word.to_owned()),
                Some(("data", word)) => text = Some(word.to_owned()),
                _ if line.is_empty() && text.is_some() => break,
                _ if line.is_empty() => (name, id) = (None, None),
                _ => assert!(line.starts_with(':'), "{line}"),
            }
        }
        let text = text.unwrap();
        let data = serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"));
        Some(Event { name: name.expect("an event has a name"), id, text, data })
    }

    /// The next event, which must have that name.
    #[track_caller]
    pub(crate) fn expect(&mut self, name: &str) -> Event {
        let event = self.next().expect("the stream goes on");
        assert_eq!(event.name, name, "{event:?}");
        event
    }
}

/// Publishes one plain record for each value, in one batch.
pub(crate) fn produce(server: &Server, topic: &str, partition: i32, values: &[String]) {
    let values: Vec<&[u8]> = values.iter().map(String::as_bytes).collect();
    let (error, _) = raw::Connection::open(server.kafka())
        .produce(topic, partition, &raw::batch(&values))
        .expect("an answer to Produce");
    assert_eq!(error, 0, "producing to {topic}/{partition}");
}

fn offsets(page: &Value) -> Vec<(u64, u64)> {
    let place = |record: &Value| (record["partition"].as_u64().unwrap(), record["offset"].as_u64().unwrap());
    page["records"].as_array().unwrap().iter().map(place).collect()
}

#[test]
fn pages_follow_each_other_without_loss_and_numbers_keep_every_digit() {
    let data = tempdir().unwrap();
    let server = Server::start(data.path());
    server.create_topic("orders", 3);
    for partition in 0..3 {
        let values: Vec<String> =
            (0..20).map(|number| format!("{{\"p\":{number},\"id\":{EXACT}}}")).collect();
        produce(&server, "orders", partition, &values);
    }
    let mut seen: BTreeMap<u64, Vec<u64>> = BTreeMap::new();
    let mut path = "/topics/orders/records?limit=7".to_owned();
    loop {
        let answer = get(&server, &path);
        let page = answer.json(200);
        assert!(offsets(&page).len() <= 7, "{page}");
        for (partition, offset) in offsets(&page) {
            seen.entry(partition).or_default().push(offset);
        }
        // The source text, before any parser has had it.
        let digits = answer.text.matches(EXACT).count();
        assert_eq!(digits, offsets(&page).len(), "{}", answer.text);
        let Some(next) = page["next"].as_str() else { break };
        path = format!("/topics/orders/records?limit=7&after={next}");
    }
    let all: Vec<u64> = (0..20).collect();
    assert_eq!(seen, BTreeMap::from([(0, all.clone()), (1, all.clone()), (2, all)]));
}

#[test]
fn a_page_begins_where_it_is_told_to() {
    let data = tempdir().unwrap();
    let server = Server::start(data.path());
    server.create_topic("t", 2);
    let values: Vec<String> = (0..10).map(|number| number.to_string()).collect();
    produce(&server, "t", 0, &values);
    let at = |query: &str| offsets(&get(&server, &format!("/topics/t/records?{query}")).json(200));
    assert_eq!(at("from=-2"), [(0, 8), (0, 9)]);
    assert_eq!(at("from=7&partition=0"), [(0, 7), (0, 8), (0, 9)]);
    assert!(at("from=end").is_empty());
    // What `raw::batch` writes is from 2026-09-21.
    assert!(at("from=@1790000000001").is_empty(), "later than all of them");
    assert_eq!(at("from=@2026-01-31T08:00:00Z&limit=1"), [(0, 0)]);
    assert!(at("partition=1").is_empty());
    for (query, status, code) in [
        ("from=beginning", 400, "bad_request"),
        ("partition=2", 404, "partition_not_found"),
        ("partition=x", 400, "bad_request"),
        ("after=1.x", 400, "bad_request"),
        ("limit=0", 400, "bad_request"),
        ("form=start", 400, "bad_request"),
    ] {
        get(&server, &format!("/topics/t/records?{query}")).assert_problem(status, code);
    }
    get(&server, "/topics/none/records").assert_problem(404, "topic_not_found");
}

#[test]
fn records_are_the_same_in_every_codec() {
    let data = tempdir().unwrap();
    let server = Server::start(data.path());
    let values: Vec<String> = (0..50).map(|number| format!("{number} {}", "v".repeat(500))).collect();
    for codec in ["uncompressed", "gzip", "snappy", "lz4", "zstd"] {
        let configs = json!({ "compression.type": codec });
        post(&server, "/topics", &json!({ "name": codec, "partitions": 1, "configs": configs })).json(201);
        produce(&server, codec, 0, &values);
        let page = get(&server, &format!("/topics/{codec}/records")).json(200);
        let found: Vec<&str> = page["records"]
            .as_array()
            .unwrap()
            .iter()
            .map(|record| record["value"].as_str().unwrap())
            .collect();
        assert_eq!(found, values, "{codec}");
        let one = get(&server, &format!("/topics/{codec}/records/0/49")).json(200);
        assert_eq!((&one["value"], &one["size"]), (&json!(values[49]), &json!(values[49].len())), "{codec}");
    }
}

#[test]
fn long_values_are_cut_in_lists_and_whole_alone() {
    let data = tempdir().unwrap();
    let server = Server::start(data.path());
    server.create_topic("t", 1);
    let long = "ä".repeat(300_000);
    produce(&server, "t", 0, std::slice::from_ref(&long));
    let listed = &get(&server, "/topics/t/records").json(200)["records"][0];
    assert_eq!((&listed["value_truncated"], &listed["size"]), (&json!(true), &json!(600_000)));
    assert!(
        listed["value"].as_str().is_some_and(|value| long.starts_with(value) && value.len() <= 16 * 1024)
    );
    let alone = get(&server, "/topics/t/records/0/0").json(200);
    assert_eq!((alone["value"].as_str(), alone.get("value_truncated")), (Some(long.as_str()), None));
    get(&server, "/topics/t/records/0/1").assert_problem(404, "record_not_found");
    get(&server, "/topics/t/records/1/0").assert_problem(404, "partition_not_found");
    get(&server, "/topics/t/records/0/x").assert_problem(400, "bad_request");
}

#[test]
fn who_takes_large_records_slowly_fills_no_memory() {
    const AT_ONCE: usize = 8;
    let data = tempdir().unwrap();
    let server = Server::start(data.path());
    server.create_topic("t", 1);
    // Each byte of it is six in JSON, more than what the sockets on the way hold.
    let record = NewRecord { value: Some(vec![1_u8; 4 << 20].into()), ..NewRecord::default() };
    let batch = encode(&[record], Codec::Lz4, None).expect("a batch");
    let (error, _) = raw::Connection::open(server.kafka()).produce("t", 0, &batch).expect("an answer");
    assert_eq!(error, 0);
    let path = "/topics/t/records/0/0";
    let slow: Vec<Stream> = (0..AT_ONCE).map(|_| Stream::open(&server, path, &[])).collect();
    get(&server, path).assert_problem(503, "busy");
    get(&server, "/topics/t/records").json(200);
    drop(slow);
    let whole = crate::eventually("those who went away have given up their places", PATIENCE, || {
        let answer = get(&server, path);
        (answer.status == 200).then_some(answer)
    });
    assert_eq!(whole.json(200)["value"].as_str().map(str::len), Some(4 << 20));
}

#[test]
fn an_event_is_found_by_its_id() {
    let data = tempdir().unwrap();
    let server = Server::start(data.path());
    server.create_topic("t", 4);
    let now_ms = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis();
    let timed = format!("{:08x}-{:04x}-7000-8000-000000000001", now_ms >> 16, now_ms & 0xffff);
    let long_ago = "017f22e2-79b0-7cc3-98c4-dc0c0c07398f";
    for id in [timed.as_str(), "order 7/paid", long_ago] {
        let event =
            json!({ "specversion": "1.0", "id": id, "source": "/s", "type": "t", "partitionkey": id });
        let content_type = ("Content-Type", "application/cloudevents+json");
        send(&server, "POST", "/topics/t/events", &[content_type], event.to_string()).json(200);
    }
    for (path, id) in [(timed.as_str(), timed.as_str()), ("order%207%2Fpaid", "order 7/paid")] {
        let found = get(&server, &format!("/topics/t/events/{path}")).json(200);
        assert_eq!((&found["cloudevent"]["id"], &found["key"]), (&json!(id), &json!(id)));
    }
    // It was made long before it was stored: what its time says is only where to begin.
    assert_eq!(get(&server, &format!("/topics/t/events/{long_ago}")).json(200)["key"], long_ago);
    get(&server, "/topics/t/events/nobody").assert_problem(404, "record_not_found");
}

#[test]
fn damage_is_named_and_everything_else_is_shown() {
    let data = tempdir().unwrap();
    let segment = filled(data.path());
    let file = OpenOptions::new().read(true).write(true).open(&segment).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, 200_000).unwrap();
    file.write_all_at(&[byte[0] ^ 1], 200_000).unwrap();
    let server = Server::start(data.path());
    let (mut shown, mut gaps) = (Vec::new(), Vec::new());
    let mut path = "/topics/orders/records?limit=1000".to_owned();
    loop {
        let page = get(&server, &path).json(200);
        shown.extend(offsets(&page).into_iter().map(|(_, offset)| offset));
        gaps.extend(page["gaps"].as_array().unwrap().clone());
        let Some(next) = page["next"].as_str() else { break };
        path = format!("/topics/orders/records?limit=1000&after={next}");
    }
    assert_eq!(gaps.len(), 1, "{gaps:?}");
    let (first, last) = (gaps[0]["first_offset"].as_u64().unwrap(), gaps[0]["last_offset"].as_u64().unwrap());
    assert_eq!((&gaps[0]["code"], &gaps[0]["topic"]), (&json!("damaged"), &json!("orders")));
    assert!(0 < first && first <= last && last + 1 < EVENTS as u64, "{gaps:?}");
    let sound: Vec<u64> = (0..EVENTS as u64).filter(|offset| !(first..=last).contains(offset)).collect();
    assert_eq!(shown, sound, "shown and named together are all of them");
    get(&server, &format!("/topics/orders/records/0/{first}")).assert_problem(500, "record_unreadable");
    // A search passes over it too, and says so.
    let search = json!({ "topics": ["orders"], "where": { "contains": "0002999" } });
    let id = post(&server, "/searches", &search).json(202)["id"].as_str().unwrap().to_owned();
    let end = watched(&server, &id).pop().expect("its end");
    assert_eq!((&end.data["found"], &end.data["gaps"][0]["first_offset"]), (&json!(1), &json!(first)));
}

/// All events of a search, to its end.
fn watched(server: &Server, id: &str) -> Vec<Event> {
    let mut stream = Stream::open(server, &format!("/searches/{id}/stream"), &[]);
    let mut events = Vec::new();
    while let Some(event) = stream.next() {
        events.push(event);
    }
    assert_eq!(events.last().map(|event| event.name.as_str()), Some("end"), "{events:?}");
    events
}

/// Numbers around one that only an exact comparison tells apart.
fn searched(server: &Server) {
    server.create_topic("t", 2);
    let exact: u64 = EXACT.parse().unwrap();
    for partition in 0..2 {
        let values: Vec<String> =
            (0..3_000).map(|number| format!("{{\"order\":{{\"id\":{}}}}}", exact - 1_500 + number)).collect();
        produce(server, "t", partition, &values);
    }
}

#[test]
fn a_search_finds_what_fits_and_tells_how_far_it_is() {
    let data = tempdir().unwrap();
    let server = Server::start(data.path());
    searched(&server);
    let body = format!(r#"{{"topics":["t"],"where":{{"json":{{"pointer":"/order/id","equals":{EXACT}}}}}}}"#);
    let started = send(&server, "POST", "/searches", &[JSON], body).json(202);
    let id = started["id"].as_str().unwrap();
    let events = watched(&server, id);
    let found: Vec<&Event> = events.iter().filter(|event| event.name == "record").collect();
    assert_eq!(found.len(), 2, "one in each partition: {events:?}");
    assert!(found.iter().all(|event| event.data["offset"] == 1_500), "{found:?}");
    assert_eq!(found[0].text.matches(EXACT).count(), 1);
    let end = &events.last().unwrap().data;
    assert_eq!((&end["status"], &end["reason"]), (&json!("done"), &Value::Null));
    assert_eq!((&end["scanned"], &end["of"], &end["found"]), (&json!(6_000), &json!(6_000), &json!(2)));
    assert!(end["expires_in_ms"].as_u64().is_some_and(|left| left > 0));
    let results = get(&server, &format!("/searches/{id}/results?limit=1")).json(200);
    assert_eq!((results["records"].as_array().unwrap().len(), &results["next"]), (1, &json!("1")));
    let rest = get(&server, &format!("/searches/{id}/results?after=1")).json(200);
    assert_eq!((rest["records"].as_array().unwrap().len(), &rest["next"]), (1, &Value::Null));
    assert_eq!(get(&server, "/searches").json(200)["searches"][0]["id"], id);
    // Who comes back goes on behind what it has.
    let mut again = Stream::open(&server, &format!("/searches/{id}/stream"), &[("Last-Event-ID", "1")]);
    assert_eq!(again.expect("record").id.as_deref(), Some("2"));
    again.expect("end");
}

#[test]
fn a_search_keeps_to_its_range_and_its_limit() {
    let data = tempdir().unwrap();
    let server = Server::start(data.path());
    searched(&server);
    let search = |more: Value| {
        let mut search = json!({ "topics": ["t"], "where": { "contains": "order" } });
        search.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let id = post(&server, "/searches", &search).json(202)["id"].as_str().unwrap().to_owned();
        watched(&server, &id).pop().unwrap().data
    };
    let limited = search(json!({ "limit": 10 }));
    assert_eq!((&limited["kept"], &limited["status"]), (&json!(10), &json!("done")));
    assert!(limited["reason"].as_str().is_some_and(|reason| reason.contains("10 records")), "{limited}");
    let ranged = search(json!({ "partitions": [1], "range": { "from": "100", "to": "150" }, "limit": 1000 }));
    assert_eq!((&ranged["found"], &ranged["of"], &ranged["reason"]), (&json!(50), &json!(50), &Value::Null));
}

#[test]
fn a_cancelled_search_keeps_what_it_has_found() {
    let data = tempdir().unwrap();
    let server = Server::start(data.path());
    searched(&server);
    let search = json!({ "topics": ["t"], "where": { "contains": "order" }, "limit": 10_000 });
    let id = post(&server, "/searches", &search).json(202)["id"].as_str().unwrap().to_owned();
    let cancelled = send(&server, "DELETE", &format!("/searches/{id}"), &[], "").json(200);
    // It may have been faster.
    assert!(["cancelled", "done"].contains(&cancelled["status"].as_str().unwrap()), "{cancelled}");
    let after = get(&server, &format!("/searches/{id}")).json(200);
    assert_eq!(
        (&after["status"], &after["kept"]),
        (&cancelled["status"], &cancelled["kept"]),
        "it has ended"
    );
    let results = get(&server, &format!("/searches/{id}/results?limit=1000")).json(200);
    let kept = usize::try_from(after["kept"].as_u64().unwrap()).unwrap();
    assert_eq!(results["records"].as_array().unwrap().len(), kept.min(1000));
    let end = watched(&server, &id).pop().unwrap();
    assert_eq!(end.data["status"], cancelled["status"]);
}

#[test]
fn searches_that_make_no_sense_are_refused() {
    let data = tempdir().unwrap();
    let server = Server::start(data.path());
    server.create_topic("t", 1);
    let contains = json!({ "contains": "x" });
    for (search, status, code) in [
        (json!({ "topics": ["t"], "where": {} }), 400, "bad_request"),
        (json!({ "topics": [], "where": contains }), 400, "bad_request"),
        (json!({ "topics": ["none"], "where": contains }), 404, "topic_not_found"),
        (json!({ "topics": ["t"], "partitions": [1], "where": contains }), 404, "partition_not_found"),
        (json!({ "topics": ["t"], "where": contains, "limit": 0 }), 400, "bad_request"),
        (json!({ "topics": ["t"], "where": contains, "range": { "from": "x" } }), 400, "bad_request"),
        (json!({ "topics": ["t"], "where": { "keys": "x" } }), 400, "bad_request"),
        (
            json!({ "topics": ["t"], "where": { "json": { "pointer": "/a", "equals": {} } } }),
            400,
            "bad_request",
        ),
    ] {
        post(&server, "/searches", &search).assert_problem(status, code);
    }
    get(&server, "/searches/none").assert_problem(404, "search_not_found");
    let evil = ("Origin", "http://evil.example");
    let body = json!({ "topics": ["t"], "where": contains }).to_string();
    send(&server, "POST", "/searches", &[JSON, evil], body).assert_problem(403, "origin_not_allowed");
    assert_eq!(get(&server, "/searches").json(200), json!({ "searches": [] }), "none of them was begun");
}

#[test]
fn remembered_searches_are_few_and_old_ones_make_room() {
    let data = tempdir().unwrap();
    let server = Server::start(data.path());
    searched(&server);
    let search = json!({ "topics": ["t"], "where": { "contains": "order" }, "limit": 1 });
    let mut ids = Vec::new();
    for _ in 0..20 {
        let id = post(&server, "/searches", &search).json(202)["id"].as_str().unwrap().to_owned();
        watched(&server, &id);
        ids.push(id);
    }
    let listed = get(&server, "/searches").json(200);
    let listed: Vec<&str> =
        listed["searches"].as_array().unwrap().iter().map(|search| search["id"].as_str().unwrap()).collect();
    let newest: Vec<&str> = ids.iter().rev().take(16).map(String::as_str).collect();
    assert_eq!(listed, newest);
    get(&server, &format!("/searches/{}", ids[0])).assert_problem(404, "search_not_found");
}
