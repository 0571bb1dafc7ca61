//! What a record of a topic of dead letters says of itself: where it was, and why it failed.
//!
//! What its headers mean is known to `courant_core::foreign`.

use crate::cli::LetterAt;
use bytes::Bytes;
use courant_core::foreign::{Cause, Origin, Why, is_of_the_letter};
use courant_kafka::client::Fetched;

use super::super::letters::name_of;

pub(super) use courant_core::foreign::Framework;

/// On a record that a redrive has published: the redrive's id.
pub(super) const REDRIVE: &str = "courant-redrive";
/// On a record that a redrive has published: the dead letter that it was, as `TOPIC/PARTITION@OFFSET`.
pub(super) const REDRIVE_OF: &str = "courant-redrive-of";

/// Headers as they are stored.
pub(super) type Headers = Vec<(Bytes, Option<Bytes>)>;

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
        let Cause { framework, origin, consumer, why } = Cause::of(&headers);
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
        self.headers.iter().filter(|(name, _)| !is_of_the_letter(name))
    }

    /// What has caused the failure, from the outside in, as the stack trace says.
    pub(super) fn causes(&self) -> Vec<String> {
        self.why.causes()
    }
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
