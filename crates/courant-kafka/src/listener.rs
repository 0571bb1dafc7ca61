//! Accepts connections, bounds their number, isolates their panics, and stops them in order.

use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use courant_log::Buffers;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{AbortHandle, JoinError, JoinHandle, JoinSet};
use tracing::{error, warn};

use crate::broker::{Broker, Place};
use crate::{connection, limits};

/// The Kafka front-end in action: it accepts from when it is made until it is stopped.
///
/// Dropping it leaves connections running; use [`KafkaServer::stop`].
#[derive(Debug)]
pub struct KafkaServer {
    broker: Arc<Broker>,
    accepting: Vec<JoinHandle<()>>,
    /// Watches the consumer groups.
    groups: JoinHandle<()>,
    /// Gives memory back.
    memory: JoinHandle<()>,
}

/// Whether that runs without which clients are not served, however well their connections do.
///
/// It says nothing of a server that is being stopped: then all of it ends.
#[derive(Debug)]
pub struct KafkaTasks {
    accepting: Vec<AbortHandle>,
    groups: AbortHandle,
}

impl KafkaTasks {
    /// What does not run any more, as a sentence. Until the server is stopped that is a defect, and only a server that
    /// is started anew mends it.
    #[must_use]
    pub fn ended(&self) -> Option<&'static str> {
        if self.accepting.iter().any(AbortHandle::is_finished) {
            return Some(
                "nobody accepts Kafka clients any more, which is a defect: the server has to be restarted",
            );
        }
        self.groups.is_finished().then_some(
            "nobody watches the consumer groups any more, which is a defect: the server has to be restarted",
        )
    }
}

impl KafkaServer {
    /// Serves `broker` on every listener. Must be called inside a Tokio runtime.
    #[must_use]
    pub fn start(broker: Arc<Broker>, listeners: Vec<TcpListener>) -> Self {
        let accepting = listeners
            .into_iter()
            .map(|listener| tokio::spawn(accept(Arc::clone(&broker), listener)))
            .collect();
        let groups = tokio::spawn(Arc::clone(broker.groups()).run());
        let memory = tokio::spawn(give_back(broker.buffers.clone()));
        Self { broker, accepting, groups, memory }
    }

    /// The broker that is served.
    #[must_use]
    pub fn broker(&self) -> &Arc<Broker> {
        &self.broker
    }

    /// Tells whether clients can still be served, also when this server is out of reach.
    #[must_use]
    pub fn tasks(&self) -> KafkaTasks {
        KafkaTasks {
            accepting: self.accepting.iter().map(JoinHandle::abort_handle).collect(),
            groups: self.groups.abort_handle(),
        }
    }

    /// Stops accepting and reading, lets what was accepted be answered, and closes.
    ///
    /// Connections that are not done after `patience` are cut.
    pub async fn stop(self, patience: Duration) {
        self.broker.stop();
        let deadline = tokio::time::Instant::now() + patience;
        for mut accepting in self.accepting {
            if tokio::time::timeout_at(deadline, &mut accepting).await.is_err() {
                warn!("connections that did not finish in time are cut");
                accepting.abort(); // Drops its connections with it.
            }
        }
        self.groups.abort();
        self.memory.abort();
    }
}

/// Gives back to the system what no client needs any more, also where producers stay connected and are silent. Never
/// comes back.
async fn give_back(buffers: Buffers) {
    loop {
        tokio::time::sleep(limits::REQUEST_BUFFERS_LOOK).await;
        buffers.give_back_unneeded();
    }
}

async fn accept(broker: Arc<Broker>, listener: TcpListener) {
    let mut connections = JoinSet::new();
    let mut is_failing = false;
    loop {
        tokio::select! {
            () = broker.stopped() => break,
            accepted = listener.accept() => match accepted {
                Ok((stream, peer)) => {
                    is_failing = false;
                    admit(&broker, &mut connections, stream, peer);
                }
                Err(error) if is_of_the_client(&error) => {}
                Err(error) => {
                    // Once: for as long as no file is left, every attempt fails.
                    if !is_failing {
                        warn!(%error, "connections cannot be accepted; it is tried again and again");
                    }
                    is_failing = true;
                    tokio::time::sleep(limits::ACCEPT_PAUSE).await;
                }
            },
            Some(ended) = connections.join_next() => note(&broker, ended),
        }
    }
    drop(listener); // New clients are refused by the kernel from here on.
    while let Some(ended) = connections.join_next().await {
        note(&broker, ended);
    }
}

/// Whether a connection ended before its turn came.
fn is_of_the_client(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::ConnectionAborted | ErrorKind::ConnectionReset)
}

fn admit(broker: &Arc<Broker>, connections: &mut JoinSet<()>, stream: TcpStream, peer: SocketAddr) {
    match Place::take(broker) {
        Some(place) => {
            let served = Arc::clone(broker);
            // Apart, so that a connection without TLS is no larger for it.
            match broker.config().tls.clone() {
                None => connections.spawn(connection::run(place, served, stream, peer)),
                Some(tls) => connections.spawn(connection::run_with_tls(place, served, stream, peer, tls)),
            };
        }
        None => {
            broker.counters.refused();
            let max = broker.limits().connections_max;
            let line = format_args!("connection closed: {max} are open, and that is the limit");
            broker.lines.full.warn(peer, line);
        }
    }
}

/// A panic ends its connection and nothing else.
fn note(broker: &Broker, ended: Result<(), JoinError>) {
    if let Err(failure) = ended
        && failure.is_panic()
    {
        broker.counters.panicked();
        error!("a connection ended in a panic; this is a defect, please report it: {failure}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::KafkaConfig;
    use courant_log::limits::BUFFER_BYTES;
    use courant_log::storage::MemoryStorage;
    use courant_log::{Log, LogConfig, SystemClock, SystemEntropy};

    /// Symptom: a server whose producers stay connected kept 16 mebibytes for their batches, whatever they sent
    /// since. Cause: they were given back when a connection ended. Fix: they are looked at from time to time.
    #[tokio::test(start_paused = true)]
    async fn memory_for_large_batches_goes_back_also_while_clients_stay() {
        let buffers = Buffers::new(2);
        let _looks = tokio::spawn(give_back(buffers.clone()));
        let (one, two) = (buffers.take(BUFFER_BYTES), buffers.take(BUFFER_BYTES));
        drop(one);
        // Behind a look, and the one after it.
        let looks = || tokio::time::sleep(limits::REQUEST_BUFFERS_LOOK * 5 / 2);
        looks().await;
        assert_eq!(buffers.made(), 1, "one is needed all the time");
        drop(two);
        looks().await;
        assert_eq!(buffers.made(), 0);
    }

    fn log() -> Log {
        let config = LogConfig {
            journal_file_bytes: 1024 * 1024,
            first_journal_file_bytes: 1024 * 1024,
            reserve_bytes: 0,
            ..LogConfig::new(Arc::new(SystemClock), Arc::new(SystemEntropy))
        };
        Log::open(Arc::new(MemoryStorage::new(64 * 1024 * 1024)), config).expect("opens").0
    }

    async fn server() -> KafkaServer {
        let mut listeners = Vec::new();
        for _ in 0..2 {
            listeners.push(TcpListener::bind("127.0.0.1:0").await.expect("loopback"));
        }
        KafkaServer::start(Arc::new(Broker::new(log(), KafkaConfig::default())), listeners)
    }

    /// A client that finds no place comes again at once.
    #[tokio::test]
    async fn connections_above_the_limit_are_counted_and_said_seldom() {
        const TIMES: u64 = 20;
        let limits = crate::Limits { connections_max: 0, ..crate::Limits::default() };
        let config = KafkaConfig { limits, ..KafkaConfig::default() };
        let broker = Arc::new(Broker::new(log(), config));
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback");
        let address = listener.local_addr().expect("an address");
        let mut connections = JoinSet::new();
        for _ in 0..TIMES {
            let _client = TcpStream::connect(address).await.expect("a connection");
            let (stream, peer) = listener.accept().await.expect("a connection");
            admit(&broker, &mut connections, stream, peer);
        }
        assert!(connections.is_empty());
        assert_eq!((broker.metrics().refused, broker.lines.full.unsaid()), (TIMES, TIMES - 1));
    }

    #[tokio::test]
    async fn a_task_that_is_gone_is_told_of() {
        let mut server = server().await;
        let tasks = server.tasks();
        assert_eq!(tasks.ended(), None);
        server.groups.abort();
        (&mut server.groups).await.expect_err("it is gone");
        assert!(tasks.ended().is_some_and(|said| said.contains("consumer groups")), "{tasks:?}");

        let mut accepting = server.accepting.pop().expect("one of two");
        accepting.abort();
        (&mut accepting).await.expect_err("it is gone");
        assert!(tasks.ended().is_some_and(|said| said.contains("accepts Kafka clients")), "{tasks:?}");
    }
}
