//! What a handler publishes, on its way: from an event to the record that the relay will send.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use courant_core::clock::Clock;
use courant_core::entropy::Entropy;
use courant_core::event_id::EventId;
use courant_core::headers;
use courant_core::topic::{InvalidTopicName, TopicName};
use courant_core::trace::{Active, TraceContext, Tracer};
use courant_sql::{NewEvent, NewTimer, TimerName};
use uuid::{Builder, Uuid};

use crate::planted::{Defect, is_planted};
use crate::{Due, Event, Meta};

/// What is published together with a transaction, and not at all without it.
pub struct Outbox {
    stamp: Stamp,
    events: Vec<NewEvent>,
}

/// Why an event cannot be published.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PublishError {
    /// It has no bytes.
    #[error("{event_type} cannot be written as JSON: {source}")]
    Unencodable {
        /// Its type.
        event_type: &'static str,
        /// What serde says.
        source: serde_json::Error,
    },
    /// Its topic cannot exist.
    #[error("{event_type} goes to a topic that cannot exist: {source}")]
    Topic {
        /// Its type.
        event_type: &'static str,
        /// What is wrong with the name.
        source: InvalidTopicName,
    },
    /// It is larger than the engine takes.
    #[error(
        "{event_type} has {bytes} bytes, and the engine takes {max}: keep the large part elsewhere and \
         publish where it is"
    )]
    TooLarge {
        /// Its type.
        event_type: &'static str,
        /// Its size.
        bytes: usize,
        /// What the engine takes.
        max: usize,
    },
    /// It is scheduled for a time that is none.
    #[error(
        "{event_type} is scheduled for {due_ms} milliseconds since 1970: give a time from then on, and before \
         the year 10000"
    )]
    NoSuchTime {
        /// Its type.
        event_type: &'static str,
        /// When it would be due.
        due_ms: i64,
    },
    /// The store does not take it.
    #[error(transparent)]
    Store(#[from] courant_sql::PublishError),
    /// The engine did not take it.
    #[error(transparent)]
    Engine(#[from] courant_engine::PublishError),
    /// The engine has no such topic, and does not make it.
    #[error(transparent)]
    NoTopic(#[from] courant_engine::CreateTopicError),
    /// The engine gave no answer for it.
    #[error("the engine gave no answer for {event_type}")]
    NoAnswer {
        /// Its type.
        event_type: &'static str,
    },
}

/// Bytes that a record may have besides what is counted here: what its format adds.
pub(crate) const FORMAT_BYTES: usize = 4 * 1024;

/// What every event of a service, or of one handled event, is published with.
#[derive(Clone)]
pub(crate) struct Stamp {
    pub(crate) source: Arc<str>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) entropy: Arc<dyn Entropy>,
    pub(crate) record_bytes_max: usize,
    /// What caused it; `None` outside of handlers.
    pub(crate) cause: Option<Meta>,
    pub(crate) tracer: Tracer,
    /// The span that it is made in, where somebody has named one.
    pub(crate) span: Option<TraceContext>,
}

impl Stamp {
    /// The same, for what is published while an event is handled.
    pub(crate) fn caused_by(&self, meta: Meta) -> Self {
        Self { span: meta.span(), cause: Some(meta), ..self.clone() }
    }

    /// The record of an event that happens now.
    pub(crate) fn record<E: Event>(&self, event: &E, id: EventId) -> Result<NewEvent, PublishError> {
        let span = self.tracer.create(E::TOPIC, self.span);
        self.record_at(event, id, self.clock.now_ms(), span)
    }

    /// The record of an event that happens at `at_ms`, and is made in a span.
    fn record_at<E: Event>(
        &self,
        event: &E,
        id: EventId,
        at_ms: i64,
        mut span: Option<Active>,
    ) -> Result<NewEvent, PublishError> {
        if let Some(span) = &mut span {
            span.event(id.as_str(), E::TYPE);
        }
        let value = serde_json::to_vec(event)
            .map_err(|source| PublishError::Unencodable { event_type: E::TYPE, source })?;
        let topic =
            TopicName::new(E::TOPIC).map_err(|source| PublishError::Topic { event_type: E::TYPE, source })?;
        let key = event.key();
        let subject = key.as_ref().and_then(|key| key.as_text()).map(str::to_owned);
        let made_in = span.as_ref().map(Active::context).or(self.span);
        let mut headers = self.headers(E::TYPE, &id, at_ms, subject, made_in);
        if E::OWNER.is_some() {
            let kind = Bytes::from_static(headers::KIND_COMMAND.as_bytes());
            headers.push((headers::KIND.to_owned(), kind));
        }
        let key = key.map(|key| key.as_bytes().clone());
        let record =
            NewEvent { id, topic, key, value: Some(Bytes::from(value)), headers, timestamp_ms: at_ms };
        let bytes = record.bytes();
        let max = self.record_bytes_max.saturating_sub(FORMAT_BYTES);
        if bytes > max {
            return Err(PublishError::TooLarge { event_type: E::TYPE, bytes, max });
        }
        Ok(record)
    }

    /// An id that no event has, for one that happens now.
    pub(crate) fn new_id(&self) -> EventId {
        self.new_id_at(self.clock.now_ms())
    }

    fn new_id_at(&self, at_ms: i64) -> EventId {
        id_at(at_ms, self.entropy.uuid())
    }

    fn headers(
        &self,
        event_type: &str,
        id: &EventId,
        at_ms: i64,
        subject: Option<String>,
        made_in: Option<TraceContext>,
    ) -> Vec<(String, Bytes)> {
        let time = jiff::Timestamp::from_millisecond(at_ms).map(|time| time.to_string());
        let cause = self.cause.as_ref();
        let traceparent = match made_in {
            Some(span) => Some(span.to_string()),
            None => cause.and_then(Meta::traceparent).map(str::to_owned),
        };
        let all = [
            (headers::ID, Some(id.to_string())),
            (headers::SOURCE, Some(self.source.to_string())),
            (headers::SPECVERSION, Some(headers::SPECVERSION_VALUE.to_owned())),
            (headers::TYPE, Some(event_type.to_owned())),
            (headers::TIME, time.ok()),
            (headers::SUBJECT, subject),
            (headers::CONTENT_TYPE, Some("application/json".to_owned())),
            (headers::CORRELATION_ID, Some(cause.map_or(id.as_str(), Meta::correlation_id).to_owned())),
            (headers::CAUSATION_ID, cause.map(|cause| cause.id().to_string())),
            (headers::TRACEPARENT, traceparent),
            (headers::TRACESTATE, cause.and_then(Meta::tracestate).map(str::to_owned)),
        ];
        let present =
            all.into_iter().filter_map(|(name, value)| Some((name.to_owned(), Bytes::from(value?))));
        present.collect()
    }
}

impl Outbox {
    pub(crate) fn new(stamp: Stamp) -> Self {
        Self { stamp, events: Vec::new() }
    }

    /// Publishes an event if the transaction is committed. Gives back its id.
    ///
    /// # Errors
    /// It cannot be written as JSON, or is larger than the engine takes.
    pub fn publish<E: Event>(&mut self, event: &E) -> Result<EventId, PublishError> {
        let id = self.stamp.new_id();
        self.publish_as(&id, event)?;
        Ok(id)
    }

    /// As [`Outbox::publish`], under an id of the caller's.
    ///
    /// # Errors
    /// As [`Outbox::publish`].
    pub fn publish_as<E: Event>(&mut self, id: &EventId, event: &E) -> Result<(), PublishError> {
        let record = self.stamp.record(event, id.clone())?;
        self.events.push(record);
        Ok(())
    }

    /// A timer that publishes an event. Its id is given now, so that it is the same however often the event
    /// is sent; it is caused by what is handled now, and happens when it is due.
    pub(crate) fn timer<E: Event>(
        &self,
        event: &E,
        due: Due,
        name: Option<TimerName>,
    ) -> Result<NewTimer, PublishError> {
        let due_ms = due.ms(self.stamp.clock.now_ms());
        if !(0..=jiff::Timestamp::MAX.as_millisecond()).contains(&due_ms) {
            return Err(PublishError::NoSuchTime { event_type: E::TYPE, due_ms });
        }
        let name = name.filter(|_| !is_planted(Defect::NamelessTimers));
        let mut span = self.stamp.tracer.create(E::TOPIC, self.stamp.span);
        if let Some(span) = &mut span {
            span.due(due_ms);
        }
        Ok(NewTimer { event: self.stamp.record_at(event, self.stamp.new_id_at(due_ms), due_ms, span)?, name })
    }

    /// What was published, in order.
    pub(crate) fn into_events(self) -> Vec<NewEvent> {
        self.events
    }
}

impl fmt::Debug for Outbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Outbox").field("events", &self.events.len()).finish_non_exhaustive()
    }
}

/// A UUID of version 7: it begins with the time of its event. So ids of events that happen one after the other
/// stand beside each other in the inbox and in every other index, and whoever has an id knows where its event is.
fn id_at(at_ms: i64, random: Uuid) -> EventId {
    let [_, _, _, _, _, _, random @ ..] = random.into_bytes();
    let at_ms = u64::try_from(at_ms).unwrap_or_default();
    EventId::from(Builder::from_unix_timestamp_millis(at_ms, &random).into_uuid())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// That of the example in RFC 9562, A.6.
    const AT: i64 = 1_645_557_742_000;

    #[test]
    fn an_id_begins_with_the_time_of_its_event() {
        let id = |at_ms, random| id_at(at_ms, Uuid::from_u128(random));
        assert_eq!(id(AT, 0).as_str(), "017f22e2-79b0-7000-8000-000000000000");
        assert_eq!(id(AT, u128::MAX).as_str(), "017f22e2-79b0-7fff-bfff-ffffffffffff");
        assert_eq!(id(-1, 0).as_str(), "00000000-0000-7000-8000-000000000000");
        assert!(id(AT, u128::MAX) < id(AT + 1, 0));
        let different: BTreeSet<_> = [0, 1, 1 << 40, 1 << 64, 1 << 72].map(|random| id(AT, random)).into();
        assert_eq!(different.len(), 5);
    }
}
