//! From a record of others to an event, as if it had been sent in CloudEvents' binary mode.
//!
//! What cannot be read stays as it came: it has its turn like every event, and is a dead letter then, with
//! its bytes. Sent back when the mapping is right, it is read again.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;
use courant_core::event_id::{EventId, InvalidEventId};
use courant_core::headers;
use courant_engine::Record;
use courant_sql::Event;

use super::document::{Document, Pointer, Scalar};
use super::{Mapping, structured};
use crate::envelope::{header, text};
use crate::planted::{Defect, is_planted};

/// The mappings of a service, by topic.
#[derive(Clone, Debug, Default)]
pub(crate) struct Mappings(Arc<HashMap<String, Mapping>>);

/// Why a record cannot be read as an event.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Unreadable {
    #[error("it is to be a JSON object, and is none: {0}")]
    NoObject(serde_json::Error),
    #[error("it has no {part} at {place:?}; change what is sent, or the envelope mapping of its topic")]
    Missing { part: &'static str, place: String },
    #[error(
        "its {part} at {place:?} is {found}, and is to be {expected}; change what is sent, or the envelope \
         mapping of its topic"
    )]
    Wrong { part: &'static str, place: String, found: String, expected: &'static str },
    #[error("its id at {place:?} cannot be one: {reason}")]
    Id { place: String, reason: InvalidEventId },
    #[error("it has data_base64, and data of events is JSON here: send it as data")]
    Base64,
}

/// What was found in a record.
pub(super) struct Parts {
    pub(super) id: Option<EventId>,
    pub(super) key: Option<Bytes>,
    pub(super) payload: Bytes,
    /// What CloudEvents' binary mode has in headers.
    pub(super) headers: Vec<(String, Bytes)>,
}

/// An event of the log, and whether anybody here wants it.
pub(crate) struct Read {
    pub(crate) event: Event,
    pub(crate) is_wanted: bool,
}

impl Mappings {
    pub(crate) fn new(mappings: impl IntoIterator<Item = (String, Mapping)>) -> Self {
        Self(Arc::new(mappings.into_iter().collect()))
    }

    /// Whether a record says what it is in another way than by headers.
    pub(crate) fn is_foreign(&self, record: &Record) -> bool {
        let value = |name| record.header(name).and_then(|header| header.value.as_ref());
        let has_type = value(headers::TYPE).is_some_and(|said| std::str::from_utf8(said).is_ok());
        if has_type || record.value.is_none() {
            return false;
        }
        self.reads(&record.position.partition.topic, value(headers::CONTENT_TYPE).map(Bytes::as_ref))
    }

    /// Reads a foreign record that `event` was made of. What cannot be read is wanted, too: somebody has to
    /// decide about it.
    pub(crate) fn read(&self, topic: &str, event: Event, wants: impl Fn(&str) -> bool) -> Read {
        match self.mapped(topic, &event, wants) {
            Ok(Some(event)) => Read { event, is_wanted: true },
            Ok(None) => Read { event, is_wanted: false },
            Err(_) => Read { event, is_wanted: true },
        }
    }

    /// Reads a parked event that could not be read when it came. It keeps the id and the key that it is
    /// parked under.
    pub(crate) fn read_parked(&self, topic: &str, event: Event) -> Event {
        if !self.is_foreign_event(topic, &event) || is_planted(Defect::ReadOnce) {
            return event;
        }
        match self.mapped(topic, &event, |_| true) {
            Ok(Some(mapped)) => Event { id: event.id, key: event.key, ..mapped },
            Ok(None) | Err(_) => event,
        }
    }

    /// Why an event without a type cannot be read; `None` when nothing here reads such events.
    pub(crate) fn refusal(&self, topic: &str, event: &Event) -> Option<Unreadable> {
        if !self.is_foreign_event(topic, event) {
            return None;
        }
        self.mapped(topic, event, |_| true).err()
    }

    fn is_foreign_event(&self, topic: &str, event: &Event) -> bool {
        let content_type = header(&event.headers, headers::CONTENT_TYPE).map(Bytes::as_ref);
        let has_type = text(&event.headers, headers::TYPE).is_some();
        event.value.is_some() && !has_type && self.reads(topic, content_type)
    }

    fn reads(&self, topic: &str, content_type: Option<&[u8]>) -> bool {
        self.0.contains_key(topic) || content_type.is_some_and(structured::is_named)
    }

    /// The event, if its type is wanted.
    fn mapped(
        &self,
        topic: &str,
        event: &Event,
        wants: impl Fn(&str) -> bool,
    ) -> Result<Option<Event>, Unreadable> {
        let value = event.value.as_deref().unwrap_or_default();
        let document = Document::parse(value).map_err(Unreadable::NoObject)?;
        let content_type = header(&event.headers, headers::CONTENT_TYPE);
        let parts = match self.0.get(topic) {
            _ if content_type.is_some_and(|said| structured::is_named(said)) => {
                structured::parts(&document, &event.headers, wants)?
            }
            Some(mapping) => mapping.parts(&document, wants)?,
            None => None,
        };
        Ok(parts.map(|parts| {
            let mut all = event.headers.clone();
            all.extend(parts.headers);
            Event {
                offset: event.offset,
                id: parts.id.unwrap_or_else(|| event.id.clone()),
                key: parts.key.or_else(|| event.key.clone()),
                value: Some(parts.payload),
                headers: all,
                timestamp_ms: event.timestamp_ms,
            }
        }))
    }
}

impl Mapping {
    fn parts(
        &self,
        document: &Document<'_>,
        wants: impl Fn(&str) -> bool,
    ) -> Result<Option<Parts>, Unreadable> {
        let Some(event_type) = self.wanted_type(document, wants)? else { return Ok(None) };
        let payload = self.payload_of(document)?;
        let mut parts = self.parts_of(document, event_type, payload)?;
        let json = Bytes::from_static(b"application/json");
        parts.headers.push((headers::CONTENT_TYPE.to_owned(), json));
        Ok(Some(parts))
    }

    /// What the type is called here, if it is wanted.
    pub(super) fn wanted_type(
        &self,
        document: &Document<'_>,
        wants: impl Fn(&str) -> bool,
    ) -> Result<Option<String>, Unreadable> {
        let place = &self.event_type;
        let said = match Scalar::of(document.at(place)) {
            Scalar::Text(said) => said,
            Scalar::Nothing => self.type_otherwise.clone().ok_or_else(|| missing("type", place))?,
            Scalar::Number(_) => return Err(wrong("type", place, "a number".to_owned(), "a text")),
            Scalar::Other(found) => return Err(wrong("type", place, found.to_owned(), "a text")),
        };
        let here = self.renamed.get(&said).cloned().unwrap_or(said);
        Ok(wants(&here).then_some(here))
    }

    /// The bytes of the payload, as they were sent.
    pub(super) fn payload_of(&self, document: &Document<'_>) -> Result<Bytes, Unreadable> {
        let value = document.at(&self.payload).ok_or_else(|| missing("payload", &self.payload))?;
        Ok(Bytes::copy_from_slice(value.get().as_bytes()))
    }

    /// Everything but the type and the payload.
    pub(super) fn parts_of(
        &self,
        document: &Document<'_>,
        event_type: String,
        payload: Bytes,
    ) -> Result<Parts, Unreadable> {
        let word = |part, place: &Option<Pointer>| match place {
            Some(place) => word(document, part, place),
            None => Ok(None),
        };
        let id = word("id", &self.id)?.filter(|_| !is_planted(Defect::MappedWithoutIds));
        let key = word("key", &self.key)?;
        let all = [
            (headers::ID, id.clone()),
            (headers::TYPE, Some(event_type)),
            (headers::SOURCE, word("source", &self.source)?),
            (headers::TIME, self.time.as_ref().map_or(Ok(None), |place| time(document, place))?),
            (headers::SUBJECT, key.clone()),
            (headers::CORRELATION_ID, word("correlation id", &self.correlation_id)?),
            (headers::CAUSATION_ID, word("causation id", &self.causation_id)?),
        ];
        let place = || self.id.as_ref().map(|place| place.text().to_owned()).unwrap_or_default();
        let id = id.map(|id| EventId::new(&id).map_err(|reason| Unreadable::Id { place: place(), reason }));
        let present = |(name, value): (&str, Option<String>)| Some((name.to_owned(), Bytes::from(value?)));
        Ok(Parts {
            id: id.transpose()?,
            key: key.map(Bytes::from),
            payload,
            headers: all.into_iter().filter_map(present).collect(),
        })
    }
}

/// A text, or a number as it was sent.
fn word(document: &Document<'_>, part: &'static str, place: &Pointer) -> Result<Option<String>, Unreadable> {
    match Scalar::of(document.at(place)) {
        Scalar::Nothing => Ok(None),
        Scalar::Text(text) => Ok(Some(text)),
        Scalar::Number(text) => Ok(Some(text.to_owned())),
        Scalar::Other(found) => Err(wrong(part, place, found.to_owned(), "a text or a number")),
    }
}

/// A time, as RFC 3339.
fn time(document: &Document<'_>, place: &Pointer) -> Result<Option<String>, Unreadable> {
    let expected = "a time of RFC 3339 with its offset, or whole milliseconds since 1970";
    let (found, is_time) = match Scalar::of(document.at(place)) {
        Scalar::Nothing => return Ok(None),
        Scalar::Text(text) => {
            let is_time = text.parse::<jiff::Timestamp>().is_ok();
            (text, is_time)
        }
        Scalar::Number(text) => {
            let since_1970 = text.parse().ok().map(jiff::Timestamp::from_millisecond);
            if let Some(Ok(time)) = since_1970 {
                return Ok(Some(time.to_string()));
            }
            (text.to_owned(), false)
        }
        Scalar::Other(found) => return Err(wrong("time", place, found.to_owned(), expected)),
    };
    if is_time {
        return Ok(Some(found));
    }
    let beginning: String = found.chars().take(SHOWN_CHARS_MAX).collect();
    Err(wrong("time", place, format!("{beginning:?}"), expected))
}

/// Characters of a wrong value that are shown.
const SHOWN_CHARS_MAX: usize = 64;

fn missing(part: &'static str, place: &Pointer) -> Unreadable {
    Unreadable::Missing { part, place: place.text().to_owned() }
}

fn wrong(part: &'static str, place: &Pointer, found: String, expected: &'static str) -> Unreadable {
    Unreadable::Wrong { part, place: place.text().to_owned(), found, expected }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(value: &'static str) -> Event {
        Event {
            offset: 7,
            id: EventId::new("place").expect("legal"),
            key: Some(Bytes::from_static(b"k")),
            value: Some(Bytes::from_static(value.as_bytes())),
            headers: vec![("x".to_owned(), Bytes::from_static(b"y"))],
            timestamp_ms: 5,
        }
    }

    fn mapped(mapping: Mapping, value: &'static str) -> Result<Option<Event>, String> {
        let mappings = Mappings::new([("orders".to_owned(), mapping)]);
        mappings.mapped("orders", &event(value), |_| true).map_err(|error| error.to_string())
    }

    /// Amounts and ids must not go through a number of the machine.
    #[test]
    fn the_payload_keeps_its_bytes() {
        let value = r#"{"eventType":"a","payload": {"b": 1.10, "a": 12345678901234567890123} }"#;
        let event = mapped(Mapping::new(), value).expect("is read").expect("is wanted");
        assert_eq!(event.value.as_deref(), Some(&br#"{"b": 1.10, "a": 12345678901234567890123}"#[..]));
        assert_eq!((event.id.as_str(), event.key.as_deref()), ("place", Some(&b"k"[..])));
        assert_eq!(text(&event.headers, "x"), Some("y"), "what it came with stays");
        assert_eq!(text(&event.headers, headers::ID), None);
    }

    #[test]
    fn parts_become_headers() {
        let value =
            r#"{"t":"A","i":42,"w":1700000000123,"c":{"o":"c-1","a":7},"s":"/shop","k":9,"payload":null}"#;
        let mapping = Mapping::new().event_type("/t").rename("A", "a.b").id("/i").time("/w").source("/s");
        let mapping = mapping.correlation_id("/c/o").causation_id("/c/a").key("/k");
        let event = mapped(mapping, value).expect("is read").expect("is wanted");
        let expected = [
            (headers::TYPE, "a.b"),
            (headers::ID, "42"),
            (headers::TIME, "2023-11-14T22:13:20.123Z"),
            (headers::SOURCE, "/shop"),
            (headers::CORRELATION_ID, "c-1"),
            (headers::CAUSATION_ID, "7"),
            (headers::SUBJECT, "9"),
            (headers::CONTENT_TYPE, "application/json"),
        ];
        for (name, value) in expected {
            assert_eq!(text(&event.headers, name), Some(value), "{name}");
        }
        assert_eq!((event.id.as_str(), event.key.as_deref()), ("42", Some(&b"9"[..])));
        assert_eq!(event.value.as_deref(), Some(&b"null"[..]));
    }

    #[test]
    fn what_cannot_be_read_has_a_reason() {
        let long: &'static str =
            format!(r#"{{"eventType":"a","eventId":"{}","payload":1}}"#, "i".repeat(256)).leak();
        let cases = [
            ("", "is to be a JSON object"),
            (r#"{"payload":1}"#, "no type at \"/eventType\""),
            (r#"{"eventType":1,"payload":1}"#, "its type at \"/eventType\" is a number"),
            (r#"{"eventType":"a"}"#, "no payload at \"/payload\""),
            (r#"{"eventType":"a","eventId":{},"payload":1}"#, "its id at \"/eventId\" is an object"),
            (r#"{"eventType":"a","eventId":"","payload":1}"#, "its id at \"/eventId\" cannot be one"),
            (long, "its id at \"/eventId\" cannot be one"),
            (r#"{"eventType":"a","timestamp":"2026-03-01T12:00:00","payload":1}"#, "with its offset"),
            (r#"{"eventType":"a","timestamp":1.5,"payload":1}"#, "its time at \"/timestamp\" is \"1.5\""),
        ];
        for (value, said) in cases {
            let error = mapped(Mapping::new(), value).expect_err(value);
            assert!(error.contains(said), "{value}: {error}");
        }
        let without = Mapping::new().time_of_record();
        let value = r#"{"eventType":"a","timestamp":"yesterday","payload":1}"#;
        assert!(mapped(without, value).is_ok());
    }

    /// A type that nobody wants is passed, whatever else is wrong with it; what cannot be read is not.
    #[test]
    fn what_is_wanted_is_decided_by_the_type() {
        let mappings = Mappings::new([("orders".to_owned(), Mapping::new())]);
        let is_wanted = |value| mappings.read("orders", event(value), |said| said == "a").is_wanted;
        assert!(is_wanted(r#"{"eventType":"a","payload":1}"#));
        assert!(!is_wanted(r#"{"eventType":"b"}"#));
        assert!(is_wanted(r#"{"eventType":"a"}"#), "it has no payload: a dead letter");
        assert!(is_wanted("no JSON"));
    }

    #[test]
    fn events_that_say_their_type_in_a_header_are_left_alone() {
        let mappings = Mappings::new([("orders".to_owned(), Mapping::new())]);
        let typed = Event {
            headers: vec![(headers::TYPE.to_owned(), Bytes::from_static(b"a"))],
            ..event(r#"{"eventType":"b","payload":1}"#)
        };
        assert_eq!(mappings.read_parked("orders", typed.clone()), typed);
        let other = event(r#"{"eventType":"b","payload":1}"#);
        assert_eq!(mappings.read_parked("bills", other.clone()), other);
        assert!(mappings.refusal("bills", &other).is_none());
        assert_eq!(mappings.read_parked("orders", other).headers[1].0, headers::TYPE);
    }
}
