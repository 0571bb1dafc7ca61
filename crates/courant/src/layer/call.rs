//! What layers hand on: one call of a handler, and that it was handled.

use std::fmt;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use courant_core::consumer::ConsumerName;
use courant_sql::NewEvent;

use super::Extensions;
use crate::handler::CallFailure;
use crate::planted::{Defect, is_planted};
use crate::runtime::Time;
use crate::{Boxed, HandlerError, Meta};

/// The handler with its arguments.
pub(super) type Work =
    Box<dyn FnOnce(Extensions) -> Boxed<'static, Result<Vec<NewEvent>, CallFailure>> + Send + Sync>;

/// One call of a handler, on its way there. It is handed on once, and cannot be copied: what has failed is
/// tried again by the subscription, in a transaction of its own.
pub struct Call {
    meta: Meta,
    handler: &'static str,
    time: Arc<dyn Time>,
    extensions: Extensions,
    run: Arc<Run>,
    work: Work,
}

/// The handler has succeeded. Only the framework makes one.
pub struct Handled {
    /// What the handler returned to be published.
    events: Vec<NewEvent>,
    run: Arc<Run>,
}

impl Call {
    pub(super) fn new(
        meta: Meta,
        handler: &'static str,
        time: Arc<dyn Time>,
        run: Arc<Run>,
        work: Work,
    ) -> Self {
        Self { meta, handler, time, extensions: Extensions::default(), run, work }
    }

    /// What comes with the event: who it is, where it comes from, what caused it.
    pub fn meta(&self) -> &Meta {
        &self.meta
    }

    /// The name of the event's type on the wire.
    pub fn event_type(&self) -> &str {
        self.meta.event_type().unwrap_or_default()
    }

    /// Which attempt to handle the event this is, from 1.
    pub fn attempt(&self) -> u32 {
        self.meta.attempt()
    }

    /// The consumer that handles the event.
    pub fn consumer(&self) -> &ConsumerName {
        self.meta.consumer()
    }

    /// The handler's function.
    pub fn handler(&self) -> &'static str {
        self.handler
    }

    /// What layers have added so far.
    pub fn extensions(&self) -> &Extensions {
        &self.extensions
    }

    /// Where layers add what those behind them need.
    pub fn extensions_mut(&mut self) -> &mut Extensions {
        &mut self.extensions
    }

    /// The time that the service goes by.
    pub(super) fn time(&self) -> &Arc<dyn Time> {
        &self.time
    }

    /// Calls the handler.
    pub(super) fn handle(self) -> Boxed<'static, Result<Handled, HandlerError>> {
        let Self { extensions, run, work, .. } = self;
        Box::pin(async move {
            run.state.store(RUNNING, Ordering::SeqCst);
            let called = work(extensions).await;
            run.state.store(ENDED, Ordering::SeqCst);
            match called {
                Ok(events) => Ok(Handled { events, run }),
                Err(CallFailure::Handler(error) | CallFailure::Stopped(error)) => Err(error),
                Err(CallFailure::Undecodable(error)) => Err(run.keep_undecodable(error)),
            }
        })
    }
}

impl fmt::Debug for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Call")
            .field("meta", &self.meta)
            .field("handler", &self.handler)
            .field("extensions", &self.extensions)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for Handled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Handled").field("events", &self.events.len()).finish_non_exhaustive()
    }
}

/// How far the handler of one call has come, whatever the layers around it say.
#[derive(Default)]
pub(super) struct Run {
    state: AtomicU8,
    /// Why the event could not be decoded.
    undecodable: Mutex<Option<serde_json::Error>>,
}

/// The handler has begun, and has not come to its end.
const RUNNING: u8 = 1;

/// The handler has come to its end.
const ENDED: u8 = 2;

/// A layer has answered one call with what another one came to.
#[derive(Debug, thiserror::Error)]
#[error("a layer has answered with what another call came to: hand on what `next` gave for this one")]
struct OtherCall;

impl Run {
    /// What the call has come to, from what the outermost layer says of it.
    pub(super) fn result(
        self: &Arc<Self>,
        said: Result<Handled, HandlerError>,
    ) -> Result<Vec<NewEvent>, CallFailure> {
        if let Some(error) = self.undecodable.lock().unwrap_or_else(PoisonError::into_inner).take() {
            return Err(CallFailure::Undecodable(error));
        }
        let error = match said {
            Ok(handled) if Arc::ptr_eq(&handled.run, self) => return Ok(handled.events),
            Ok(handled) if is_planted(Defect::AnyHandledWillDo) => return Ok(handled.events),
            Ok(_) => HandlerError::from(OtherCall),
            Err(error) => error,
        };
        let is_running = self.state.load(Ordering::SeqCst) == RUNNING;
        Err(if is_running { CallFailure::Stopped(error) } else { CallFailure::Handler(error) })
    }

    /// Keeps why an event is undecodable, and says so to layers: it is no attempt, whatever they make of it.
    fn keep_undecodable(&self, error: serde_json::Error) -> HandlerError {
        let said = HandlerError::dead_letter(error.to_string());
        *self.undecodable.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
        said
    }
}
