//! Live tails by HTTP: one topic for curl, many subscriptions for a page, and clients that read slowly.

use serde_json::{Value, json};
use tempfile::tempdir;

use crate::http_records::{EXACT, Event, JSON, Stream, get, post, produce, send};
use crate::server::{Server, signal};

/// Opens a tail and reads until its first subscription has begun. Returns the stream's id too.
fn tail(server: &Server, query: &str) -> (Stream, String) {
    let mut stream = Stream::open(server, &format!("/tail?{query}"), &[]);
    let id = stream.expect("open").data["stream"].as_str().unwrap().to_owned();
    stream.expect("subscribed");
    (stream, id)
}

fn numbered(numbers: std::ops::Range<u64>) -> Vec<String> {
    numbers.map(|number| number.to_string()).collect()
}

fn offset(event: &Event) -> u64 {
    event.data["offset"].as_u64().unwrap_or_else(|| panic!("{event:?}"))
}

#[test]
fn what_is_published_comes_at_once_and_a_client_that_returns_misses_nothing() {
    let data = tempdir().unwrap();
    let server = Server::start(data.path());
    server.create_topic("t", 3);
    produce(&server, "t", 0, &numbered(0..5));
    let (mut stream, _) = tail(&server, "topics=t");
    let value = format!("{{\"id\":{EXACT}}}");
    produce(&server, "t", 0, &[value.clone(), "second".to_owned(), "third".to_owned()]);
    let first = stream.expect("record");
    assert_eq!((offset(&first), &first.data["value"]), (5, &json!(value)), "not what was there before");
    assert!(first.text.contains(EXACT), "{}", first.text);
    // The connection breaks behind the second one, and more is published meanwhile.
    let second = stream.expect("record");
    drop(stream);
    produce(&server, "t", 1, &["elsewhere".to_owned()]);
    let id = second.id.expect("each record says where to go on");
    let mut again = Stream::open(&server, "/tail?topics=t", &[("Last-Event-ID", &id)]);
    assert_eq!(again.expect("open").data["resumed"], true);
    again.expect("subscribed");
    let rest = [again.expect("record"), again.expect("record")];
    let mut values: Vec<&str> = rest.iter().map(|event| event.data["value"].as_str().unwrap()).collect();
    values.sort_unstable();
    assert_eq!(values, ["elsewhere", "third"]);
}

#[test]
fn a_client_goes_on_after_a_restart_of_the_server() {
    let data = tempdir().unwrap();
    let server = Server::start(data.path());
    server.create_topic("t", 1);
    produce(&server, "t", 0, &numbered(0..3));
    let (mut stream, _) = tail(&server, "topics=t&from=start");
    let seen = stream.expect("record");
    drop(stream);
    let (status, said) = server.stop();
    assert!(status.success(), "{said}");
    let server = Server::start(data.path());
    let id = seen.id.expect("where to go on");
    let mut again = Stream::open(&server, "/tail?topics=t", &[("Last-Event-ID", &id)]);
    assert_eq!(again.expect("open").data["resumed"], false, "the server has forgotten the stream");
    again.expect("subscribed");
    assert_eq!(offset(&again.expect("record")), 1, "but not where the client was");
}

#[test]
fn only_what_fits_is_sent() {
    let data = tempdir().unwrap();
    let server = Server::start(data.path());
    server.create_topic("t", 1);
    let (mut stream, _) = tail(&server, "topics=t&type=b&key=k");
    for (kind, key) in [("a", "k"), ("b", "other"), ("b", "k")] {
        let event =
            json!({ "specversion": "1.0", "id": "1", "source": "/", "type": kind, "partitionkey": key });
        let content_type = ("Content-Type", "application/cloudevents+json");
        send(&server, "POST", "/topics/t/events", &[content_type], event.to_string()).json(200);
    }
    assert_eq!(offset(&stream.expect("record")), 2);
}

#[test]
fn one_stream_has_many_subscriptions_that_come_and_go() {
    let data = tempdir().unwrap();
    let server = Server::start(data.path());
    server.create_topic("a", 1);
    server.create_topic("b", 1);
    produce(&server, "b", 0, &numbered(0..3));
    let mut stream = Stream::open(&server, "/tail", &[]);
    let id = stream.expect("open").data["stream"].as_str().unwrap().to_owned();
    let change = |body: &Value| post(&server, &format!("/tail/{id}"), body);
    let both = json!({ "subscribe": [
        { "name": "first", "topics": ["a"] },
        { "name": "second", "topics": ["b"], "positions": [{ "topic": "b", "partition": 0, "offset": 2 }] },
    ] });
    assert_eq!(change(&both).json(200)["subscriptions"], json!(["first", "second"]));
    assert_eq!(stream.expect("subscribed").data["subscription"], "first");
    assert_eq!(stream.expect("subscribed").data["positions"][0]["next"], 2);
    let record = stream.expect("record");
    assert_eq!((&record.data["subscription"], offset(&record)), (&json!("second"), 2));
    produce(&server, "a", 0, &["x".to_owned()]);
    assert_eq!(stream.expect("record").data["subscription"], "first");
    // One goes, another one comes; what the first one would have told is not told any more.
    let other = json!({ "unsubscribe": ["first"], "subscribe": [{ "name": "third", "topics": ["b"] }] });
    change(&other).json(200);
    stream.expect("subscribed");
    produce(&server, "a", 0, &["y".to_owned()]);
    produce(&server, "b", 0, &["z".to_owned()]);
    let mut told = [stream.expect("record"), stream.expect("record")]
        .map(|event| (event.data["subscription"].as_str().unwrap().to_owned(), event.data["value"].clone()));
    told.sort_by(|one, other| one.0.cmp(&other.0));
    assert_eq!(told, [("second".to_owned(), json!("z")), ("third".to_owned(), json!("z"))]);
    for (body, code) in [
        (json!({ "subscribe": [{ "name": "second", "topics": ["a"] }] }), "bad_request"),
        (json!({ "subscribe": [{ "topics": ["a"] }] }), "bad_request"),
        (json!({ "unsubscribe": ["first"] }), "bad_request"),
        (json!({ "subscribe": [{ "name": "n", "topics": ["a"], "rate": 1 }] }), "bad_request"),
    ] {
        change(&body).assert_problem(400, code);
    }
    change(&json!({ "subscribe": [{ "name": "n", "topics": ["none"] }] }))
        .assert_problem(404, "topic_not_found");
    post(&server, "/tail/none", &both).assert_problem(404, "stream_not_found");
}

#[test]
fn a_stream_that_breaks_is_taken_up_with_all_its_subscriptions() {
    let data = tempdir().unwrap();
    let server = Server::start(data.path());
    server.create_topic("a", 1);
    let mut stream = Stream::open(&server, "/tail", &[]);
    let id = stream.expect("open").data["stream"].as_str().unwrap().to_owned();
    let wish = json!({ "subscribe": [{ "name": "mine", "topics": ["a"] }] });
    post(&server, &format!("/tail/{id}"), &wish).json(200);
    let place = stream.expect("subscribed").id.expect("where to go on");
    drop(stream);
    produce(&server, "a", 0, &numbered(0..2));
    let mut again = Stream::open(&server, "/tail", &[("Last-Event-ID", &place)]);
    let opened = again.expect("open");
    assert_eq!((&opened.data["resumed"], &opened.data["stream"]), (&json!(true), &json!(id)));
    assert_eq!(again.expect("subscribed").data["subscription"], "mine");
    for expected in 0..2 {
        let record = again.expect("record");
        assert_eq!((&record.data["subscription"], offset(&record)), (&json!("mine"), expected));
    }
}

#[test]
fn who_falls_behind_is_told_how_many_it_missed() {
    const PUBLISHED: u64 = 25_000;
    let data = tempdir().unwrap();
    let server = Server::start(data.path());
    server.create_topic("t", 1);
    let (mut stream, _) = tail(&server, "topics=t");
    // In one batch, so that nobody is fast enough.
    produce(&server, "t", 0, &numbered(0..PUBLISHED));
    let skipped = stream.expect("skipped").data;
    let count = skipped["skipped"].as_u64().unwrap();
    assert!(count > 0 && skipped["first_offset"] == 0, "{skipped}");
    for expected in count..PUBLISHED {
        assert_eq!(offset(&stream.expect("record")), expected);
    }
}

#[test]
fn what_was_there_before_is_not_passed_over() {
    const PUBLISHED: u64 = 25_000;
    let data = tempdir().unwrap();
    let server = Server::start(data.path());
    server.create_topic("t", 1);
    produce(&server, "t", 0, &numbered(0..PUBLISHED));
    let (mut stream, _) = tail(&server, "topics=t&from=start");
    for expected in 0..PUBLISHED {
        assert_eq!(offset(&stream.expect("record")), expected);
    }
}

#[test]
fn a_rate_passes_over_what_is_too_much_and_ends_at_the_newest() {
    const PUBLISHED: u64 = 2_000;
    let data = tempdir().unwrap();
    let server = Server::start(data.path());
    server.create_topic("t", 1);
    let (mut stream, _) = tail(&server, "topics=t&rate=10");
    produce(&server, "t", 0, &numbered(0..PUBLISHED));
    let (mut sent, mut skipped) = (0, 0);
    loop {
        let event = stream.next().expect("the stream goes on");
        match event.name.as_str() {
            "skipped" => skipped += event.data["skipped"].as_u64().unwrap(),
            "record" => sent += 1,
            name => panic!("{name}"),
        }
        if event.name == "record" && offset(&event) == PUBLISHED - 1 {
            break;
        }
    }
    assert_eq!(sent + skipped, PUBLISHED, "each is sent, or counted as passed over");
    assert!(sent <= 20, "{sent} were sent");
}

#[test]
fn clients_that_read_nothing_hold_a_piece_each() {
    const STREAMS: usize = 20;
    let data = tempdir().unwrap();
    let server = Server::start(data.path());
    server.create_topic("t", 1);
    // 40 MB, which is more than the sockets on the way to a client hold.
    let values = vec!["x".repeat(10_000); 80];
    for _ in 0..50 {
        produce(&server, "t", 0, &values);
    }
    let before = server.memory_kib("VmRSS");
    let open = |_| Stream::open(&server, "/tail?topics=t&from=start", &[]);
    let streams: Vec<Stream> = (0..STREAMS).map(open).collect();
    server.comes_to_rest();
    let grown = server.memory_kib("VmRSS").saturating_sub(before);
    assert!(grown < 200 * 1024, "{grown} KiB for {STREAMS} clients");
    drop(streams);
}

#[test]
fn a_silent_stream_gives_signs_of_life() {
    let data = tempdir().unwrap();
    let server = Server::start(data.path());
    server.create_topic("t", 1);
    let (mut stream, id) = tail(&server, "topics=t");
    assert_eq!(stream.line().as_deref(), Some(": heartbeat"), "within the time that a read may take");
    let place = stream.line().expect("the stream goes on");
    let topic = place.strip_prefix(&format!("id: {id},0.0.0.0.")).expect(&place);
    // The first 32 bits of its id.
    assert!(u32::from_str_radix(topic, 16).is_ok(), "{place}");
}

#[test]
fn new_partitions_are_followed_and_deleted_topics_are_told() {
    let data = tempdir().unwrap();
    let server = Server::start(data.path());
    server.create_topic("t", 1);
    server.create_topic("other", 1);
    let (mut stream, _) = tail(&server, "topics=t,other");
    send(&server, "DELETE", "/topics/t?confirm=t", &[], "").json(200);
    assert_eq!(stream.expect("ended").data["topic"], "t");
    // Made again, it has other events under the old name.
    server.create_topic("t", 2);
    produce(&server, "t", 1, &["anew".to_owned()]);
    let record = stream.expect("record");
    assert_eq!((&record.data["value"], &record.data["partition"]), (&json!("anew"), &json!(1)));
}

/// Symptom: whoever came back to a topic that was made again, and that had more events by then than the old one, was
/// not told of the first of them. Cause: where it was is an offset, and the offset was in the new topic, too. Fix: the
/// place says in which topic it is.
#[test]
fn a_client_that_comes_back_to_a_topic_that_was_made_again_has_all_of_it() {
    let data = tempdir().unwrap();
    let server = Server::start(data.path());
    for anew in [2, 5, 9] {
        server.create_topic("t", 1);
        produce(&server, "t", 0, &numbered(0..5));
        let (mut stream, _) = tail(&server, "topics=t&from=4");
        let place = stream.expect("record").id.expect("where to go on");
        drop(stream);
        send(&server, "DELETE", "/topics/t?confirm=t", &[], "").json(200);
        server.create_topic("t", 1);
        produce(&server, "t", 0, &numbered(0..anew));
        let mut again = Stream::open(&server, "/tail?topics=t", &[("Last-Event-ID", &place)]);
        again.expect("open");
        again.expect("subscribed");
        for expected in 0..anew {
            assert_eq!(offset(&again.expect("record")), expected, "of {anew}");
        }
        send(&server, "DELETE", "/topics/t?confirm=t", &[], "").json(200);
    }
}

#[test]
fn streams_end_in_order_when_the_server_stops() {
    let data = tempdir().unwrap();
    let server = Server::start(data.path());
    server.create_topic("t", 1);
    let (mut stream, _) = tail(&server, "topics=t");
    signal(server.pid(), "TERM");
    assert!(stream.expect("end").data["reason"].as_str().is_some_and(|reason| reason.contains("stopping")));
    assert!(stream.next().is_none(), "nothing comes behind the end");
    let (status, said) = server.wait();
    assert!(status.success(), "{said}");
}

#[test]
fn streams_are_counted_and_not_for_other_sites() {
    /// HTTP connections where a process may have enough files open.
    const CONNECTIONS_MAX: usize = 128;
    let data = tempdir().unwrap();
    let server = Server::start(data.path());
    // Half of the HTTP connections at most, so that the server can still be looked at.
    let mut streams = Vec::new();
    while let Ok(mut stream) = Stream::try_open(&server, "/tail", &[]) {
        stream.expect("open");
        streams.push(stream);
        assert!(streams.len() <= CONNECTIONS_MAX / 2, "{} streams are open", streams.len());
    }
    assert!(!streams.is_empty(), "not one could be opened");
    get(&server, "/tail").assert_problem(429, "too_many_streams");
    // Who goes away makes room, without saying so.
    streams.truncate(1);
    let again = crate::eventually("somebody has gone away", crate::PATIENCE, || {
        Stream::try_open(&server, "/tail", &[]).ok()
    });
    drop(again);
    assert_eq!(server.ask("/livez").0, 200, "a probe still gets a connection");
    get(&server, "/tail?topics=none").assert_problem(404, "topic_not_found");
    get(&server, "/tail?topic=t").assert_problem(400, "bad_request");
    send(&server, "GET", "/tail", &[("Last-Event-ID", "x,y")], "").assert_problem(400, "bad_request");
    let evil = ("Origin", "http://evil.example");
    send(&server, "GET", "/tail", &[evil], "").assert_problem(403, "origin_not_allowed");
    send(&server, "POST", "/tail/x", &[JSON, evil], "{}").assert_problem(403, "origin_not_allowed");
}
