//! `/metrics`: what it says, who may read it, and that dashboard and alerts ask for nothing else.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::Command;
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};
use tempfile::tempdir;

use crate::cli::{run, said};
use crate::server::{Launch, Server};
use crate::{PATIENCE, eventually, program, skip};

/// The labels of every sample of a page, by name.
type Page = BTreeMap<String, Vec<BTreeMap<String, String>>>;

/// Status and body of a scrape with these headers in place of the usual ones.
fn scrape(server: &Server, headers: &[(&str, &str)]) -> (u16, String) {
    let mut head = "GET /metrics HTTP/1.1\r\nConnection: close\r\n".to_owned();
    if !headers.iter().any(|(name, _)| *name == "Host") {
        head += &format!("Host: {}\r\n", server.http());
    }
    for (name, value) in headers {
        head += &format!("{name}: {value}\r\n");
    }
    let mut stream = TcpStream::connect(server.http()).expect("the HTTP port accepts");
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    write!(stream, "{head}\r\n").expect("the HTTP port reads");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an HTTP answer");
    let (head, body) = answer.split_once("\r\n\r\n").expect("an HTTP head");
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
    (status.expect("an HTTP status"), body.to_owned())
}

/// The value of a sample, by its name with its labels.
fn value<'page>(page: &'page str, sample: &str) -> Option<&'page str> {
    page.lines().find_map(|line| line.strip_prefix(sample)?.strip_prefix(' '))
}

/// A page that says this of a sample. What has names in it may be a second old.
fn page_with(server: &Server, sample: &str, expected: &str) -> String {
    eventually(&format!("{sample} is {expected}"), PATIENCE, || {
        let page = server.get("/metrics");
        (value(&page, sample) == Some(expected)).then_some(page)
    })
}

/// Has a service say that it is there, as services do: with a dead letter, and much that it does not say.
fn with_service(server: &Server, seen_ms: u128) {
    let policy = json!({ "effects": "once", "concurrency": 1, "attempts": 1, "exhausted": "park_key", "timeout_ms": 1, "parked_max": 9 });
    let bills = json!({
        "consumer": "bills", "generation": 0, "topics": ["orders"], "event_types": ["t"], "policy": policy,
        "passed": 0, "parked": { "keys": 1, "events": 4, "held": 1, "next_due_ms": null },
        "dead": { "letters": 1, "failures": [] }, "partitions": [],
    });
    // It has begun to wait in the future, and so waits for no time yet.
    let since_ms = u64::try_from(seen_ms).unwrap() + 3_600_000;
    let stall = json!({ "consumer": "bills", "reason": "refused", "topic": "t", "partition": null, "since_ms": since_ms, "times": 3 });
    let state = json!({
        "version": 1, "service": "billing", "instance": "i", "code_version": "1", "courant_version": "1",
        "engine": "courant", "store": "sqlite", "operations": false, "started_ms": 0,
        "seen_ms": u64::try_from(seen_ms).unwrap(), "heartbeat_ms": 3_600_000, "outbox": 7,
        "requests": { "applied": 0, "refused": 0 }, "subscriptions": [bills],
        "stalls": [stall],
    });
    said(run(server, &["pub", "_courant.services", "--key", "i", &state.to_string()]));
}

fn now_ms() -> u128 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis()
}

/// Five events in partition 1 of `orders`, of which `billing` has done with two.
fn with_orders(server: &Server) {
    said(run(server, &["topic", "create", "orders", "--partitions", "3"]));
    for number in ["1", "2", "3", "4", "5"] {
        said(run(server, &["pub", "orders", "--partition", "1", number]));
    }
    for to in ["start", "+2"] {
        said(run(server, &["group", "reset", "billing", "--topic", "orders", "--to", to, "--execute"]));
    }
}

#[test]
fn lag_is_there_in_events_and_in_seconds_under_the_usual_names() {
    let data = tempdir().unwrap();
    let server = Server::start(data.path());
    with_orders(&server);
    let lag = |partition| {
        format!(
            "kafka_consumergroup_lag{{consumergroup=\"billing\",topic=\"orders\",partition=\"{partition}\"}}"
        )
    };
    let page = page_with(&server, &lag(1), "3");
    assert_eq!(value(&page, &lag(0)), Some("0"));
    let of = |name: &str| value(&page, &format!("{name}{{consumergroup=\"billing\",topic=\"orders\"}}"));
    assert_eq!(of("kafka_consumergroup_lag_sum"), Some("3"));
    assert_eq!(of("kafka_consumergroup_current_offset_sum"), Some("2"));
    let oldest = of("kafka_consumergroup_lag_seconds_max").and_then(|value| value.parse::<f64>().ok());
    assert!(oldest.is_some_and(|age| (0.0..3600.0).contains(&age)), "{oldest:?}");
    assert_eq!(value(&page, "kafka_consumergroup_members{consumergroup=\"billing\"}"), Some("0"));
    assert_eq!(value(&page, "kafka_topic_partitions{topic=\"orders\"}"), Some("3"));
    assert_eq!(value(&page, "courant_topic_current_offset_sum{topic=\"orders\"}"), Some("5"));
    let end = "kafka_topic_partition_current_offset{topic=\"orders\",partition=\"1\"}";
    assert_eq!(value(&page, end), Some("5"));
    assert_eq!(value(&page, "kafka_brokers"), Some("1"));
    assert!(page.ends_with("# EOF\n"), "{page}");

    // All is read, and so nothing is old.
    said(run(&server, &["group", "reset", "billing", "--topic", "orders", "--to", "end", "--execute"]));
    let page = page_with(&server, &lag(1), "0");
    let of = |name: &str| value(&page, &format!("{name}{{consumergroup=\"billing\",topic=\"orders\"}}"));
    assert_eq!(of("kafka_consumergroup_lag_seconds_max"), Some("0.0"));
    // A topic that is gone has no figures.
    said(run(&server, &["topic", "delete", "orders", "--yes"]));
    eventually("nothing is said of it", PATIENCE, || {
        (!server.get("/metrics").contains("orders")).then_some(())
    });
}

#[test]
fn what_services_say_of_themselves_is_there_until_they_end() {
    let data = tempdir().unwrap();
    let server = Server::start(data.path());
    let page = server.get("/metrics");
    assert_eq!(value(&page, "courant_service_unreadable_instances"), Some("0"), "nobody has said anything");
    with_service(&server, now_ms());
    let of = |name: &str| format!("{name}{{service=\"billing\",consumer=\"bills\"}}");
    let instances =
        |state: &str| format!("courant_service_instances{{service=\"billing\",state=\"{state}\"}}");
    let page = page_with(&server, &of("courant_service_dead_letters"), "1");
    assert_eq!(value(&page, &of("courant_service_parked_events")), Some("4"));
    assert_eq!(value(&page, &of("courant_service_held_keys")), Some("1"));
    assert_eq!(value(&page, &of("courant_service_parked_events_max")), Some("9"));
    assert_eq!(value(&page, "courant_service_outbox_events{service=\"billing\"}"), Some("7"));
    let stalled =
        "courant_service_stalled_seconds{service=\"billing\",consumer=\"bills\",reason=\"refused\"}";
    assert_eq!(value(&page, stalled), Some("0.0"));
    assert_eq!(
        (value(&page, &instances("running")), value(&page, &instances("silent"))),
        (Some("1"), Some("0"))
    );
    // It was last heard of long ago.
    with_service(&server, 1_000);
    page_with(&server, &instances("silent"), "1");
    said(run(&server, &["pub", "_courant.services", "--key", "i", "--null-value"]));
    let is_gone = || !server.get("/metrics").contains("courant_service_dead_letters{");
    eventually("nothing is said of it any more", PATIENCE, || is_gone().then_some(()));
}

#[test]
fn a_groups_name_cannot_end_its_label() {
    let data = tempdir().unwrap();
    let server = Server::start(data.path());
    with_orders(&server);
    let name = "a\"} 1\\b";
    said(run(&server, &["group", "reset", name, "--topic", "orders", "--to", "start", "--execute"]));
    page_with(&server, "kafka_consumergroup_members{consumergroup=\"a\\\"} 1\\\\b\"}", "0");
}

#[test]
fn series_have_a_bound_and_what_has_no_room_is_counted() {
    let data = tempdir().unwrap();
    let server = Server::start(data.path());
    said(run(&server, &["topic", "create", "large", "--partitions", "10000"]));
    said(run(&server, &["topic", "create", "small"]));
    let page = page_with(&server, "kafka_topic_partitions{topic=\"small\"}", "1");
    let ends = page.lines().filter(|line| line.starts_with("kafka_topic_partition_current_offset{"));
    assert_eq!(ends.count(), 10_000, "as many as there is room for");
    assert_eq!(value(&page, "courant_topic_current_offset_sum{topic=\"small\"}"), Some("0"));
    assert_eq!(value(&page, "courant_metrics_left_out{of=\"topic_partitions\"}"), Some("1"));
    assert_eq!(value(&page, "courant_metrics_left_out{of=\"topics\"}"), Some("0"));
}

#[test]
fn who_may_not_read_the_api_may_not_read_names_here() {
    let data = tempdir().unwrap();
    let tokens = data.path().join("tokens");
    fs::write(&tokens, "prometheus 0123456789abcdef\n").unwrap();
    let log = tempdir().unwrap();
    let file = tokens.to_str().expect("text");
    let server =
        Launch::on(log.path()).arguments(&["--api-token-file", file, "--api-hosts", "events"]).start();
    assert_eq!(scrape(&server, &[]).0, 401);
    assert_eq!(scrape(&server, &[("Authorization", "Bearer 0123456789abcdeX")]).0, 401);
    let token = ("Authorization", "Bearer 0123456789abcdef");
    let (status, page) = scrape(&server, &[token]);
    assert_eq!((status, value(&page, "courant_ready")), (200, Some("1")));
    assert_eq!(scrape(&server, &[token, ("Host", "events:8080")]).0, 200);
    let (status, problem) = scrape(&server, &[token, ("Host", "rebound.example")]);
    assert_eq!(status, 403);
    assert!(problem.contains("--api-hosts rebound.example"), "{problem}");
    // Whether it lives is nobody's secret.
    assert_eq!(server.get("/livez"), "ok\n");
}

fn page_of(text: &str) -> Page {
    let mut page = Page::new();
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let (name, rest) = line.split_at(line.find(['{', ' ']).expect("a value"));
        // No name in this test has a comma or a brace.
        let labels =
            rest.strip_prefix('{').and_then(|rest| rest.split_once('}')).map_or("", |(labels, _)| labels);
        let pair = |pair: &str| {
            let (label, value) = pair.split_once('=').expect("a label");
            (label.to_owned(), value.trim_matches('"').to_owned())
        };
        let labels = labels.split(',').filter(|pair| !pair.is_empty()).map(pair).collect();
        page.entry(name.to_owned()).or_default().push(labels);
    }
    page
}

fn grafana(file: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../docs/grafana").join(file)
}

/// Every query of the dashboard: those of its charts, and those of its variables.
fn dashboard_queries(value: &Value, found: &mut Vec<String>) {
    match value {
        Value::Object(members) => {
            for (name, member) in members {
                match (name.as_str(), member) {
                    ("expr" | "definition", Value::String(query)) => found.push(query.clone()),
                    _ => dashboard_queries(member, found),
                }
            }
        }
        Value::Array(items) => items.iter().for_each(|item| dashboard_queries(item, found)),
        _ => {}
    }
}

/// Every expression of the alert rules.
fn alert_queries(text: &str) -> Vec<String> {
    text.lines().filter_map(|line| line.trim().strip_prefix("expr: ")).map(str::to_owned).collect()
}

/// What may stand before a parenthesis in a query.
const FUNCTIONS: &[&str] =
    &["absent", "delta", "increase", "max", "min", "min_over_time", "rate", "sum", "topk"];

/// Words before a list of labels.
const LABEL_LISTS: &[&str] = &["by", "on"];

/// Labels that Prometheus adds to whatever it scrapes.
const ADDED: &[&str] = &["instance", "job"];

/// The figures that a query is about, and labels that it names.
fn parts(query: &str) -> (BTreeSet<String>, BTreeSet<String>) {
    let (mut figures, mut labels) = (BTreeSet::new(), BTreeSet::new());
    // What is between quotes or brackets is no name.
    let (mut bare, mut inside) = (String::new(), None);
    for char in query.chars() {
        match (inside, char) {
            (None, '"' | '[') => inside = Some(if char == '[' { ']' } else { '"' }),
            (None, other) => bare.push(other),
            (Some(end), other) if end == other => inside = None,
            _ => {}
        }
    }
    if let Some(of) = bare.strip_prefix("label_values(") {
        let (figure, label) = of.trim_end_matches(')').split_once(", ").expect("a figure and a label");
        return ([figure.to_owned()].into(), [label.to_owned()].into());
    }
    let is_name = |char: char| char.is_ascii_alphanumeric() || char == '_';
    let (mut rest, mut list_ends) = (bare.as_str(), None);
    while let Some(begin) = rest.find(|char: char| is_name(char) || "{})".contains(char)) {
        rest = &rest[begin..];
        let word = &rest[..rest.find(|char: char| !is_name(char)).unwrap_or(rest.len())];
        if word.is_empty() {
            let mark = rest.chars().next().expect("a mark");
            list_ends = if mark == '{' { Some('}') } else { list_ends.filter(|end| *end != mark) };
            rest = &rest[1..];
            continue;
        }
        rest = &rest[word.len()..];
        let is_number = word.starts_with(|char: char| char.is_ascii_digit());
        if is_number || ["offset", "or", "and"].contains(&word) {
            continue;
        }
        if LABEL_LISTS.contains(&word) {
            list_ends = Some(')');
        } else if list_ends.is_some() {
            labels.insert(word.to_owned());
        } else if !FUNCTIONS.contains(&word) {
            assert!(!rest.starts_with('('), "{word} is no function that this test knows: {query}");
            figures.insert(word.to_owned());
        }
    }
    (figures, labels)
}

#[test]
fn every_query_of_dashboard_and_alerts_is_answered_by_a_running_server() {
    let data = tempdir().unwrap();
    let server = Server::start(data.path());
    with_orders(&server);
    with_service(&server, now_ms());
    page_with(&server, "courant_service_outbox_events{service=\"billing\"}", "7");
    let sum = "kafka_consumergroup_lag_sum{consumergroup=\"billing\",topic=\"orders\"}";
    let page = page_of(&page_with(&server, sum, "3"));
    let dashboard = fs::read_to_string(grafana("courant.json")).expect("the dashboard");
    let dashboard: Value = serde_json::from_str(&dashboard).expect("a dashboard in JSON");
    let alerts = alert_queries(&fs::read_to_string(grafana("alerts.yml")).expect("the alert rules"));
    assert!(alerts.len() >= 10, "{alerts:?}");
    let mut queries = alerts;
    dashboard_queries(&dashboard, &mut queries);
    assert!(queries.len() >= 40, "{queries:?}");
    for query in &queries {
        let (figures, labels) = parts(query);
        assert!(!figures.is_empty(), "{query} is about nothing");
        for figure in &figures {
            let samples = page.get(figure);
            let samples = samples.unwrap_or_else(|| panic!("{query}: the server has no {figure}"));
            for label in labels.iter().filter(|label| !ADDED.contains(&label.as_str())) {
                let has_it = samples.iter().all(|sample| sample.contains_key(label));
                assert!(has_it, "{query}: {figure} has no label {label}");
            }
        }
    }
}

/// Of these the guide names a few, and says that `# HELP` tells of all.
const FAMILIES: &[&str] = &["courant_kafka_", "courant_log_"];

/// Two were in no page: who looked for them found them by chance.
#[test]
fn the_guide_names_every_figure_and_no_other() {
    let guide = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../docs/guide/metrics.md");
    let guide = fs::read_to_string(guide).expect("the page");
    let is_figure = |span: &str| {
        let is_name = span.bytes().all(|byte| byte == b'_' || byte.is_ascii_lowercase());
        is_name && (span.starts_with("courant_") || span.starts_with("kafka_"))
    };
    let spans = guide.split('`').skip(1).step_by(2).filter(|span| is_figure(span));
    // A counter's name ends so, but not where its help is.
    let named: BTreeSet<&str> = spans.map(|span| span.strip_suffix("_total").unwrap_or(span)).collect();
    let data = tempdir().unwrap();
    let server = Server::start(data.path());
    let page = server.get("/metrics");
    let helps = page.lines().filter_map(|line| line.strip_prefix("# HELP "));
    let figures: BTreeSet<&str> = helps.filter_map(|help| help.split(' ').next()).collect();
    assert!(figures.len() >= 50, "{figures:?}");
    let is_of_family = |figure: &str| FAMILIES.iter().any(|family| figure.starts_with(family));
    let unnamed: Vec<_> = figures.difference(&named).filter(|figure| !is_of_family(figure)).collect();
    assert!(unnamed.is_empty(), "docs/guide/metrics.md does not name {unnamed:?}");
    let unknown: Vec<_> = named.difference(&figures).collect();
    assert!(unknown.is_empty(), "docs/guide/metrics.md names {unknown:?}, which a server does not have");
}

#[test]
fn a_query_about_nothing_would_be_seen() {
    let (figures, labels) = parts(
        "sum by (topic, of) (rate(a_total{x=~\"$y z\"}[$__rate_interval])) > 300 and on (job) (b offset 15m or c * 0)",
    );
    assert_eq!(figures, ["a_total", "b", "c"].map(str::to_owned).into());
    assert_eq!(labels, ["job", "of", "topic", "x"].map(str::to_owned).into());
    assert_eq!(parts("label_values(a, b)").1, ["b".to_owned()].into());
}

#[test]
fn the_alerts_fire_when_they_should() {
    let Some(promtool) = program("promtool", "--version") else {
        return skip("the_alerts_fire_when_they_should", "there is no promtool");
    };
    for arguments in [["check", "rules", "alerts.yml"], ["test", "rules", "alerts-test.yml"]] {
        let directory = grafana("");
        let checked =
            Command::new(&promtool).args(arguments).current_dir(directory).output().expect("it runs");
        let said = String::from_utf8_lossy(&checked.stdout) + String::from_utf8_lossy(&checked.stderr);
        assert!(checked.status.success(), "{arguments:?}: {said}");
    }
}
