//! Traces: what belongs together, over processes, in the words of W3C trace context and OpenTelemetry.
//!
//! A [`Tracer`] makes spans and hands those that are over to its [`Spans`], which never wait. One that is off
//! makes none and costs nothing. How spans are called and what they say of themselves is in one place, the
//! methods of [`Tracer`] in `conventions`; nothing here sends anything anywhere.

mod context;
mod conventions;
mod span;

pub use self::context::{InvalidTraceContext, SpanId, TraceContext, TraceId};
pub use self::conventions::{LINKS_MAX, Outcome};
pub use self::span::{Active, Span, SpanCounts, SpanKind, Spans, Tracer, Value};
