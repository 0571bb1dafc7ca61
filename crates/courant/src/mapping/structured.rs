//! CloudEvents in the structured mode: one JSON object with attributes and data.

use std::sync::LazyLock;

use bytes::Bytes;
use courant_core::headers;

use super::Mapping;
use super::document::{Document, Pointer, Scalar};
use super::reading::{Parts, Unreadable};
use crate::envelope::text;

/// What the value's bytes are in this mode.
const CONTENT_TYPE: &str = "application/cloudevents+json";

/// Longest name of an attribute that becomes a header.
const NAME_BYTES_MAX: usize = 64;

/// Where the attributes are that mean something here.
static ATTRIBUTES: LazyLock<Mapping> = LazyLock::new(|| {
    Mapping::new()
        .event_type("/type")
        .id("/id")
        .time("/time")
        .source("/source")
        .correlation_id("/correlationid")
        .causation_id("/causationid")
        .payload("/data")
});

/// Those that become headers in another way than the rest.
const OWN_WAY: [&str; 9] = [
    "type",
    "id",
    "time",
    "source",
    "correlationid",
    "causationid",
    "data",
    "data_base64",
    "datacontenttype",
];

/// Whether a content type names this mode.
pub(super) fn is_named(content_type: &[u8]) -> bool {
    let named = content_type.split(|byte| *byte == b';').next().unwrap_or_default();
    named.trim_ascii().eq_ignore_ascii_case(CONTENT_TYPE.as_bytes())
}

/// The parts of an event whose type is wanted.
pub(super) fn parts(
    document: &Document<'_>,
    there: &[(String, Bytes)],
    wants: impl Fn(&str) -> bool,
) -> Result<Option<Parts>, Unreadable> {
    let Some(event_type) = ATTRIBUTES.wanted_type(document, wants)? else { return Ok(None) };
    let has = |name: &str| document.fields().any(|(field, _)| field == name);
    if has("data_base64") {
        return Err(Unreadable::Base64);
    }
    // An event may be no more than its attributes.
    let payload = if has("data") { ATTRIBUTES.payload_of(document)? } else { Bytes::from_static(b"null") };
    let mut parts = ATTRIBUTES.parts_of(document, event_type, payload)?;
    let mut others: Vec<(String, Bytes)> = document
        .fields()
        .filter(|(name, _)| !OWN_WAY.contains(name) && is_attribute(name))
        .filter_map(|(name, value)| match Scalar::of(Some(value)) {
            Scalar::Text(text) => Some((header(name), Bytes::from(text))),
            Scalar::Number(_) | Scalar::Other("true or false") => {
                Some((header(name), Bytes::from(value.get().to_owned())))
            }
            Scalar::Nothing | Scalar::Other(_) => None,
        })
        .filter(|(name, _)| text(there, name).is_none())
        .collect();
    others.sort_unstable();
    parts.headers.extend(others);
    if let Scalar::Text(of_data) = Scalar::of(document.at(&Pointer::new("/datacontenttype"))) {
        parts.headers.push((headers::CONTENT_TYPE.to_owned(), Bytes::from(of_data)));
    }
    Ok(Some(parts))
}

fn is_attribute(name: &str) -> bool {
    let is_legal = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    (1..=NAME_BYTES_MAX).contains(&name.len()) && name.bytes().all(is_legal)
}

/// The header of an attribute: that of the binary mode, except for trace context, which has its own.
fn header(attribute: &str) -> String {
    match attribute {
        headers::TRACEPARENT | headers::TRACESTATE => attribute.to_owned(),
        _ => format!("ce_{attribute}"),
    }
}
