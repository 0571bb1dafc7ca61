//! JSON whose parts keep the bytes that they were sent as.

use std::collections::HashMap;

use serde_json::value::RawValue;

/// A place in JSON, by RFC 6901.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Pointer {
    text: String,
    /// `None`: the text is no pointer.
    steps: Option<Vec<String>>,
}

impl Pointer {
    pub(super) fn new(text: &str) -> Self {
        let steps: Option<Vec<String>> = match text.strip_prefix('/') {
            Some(steps) => steps.split('/').map(unescaped).collect(),
            None => text.is_empty().then(Vec::new),
        };
        Self { text: text.to_owned(), steps }
    }

    pub(super) fn is_legal(&self) -> bool {
        self.steps.is_some()
    }

    pub(super) fn text(&self) -> &str {
        &self.text
    }
}

/// A step, in which `~1` stands for `/` and `~0` for `~`.
fn unescaped(step: &str) -> Option<String> {
    let mut parts = step.split('~');
    let mut all = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let (sign, rest) = match part.strip_prefix('0') {
            Some(rest) => ('~', rest),
            None => ('/', part.strip_prefix('1')?),
        };
        all.push(sign);
        all.push_str(rest);
    }
    Some(all)
}

/// A JSON object. Its parts are read when they are asked for.
pub(super) struct Document<'a> {
    whole: &'a RawValue,
    fields: HashMap<String, &'a RawValue>,
}

impl<'a> Document<'a> {
    pub(super) fn parse(bytes: &'a [u8]) -> Result<Self, serde_json::Error> {
        let whole: &'a RawValue = serde_json::from_slice(bytes)?;
        Ok(Self { whole, fields: serde_json::from_str(whole.get())? })
    }

    /// What stands at a place.
    pub(super) fn at(&self, place: &Pointer) -> Option<&'a RawValue> {
        let Some((first, rest)) = place.steps.as_ref()?.split_first() else { return Some(self.whole) };
        let first = self.fields.get(first).copied()?;
        rest.iter().try_fold(first, |value, step| inside(value, step))
    }

    /// The fields of the object.
    pub(super) fn fields(&self) -> impl Iterator<Item = (&str, &'a RawValue)> {
        self.fields.iter().map(|(name, value)| (name.as_str(), *value))
    }
}

fn inside<'a>(value: &'a RawValue, step: &str) -> Option<&'a RawValue> {
    let text = value.get();
    if text.starts_with('{') {
        let mut fields: HashMap<String, &'a RawValue> = serde_json::from_str(text).ok()?;
        return fields.remove(step);
    }
    if !text.starts_with('[') {
        return None;
    }
    // `01` and `+1` name no item: RFC 6901 knows one way to write an index.
    let is_index = step == "0" || !step.starts_with(['0', '+']);
    let index: usize = step.parse().ok().filter(|_| is_index)?;
    let items: Vec<&'a RawValue> = serde_json::from_str(text).ok()?;
    items.into_iter().nth(index)
}

/// What kind of value it is.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Scalar<'a> {
    Nothing,
    Text(String),
    /// As it was sent.
    Number(&'a str),
    /// None of these: what it is, in words.
    Other(&'static str),
}

impl<'a> Scalar<'a> {
    pub(super) fn of(value: Option<&'a RawValue>) -> Self {
        let text = value.map_or("null", RawValue::get);
        match text.as_bytes().first() {
            Some(b'"') => serde_json::from_str(text).map_or(Self::Other("a text that is none"), Self::Text),
            Some(b'-' | b'0'..=b'9') => Self::Number(text),
            Some(b'{') => Self::Other("an object"),
            Some(b'[') => Self::Other("an array"),
            Some(b't' | b'f') => Self::Other("true or false"),
            _ => Self::Nothing,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const JSON: &str = r#" {"a":{"b/c":[10,{"~":"deep"}]},"n":1.50,"t":"x\u00e9","z":null,"":true} "#;

    fn at(place: &str) -> Option<String> {
        let document = Document::parse(JSON.as_bytes()).expect("is an object");
        document.at(&Pointer::new(place)).map(|value| value.get().to_owned())
    }

    #[test]
    fn pointers_lead_where_the_rfc_says() {
        let cases = [
            ("/a/b~1c/0", Some("10")),
            ("/a/b~1c/1/~0", Some("\"deep\"")),
            ("/n", Some("1.50")),
            ("/", Some("true")),
            ("", Some(JSON.trim())),
            ("/a/b~1c/2", None),
            ("/a/b~1c/00", None),
            ("/a/b~1c/01", None),
            ("/a/b~1c/+1", None),
            ("/a/b~1c/-", None),
            ("/a/b~1c/", None),
            ("/a/b~1c/x", None),
            ("/n/0", None),
            ("/missing", None),
            ("n", None),
        ];
        for (place, expected) in cases {
            assert_eq!(at(place).as_deref(), expected, "{place:?}");
        }
    }

    #[test]
    fn what_is_no_object_is_refused() {
        for wrong in [&b"[1]"[..], b"1", b"", b"{", b"{} {}", b"\xff"] {
            assert!(Document::parse(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn scalars_are_told_apart() {
        let document = Document::parse(JSON.as_bytes()).expect("is an object");
        let of = |place: &str| Scalar::of(document.at(&Pointer::new(place)));
        assert_eq!(of("/n"), Scalar::Number("1.50"));
        assert_eq!(of("/t"), Scalar::Text("x\u{e9}".to_owned()));
        assert_eq!((of("/z"), of("/missing")), (Scalar::Nothing, Scalar::Nothing));
        assert_eq!((of("/a"), of("/")), (Scalar::Other("an object"), Scalar::Other("true or false")));
    }
}
