//! The side of the exporter that whoever makes spans sees.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use courant_core::trace::{Span, SpanCounts, Spans, TraceId};
use tokio::sync::{mpsc, watch};
use tracing::warn;
use uuid::Uuid;

use crate::worker::Worker;
use crate::{OtlpConfig, OtlpError, Sampler};

/// How often somebody who waits for the end of the exporter's thread looks.
const LOOK: Duration = Duration::from_millis(5);

/// Sends spans to a collector until it is stopped.
#[derive(Debug)]
pub struct Exporter {
    queue: Arc<Queue>,
    stop: watch::Sender<bool>,
    worker: Mutex<Option<JoinHandle<()>>>,
}

/// Where spans wait.
pub(crate) struct Queue {
    spans: mpsc::Sender<Span>,
    sampler: Sampler,
    pub(crate) counters: Arc<Counters>,
}

/// What has become of spans.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) exported: AtomicU64,
    pub(crate) dropped: AtomicU64,
    pub(crate) failed: AtomicU64,
}

impl fmt::Debug for Queue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Queue").field("counters", &self.counters).finish_non_exhaustive()
    }
}

impl Exporter {
    /// Begins to send. Whether there is a collector is found out with the first spans.
    ///
    /// # Errors
    /// There is no client of HTTP, or no thread.
    pub fn start(config: OtlpConfig) -> Result<Self, OtlpError> {
        let (spans, waiting) = mpsc::channel(config.queue);
        let (stop, stopped) = watch::channel(false);
        let counters = Arc::new(Counters::default());
        let sampler = config.sampler;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let worker = Worker::new(config, waiting, stopped, Arc::clone(&counters))?;
        let worker =
            thread::Builder::new().name("otlp".to_owned()).spawn(move || runtime.block_on(worker.run()))?;
        let queue = Arc::new(Queue { spans, sampler, counters });
        Ok(Self { queue, stop, worker: Mutex::new(Some(worker)) })
    }

    /// Where spans are handed in.
    #[must_use]
    pub fn spans(&self) -> Arc<dyn Spans> {
        Arc::clone(&self.queue) as Arc<dyn Spans>
    }

    /// Sends what waits, and ends, not later than in `patience`. Blocks the thread.
    pub fn stop(&self, patience: Duration) {
        self.stop.send_replace(true);
        let Some(worker) = self.worker.lock().unwrap_or_else(PoisonError::into_inner).take() else { return };
        let mut waited = Duration::ZERO;
        while !worker.is_finished() && waited < patience {
            thread::sleep(LOOK);
            waited += LOOK;
        }
        if !worker.is_finished() {
            warn!("spans that were not sent yet are given up: the collector does not take them");
        } else if worker.join().is_err() {
            warn!("the thread that sends spans has ended in a panic, which is a defect");
        }
    }
}

impl Spans for Queue {
    fn now_ns(&self) -> u64 {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        u64::try_from(now.as_nanos()).unwrap_or(u64::MAX)
    }

    fn random(&self) -> u128 {
        // Six bits are always the same, and not among the lower 56, by which traces are chosen.
        Uuid::new_v4().as_u128()
    }

    fn samples(&self, trace: TraceId) -> bool {
        self.sampler.samples(trace)
    }

    fn ended(&self, span: Span) {
        if self.spans.try_send(span).is_err() {
            self.counters.dropped.fetch_add(1, Relaxed);
        }
    }

    fn counts(&self) -> SpanCounts {
        SpanCounts {
            exported: self.counters.exported.load(Relaxed),
            dropped: self.counters.dropped.load(Relaxed),
            failed: self.counters.failed.load(Relaxed),
        }
    }
}
