//! Lists in statements.
//!
//! A list that is looked for is one parameter, as JSON: the statement is the same for any length, and the
//! server joins it to the primary key of what is changed. With `IN (…)` it would read whole tables where
//! they are small, and wait for rows that nobody has asked for.

use serde_json::Value;

use crate::limits::ROWS_PER_STATEMENT;

/// Bytes of the events that one statement writes, unless a single one has more. A server takes 16 MiB in a
/// packet, if nobody has told it otherwise.
const STATEMENT_BYTES: usize = 4 * 1024 * 1024;

/// Statements with more rows are not kept prepared: each number of rows is another one.
const KEPT_ROWS_MAX: usize = 8;

/// The table `w` with the numbers `id` of a list.
macro_rules! numbers {
    () => {
        "JSON_TABLE(?, '$[*]' COLUMNS (id BIGINT PATH '$')) w"
    };
}

/// The table `w` with the texts `id` of a list.
macro_rules! texts {
    () => {
        "JSON_TABLE(?, '$[*]' COLUMNS ( \
         id VARCHAR(512) CHARACTER SET utf8mb4 COLLATE utf8mb4_nopad_bin PATH '$')) w"
    };
}

pub(super) use numbers;
pub(super) use texts;

/// A list as the parameter of such a table.
pub(super) fn json<T: Into<Value>>(items: impl IntoIterator<Item = T>) -> String {
    items.into_iter().collect::<Value>().to_string()
}

/// `(?, ?, ?), (?, ?, ?)`: places for the values of some rows.
pub(super) fn rows(count: usize, columns: usize) -> String {
    let row = format!("({})", vec!["?"; columns].join(", "));
    vec![row; count].join(", ")
}

/// Whether a statement that writes so many rows is kept prepared.
pub(super) fn is_kept(rows: usize) -> bool {
    rows <= KEPT_ROWS_MAX
}

/// The items of one statement after the other: not too many, and not too many bytes.
pub(super) fn pieces<T>(items: &[T], bytes: impl Fn(&T) -> usize) -> Vec<&[T]> {
    let mut pieces = Vec::new();
    let (mut begin, mut sum) = (0, 0);
    for (at, item) in items.iter().enumerate() {
        let size = bytes(item);
        if at > begin && (at - begin == ROWS_PER_STATEMENT || sum + size > STATEMENT_BYTES) {
            pieces.push(&items[begin..at]);
            (begin, sum) = (at, 0);
        }
        sum += size;
    }
    if begin < items.len() {
        pieces.push(&items[begin..]);
    }
    pieces
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_statement_has_a_bound_and_at_least_one_row() {
        let sizes = |sizes: &[usize]| -> Vec<usize> {
            pieces(sizes, |size| *size).iter().map(|piece| piece.len()).collect()
        };
        assert!(sizes(&[]).is_empty());
        assert_eq!(sizes(&[0; 1001]), [500, 500, 1]);
        let mib = 1024 * 1024;
        assert_eq!(sizes(&[16 * mib, 1, 3 * mib, mib, 16 * mib]), [1, 2, 1, 1]);
    }

    #[test]
    fn lists_are_json_and_rows_are_marks() {
        assert_eq!(json([3_i64, -1]), "[3,-1]");
        assert_eq!(json(["a\"", "\0"]), r#"["a\"","\u0000"]"#);
        assert_eq!(json([vec![1_i64, 2]]), "[[1,2]]");
        assert_eq!(rows(2, 3), "(?, ?, ?), (?, ?, ?)");
    }
}
