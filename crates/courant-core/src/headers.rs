//! The names of the headers that an event travels with: CloudEvents in the binary mode of its Kafka
//! binding, with three extension attributes, and W3C trace context.

/// The event's id.
pub const ID: &str = "ce_id";
/// Which service it comes from.
pub const SOURCE: &str = "ce_source";
/// The version of CloudEvents, always [`SPECVERSION_VALUE`].
pub const SPECVERSION: &str = "ce_specversion";
/// What [`SPECVERSION`] says.
pub const SPECVERSION_VALUE: &str = "1.0";
/// What has happened: the event's type.
pub const TYPE: &str = "ce_type";
/// When it happened, as RFC 3339 in UTC.
pub const TIME: &str = "ce_time";
/// What kind of message it is: [`KIND_COMMAND`], or nothing for a fact. An extension attribute.
pub const KIND: &str = "ce_kind";
/// What [`KIND`] says of a command: a request to the one consumer that owns it.
pub const KIND_COMMAND: &str = "command";
/// What it is about: the key, as text.
pub const SUBJECT: &str = "ce_subject";
/// What the value's bytes are.
pub const CONTENT_TYPE: &str = "content-type";
/// Shared by everything that one request set off. An extension attribute.
pub const CORRELATION_ID: &str = "ce_correlationid";
/// The id of the event that caused this one. An extension attribute.
pub const CAUSATION_ID: &str = "ce_causationid";
/// W3C trace context: which span it belongs to.
pub const TRACEPARENT: &str = "traceparent";
/// W3C trace context: what vendors add.
pub const TRACESTATE: &str = "tracestate";

/// On a dead letter's copy: the consumer that gave up.
pub const DEAD_CONSUMER: &str = "courant-dead-consumer";
/// On a dead letter's copy: the topic it was in.
pub const DEAD_TOPIC: &str = "courant-dead-topic";
/// On a dead letter's copy: the partition it was in, in decimal.
pub const DEAD_PARTITION: &str = "courant-dead-partition";
/// On a dead letter's copy: its offset there, in decimal.
pub const DEAD_OFFSET: &str = "courant-dead-offset";
/// On a dead letter's copy: how often it was tried, in decimal.
pub const DEAD_ATTEMPTS: &str = "courant-dead-attempts";
/// On a dead letter's copy: the type of its last error.
pub const DEAD_ERROR_TYPE: &str = "courant-dead-error-type";
/// On a dead letter's copy: its last error with what caused it.
pub const DEAD_ERROR: &str = "courant-dead-error";
