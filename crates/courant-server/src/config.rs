//! What a server is told by whoever starts it.

use std::path::PathBuf;
use std::time::Duration;

use courant_core::trace::Tracer;
use courant_kafka::KafkaConfig;
use courant_kafka::tls::ServerTls;

use crate::ApiSettings;

/// The settings of one server. Each field is named after the flag that sets it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerConfig {
    /// The data directory; created when it is not there.
    pub data: PathBuf,
    /// Where Kafka clients connect, as `HOST:PORT`. Port 0 picks a free one.
    pub kafka: String,
    /// Where HTTP is served, as `HOST:PORT`. Port 0 picks a free one.
    pub http: String,
    /// The address that Kafka clients are sent to, as `HOST:PORT`. `None`: the one each of them
    /// connected to.
    pub advertise: Option<String>,
    /// The certificate and the key with which Kafka and HTTP speak TLS. `None`: neither does.
    pub tls: Option<ServerTls>,
    /// Allows addresses that other machines can reach, although nobody is asked to log in.
    pub insecure: bool,
    /// Partitions of a topic for which nobody names a number.
    pub partitions: u32,
    /// Whether a client creates the topics it asks for.
    pub auto_create: bool,
    /// How long the first member of an empty consumer group waits for others.
    pub group_initial_rebalance_delay: Duration,
    /// How long the offsets of a consumer group without members are kept.
    pub offsets_retention: Duration,
    /// When and how fast topics are compacted.
    pub compaction: CompactionSettings,
    /// How long from one look at everything that is stored to the next: rot is found before a reader
    /// comes to it. Zero: nobody looks.
    pub scrub_interval: Duration,
    /// Bytes that such a look reads in a second at most.
    pub scrub_bytes_per_second: u64,
    /// Memory that the server may take in all, but for the program itself and for what is stored, at least [`MEMORY_MIN`](crate::MEMORY_MIN). `None`: each of them as much as its bounds say.
    pub memory: Option<usize>,
    /// Who may use the HTTP API, and for what.
    pub api: ApiSettings,
    /// Makes spans of what clients ask for.
    pub tracer: Tracer,
}

/// When and how fast topics are compacted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CompactionSettings {
    /// How long from one look for topics that are due to the next.
    pub interval: Duration,
    /// Bytes that are read and written in a second at most; 0: as many as it can.
    pub bytes_per_second: u64,
    /// Memory for keys.
    pub key_bytes: usize,
}

impl Default for CompactionSettings {
    fn default() -> Self {
        Self {
            interval: Duration::from_secs(15),
            bytes_per_second: 64 * 1024 * 1024,
            key_bytes: 128 * 1024 * 1024,
        }
    }
}

impl ServerConfig {
    /// A server for this machine alone, with Kafka's and the web's usual ports.
    #[must_use]
    pub fn local(data: impl Into<PathBuf>) -> Self {
        let kafka = KafkaConfig::default();
        Self {
            data: data.into(),
            kafka: "127.0.0.1:9092".to_owned(),
            http: "127.0.0.1:8080".to_owned(),
            advertise: None,
            tls: None,
            insecure: false,
            partitions: 1,
            auto_create: true,
            group_initial_rebalance_delay: kafka.group_initial_rebalance_delay,
            offsets_retention: kafka.offsets_retention,
            compaction: CompactionSettings::default(),
            scrub_interval: Duration::from_secs(7 * 24 * 60 * 60),
            scrub_bytes_per_second: 8 * 1024 * 1024,
            memory: None,
            api: ApiSettings::default(),
            tracer: Tracer::default(),
        }
    }
}
