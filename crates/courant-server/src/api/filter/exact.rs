//! A value in JSON by its pointer (RFC 6901), compared without losing a digit.
//!
//! `9007199254740993` and `9007199254740992` are one number for a parser that knows doubles only. Here
//! numbers are their source texts.

use serde_json::value::RawValue;

use crate::api::source;

/// A pointer, taken apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Pointer(Vec<String>);

impl Pointer {
    /// `None` when the text is no pointer.
    pub(super) fn parse(text: &str) -> Option<Self> {
        if text.is_empty() {
            return Some(Self(Vec::new()));
        }
        let words = text.strip_prefix('/')?.split('/').map(unescaped);
        words.collect::<Option<_>>().map(Self)
    }

    /// What it points to in a text of JSON.
    pub(super) fn find<'a>(&self, json: &'a [u8]) -> Option<&'a RawValue> {
        let mut here: &'a RawValue = serde_json::from_slice(json).ok()?;
        for word in &self.0 {
            here = member(here, word)?;
        }
        Some(here)
    }
}

/// `~1` stands for a slash, and `~0` for the tilde itself.
fn unescaped(word: &str) -> Option<String> {
    let mut plain = String::with_capacity(word.len());
    let mut letters = word.chars();
    while let Some(letter) = letters.next() {
        plain.push(match letter {
            '~' => match letters.next()? {
                '0' => '~',
                '1' => '/',
                _ => return None,
            },
            letter => letter,
        });
    }
    Some(plain)
}

fn member<'a>(value: &'a RawValue, word: &str) -> Option<&'a RawValue> {
    let text = value.get();
    match text.as_bytes().first()? {
        b'{' => source::member(text, word),
        b'[' => {
            let is_index = word == "0" || !word.starts_with(['0', '+']);
            let index: usize = word.parse().ok().filter(|_| is_index)?;
            source::element(text, index)
        }
        _ => None,
    }
}

/// What a value is compared with: a text, a number, a truth or null.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Scalar {
    Text(String),
    Number(Decimal),
    /// `true`, `false` or `null`.
    Word(String),
}

impl Scalar {
    /// `None` for an object or an array.
    pub(super) fn of(value: &RawValue) -> Option<Self> {
        let text = value.get();
        match text.as_bytes().first()? {
            b'"' => serde_json::from_str(text).ok().map(Self::Text),
            b'{' | b'[' => None,
            b't' | b'f' | b'n' => Some(Self::Word(text.to_owned())),
            _ => Decimal::parse(text).map(Self::Number),
        }
    }
}

/// A number of JSON, exactly: digits without zeros at either end, times ten to the exponent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Decimal {
    is_negative: bool,
    digits: String,
    exponent: i64,
}

impl Decimal {
    fn parse(text: &str) -> Option<Self> {
        let (mantissa, exponent) = match text.split_once(['e', 'E']) {
            Some((mantissa, exponent)) => (mantissa, exponent.parse::<i64>().ok()?),
            None => (text, 0),
        };
        let is_negative = mantissa.starts_with('-');
        let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
        let digits = format!("{}{fraction}", whole.trim_start_matches('-'));
        let significant = digits.trim_end_matches('0');
        let zeros = i64::try_from(digits.len() - significant.len()).ok()?;
        let exponent = exponent.checked_sub(i64::try_from(fraction.len()).ok()?)?.checked_add(zeros)?;
        let digits = significant.trim_start_matches('0').to_owned();
        if digits.is_empty() {
            return Some(Self { is_negative: false, digits, exponent: 0 });
        }
        Some(Self { is_negative, digits, exponent })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(json: &str, pointer: &str) -> Option<String> {
        let pointer = Pointer::parse(pointer).expect("a pointer");
        pointer.find(json.as_bytes()).map(|found| found.get().to_owned())
    }

    fn scalar(json: &str) -> Option<Scalar> {
        Scalar::of(serde_json::from_str::<Box<RawValue>>(json).expect("JSON").as_ref())
    }

    #[test]
    fn pointers_lead_where_rfc_6901_says() {
        let json = r#"{"foo":["bar","baz"],"":0,"a/b":1,"c%d":2," ":7,"m~n":8,"k\"l":6}"#;
        let cases = [
            ("/foo/0", r#""bar""#),
            ("/", "0"),
            ("/a~1b", "1"),
            ("/c%d", "2"),
            ("/k\"l", "6"),
            ("/ ", "7"),
            ("/m~0n", "8"),
        ];
        for (pointer, value) in cases {
            assert_eq!(found(json, pointer).as_deref(), Some(value), "{pointer}");
        }
        assert_eq!(found(" {\"a\": 1 } ", "").as_deref(), Some("{\"a\": 1 }"));
        for missing in ["/foo/2", "/foo/-", "/foo/00", "/foo/+1", "/bar", "/foo/0/x"] {
            assert_eq!(found(json, missing), None, "{missing}");
        }
        assert_eq!(found("not json", "/a"), None);
        assert!(Pointer::parse("a").is_none() && Pointer::parse("/~2").is_none());
    }

    #[test]
    fn numbers_are_equal_when_every_digit_is() {
        assert_ne!(scalar("9007199254740993"), scalar("9007199254740992"));
        for same in
            ["9007199254740993.0", "9007199254740993e0", "90071992547409930E-1", "9.007199254740993e+15"]
        {
            assert_eq!(scalar("9007199254740993"), scalar(same), "{same}");
        }
        assert_eq!(scalar("-0"), scalar("0.000"));
        assert_ne!(scalar("-1"), scalar("1"));
        assert_ne!(scalar("1"), scalar("10"));
        assert_ne!(scalar("1"), scalar("\"1\""), "a text is no number");
    }

    #[test]
    fn texts_are_equal_however_they_are_escaped() {
        assert_eq!(scalar(r#""\u0061""#), scalar(r#""a""#));
        assert_eq!(scalar("null"), Some(Scalar::Word("null".to_owned())));
        assert_eq!((scalar("[1]"), scalar("{}")), (None, None));
    }
}
