//! How spans are called and what they say: the semantic conventions of OpenTelemetry for messaging, for HTTP
//! and for CloudEvents, and what is this project's own under `courant.`. Nowhere else is a span begun.
//!
//! | Span | Kind | Below |
//! |---|---|---|
//! | `create TOPIC` | producer | the handler that publishes; this is the `traceparent` of the event |
//! | `send TOPIC` | client | the first `create` of what is sent together; it links to the others |
//! | `process TOPIC` | consumer | the event's `traceparent` |
//! | `settle TOPIC` | client | the `process` that failed |
//! | `append TOPIC` | server | the first `traceparent` in the batch; it links to the others |
//! | `fetch TOPIC` | server | the same |
//! | `METHOD ROUTE` | server | the request's `traceparent` |

use super::{Active, SpanKind, TraceContext, Tracer};

/// Events of one batch that its span links to: a large batch has no larger span.
pub const LINKS_MAX: usize = 32;

/// Whatever the engine is: it is the model of topics, partitions and offsets that tools know by this name.
const KAFKA: &str = "kafka";

/// What the names of the family's own topics begin with.
const INTERNAL: &str = "_courant.";

const SYSTEM: &str = "messaging.system";
const OPERATION: &str = "messaging.operation.name";
const OPERATION_TYPE: &str = "messaging.operation.type";
const DESTINATION: &str = "messaging.destination.name";
const PARTITION: &str = "messaging.destination.partition.id";
const GROUP: &str = "messaging.consumer.group.name";
const MESSAGES: &str = "messaging.batch.message_count";
const MESSAGE_ID: &str = "messaging.message.id";
const OFFSET: &str = "messaging.kafka.offset";
const EVENT_ID: &str = "cloudevents.event_id";
const EVENT_TYPE: &str = "cloudevents.event_type";
const METHOD: &str = "http.request.method";
const ROUTE: &str = "http.route";
const STATUS: &str = "http.response.status_code";
const ATTEMPT: &str = "courant.attempt";
const SOURCE: &str = "courant.source";
const DUE: &str = "courant.due_ms";
const OUTCOME: &str = "courant.outcome";

/// What becomes of an event that was not handled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It is tried again, and its key waits for it.
    Parked,
    /// It is a dead letter.
    DeadLetter,
    /// It counts as handled.
    Skipped,
}

impl Tracer {
    /// An event is made.
    pub fn create(&self, topic: &str, parent: Option<TraceContext>) -> Option<Active> {
        self.messaging("create", "create", topic, SpanKind::Producer, parent)
    }

    /// Events go to the engine, of one topic or of several.
    pub fn send<'a>(
        &self,
        mut topics: impl Iterator<Item = &'a str>,
        events: u64,
        made: impl Iterator<Item = TraceContext>,
    ) -> Option<Active> {
        if !self.is_on() {
            return None;
        }
        let made: Vec<_> = made.filter(|made| made.is_sampled).take(LINKS_MAX).collect();
        // What nobody keeps the making of, nobody wants to see sent.
        let first = *made.first()?;
        let topic = topics.next()?;
        let name = if topics.all(|other| other == topic) { topic } else { "several" };
        // A trace of its own would be seen by nobody who looks at one of these events.
        let mut span = self.messaging("send", "send", name, SpanKind::Client, Some(first))?;
        span.say(MESSAGES, events);
        made.into_iter().skip(1).for_each(|made| span.link(made));
        Some(span)
    }

    /// A handler is called with an event.
    pub fn process(&self, topic: &str, consumer: &str, parent: Option<TraceContext>) -> Option<Active> {
        let mut span = self.messaging("process", "process", topic, SpanKind::Consumer, parent)?;
        span.say(GROUP, consumer);
        Some(span)
    }

    /// What becomes of an event that was not handled is kept.
    pub fn settle(
        &self,
        topic: &str,
        consumer: &str,
        outcome: Outcome,
        parent: Option<TraceContext>,
    ) -> Option<Active> {
        let mut span = self.messaging("settle", "settle", topic, SpanKind::Client, parent)?;
        span.say(GROUP, consumer);
        let outcome = match outcome {
            Outcome::Parked => "parked",
            Outcome::DeadLetter => "dead_letter",
            Outcome::Skipped => "skipped",
        };
        span.say(OUTCOME, outcome);
        Some(span)
    }

    /// A batch is stored for a client.
    pub fn append(&self, topic: &str, partition: u32, made: &[TraceContext]) -> Option<Active> {
        self.served("append", "send", topic, partition, made)
    }

    /// Batches are read for a client.
    pub fn fetch(&self, topic: &str, partition: u32, made: &[TraceContext]) -> Option<Active> {
        self.served("fetch", "receive", topic, partition, made)
    }

    /// A request by HTTP is answered.
    pub fn http(&self, method: &str, route: &str, parent: Option<TraceContext>) -> Option<Active> {
        let mut span = self.begin(format!("{method} {route}"), SpanKind::Server, parent)?;
        span.say(METHOD, method);
        span.say(ROUTE, route);
        Some(span)
    }

    fn served(
        &self,
        operation: &'static str,
        kind: &'static str,
        topic: &str,
        partition: u32,
        made: &[TraceContext],
    ) -> Option<Active> {
        // Clients that send no context want no trace.
        let (first, others) = made.split_first()?;
        let mut span = self.messaging(operation, kind, topic, SpanKind::Server, Some(*first))?;
        span.say(PARTITION, partition.to_string());
        others.iter().take(LINKS_MAX).for_each(|made| span.link(*made));
        Some(span)
    }

    fn messaging(
        &self,
        operation: &'static str,
        operation_type: &'static str,
        topic: &str,
        kind: SpanKind,
        parent: Option<TraceContext>,
    ) -> Option<Active> {
        // What services and servers tell each other of themselves is no part of anybody's request.
        if topic.starts_with(INTERNAL) {
            return None;
        }
        let mut span = self.begin(format!("{operation} {topic}"), kind, parent)?;
        span.say(SYSTEM, KAFKA);
        span.say(OPERATION, operation);
        span.say(OPERATION_TYPE, operation_type);
        span.say(DESTINATION, topic);
        Some(span)
    }
}

impl Active {
    /// Says which event it is about.
    pub fn event(&mut self, id: &str, event_type: &str) {
        self.say(MESSAGE_ID, id);
        self.say(EVENT_ID, id);
        self.say(EVENT_TYPE, event_type);
    }

    /// Says where that is in the log.
    pub fn position(&mut self, partition: u32, offset: u64) {
        self.say(PARTITION, partition.to_string());
        self.say(OFFSET, offset);
    }

    /// Says how many events there are.
    pub fn events(&mut self, count: u64) {
        self.say(MESSAGES, count);
    }

    /// Says the offset of the first event.
    pub fn offset(&mut self, offset: u64) {
        self.say(OFFSET, offset);
    }

    /// Says which attempt it is, and whether the event comes from the log or was parked in the store: by a
    /// retry, behind another event of its key, or as a dead letter that was sent back.
    pub fn attempt(&mut self, attempt: u32, is_parked: bool) {
        self.say(ATTEMPT, u64::from(attempt));
        self.say(SOURCE, if is_parked { "parked" } else { "log" });
    }

    /// Says when the event is due that a timer publishes, in milliseconds since 1970.
    pub fn due(&mut self, due_ms: i64) {
        self.say(DUE, super::Value::Integer(due_ms));
    }

    /// Says how a request by HTTP was answered.
    pub fn status(&mut self, status: u16) {
        self.say(STATUS, u64::from(status));
        if status >= 500 {
            self.fail(&status.to_string());
        }
    }
}
