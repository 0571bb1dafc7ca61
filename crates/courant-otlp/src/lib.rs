//! Spans to an OpenTelemetry collector: OTLP over HTTP as JSON.
//!
//! Whoever makes spans never waits for a collector: they go into a queue with a bound, from which a thread of
//! its own takes them. What has no room is given up and counted, and so is what no collector takes.
//!
//! ```no_run
//! use courant_core::trace::Tracer;
//! use courant_otlp::{Exporter, OtlpConfig};
//!
//! # fn shown() -> Result<(), courant_otlp::OtlpError> {
//! let exporter = Exporter::start(OtlpConfig::to("http://127.0.0.1:4318", "billing")?)?;
//! let tracer = Tracer::new(exporter.spans());
//! // … at the end of the process:
//! exporter.stop(std::time::Duration::from_secs(5));
//! # Ok(())
//! # }
//! ```

mod config;
mod exporter;
mod json;
mod worker;

pub use config::{OtlpConfig, OtlpError, Sampler};
pub use exporter::Exporter;
