//! The CloudEvents attributes of a record: from its headers in the binary mode of the Kafka binding, from
//! its value in the structured one.

use std::collections::BTreeMap;

use courant_core::headers::CONTENT_TYPE;
use courant_log::batch::records::Record;
use serde_json::value::RawValue;

use crate::api::limits::{
    ATTRIBUTE_BYTES_SHOWN, ATTRIBUTE_NAME_BYTES_MAX, ATTRIBUTES_SHOWN_MAX, EVENT_MEMBERS_MAX,
};
use crate::api::source::{member, members};

/// What stands before an attribute's name in the headers of a record.
pub(crate) const PREFIX: &str = "ce_";

/// The content type of the structured mode.
pub(crate) const STRUCTURED: &str = "application/cloudevents";

/// Attributes without which an event is none.
pub(crate) const REQUIRED: [&str; 4] = ["id", "source", "specversion", "type"];

/// Members of the structured mode that are no attributes.
pub(crate) const DATA: &str = "data";
pub(crate) const DATA_BASE64: &str = "data_base64";

/// The value of a record's first header of that name, as text.
pub(crate) fn header<'a>(record: &'a Record, name: &str) -> Option<&'a str> {
    let found = record.headers.iter().find(|(met, _)| met == name.as_bytes())?;
    std::str::from_utf8(found.1.as_deref()?).ok()
}

/// The value of one attribute in the binary mode.
fn binary<'a>(record: &'a Record, attribute: &str) -> Option<&'a str> {
    let is_it = |name: &[u8]| name.strip_prefix(PREFIX.as_bytes()) == Some(attribute.as_bytes());
    let found = record.headers.iter().find(|(name, _)| is_it(name))?;
    std::str::from_utf8(found.1.as_deref()?).ok()
}

/// Whether the attributes stand in the value.
pub(crate) fn is_structured(record: &Record) -> bool {
    let kind = header(record, CONTENT_TYPE).unwrap_or_default();
    kind.get(..STRUCTURED.len()).is_some_and(|begin| begin.eq_ignore_ascii_case(STRUCTURED))
}

/// Whether an attribute, such as `id` or `type`, is that text.
pub(crate) fn is(record: &Record, name: &str, wanted: &str) -> bool {
    if !is_structured(record) {
        return binary(record, name) == Some(wanted);
    }
    let value = record.value.as_deref().and_then(|value| std::str::from_utf8(value).ok());
    value.and_then(|value| member(value, name)).and_then(text).as_deref() == Some(wanted)
}

/// All attributes, if the record is a CloudEvent. Long values are cut, and so is a long list; what has a
/// longer name than an attribute may have is none.
pub(crate) fn attributes(record: &Record) -> Option<BTreeMap<String, String>> {
    let mut found = if is_structured(record) { structured(record)? } else { of_headers(record) };
    if !REQUIRED.iter().all(|name| found.contains_key(*name)) {
        return None;
    }
    found.retain(|name, _| name.len() <= ATTRIBUTE_NAME_BYTES_MAX);
    let is_required = |name: &String| REQUIRED.contains(&name.as_str());
    let mut left = ATTRIBUTES_SHOWN_MAX;
    found.retain(|name, value| {
        let kept = floor(value, ATTRIBUTE_BYTES_SHOWN);
        value.truncate(kept);
        left = left.saturating_sub(1);
        left > 0 || is_required(name)
    });
    Some(found)
}

fn of_headers(record: &Record) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    for (name, value) in &record.headers {
        let name = std::str::from_utf8(name).ok().and_then(|name| name.strip_prefix(PREFIX));
        let value = value.as_deref().and_then(|value| std::str::from_utf8(value).ok());
        if let (Some(name), Some(value)) = (name, value) {
            found.entry(name.to_owned()).or_insert_with(|| value.to_owned());
        }
    }
    if let Some(kind) = header(record, CONTENT_TYPE) {
        found.insert("datacontenttype".to_owned(), kind.to_owned());
    }
    found
}

/// All attributes of the structured mode, as long as they are.
pub(crate) fn structured(record: &Record) -> Option<BTreeMap<String, String>> {
    let members = members(record.value.as_deref()?, EVENT_MEMBERS_MAX).ok()?.by_name.into_iter();
    let attributes = members.filter(|(name, _)| name != DATA && name != DATA_BASE64);
    Some(attributes.filter_map(|(name, value)| Some((name, text(value)?))).collect())
}

/// A text, a number or a truth as text. An attribute is nothing else.
pub(crate) fn text(value: &RawValue) -> Option<String> {
    let source = value.get();
    match source.as_bytes().first()? {
        b'"' => serde_json::from_str(source).ok(),
        b'{' | b'[' | b'n' => None,
        _ => Some(source.to_owned()),
    }
}

/// The greatest place up to `index` where a text may be cut.
pub(crate) fn floor(text: &str, index: usize) -> usize {
    if index >= text.len() {
        return text.len();
    }
    (0..=index).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0)
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
            offset: 0,
            timestamp: 0,
            key: None,
            value: Some(Bytes::copy_from_slice(value.as_bytes())),
            headers: headers.iter().map(header).collect(),
        }
    }

    const EVENT: [(&str, &str); 4] =
        [("ce_id", "1"), ("ce_source", "/s"), ("ce_specversion", "1.0"), ("ce_type", "t")];

    #[test]
    fn headers_make_an_event_when_all_that_is_required_is_there() {
        let found = attributes(&record(&[&EVENT[..], &[("content-type", "a/b"), ("x", "y")]].concat(), ""));
        let found = found.expect("an event");
        let names: Vec<_> = found.keys().map(String::as_str).collect();
        assert_eq!(names, ["datacontenttype", "id", "source", "specversion", "type"]);
        assert!(is(&record(&EVENT, ""), "type", "t") && !is(&record(&EVENT, ""), "type", "u"));
        assert_eq!(attributes(&record(&EVENT[1..], "")), None);
        assert_eq!(attributes(&record(&[], "{}")), None);
    }

    #[test]
    fn a_structured_event_tells_of_itself_in_its_value() {
        let value = r#"{"id":"9","source":"/s","specversion":"1.0","type":"t","sampledrate":2147483647,
            "subject":null,"data":{"id":"no"}}"#;
        let event = record(&[("content-type", "Application/CloudEvents+json; charset=utf-8")], value);
        assert!(is(&event, "id", "9") && !is(&event, "id", "no") && !is(&event, "other", "9"));
        let found = attributes(&event).expect("an event");
        assert_eq!(found.get("sampledrate").map(String::as_str), Some("2147483647"));
        assert!(!found.contains_key("data") && !found.contains_key("subject"));
    }

    #[test]
    fn long_attributes_are_cut_between_letters() {
        let long = "ä".repeat(ATTRIBUTE_BYTES_SHOWN);
        let found =
            attributes(&record(&[&EVENT[..], &[("ce_subject", long.as_str())]].concat(), "")).expect("one");
        assert_eq!(found["subject"], "ä".repeat(ATTRIBUTE_BYTES_SHOWN / 2));
        let named = format!("ce_{}", "n".repeat(ATTRIBUTE_NAME_BYTES_MAX + 1));
        let found = attributes(&record(&[&EVENT[..], &[(named.as_str(), "x")]].concat(), "")).expect("one");
        assert_eq!(found.len(), EVENT.len(), "so long a name is none of an attribute");
        assert_eq!((floor("aä", 2), floor("aä", 3), floor("", 5)), (1, 3, 0));
    }
}
