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
}

/// What tells all of them.
pub(super) fn all() -> String {
    ALL.map(|one| format!("PREPARE {} FROM {}", one.name, quoted(one.sql))).join("; ")
}
