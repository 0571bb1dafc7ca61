//! What is not a Kafka request ends its own connection and nothing else.

use courant_kafka::wire::messages::{ApiVersionsRequest, ApiVersionsResponse, ProduceRequest};
use courant_kafka::wire::{encode_request, supported_apis};

use crate::support::{Raw, Running, batch, produce};

/// A frame with a header of version 1 (empty client id) and the given body.
fn frame(key: i16, version: i16, body: &[u8]) -> Vec<u8> {
    let mut content = Vec::new();
    content.extend(key.to_be_bytes());
    content.extend(version.to_be_bytes());
    content.extend(7_i32.to_be_bytes());
    content.extend((-1_i16).to_be_bytes());
    content.extend(body);
    let length = i32::try_from(content.len()).expect("a short frame");
    [&length.to_be_bytes()[..], &content].concat()
}

async fn greet(raw: &mut Raw) -> ApiVersionsResponse {
    let request = ApiVersionsRequest {
        client_software_name: "raw".to_owned(),
        client_software_version: "1".to_owned(),
    };
    raw.call(&request, 4).await
}

/// librdkafka 2.12 asks for the topics that it knows, when it knows none, with an empty list whose count is
/// four bytes long where version 9 and later want one. Kafka reads that as a list that is null, then three
/// fields, and leaves the rest alone; a server that closes the connection loses the client.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bytes_behind_a_request_are_left_alone() {
    let running = Running::start().await;
    let mut raw = running.connect().await;
    // A tag buffer ends the header, whose version 2 belongs to it.
    raw.send_bytes(&frame(3, 13, &[0, 0, 0, 0, 0, 1, 0, 0])).await;
    assert!(!raw.receive_frame().await.is_empty(), "the request is answered");
    assert_eq!(greet(&mut raw).await.error_code, 0, "the connection goes on");
    assert_eq!(running.broker.metrics().bad_requests, 0);
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_not_a_request_closes_the_connection() {
    let running = Running::start().await;
    let names = [&100_001_i32.to_be_bytes()[..], &[0; 2 * 100_001]].concat();
    let large = [&(2 * 1024 * 1024_i32).to_be_bytes()[..], &3_i16.to_be_bytes()].concat();
    let cases: &[(&str, Vec<u8>)] = &[
        ("HTTP GET", b"GET / HTTP/1.1\r\nHost: x\r\n\r\n".to_vec()),
        ("HTTP POST", b"POST /topics HTTP/1.1\r\n\r\n".to_vec()),
        ("TLS hello", vec![0x16, 0x03, 0x01, 0x02, 0x00, 0x01, 0x00, 0x01, 0xfc]),
        ("SSH", b"SSH-2.0-OpenSSH_9.2\r\n".to_vec()),
        ("garbage", vec![0xa5; 64]),
        ("length -1", (-1_i32).to_be_bytes().to_vec()),
        ("length 0", 0_i32.to_be_bytes().to_vec()),
        ("length 7", 7_i32.to_be_bytes().to_vec()),
        ("length above the maximum", (100 * 1024 * 1024 + 1_i32).to_be_bytes().to_vec()),
        ("length 2^31-1", i32::MAX.to_be_bytes().to_vec()),
        ("an API nobody knows", frame(999, 0, &[])),
        ("a negative API key", frame(-1, 0, &[])),
        ("an API that is not served", frame(24, 3, &[])),
        ("Produce 2, advertised and not served", frame(0, 2, &[0; 8])),
        ("Metadata 99", frame(3, 99, &[])),
        ("an array of 2^31-1 topics", frame(3, 1, &[0x7f, 0xff, 0xff, 0xff])),
        ("an array of -2 topics", frame(3, 1, &[0xff, 0xff, 0xff, 0xfe])),
        ("a string that is longer than the frame", frame(3, 1, &[0, 0, 0, 1, 0x7f, 0xff])),
        ("more names than one request may have", frame(3, 1, &names)),
        ("a Metadata of 2 MiB, of which only the start comes", large),
        ("a body that is cut", frame(1, 11, &[0, 0, 0])),
    ];
    for (number, (name, bytes)) in cases.iter().enumerate() {
        let mut raw = running.connect().await;
        raw.send_bytes(bytes).await;
        raw.expect_closed(name).await;
        assert_eq!(running.broker.metrics().bad_requests, number as u64 + 1, "{name}");
        let answer = greet(&mut running.connect().await).await;
        assert_eq!(answer.error_code, 0, "after {name}");
    }
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn answers_before_a_bad_request_are_still_written() {
    let running = Running::start().await;
    let mut raw = running.connect().await;
    let good = encode_request(&ApiVersionsRequest::default(), 0, 5, None).expect("valid");
    let both = [good.concat(), frame(999, 0, &[])].concat();
    raw.send_bytes(&both).await;
    let (correlation_id, answer) = raw.receive::<ApiVersionsResponse>(0).await;
    assert_eq!((correlation_id, answer.error_code), (5, 0));
    raw.expect_closed("an API nobody knows").await;
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_version_of_the_future_gets_the_list_and_another_try() {
    let running = Running::start().await;
    let mut raw = running.connect().await;
    raw.send_bytes(&frame(18, 9, &[0; 12])).await;
    let (correlation_id, answer) = raw.receive::<ApiVersionsResponse>(0).await;
    assert_eq!((correlation_id, answer.error_code), (7, 35));
    assert_eq!(answer.api_keys.len(), supported_apis().len());
    let answer = greet(&mut raw).await;
    assert_eq!(answer.error_code, 0);
    let produce = answer.api_keys.iter().find(|api| api.api_key == 0);
    let produce = produce.expect("Produce is listed");
    assert_eq!((produce.min_version, produce.max_version), (0, 13));
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_without_a_decent_name_is_refused() {
    let running = Running::start().await;
    let mut raw = running.connect().await;
    let answer = raw.call(&ApiVersionsRequest::default(), 3).await;
    assert_eq!(answer.error_code, 42);
    running.stop().await;
}

/// Says that this process is the one whose memory is measured.
#[cfg(target_os = "linux")]
const CHILD: &str = "COURANT_TEST_CLAIMS_CHILD";
#[cfg(target_os = "linux")]
const CHILD_TEST: &str = "bad_input::claims_in_a_process_of_their_own";

/// Memory follows what arrives, not what is claimed. Other tests of this process take memory as well.
#[cfg(target_os = "linux")]
#[test]
fn claims_cost_no_memory() {
    let program = std::env::current_exe().expect("this test has a path");
    let child = std::process::Command::new(program)
        .args(["--exact", CHILD_TEST, "--nocapture"])
        .env(CHILD, "1")
        .output()
        .expect("it starts");
    let said =
        [child.stdout, child.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).concat();
    assert!(child.status.success() && said.contains("claims were measured"), "{said}");
}

#[cfg(target_os = "linux")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn claims_in_a_process_of_their_own() {
    // Both ends are in this process: 400 connections stay below the usual limit of 1024 handles.
    const CONNECTIONS: usize = 400;
    const GROWTH_KIB_MAX: usize = 64 * CONNECTIONS;

    if std::env::var_os(CHILD).is_none() {
        return;
    }
    let running = Running::start().await;
    let mut header = (100 * 1024 * 1024_i32).to_be_bytes().to_vec();
    header.extend([0, 0, 0, 9, 0, 0, 0, 1]);
    let before = resident_kib();
    let mut open = Vec::new();
    for _ in 0..CONNECTIONS {
        let mut raw = running.connect().await;
        raw.send_bytes(&header).await;
        open.push(raw);
    }
    // The last connection is served, so the others have been read.
    greet(&mut running.connect().await).await;
    let growth = resident_kib().saturating_sub(before);
    assert!(growth <= GROWTH_KIB_MAX, "{growth} KiB for {CONNECTIONS} claims");
    println!("claims were measured");
    drop(open);
    running.stop().await;
}

#[cfg(target_os = "linux")]
fn resident_kib() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").expect("Linux");
    let line = status.lines().find(|line| line.starts_with("VmRSS:"));
    let figure = line.and_then(|line| line.split_whitespace().nth(1));
    figure.and_then(|figure| figure.parse().ok()).expect("a figure")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_frame_may_come_byte_by_byte() {
    let running = Running::start().await;
    let mut raw = running.connect().await;
    let request = encode_request(&ApiVersionsRequest::default(), 0, 3, None).expect("valid");
    for byte in request.concat() {
        raw.send_bytes(&[byte]).await;
    }
    let (correlation_id, answer) = raw.receive::<ApiVersionsResponse>(0).await;
    assert_eq!((correlation_id, answer.error_code), (3, 0));
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_above_the_limit_are_closed() {
    let mut config = courant_kafka::KafkaConfig::default();
    config.limits.connections_max = 2;
    let running = Running::with(config).await;
    let mut first = running.connect().await;
    let mut second = running.connect().await;
    greet(&mut first).await;
    greet(&mut second).await;
    running.connect().await.expect_closed("a third connection").await;
    assert_eq!(running.broker.metrics().refused, 1);
    drop(first);
    drop(second);
    running.stop().await;
}

/// Produce 3 is the oldest that is served, with the oldest header.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_empty_produce_is_answered() {
    let running = Running::start().await;
    let mut raw = running.connect().await;
    let request = ProduceRequest { acks: -1, ..ProduceRequest::default() };
    let answer = raw.call(&request, 3).await;
    assert!(answer.responses.is_empty());
    running.stop().await;
}

/// A socket that is closed with input unread is reset, which would take these answers with it. So the server
/// listens on for a moment, which on a busy machine may be over before the client has its turn; a server that did
/// not would reset every one of these connections.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn answers_before_a_bad_request_outlive_what_follows_it() {
    const TRIES: u32 = 5;
    let running = Running::start().await;
    let good = encode_request(&ApiVersionsRequest::default(), 0, 5, None).expect("valid");
    let all = [good.concat(), frame(999, 0, &[]), vec![0; 4 * 1024 * 1024]].concat();
    let mut tries = 1;
    let mut raw = loop {
        let mut raw = running.connect().await;
        match raw.try_send_bytes(&all).await {
            Ok(()) => break raw,
            Err(error) => assert!(tries < TRIES, "closed with input unread, each time: {error}"),
        }
        tries += 1;
    };
    let (correlation_id, answer) = raw.receive::<ApiVersionsResponse>(0).await;
    assert_eq!((correlation_id, answer.error_code), (5, 0));
    raw.expect_closed("an API nobody knows").await;
    running.stop().await;
}

/// Both are ready together, and the refusal of the second is no reason to lose the first.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn answers_before_an_unanswered_produce_are_still_written() {
    let running = Running::start().await;
    let mut raw = running.connect().await;
    let good = encode_request(&ApiVersionsRequest::default(), 0, 5, None).expect("valid");
    let lost = produce("nowhere", 0, 0, batch(&["x"]));
    let lost = encode_request(&lost, 9, 6, None).expect("valid");
    let two = [good.concat(), good.concat(), lost.concat()].concat();
    raw.send_bytes(&two).await;
    for _ in 0..2 {
        let (correlation_id, _) = raw.receive::<ApiVersionsResponse>(0).await;
        assert_eq!(correlation_id, 5);
    }
    raw.expect_closed("acks=0 to a topic that is not there").await;
    running.stop().await;
}
