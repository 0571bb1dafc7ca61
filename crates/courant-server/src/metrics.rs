//! The figures of the process, read when they are asked for: `/metrics`.
//!
//! Names of topics and of consumer groups are in them, so whoever may read the API may read them.

mod named;

use std::fmt;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use courant_core::trace::SpanCounts;
use courant_kafka::Broker;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric, text};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Registry;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::spawn_blocking;
use tokio::time::timeout;

use self::named::Named;
use crate::api::ApiState;
use crate::api::limits::{SERIES_AGE, SERIES_AGE_PER_COST, SERIES_LOOK_WAIT_MAX};
use crate::api::problem::Problem;
use crate::api::series::Series;
use crate::scrub::Scrubbed;

/// The content type of OpenMetrics 1.0.
const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Answers scrapes.
pub(crate) fn router(api: ApiState) -> Router {
    let scrapes = Scrapes { api, place: Arc::new(Semaphore::new(1)), kept: Arc::default() };
    Router::new().route("/metrics", get(scrape)).with_state(scrapes)
}

async fn scrape(State(scrapes): State<Scrapes>, headers: HeaderMap) -> Response {
    let page = match scrapes.api.may_read(&headers) {
        Ok(()) => scrapes.page().await,
        Err(problem) => Err(problem),
    };
    page.map(|page| ([(header::CONTENT_TYPE, OPEN_METRICS)], page)).into_response()
}

/// What scrapes have in common.
#[derive(Clone, Debug)]
struct Scrapes {
    api: ApiState,
    /// One at a time: whoever scrapes more often than that gets nothing newer.
    place: Arc<Semaphore>,
    kept: Arc<Mutex<Option<Kept>>>,
}

/// What was measured, and until when it is used.
#[derive(Clone, Debug)]
struct Kept {
    series: Arc<Series>,
    until: Instant,
}

/// What a scrape shows of what has a name.
#[derive(Debug)]
enum Look {
    /// It is measured, with a place for that where those who look at the log share their memory.
    Anew(Option<OwnedSemaphorePermit>),
    /// What was measured before.
    Kept,
}

impl Scrapes {
    /// The whole page, written away from the runtime's workers, and not behind those who look at the log but where a
    /// budget of memory has them share their places.
    async fn page(&self) -> Result<String, Problem> {
        let scrapes = self.clone();
        // Nobody closes the semaphore.
        let place = Arc::clone(&self.place).acquire_owned().await.ok();
        let look = self.look().await;
        let written = spawn_blocking(move || {
            let _place = place;
            scrapes.write(look)
        });
        let written = written.await.map_err(|failure| Problem::defect(&failure.to_string()))?;
        written.map_err(|failure| Problem::defect(&format!("the figures could not be written: {failure}")))
    }

    /// To be asked by one scrape at a time.
    async fn look(&self) -> Look {
        let is_fresh = |kept: &Kept| Instant::now() < kept.until;
        if self.kept.lock().unwrap_or_else(PoisonError::into_inner).as_ref().is_some_and(is_fresh) {
            return Look::Kept;
        }
        timeout(SERIES_LOOK_WAIT_MAX, self.api.place_beside()).await.map_or(Look::Kept, Look::Anew)
    }

    fn write(&self, look: Look) -> Result<String, fmt::Error> {
        let mut registry = Registry::default();
        registry.register_collector(Box::new(Figures(self.api.clone())));
        if let Some(series) = self.series(look) {
            registry.register_collector(Box::new(Named(series)));
        }
        let mut page = String::new();
        text::encode(&mut page, &registry)?;
        Ok(page)
    }

    /// What has a name.
    fn series(&self, look: Look) -> Option<Arc<Series>> {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let Look::Anew(_place) = look else {
            return kept.as_ref().map(|kept| Arc::clone(&kept.series));
        };
        let began = Instant::now();
        let series = Arc::new(Series::measure(&self.api)?);
        let until = Instant::now() + SERIES_AGE.max(began.elapsed() * SERIES_AGE_PER_COST);
        *kept = Some(Kept { series: Arc::clone(&series), until });
        Some(series)
    }
}

/// Name, help and value.
type Figure = (&'static str, &'static str, u64);

/// What is one figure for the whole process. The names are public: dashboards use them.
#[derive(Debug)]
struct Figures(ApiState);

impl Collector for Figures {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let status = self.0.status();
        build(&mut encoder)?;
        let uptime = self.0.started().elapsed().as_secs();
        gauge(&mut encoder, ("courant_uptime_seconds", "Since the start of the process", uptime))?;
        let ready = u64::from(status.ready().is_ok());
        gauge(&mut encoder, ("courant_ready", "1 while clients are served", ready))?;
        let Some(broker) = status.broker() else {
            return Ok(());
        };
        let log = broker.log().metrics();
        for figure in [
            ("courant_log_appends", "Batches appended", log.appends),
            ("courant_log_appended_events", "Events in them", log.appended_events),
            ("courant_log_appended_bytes", "Bytes of the batches appended", log.appended_bytes),
            ("courant_log_duplicates", "Batches that were there already", log.duplicates),
            ("courant_log_groups", "Groups written to the journal", log.groups),
            ("courant_log_syncs", "Journal syncs", log.syncs),
            ("courant_log_reads", "Reads of segments", log.reads),
            ("courant_log_read_bytes", "Bytes that reads gave", log.read_bytes),
            ("courant_log_wakes", "Waiting readers that were woken", log.wakes),
            ("courant_log_checkpoints", "Checkpoints stored", log.checkpoints),
            ("courant_log_journal_waits", "Waits for a free journal file", log.journal_waits),
            ("courant_log_compactions", "Segments put in the place of others", log.compactions),
            ("courant_log_compaction_read_bytes", "Bytes that compaction read", log.compaction_read_bytes),
            (
                "courant_log_compaction_written_bytes",
                "Bytes of the segments that compaction wrote",
                log.compaction_written_bytes,
            ),
            (
                "courant_log_compaction_failures",
                "Times that compaction of a partition ended early",
                log.compaction_failures,
            ),
            ("courant_log_file_waits", "Waits for segments to be synced and closed", log.file_waits),
        ] {
            counter(&mut encoder, figure)?;
        }
        let longest = log.journal_wait_longest_us;
        gauge(&mut encoder, ("courant_log_journal_wait_longest_us", "Longest of these waits", longest))?;
        let longest = log.file_wait_longest_us;
        gauge(&mut encoder, ("courant_log_file_wait_longest_us", "Longest wait for open files", longest))?;
        gauge(&mut encoder, ("courant_log_topics", "Topics", log.topics))?;
        gauge(&mut encoder, ("courant_log_partitions", "Partitions", log.partitions))?;
        let damaged = broker.log().damage().len() as u64;
        gauge(
            &mut encoder,
            ("courant_log_damaged_places", "Places whose events are in quarantine", damaged),
        )?;
        if let Some((bytes, free)) = broker.log().disk_bytes() {
            gauge(&mut encoder, ("courant_disk_bytes", "Size of the data directory's file system", bytes))?;
            gauge(&mut encoder, ("courant_disk_free_bytes", "Bytes that are free there", free))?;
        }
        if let Some(scrubbed) = status.scrubbed() {
            scrub(&mut encoder, scrubbed)?;
        }
        if let Some(counts) = status.tracer().counts() {
            spans(&mut encoder, counts)?;
        }

        kafka(&mut encoder, broker)
    }
}

/// What clients of the Kafka protocol do.
fn kafka(encoder: &mut DescriptorEncoder<'_>, broker: &Broker) -> fmt::Result {
    let kafka = broker.metrics();
    gauge(encoder, ("courant_kafka_connections", "Open connections", kafka.connections))?;
    let memory = (
        "courant_kafka_memory_bytes",
        "Memory that clients have, as far as it is granted",
        kafka.memory_bytes,
    );
    gauge(encoder, memory)?;
    let most = broker.config().limits.memory_max() as u64;
    gauge(encoder, ("courant_kafka_memory_bytes_max", "What they may have of it together", most))?;
    for figure in [
        ("courant_kafka_accepted", "Connections accepted", kafka.accepted),
        ("courant_kafka_refused", "Connections above the limit", kafka.refused),
        ("courant_kafka_panics", "Connections that ended in a panic", kafka.panics),
        ("courant_kafka_requests", "Requests", kafka.requests),
        ("courant_kafka_bad_requests", "Connections closed for what was sent", kafka.bad_requests),
        ("courant_kafka_request_bytes", "Bytes of requests", kafka.request_bytes),
        ("courant_kafka_response_bytes", "Bytes of answers", kafka.response_bytes),
        ("courant_kafka_threads_kept", "Clients that were alone and kept a thread", kafka.threads_kept),
        (
            "courant_kafka_reader_threads_kept",
            "Clients that read at the end of the log and kept a thread",
            kafka.reader_threads_kept,
        ),
        (
            "courant_kafka_cold_read_waits",
            "Reads that waited until fewer were waiting for the disk",
            kafka.cold_read_waits,
        ),
    ] {
        counter(encoder, figure)?;
    }
    let longest = kafka.cold_read_wait_longest_us;
    gauge(encoder, ("courant_kafka_cold_read_wait_longest_us", "Longest of these waits", longest))
}

/// What has become of spans.
fn spans(encoder: &mut DescriptorEncoder<'_>, counts: SpanCounts) -> fmt::Result {
    counter(encoder, ("courant_spans_exported", "Spans that a collector has taken", counts.exported))?;
    counter(encoder, ("courant_spans_dropped", "Spans given up because too many waited", counts.dropped))?;
    counter(encoder, ("courant_spans_failed", "Spans that no collector has taken", counts.failed))
}

/// Which version this is.
fn build(encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
    let help = "The version of the server; the value says nothing";
    let mut metric = encoder.encode_descriptor("courant_build_info", help, None, MetricType::Gauge)?;
    metric.encode_family(&[("version", env!("CARGO_PKG_VERSION"))])?.encode_gauge(&1_u64)
}

/// How far the look at everything that is stored has come.
fn scrub(encoder: &mut DescriptorEncoder<'_>, scrubbed: &Scrubbed) -> fmt::Result {
    let bytes = scrubbed.bytes.load(Relaxed);
    counter(encoder, ("courant_log_scrub_bytes", "Bytes compared with their checksums", bytes))?;
    let passes = scrubbed.passes.load(Relaxed);
    counter(
        encoder,
        ("courant_log_scrub_passes", "Looks at everything that is stored, without a failure", passes),
    )?;
    let failures = scrubbed.failures.load(Relaxed);
    counter(encoder, ("courant_log_scrub_failures", "Segments that could not be read through", failures))?;
    for figure in [
        (
            "courant_log_scrub_running",
            "1 while everything stored is looked at",
            u64::from(scrubbed.running.load(Relaxed)),
        ),
        (
            "courant_log_scrub_pass_bytes",
            "Bytes that the newest look has compared",
            scrubbed.pass_bytes.load(Relaxed),
        ),
        (
            "courant_log_scrub_pass_bytes_expected",
            "Bytes that were stored when it began",
            scrubbed.pass_bytes_expected.load(Relaxed),
        ),
        (
            "courant_log_scrub_last_pass_ended_seconds",
            "When the last of these looks ended, in seconds since 1970; 0: none since the start",
            scrubbed.ended_unix_seconds.load(Relaxed),
        ),
    ] {
        gauge(encoder, figure)?;
    }
    Ok(())
}

/// A figure that only grows; its name gets `_total` at the end.
fn counter(encoder: &mut DescriptorEncoder<'_>, (name, help, value): Figure) -> fmt::Result {
    let metric = ConstCounter::new(value);
    metric.encode(encoder.encode_descriptor(name, help, None, metric.metric_type())?)
}

fn gauge(encoder: &mut DescriptorEncoder<'_>, (name, help, value): Figure) -> fmt::Result {
    let metric = ConstGauge::new(i64::try_from(value).unwrap_or(i64::MAX));
    metric.encode(encoder.encode_descriptor(name, help, None, metric.metric_type())?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::ApiSettings;
    use crate::api::shares::ApiLimits;
    use crate::http::Status;

    fn scrapes(limits: ApiLimits) -> Scrapes {
        let api = ApiState::new(Arc::new(Status::default()), ApiSettings::default(), 2, limits);
        Scrapes { api, place: Arc::new(Semaphore::new(1)), kept: Arc::default() }
    }

    /// What is measured reads the log as any look does, and a budget has room for so many of those.
    #[tokio::test]
    async fn a_scrape_waits_for_a_place_where_a_budget_has_lookers_share_them() {
        let scrapes = scrapes(ApiLimits::within(ApiLimits::MEMORY_MIN, false));
        let held = scrapes.api.place_beside().await.expect("they share their places");
        let mut look = Box::pin(scrapes.look());
        tokio::select! {
            biased;
            got = &mut look => panic!("the only place is taken: {got:?}"),
            () = std::future::ready(()) => {}
        }
        drop(held);
        assert!(matches!(look.await, Look::Anew(Some(_))));
    }

    #[tokio::test]
    async fn a_scrape_measures_beside_lookers_without_a_budget_and_not_again_at_once() {
        let scrapes = scrapes(ApiLimits::default());
        assert!(matches!(scrapes.look().await, Look::Anew(None)));
        let kept = Kept { series: Arc::default(), until: Instant::now() + SERIES_LOOK_WAIT_MAX * 100 };
        *scrapes.kept.lock().expect("nobody has failed") = Some(kept);
        assert!(matches!(scrapes.look().await, Look::Kept));
        assert!(scrapes.series(Look::Kept).is_some());
    }
}
