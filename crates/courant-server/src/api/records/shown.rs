//! A record as JSON. Its texts are the source texts of what was published, so that a number in them keeps
//! every digit; bytes that are no text are base64, and say so.

use std::borrow::Cow;
use std::collections::BTreeMap;

use bytes::Bytes;
use courant_core::base64;
use courant_log::batch::records::Record;
use jiff::Timestamp;
use serde::Serialize;
use serde::de::IgnoredAny;
use serde_json::value::{RawValue, to_raw_value};

use super::cloudevent::{attributes, floor};
use super::read::offset;
use crate::api::limits::{HEADERS_SHOWN_MAX, LISTED_BYTES_ALL, LISTED_BYTES_EACH, RECORD_BYTES_SHOWN};

/// How much of a record is shown.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Room {
    each: usize,
    all: usize,
}

impl Room {
    /// For one record among many.
    pub(crate) const LISTED: Self = Self { each: LISTED_BYTES_EACH, all: LISTED_BYTES_ALL };
    /// For one that is asked for alone.
    pub(crate) const ALONE: Self = Self { each: RECORD_BYTES_SHOWN, all: RECORD_BYTES_SHOWN };

    /// As many of `bytes` as there is room for.
    fn take(&mut self, bytes: usize) -> usize {
        let taken = bytes.min(self.each).min(self.all);
        self.all -= taken;
        taken
    }
}

/// A record in an answer. The names are those of `courant tail -o json`.
#[derive(Debug, Serialize)]
struct Shown<'a> {
    topic: &'a str,
    partition: u32,
    offset: u64,
    /// RFC 3339 in UTC; null when the record has none.
    timestamp: Option<String>,
    key: Option<Cow<'a, str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    key_encoding: Option<&'static str>,
    #[serde(skip_serializing_if = "is_false")]
    key_truncated: bool,
    value: Option<Cow<'a, str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    value_encoding: Option<&'static str>,
    /// `json` when the text of the value is JSON, whether or not all of it is shown.
    #[serde(skip_serializing_if = "Option::is_none")]
    value_format: Option<&'static str>,
    #[serde(skip_serializing_if = "is_false")]
    value_truncated: bool,
    headers: Vec<ShownHeader<'a>>,
    /// Headers that are there and not shown.
    #[serde(skip_serializing_if = "is_none_left")]
    headers_left_out: usize,
    /// Bytes of key, value and headers.
    size: usize,
    /// The attributes of the CloudEvent; null when the record is none.
    cloudevent: Option<BTreeMap<String, String>>,
}

/// A header in an answer: names may repeat, and their order counts.
#[derive(Debug, Serialize)]
struct ShownHeader<'a> {
    key: Cow<'a, str>,
    value: Option<Cow<'a, str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    value_encoding: Option<&'static str>,
    #[serde(skip_serializing_if = "is_false")]
    value_truncated: bool,
}

fn is_false(flag: &bool) -> bool {
    !flag
}

fn is_none_left(count: &usize) -> bool {
    *count == 0
}

/// A key or a value as text, as far as there is room for it.
#[derive(Debug, Default)]
struct Piece<'a> {
    text: Option<Cow<'a, str>>,
    encoding: Option<&'static str>,
    truncated: bool,
}

impl<'a> Piece<'a> {
    fn of(bytes: Option<&'a Bytes>, room: &mut Room) -> Self {
        let Some(bytes) = bytes else { return Self::default() };
        let room = room.take(bytes.len());
        let truncated = room < bytes.len();
        match std::str::from_utf8(bytes) {
            Ok(text) => {
                let text = Some(Cow::Borrowed(&text[..floor(text, room)]));
                Self { text, encoding: None, truncated }
            }
            Err(_) => {
                let text = Some(Cow::Owned(base64::encode(&bytes[..room])));
                Self { text, encoding: Some("base64"), truncated }
            }
        }
    }
}

/// The JSON of a record.
pub(crate) fn shown(
    topic: &str,
    partition: u32,
    record: &Record,
    mut room: Room,
) -> Result<Box<RawValue>, serde_json::Error> {
    let key = Piece::of(record.key.as_ref(), &mut room);
    let value = Piece::of(record.value.as_ref(), &mut room);
    let headers = record.headers.iter().take(HEADERS_SHOWN_MAX);
    let headers: Vec<_> =
        headers.map(|(name, value)| shown_header(name, value.as_ref(), &mut room)).collect();
    to_raw_value(&Shown {
        topic,
        partition,
        offset: offset(record.offset),
        timestamp: rfc3339(record.timestamp),
        key: key.text,
        key_encoding: key.encoding,
        key_truncated: key.truncated,
        value: value.text,
        value_encoding: value.encoding,
        value_format: record.value.as_deref().and_then(format),
        value_truncated: value.truncated,
        headers_left_out: record.headers.len() - headers.len(),
        headers,
        size: size(record),
        cloudevent: attributes(record),
    })
}

fn shown_header<'a>(name: &'a Bytes, value: Option<&'a Bytes>, room: &mut Room) -> ShownHeader<'a> {
    let shown = room.take(name.len());
    let value = Piece::of(value, room);
    ShownHeader {
        key: String::from_utf8_lossy(&name[..shown]),
        value: value.text,
        value_encoding: value.encoding,
        value_truncated: value.truncated,
    }
}

/// Bytes of key, value and headers.
pub(crate) fn size(record: &Record) -> usize {
    let of = |bytes: &Option<Bytes>| bytes.as_ref().map_or(0, Bytes::len);
    let headers: usize = record.headers.iter().map(|(name, value)| name.len() + of(value)).sum();
    of(&record.key) + of(&record.value) + headers
}

fn format(value: &[u8]) -> Option<&'static str> {
    let text = std::str::from_utf8(value).ok()?;
    serde_json::from_str::<IgnoredAny>(text).is_ok().then_some("json")
}

/// RFC 3339 in UTC with milliseconds. `None` when the record has no time that can be written.
pub(crate) fn rfc3339(at_ms: i64) -> Option<String> {
    if at_ms < 0 {
        return None;
    }
    let instant = Timestamp::from_millisecond(at_ms).ok()?;
    Some(format!("{instant:.3}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn record(value: &'static [u8]) -> Record {
        Record {
            offset: 9_007_199_254_740_993,
            timestamp: 1_769_846_400_120,
            key: Some(Bytes::from_static(b"17")),
            value: Some(Bytes::from_static(value)),
            headers: vec![
                (Bytes::from_static(b"h"), Some(Bytes::from_static(b"x"))),
                (Bytes::from_static(b"h"), None),
            ],
        }
    }

    fn parsed(record: &Record, room: Room) -> Value {
        let shown = shown("orders", 2, record, room).expect("JSON");
        serde_json::from_str(shown.get()).expect("JSON")
    }

    #[test]
    fn the_names_are_those_of_the_command_line_and_numbers_keep_their_digits() {
        let shown = shown("orders", 2, &record(b"{\"n\":9007199254740993}"), Room::LISTED).expect("JSON");
        assert_eq!(
            shown.get(),
            concat!(
                r#"{"topic":"orders","partition":2,"offset":9007199254740993,"#,
                r#""timestamp":"2026-01-31T08:00:00.120Z","key":"17","#,
                r#""value":"{\"n\":9007199254740993}","value_format":"json","#,
                r#""headers":[{"key":"h","value":"x"},{"key":"h","value":null}],"size":27,"cloudevent":null}"#
            )
        );
    }

    #[test]
    fn bytes_are_base64_and_text_that_is_no_json_says_nothing() {
        let bytes = parsed(&record(&[0xff, 0x00]), Room::LISTED);
        assert_eq!((&bytes["value"], &bytes["value_encoding"]), (&json!("/wA="), &json!("base64")));
        let quoted = parsed(&record(b"\"\xff\""), Room::LISTED);
        assert_eq!((&quoted["value_encoding"], quoted.get("value_format")), (&json!("base64"), None));
        let text = parsed(&record(b"hello"), Room::LISTED);
        assert_eq!((&text["value"], text.get("value_format")), (&json!("hello"), None));
        let mut tombstone = record(b"");
        tombstone.value = None;
        assert_eq!(parsed(&tombstone, Room::LISTED)["value"], Value::Null);
    }

    #[test]
    fn what_is_long_is_cut_and_says_so() {
        let long = parsed(&record("[\"ä\"]".as_bytes()), Room { each: 3, all: 100 });
        assert_eq!(
            (&long["value"], &long["value_truncated"]),
            (&json!("[\""), &json!(true)),
            "not mid-letter"
        );
        assert_eq!((&long["value_format"], long["size"].as_u64()), (&json!("json"), Some(11)));
        let full = parsed(&record(b"abcdef"), Room { each: 100, all: 4 });
        assert_eq!((&full["key"], &full["value"]), (&json!("17"), &json!("ab")));
        assert_eq!(full["headers"][0]["value_truncated"], json!(true), "no room is left for headers");
    }
}
