//! What each connection of handlers is told once: the statements that every event has. A text has their names and
//! values then; for the server to read and resolve a statement is more work than to do it (docs/decisions/0033).
//!
//! They need the tables, and a connection may be older than these: so it is told with the first transaction that a
//! handler begins on it.

use super::owner::quoted;
use super::{admit, outbox, owner};

/// All that there is to tell.
const ALL: [&Once; 6] =
    [&owner::HOLD, &admit::ROW, &admit::ROW_UNLESS_PARKED, &admit::HANDLED, &outbox::LANE, &outbox::EVENT];

/// A statement, and its name in the sessions of the server.
pub(super) struct Once {
    pub(super) name: &'static str,
    pub(super) sql: &'static str,
}

impl Once {
    /// The statement with these values, each as it stands in a text.
    pub(super) fn with(&self, values: &[&str]) -> String {
        debug_assert_eq!(values.len(), self.sql.matches('?').count(), "{}", self.name);
        format!("EXECUTE {} USING {}", self.name, values.join(", "))
    }

    /// The same, on a connection that may not have been told.
    pub(super) fn in_full(&self, values: &[&str]) -> String {
        let mut pieces = self.sql.split('?');
        let first = pieces.next().unwrap_or_default().to_owned();
        values.iter().zip(pieces).fold(first, |text, (value, piece)| text + value + piece)
    }
}

/// What tells all of them.
pub(super) fn all() -> String {
    ALL.map(|one| format!("PREPARE {} FROM {}", one.name, quoted(one.sql))).join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What stands in a value is no place for another one.
    #[test]
    fn values_stand_in_their_places() {
        let once = Once { name: "courant_once", sql: "SELECT ? FROM t WHERE name = ?" };
        assert_eq!(once.with(&["1", "'a'"]), "EXECUTE courant_once USING 1, 'a'");
        assert_eq!(once.in_full(&["'?'", "'a'"]), "SELECT '?' FROM t WHERE name = 'a'");
        assert!(all().starts_with("PREPARE courant_hold FROM 'SELECT epoch FROM"), "{}", all());
        assert!(all().contains("''open''"), "a text in a text: {}", all());
    }
}
