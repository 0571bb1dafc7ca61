//! Spans of `courant serve`, as a collector gets them.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::Instant;

use serde_json::Value;
use tempfile::tempdir;

use crate::cli::{rows, run, said};
use crate::server::{Launch, Server, fixed_port};
use crate::{PATIENCE, eventually};

const ENDPOINT: &str = "OTEL_EXPORTER_OTLP_ENDPOINT";
const DELAY: &str = "OTEL_BSP_SCHEDULE_DELAY";

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const SPAN: &str = "00f067aa0ba902b7";

fn traceparent(flags: &str) -> String {
    format!("00-{TRACE}-{SPAN}-{flags}")
}

/// A collector of spans: it takes what is sent to it by OTLP over HTTP.
struct Collector {
    address: SocketAddr,
    taken: Arc<Taken>,
}

#[derive(Default)]
struct Taken {
    requests: Mutex<Vec<Value>>,
    more: Condvar,
}

impl Collector {
    fn start() -> Collector {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address");
        let taken = Arc::new(Taken::default());
        let keeper = Arc::clone(&taken);
        // It ends with the process.
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                if let Some(request) = take(stream) {
                    keeper.requests.lock().unwrap().push(request);
                    keeper.more.notify_all();
                }
            }
        });
        Collector { address, taken }
    }

    fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The first span that is as it should be.
    #[track_caller]
    fn span(&self, what: &str, is_it: impl Fn(&Value) -> bool) -> Value {
        let deadline = Instant::now() + PATIENCE;
        let mut requests = self.taken.requests.lock().unwrap();
        loop {
            if let Some(span) = requests.iter().flat_map(spans).find(|span| is_it(span)) {
                return span.clone();
            }
            let left = deadline.saturating_duration_since(Instant::now());
            assert!(!left.is_zero(), "no span {what} in {requests:?}");
            requests = self.taken.more.wait_timeout(requests, left).unwrap().0;
        }
    }

    #[track_caller]
    fn named(&self, name: &str) -> Value {
        self.span(name, |span| span["name"] == name)
    }
}

/// The spans of a request.
fn spans(request: &Value) -> impl Iterator<Item = &Value> {
    fn list<'a>(value: &'a Value, name: &str) -> &'a [Value] {
        value[name].as_array().map(Vec::as_slice).unwrap_or_default()
    }
    let scopes = list(request, "resourceSpans").iter().flat_map(|one| list(one, "scopeSpans"));
    scopes.flat_map(|one| list(one, "spans"))
}

/// Reads one request, and answers it. A connection that says nothing is none.
fn take(mut stream: TcpStream) -> Option<Value> {
    stream.set_read_timeout(Some(PATIENCE)).ok()?;
    let mut reader = BufReader::new(stream.try_clone().ok()?);
    let (mut line, mut length) = (String::new(), 0);
    if reader.read_line(&mut line).ok()? == 0 {
        return None;
    }
    assert!(line.starts_with("POST /v1/traces HTTP/1.1"), "{line}");
    loop {
        line.clear();
        reader.read_line(&mut line).ok()?;
        let Some((name, value)) = line.trim().split_once(": ") else { break };
        match name.to_ascii_lowercase().as_str() {
            "content-length" => length = value.parse().expect("a length"),
            "content-type" => assert_eq!(value, "application/json"),
            _ => {}
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    write!(stream, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{{}}").ok()?;
    Some(serde_json::from_slice(&body).expect("JSON"))
}

fn attribute<'span>(span: &'span Value, name: &str) -> &'span Value {
    let all = span["attributes"].as_array().expect("attributes");
    let found = all.iter().find(|attribute| attribute["key"] == name);
    let value = found.unwrap_or_else(|| panic!("no {name} in {span}"))["value"].as_object().expect("a value");
    value.values().next().expect("a value")
}

/// Sends a request to the HTTP API, and gives back its status.
fn ask(server: &Server, request: &str, headers: &[(&str, &str)], body: &str) -> u16 {
    let mut head = format!("{request} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n", server.http());
    for (name, value) in headers {
        head += &format!("{name}: {value}\r\n");
    }
    let mut stream = TcpStream::connect(server.http()).expect("the HTTP port accepts");
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    write!(stream, "{head}Content-Length: {}\r\n\r\n{body}", body.len()).expect("the HTTP port reads");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an HTTP answer");
    answer.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status")
}

#[test]
fn what_kafka_clients_publish_and_read_is_in_their_traces() {
    let collector = Collector::start();
    let data = tempdir().unwrap();
    let endpoint = collector.endpoint();
    let launch = Launch::on(data.path()).variable(ENDPOINT, &endpoint).variable(DELAY, "20");
    let server = launch.variable("OTEL_RESOURCE_ATTRIBUTES", "deployment.environment=test").start();
    let header = format!("traceparent={}", traceparent("01"));
    said(run(&server, &["pub", "orders", "-H", &header, "hello"]));
    let appended = collector.named("append orders");
    assert_eq!((&appended["traceId"], &appended["parentSpanId"]), (&TRACE.into(), &SPAN.into()));
    assert_eq!(appended["kind"], 2, "a server");
    assert_eq!(attribute(&appended, "messaging.destination.name"), "orders");
    assert_eq!(attribute(&appended, "messaging.destination.partition.id"), "0");
    assert_eq!(attribute(&appended, "messaging.kafka.offset"), "0", "64 bits are a text in JSON");
    let time = |name: &str| appended[name].as_str().and_then(|time| time.parse::<u64>().ok());
    assert!(time("startTimeUnixNano") <= time("endTimeUnixNano"), "{appended}");

    assert_eq!(rows(run(&server, &["tail", "orders", "-o", "jsonl"])).len(), 1);
    let fetched = collector.named("fetch orders");
    assert_eq!((&fetched["traceId"], &fetched["parentSpanId"]), (&TRACE.into(), &SPAN.into()));

    let requests = collector.taken.requests.lock().unwrap();
    let resource = &requests[0]["resourceSpans"][0]["resource"];
    assert_eq!(attribute(resource, "service.name"), "courant");
    assert_eq!(attribute(resource, "deployment.environment"), "test");
}

#[test]
fn an_event_that_is_published_by_http_is_made_in_the_span_of_its_request() {
    let collector = Collector::start();
    let data = tempdir().unwrap();
    let endpoint = collector.endpoint();
    let server = Launch::on(data.path()).variable(ENDPOINT, &endpoint).variable(DELAY, "20").start();
    server.create_topic("orders", 1);
    let sampled = traceparent("01");
    let headers = [("traceparent", sampled.as_str()), ("Content-Type", "application/json")];
    let status = ask(&server, "POST /api/v1/topics/orders/events", &headers, "{\"total\":5}");
    assert!((200..300).contains(&status), "{status}");
    let answered = collector.named("POST /api/v1/topics/{topic}/events");
    assert_eq!((&answered["traceId"], &answered["parentSpanId"]), (&TRACE.into(), &SPAN.into()));
    assert_eq!(attribute(&answered, "http.response.status_code"), &Value::from(status.to_string()));
    let read = rows(run(&server, &["tail", "orders", "-o", "jsonl"]));
    let made_in = format!("00-{TRACE}-{}-01", answered["spanId"].as_str().expect("an id"));
    assert!(read[0]["headers"].to_string().contains(&made_in), "no {made_in} in {}", read[0]);

    // A trace that nobody keeps stays so, and what comes later shows that nothing was sent for it.
    let unsampled = traceparent("00");
    assert_eq!(ask(&server, "GET /api/v1/groups", &[("traceparent", &unsampled)], ""), 200);
    assert_eq!(ask(&server, "GET /api/v1/topics/nothing", &[], ""), 404);
    let root = collector.named("GET /api/v1/topics/{topic}");
    assert!(root["parentSpanId"].is_null() && root["status"].is_null(), "no fault of the server: {root}");
    let requests = collector.taken.requests.lock().unwrap();
    assert!(
        !requests.iter().flat_map(spans).any(|span| span["name"] == "GET /api/v1/groups"),
        "{requests:?}"
    );
}

#[test]
fn what_waits_at_the_end_is_sent() {
    let collector = Collector::start();
    let data = tempdir().unwrap();
    let endpoint = collector.endpoint();
    let server = Launch::on(data.path()).variable(ENDPOINT, &endpoint).variable(DELAY, "3600000").start();
    assert_eq!(ask(&server, "GET /api/v1/topics", &[], ""), 200);
    assert!(collector.taken.requests.lock().unwrap().is_empty(), "it waits for others");
    let (status, said) = server.stop();
    assert!(status.success(), "{said}");
    collector.named("GET /api/v1/topics");
}

#[test]
fn a_collector_that_is_away_costs_spans_and_nothing_else() {
    let data = tempdir().unwrap();
    let nobody = format!("http://127.0.0.1:{}", fixed_port());
    let launch = Launch::on(data.path()).variable(ENDPOINT, &nobody).variable(DELAY, "10");
    let server = launch.variable("OTEL_BSP_MAX_QUEUE_SIZE", "1").start();
    // One span is being sent again and again and another one waits, so the others have no room.
    eventually("spans are given up", PATIENCE, || {
        assert_eq!(ask(&server, "GET /api/v1/topics", &[], ""), 200);
        (server.counter("courant_spans_dropped_total") > 0).then_some(())
    });
    eventually("and counted where nobody took them", PATIENCE, || {
        (server.counter("courant_spans_failed_total") > 0).then_some(())
    });
    assert_eq!(server.counter("courant_spans_exported_total"), 0);
    let (status, said) = server.stop();
    assert!(status.success(), "{said}");
    assert_eq!(said.matches("the collector does not take spans").count(), 1, "it is said once: {said}");
}

/// An environment that all programs of a machine share may name another protocol than ours.
#[test]
fn a_protocol_that_is_not_spoken_keeps_no_server_from_starting() {
    let (data, collector) = (tempdir().unwrap(), Collector::start());
    let launch = Launch::on(data.path()).variable(ENDPOINT, &collector.endpoint()).variable(DELAY, "1");
    let server = launch.variable("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc").start();
    assert_eq!(ask(&server, "GET /api/v1/topics", &[], ""), 200);
    assert!(!server.get("/metrics").contains("courant_spans"));
    let (status, said) = server.stop();
    assert!(status.success(), "{said}");
    assert!(said.contains("OTEL_EXPORTER_OTLP_PROTOCOL") && said.contains("http/json"), "{said}");
    assert!(collector.taken.requests.lock().unwrap().is_empty(), "spans were sent");
}

#[test]
fn variables_that_cannot_be_followed_are_named() {
    let data = tempdir().unwrap();
    let launch = Launch::on(data.path()).variable(ENDPOINT, "http://127.0.0.1:4317");
    let Err(refused) = launch.variable("OTEL_TRACES_SAMPLER", "jaeger_remote").try_start() else {
        panic!("it has sampled what it cannot")
    };
    refused.assert_orderly();
    assert!(refused.stderr.contains("OTEL_TRACES_SAMPLER"), "{refused}");
    // Without any of them there are no spans, and no figures of them.
    let server = Server::start(data.path());
    assert!(!server.get("/metrics").contains("courant_spans"));
}
