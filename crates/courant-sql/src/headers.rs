//! On disk: how headers stand in the column `headers`. `docs/formats/outbox.md` describes it.
//!
//! A JSON array of pairs, in the order of the headers. The second of a pair is a string when the
//! value is UTF-8, else `{"hex": "…"}`: tables stay readable, and nothing is lost.

use bytes::Bytes;
use serde_json::{Map, Value, json};

pub(crate) fn encode(headers: &[(String, Bytes)]) -> String {
    let pairs = headers.iter().map(|(name, value)| match std::str::from_utf8(value) {
        Ok(text) => json!([name, text]),
        Err(_) => json!([name, { "hex": hex(value) }]),
    });
    Value::Array(pairs.collect()).to_string()
}

/// The headers, or which of them is wrong.
pub(crate) fn decode(text: &str) -> Result<Vec<(String, Bytes)>, String> {
    let all: Value = serde_json::from_str(text).map_err(|error| format!("headers: {error}"))?;
    let pairs = all.as_array().ok_or("headers: no array")?;
    pairs
        .iter()
        .enumerate()
        .map(|(at, pair)| header(pair).ok_or_else(|| format!("headers: pair {at} is not one")))
        .collect()
}

/// [`decode`], or an object of names and values: what another program finds easier to write.
pub(crate) fn decode_any(text: &str) -> Result<Vec<(String, Bytes)>, String> {
    if !text.trim_start().starts_with('{') {
        return decode(text);
    }
    let all: Map<String, Value> = serde_json::from_str(text).map_err(|error| format!("headers: {error}"))?;
    let named = all.into_iter().map(|(name, said)| match value(&said) {
        Some(value) => Ok((name, value)),
        None => Err("headers: a value is neither a text nor {\"hex\": \"…\"}".to_owned()),
    });
    named.collect()
}

fn header(pair: &Value) -> Option<(String, Bytes)> {
    let [name, said] = pair.as_array()?.as_slice() else { return None };
    Some((name.as_str()?.to_owned(), value(said)?))
}

fn value(said: &Value) -> Option<Bytes> {
    match said {
        Value::String(text) => Some(Bytes::from(text.clone())),
        other => unhex(other.get("hex")?.as_str()?),
    }
}

/// Lower-case hexadecimal.
pub(crate) fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digits = bytes.iter().flat_map(|byte| [byte >> 4, byte & 15]);
    digits.map(|digit| char::from(DIGITS[usize::from(digit)])).collect()
}

fn unhex(text: &str) -> Option<Bytes> {
    let digits: Vec<u8> = text
        .chars()
        .map(|digit| digit.to_digit(16).and_then(|digit| u8::try_from(digit).ok()))
        .collect::<Option<_>>()?;
    if !digits.len().is_multiple_of(2) {
        return None;
    }
    Some(digits.chunks(2).map(|pair| (pair[0] << 4) | pair[1]).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_come_back_in_their_order() {
        let headers = vec![
            ("ce_id".to_owned(), Bytes::from_static(b"e-1")),
            ("raw".to_owned(), Bytes::from_static(&[0, 0xff, 0x80])),
            ("ce_id".to_owned(), Bytes::new()),
            ("na\"me".to_owned(), Bytes::from("zeichen: \u{0}ü")),
        ];
        assert_eq!(decode(&encode(&headers)), Ok(headers));
        assert_eq!(encode(&[]), "[]");
    }

    /// What `docs/formats/outbox.md` shows.
    #[test]
    fn the_text_is_the_one_of_the_page() {
        let headers = [
            ("ce_id".to_owned(), Bytes::from_static(b"e-1")),
            ("raw".to_owned(), Bytes::from_static(&[255])),
        ];
        assert_eq!(encode(&headers), r#"[["ce_id","e-1"],["raw",{"hex":"ff"}]]"#);
    }

    #[test]
    fn an_object_is_headers_too() {
        let read = decode_any(r#" {"a": "1", "raw": {"hex": "00ff"}}"#).expect("headers");
        let expected = [("a", Bytes::from_static(b"1")), ("raw", Bytes::from_static(&[0, 0xff]))];
        assert_eq!(read, expected.map(|(name, value)| (name.to_owned(), value)));
        assert_eq!(decode_any(r#"[["a","1"]]"#), decode(r#"[["a","1"]]"#));
        for text in ["{", r#"{"a": 1}"#, r#"{"a": null}"#, r#"{"a": {"hex": "f"}}"#, "null"] {
            assert!(decode_any(text).is_err(), "{text}");
        }
    }

    #[test]
    fn what_are_no_headers_is_refused() {
        for text in [
            "",
            "{}",
            "[1]",
            r#"[["a"]]"#,
            r#"[["a",1]]"#,
            r#"[["a",{"hex":"f"}]]"#,
            r#"[["a",{"hex":"zz"}]]"#,
            r#"[[1,"a"]]"#,
        ] {
            assert!(decode(text).is_err(), "{text}");
        }
    }
}
