//! What a layer stands around, and how several of them stand around each other.

use std::fmt;
use std::future::{Future, poll_fn};
use std::sync::Arc;
use std::task::{Context, Poll};

use tower_layer::Layer;
use tower_service::Service;

use super::{Call, Handled};
use crate::{BoxError, Boxed, HandlerError};

/// A layer around handlers. Nobody implements it: every [`tower_layer::Layer`] around [`Next`] is one whose
/// service takes a [`Call`], gives back its [`Handled`], and can be cloned and shared.
pub trait HandlerLayer: Send + Sync + 'static {
    /// Puts itself around what is next.
    #[doc(hidden)]
    fn around(&self, next: Next) -> Next;
}

impl<L> HandlerLayer for L
where
    L: Layer<Next> + Send + Sync + 'static,
    L::Service: Service<Call, Response = Handled> + Clone + Send + Sync + 'static,
    <L::Service as Service<Call>>::Future: Send + 'static,
    <L::Service as Service<Call>>::Error: Into<BoxError>,
{
    fn around(&self, next: Next) -> Next {
        Next(Arc::new(Around(self.layer(next))))
    }
}

/// What a layer stands around: the next layer, or the handler.
///
/// It is always ready. A layer behind it that has to wait, such as a limit, waits in the call.
#[derive(Clone)]
pub struct Next(Arc<dyn Step>);

/// One layer, or the handler.
trait Step: Send + Sync {
    fn run(&self, call: Call) -> Boxed<'static, Result<Handled, HandlerError>>;
}

impl Next {
    /// The handler itself.
    pub(super) fn handler() -> Self {
        Self(Arc::new(Innermost))
    }

    /// Hands the call on.
    ///
    /// # Errors
    /// What the handler says, or a layer before it.
    pub async fn run(self, call: Call) -> Result<Handled, HandlerError> {
        self.0.run(call).await
    }
}

impl Service<Call> for Next {
    type Response = Handled;
    type Error = HandlerError;
    type Future = Boxed<'static, Result<Handled, HandlerError>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), HandlerError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, call: Call) -> Self::Future {
        self.0.run(call)
    }
}

impl fmt::Debug for Next {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Next")
    }
}

struct Innermost;

impl Step for Innermost {
    fn run(&self, call: Call) -> Boxed<'static, Result<Handled, HandlerError>> {
        call.handle()
    }
}

/// A layer's service, of which every call has a copy of its own.
struct Around<V>(V);

impl<V> Step for Around<V>
where
    V: Service<Call, Response = Handled> + Clone + Send + Sync + 'static,
    V::Future: Send + 'static,
    V::Error: Into<BoxError>,
{
    fn run(&self, call: Call) -> Boxed<'static, Result<Handled, HandlerError>> {
        let mut service = self.0.clone();
        Box::pin(async move {
            let ready = poll_fn(|context| service.poll_ready(context).map_err(HandlerError::of_layer));
            ready.await?;
            let called = service.call(call);
            called.await.map_err(HandlerError::of_layer)
        })
    }
}

/// Makes a layer of an asynchronous function that is given a call and what is next.
///
/// ```
/// use courant::layer::{from_fn, Call, Next};
/// use courant::prelude::*;
///
/// // Events of a rehearsal count as handled, and no handler sees them.
/// let for_real = from_fn(|call: Call, next: Next| async move {
///     if call.meta().event_type().is_some_and(|said| said.starts_with("rehearsal.")) {
///         return Err(HandlerError::skip("not ours"));
///     }
///     next.run(call).await
/// });
/// let app = App::new("billing").layer(for_real);
/// ```
pub fn from_fn<F, Fut>(function: F) -> FromFn<F>
where
    F: Fn(Call, Next) -> Fut + Clone + Send + Sync + 'static,
    Fut: Future<Output = Result<Handled, HandlerError>> + Send + 'static,
{
    FromFn(function)
}

/// A layer that [`from_fn`] has made.
#[derive(Clone)]
pub struct FromFn<F>(F);

impl<F: Clone> Layer<Next> for FromFn<F> {
    type Service = FromFnService<F>;

    fn layer(&self, next: Next) -> FromFnService<F> {
        FromFnService { function: self.0.clone(), next }
    }
}

impl<F> fmt::Debug for FromFn<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("FromFn")
    }
}

/// The service of a [`FromFn`].
#[derive(Clone)]
pub struct FromFnService<F> {
    function: F,
    next: Next,
}

impl<F, Fut> Service<Call> for FromFnService<F>
where
    F: Fn(Call, Next) -> Fut,
    Fut: Future<Output = Result<Handled, HandlerError>>,
{
    type Response = Handled;
    type Error = HandlerError;
    type Future = Fut;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), HandlerError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, call: Call) -> Fut {
        (self.function)(call, self.next.clone())
    }
}

impl<F> fmt::Debug for FromFnService<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FromFnService").field("next", &self.next).finish_non_exhaustive()
    }
}
