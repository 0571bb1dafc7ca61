//! Bytes as text: UTF-8 as it is, everything else as base64, and safe for a terminal.

use courant_core::base64;

/// How bytes that are not UTF-8 appear in the output.
pub(crate) const BASE64: &str = "base64";

/// A text and, when it is not the bytes themselves, how it encodes them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Text {
    pub(crate) text: String,
    pub(crate) encoding: Option<&'static str>,
}

impl Text {
    pub(crate) fn of(bytes: &[u8]) -> Self {
        match std::str::from_utf8(bytes) {
            Ok(text) => Self { text: text.to_owned(), encoding: None },
            Err(_) => Self { text: base64::encode(bytes), encoding: Some(BASE64) },
        }
    }
}

/// One line of at most `width_max` characters without control characters, so that a stored event
/// cannot command the terminal of whoever looks at it.
pub(crate) fn one_line(text: &str, width_max: usize) -> String {
    let mut line = String::new();
    let mut width = 0;
    for c in text.chars() {
        let shown: String =
            if c.is_control() || is_direction_mark(c) { c.escape_default().collect() } else { c.to_string() };
        width += shown.chars().count();
        if width > width_max {
            line.push('…');
            break;
        }
        line.push_str(&shown);
    }
    line
}

/// Marks that make a terminal show text in another order than it is stored in.
fn is_direction_mark(c: char) -> bool {
    matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_bytes_that_are_not_utf8_are_encoded() {
        assert_eq!(Text::of("größer".as_bytes()).encoding, None);
        let binary = Text::of(&[0xff, 0x00]);
        assert_eq!(binary.encoding, Some(BASE64));
        assert_eq!(binary.text, "/wA=");
    }

    #[test]
    fn one_line_escapes_control_characters_and_shortens() {
        assert_eq!(one_line("a\n\u{1b}[31m", 40), "a\\n\\u{1b}[31m");
        assert_eq!(one_line("abcdef", 3), "abc…");
        assert_eq!(one_line("abc", 3), "abc");
        assert_eq!(one_line("a\u{202e}b", 20), "a\\u{202e}b");
    }
}
