//! Values of a row, and values for one, as SQLite keeps them.

use bytes::Bytes;
use courant_core::consumer::ConsumerName;
use courant_core::event_id::EventId;
use courant_core::position::{Position, TopicPartition};
use courant_core::topic::TopicName;
use sqlx::Row as _;
use sqlx::sqlite::SqliteRow;

use super::class::failed;
use crate::columns::columns;
use crate::consumer::{Assignment, Consumer};
use crate::error::StoreError;
use crate::event::Event;
use crate::headers;

pub(super) use crate::columns::{on_partition, signed};

columns!(SqliteRow);

/// SQLite keeps texts as they are.
fn read_text(text: String) -> String {
    text
}

/// `["a","b"]`: names of topics have no letter that means anything there.
pub(super) fn json_names(topics: &[TopicName]) -> String {
    let names: Vec<String> = topics.iter().map(|topic| format!("\"{}\"", topic.as_str())).collect();
    format!("[{}]", names.join(","))
}

/// `[1,2,3]`, for `json_each`.
pub(super) fn json_numbers(numbers: &[i64]) -> String {
    let mut text = String::from("[");
    for (at, number) in numbers.iter().enumerate() {
        if at > 0 {
            text.push(',');
        }
        text.push_str(&number.to_string());
    }
    text.push(']');
    text
}

/// How many rows the text of a statement for so many has. There are few such texts then, and the connection knows
/// them: to prepare one for 50 rows takes five times as long as to run it. Rows beyond those that are wanted have
/// nulls where none may be, and are left out by that.
pub(super) fn rows_of_text(rows: usize) -> usize {
    if rows <= 1 { rows } else { rows.next_multiple_of(10) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_few_and_have_room_for_all_rows() {
        assert_eq!([0, 1, 2, 9, 10, 11, 46, 50].map(rows_of_text), [0, 1, 10, 10, 10, 20, 50, 50]);
        let texts: std::collections::BTreeSet<_> = (1..=500).map(rows_of_text).collect();
        assert_eq!(texts.len(), 51);
    }

    #[test]
    fn numbers_become_json() {
        assert_eq!(json_numbers(&[]), "[]");
        assert_eq!(json_numbers(&[1, -2, i64::MAX]), "[1,-2,9223372036854775807]");
    }
}
