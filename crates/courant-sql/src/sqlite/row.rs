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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_become_json() {
        assert_eq!(json_numbers(&[]), "[]");
        assert_eq!(json_numbers(&[1, -2, i64::MAX]), "[1,-2,9223372036854775807]");
    }
}
