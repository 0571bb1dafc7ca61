//! What a record in a topic of dead letters says of itself by its headers: where it was, and why it failed.
//!
//! Spring Kafka's `DeadLetterPublishingRecoverer` writes headers `kafka_dlt-…`, numbers in binary and big
//! endian; Kafka Connect `__connect.errors.…`, everything as text (KIP-298); our services `courant-dead-…`.

use bytes::Bytes;

use crate::headers as own;
use crate::operations::failure_name;

/// Headers with these beginnings belong to the dead letter, and not to the event that it was.
const OF_THE_LETTER: [&str; 6] = [
    "kafka_dlt-",
    "retry_topic-",
    "springDeserializerException",
    "__connect.errors.",
    "courant-dead-",
    "courant-redrive",
];

/// Causes that are read from a stack trace.
const CAUSES_MAX: usize = 20;

/// A header as it is stored: its name and its value.
pub type Header = (Bytes, Option<Bytes>);

/// Whether a header belongs to the dead letter, and not to the event that it was.
#[must_use]
pub fn is_of_the_letter(name: &[u8]) -> bool {
    OF_THE_LETTER.iter().any(|beginning| name.starts_with(beginning.as_bytes()))
}

/// Who has written a dead letter.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Framework {
    /// Spring Kafka.
    SpringKafka,
    /// Kafka Connect.
    KafkaConnect,
    /// The copy that one of our services publishes. The letter itself is in the service's store.
    Courant,
    /// No header says who.
    #[default]
    Unknown,
}

impl Framework {
    /// Its name in answers.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::SpringKafka => "spring-kafka",
            Self::KafkaConnect => "kafka-connect",
            Self::Courant => "courant",
            Self::Unknown => "unknown",
        }
    }
}

/// Where an event was before it became a dead letter. What no header says is missing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Origin {
    /// The topic.
    pub topic: Option<String>,
    /// The partition.
    pub partition: Option<i32>,
    /// The offset.
    pub offset: Option<i64>,
    /// The time of the event, in milliseconds since 1970.
    pub timestamp_ms: Option<i64>,
}

/// Why it became one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Why {
    /// Class of what was thrown; the cause, where the framework wraps it.
    pub error: Option<String>,
    /// Class of what it was wrapped in.
    pub wrapped_in: Option<String>,
    /// The text of the error.
    pub message: Option<String>,
    /// Where it was thrown, and what has caused it.
    pub stack_trace: Option<String>,
    /// What else is said of it, such as the stage of a connector.
    pub more: Vec<(&'static str, String)>,
}

/// What the headers of a dead letter say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cause {
    /// Who has written it.
    pub framework: Framework,
    /// Where it was.
    pub origin: Origin,
    /// The group or the connector that has given up.
    pub consumer: Option<String>,
    /// Why it is one.
    pub why: Why,
}

impl Why {
    /// What has caused the failure, from the outside in, as the stack trace says.
    #[must_use]
    pub fn causes(&self) -> Vec<String> {
        let trace = self.stack_trace.as_deref().unwrap_or_default();
        let causes = trace.lines().filter_map(|line| line.strip_prefix("Caused by: "));
        causes.take(CAUSES_MAX).map(str::to_owned).collect()
    }
}

impl Cause {
    /// Reads the headers of a record.
    #[must_use]
    pub fn of(headers: &[Header]) -> Self {
        read(&Lookup(headers))
    }

    /// The short name of its failure: letters with one error of one consumer from one topic have the same.
    #[must_use]
    pub fn group(&self) -> String {
        let text = |text: &Option<String>| text.clone().unwrap_or_default();
        failure_name(&text(&self.consumer), &text(&self.why.error), &text(&self.origin.topic))
    }
}

/// Headers by their names.
#[derive(Debug)]
struct Lookup<'a>(&'a [Header]);

impl<'a> Lookup<'a> {
    fn any(&self, beginning: &str) -> bool {
        self.0.iter().any(|(name, _)| name.starts_with(beginning.as_bytes()))
    }

    /// The first of a name: where a letter has died again, the oldest.
    fn first(&self, name: &str) -> Option<&'a [u8]> {
        let found = self.0.iter().find(|(known, _)| known.as_ref() == name.as_bytes());
        found.and_then(|(_, value)| value.as_deref())
    }

    /// The last of a name: where a letter has died again, the newest.
    fn last(&self, name: &str) -> Option<&'a [u8]> {
        let found = self.0.iter().rev().find(|(known, _)| known.as_ref() == name.as_bytes());
        found.and_then(|(_, value)| value.as_deref())
    }

    fn first_text(&self, name: &str) -> Option<String> {
        self.first(name).map(text)
    }

    fn last_text(&self, name: &str) -> Option<String> {
        self.last(name).map(text)
    }

    fn first_number(&self, name: &str) -> Option<i64> {
        self.first(name).and_then(|bytes| text(bytes).trim().parse().ok())
    }

    fn first_binary(&self, name: &str) -> Option<i64> {
        self.first(name).and_then(big_endian)
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// An `int` or a `long` as Java's `ByteBuffer` writes it.
fn big_endian(bytes: &[u8]) -> Option<i64> {
    if let Ok(bytes) = <[u8; 4]>::try_from(bytes) {
        return Some(i64::from(i32::from_be_bytes(bytes)));
    }
    <[u8; 8]>::try_from(bytes).ok().map(i64::from_be_bytes)
}

fn partition(number: Option<i64>) -> Option<i32> {
    number.and_then(|number| i32::try_from(number).ok()).filter(|number| *number >= 0)
}

fn read(headers: &Lookup<'_>) -> Cause {
    if headers.any("kafka_dlt-") {
        spring(headers)
    } else if headers.any("__connect.errors.") {
        connect(headers)
    } else if headers.any("courant-dead-") {
        courant(headers)
    } else {
        Cause { framework: Framework::Unknown, ..Cause::default() }
    }
}

fn spring(headers: &Lookup<'_>) -> Cause {
    let origin = Origin {
        topic: headers.first_text("kafka_dlt-original-topic"),
        partition: partition(headers.first_binary("kafka_dlt-original-partition")),
        offset: headers.first_binary("kafka_dlt-original-offset"),
        timestamp_ms: headers.first_binary("kafka_dlt-original-timestamp"),
    };
    // A key that cannot be deserialized has headers of its own.
    let of = |what: &str| {
        headers
            .last_text(&format!("kafka_dlt-exception-{what}"))
            .or_else(|| headers.last_text(&format!("kafka_dlt-key-exception-{what}")))
    };
    let (thrown, cause) = (of("fqcn"), headers.last_text("kafka_dlt-exception-cause-fqcn"));
    let why = match cause {
        Some(cause) => Why { error: Some(cause), wrapped_in: thrown, ..Why::default() },
        None => Why { error: thrown, ..Why::default() },
    };
    let why = Why { message: of("message"), stack_trace: of("stacktrace"), ..why };
    let consumer = headers.last_text("kafka_dlt-original-consumer-group");
    Cause { framework: Framework::SpringKafka, origin, consumer, why }
}

fn connect(headers: &Lookup<'_>) -> Cause {
    let of = |what: &str| headers.last_text(&format!("__connect.errors.{what}"));
    let origin = Origin {
        topic: headers.first_text("__connect.errors.topic"),
        partition: partition(headers.first_number("__connect.errors.partition")),
        offset: headers.first_number("__connect.errors.offset"),
        timestamp_ms: None,
    };
    let more = [("stage", of("stage")), ("class", of("class.name")), ("task", of("task.id"))];
    let why = Why {
        error: of("exception.class.name"),
        wrapped_in: None,
        message: of("exception.message"),
        stack_trace: of("exception.stacktrace"),
        more: more.into_iter().filter_map(|(name, value)| Some((name, value?))).collect(),
    };
    Cause { framework: Framework::KafkaConnect, origin, consumer: of("connector.name"), why }
}

fn courant(headers: &Lookup<'_>) -> Cause {
    let origin = Origin {
        topic: headers.first_text(own::DEAD_TOPIC),
        partition: partition(headers.first_number(own::DEAD_PARTITION)),
        offset: headers.first_number(own::DEAD_OFFSET),
        timestamp_ms: None,
    };
    let attempts = headers.last_text(own::DEAD_ATTEMPTS);
    let why = Why {
        error: headers.last_text(own::DEAD_ERROR_TYPE),
        message: headers.last_text(own::DEAD_ERROR),
        more: attempts.into_iter().map(|attempts| ("attempts", attempts)).collect(),
        ..Why::default()
    };
    let consumer = headers.last_text(own::DEAD_CONSUMER);
    Cause { framework: Framework::Courant, origin, consumer, why }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cause(headers: &[(&str, &[u8])]) -> Cause {
        let header = |(name, value): &(&str, &[u8])| {
            (Bytes::copy_from_slice(name.as_bytes()), Some(Bytes::copy_from_slice(value)))
        };
        Cause::of(&headers.iter().map(header).collect::<Vec<_>>())
    }

    #[test]
    fn each_framework_is_known_by_its_headers() {
        let spring = cause(&[("kafka_dlt-original-offset", &[0, 0, 0, 0, 0, 0, 1, 1])]);
        assert_eq!((spring.framework, spring.origin.offset), (Framework::SpringKafka, Some(257)));
        let connect = cause(&[("__connect.errors.offset", b"257")]);
        assert_eq!((connect.framework, connect.origin.offset), (Framework::KafkaConnect, Some(257)));
        let own = cause(&[("courant-dead-offset", b"257"), ("courant-dead-error", b"no price")]);
        assert_eq!((own.framework, own.origin.offset), (Framework::Courant, Some(257)));
        assert_eq!(own.why.message.as_deref(), Some("no price"));
        assert_eq!(cause(&[("x", b"y")]), Cause::default());
    }

    #[test]
    fn headers_of_the_event_are_told_from_those_of_the_letter() {
        assert!(is_of_the_letter(b"kafka_dlt-original-topic") && is_of_the_letter(b"courant-dead-offset"));
        assert!(!is_of_the_letter(b"ce_id") && !is_of_the_letter(b""));
    }
}
