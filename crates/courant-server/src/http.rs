//! HTTP: whether the process lives, whether it serves; its figures, the API and the console have modules of
//! their own.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::get;
use courant_core::trace::Tracer;
use courant_kafka::tls::ServerTls;
use courant_kafka::{Broker, KafkaServer, KafkaTasks};
use courant_log::{Damage, DamagedEvents, Health};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tracing::error;

use crate::api::{self, ApiState};
use crate::bind::Bound;
use crate::connections::{Bounded, Peer};
use crate::console;
use crate::metrics;
use crate::scrub::Scrubbed;
use crate::sockets::Sockets;

/// How long requests that are being answered may take when the server stops.
const DRAIN_MAX: Duration = Duration::from_secs(2);

/// What the HTTP handlers know of the rest of the process.
#[derive(Debug, Default)]
pub(crate) struct Status {
    /// Set when the log is open and clients are served.
    broker: OnceLock<Arc<Broker>>,
    /// Set before it: whether clients can still be served.
    kafka: OnceLock<KafkaTasks>,
    /// Set with it, if somebody looks for damage.
    scrubbed: OnceLock<Arc<Scrubbed>>,
    /// Set before anybody can ask anything.
    tracer: OnceLock<Tracer>,
    stopping: AtomicBool,
}

impl Status {
    /// Says that clients are served from now on.
    pub(crate) fn serving(&self, kafka: &KafkaServer) {
        // Set once, by the one who starts the server.
        let _ = self.kafka.set(kafka.tasks());
        let _ = self.broker.set(Arc::clone(kafka.broker()));
    }

    /// Says that somebody looks for damage, and where to see how far that has come.
    pub(crate) fn scrubbing(&self, scrubbed: Arc<Scrubbed>) {
        // Set once, by the one who starts the server.
        let _ = self.scrubbed.set(scrubbed);
    }

    pub(crate) fn scrubbed(&self) -> Option<&Scrubbed> {
        self.scrubbed.get().map(|scrubbed| &**scrubbed)
    }

    /// Says what makes spans.
    pub(crate) fn tracing(&self, tracer: Tracer) {
        // Set once, by the one who starts the server.
        let _ = self.tracer.set(tracer);
    }

    pub(crate) fn tracer(&self) -> Tracer {
        self.tracer.get().cloned().unwrap_or_default()
    }

    /// Says that clients will soon not be served any more.
    pub(crate) fn stopping(&self) {
        self.stopping.store(true, Ordering::Relaxed);
    }

    pub(crate) fn broker(&self) -> Option<&Arc<Broker>> {
        self.broker.get()
    }

    /// What clients miss for as long as this process lives.
    pub(crate) fn lost(&self) -> Option<&'static str> {
        let ended = self.kafka.get()?.ended()?;
        // Asked behind it: what ends in order does so after this was set.
        (!self.stopping.load(Ordering::Relaxed)).then_some(ended)
    }

    /// `Err`: why no client should be sent here now.
    pub(crate) fn ready(&self) -> Result<(), String> {
        if self.stopping.load(Ordering::Relaxed) {
            return Err("stopping".to_owned());
        }
        let broker = self.broker().ok_or("starting: the log is being opened")?;
        match broker.log().health() {
            Health::Ready => self.lost().map_or(Ok(()), |lost| Err(lost.to_owned())),
            Health::Full { reason } => Err(reason),
            Health::ReadOnly { reason } => Err(format!("the log is read-only: {reason}")),
            Health::Stopping => Err("stopping".to_owned()),
        }
    }
}

/// Places of damage that `/readyz` names.
const DAMAGE_NAMED_MAX: usize = 20;

impl Status {
    /// A line for each place whose events are damaged. The others are served: this is no reason to send
    /// clients elsewhere, but one to look.
    fn damage(&self) -> String {
        let damage = self.broker().map_or_else(Vec::new, |broker| broker.log().damage());
        let mut lines = String::new();
        for Damage { path, events, what, .. } in damage.iter().take(DAMAGE_NAMED_MAX) {
            let Some(DamagedEvents { topic, partition, offsets }) = events else { continue };
            let (first, last) = (offsets.start, offsets.end.saturating_sub(1));
            lines += &format!("damaged: {topic}/{partition} offsets {first} to {last} ({path}: {what})\n");
        }
        if damage.len() > DAMAGE_NAMED_MAX {
            lines += &format!("damaged: {} more places\n", damage.len() - DAMAGE_NAMED_MAX);
        }
        lines
    }
}

/// The HTTP side in action.
#[derive(Debug)]
pub(crate) struct HttpServer {
    pub(crate) addresses: Vec<SocketAddr>,
    stop: watch::Sender<bool>,
    serving: Vec<JoinHandle<()>>,
}

impl HttpServer {
    /// Serves on every socket of `bound` from now on: so many connections at one time, on all of them
    /// together; with TLS, if there is any.
    pub(crate) fn start(
        bound: Bound,
        status: &Arc<Status>,
        api: ApiState,
        connections_max: usize,
        tls: Option<ServerTls>,
    ) -> Self {
        let (stop, stopped) = watch::channel(false);
        let router = router(Arc::clone(status)).merge(metrics::router(api.clone()));
        let router = router.merge(api::router(api)).merge(console::router());
        let places = Arc::new(Semaphore::new(connections_max));
        let sockets = Sockets::new(tls);
        let serving = bound
            .listeners
            .into_iter()
            .map(|listener| {
                let mut stopped = stopped.clone();
                let listener = Bounded::new(listener, Arc::clone(&places), sockets.clone());
                let service = router.clone().into_make_service_with_connect_info::<Peer>();
                let server = axum::serve(listener, service);
                let server = server.with_graceful_shutdown(async move {
                    // An error says that the sender is gone, which means the same.
                    let _ = stopped.wait_for(|stop| *stop).await;
                });
                tokio::spawn(async move {
                    if let Err(error) = server.await {
                        error!("HTTP ended: {error}");
                    }
                })
            })
            .collect();
        Self { addresses: bound.addresses, stop, serving }
    }

    /// Lets running requests end, within a bound.
    pub(crate) async fn stop(self) {
        self.stop.send_replace(true);
        for mut serving in self.serving {
            if timeout(DRAIN_MAX, &mut serving).await.is_err() {
                serving.abort();
            }
        }
    }
}

fn router(status: Arc<Status>) -> Router {
    Router::new().route("/livez", get(livez)).route("/readyz", get(readyz)).with_state(status)
}

/// The process runs, and has all that only a restart would bring back. It says nothing about the log: a restart would
/// not help a full disk.
async fn livez(State(status): State<Arc<Status>>) -> (StatusCode, String) {
    match status.lost() {
        None => (StatusCode::OK, "ok\n".to_owned()),
        Some(lost) => (StatusCode::SERVICE_UNAVAILABLE, format!("{lost}\n")),
    }
}

async fn readyz(State(status): State<Arc<Status>>) -> (StatusCode, String) {
    match status.ready() {
        Ok(()) => (StatusCode::OK, format!("ready\n{}", status.damage())),
        Err(reason) => (StatusCode::SERVICE_UNAVAILABLE, format!("{reason}\n")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use courant_kafka::KafkaConfig;
    use courant_log::storage::MemoryStorage;
    use courant_log::{Log, LogConfig, SystemClock, SystemEntropy};
    use tokio::net::TcpListener;
    use tokio::runtime::Runtime;

    fn broker() -> Arc<Broker> {
        let config = LogConfig {
            journal_file_bytes: 1024 * 1024,
            first_journal_file_bytes: 1024 * 1024,
            reserve_bytes: 0,
            ..LogConfig::new(Arc::new(SystemClock), Arc::new(SystemEntropy))
        };
        let (log, _) = Log::open(Arc::new(MemoryStorage::new(64 * 1024 * 1024)), config).expect("opens");
        Arc::new(Broker::new(log, KafkaConfig::default()))
    }

    /// Symptom: a server whose task for new Kafka clients had panicked refused every one of them, was ready and alive
    /// for whoever asked, and so was never restarted. Cause: nobody looked at that task. Fix: it is looked at with
    /// each question.
    #[test]
    fn a_server_that_accepts_nobody_any_more_is_neither_ready_nor_alive() {
        let (serving, asking) = (Runtime::new().expect("threads"), Runtime::new().expect("threads"));
        let status = Arc::new(Status::default());
        let answers = || {
            let ready = asking.block_on(readyz(State(Arc::clone(&status))));
            let alive = asking.block_on(livez(State(Arc::clone(&status))));
            [ready, alive].map(|(code, said)| (code.as_u16(), said))
        };
        assert_eq!(answers().map(|(code, _)| code), [503, 200], "it is starting");
        let kafka = serving.block_on(async {
            let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback");
            KafkaServer::start(broker(), vec![listener])
        });
        status.serving(&kafka);
        assert_eq!(answers().map(|(code, _)| code), [200, 200]);
        // Its tasks end, as each of them does by a panic.
        drop(serving);
        for (code, said) in answers() {
            assert!(code == 503 && said.contains("nobody accepts Kafka clients any more"), "{code}: {said}");
        }
        // What ends in order is no reason to end the process before the log is sealed.
        status.stopping();
        assert_eq!(answers().map(|(code, _)| code), [503, 200]);
    }
}
