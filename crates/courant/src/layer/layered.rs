//! Handlers with layers around them.

use std::sync::Arc;

use bytes::Bytes;
use courant_sql::NewEvent;

use super::call::{Run, Work};
use super::{Call, Extensions, HandlerLayer, Next};
use crate::Boxed;
use crate::handler::{CallFailure, Caught, Given, Invoke};
use crate::outbox::Stamp;
use crate::planted::{Defect, is_planted};
use crate::runtime::Time;
use crate::store::Backing;
use crate::subscription::Registered;

/// Puts layers around the handlers of one subscription, which share them. The first layer is the outermost.
pub(crate) fn layered<S: Backing, T: Send + Sync + 'static>(
    handlers: Vec<Registered<S, T>>,
    layers: &[Arc<dyn HandlerLayer>],
    time: &Arc<dyn Time>,
) -> Vec<Registered<S, T>> {
    if layers.is_empty() {
        return handlers;
    }
    let next = layers.iter().rev().fold(Next::handler(), |next, layer| layer.around(next));
    let around = |mut handler: Registered<S, T>| {
        let place = handler.place;
        handler.invoke =
            Arc::new(Layered { inner: handler.invoke, next: next.clone(), place, time: time.clone() });
        handler
    };
    handlers.into_iter().map(around).collect()
}

/// A handler behind layers.
struct Layered<S: Backing, T> {
    inner: Arc<dyn Invoke<S, T>>,
    next: Next,
    place: &'static str,
    time: Arc<dyn Time>,
}

impl<S: Backing, T: Send + Sync + 'static> Invoke<S, T> for Layered<S, T> {
    fn invoke(
        &self,
        value: Option<Bytes>,
        given: Given<S, T>,
        stamp: Stamp,
    ) -> Boxed<'static, Result<Vec<NewEvent>, CallFailure>> {
        if given.meta.attempt() > 1 && is_planted(Defect::LayersOnce) {
            return self.inner.invoke(value, given, stamp);
        }
        let run = Arc::<Run>::default();
        let meta = given.meta.clone();
        let inner = self.inner.clone();
        let work: Work = Box::new(move |extensions: Extensions| {
            let mut given = given;
            given.extensions = extensions;
            inner.invoke(value, given, stamp)
        });
        let call = Call::new(meta, self.place, self.time.clone(), run.clone(), work);
        let next = self.next.clone();
        Box::pin(async move {
            let said = Caught::new(next.run(call)).await.unwrap_or_else(Err);
            run.result(said)
        })
    }

    fn read(&self, value: &[u8]) -> Result<(), serde_json::Error> {
        self.inner.read(value)
    }
}
