//! What a record must be to be found.

use courant_log::batch::records::Record;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::exact::{Pointer, Scalar};
use crate::api::limits::CONDITION_BYTES_MAX;
use crate::api::problem::{BAD_REQUEST, Problem};
use crate::api::records::cloudevent;

/// What is asked for; a record must fit all of it.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Where {
    /// A text somewhere in the value.
    pub(crate) contains: Option<String>,
    /// The key, whole.
    pub(crate) key: Option<String>,
    pub(crate) header: Option<WhereHeader>,
    pub(crate) json: Option<WhereJson>,
    /// The type of the CloudEvent.
    pub(crate) r#type: Option<String>,
}

/// A header with a value.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct WhereHeader {
    name: String,
    value: String,
}

/// A place in a value that is JSON, and what stands there.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct WhereJson {
    pointer: String,
    equals: Box<RawValue>,
}

/// A condition that was understood.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Condition {
    contains: Option<String>,
    key: Option<String>,
    header: Option<(String, String)>,
    json: Option<(Pointer, Scalar)>,
    event_type: Option<String>,
}

impl Condition {
    /// Understands what is asked for. Nothing at all is a condition that every record fits.
    pub(crate) fn of(wanted: Where) -> Result<Self, Problem> {
        let Where { contains, key, header, json, r#type: event_type } = wanted;
        let json = match json {
            Some(json) => Some(compared(&json)?),
            None => None,
        };
        let header = header.map(|header| (header.name, header.value));
        let texts = [&contains, &key, &event_type].into_iter().flatten();
        let mut texts = texts.chain(header.iter().flat_map(|(name, value)| [name, value]));
        let long = texts.any(|text| text.len() > CONDITION_BYTES_MAX);
        drop(texts);
        if long {
            return Err(too_long());
        }
        if contains.as_deref() == Some("") {
            return Err(Problem::new(&BAD_REQUEST, "contains is empty; leave it out to find every record"));
        }
        Ok(Self { contains, key, header, json, event_type })
    }

    /// Whether every record fits.
    pub(crate) fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Whether a record fits. What costs least is compared first.
    pub(crate) fn fits(&self, record: &Record) -> bool {
        let value = record.value.as_deref();
        let is_key = |key: &String| record.key.as_deref() == Some(key.as_bytes());
        let is_type = |wanted: &String| cloudevent::is(record, "type", wanted);
        let has_header = |(name, wanted): &(String, String)| {
            let mut headers = record.headers.iter();
            headers.any(|(met, value)| met == name.as_bytes() && value.as_deref() == Some(wanted.as_bytes()))
        };
        let has_text = |text: &String| value.is_some_and(|value| contains(value, text));
        let has_json = |(pointer, wanted): &(Pointer, Scalar)| {
            let found = value.and_then(|value| pointer.find(value)).and_then(Scalar::of);
            found.as_ref() == Some(wanted)
        };
        self.key.as_ref().is_none_or(is_key)
            && self.event_type.as_ref().is_none_or(is_type)
            && self.header.as_ref().is_none_or(has_header)
            && self.contains.as_ref().is_none_or(has_text)
            && self.json.as_ref().is_none_or(has_json)
    }
}

fn compared(json: &WhereJson) -> Result<(Pointer, Scalar), Problem> {
    if json.pointer.len() > CONDITION_BYTES_MAX || json.equals.get().len() > CONDITION_BYTES_MAX {
        return Err(too_long());
    }
    let pointer = Pointer::parse(&json.pointer).ok_or_else(|| {
        let sentence = "json.pointer is no JSON pointer; write for example /order/id (RFC 6901)";
        Problem::new(&BAD_REQUEST, sentence)
    })?;
    let scalar = Scalar::of(&json.equals).ok_or_else(|| {
        let sentence = "json.equals must be a text, a number, true, false or null";
        Problem::new(&BAD_REQUEST, sentence)
    })?;
    Ok((pointer, scalar))
}

fn too_long() -> Problem {
    let sentence = format!("what records are compared with has at most {CONDITION_BYTES_MAX} bytes each");
    Problem::new(&BAD_REQUEST, sentence)
}

/// Whether a value has a text in it; a value that is no text may have one too.
fn contains(value: &[u8], text: &str) -> bool {
    match std::str::from_utf8(value) {
        Ok(value) => value.contains(text),
        Err(_) => value.windows(text.len().max(1)).any(|window| window == text.as_bytes()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;

    fn condition(json: &str) -> Result<Condition, Problem> {
        Condition::of(serde_json::from_str(json).expect("a condition"))
    }

    fn fits(json: &str, value: &'static [u8]) -> bool {
        let header = |name: &'static str, value: &'static str| (Bytes::from(name), Some(Bytes::from(value)));
        let record = Record {
            offset: 1,
            timestamp: 0,
            key: Some(Bytes::from_static(b"k")),
            value: Some(Bytes::from_static(value)),
            headers: vec![header("ce_type", "orders.placed"), header("h", "1"), header("h", "2")],
        };
        condition(json).expect("understood").fits(&record)
    }

    #[test]
    fn each_condition_is_looked_at() {
        let value = br#"{"n":9007199254740993}"#;
        for yes in [
            "{}",
            r#"{"key":"k"}"#,
            r#"{"type":"orders.placed"}"#,
            r#"{"header":{"name":"h","value":"2"}}"#,
            r#"{"contains":"4740993"}"#,
            r#"{"json":{"pointer":"/n","equals":9007199254740993}}"#,
        ] {
            assert!(fits(yes, value), "{yes}");
        }
        for no in [
            r#"{"key":"K"}"#,
            r#"{"type":"orders"}"#,
            r#"{"header":{"name":"h","value":"3"}}"#,
            r#"{"contains":"4740992"}"#,
            r#"{"json":{"pointer":"/n","equals":9007199254740992}}"#,
            r#"{"json":{"pointer":"/m","equals":null}}"#,
            r#"{"key":"k","contains":"no"}"#,
        ] {
            assert!(!fits(no, value), "{no}");
        }
        assert!(fits(r#"{"contains":"text"}"#, b"\xfftext\xff"), "also in bytes");
    }

    #[test]
    fn what_cannot_be_compared_is_refused() {
        for bad in [
            r#"{"contains":""}"#.to_owned(),
            r#"{"json":{"pointer":"n","equals":1}}"#.to_owned(),
            r#"{"json":{"pointer":"/n","equals":[1]}}"#.to_owned(),
            format!(r#"{{"key":"{}"}}"#, "k".repeat(CONDITION_BYTES_MAX + 1)),
        ] {
            assert!(condition(&bad).is_err(), "{bad}");
        }
        assert!(condition("{}").expect("nothing").is_empty());
        assert!(serde_json::from_str::<Where>(r#"{"keys":"k"}"#).is_err(), "a misspelt one is not ignored");
    }
}
