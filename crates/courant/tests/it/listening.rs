//! The embedded log of a running service is reached by real clients, librdkafka among them, and is the same log
//! afterwards.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::sync::Arc;

use courant::engine::{
    Engine, EngineConfig, EngineUrl, Header, NewRecord, OpenError, Partition, ReadBack, Record,
};
use courant::listen::{Listen, ListenError, Listening};
use courant::prelude::*;
use courant::{Running, open_engine};

use crate::given::{Counted, Script, counted};
use crate::server::Server;

async fn hear(event: Counted, State(script): State<Script>) -> Result<(), HandlerError> {
    let what = format!("{}:{}", event.key, event.n);
    script.call(&event.key, &what).map_err(HandlerError::retry)
}

fn url(directory: &Path) -> EngineUrl {
    format!("embedded:{}", directory.join("events").display()).parse().expect("a URL")
}

/// On ports that are free.
fn anywhere() -> Listen {
    let any = SocketAddr::from(([127, 0, 0, 1], 0));
    Listen::default().kafka(any).http(any)
}

async fn running(listening: &Listening, directory: &Path, script: &Script) -> Running<Sqlite> {
    let app = App::new("test").engine(listening.engine()).partitions(1).unannounced();
    let app = app.store(Sqlite::open(&directory.join("service.db")).await.expect("opens"));
    let service = app.state(script.clone()).subscribe(Subscription::named("hearing").on(hear)).build().await;
    service.expect("fits together").start().await.expect("starts")
}

async fn client(address: &str) -> Arc<dyn Engine> {
    let url = address.parse().expect("a URL");
    open_engine(&url, EngineConfig::system()).await.expect("reaches it")
}

fn events() -> Partition {
    Partition::new("test.counted", 0)
}

/// What stands at an offset, as this engine reads it.
async fn at(engine: &dyn Engine, offset: u64) -> Record {
    match engine.read(vec![events().at(offset)]).await.remove(0).expect("reads") {
        ReadBack::Found(record) => record,
        other => panic!("nothing is there: {other:?}"),
    }
}

/// The answer to one request for a page.
fn get(address: SocketAddr, page: &str) -> String {
    let mut stream = TcpStream::connect(address).expect("listens");
    let request = format!("GET {page} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).expect("is sent");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("answers");
    answer
}

/// A client publishes what the service handles, reads what the service publishes, and sees how far it is. When all
/// has stopped, the directory has the same events at the same offsets, for a service alone and under `courant serve`.
#[tokio::test(flavor = "multi_thread")]
async fn clients_reach_the_log_of_a_running_service() {
    let directory = tempfile::tempdir().expect("a directory");
    let url = url(directory.path());
    let listening = anywhere().open(&url).await.expect("opens");
    let script = Script::default();
    let mut service = running(&listening, directory.path(), &script).await;
    let address = listening.kafka().expect("listens");
    let client_there = client(&format!("courant://{address}")).await;

    let record = NewRecord {
        headers: vec![Header::new("ce_type", "test.counted"), Header::new("ce_id", "from-outside")],
        ..NewRecord::new("test.counted", "a", r#"{"key":"a","n":1}"#)
    };
    let position = client_there.publish(vec![record]).await.remove(0).expect("is taken");
    assert_eq!((position.partition.number, position.offset), (0, 0));
    service.settle().await.expect("settles");
    assert_eq!(script.called(), ["a:1"]);
    service.publisher().publish(&counted("b", 2)).await.expect("is taken");
    service.settle().await.expect("settles");
    assert_eq!(at(&*client_there, 1).await.key.as_deref(), Some(b"b".as_slice()));
    let committed = client_there.committed("hearing".to_owned(), vec![events()]).await;
    assert_eq!(committed.expect("says"), [Some(2)], "the copy that tools for lag look at");

    let http = listening.http().expect("listens");
    let ready = tokio::task::spawn_blocking(move || get(http, "/readyz")).await.expect("asks");
    assert!(ready.starts_with("HTTP/1.1 200"), "{ready}");
    let refused = open_engine(&url, EngineConfig::system()).await.expect_err("the directory is in use");
    assert!(matches!(refused, OpenError::InUse { .. }), "{refused}");

    client_there.close().await;
    service.stop().await.expect("stops");
    listening.stop().await;

    let alone = open_engine(&url, EngineConfig::system()).await.expect("the directory is free");
    assert_eq!(at(&*alone, 0).await.value.as_deref(), Some(br#"{"key":"a","n":1}"#.as_slice()));
    let second = at(&*alone, 1).await;
    alone.close().await;
    drop(alone);
    let Some(server) = Server::start(&directory.path().join("events")) else { return };
    let served = client(&server.url()).await;
    assert_eq!(at(&*served, 1).await.value, second.value);
    served.close().await;
}

/// The answer to a request of Kafka's protocol.
fn exchange(address: SocketAddr, api: i16, version: i16, body: &[&[u8]]) -> Vec<u8> {
    let mut request = Vec::new();
    request.extend(api.to_be_bytes());
    request.extend(version.to_be_bytes());
    request.extend(7_i32.to_be_bytes());
    request.extend((-1_i16).to_be_bytes());
    request.extend(body.concat());
    let mut stream = TcpStream::connect(address).expect("listens");
    let size = u32::try_from(request.len()).expect("short");
    stream.write_all(&[&size.to_be_bytes()[..], &request[..]].concat()).expect("is sent");
    let mut size = [0; 4];
    stream.read_exact(&mut size).expect("answers");
    let mut answer = vec![0; u32::from_be_bytes(size) as usize];
    stream.read_exact(&mut answer).expect("answers");
    answer
}

/// A text as the protocol has it.
fn text(text: &str) -> Vec<u8> {
    let size = u16::try_from(text.len()).expect("short");
    [&size.to_be_bytes()[..], text.as_bytes()].concat()
}

const ONE: [u8; 4] = 1_i32.to_be_bytes();

/// Asks what is known of a topic, as clients do that create what they ask for: Metadata in version 4, with
/// `allow_auto_topic_creation`. Comes back with the answer.
fn ask_for(address: SocketAddr, topic: &str) -> Vec<u8> {
    exchange(address, 3, 4, &[&ONE[..], &text(topic), &[1]])
}

/// What the server says that one of its configs is: DescribeConfigs in version 1, of the broker 0.
fn config(address: SocketAddr, name: &str) -> String {
    let answer = exchange(address, 32, 1, &[&ONE[..], &[4], &text("0"), &ONE, &text(name), &[0]]);
    let name = text(name);
    let found = answer.windows(name.len()).position(|window| window == name);
    let value = &answer[found.expect("it is about the config") + name.len()..];
    let size = u16::from_be_bytes([value[0], value[1]]);
    String::from_utf8(value[2..2 + usize::from(size)].to_vec()).expect("a text")
}

/// A server forgets after a week what a group without members has committed, and a service is no member. One
/// without a store has its progress there: it would begin anew after a quiet week.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_service_has_committed_is_never_forgotten() {
    let directory = tempfile::tempdir().expect("a directory");
    let listening = anywhere().open(&url(directory.path())).await.expect("opens");
    let address = listening.kafka().expect("listens");
    let kept = tokio::task::spawn_blocking(move || config(address, "offsets.retention.minutes"));
    assert_eq!(kept.await.expect("asks"), i32::MAX.to_string());
    listening.stop().await;
}

/// A client that asks for a topic that is not there makes none.
#[tokio::test(flavor = "multi_thread")]
async fn to_look_is_not_to_change() {
    let directory = tempfile::tempdir().expect("a directory");
    let listening = anywhere().open(&url(directory.path())).await.expect("opens");
    let address = listening.kafka().expect("listens");
    let answer = tokio::task::spawn_blocking(move || ask_for(address, "test.nothing")).await.expect("asks");
    assert!(answer.windows(12).any(|name| name == b"test.nothing"), "it is about the topic: {answer:?}");
    let topic = courant::TopicName::new("test.nothing").expect("legal");
    assert_eq!(listening.engine().topics(vec![topic]).await.expect("says"), [None]);
    listening.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_listened_to_is_said() {
    let directory = tempfile::tempdir().expect("a directory");
    let remote: EngineUrl = "courant://127.0.0.1:9092".parse().expect("a URL");
    let refused = anywhere().open(&remote).await.expect_err("is a server already");
    assert!(matches!(refused, ListenError::NotEmbedded { .. }), "{refused}");

    let everywhere = SocketAddr::from(([0, 0, 0, 0], 0));
    for listen in [anywhere().kafka(everywhere), anywhere().http(everywhere)] {
        let refused = listen.open(&url(directory.path())).await.expect_err("reaches other machines");
        assert!(
            matches!(refused, ListenError::NotLoopback { address } if address == everywhere),
            "{refused}"
        );
    }

    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = taken.local_addr().expect("has one");
    let refused = anywhere().kafka(address).open(&url(directory.path())).await.expect_err("is taken");
    assert!(matches!(refused, ListenError::AddressInUse { address: said } if said == address), "{refused}");

    let twice = anywhere().kafka(address).http(address);
    let refused = twice.open(&url(directory.path())).await.expect_err("one port for two");
    assert!(matches!(refused, ListenError::OneAddress { address: said } if said == address), "{refused}");

    let listening = anywhere().open(&url(directory.path())).await.expect("opens");
    let refused = anywhere().open(&url(directory.path())).await.expect_err("is open already");
    let there = directory.path().join("events");
    assert!(matches!(&refused, ListenError::InUse { directory } if *directory == there), "{refused}");
    assert!(!refused.to_string().contains("--"), "a service has no such flags: {refused}");
    listening.stop().await;
}
