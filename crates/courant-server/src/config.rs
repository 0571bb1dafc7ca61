//! What a server is told by whoever starts it.

use std::path::PathBuf;
use std::time::Duration;

use courant_kafka::KafkaConfig;

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
    /// Allows addresses that other machines can reach, although nothing protects them.
    pub insecure: bool,
    /// Partitions of a topic for which nobody names a number.
    pub partitions: u32,
    /// Whether a client creates the topics it asks for.
    pub auto_create: bool,
    /// How long the first member of an empty consumer group waits for others.
    pub group_initial_rebalance_delay: Duration,
    /// How long the offsets of a consumer group without members are kept.
    pub offsets_retention: Duration,
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
            insecure: false,
            partitions: 1,
            auto_create: true,
            group_initial_rebalance_delay: kafka.group_initial_rebalance_delay,
            offsets_retention: kafka.offsets_retention,
        }
    }
}
