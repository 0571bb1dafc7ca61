//! Values of a row, and values for one, as Postgres keeps them.

use std::borrow::Cow;

use bytes::Bytes;
use courant_core::consumer::ConsumerName;
use courant_core::event_id::EventId;
use courant_core::position::{Position, TopicPartition};
use courant_core::topic::TopicName;
use sqlx::Row as _;
use sqlx::postgres::PgRow;

use super::class::failed;
use crate::columns::columns;
use crate::consumer::{Assignment, Consumer};
use crate::error::StoreError;
use crate::event::Event;
use crate::headers;

pub(super) use crate::columns::{on_partition, signed};

columns!(PgRow);

/// Stands before what a text of Postgres cannot have, a zero byte, and before itself.
const MARK: char = '\u{2400}';

/// A text as Postgres can keep it.
pub(super) fn text(text: &str) -> Cow<'_, str> {
    if !text.contains(['\0', MARK]) {
        return Cow::Borrowed(text);
    }
    let mut kept = String::with_capacity(text.len() + 8);
    for character in text.chars() {
        match character {
            '\0' => kept.extend([MARK, '0']),
            MARK => kept.extend([MARK, MARK]),
            other => kept.push(other),
        }
    }
    Cow::Owned(kept)
}

/// The text that [`text`] has made this of.
fn read_text(kept: String) -> String {
    if !kept.contains(MARK) {
        return kept;
    }
    let mut read = String::with_capacity(kept.len());
    let mut characters = kept.chars();
    while let Some(character) = characters.next() {
        if character != MARK {
            read.push(character);
            continue;
        }
        match characters.next() {
            Some('0') => read.push('\0'),
            Some(MARK) => read.push(MARK),
            // Nothing of ours: as it stands.
            Some(other) => read.extend([MARK, other]),
            None => read.push(MARK),
        }
    }
    read
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_come_back_without_a_zero_byte_in_between() {
        for original in ["", "o-1", "a\0b", "\0\0", "\u{2400}", "\u{2400}0", "\u{2400}\0\u{2400}"] {
            let kept = text(original).into_owned();
            assert!(!kept.contains('\0'), "{original:?}");
            assert_eq!(read_text(kept), original, "{original:?}");
        }
        assert_eq!(text("a\0b"), "a\u{2400}0b");
        assert_eq!(read_text("a\u{2400}b\u{2400}".to_owned()), "a\u{2400}b\u{2400}");
    }

    #[test]
    fn different_texts_stay_different() {
        assert_ne!(text("\0"), text("\u{2400}0"));
    }
}
