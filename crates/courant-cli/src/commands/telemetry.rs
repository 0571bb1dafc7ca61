//! Spans of this process, by the standard variables of OpenTelemetry in its environment.

use crate::exit::{Exit, Failure};
use courant_core::trace::Tracer;
use courant_otlp::{Exporter, OtlpConfig, OtlpError};
use std::time::Duration;
use tracing::warn;

/// How long what waits to be sent may take at the end.
const PATIENCE: Duration = Duration::from_secs(5);

/// Sends spans, if the environment says where.
#[derive(Debug)]
pub(super) struct Telemetry(Option<Exporter>);

impl Telemetry {
    /// Begins to send what a process of this name does.
    pub(super) fn start(service: &str) -> Result<Self, Failure> {
        // What is no text is none of theirs.
        Self::of(OtlpConfig::from_variables(service, |name| std::env::var(name).ok()))
    }

    /// The protocol is often chosen for all programs of a machine: it is no reason not to start.
    fn of(config: Result<Option<OtlpConfig>, OtlpError>) -> Result<Self, Failure> {
        let config = match config {
            Err(error @ OtlpError::Protocol { .. }) => {
                warn!("no spans are sent: {error}");
                return Ok(Self(None));
            }
            other => other.map_err(|error| Failure::new(Exit::Usage, error.to_string()))?,
        };
        let exporter = config.map(Exporter::start).transpose();
        exporter.map(Self).map_err(|error| Failure::new(Exit::Failed, error.to_string()))
    }

    /// What makes the spans.
    pub(super) fn tracer(&self) -> Tracer {
        self.0.as_ref().map_or_else(Tracer::default, |exporter| Tracer::new(exporter.spans()))
    }

    /// Sends what waits. Who has said a second time that it is to end does not wait for a collector.
    pub(super) fn end(self, ended: &Result<Exit, Failure>) {
        if let Some(exporter) = self.0
            && !matches!(ended, Ok(Exit::Interrupted))
        {
            exporter.stop(PATIENCE);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;
    use std::time::Instant;

    /// The collector takes the connection, and never answers.
    #[test]
    fn a_second_signal_does_not_wait_for_a_collector() {
        let silent = TcpListener::bind("127.0.0.1:0").expect("an address");
        let address = silent.local_addr().expect("an address");
        let config = OtlpConfig::to(&format!("http://{address}"), "test").expect("an address");
        let telemetry = Telemetry(Some(Exporter::start(config).expect("starts")));
        drop(telemetry.tracer().http("GET", "/", None));
        let began = Instant::now();
        telemetry.end(&Ok(Exit::Interrupted));
        assert!(began.elapsed() < PATIENCE, "{:?}", began.elapsed());
    }
}
