//! Spans of this process, by the standard variables of OpenTelemetry in its environment.

use crate::exit::{Exit, Failure};
use courant_core::trace::Tracer;
use courant_otlp::{Exporter, OtlpConfig};
use std::time::Duration;

/// How long what waits to be sent may take at the end.
const PATIENCE: Duration = Duration::from_secs(5);

/// Sends spans, if the environment says where.
#[derive(Debug)]
pub(super) struct Telemetry(Option<Exporter>);

impl Telemetry {
    /// Begins to send what a process of this name does.
    pub(super) fn start(service: &str) -> Result<Self, Failure> {
        // What is no text is none of theirs.
        let config = OtlpConfig::from_variables(service, |name| std::env::var(name).ok());
        let config = config.map_err(|error| Failure::new(Exit::Usage, error.to_string()))?;
        let exporter = config.map(Exporter::start).transpose();
        exporter.map(Self).map_err(|error| Failure::new(Exit::Failed, error.to_string()))
    }

    /// What makes the spans.
    pub(super) fn tracer(&self) -> Tracer {
        self.0.as_ref().map_or_else(Tracer::default, |exporter| Tracer::new(exporter.spans()))
    }

    /// Sends what waits.
    pub(super) fn end(self) {
        if let Some(exporter) = self.0 {
            exporter.stop(PATIENCE);
        }
    }
}
