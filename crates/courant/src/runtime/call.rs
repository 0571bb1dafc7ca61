//! One call of a handler: with its arguments, and not longer than it may take.

use std::sync::Arc;
use std::time::Duration;

use courant_core::consumer::ConsumerName;
use courant_core::headers::TRACEPARENT;
use courant_core::trace::{Active, TraceContext};
use courant_sql::{NewEvent, Source};

use super::context::Context;
use super::ledger::Work;
use super::policy::Failed;
use super::time::after;
use crate::Meta;
use crate::envelope::text;
use crate::handler::{CallFailure, Given};
use crate::layer::Extensions;
use crate::outbox::{Outbox, Stamp};
use crate::store::Backing;
use crate::subscription::Registered;

/// What calls of one subscription have in common.
pub(crate) struct Caller<S: Backing, T> {
    pub(crate) context: Arc<Context>,
    pub(crate) consumer: ConsumerName,
    pub(crate) handlers: Vec<Registered<S, T>>,
    pub(crate) state: Arc<T>,
    pub(crate) timeout: Duration,
}

/// An attempt that goes on. Its span is over when this is dropped.
pub(crate) struct Begun {
    meta: Meta,
    span: Option<Active>,
}

impl Begun {
    /// The attempt has failed.
    pub(crate) fn failed(&mut self, failed: &mut Failed) {
        failed.span = self.meta.span().map(Box::new);
        if let Some(span) = &mut self.span {
            span.fail(&failed.failure.kind);
        }
    }
}

impl<S: Backing, T: Send + Sync + 'static> Caller<S, T> {
    /// The handler of an event's type.
    pub(crate) fn handler(&self, work: &Work) -> Result<&Registered<S, T>, Failed> {
        let said = text(&work.event.headers, courant_core::headers::TYPE);
        let found = said.and_then(|said| self.handlers.iter().find(|handler| handler.event_type == said));
        found.ok_or_else(|| {
            let topic = work.assigned.partition.topic.as_str();
            let message = match self.context.mappings.refusal(topic, &work.event) {
                Some(unreadable) => unreadable.to_string(),
                None => format!("no handler for {}", said.unwrap_or("an event without a type")),
            };
            Failed::undecodable(self.consumer.as_str(), message)
        })
    }

    /// Begins an attempt, which may go beyond the call of the handler.
    pub(crate) fn begin(&self, work: &Work) -> Begun {
        let meta = self.meta(work);
        let parent = TraceContext::of(text(&work.event.headers, TRACEPARENT));
        let partition = &work.assigned.partition;
        let mut span = self.context.tracer.process(partition.topic.as_str(), self.consumer.as_str(), parent);
        if let Some(span) = &mut span {
            span.event(work.event.id.as_str(), meta.event_type().unwrap_or_default());
            span.position(partition.partition, work.event.offset);
            span.attempt(meta.attempt(), work.source == Source::Parked);
        }
        let context = span.as_ref().map(Active::context);
        Begun { meta: meta.within(context), span }
    }

    /// Where events are published that an attempt causes.
    pub(crate) fn outbox(&self, begun: &Begun) -> Outbox {
        Outbox::new(self.stamp(&begun.meta))
    }

    /// Calls the handler. Gives back what it returned to be published.
    pub(crate) async fn call(
        &self,
        handler: &Registered<S, T>,
        work: &Work,
        begun: &Begun,
        lease: S::Lease,
    ) -> Result<Vec<NewEvent>, Failed> {
        let meta = begun.meta.clone();
        let stamp = self.stamp(&meta);
        let publisher = self.context.publisher().caused_by(meta.clone());
        let given =
            Given { meta, state: self.state.clone(), lease, publisher, extensions: Extensions::default() };
        let mut call = handler.invoke.invoke(work.event.value.clone(), given, stamp);
        let deadline_ms = after(self.context.time.now_ms(), self.timeout);
        let called = tokio::select! {
            biased;
            called = &mut call => called,
            () = self.context.time.sleep_until(deadline_ms) => {
                let message = format!("the handler took longer than {:?}", self.timeout);
                return Err(Failed::timeout(handler.place, message));
            }
        };
        called.map_err(|failure| match failure {
            CallFailure::Undecodable(error) => Failed::undecodable(handler.place, error.to_string()),
            CallFailure::Handler(error) => Failed::from_handler(&error, handler.place),
            CallFailure::Stopped(error) => Failed::stopped(&error, handler.place),
        })
    }

    fn meta(&self, work: &Work) -> Meta {
        let attempt = work.failures.saturating_add(1);
        Meta::new(&work.event, &work.assigned.partition, self.consumer.clone(), attempt)
    }

    fn stamp(&self, meta: &Meta) -> Stamp {
        self.context.stamp.caused_by(meta.clone())
    }
}
