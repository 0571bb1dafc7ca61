//! A span for every call.

use std::task::{Context, Poll};

use tower_layer::Layer;
use tower_service::Service;
use tracing::field::Empty;
use tracing::{Instrument, Span, info_span};

use super::Call;
use crate::{BoxError, Boxed, HandlerError, Verdict};

/// A layer that gives every call a span, `handle`, in which the handler and the layers behind this one run.
///
/// Its fields say which event it is and what caused it: `consumer`, `handler`, `event_type`, `event`,
/// `position`, `attempt`, `correlation`, `causation`, `traceparent`; and, when it is over, `outcome`:
/// `handled`, `retry`, `park`, `dead-letter`, `skip`, or nothing when it was stopped.
///
/// Ids belong into spans. As labels of figures they would make a series of every event: for those,
/// `consumer`, `event_type` and `outcome` are enough.
#[derive(Clone, Copy, Debug, Default)]
#[non_exhaustive]
pub struct Trace;

impl Trace {
    /// Spans of the level INFO.
    pub fn new() -> Self {
        Self
    }
}

impl<V> Layer<V> for Trace {
    type Service = TraceService<V>;

    fn layer(&self, inner: V) -> TraceService<V> {
        TraceService { inner }
    }
}

/// The service of a [`Trace`].
#[derive(Clone, Debug)]
pub struct TraceService<V> {
    inner: V,
}

impl<V> Service<Call> for TraceService<V>
where
    V: Service<Call>,
    V::Future: Send + 'static,
    V::Error: Into<BoxError>,
{
    type Response = V::Response;
    type Error = HandlerError;
    type Future = Boxed<'static, Result<V::Response, HandlerError>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), HandlerError>> {
        self.inner.poll_ready(context).map_err(HandlerError::of_layer)
    }

    fn call(&mut self, call: Call) -> Self::Future {
        let span = span(&call);
        let called = span.in_scope(|| self.inner.call(call));
        let recorded = span.clone();
        let traced = async move {
            let said = called.await.map_err(HandlerError::of_layer);
            recorded.record("outcome", outcome(&said));
            said
        };
        Box::pin(traced.instrument(span))
    }
}

fn span(call: &Call) -> Span {
    let meta = call.meta();
    info_span!(
        "handle",
        otel.kind = "consumer",
        consumer = %call.consumer(),
        handler = call.handler(),
        event_type = call.event_type(),
        event = %meta.id(),
        position = %meta.position(),
        attempt = call.attempt(),
        correlation = meta.correlation_id(),
        causation = meta.causation_id(),
        traceparent = meta.traceparent(),
        outcome = Empty,
    )
}

fn outcome<X>(said: &Result<X, HandlerError>) -> &'static str {
    match said.as_ref().map_err(HandlerError::verdict) {
        Ok(_) => "handled",
        Err(Verdict::Retry | Verdict::RetryAfter(_)) => "retry",
        Err(Verdict::Park) => "park",
        Err(Verdict::DeadLetter) => "dead-letter",
        Err(Verdict::Skip) => "skip",
    }
}
