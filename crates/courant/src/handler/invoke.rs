//! A handler behind one type: what the runtime calls.

use std::any::Any;
use std::marker::PhantomData;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use courant_sql::NewEvent;
use serde::de::Error as _;

use super::{Arguments, Given, Handler, IntoOutcome};
use crate::outbox::{Outbox, Stamp};
use crate::store::Backing;
use crate::{Boxed, Envelope, Event, HandlerError};

/// Why a call did not succeed.
pub(crate) enum CallFailure {
    /// The bytes are not what the type says.
    Undecodable(serde_json::Error),
    /// The handler says so, or has panicked.
    Handler(HandlerError),
    /// A layer has stopped the handler in the middle of its work.
    Stopped(HandlerError),
}

/// A handler whose types are known to itself alone.
pub(crate) trait Invoke<S: Backing, T>: Send + Sync {
    /// Calls the handler with the event in `value`. Gives back what it returned to be published.
    fn invoke(
        &self,
        value: Option<Bytes>,
        given: Given<S, T>,
        stamp: Stamp,
    ) -> Boxed<'static, Result<Vec<NewEvent>, CallFailure>>;

    /// Whether the bytes are the handler's event, which is not called.
    fn read(&self, value: &[u8]) -> Result<(), serde_json::Error>;
}

/// A handler of a subscription in mode `M`.
pub(crate) struct Erased<H, A, M> {
    handler: Arc<H>,
    types: PhantomData<fn() -> (A, M)>,
}

impl<H, A, M> Erased<H, A, M> {
    pub(crate) fn new(handler: H) -> Self {
        Self { handler: Arc::new(handler), types: PhantomData }
    }
}

impl<S, T, M, H, A> Invoke<S, T> for Erased<H, A, M>
where
    S: Backing,
    T: Send + Sync + 'static,
    M: 'static,
    A: Arguments<S, T, M>,
    H: Handler<A>,
    H::Future: Send + 'static,
    H::Output: IntoOutcome,
{
    fn invoke(
        &self,
        value: Option<Bytes>,
        given: Given<S, T>,
        stamp: Stamp,
    ) -> Boxed<'static, Result<Vec<NewEvent>, CallFailure>> {
        let handler = self.handler.clone();
        Box::pin(async move {
            let value = value.unwrap_or_default();
            let data: A::Event = decode(&value).map_err(CallFailure::Undecodable)?;
            let envelope = Envelope::new(data, given.meta.clone());
            let arguments = A::gather(envelope, &given).map_err(CallFailure::Handler)?;
            let future = catch_unwind(AssertUnwindSafe(|| handler.call(arguments)))
                .map_err(|panic| CallFailure::Handler(panicked(panic.as_ref())))?;
            let output = Caught::new(future).await.map_err(CallFailure::Handler)?;
            let mut outbox = Outbox::new(stamp);
            output.into_outcome(&mut outbox).map_err(CallFailure::Handler)?;
            Ok(outbox.into_events())
        })
    }

    fn read(&self, value: &[u8]) -> Result<(), serde_json::Error> {
        decode::<A::Event>(value).map(drop)
    }
}

/// The event that the bytes are. They are none of a type that panics over them: it would do so again.
fn decode<E: Event>(value: &[u8]) -> Result<E, serde_json::Error> {
    let read = catch_unwind(AssertUnwindSafe(|| serde_json::from_slice(value)));
    read.unwrap_or_else(|panic| {
        let words = words_of(panic.as_ref());
        Err(serde_json::Error::custom(format!("its type panicked: {words}")))
    })
}

/// A future whose panic is an error of the handler.
pub(crate) struct Caught<F> {
    future: Pin<Box<F>>,
}

impl<F> Caught<F> {
    pub(crate) fn new(future: F) -> Self {
        Self { future: Box::pin(future) }
    }
}

impl<F: Future> Future for Caught<F> {
    type Output = Result<F::Output, HandlerError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let future = self.future.as_mut();
        match catch_unwind(AssertUnwindSafe(|| future.poll(context))) {
            Ok(Poll::Ready(output)) => Poll::Ready(Ok(output)),
            Ok(Poll::Pending) => Poll::Pending,
            Err(panic) => Poll::Ready(Err(panicked(panic.as_ref()))),
        }
    }
}

/// The handler has panicked.
#[derive(Debug, thiserror::Error)]
#[error("the handler panicked: {0}")]
struct Panicked(String);

fn panicked(panic: &(dyn Any + Send)) -> HandlerError {
    HandlerError::from(Panicked(words_of(panic)))
}

fn words_of(panic: &(dyn Any + Send)) -> String {
    match (panic.downcast_ref::<&str>(), panic.downcast_ref::<String>()) {
        (Some(text), _) => (*text).to_owned(),
        (None, Some(text)) => text.clone(),
        (None, None) => "without a text".to_owned(),
    }
}
