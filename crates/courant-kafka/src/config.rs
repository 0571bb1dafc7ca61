//! What the Kafka front-end is told by whoever starts it.

use std::time::Duration;

use courant_core::trace::Tracer;

use crate::client::Address;
use crate::limits;
use crate::tls::ServerTls;

/// The settings of the Kafka front-end.
#[derive(Clone, Debug)]
pub struct KafkaConfig {
    /// The address that clients are sent to. `None`: the one that each client connected to, which
    /// is right unless a proxy or a container's port mapping stands between.
    pub advertise: Option<Address>,
    /// The number of this broker in Metadata.
    pub node_id: i32,
    /// Partitions of a topic for which nobody named a number.
    pub partitions: u32,
    /// Whether a Metadata request may create the topics it names.
    pub auto_create: bool,
    /// How long the first members of an empty group wait for more of them, so that a service that
    /// starts with several instances rebalances once (Kafka's `group.initial.rebalance.delay.ms`).
    pub group_initial_rebalance_delay: Duration,
    /// How long the offsets of a group without members are kept (Kafka's `offsets.retention.minutes`).
    pub offsets_retention: Duration,
    /// The data directory as tools are told; nothing is read from there.
    pub log_dir: String,
    /// Where HTTP is served, as a URL, for the log line that tells a lost HTTP client.
    pub http: Option<String>,
    /// The certificate and the key of every listener. `None`: they speak without TLS.
    pub tls: Option<ServerTls>,
    /// Makes spans of what is stored and read where its records belong to traces.
    pub tracer: Tracer,
    /// The bounds that differ between a test and a large machine.
    pub limits: Limits,
}

impl Default for KafkaConfig {
    /// Node 0, one partition, topics created on first use, no advertised address, offsets kept for seven
    /// days.
    fn default() -> Self {
        Self {
            advertise: None,
            node_id: 0,
            partitions: 1,
            auto_create: true,
            group_initial_rebalance_delay: Duration::from_millis(100),
            offsets_retention: Duration::from_secs(7 * 24 * 60 * 60),
            log_dir: "courant-data".to_owned(),
            http: None,
            tls: None,
            tracer: Tracer::default(),
            limits: Limits::default(),
        }
    }
}

/// Bounds per process and per request, in bytes unless the name says otherwise.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Connections open at the same time.
    pub connections_max: usize,
    /// The largest request frame, at most 2 GiB.
    pub frame_bytes_max: usize,
    /// Requests that were received or wait for the disk, over all connections.
    pub request_bytes_budget: usize,
    /// Records read for answers and not yet sent, over all connections.
    pub response_bytes_budget: usize,
    /// Records in one answer to Fetch; one batch may exceed it.
    pub fetch_bytes_max: usize,
    /// Fetch sessions that are remembered; 0 for none.
    pub fetch_sessions_max: usize,
    /// Memory of all fetch sessions.
    pub fetch_sessions_bytes_max: usize,
    /// Looks for a time that are made at one time: each may unpack a batch.
    pub time_looks_max: usize,
    /// Buffers of a mebibyte for large batches, which are used again.
    pub request_buffers: usize,
    /// Whether connections speak TLS, which takes memory for each of them.
    pub tls: bool,
    /// What the members of all consumer groups say of themselves and are assigned. A group has 4 MiB of it at most.
    pub members_bytes_max: usize,
    /// Partitions of one topic.
    pub partitions_per_topic_max: u32,
    /// How soon behind the one before each request comes of a client that is to have a thread for itself.
    pub alone_gap_max: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections_max: limits::CONNECTIONS_MAX,
            frame_bytes_max: limits::FRAME_BYTES_MAX,
            request_bytes_budget: limits::REQUEST_BYTES_BUDGET,
            response_bytes_budget: limits::RESPONSE_BYTES_BUDGET,
            fetch_bytes_max: limits::FETCH_BYTES_MAX,
            fetch_sessions_max: limits::FETCH_SESSIONS_MAX,
            fetch_sessions_bytes_max: limits::FETCH_SESSIONS_BYTES_MAX,
            time_looks_max: limits::TIME_LOOKS_MAX,
            request_buffers: limits::REQUEST_BUFFERS,
            tls: false,
            members_bytes_max: limits::MEMBERS_BYTES_MAX,
            partitions_per_topic_max: limits::PARTITIONS_PER_TOPIC_MAX,
            alone_gap_max: limits::ALONE_GAP_MAX,
        }
    }
}
