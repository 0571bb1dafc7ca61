//! The thread that takes spans out of the queue and sends them.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use courant_core::trace::Span;
use reqwest::header::{CONTENT_TYPE, HeaderMap};
use reqwest::redirect::Policy;
use reqwest::{Client, StatusCode};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep, timeout_at};
use tracing::{debug, warn};

use crate::exporter::Counters;
use crate::json::request;
use crate::{OtlpConfig, OtlpError};

/// How often a batch is tried.
const ATTEMPTS: u32 = 4;

/// How long after the first attempt the second one comes; then twice as long each time.
const PAUSE: Duration = Duration::from_millis(500);

pub(crate) struct Worker {
    client: Client,
    config: OtlpConfig,
    waiting: mpsc::Receiver<Span>,
    stopped: watch::Receiver<bool>,
    counters: Arc<Counters>,
    /// The last batch was given up: it is said once, and again when it is over.
    is_away: bool,
}

/// Why a batch was not taken.
enum Refused {
    /// It may be taken later.
    ForNow(String),
    /// It never will.
    ForGood(String),
}

impl Worker {
    pub(crate) fn new(
        config: OtlpConfig,
        waiting: mpsc::Receiver<Span>,
        stopped: watch::Receiver<bool>,
        counters: Arc<Counters>,
    ) -> Result<Self, OtlpError> {
        // Another one that the process has chosen already is as good.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let headers: HeaderMap = config.headers.iter().cloned().collect();
        let client = Client::builder()
            .timeout(config.timeout)
            .redirect(Policy::none())
            .default_headers(headers)
            .build()?;
        Ok(Self { client, config, waiting, stopped, counters, is_away: false })
    }

    /// Sends until it is told to stop and nothing waits any more.
    pub(crate) async fn run(mut self) {
        loop {
            let batch = self.batch().await;
            if batch.is_empty() {
                return;
            }
            self.deliver(&batch).await;
        }
    }

    /// The spans of one request: those that come while the first one waits. None: it is over.
    async fn batch(&mut self) -> Vec<Span> {
        let mut batch = Vec::new();
        let first = tokio::select! {
            biased;
            first = self.waiting.recv() => first,
            () = told(&mut self.stopped) => self.waiting.try_recv().ok(),
        };
        batch.extend(first);
        let until = Instant::now() + self.config.delay;
        while !batch.is_empty() && batch.len() < self.config.batch {
            let is_stopped = *self.stopped.borrow();
            let next = if is_stopped {
                self.waiting.try_recv().ok()
            } else {
                tokio::select! {
                    next = timeout_at(until, self.waiting.recv()) => next.ok().flatten(),
                    () = told(&mut self.stopped) => continue,
                }
            };
            match next {
                Some(span) => batch.push(span),
                None => break,
            }
        }
        batch
    }

    /// Sends a batch, several times where that may help.
    async fn deliver(&mut self, batch: &[Span]) {
        let body = request(&self.config.resource, batch).to_string();
        let count = batch.len() as u64;
        let mut pause = PAUSE;
        for attempt in 1..=ATTEMPTS {
            let why = match self.send(body.clone()).await {
                Ok(()) => {
                    self.counters.exported.fetch_add(count, Relaxed);
                    if std::mem::take(&mut self.is_away) {
                        warn!("the collector takes spans again");
                    }
                    return;
                }
                Err(Refused::ForNow(why)) if attempt < ATTEMPTS && !*self.stopped.borrow() => {
                    debug!("spans are sent again: {why}");
                    tokio::select! {
                        () = sleep(pause) => {}
                        () = told(&mut self.stopped) => {}
                    }
                    pause *= 2;
                    continue;
                }
                Err(Refused::ForNow(why) | Refused::ForGood(why)) => why,
            };
            self.counters.failed.fetch_add(count, Relaxed);
            if !std::mem::replace(&mut self.is_away, true) {
                warn!(
                    "the collector does not take spans: {why}; what follows is counted, and not said again"
                );
            }
            return;
        }
    }

    async fn send(&self, body: String) -> Result<(), Refused> {
        let asked =
            self.client.post(self.config.url.clone()).header(CONTENT_TYPE, "application/json").body(body);
        // An address may hold a password.
        let answer = asked.send().await.map_err(|error| Refused::ForNow(error.without_url().to_string()))?;
        match answer.status() {
            status if status.is_success() => Ok(()),
            status @ (StatusCode::TOO_MANY_REQUESTS
            | StatusCode::BAD_GATEWAY
            | StatusCode::SERVICE_UNAVAILABLE
            | StatusCode::GATEWAY_TIMEOUT) => Err(Refused::ForNow(format!("it answers {status}"))),
            status => Err(Refused::ForGood(format!("it answers {status}"))),
        }
    }
}

/// Waits until it is said. When nobody is left who could say it, it counts as said.
async fn told(stopped: &mut watch::Receiver<bool>) {
    drop(stopped.wait_for(|stopped| *stopped).await);
}
