//! The content modes of the CloudEvents HTTP binding: binary, structured and batched; and a plain record.
//!
//! Numbers in a payload are kept as they stand in the body, digit by digit.

use axum::http::{HeaderMap, HeaderValue, header};
use bytes::Bytes;
use courant_core::base64;
use courant_core::headers::{TRACEPARENT, TRACESTATE};
use serde::de::IgnoredAny;
use serde_json::value::RawValue;

use super::event::{Attributes, DATA_CONTENT_TYPE, Mistake, NewEvent};
use crate::api::asked::percent_decoded;
use crate::api::limits::{EVENT_MEMBERS_MAX, EVENTS_PER_BATCH_MAX};
use crate::api::problem::{BAD_CONTENT_TYPE, BAD_REQUEST, Problem};
use crate::api::records::cloudevent::{DATA, DATA_BASE64, STRUCTURED, text};
use crate::api::source::{Elements, Members, elements, members};

/// What stands before an attribute's name in the headers of a request.
const PREFIX: &str = "ce-";

pub(super) const STRUCTURED_JSON: &str = "application/cloudevents+json";
pub(super) const BATCH_JSON: &str = "application/cloudevents-batch+json";
pub(super) const JSON: &str = "application/json";

/// Bytes of a trace header that are passed on; a `tracestate` has at most 512 (W3C Trace Context).
const TRACE_BYTES_MAX: usize = 512;

/// The events of a request, each of them or what is wrong with it.
pub(super) fn events(
    headers: &HeaderMap,
    body: &Bytes,
    key: Option<&str>,
) -> Result<Vec<Result<NewEvent, Mistake>>, Problem> {
    let content_type = headers.get(header::CONTENT_TYPE);
    let content_type = content_type.map(|value| value.to_str().unwrap_or_default());
    let media_type = media_type(content_type.unwrap_or_default());
    let mut events = match media_type.as_str() {
        BATCH_JSON => batch(body, key)?,
        STRUCTURED_JSON => {
            let json = serde_json::from_slice(body).map_err(|error| not_json(&error))?;
            vec![structured(json, key)]
        }
        other if other.starts_with(STRUCTURED) => {
            let sentence = format!("{other} is not understood; send {STRUCTURED_JSON} or {BATCH_JSON}");
            return Err(Problem::new(&BAD_CONTENT_TYPE, sentence));
        }
        _ if headers.keys().any(|name| name.as_str().starts_with(PREFIX)) => {
            vec![binary(headers, content_type, body, key)]
        }
        JSON => {
            // What is passed over in a slice is not looked at for being text.
            let text = std::str::from_utf8(body).map_err(|error| {
                Problem::new(&BAD_REQUEST, format!("the body is no JSON, because it is no UTF-8: {error}"))
            })?;
            serde_json::from_str::<IgnoredAny>(text).map_err(|error| not_json(&error))?;
            vec![Ok(NewEvent::plain(content_type.unwrap_or(JSON), body.clone(), key))]
        }
        _ => {
            let sentence = format!(
                "send {STRUCTURED_JSON}, {BATCH_JSON}, {JSON} for a plain record, or anything with the \
                 attributes of a CloudEvent as headers: ce-id, ce-source, ce-specversion, ce-type"
            );
            return Err(Problem::new(&BAD_CONTENT_TYPE, sentence));
        }
    };
    let traces = traces(headers);
    for event in events.iter_mut().flatten() {
        event.record.headers.extend(traces.iter().cloned());
    }
    Ok(events)
}

fn not_json(error: &serde_json::Error) -> Problem {
    Problem::new(&BAD_REQUEST, format!("the body is not the JSON that its type says: {error}"))
}

/// What stands before the parameters, in small letters.
fn media_type(content_type: &str) -> String {
    content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase()
}

fn batch(body: &Bytes, key: Option<&str>) -> Result<Vec<Result<NewEvent, Mistake>>, Problem> {
    let Elements { first, count } = elements(body, EVENTS_PER_BATCH_MAX).map_err(|error| not_json(&error))?;
    if count > first.len() {
        let sentence = format!("the batch has {count} events; send at most {EVENTS_PER_BATCH_MAX}");
        return Err(Problem::new(&BAD_REQUEST, sentence));
    }
    Ok(first.into_iter().map(|event| structured(event, key)).collect())
}

/// An event of the structured mode: the JSON format of CloudEvents.
fn structured(event: &RawValue, key: Option<&str>) -> Result<NewEvent, Mistake> {
    let nameless = |detail: String| Mistake { id: None, detail };
    let Members { by_name: mut members, count } = members(event.get().as_bytes(), EVENT_MEMBERS_MAX)
        .map_err(|error| nameless(format!("an event is an object: {error}")))?;
    if count > EVENT_MEMBERS_MAX {
        let id = members.remove("id").and_then(text);
        let detail = format!("it has {count} members; at most {EVENT_MEMBERS_MAX} are taken");
        return Err(Mistake { id, detail });
    }
    let (data, encoded) = (members.remove(DATA), members.remove(DATA_BASE64));
    let mut attributes = Attributes::new();
    for (name, value) in members {
        match text(value) {
            Some(value) => drop(attributes.insert(name, value)),
            // As if it were not there.
            None if value.get() == "null" => {}
            None => {
                let id = attributes.remove("id");
                let detail = format!("the attribute `{name}` is neither a text nor a number nor a truth");
                return Err(Mistake { id, detail });
            }
        }
    }
    match payload(&mut attributes, data, encoded) {
        Ok(value) => NewEvent::of(attributes, value, key),
        Err(detail) => Err(Mistake { id: attributes.remove("id"), detail }),
    }
}

/// The bytes of an event's data.
fn payload(
    attributes: &mut Attributes,
    data: Option<&RawValue>,
    encoded: Option<&RawValue>,
) -> Result<Option<Bytes>, String> {
    let is_there = |value: &&RawValue| value.get() != "null";
    match (data.filter(is_there), encoded.filter(is_there)) {
        (None, None) => Ok(None),
        (Some(_), Some(_)) => Err(format!("it has `{DATA}` and `{DATA_BASE64}`; send one of them")),
        (None, Some(encoded)) => {
            let text: Option<String> = serde_json::from_str(encoded.get()).ok();
            let bytes = text.and_then(|text| base64::decode(&text));
            bytes.map(|bytes| Some(bytes.into())).ok_or_else(|| format!("`{DATA_BASE64}` is not base64"))
        }
        (Some(data), None) => {
            let content_type =
                attributes.entry(DATA_CONTENT_TYPE.to_owned()).or_insert_with(|| JSON.to_owned());
            let source = data.get();
            // Text that is said to be no JSON is the text, and not JSON that stands for it.
            if !is_json(content_type) && source.starts_with('"') {
                let text: String = serde_json::from_str(source).map_err(|error| error.to_string())?;
                return Ok(Some(text.into()));
            }
            Ok(Some(Bytes::copy_from_slice(source.as_bytes())))
        }
    }
}

fn is_json(content_type: &str) -> bool {
    let media_type = media_type(content_type);
    media_type.ends_with("/json") || media_type.ends_with("+json")
}

/// An event of the binary mode: its attributes are headers, and the body is its data.
fn binary(
    headers: &HeaderMap,
    content_type: Option<&str>,
    body: &Bytes,
    key: Option<&str>,
) -> Result<NewEvent, Mistake> {
    let mut attributes = Attributes::new();
    for (name, value) in headers {
        let Some(name) = name.as_str().strip_prefix(PREFIX) else { continue };
        let problem = match decoded(value) {
            None => "no text",
            Some(value) => match attributes.insert(name.to_owned(), value) {
                None => continue,
                Some(_) => "given twice",
            },
        };
        return Err(Mistake { id: None, detail: format!("the header {PREFIX}{name} is {problem}") });
    }
    if attributes.contains_key(DATA_CONTENT_TYPE) {
        let detail = format!("Content-Type says what {PREFIX}{DATA_CONTENT_TYPE} would; leave that out");
        return Err(Mistake { id: attributes.remove("id"), detail });
    }
    if let Some(content_type) = content_type.filter(|content_type| !content_type.is_empty()) {
        attributes.insert(DATA_CONTENT_TYPE.to_owned(), content_type.to_owned());
    }
    let value = (!body.is_empty()).then(|| body.clone());
    NewEvent::of(attributes, value, key)
}

/// The text that a header stands for: quotes are taken off, and percent-encoding is undone once (section
/// 3.1.3.2 of the binding).
fn decoded(value: &HeaderValue) -> Option<String> {
    String::from_utf8(percent_decoded(&unquoted(value.as_bytes()))).ok()
}

/// A quoted string (RFC 9110, section 5.6.4) without its quotes, or the bytes as they are.
fn unquoted(bytes: &[u8]) -> Vec<u8> {
    let [b'"', inner @ .., b'"'] = bytes else { return bytes.to_vec() };
    let mut plain = Vec::with_capacity(inner.len());
    let mut letters = inner.iter();
    while let Some(letter) = letters.next() {
        let is_escape = *letter == b'\\';
        plain.push(if is_escape { *letters.next().unwrap_or(letter) } else { *letter });
    }
    plain
}

/// The W3C trace context of the request, which what it sets off belongs to.
fn traces(headers: &HeaderMap) -> Vec<(Bytes, Option<Bytes>)> {
    let found = [TRACEPARENT, TRACESTATE].into_iter().filter_map(|name| {
        let value = headers.get(name)?.to_str().ok().filter(|value| value.len() <= TRACE_BYTES_MAX)?;
        Some((Bytes::from_static(name.as_bytes()), Some(Bytes::copy_from_slice(value.as_bytes()))))
    });
    found.collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::HeaderName;

    fn headers(lines: &[(&str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            let name: HeaderName = name.parse().expect("a header's name");
            headers.append(name, value.parse().expect("a header's value"));
        }
        headers
    }

    #[track_caller]
    fn one(lines: &[(&str, &str)], body: &'static str) -> Result<NewEvent, Mistake> {
        let events = events(&headers(lines), &Bytes::from_static(body.as_bytes()), None).expect("understood");
        let [event] = <[_; 1]>::try_from(events).expect("one event");
        event
    }

    fn value(event: &NewEvent) -> Option<&str> {
        event.record.value.as_deref().map(|value| std::str::from_utf8(value).expect("a text"))
    }

    fn header_of<'a>(event: &'a NewEvent, name: &str) -> Option<&'a str> {
        let found = event.record.headers.iter().find(|(met, _)| met == name.as_bytes())?;
        found.1.as_deref().map(|value| std::str::from_utf8(value).expect("a text"))
    }

    const TYPE: (&str, &str) = ("content-type", STRUCTURED_JSON);

    const BINARY: [(&str, &str); 4] =
        [("ce-id", "1"), ("ce-source", "/s"), ("ce-specversion", "1.0"), ("ce-type", "t")];

    #[test]
    fn data_is_kept_digit_by_digit() {
        let body =
            r#"{"id":"1","source":"/s","specversion":"1.0","type":"t","data":{"n": 9007199254740993}}"#;
        let event = one(&[TYPE], body).expect("an event");
        assert_eq!(value(&event), Some(r#"{"n": 9007199254740993}"#));
        assert_eq!(header_of(&event, "content-type"), Some("application/json"));
    }

    #[test]
    fn text_bytes_and_nothing_are_told_apart() {
        let of = |rest: &str| {
            let body = format!(r#"{{"id":"1","source":"/s","specversion":"1.0","type":"t"{rest}}}"#);
            one(&[TYPE], body.leak())
        };
        let text = of(r#","datacontenttype":"text/plain","data":"a\"b""#).expect("an event");
        assert_eq!(value(&text), Some("a\"b"));
        let json = of(r#","datacontenttype":"application/x+json","data":"a""#).expect("an event");
        assert_eq!(value(&json), Some("\"a\""));
        let bytes = of(r#","data_base64":"Zm9v","subject":null,"rate":5"#).expect("an event");
        assert_eq!((value(&bytes), header_of(&bytes, "ce_rate")), (Some("foo"), Some("5")));
        assert_eq!(header_of(&bytes, "ce_subject"), None);
        assert_eq!(value(&of(r#","data":null"#).expect("an event")), None);
        assert!(of(r#","data":1,"data_base64":"Zm9v""#).is_err());
        assert!(of(r#","data_base64":"Zm9""#).is_err());
        let object = of(r#","subject":{}"#).expect_err("no attribute is an object");
        assert_eq!(object.id.as_deref(), Some("1"), "it is named");
    }

    #[test]
    fn a_batch_has_events_and_their_mistakes_in_order() {
        let body = br#"[{"id":"1","source":"/s","specversion":"1.0","type":"t"},{"id":"2"},7]"#;
        let found = events(&headers(&[("content-type", BATCH_JSON)]), &Bytes::from_static(body), Some("k"));
        let found = found.expect("understood");
        assert_eq!(found.iter().map(Result::is_ok).collect::<Vec<_>>(), [true, false, false]);
        let id = found[1].as_ref().expect_err("a mistake").id.clone();
        assert_eq!(id.as_deref(), Some("2"));
    }

    #[test]
    fn too_many_events_or_members_are_counted_and_not_kept() {
        let of = |body: String| events(&headers(&[("content-type", BATCH_JSON)]), &Bytes::from(body), None);
        let many = format!("[{}1]", "1,".repeat(EVENTS_PER_BATCH_MAX));
        let refused = of(many).expect_err("too many");
        assert!(refused.detail.contains("10001 events"), "{}", refused.detail);
        let members: String = (0..EVENT_MEMBERS_MAX).map(|number| format!(",\"a{number}\":null")).collect();
        let found = of(format!("[{{\"id\":\"7\"{members}}}]")).expect("understood");
        let mistake = found[0].as_ref().expect_err("too many");
        assert_eq!(mistake.id.as_deref(), Some("7"));
        assert!(mistake.detail.contains("257 members"), "{}", mistake.detail);
    }

    #[test]
    fn headers_are_decoded_as_the_binding_says() {
        let more = [("ce-subject", "Euro%20%E2%82%AC%20100%25 %zz"), ("ce-note", "\"a \\\"b\\\"\"")];
        let event = one(&[&BINARY[..], &more].concat(), "body").expect("an event");
        assert_eq!(header_of(&event, "ce_subject"), Some("Euro € 100% %zz"));
        assert_eq!(header_of(&event, "ce_note"), Some("a \"b\""));
        assert_eq!((value(&event), header_of(&event, "content-type")), (Some("body"), None));
        assert_eq!(value(&one(&BINARY, "").expect("an event")), None, "no data, no value");
        assert!(one(&[&BINARY[..], &[("ce-id", "2")]].concat(), "").is_err(), "given twice");
        assert!(one(&[&BINARY[..], &[("ce-x", "%ff")]].concat(), "").is_err(), "no UTF-8");
    }

    #[test]
    fn a_plain_record_is_json_and_belongs_to_the_trace_of_its_request() {
        let parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
        let plain =
            one(&[("content-type", "application/json"), ("traceparent", parent)], "[1]").expect("one");
        assert_eq!((plain.id.as_deref(), value(&plain)), (None, Some("[1]")));
        assert_eq!(header_of(&plain, "traceparent"), Some(parent));
        for (content_type, body) in
            [("application/json", "{"), ("text/plain", "a"), ("application/cloudevents+avro", "")]
        {
            let body = Bytes::from_static(body.as_bytes());
            assert!(
                events(&headers(&[("content-type", content_type)]), &body, None).is_err(),
                "{content_type}"
            );
        }
        let bytes = Bytes::from_static(b"\"\xff\"");
        assert!(events(&headers(&[("content-type", JSON)]), &bytes, None).is_err(), "no UTF-8 is no JSON");
    }
}
