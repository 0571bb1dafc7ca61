//! Starts the parts in order and stops them in the reverse.

use std::fmt;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use courant_kafka::client::Address;
use courant_kafka::{Broker, KafkaConfig, KafkaServer};
use courant_log::storage::DiskStorage;
use courant_log::{Log, LogConfig, RecoveryReport, SystemClock, SystemEntropy};
use tokio::task::JoinHandle;
use tracing::{error, info};

use crate::api::ApiState;
use crate::api::limits::{HOSTS_MAX, STREAMS_PART};
use crate::bind::{bind, check_addresses, overlap};
use crate::files::Shares;
use crate::http::{HttpServer, Status};
use crate::memory::MemoryShares;
use crate::scrub::Scrubber;
use crate::{CompactionSettings, Demo, DemoDesk, ServerConfig, StartError};

/// How long connections may take to have their last answers written.
const DRAIN_MAX: Duration = Duration::from_secs(15);

/// A running server.
///
/// Dropping it stops nothing in order: call [`Server::stop`].
pub struct Server {
    log: Log,
    recovery: RecoveryReport,
    status: Arc<Status>,
    kafka: KafkaServer,
    kafka_addresses: Vec<SocketAddr>,
    http: HttpServer,
    api: ApiState,
    /// Keeps the history of lag.
    history: JoinHandle<()>,
    /// Keeps the index of traces.
    traces: JoinHandle<()>,
    scrubber: Option<Scrubber>,
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server")
            .field("kafka", &self.kafka_addresses)
            .field("http", &self.http.addresses)
            .finish_non_exhaustive()
    }
}

impl Server {
    /// What is wrong with settings on every machine. No port is tried, no file opened and no name looked up, so that
    /// [`Self::start`] may still fail for one of these.
    ///
    /// # Errors
    /// What [`Self::start`] would say.
    pub fn check(config: &ServerConfig) -> Result<(), StartError> {
        kafka_config(config)?;
        if config.api.hosts.len() > HOSTS_MAX {
            return Err(StartError::Hosts { got: config.api.hosts.len(), max: HOSTS_MAX });
        }
        MemoryShares::of(config)?;
        check_addresses(&config.kafka, &config.http, config.insecure)
    }

    /// Starts a server. When this returns, clients are served.
    ///
    /// The sockets come first, so that a used port is told before a log is recovered, and so that
    /// `/readyz` can say that the log is being opened. Must be called inside a Tokio runtime.
    ///
    /// # Errors
    /// A sentence that says what to change.
    pub async fn start(mut config: ServerConfig) -> Result<Self, StartError> {
        Self::check(&config)?;
        let mut kafka_config = kafka_config(&config)?;
        let memory = MemoryShares::of(&config)?;
        let files = Shares::of_process()?;
        kafka_config.limits = memory.kafka;
        kafka_config.limits.connections_max = files.kafka.min(memory.kafka.connections_max);
        let kafka = bind("--kafka", &config.kafka, config.insecure).await?;
        let http = bind("--http", &config.http, config.insecure).await.map_err(|error| match error {
            StartError::InUse { address, .. }
                if kafka.addresses.iter().any(|kafka| overlap(*kafka, address)) =>
            {
                StartError::OneAddress { address }
            }
            other => other,
        })?;
        let scheme = if config.tls.is_some() { "https" } else { "http" };
        kafka_config.http = http.addresses.first().map(|http| format!("{scheme}://{http}"));

        let status = Arc::new(Status::default());
        status.tracing(config.tracer);
        config.api.traces.events = memory.trace_events;
        config.compaction.key_bytes = memory.compaction_keys;
        let connections = files.http.min(memory.api.connections);
        let api = ApiState::new(Arc::clone(&status), config.api, connections / STREAMS_PART, memory.api);
        let http = HttpServer::start(http, &status, api.clone(), connections, config.tls);
        let (data, compaction) = (config.data, config.compaction);
        let opened = move || open_log(&data, files.log, &memory, &compaction);
        let opened = tokio::task::spawn_blocking(opened).await;
        let (log, recovery) = match opened {
            Ok(Ok(opened)) => opened,
            Ok(Err(error)) => {
                http.stop().await;
                return Err(error);
            }
            Err(failure) => {
                http.stop().await;
                return Err(StartError::Panic(failure.to_string()));
            }
        };
        let broker = Arc::new(Broker::new(log.clone(), kafka_config));
        let serving = KafkaServer::start(broker, kafka.listeners);
        status.serving(&serving);
        let scrubber = Scrubber::start(log.clone(), config.scrub_interval, config.scrub_bytes_per_second);
        if let Some(scrubber) = &scrubber {
            status.scrubbing(scrubber.scrubbed());
        }
        Ok(Self {
            log,
            recovery,
            status,
            kafka: serving,
            kafka_addresses: kafka.addresses,
            http,
            history: api.keep_history(),
            traces: api.keep_traces(),
            scrubber,
            api,
        })
    }

    /// Where Kafka clients connect. The first is the address that was asked for, with its real port.
    #[must_use]
    pub fn kafka_addresses(&self) -> &[SocketAddr] {
        &self.kafka_addresses
    }

    /// Where HTTP is served. The first is the address that was asked for, with its real port.
    #[must_use]
    pub fn http_addresses(&self) -> &[SocketAddr] {
        &self.http.addresses
    }

    /// What was found in the data directory.
    #[must_use]
    pub fn recovery(&self) -> &RecoveryReport {
        &self.recovery
    }

    /// The log that is served.
    #[must_use]
    pub fn log(&self) -> &Log {
        &self.log
    }

    /// Shows a demo at `/api/v1/demo` from now on. The first one counts.
    pub fn show_demo(&self, demo: Arc<dyn Demo>) {
        self.api.show_demo(demo);
    }

    /// What turns the switches of the demo that is shown.
    #[must_use]
    pub fn demo_desk(&self) -> DemoDesk {
        DemoDesk::new(self.api.clone())
    }

    /// Stops in order: not ready, no new clients, the last answers, nobody who reads the log, the log
    /// sealed, HTTP last.
    pub async fn stop(self) {
        self.status.stopping();
        info!("stopping");
        self.history.abort();
        self.traces.abort();
        self.kafka.stop(DRAIN_MAX).await;
        let (log, scrubber) = (self.log, self.scrubber);
        let stopping = move || {
            if let Some(scrubber) = scrubber {
                scrubber.stop();
            }
            log.stop();
        };
        if let Err(failure) = tokio::task::spawn_blocking(stopping).await {
            error!("stopping the log ended in a panic, which is a defect: {failure}");
        }
        self.api.end_searches();
        self.http.stop().await;
        info!("stopped");
    }
}

fn kafka_config(config: &ServerConfig) -> Result<KafkaConfig, StartError> {
    let advertise = config.advertise.as_deref().map(str::parse::<Address>);
    let kafka = KafkaConfig {
        advertise: advertise.transpose()?,
        partitions: config.partitions,
        auto_create: config.auto_create,
        group_initial_rebalance_delay: config.group_initial_rebalance_delay,
        offsets_retention: config.offsets_retention,
        tls: config.tls.clone(),
        tracer: config.tracer.clone(),
        log_dir: config.data.display().to_string(),
        ..KafkaConfig::default()
    };
    let max = kafka.limits.partitions_per_topic_max;
    if !(1..=max).contains(&config.partitions) {
        return Err(StartError::Partitions { got: config.partitions, max });
    }
    Ok(kafka)
}

/// Opens the log of a data directory, which may have so many files open, and its share of the memory. Recovery
/// may read and write for a while.
fn open_log(
    data: &Path,
    open_files: usize,
    memory: &MemoryShares,
    compaction: &CompactionSettings,
) -> Result<(Log, RecoveryReport), StartError> {
    let storage =
        DiskStorage::open(data).map_err(|source| StartError::Data { data: data.to_owned(), source })?;
    let mut config = LogConfig::new(Arc::new(SystemClock), Arc::new(SystemEntropy));
    config.open_files = open_files;
    config.read_buffers = memory.read_buffers;
    config.unpacked_bytes_max = memory.unpacking.bytes_max;
    config.unpacked_at_once = memory.unpacking.at_once;
    config.queued_group_bytes = memory.group_changes;
    config.compaction_interval_ms = u64::try_from(compaction.interval.as_millis()).unwrap_or(u64::MAX);
    config.compaction_bytes_per_second = compaction.bytes_per_second;
    config.compaction_key_bytes = compaction.key_bytes;
    let reserve_bytes = config.reserve_bytes;
    let opened = Log::open(Arc::new(storage), config);
    let (log, recovery) = opened.map_err(|source| StartError::Open { data: data.to_owned(), source })?;
    tell_of_a_full_disk(&log, reserve_bytes);
    Ok((log, recovery))
}

/// A server is ready on a full disk, because it serves readers, groups and deletions there: that it will refuse
/// events is said before the first one comes.
fn tell_of_a_full_disk(log: &Log, reserve_bytes: u64) {
    if let Some((_, free_bytes)) = log.disk_bytes()
        && free_bytes < reserve_bytes
    {
        error!(
            free_bytes,
            needed_bytes = reserve_bytes,
            "the disk is full: events will be refused until there is room; free some, or delete a topic"
        );
    }
}
