//! TLS on the Kafka port, with the certificates that `tests/certificates/make.sh` has made.

use std::time::Duration;

use courant_kafka::KafkaConfig;
use courant_kafka::client::{Address, CallError, Client, ClientConfig};
use courant_kafka::tls::{ClientSocket, ClientTls, InvalidIdentity, ServerTls};
use courant_kafka::wire::messages::{ApiVersionsRequest, ApiVersionsResponse};
use courant_kafka::wire::{decode_response, encode_request};
use jiff::Timestamp;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::support::{Running, soon};

const AUTHORITY: &[u8] = include_bytes!("../certificates/authority.pem");
const SERVER: &[u8] = include_bytes!("../certificates/server.pem");
const SERVER_KEY: &[u8] = include_bytes!("../certificates/server-key.pem");
const NEXT: &[u8] = include_bytes!("../certificates/next.pem");
const NEXT_KEY: &[u8] = include_bytes!("../certificates/next-key.pem");
const OVER: &[u8] = include_bytes!("../certificates/over.pem");

fn server_tls() -> ServerTls {
    ServerTls::new(SERVER, SERVER_KEY, Timestamp::now()).expect("a good certificate")
}

async fn running(tls: &ServerTls) -> Running {
    Running::with(KafkaConfig { tls: Some(tls.clone()), ..KafkaConfig::default() }).await
}

/// A connection behind its handshake, or why there is none.
async fn shake(running: &Running, host: &str, tls: &ClientTls) -> std::io::Result<ClientSocket> {
    let stream = soon("a connection", TcpStream::connect(running.address)).await.expect("it listens");
    soon("a handshake", tls.connect(host, stream)).await
}

fn trusting() -> ClientTls {
    ClientTls::trusting(AUTHORITY).expect("an authority")
}

fn exactly(certificate: &[u8]) -> ClientTls {
    ClientTls::of_the_server(certificate).expect("a certificate")
}

/// Sends requests, and checks that they are answered in their order.
async fn ask(socket: &mut ClientSocket, ids: std::ops::Range<i32>) {
    let request = |id| {
        let frame = encode_request(&ApiVersionsRequest::default(), 0, id, Some("tls"));
        frame.expect("it can be written").concat()
    };
    let all: Vec<u8> = ids.clone().flat_map(request).collect();
    soon("the server reads", socket.write_all(&all)).await.expect("the connection is open");
    soon("the server reads", socket.flush()).await.expect("the connection is open");
    for id in ids {
        let read = async {
            let length = socket.read_i32().await?;
            let mut frame = vec![0; usize::try_from(length).expect("not negative")];
            socket.read_exact(&mut frame).await?;
            Ok::<_, std::io::Error>(frame)
        };
        let frame = soon("an answer", read).await.expect("an answer");
        let (header, answer) = decode_response::<ApiVersionsResponse>(frame.into(), 0).expect("readable");
        assert_eq!((header.correlation_id, answer.error_code), (id, 0));
    }
}

/// Their answers are several times what TLS keeps of them until somebody flushes.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_requests_are_answered_to_the_last() {
    let tls = server_tls();
    let running = running(&tls).await;
    for host in ["localhost", "127.0.0.1"] {
        let mut socket = shake(&running, host, &trusting()).await.expect("a handshake");
        ask(&mut socket, 0..1).await;
        ask(&mut socket, 1..1_000).await;
    }
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn our_own_client_believes_only_whom_it_is_told_to() {
    let tls = server_tls();
    let running = running(&tls).await;
    let connect = |host: &str, tls: Option<ClientTls>| {
        let address = Address { host: host.to_owned(), port: running.address.port() };
        let timeout = Duration::from_secs(20);
        Client::connect(ClientConfig { servers: vec![address], client_id: "test".to_owned(), timeout, tls })
    };
    let mut client = connect("127.0.0.1", Some(trusting())).await.expect("it is believed");
    assert!(client.topics().await.expect("an answer").is_empty());
    // Nobody vouches for the authority itself but itself, and the server is another one.
    let stranger = ClientTls::trusting(NEXT).expect("a certificate");
    let refused = connect("127.0.0.1", Some(stranger)).await.expect_err("not believed");
    assert!(matches!(refused, CallError::Tls { .. }), "{refused}");
    assert!(!refused.is_retriable(), "{refused}");
    let plain = connect("127.0.0.1", None).await.expect_err("no TLS");
    assert!(plain.to_string().contains("as servers with TLS do"), "{plain}");
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_without_tls_is_let_go_and_counted_and_others_are_served() {
    let tls = server_tls();
    let running = running(&tls).await;
    let mut raw = running.connect().await;
    raw.send(&ApiVersionsRequest::default(), 0, 1).await;
    raw.expect_closed("no TLS").await;
    let counted = async {
        while running.broker.metrics().bad_requests == 0 {
            tokio::task::yield_now().await;
        }
    };
    soon("it is counted", counted).await;
    ask(&mut shake(&running, "localhost", &trusting()).await.expect("a handshake"), 0..3).await;
    running.stop().await;
}

/// A server that stops waits for nobody who has not said anything yet.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn silent_clients_do_not_hold_up_a_stop() {
    let tls = server_tls();
    let running = running(&tls).await;
    let silent = running.connect().await;
    ask(&mut shake(&running, "localhost", &trusting()).await.expect("a handshake"), 0..1).await;
    let begun = std::time::Instant::now();
    running.stop().await;
    assert!(begun.elapsed() < Duration::from_secs(9), "it has waited for the handshake");
    drop(silent);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_certificate_is_shown_to_the_next_client() {
    let tls = server_tls();
    let running = running(&tls).await;
    let mut before = shake(&running, "localhost", &exactly(SERVER)).await.expect("this one is shown");
    assert!(shake(&running, "localhost", &exactly(NEXT)).await.is_err());
    // One that does not fit changes nothing.
    let refused = tls.replace(NEXT, SERVER_KEY, Timestamp::now()).expect_err("another key");
    assert!(matches!(refused, InvalidIdentity::Mismatch), "{refused}");
    assert!(shake(&running, "localhost", &exactly(SERVER)).await.is_ok());
    tls.replace(NEXT, NEXT_KEY, Timestamp::now()).expect("both are good");
    assert!(shake(&running, "localhost", &exactly(SERVER)).await.is_err());
    let mut after = shake(&running, "localhost", &exactly(NEXT)).await.expect("this one is shown");
    ask(&mut before, 0..3).await;
    ask(&mut after, 0..3).await;
    running.stop().await;
}

#[test]
fn each_wrong_file_is_told_apart() {
    let now = Timestamp::now();
    let refused =
        |certificate: &[u8], key: &[u8], now| ServerTls::new(certificate, key, now).expect_err("wrong");
    let cases = [
        (refused(b"", SERVER_KEY, now), "no certificate in it", false),
        (refused(SERVER_KEY, SERVER_KEY, now), "no certificate in it", false),
        (refused(&SERVER[..200], SERVER_KEY, now), "no END line", false),
        (
            refused(b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", SERVER_KEY, now),
            "cannot be read",
            false,
        ),
        (refused(OVER, SERVER_KEY, now), "was good until 2021-01-01T00:00:00Z", false),
        (refused(SERVER, SERVER_KEY, Timestamp::UNIX_EPOCH), "good from 2026-01-01T00:00:00Z on", false),
        (refused(SERVER, b"", now), "no private key in it", true),
        (refused(SERVER, SERVER, now), "no private key in it", true),
        (
            refused(SERVER, b"-----BEGIN PRIVATE KEY-----\n!\n-----END PRIVATE KEY-----\n", now),
            "no base64",
            true,
        ),
        (
            refused(SERVER, b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n", now),
            "cannot be used",
            true,
        ),
        (refused(SERVER, NEXT_KEY, now), "does not belong", true),
    ];
    for (error, words, is_of_the_key) in cases {
        assert!(error.to_string().contains(words), "no {words:?} in {error}");
        assert_eq!(error.is_of_the_key(), is_of_the_key, "{error}");
    }
    let validity = server_tls().validity();
    assert_eq!(validity.from.to_string(), "2026-01-01T00:00:00Z");
    assert_eq!(validity.until.to_string(), "2126-01-01T00:00:00Z");
    assert!(ClientTls::trusting(b"nothing").is_err());
}
