//! What comes with an event: who it is, where it comes from, what caused it.

use std::fmt;
use std::ops::Deref;
use std::sync::Arc;

use bytes::Bytes;
use courant_core::consumer::ConsumerName;
use courant_core::event_id::EventId;
use courant_core::headers;
use courant_core::position::{Position, TopicPartition};
use courant_core::trace::TraceContext;
use uuid::Uuid;

use crate::Key;

/// An event with everything that came with it. It can be used as the event itself.
#[derive(Clone, Debug)]
pub struct Envelope<E> {
    data: E,
    meta: Meta,
}

impl<E> Envelope<E> {
    pub(crate) fn new(data: E, meta: Meta) -> Self {
        Self { data, meta }
    }

    /// The event alone.
    pub fn into_data(self) -> E {
        self.data
    }

    /// What came with it.
    pub fn meta(&self) -> &Meta {
        &self.meta
    }
}

impl<E> Deref for Envelope<E> {
    type Target = E;

    fn deref(&self) -> &E {
        &self.data
    }
}

/// What comes with an event besides its data. As an extractor: that of the event being handled.
#[derive(Clone)]
pub struct Meta {
    inner: Arc<Inner>,
}

struct Inner {
    id: EventId,
    position: Position,
    key: Option<Key>,
    headers: Vec<(String, Bytes)>,
    timestamp_ms: i64,
    consumer: ConsumerName,
    attempt: u32,
    span: Option<TraceContext>,
}

impl Meta {
    pub(crate) fn new(
        event: &courant_sql::Event,
        partition: &TopicPartition,
        consumer: ConsumerName,
        attempt: u32,
    ) -> Self {
        let inner = Inner {
            id: event.id.clone(),
            position: partition.at(event.offset),
            key: event.key.clone().map(Key::from_bytes),
            headers: event.headers.clone(),
            timestamp_ms: event.timestamp_ms,
            consumer,
            attempt,
            span: None,
        };
        Self { inner: Arc::new(inner) }
    }

    /// The same, for a call in this span.
    pub(crate) fn within(mut self, span: Option<TraceContext>) -> Self {
        if let Some(inner) = Arc::get_mut(&mut self.inner) {
            inner.span = span;
        }
        self
    }

    /// The event's id: the same for every copy of it.
    pub fn id(&self) -> &EventId {
        &self.inner.id
    }

    /// Where it is in the log.
    pub fn position(&self) -> &Position {
        &self.inner.position
    }

    /// What it is about.
    pub fn key(&self) -> Option<&Key> {
        self.inner.key.as_ref()
    }

    /// Its type's name on the wire.
    pub fn event_type(&self) -> Option<&str> {
        self.text(headers::TYPE)
    }

    /// Whether it is a command: a request to its owner, and not a fact.
    pub fn is_command(&self) -> bool {
        self.text(headers::KIND) == Some(headers::KIND_COMMAND)
    }

    /// The service that it comes from.
    pub fn source(&self) -> Option<&str> {
        self.text(headers::SOURCE)
    }

    /// When it happened, in milliseconds since 1970.
    pub fn time_ms(&self) -> i64 {
        let said = self.text(headers::TIME).and_then(|time| time.parse::<jiff::Timestamp>().ok());
        said.map_or(self.inner.timestamp_ms, jiff::Timestamp::as_millisecond)
    }

    /// What it shares with everything that one request set off; its own id when it began that.
    pub fn correlation_id(&self) -> &str {
        self.text(headers::CORRELATION_ID).unwrap_or(self.inner.id.as_str())
    }

    /// The id of the event that caused it.
    pub fn causation_id(&self) -> Option<&str> {
        self.text(headers::CAUSATION_ID)
    }

    /// W3C trace context: the span that published it.
    pub fn traceparent(&self) -> Option<&str> {
        self.text(headers::TRACEPARENT)
    }

    /// W3C trace context: what vendors add.
    pub fn tracestate(&self) -> Option<&str> {
        self.text(headers::TRACESTATE)
    }

    /// The span in which it is handled, for calls to other systems: as text it is their `traceparent`.
    /// `None` where the service makes no spans; see [`App::tracer`](crate::App::tracer).
    pub fn span(&self) -> Option<TraceContext> {
        self.inner.span
    }

    /// Which attempt to handle it this is, from 1.
    pub fn attempt(&self) -> u32 {
        self.inner.attempt
    }

    /// The consumer that handles it.
    pub fn consumer(&self) -> &ConsumerName {
        &self.inner.consumer
    }

    /// The headers that it came with, in their order. A name may repeat.
    pub fn headers(&self) -> impl Iterator<Item = (&str, &Bytes)> {
        self.inner.headers.iter().map(|(name, value)| (name.as_str(), value))
    }

    /// The last header of that name, which is the one that counts.
    pub fn header(&self, name: &str) -> Option<&Bytes> {
        header(&self.inner.headers, name)
    }

    /// What to send along with calls to other systems, so that they can tell a repetition: the same at
    /// every attempt, another one for every consumer.
    pub fn idempotency_key(&self) -> Uuid {
        let consumer = Uuid::new_v5(&Uuid::NAMESPACE_OID, self.inner.consumer.as_str().as_bytes());
        Uuid::new_v5(&consumer, self.inner.id.as_str().as_bytes())
    }

    fn text(&self, name: &str) -> Option<&str> {
        text(&self.inner.headers, name)
    }
}

impl fmt::Debug for Meta {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Meta")
            .field("id", &self.inner.id)
            .field("position", &self.inner.position)
            .field("attempt", &self.inner.attempt)
            .finish_non_exhaustive()
    }
}

/// The last header of that name.
pub(crate) fn header<'a>(headers: &'a [(String, Bytes)], name: &str) -> Option<&'a Bytes> {
    headers.iter().rev().find(|(there, _)| there == name).map(|(_, value)| value)
}

/// The last header of that name, if it is text.
pub(crate) fn text<'a>(headers: &'a [(String, Bytes)], name: &str) -> Option<&'a str> {
    header(headers, name).and_then(|value| std::str::from_utf8(value).ok())
}

#[cfg(test)]
mod tests {
    use courant_core::topic::TopicName;

    use super::*;

    fn meta(consumer: &str, headers: &[(&str, &str)]) -> Meta {
        let headers = headers.iter().map(|(name, value)| {
            let value: Vec<u8> = value.as_bytes().to_vec();
            ((*name).to_owned(), Bytes::from(value))
        });
        let event = courant_sql::Event {
            offset: 7,
            id: EventId::new("e-1").expect("legal"),
            key: Some(Bytes::from_static(b"k")),
            value: None,
            headers: headers.collect(),
            timestamp_ms: 1_000,
        };
        let topic = TopicName::new("orders").expect("legal");
        let consumer = ConsumerName::new(consumer).expect("legal");
        Meta::new(&event, &TopicPartition { topic, partition: 2 }, consumer, 3)
    }

    #[test]
    fn headers_say_what_they_say() {
        let meta = meta(
            "billing",
            &[
                ("ce_type", "shop.order-placed"),
                ("ce_time", "1970-01-01T00:00:02.5Z"),
                ("ce_correlationid", "c-1"),
                ("ce_causationid", "e-0"),
                ("x", "first"),
                ("x", "second"),
            ],
        );
        assert_eq!(meta.event_type(), Some("shop.order-placed"));
        assert_eq!(meta.time_ms(), 2_500);
        assert_eq!((meta.correlation_id(), meta.causation_id()), ("c-1", Some("e-0")));
        assert_eq!(meta.header("x").map(Bytes::as_ref), Some(&b"second"[..]));
        assert_eq!(meta.position().to_string(), "orders/2@7");
        assert_eq!(meta.headers().count(), 6);
    }

    #[test]
    fn an_event_without_headers_begins_a_conversation() {
        let meta = meta("billing", &[]);
        assert_eq!((meta.correlation_id(), meta.causation_id()), ("e-1", None));
        assert_eq!(meta.time_ms(), 1_000);
        assert_eq!(meta.event_type(), None);
    }

    #[test]
    fn the_idempotency_key_is_that_of_the_event_and_the_consumer() {
        let key = meta("billing", &[]).idempotency_key();
        assert_eq!(key, meta("billing", &[("a", "b")]).idempotency_key());
        assert_ne!(key, meta("shipping", &[]).idempotency_key());
    }
}
