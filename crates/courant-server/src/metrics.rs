//! The figures of the process, read when they are asked for.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;

use crate::http::Status;
use crate::scrub::Scrubbed;

/// Name, help and value.
type Figure = (&'static str, &'static str, u64);

/// Everything `/metrics` shows. The names are public: dashboards use them.
#[derive(Debug)]
pub(crate) struct Figures(pub(crate) Arc<Status>);

impl Collector for Figures {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let ready = u64::from(self.0.ready().is_ok());
        gauge(&mut encoder, ("courant_ready", "1 while clients are served", ready))?;
        let Some(broker) = self.0.broker() else {
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
        if let Some(scrubbed) = self.0.scrubbed() {
            scrub(&mut encoder, scrubbed)?;
        }

        let kafka = broker.metrics();
        gauge(&mut encoder, ("courant_kafka_connections", "Open connections", kafka.connections))?;
        for figure in [
            ("courant_kafka_accepted", "Connections accepted", kafka.accepted),
            ("courant_kafka_refused", "Connections above the limit", kafka.refused),
            ("courant_kafka_panics", "Connections that ended in a panic", kafka.panics),
            ("courant_kafka_requests", "Requests", kafka.requests),
            ("courant_kafka_bad_requests", "Connections closed for what was sent", kafka.bad_requests),
            ("courant_kafka_request_bytes", "Bytes of requests", kafka.request_bytes),
            ("courant_kafka_response_bytes", "Bytes of answers", kafka.response_bytes),
        ] {
            counter(&mut encoder, figure)?;
        }
        Ok(())
    }
}

/// How far the look at everything that is stored has come.
fn scrub(encoder: &mut DescriptorEncoder<'_>, scrubbed: &Scrubbed) -> fmt::Result {
    let bytes = scrubbed.bytes.load(Relaxed);
    counter(encoder, ("courant_log_scrub_bytes", "Bytes compared with their checksums", bytes))?;
    let passes = scrubbed.passes.load(Relaxed);
    counter(encoder, ("courant_log_scrub_passes", "Looks at everything that is stored", passes))?;
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
            "When the last look at everything ended, in seconds since 1970; 0: not since the start",
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
