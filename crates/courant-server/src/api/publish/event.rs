//! A CloudEvent on its way into a topic: its attributes as headers, its partition key as the key.

use std::collections::BTreeMap;

use bytes::Bytes;
use courant_core::event_id::EventId;
use courant_core::headers::{CONTENT_TYPE, SPECVERSION_VALUE};
use courant_log::batch::records::NewRecord;
use jiff::Timestamp;

use crate::api::limits::{ATTRIBUTE_BYTES_MAX, ATTRIBUTE_NAME_BYTES_MAX, ATTRIBUTES_MAX};
use crate::api::records::cloudevent::{DATA, DATA_BASE64, PREFIX, REQUIRED};

/// The attribute that says what the data's bytes are. On the Kafka wire it is a header of its own.
pub(super) const DATA_CONTENT_TYPE: &str = "datacontenttype";

/// The extension attribute that becomes the key.
const PARTITION_KEY: &str = "partitionkey";

/// Attributes by name.
pub(super) type Attributes = BTreeMap<String, String>;

/// An event, or a plain record, to be stored.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct NewEvent {
    /// The id of an event; a plain record has none.
    pub(super) id: Option<String>,
    pub(super) record: NewRecord,
}

/// Why an event is not one that can be stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Mistake {
    /// The event's id, if it has one.
    pub(super) id: Option<String>,
    pub(super) detail: String,
}

impl NewEvent {
    /// An event with these attributes and this data. Without a partition key it has `key`.
    pub(super) fn of(
        attributes: Attributes,
        value: Option<Bytes>,
        key: Option<&str>,
    ) -> Result<Self, Mistake> {
        let id = attributes.get("id").filter(|id| EventId::new(id).is_ok()).cloned();
        if let Err(detail) = check(&attributes) {
            return Err(Mistake { id, detail });
        }
        let key = attributes.get(PARTITION_KEY).map(String::as_str).or(key);
        let key = key.map(|key| Bytes::copy_from_slice(key.as_bytes()));
        let header = |(name, value): (String, String)| {
            let is_content_type = name == DATA_CONTENT_TYPE;
            let name = if is_content_type { CONTENT_TYPE.to_owned() } else { format!("{PREFIX}{name}") };
            (Bytes::from(name), Some(Bytes::from(value)))
        };
        let headers = attributes.into_iter().map(header).collect();
        Ok(Self { id, record: NewRecord { key, value, headers, ..NewRecord::default() } })
    }

    /// A record that is no event.
    pub(super) fn plain(content_type: &str, value: Bytes, key: Option<&str>) -> Self {
        let content_type = Bytes::copy_from_slice(content_type.as_bytes());
        let headers = vec![(Bytes::from_static(CONTENT_TYPE.as_bytes()), Some(content_type))];
        let key = key.map(|key| Bytes::copy_from_slice(key.as_bytes()));
        Self { id: None, record: NewRecord { key, value: Some(value), headers, ..NewRecord::default() } }
    }
}

/// The rules of CloudEvents 1.0 for attributes, and our bounds.
fn check(attributes: &Attributes) -> Result<(), String> {
    for name in REQUIRED {
        if !attributes.contains_key(name) {
            return Err(format!("the attribute `{name}` is missing"));
        }
    }
    if attributes.len() > ATTRIBUTES_MAX {
        return Err(format!("it has {} attributes; at most {ATTRIBUTES_MAX} are taken", attributes.len()));
    }
    for (name, value) in attributes {
        check_name(name)?;
        if value.is_empty() {
            return Err(format!("the attribute `{name}` is empty; leave it out"));
        }
        if value.len() > ATTRIBUTE_BYTES_MAX {
            return Err(format!("the attribute `{name}` has more than {ATTRIBUTE_BYTES_MAX} bytes"));
        }
        if value.contains(char::is_control) {
            return Err(format!("the attribute `{name}` has control characters"));
        }
    }
    let of = |name: &str| attributes.get(name).map(String::as_str).unwrap_or_default();
    if of("specversion") != SPECVERSION_VALUE {
        return Err(format!("`specversion` is {:?}; {SPECVERSION_VALUE:?} is understood", of("specversion")));
    }
    EventId::new(of("id")).map_err(|error| error.to_string())?;
    match attributes.get("time") {
        Some(time) if !is_in_form(time) || time.parse::<Timestamp>().is_err() => {
            Err(format!("`time` is {time:?}; write RFC 3339, as in 2026-01-31T08:00:00Z"))
        }
        _ => Ok(()),
    }
}

/// Whether a time is written as RFC 3339 says (section 5.6). The parser of times takes more: a date without an hour, an
/// offset without minutes, names of zones. Other readers of CloudEvents would refuse the whole event then.
fn is_in_form(time: &str) -> bool {
    const BEGIN: &[u8] = b"0000-00-00T00:00:00";
    let is_of = |text: &[u8], form: &[u8]| {
        let fits = |(found, wanted): (&u8, &u8)| match wanted {
            b'0' => found.is_ascii_digit(),
            letter => found.eq_ignore_ascii_case(letter),
        };
        text.len() == form.len() && text.iter().zip(form).all(fits)
    };
    let Some((begin, rest)) = time.as_bytes().split_at_checked(BEGIN.len()) else { return false };
    let offset = match rest.strip_prefix(b".") {
        None => rest,
        Some(rest) => match rest.iter().take_while(|byte| byte.is_ascii_digit()).count() {
            0 => return false,
            digits => &rest[digits..],
        },
    };
    is_of(begin, BEGIN) && [&b"Z"[..], b"+00:00", b"-00:00"].into_iter().any(|form| is_of(offset, form))
}

fn check_name(name: &str) -> Result<(), String> {
    let is_legal = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    if !(1..=ATTRIBUTE_NAME_BYTES_MAX).contains(&name.len()) {
        return Err(format!("an attribute's name has 1 to {ATTRIBUTE_NAME_BYTES_MAX} letters"));
    }
    if !name.bytes().all(is_legal) || [DATA, DATA_BASE64].contains(&name) {
        return Err(format!("{name:?} cannot be an attribute's name; it has the letters a-z and digits"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn attributes(more: &[(&str, &str)]) -> Attributes {
        let required = [("id", "1"), ("source", "/s"), ("specversion", "1.0"), ("type", "t")];
        let pairs = required.iter().chain(more);
        pairs.map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    fn mistake(more: &[(&str, &str)]) -> String {
        NewEvent::of(attributes(more), None, None).expect_err("a mistake").detail
    }

    #[test]
    fn attributes_are_headers_and_the_partition_key_is_the_key() {
        let more = [("partitionkey", "k"), ("datacontenttype", "a/b"), ("time", "2026-01-31T08:00:00+01:00")];
        let event = NewEvent::of(attributes(&more), None, Some("other")).expect("an event");
        assert_eq!((event.id.as_deref(), event.record.key.as_deref()), (Some("1"), Some(&b"k"[..])));
        let names: Vec<_> = event.record.headers.iter().map(|(name, _)| &name[..]).collect();
        let expected: [&[u8]; 7] = [
            b"content-type",
            b"ce_id",
            b"ce_partitionkey",
            b"ce_source",
            b"ce_specversion",
            b"ce_time",
            b"ce_type",
        ];
        assert_eq!(names, expected);
        let keyed = NewEvent::of(attributes(&[]), None, Some("other")).expect("an event");
        assert_eq!(keyed.record.key.as_deref(), Some(&b"other"[..]));
    }

    /// Symptom: events with times that are none in RFC 3339 were stored, and readers that are strict about them could
    /// not read the events. Cause: the parser takes other forms of ISO 8601 as well. Fix: the form is compared first.
    #[test]
    fn a_time_is_one_of_rfc_3339() {
        let with = |time: &str| NewEvent::of(attributes(&[("time", time)]), None, None);
        for time in [
            "2026-01-31T08:00:00Z",
            "2026-01-31t08:00:00z",
            "2026-01-31T08:00:00.123456789Z",
            "2026-01-31T08:00:00.5-08:30",
            "2026-01-31T08:00:00+01:00",
        ] {
            with(time).expect(time);
        }
        for time in [
            "2026-01-31T08:00:00Z[UTC]",
            "20260131T080000Z",
            "2026-01-31 08:00:00Z",
            "2026-01-31T08Z",
            "2026-01-31T08:00:00,5Z",
            "2026-01-31T08:00:00.Z",
            "2026-01-31T08:00:00+01",
            "2026-01-31T08:00:00",
            "2026-01-31T08:00:00ä",
            "2026-02-31T08:00:00Z",
            "2026-01-31",
        ] {
            assert!(with(time).expect_err(time).detail.contains("RFC 3339"), "{time}");
        }
    }

    #[test]
    fn mistakes_are_named() {
        let mut without = attributes(&[]);
        without.remove("type");
        let missing = NewEvent::of(without, None, None).expect_err("a mistake");
        assert_eq!(
            (missing.id.as_deref(), missing.detail.as_str()),
            (Some("1"), "the attribute `type` is missing")
        );
        assert!(mistake(&[("specversion", "0.3")]).contains("specversion"));
        assert!(mistake(&[("id", "i".repeat(256).as_str())]).contains("256"));
        assert!(mistake(&[("time", "yesterday")]).contains("RFC 3339"));
        assert!(mistake(&[("subject", "")]).contains("empty"));
        assert!(mistake(&[("subject", "a\nb")]).contains("control"));
        for name in ["Ab", "a_b", "a-b", "data", "", "ä"] {
            assert!(mistake(&[(name, "x")]).contains("name"), "{name}");
        }
    }
}
