//! What a record of a topic of dead letters says of itself: where it was, and why it failed.
//!
//! Spring Kafka's `DeadLetterPublishingRecoverer` writes headers `kafka_dlt-…`, numbers in binary and big
//! endian; Kafka Connect `__connect.errors.…`, everything as text (KIP-298); our services `courant-dead-…`.

use crate::cli::LetterAt;
use bytes::Bytes;
use courant_core::headers as own;
use courant_kafka::client::Fetched;

use super::super::letters::name_of;

/// On a record that a redrive has published: the redrive's id.
pub(super) const REDRIVE: &str = "courant-redrive";
/// On a record that a redrive has published: the dead letter that it was, as `TOPIC/PARTITION@OFFSET`.
pub(super) const REDRIVE_OF: &str = "courant-redrive-of";

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

/// Headers as they are stored.
pub(super) type Headers = Vec<(Bytes, Option<Bytes>)>;

/// Who has written a dead letter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Framework {
    SpringKafka,
    KafkaConnect,
    /// The copy that one of our services publishes. The letter itself is in the service's store.
    Courant,
    /// No header says who.
    Unknown,
}

impl Framework {
    pub(super) fn name(self) -> &'static str {
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
pub(super) struct Origin {
    pub(super) topic: Option<String>,
    pub(super) partition: Option<i32>,
    pub(super) offset: Option<i64>,
    pub(super) timestamp_ms: Option<i64>,
}

/// Why it became one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Why {
    /// Class of what was thrown; the cause, where the framework wraps it.
    pub(super) error: Option<String>,
    /// Class of what it was wrapped in.
    pub(super) wrapped_in: Option<String>,
    pub(super) message: Option<String>,
    pub(super) stack_trace: Option<String>,
    /// What else is said of it, such as the stage of a connector.
    pub(super) more: Vec<(&'static str, String)>,
}

/// A dead letter.
#[derive(Clone, Debug)]
pub(super) struct Letter {
    pub(super) at: LetterAt,
    pub(super) timestamp_ms: i64,
    pub(super) key: Option<Bytes>,
    pub(super) value: Option<Bytes>,
    pub(super) headers: Headers,
    pub(super) framework: Framework,
    pub(super) origin: Origin,
    /// The group or the connector that has given up.
    pub(super) consumer: Option<String>,
    pub(super) why: Why,
}

impl Letter {
    pub(super) fn of(fetched: Fetched) -> Self {
        let Fetched { partition, record } = fetched;
        let headers = record.headers;
        let (framework, origin, consumer, why) = read(&Lookup(&headers));
        Self {
            at: LetterAt { partition, offset: record.offset },
            timestamp_ms: record.timestamp,
            key: record.key,
            value: record.value,
            headers,
            framework,
            origin,
            consumer,
            why,
        }
    }

    /// The short name of its failure.
    pub(super) fn group(&self) -> String {
        let text = |text: &Option<String>| text.clone().unwrap_or_default();
        name_of(&text(&self.consumer), &text(&self.why.error), &text(&self.origin.topic))
    }

    /// The headers of the event that it was.
    pub(super) fn event_headers(&self) -> impl Iterator<Item = &(Bytes, Option<Bytes>)> {
        self.headers.iter().filter(|(name, _)| {
            let name = String::from_utf8_lossy(name);
            !OF_THE_LETTER.iter().any(|beginning| name.starts_with(beginning))
        })
    }

    /// What has caused the failure, from the outside in, as the stack trace says.
    pub(super) fn causes(&self) -> Vec<String> {
        let trace = self.why.stack_trace.as_deref().unwrap_or_default();
        let causes = trace.lines().filter_map(|line| line.strip_prefix("Caused by: "));
        causes.take(CAUSES_MAX).map(str::to_owned).collect()
    }
}

/// Headers by their names.
struct Lookup<'a>(&'a Headers);

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

type Read = (Framework, Origin, Option<String>, Why);

fn read(headers: &Lookup<'_>) -> Read {
    if headers.any("kafka_dlt-") {
        spring(headers)
    } else if headers.any("__connect.errors.") {
        connect(headers)
    } else if headers.any("courant-dead-") {
        courant(headers)
    } else {
        (Framework::Unknown, Origin::default(), None, Why::default())
    }
}

fn spring(headers: &Lookup<'_>) -> Read {
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
    (Framework::SpringKafka, origin, consumer, why)
}

fn connect(headers: &Lookup<'_>) -> Read {
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
    (Framework::KafkaConnect, origin, of("connector.name"), why)
}

fn courant(headers: &Lookup<'_>) -> Read {
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
    (Framework::Courant, origin, headers.last_text(own::DEAD_CONSUMER), why)
}

#[cfg(test)]
mod tests {
    use super::*;
    use courant_log::batch::records::Record;

    fn letter(headers: &[(&str, &[u8])]) -> Letter {
        let header = |(name, value): &(&str, &[u8])| {
            (Bytes::copy_from_slice(name.as_bytes()), Some(Bytes::copy_from_slice(value)))
        };
        let record = Record {
            offset: 3,
            timestamp: 7,
            key: None,
            value: None,
            headers: headers.iter().map(header).collect(),
        };
        Letter::of(Fetched { partition: 1, record })
    }

    #[test]
    fn spring_says_where_a_letter_was_in_binary_and_wraps_what_was_thrown() {
        let letter = letter(&[
            ("source", b"shop"),
            ("kafka_dlt-exception-fqcn", b"org.spring.ListenerExecutionFailedException"),
            ("kafka_dlt-exception-cause-fqcn", b"java.lang.IllegalStateException"),
            ("kafka_dlt-exception-message", b"Listener threw; no price"),
            ("kafka_dlt-exception-stacktrace", b"a\n\tat b\nCaused by: c: d\n\tat e\nCaused by: f\n"),
            ("kafka_dlt-original-topic", b"orders"),
            ("kafka_dlt-original-partition", &[0, 0, 0, 2]),
            ("kafka_dlt-original-offset", &[0, 0, 0, 0, 0, 0, 1, 1]),
            ("kafka_dlt-original-timestamp", &[0, 0, 1, 0x9c, 0, 0, 0, 0]),
            ("kafka_dlt-original-consumer-group", b"desk"),
        ]);
        assert_eq!(letter.framework, Framework::SpringKafka);
        let origin = Origin {
            topic: Some("orders".to_owned()),
            partition: Some(2),
            offset: Some(257),
            timestamp_ms: Some(0x19c_0000_0000),
        };
        assert_eq!(letter.origin, origin);
        assert_eq!(letter.consumer.as_deref(), Some("desk"));
        assert_eq!(letter.why.error.as_deref(), Some("java.lang.IllegalStateException"));
        assert_eq!(letter.why.wrapped_in.as_deref(), Some("org.spring.ListenerExecutionFailedException"));
        assert_eq!(letter.causes(), ["c: d", "f"]);
        let kept: Vec<_> = letter.event_headers().map(|(name, _)| name.clone()).collect();
        assert_eq!(kept, [Bytes::from_static(b"source")]);
    }

    /// The first place is where it comes from, the last error is why it is here.
    #[test]
    fn a_letter_that_died_again_comes_from_where_it_was_first() {
        let letter = letter(&[
            ("kafka_dlt-original-topic", b"orders"),
            ("kafka_dlt-exception-fqcn", b"First"),
            ("kafka_dlt-original-topic", b"orders-retry-0"),
            ("kafka_dlt-exception-fqcn", b"Second"),
        ]);
        assert_eq!(letter.origin.topic.as_deref(), Some("orders"));
        assert_eq!(letter.why.error.as_deref(), Some("Second"));
    }

    #[test]
    fn connect_says_everything_as_text() {
        let letter = letter(&[
            ("__connect.errors.topic", b"orders"),
            ("__connect.errors.partition", b"4"),
            ("__connect.errors.offset", b"99"),
            ("__connect.errors.connector.name", b"sink"),
            ("__connect.errors.stage", b"VALUE_CONVERTER"),
            ("__connect.errors.exception.class.name", b"DataException"),
            ("__connect.errors.exception.message", b"no JSON"),
        ]);
        assert_eq!(letter.framework, Framework::KafkaConnect);
        assert_eq!((letter.origin.partition, letter.origin.offset), (Some(4), Some(99)));
        assert_eq!(letter.consumer.as_deref(), Some("sink"));
        assert_eq!(letter.why.more, [("stage", "VALUE_CONVERTER".to_owned())]);
    }

    #[test]
    fn our_own_copies_are_known_and_others_say_nothing() {
        let own = letter(&[
            ("courant-dead-consumer", b"billing"),
            ("courant-dead-topic", b"orders"),
            ("courant-dead-partition", b"0"),
            ("courant-dead-offset", b"12"),
            ("courant-dead-error-type", b"Declined"),
        ]);
        assert_eq!((own.framework, own.origin.offset), (Framework::Courant, Some(12)));
        let other = letter(&[("x", b"y")]);
        assert_eq!((other.framework, other.origin), (Framework::Unknown, Origin::default()));
    }

    /// Headers come from the network: whatever is in them is no panic.
    #[test]
    fn numbers_of_a_wrong_length_say_nothing() {
        for bytes in [&b""[..], &[1], &[0; 5], &[0xff; 9]] {
            assert_eq!(letter(&[("kafka_dlt-original-partition", bytes)]).origin.partition, None);
        }
        assert_eq!(letter(&[("kafka_dlt-original-partition", &[0xff; 4])]).origin.partition, None);
    }

    #[test]
    fn letters_with_one_error_from_one_topic_of_one_consumer_are_one_failure() {
        let of = |error: &[u8], topic: &[u8]| {
            letter(&[("kafka_dlt-exception-fqcn", error), ("kafka_dlt-original-topic", topic)]).group()
        };
        assert_eq!(of(b"A", b"orders"), of(b"A", b"orders"));
        assert_ne!(of(b"A", b"orders"), of(b"B", b"orders"));
        assert_ne!(of(b"A", b"orders"), of(b"A", b"bills"));
    }
}
