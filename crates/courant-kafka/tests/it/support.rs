//! A server on a free port, and a client that sends and receives raw frames. Whatever is waited for here is
//! waited for within bounds: a test that waits in vain fails and says for what.

use std::mem;
use std::net::SocketAddr;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use bytes::Bytes;
use courant_kafka::wire::messages::{
    ApiVersionsRequest, CreatableTopic, CreateTopicsRequest, FetchPartition, FetchRequest, FetchTopic,
    PartitionProduceData, ProduceRequest, TopicProduceData,
};
use courant_kafka::wire::{Request, Response, decode_response, encode_request};
use courant_kafka::{Broker, KafkaConfig, KafkaServer, Limits};
use courant_log::batch::records::{self, NewRecord};
use courant_log::storage::{MemoryStorage, Storage};
use courant_log::{Codec, Log, LogConfig, SystemClock, SystemEntropy};
use socket2::SockRef;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio::time::timeout;
use uuid::Uuid;

/// Longest wait for something that must happen. Long, for busy machines; nothing waits it out.
pub(crate) const SOON: Duration = Duration::from_secs(60);

/// What comes of something that must happen.
pub(crate) async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    let outcome = timeout(SOON, future).await;
    outcome.unwrap_or_else(|_| panic!("waited for {} s in vain: {what}", SOON.as_secs()))
}

/// A server in this process.
pub(crate) struct Running {
    pub(crate) address: SocketAddr,
    pub(crate) broker: Arc<Broker>,
    server: KafkaServer,
    _kept: KeptOnFailure,
}

/// The last handle of a log waits for the log's threads. A test that has failed must not: they may be what it
/// has waited for, and its own words would never be read.
struct KeptOnFailure(Arc<Broker>);

impl Drop for KeptOnFailure {
    fn drop(&mut self) {
        if thread::panicking() {
            mem::forget(Arc::clone(&self.0));
        }
    }
}

impl Running {
    pub(crate) async fn start() -> Self {
        Self::with(KafkaConfig::default()).await
    }

    /// A server whose clients keep a thread behind enough requests, however long each of them takes on a machine
    /// that is busy or has a slow disk.
    pub(crate) async fn patient() -> Self {
        let limits = Limits { alone_gap_max: Duration::from_secs(3600), ..Limits::default() };
        Self::with(KafkaConfig { limits, ..KafkaConfig::default() }).await
    }

    pub(crate) async fn with(config: KafkaConfig) -> Self {
        Self::on(&MemoryStorage::new(1024 * 1024 * 1024), config).await
    }

    /// A server on what an earlier one has left there.
    pub(crate) async fn on(storage: &(impl Storage + Clone), config: KafkaConfig) -> Self {
        let log_config = LogConfig {
            journal_file_bytes: 1024 * 1024,
            first_journal_file_bytes: 1024 * 1024,
            reserve_bytes: 1024 * 1024,
            ..LogConfig::new(Arc::new(SystemClock), Arc::new(SystemEntropy))
        };
        let (log, _) = Log::open(Arc::new(storage.clone()), log_config).expect("the log opens");
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback");
        let address = listener.local_addr().expect("it is bound");
        let broker = Arc::new(Broker::new(log, config));
        let server = KafkaServer::start(Arc::clone(&broker), vec![listener]);
        Self { address, server, _kept: KeptOnFailure(Arc::clone(&broker)), broker }
    }

    pub(crate) async fn connect(&self) -> Raw {
        let connected = soon("a connection", TcpStream::connect(self.address)).await;
        let stream = connected.expect("it listens");
        stream.set_nodelay(true).expect("a TCP socket");
        Raw { stream }
    }

    /// Requests that were begun so far.
    pub(crate) fn requests(&self) -> u64 {
        self.broker.metrics().requests
    }

    /// Waits until `requests` were begun and each is answered or waits for data.
    ///
    /// Only on a runtime of one thread. That takes tasks in the order in which they became ready, so
    /// what was begun before the question here has been taken as far as it goes when this is answered.
    pub(crate) async fn settles(&self, requests: u64) {
        let begun = async {
            while self.requests() < requests {
                tokio::task::yield_now().await;
            }
        };
        soon("the requests arrive", begun).await;
        self.connect().await.call(&ApiVersionsRequest::default(), 0).await;
    }

    /// Creates a topic and returns its id.
    pub(crate) async fn topic(&self, name: &str, partitions: i32) -> Uuid {
        let request = CreateTopicsRequest {
            topics: vec![CreatableTopic {
                name: name.to_owned(),
                num_partitions: partitions,
                replication_factor: 1,
                ..CreatableTopic::default()
            }],
            ..CreateTopicsRequest::default()
        };
        let response = self.connect().await.call(&request, 7).await;
        assert_eq!(response.topics[0].error_code, 0, "{response:?}");
        response.topics[0].topic_id
    }

    /// Stops, and checks that nothing panicked on the way.
    pub(crate) async fn stop(self) {
        let broker = self.broker;
        soon("the server stops", self.server.stop(SOON)).await;
        assert_eq!(broker.metrics().panics, 0);
        assert_eq!(broker.metrics().connections, 0);
        // Not a thread of the runtime, which ends only when all of those have.
        let (done, stopped) = oneshot::channel();
        thread::spawn(move || {
            broker.log().stop();
            drop(broker);
            done.send(())
        });
        soon("the log stops", stopped).await.expect("no panic");
    }
}

/// A connection without any cleverness.
pub(crate) struct Raw {
    stream: TcpStream,
}

impl Raw {
    pub(crate) async fn send<R: Request>(&mut self, request: &R, version: i16, correlation_id: i32) {
        let frame = encode_request(request, version, correlation_id, Some("raw"));
        self.send_bytes(&frame.expect("it can be written").concat()).await;
    }

    pub(crate) async fn send_bytes(&mut self, bytes: &[u8]) {
        self.try_send_bytes(bytes).await.expect("the connection is open");
    }

    /// As [`Raw::send_bytes`], where the server may close the connection meanwhile.
    pub(crate) async fn try_send_bytes(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        soon("the server reads", self.stream.write_all(bytes)).await
    }

    /// The next frame, without its length.
    pub(crate) async fn receive_frame(&mut self) -> Bytes {
        let read = async {
            let length = self.stream.read_i32().await?;
            let mut frame = vec![0; usize::try_from(length).expect("not negative")];
            self.stream.read_exact(&mut frame).await?;
            Ok::<_, std::io::Error>(Bytes::from(frame))
        };
        soon("an answer", read).await.expect("an answer")
    }

    pub(crate) async fn receive<R: Response>(&mut self, version: i16) -> (i32, R) {
        let frame = self.receive_frame().await;
        let (header, body) = decode_response(frame, version).expect("a readable answer");
        (header.correlation_id, body)
    }

    pub(crate) async fn call<R: Request>(&mut self, request: &R, version: i16) -> R::Response {
        self.send(request, version, 4711).await;
        let (correlation_id, response) = self.receive(version).await;
        assert_eq!(correlation_id, 4711);
        response
    }

    /// Ends the connection as the system does for a process that is killed while it has something to read.
    pub(crate) fn reset(self) {
        SockRef::from(&self.stream).set_linger(Some(Duration::ZERO)).expect("a TCP socket");
    }

    /// Checks that the server closes the connection without another word.
    pub(crate) async fn expect_closed(&mut self, why: &str) {
        let mut rest = Vec::new();
        let end = timeout(SOON, self.stream.read_to_end(&mut rest)).await;
        // A reset is as good as an orderly end.
        let _ = end.unwrap_or_else(|_| panic!("{why}: the connection stays open"));
        assert!(rest.is_empty(), "{why}: answered {rest:?}");
    }

    /// Checks that nothing is to be read for a while.
    pub(crate) async fn expect_silence(&mut self, length: Duration) {
        let read = timeout(length, self.stream.read_u8()).await;
        assert!(read.is_err(), "something came: {read:?}");
    }
}

/// A batch of records without keys, with the given values.
pub(crate) fn batch(values: &[&str]) -> Bytes {
    let record = |value: &&str| NewRecord {
        timestamp: 1_700_000_000_000,
        key: None,
        value: Some(Bytes::copy_from_slice(value.as_bytes())),
        headers: Vec::new(),
    };
    let records: Vec<NewRecord> = values.iter().map(record).collect();
    records::encode(&records, Codec::None, None).expect("it can be encoded")
}

/// A Produce of one batch, by name (up to version 12).
pub(crate) fn produce(topic: &str, partition: i32, acks: i16, records: Bytes) -> ProduceRequest {
    ProduceRequest {
        acks,
        timeout_ms: 1000,
        topic_data: vec![TopicProduceData {
            name: topic.to_owned(),
            partition_data: vec![PartitionProduceData { index: partition, records: Some(records) }],
            ..TopicProduceData::default()
        }],
        ..ProduceRequest::default()
    }
}

/// A Fetch of one partition by topic id (version 13 and later) that waits for one byte.
pub(crate) fn fetch(topic: Uuid, partition: i32, offset: i64, wait: Duration) -> FetchRequest {
    FetchRequest {
        max_wait_ms: i32::try_from(wait.as_millis()).expect("a short wait"),
        min_bytes: 1,
        max_bytes: 1024 * 1024,
        topics: vec![FetchTopic {
            topic_id: topic,
            partitions: vec![FetchPartition {
                partition,
                fetch_offset: offset,
                partition_max_bytes: 1024 * 1024,
                ..FetchPartition::default()
            }],
            ..FetchTopic::default()
        }],
        ..FetchRequest::default()
    }
}
