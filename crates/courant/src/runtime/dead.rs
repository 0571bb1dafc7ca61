//! The copy of a dead letter that is published for the world: `T.G.dlq`.

use bytes::Bytes;
use courant_core::consumer::ConsumerName;
use courant_core::headers;
use courant_core::topic::{InvalidTopicName, TopicName};
use courant_engine::NewRecord;
use courant_sql::{Failure, NewEvent};

use super::context::Context;
use super::ledger::Work;

/// Bytes of an error's text that a header carries.
const ERROR_BYTES_MAX: usize = 1024;

/// The topic of the copies of a consumer's dead letters from `topic`.
pub(crate) fn topic(topic: &str, consumer: &ConsumerName) -> Result<TopicName, InvalidTopicName> {
    TopicName::new(&format!("{topic}.{consumer}.dlq"))
}

/// The copy: the event as it came, and why it is dead. `None` when its topic cannot exist.
pub(crate) fn copy(
    context: &Context,
    consumer: &ConsumerName,
    work: &Work,
    failure: &Failure,
) -> Option<NewEvent> {
    let partition = &work.assigned.partition;
    let topic = topic(partition.topic.as_str(), consumer).ok()?;
    let error: String = beginning(&failure.message, ERROR_BYTES_MAX).to_owned();
    let added = [
        (headers::DEAD_CONSUMER, consumer.to_string()),
        (headers::DEAD_TOPIC, partition.topic.to_string()),
        (headers::DEAD_PARTITION, partition.partition.to_string()),
        (headers::DEAD_OFFSET, work.event.offset.to_string()),
        (headers::DEAD_ATTEMPTS, work.failures.saturating_add(1).to_string()),
        (headers::DEAD_ERROR_TYPE, failure.kind.clone()),
        (headers::DEAD_ERROR, error),
    ];
    let mut all = work.event.headers.clone();
    all.extend(added.into_iter().map(|(name, value)| (name.to_owned(), Bytes::from(value))));
    Some(NewEvent {
        id: context.stamp.new_id(),
        topic,
        key: work.event.key.clone(),
        value: work.event.value.clone(),
        headers: all,
        timestamp_ms: context.time.now_ms(),
    })
}

/// The topic that the event of a copy was in. `None`: the record is no copy.
pub(crate) fn origin(record: &NewRecord) -> Option<TopicName> {
    // The copy of a copy says it twice: what was added last is about itself.
    let last = |name: &str| {
        let header = record.headers.iter().rev().find(|header| header.name == name.as_bytes())?;
        std::str::from_utf8(header.value.as_deref()?).ok()
    };
    let from = TopicName::new(last(headers::DEAD_TOPIC)?).ok()?;
    let consumer = ConsumerName::new(last(headers::DEAD_CONSUMER)?).ok()?;
    let copies = topic(from.as_str(), &consumer).ok()?;
    (copies.as_str() == &*record.topic).then_some(from)
}

fn beginning(text: &str, bytes_max: usize) -> &str {
    let mut end = text.len().min(bytes_max);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

#[cfg(test)]
mod tests {
    use courant_engine::Header;

    use super::*;

    #[test]
    fn the_topic_names_where_it_was_and_who_gave_up() {
        let consumer = ConsumerName::new("billing").expect("legal");
        assert_eq!(topic("orders", &consumer).expect("legal").as_str(), "orders.billing.dlq");
        assert!(topic(&"t".repeat(240), &consumer).is_err());
    }

    /// Whoever consumes copies has copies of its own, whose events were in the topic of the copies.
    #[test]
    fn a_copy_says_where_its_event_was() {
        let said = |topic: &str, from: &[(&str, &str)]| {
            let headers = from.iter().flat_map(|(topic, consumer)| {
                [
                    Header::new(headers::DEAD_TOPIC, (*topic).to_owned()),
                    Header::new(headers::DEAD_CONSUMER, (*consumer).to_owned()),
                ]
            });
            let record = NewRecord { headers: headers.collect(), ..NewRecord::new(topic, "k", "v") };
            origin(&record).map(TopicName::into_string)
        };
        let (first, second) = (("orders", "billing"), ("orders.billing.dlq", "audit"));
        assert_eq!(said("orders.billing.dlq", &[first]).as_deref(), Some("orders"));
        assert_eq!(
            said("orders.billing.dlq.audit.dlq", &[first, second]).as_deref(),
            Some("orders.billing.dlq")
        );
        assert_eq!(said("elsewhere", &[first]), None, "published anew, with the headers of a copy");
        assert_eq!(said("orders.billing.dlq", &[]), None);
    }

    #[test]
    fn a_long_error_is_cut_between_characters() {
        assert_eq!(beginning("aé", 2), "a");
        assert_eq!(beginning("aé", 3), "aé");
    }
}
