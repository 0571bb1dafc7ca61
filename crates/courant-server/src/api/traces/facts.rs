//! What a record says about where it belongs: its event's id, what it shares with others, and its cause.

use std::borrow::Cow;
use std::collections::hash_map::RandomState;
use std::hash::BuildHasher as _;

use courant_core::event_id::EventId;
use courant_core::headers;
use courant_log::PartitionId;
use courant_log::batch::records::Record;
use uuid::Uuid;

use super::index::New;
use super::places::Place;
use crate::api::records::cloudevent;
use crate::api::records::read::offset;

/// What joins an event to others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Joined {
    /// A correlation id.
    Correlation,
    /// The trace id of W3C trace context.
    Traceparent,
    /// A header that the settings name.
    Header,
    /// Nothing that it says: its own id, by which others may name it.
    Event,
}

impl Joined {
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Correlation => "correlation",
            Self::Traceparent => "traceparent",
            Self::Header => "header",
            Self::Event => "event",
        }
    }
}

/// What is known of a record.
#[derive(Debug)]
pub(super) struct Facts<'a> {
    pub(super) event: Option<Cow<'a, str>>,
    pub(super) correlation: Option<Cow<'a, str>>,
    pub(super) causation: Option<Cow<'a, str>>,
    /// What joins it to others, and how.
    pub(super) trace: Option<(Cow<'a, str>, Joined)>,
    /// Whether it is the copy of an event that somebody has given up.
    pub(super) is_dead: bool,
}

/// Headers with these beginnings are those of a dead letter: of our services, of Spring Kafka, of Kafka
/// Connect.
const DEAD: [&[u8]; 3] = [b"courant-dead-", b"kafka_dlt-", b"__connect.errors."];

impl<'a> Facts<'a> {
    /// Looks at a record. `header` is the one that the settings name.
    pub(super) fn of(record: &'a Record, header: Option<&str>) -> Self {
        let (mut event, mut correlation, mut causation) = (None, None, None);
        let (mut traceparent, mut named, mut is_dead, mut has_content_type) = (None, None, false, false);
        for (name, value) in &record.headers {
            let value = || text(value.as_deref());
            match std::str::from_utf8(name).unwrap_or_default() {
                headers::ID => event = event.or_else(value),
                headers::CORRELATION_ID => correlation = correlation.or_else(value),
                headers::CAUSATION_ID => causation = causation.or_else(value),
                headers::TRACEPARENT => traceparent = traceparent.or_else(value),
                // Looked for once, however many there are.
                headers::CONTENT_TYPE => has_content_type = true,
                other => {
                    is_dead = is_dead || DEAD.iter().any(|begin| name.starts_with(begin));
                    if header.is_some_and(|header| header.eq_ignore_ascii_case(other)) {
                        named = named.or_else(value);
                    }
                }
            }
        }
        if has_content_type
            && cloudevent::is_structured(record)
            && let Some(mut members) = cloudevent::structured(record)
        {
            let mut take = |name: &str| -> Option<Cow<'a, str>> {
                members.remove(name).filter(|text| !text.is_empty()).map(Cow::Owned)
            };
            event = take("id");
            correlation = take("correlationid");
            causation = take("causationid");
            traceparent = traceparent.or_else(|| take(headers::TRACEPARENT));
        }
        let trace_id = traceparent.as_ref().and_then(|text| trace_id(text));
        let trace = correlation.clone().map(|id| (id, Joined::Correlation));
        let trace = trace.or_else(|| Some((Cow::Owned(trace_id?.to_owned()), Joined::Traceparent)));
        let trace = trace.or_else(|| Some((named?, Joined::Header)));
        let trace = trace.or_else(|| Some((event.clone()?, Joined::Event)));
        Self { event, correlation, causation, trace, is_dead }
    }

    /// Whether nothing joins it to anything. An event may still name it as its cause, by the id of its place.
    pub(super) fn is_plain(&self) -> bool {
        self.trace.is_none() && !self.is_dead
    }

    /// Whether another record may be looked for because of it: its cause, or what it is a copy of.
    pub(super) fn names_another(&self) -> bool {
        self.causation.is_some() || self.is_dead
    }

    /// Gives an event that brings no id the one that services give it, by its place: their effects name that
    /// as their cause. Of a dead letter it is the place that the event had.
    pub(super) fn placed(mut self, record: &Record, log: &Uuid, topic: &str, partition: u32) -> Self {
        if self.event.is_none() {
            let id = if self.is_dead {
                original_id(record, log)
            } else {
                Some(EventId::of_place(log, topic, partition, offset(record.offset)))
            };
            self.event = id.map(|id| Cow::Owned(id.to_string()));
            self.trace = self.trace.or_else(|| Some((self.event.clone()?, Joined::Event)));
        }
        self
    }

    /// What the index keeps of it; nothing where nothing joins it to anything.
    pub(super) fn indexed(&self, hasher: &RandomState, id: PartitionId, record: &Record) -> Option<New> {
        let (trace, joined) = self.trace.as_ref()?;
        let hash = |text: &Option<Cow<'_, str>>| text.as_ref().map_or(0, |text| hashed(hasher, text));
        Some(New {
            partition: id,
            offset: offset(record.offset),
            time_ms: record.timestamp,
            event: hash(&self.event),
            causation: hash(&self.causation),
            trace: hashed(hasher, trace),
            joined: *joined,
            is_dead: self.is_dead,
        })
    }
}

/// What the index keeps of a record that nothing joins to anything.
pub(super) fn plain(hasher: &RandomState, log: &Uuid, topic: &str, partition: u32, place: Place) -> New {
    let event = hashed(hasher, EventId::of_place(log, topic, partition, place.offset).as_str());
    let Place { partition, offset, time_ms } = place;
    let (causation, trace, joined, is_dead) = (0, event, Joined::Event, false);
    New { partition, offset, time_ms, event, causation, trace, joined, is_dead }
}

/// The id of the event that a dead letter of a service of ours is a copy of, by its place.
fn original_id(record: &Record, log: &Uuid) -> Option<EventId> {
    let topic = cloudevent::header(record, headers::DEAD_TOPIC)?;
    let partition = cloudevent::header(record, headers::DEAD_PARTITION)?.parse().ok()?;
    let offset = cloudevent::header(record, headers::DEAD_OFFSET)?.parse().ok()?;
    Some(EventId::of_place(log, topic, partition, offset))
}

/// A text as a number that is never 0, which stands for none.
pub(super) fn hashed(hasher: &RandomState, text: &str) -> u64 {
    hasher.hash_one(text).max(1)
}

fn text(value: Option<&[u8]>) -> Option<Cow<'_, str>> {
    let text = std::str::from_utf8(value?).ok()?;
    (!text.is_empty()).then_some(Cow::Borrowed(text))
}

/// The trace id of a `traceparent` (W3C Trace Context, section 3.2.2), if it is one.
fn trace_id(traceparent: &str) -> Option<&str> {
    let id = traceparent.split('-').nth(1)?;
    let is_hex = id.len() == 32 && id.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    (is_hex && id.bytes().any(|byte| byte != b'0')).then_some(id)
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;

    fn record(headers: &[(&str, &str)], value: &str) -> Record {
        let header = |(name, value): &(&str, &str)| {
            (Bytes::copy_from_slice(name.as_bytes()), Some(Bytes::copy_from_slice(value.as_bytes())))
        };
        Record {
            offset: 7,
            timestamp: 5,
            key: None,
            value: Some(Bytes::copy_from_slice(value.as_bytes())),
            headers: headers.iter().map(header).collect(),
        }
    }

    const TRACEPARENT: (&str, &str) =
        ("traceparent", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01");

    #[track_caller]
    fn assert_joined(headers: &[(&str, &str)], id: &str, joined: Joined) {
        let record = record(headers, "");
        let facts = Facts::of(&record, Some("X-Request-Id"));
        let (found, how) = facts.trace.expect("it is joined");
        assert_eq!((&*found, how), (id, joined));
    }

    #[test]
    fn what_joins_events_has_an_order() {
        let all = [("ce_id", "1"), ("ce_correlationid", "c"), TRACEPARENT, ("x-request-id", "r")];
        assert_joined(&all, "c", Joined::Correlation);
        let trace = "4bf92f3577b34da6a3ce929d0e0e4736";
        assert_joined(&[all[0], all[2], all[3]], trace, Joined::Traceparent);
        assert_joined(&[all[0], all[3]], "r", Joined::Header);
        assert_joined(&all[..1], "1", Joined::Event);
        assert_joined(&[("ce_id", "1"), ("ce_correlationid", "")], "1", Joined::Event);
        let plain = record(&[("x", "y")], "{}");
        assert!(Facts::of(&plain, None).trace.is_none());
        let other = record(&all[3..], "");
        assert!(Facts::of(&other, None).trace.is_none(), "no setting names the header");
    }

    #[test]
    fn a_structured_event_says_it_in_its_value() {
        let value = r#"{"id":"1","source":"/s","specversion":"1.0","type":"t","correlationid":"c",
            "causationid":"0","data":{"id":"no"}}"#;
        let event = record(&[("content-type", "application/cloudevents+json")], value);
        let facts = Facts::of(&event, None);
        assert_eq!((facts.event.as_deref(), facts.causation.as_deref()), (Some("1"), Some("0")));
        assert_eq!(facts.trace.expect("joined").0, "c");
    }

    /// Each header is looked at a few times, not once for each other one: a record may have 100,000 of them.
    #[test]
    fn the_first_content_type_counts_and_many_cost_little() {
        let value = r#"{"id":"1","source":"/s","specversion":"1.0","type":"t"}"#;
        let first = |kind| [("content-type", kind), ("content-type", "application/cloudevents+json")];
        assert!(Facts::of(&record(&first("text/plain"), value), None).event.is_none());
        assert!(Facts::of(&record(&first("application/cloudevents+json"), value), None).event.is_some());
        let headers = [vec![("x", "y"); 50_000], vec![("content-type", "text/plain"); 50_000]].concat();
        let many = record(&headers, value);
        let began = std::time::Instant::now();
        assert!(Facts::of(&many, None).event.is_none());
        assert!(began.elapsed() < std::time::Duration::from_secs(5), "{:?}", began.elapsed());
    }

    #[test]
    fn dead_letters_are_known_by_their_headers() {
        for name in ["courant-dead-consumer", "kafka_dlt-original-topic", "__connect.errors.topic"] {
            assert!(Facts::of(&record(&[("ce_id", "1"), (name, "x")], ""), None).is_dead, "{name}");
        }
        assert!(!Facts::of(&record(&[("ce_id", "1"), ("courant", "x")], ""), None).is_dead);
    }

    #[test]
    fn what_brings_no_id_has_that_of_its_place() {
        let log = Uuid::from_u128(1);
        let place = EventId::of_place(&log, "orders", 2, 7);
        let plain = record(&[("x", "y")], "{}");
        let facts = Facts::of(&plain, None);
        assert!(facts.is_plain());
        let facts = facts.placed(&plain, &log, "orders", 2);
        assert_eq!(facts.event.as_deref(), Some(place.as_str()));
        assert_eq!(
            facts.trace.map(|(id, joined)| (id.into_owned(), joined)),
            Some((place.to_string(), Joined::Event))
        );
        let joined = record(&[("ce_correlationid", "c")], "{}");
        let facts = Facts::of(&joined, None).placed(&joined, &log, "orders", 2);
        assert_eq!(
            (facts.event.as_deref(), facts.trace.map(|one| one.1)),
            (Some(place.as_str()), Some(Joined::Correlation))
        );
        let copy =
            [("courant-dead-topic", "orders"), ("courant-dead-partition", "2"), ("courant-dead-offset", "7")];
        let copy = record(&copy, "{}");
        let facts = Facts::of(&copy, None);
        assert!(!facts.is_plain(), "it is looked for with its event");
        assert_eq!(facts.placed(&copy, &log, "orders.b.dlq", 0).event.as_deref(), Some(place.as_str()));
        let named = record(&[("ce_id", "1")], "{}");
        assert_eq!(Facts::of(&named, None).placed(&named, &log, "t", 0).event.as_deref(), Some("1"));
    }

    #[test]
    fn only_a_trace_id_is_one() {
        assert_eq!(trace_id(TRACEPARENT.1), Some("4bf92f3577b34da6a3ce929d0e0e4736"));
        for bad in ["", "00", "00-abc-1-1", "00-00000000000000000000000000000000-00f067aa0ba902b7-01"] {
            assert_eq!(trace_id(bad), None, "{bad}");
        }
    }

    #[test]
    fn an_id_is_one_number_wherever_it_stands() {
        let hasher = RandomState::new();
        let root = record(&[("ce_id", "1")], "");
        let child = record(&[("ce_id", "2"), ("ce_correlationid", "1"), ("ce_causationid", "1")], "");
        let of = |record: &Record| Facts::of(record, None).indexed(&hasher, PartitionId(3), record);
        let (root, child) = (of(&root).expect("indexed"), of(&child).expect("indexed"));
        assert_eq!((root.event, root.trace, root.causation), (child.causation, child.trace, 0));
        assert_eq!((root.partition, root.offset, root.time_ms), (PartitionId(3), 7, 5));
    }
}
