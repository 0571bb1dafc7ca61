//! What every connection shares: the log, the settings, the budgets, the counters.

use std::fmt;
use std::future::poll_fn;
use std::net::{IpAddr, SocketAddr};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::task::Poll;
use std::time::Duration;

use courant_core::clock::Clock as _;
use courant_log::limits::BUFFER_BYTES;
use courant_log::{Buffers, Log, SystemClock};
use tokio::sync::{Semaphore, watch};
use tokio::task::coop::unconstrained;

use crate::api::FetchSessions;
use crate::budget::Budget;
use crate::client::Address;
use crate::cold::ColdReads;
use crate::config::{KafkaConfig, Limits};
use crate::groups::{Coordinator, GroupSettings};
use crate::limits;
use crate::seldom::Lines;

/// The leader epoch of every partition. There is one machine, and it is the leader.
pub(crate) const LEADER_EPOCH: i32 = 0;

/// One log served as one Kafka broker.
pub struct Broker {
    log: Log,
    config: KafkaConfig,
    pub(crate) counters: Counters,
    /// What is said of clients in the log.
    pub(crate) lines: Lines,
    pub(crate) request_budget: Budget,
    pub(crate) response_budget: Budget,
    /// What may wait for the disk.
    pub(crate) cold_reads: ColdReads,
    /// What may do so and unpacks batches.
    pub(crate) time_looks: ColdReads,
    /// Places for threads of the runtime that wait until a batch can be unpacked.
    pub(crate) unpack_waits: Semaphore,
    /// For large batches on their way to the log.
    pub(crate) buffers: Buffers,
    /// Of all connections together.
    pub(crate) fetch_sessions: FetchSessions,
    groups: Arc<Coordinator>,
    /// Who has sent the last Produce: a connection, by a number that no other one has at the time.
    pub(crate) appender: AtomicUsize,
    /// A connection keeps a thread for itself, because it is the only one that produces.
    pub(crate) keeps_thread: AtomicBool,
    /// The same, because it reads at the end of the log.
    pub(crate) reader_keeps_thread: AtomicBool,
    stopping: watch::Sender<bool>,
    /// Set before `stopping` says it.
    is_stopping: AtomicBool,
}

impl Broker {
    /// A broker in front of `log`, with the groups that are stored there.
    #[must_use]
    pub fn new(log: Log, config: KafkaConfig) -> Self {
        let settings = GroupSettings {
            initial_delay: config.group_initial_rebalance_delay,
            retention: config.offsets_retention,
            members_bytes_max: config.limits.members_bytes_max,
        };
        Self {
            groups: Arc::new(Coordinator::new(log.clone(), settings)),
            log,
            counters: Counters::default(),
            lines: Lines::default(),
            request_budget: Budget::new(config.limits.request_bytes_budget),
            response_budget: Budget::new(config.limits.response_bytes_budget),
            cold_reads: ColdReads::new(limits::COLD_READS_MAX),
            time_looks: ColdReads::new(config.limits.time_looks_max),
            unpack_waits: Semaphore::new(limits::UNPACK_WAITS_MAX),
            buffers: Buffers::new(config.limits.request_buffers),
            fetch_sessions: FetchSessions::new(
                config.limits.fetch_sessions_max,
                config.limits.fetch_sessions_bytes_max,
            ),
            config,
            appender: AtomicUsize::new(0),
            keeps_thread: AtomicBool::new(false),
            reader_keeps_thread: AtomicBool::new(false),
            stopping: watch::Sender::new(false),
            is_stopping: AtomicBool::new(false),
        }
    }

    /// The log behind the broker.
    #[must_use]
    pub fn log(&self) -> &Log {
        &self.log
    }

    /// The settings the broker was made with.
    #[must_use]
    pub fn config(&self) -> &KafkaConfig {
        &self.config
    }

    /// The counters as they are now.
    #[must_use]
    pub fn metrics(&self) -> KafkaMetrics {
        let counted = self.counters.snapshot();
        KafkaMetrics { memory_bytes: self.memory_bytes(counted.connections) as u64, ..counted }
    }

    /// What clients have of the memory that they may have: never more than [`Limits::memory_max`].
    fn memory_bytes(&self, connections: u64) -> usize {
        // One more may be counted for a moment, until it is refused.
        let connections =
            usize::try_from(connections).unwrap_or(usize::MAX).min(self.limits().connections_max);
        self.request_budget.granted() * limits::REQUEST_GROWTH
            + self.response_budget.granted()
            + self.fetch_sessions.bytes()
            + connections * self.limits().connection_bytes()
            + self.buffers.made() * BUFFER_BYTES
    }

    /// The consumer groups.
    pub(crate) fn groups(&self) -> &Arc<Coordinator> {
        &self.groups
    }

    /// Milliseconds since 1970.
    pub(crate) fn now_ms(&self) -> i64 {
        SystemClock.now_ms()
    }

    pub(crate) fn limits(&self) -> &Limits {
        &self.config.limits
    }

    /// Tells every connection to answer what it has read and to close.
    pub(crate) fn stop(&self) {
        self.is_stopping.store(true, Ordering::Release);
        self.stopping.send_replace(true);
    }

    /// Whether [`Broker::stop`] was called.
    pub(crate) fn is_stopping(&self) -> bool {
        self.is_stopping.load(Ordering::Acquire)
    }

    /// Returns once [`Broker::stop`] was called.
    pub(crate) async fn stopped(&self) {
        // The sender lives as long as `self`, so waiting cannot fail.
        let _ = self.stopping.subscribe().wait_for(|stopping| *stopping).await;
    }

    /// As [`Broker::stopped`], for a task that waits for other things beside it: when those wake it, this is
    /// a look at a flag. It must not go from one task to another.
    pub(crate) async fn stopped_beside(&self) {
        seldom(&self.is_stopping, self.stopped()).await;
    }
}

/// Polls a future once, so that it knows whom to wake, and then only when `flag` is set, which is before it
/// is done: what it looks at is shared by all connections, with a lock.
async fn seldom<F: Future>(flag: &AtomicBool, future: F) -> F::Output {
    // A task that has done enough for now would be turned away, and not be known.
    let mut future = pin!(unconstrained(future));
    let mut is_known = false;
    poll_fn(|context| {
        if is_known && !flag.load(Ordering::Acquire) {
            return Poll::Pending;
        }
        is_known = true;
        future.as_mut().poll(context)
    })
    .await
}

impl fmt::Debug for Broker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Broker")
            .field("config", &self.config)
            .field("metrics", &self.metrics())
            .finish_non_exhaustive()
    }
}

/// The client at the other end of a connection, as the handlers see it.
#[derive(Debug)]
pub(crate) struct Caller {
    pub(crate) broker: Arc<Broker>,
    /// Where the client connects from.
    pub(crate) peer: SocketAddr,
    /// The address of this server that the client connected to.
    pub(crate) local: SocketAddr,
    /// For what its small requests become while others have all memory for requests.
    pub(crate) elements: Budget,
}

impl Caller {
    /// A client of which nothing has come yet.
    pub(crate) fn new(broker: Arc<Broker>, peer: SocketAddr, local: SocketAddr) -> Self {
        Self { broker, peer, local, elements: Budget::new(limits::SMALL_ANSWER_BYTES) }
    }

    pub(crate) fn log(&self) -> &Log {
        self.broker.log()
    }

    /// The address this client is told to use: the configured one, else the one that it used
    /// itself, which is the only one known to work for it.
    pub(crate) fn advertised(&self) -> Address {
        self.broker
            .config
            .advertise
            .clone()
            .unwrap_or_else(|| Address { host: host(self.local), port: self.local.port() })
    }
}

/// The IP address as a host. A link-local IPv6 address is of no use without its interface.
fn host(address: SocketAddr) -> String {
    // A dual-stack socket shows IPv4 peers as ::ffff:a.b.c.d.
    match (address.ip().to_canonical(), address) {
        (IpAddr::V6(ip), SocketAddr::V6(v6)) if v6.scope_id() != 0 => format!("{ip}%{}", v6.scope_id()),
        (ip, _) => ip.to_string(),
    }
}

/// Counters that only grow, except `connections`, and a longest time.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    connections: AtomicU64,
    accepted: AtomicU64,
    refused: AtomicU64,
    panics: AtomicU64,
    requests: AtomicU64,
    bad_requests: AtomicU64,
    request_bytes: AtomicU64,
    response_bytes: AtomicU64,
    threads_kept: AtomicU64,
    reader_threads_kept: AtomicU64,
    cold_read_waits: AtomicU64,
    cold_read_wait_longest_us: AtomicU64,
}

/// The counters of the Kafka front-end at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct KafkaMetrics {
    /// Connections open now.
    pub connections: u64,
    /// Connections accepted.
    pub accepted: u64,
    /// Connections closed at once because too many were open.
    pub refused: u64,
    /// Connections that ended in a panic. Anything but 0 is a defect.
    pub panics: u64,
    /// Requests with a readable header.
    pub requests: u64,
    /// Connections closed because of what the client sent.
    pub bad_requests: u64,
    /// Bytes of request frames.
    pub request_bytes: u64,
    /// Bytes of answers.
    pub response_bytes: u64,
    /// How often a connection kept a thread, because its client was alone.
    pub threads_kept: u64,
    /// How often a connection kept a thread, because its client read at the end of the log.
    pub reader_threads_kept: u64,
    /// Reads that waited because as many as may wait for the disk were under way.
    pub cold_read_waits: u64,
    /// Longest of these waits, in microseconds.
    pub cold_read_wait_longest_us: u64,
    /// Bytes of memory that clients have now, as far as it is granted and counted.
    pub memory_bytes: u64,
}

fn add(counter: &AtomicU64, n: usize) {
    // Relaxed: nothing is concluded from one counter about another.
    counter.fetch_add(n as u64, Ordering::Relaxed);
}

impl Counters {
    pub(crate) fn refused(&self) {
        add(&self.refused, 1);
    }

    pub(crate) fn panicked(&self) {
        add(&self.panics, 1);
    }

    pub(crate) fn request(&self, bytes: usize) {
        add(&self.requests, 1);
        add(&self.request_bytes, bytes);
    }

    pub(crate) fn bad_request(&self) {
        add(&self.bad_requests, 1);
    }

    pub(crate) fn response(&self, bytes: usize) {
        add(&self.response_bytes, bytes);
    }

    pub(crate) fn thread_kept(&self) {
        add(&self.threads_kept, 1);
    }

    pub(crate) fn reader_thread_kept(&self) {
        add(&self.reader_threads_kept, 1);
    }

    pub(crate) fn cold_read_waits(&self) {
        add(&self.cold_read_waits, 1);
    }

    pub(crate) fn cold_read_waited(&self, time: Duration) {
        let us = u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        self.cold_read_wait_longest_us.fetch_max(us, Ordering::Relaxed);
    }

    pub(crate) fn snapshot(&self) -> KafkaMetrics {
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        KafkaMetrics {
            connections: get(&self.connections),
            accepted: get(&self.accepted),
            refused: get(&self.refused),
            panics: get(&self.panics),
            requests: get(&self.requests),
            bad_requests: get(&self.bad_requests),
            request_bytes: get(&self.request_bytes),
            response_bytes: get(&self.response_bytes),
            threads_kept: get(&self.threads_kept),
            reader_threads_kept: get(&self.reader_threads_kept),
            cold_read_waits: get(&self.cold_read_waits),
            cold_read_wait_longest_us: get(&self.cold_read_wait_longest_us),
            // Nobody counts it: it is what is granted.
            memory_bytes: 0,
        }
    }
}

/// One open connection in the count; its place is free again on drop, also after a panic.
#[derive(Debug)]
pub(crate) struct Place(Arc<Broker>);

impl Place {
    /// A place for one more connection, or `None` when `connections_max` are open.
    pub(crate) fn take(broker: &Arc<Broker>) -> Option<Self> {
        let counters = &broker.counters;
        let place = Self(Arc::clone(broker));
        let before = counters.connections.fetch_add(1, Ordering::Relaxed);
        if before >= broker.limits().connections_max as u64 {
            return None; // Dropping `place` takes the count back.
        }
        add(&counters.accepted, 1);
        Some(place)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.counters.connections.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::task::{Context, Waker};

    #[test]
    fn what_is_asked_for_seldom_is_asked_once_and_when_its_flag_is_set() {
        let flag = AtomicBool::new(false);
        let mut polls = 0;
        let counted = poll_fn(|_| {
            polls += 1;
            if polls < 3 { Poll::Pending } else { Poll::Ready(polls) }
        });
        let mut seldom = pin!(seldom(&flag, counted));
        let mut context = Context::from_waker(Waker::noop());
        for _ in 0..9 {
            assert_eq!(seldom.as_mut().poll(&mut context), Poll::Pending);
        }
        flag.store(true, Ordering::Release);
        assert_eq!(seldom.as_mut().poll(&mut context), Poll::Pending, "the second time");
        assert_eq!(seldom.poll(&mut context), Poll::Ready(3));
    }

    /// Whatever the task was woken for in the meantime.
    #[tokio::test]
    async fn a_stop_wakes_who_was_not_asking() {
        let (stopping, is_stopping) = (watch::Sender::new(false), Arc::new(AtomicBool::new(false)));
        let (mut receiver, flag) = (stopping.subscribe(), Arc::clone(&is_stopping));
        let (tick, mut ticks) = tokio::sync::mpsc::channel::<()>(1);
        let waits = tokio::spawn(async move {
            let stopped = async move { receiver.wait_for(|stopping| *stopping).await.is_ok() };
            let mut stopped = pin!(seldom(&flag, stopped));
            let mut seen = 0;
            loop {
                tokio::select! {
                    is_stopped = &mut stopped => {
                        assert!(is_stopped);
                        return seen;
                    }
                    Some(()) = ticks.recv() => seen += 1,
                }
            }
        });
        for _ in 0..3 {
            tick.send(()).await.expect("it waits");
        }
        tick.reserve().await.expect("it has taken them").send(());
        is_stopping.store(true, Ordering::Release);
        stopping.send_replace(true);
        let woken = tokio::time::timeout(Duration::from_secs(20), waits).await.expect("it is woken");
        assert!(woken.expect("it does not panic") >= 3);
    }

    #[test]
    fn hosts() {
        let host = |address: &str| host(address.parse().expect("an address"));
        assert_eq!(host("127.0.0.1:9092"), "127.0.0.1");
        assert_eq!(host("[::ffff:10.0.0.1]:9092"), "10.0.0.1");
        assert_eq!(host("[::1]:9092"), "::1");
        assert_eq!(host("[fe80::1%3]:9092"), "fe80::1%3");
    }
}
