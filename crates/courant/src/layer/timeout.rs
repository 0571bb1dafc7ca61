//! A bound for the time that a handler takes.

use std::task::{Context, Poll};
use std::time::Duration;

use tower_layer::Layer;
use tower_service::Service;

use super::Call;
use crate::runtime::after;
use crate::{BoxError, Boxed, HandlerError};

/// A layer that stops what is behind it when it takes too long: the transaction is rolled back, its
/// connection closed, and the event is tried again. Committing is not limited.
///
/// Every handler has such a bound already, that of
/// [`Subscription::timeout`](crate::Subscription::timeout), around all layers. The layer is for bounds of
/// another kind: for all subscriptions of an [`App`](crate::App), or behind layers that may take their time.
#[derive(Clone, Copy, Debug)]
pub struct Timeout {
    after: Duration,
}

impl Timeout {
    /// Stops what takes longer than this.
    pub fn after(after: Duration) -> Self {
        Self { after }
    }
}

impl<V> Layer<V> for Timeout {
    type Service = TimeoutService<V>;

    fn layer(&self, inner: V) -> TimeoutService<V> {
        TimeoutService { inner, after: self.after }
    }
}

/// The service of a [`Timeout`].
#[derive(Clone, Debug)]
pub struct TimeoutService<V> {
    inner: V,
    after: Duration,
}

impl<V> Service<Call> for TimeoutService<V>
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
        let limit = self.after;
        let time = call.time().clone();
        let deadline_ms = after(time.now_ms(), limit);
        let called = self.inner.call(call);
        Box::pin(async move {
            tokio::select! {
                biased;
                called = called => called.map_err(HandlerError::of_layer),
                () = time.sleep_until(deadline_ms) => {
                    Err(HandlerError::of_kind("timeout", format!("the handler took longer than {limit:?}")))
                }
            }
        })
    }
}
