//! What SQLite's result codes mean for the caller.

use std::error::Error as _;

use sqlx::error::DatabaseError;
use sqlx::sqlite::SqliteError;

use crate::error::{Class, StoreError};

/// The database's answer to something, as an error of the store.
pub(super) fn failed(doing: &'static str) -> impl Fn(sqlx::Error) -> StoreError + Copy {
    move |error| StoreError::new(doing, class_of(&error), error)
}

pub(super) fn class_of(error: &sqlx::Error) -> Class {
    match error {
        sqlx::Error::Database(_) => primary_code(error).map_or(Class::Other, class_of_code),
        sqlx::Error::Io(_) => Class::Io,
        sqlx::Error::WorkerCrashed | sqlx::Error::PoolClosed | sqlx::Error::PoolTimedOut => {
            Class::ConnectionLost
        }
        sqlx::Error::ColumnDecode { .. } | sqlx::Error::Decode(_) => Class::Corrupt,
        _ => Class::Other,
    }
}

/// What an answer of SQLite means; `None`: it is another database's.
pub(crate) fn class_of_answer(answer: &(dyn DatabaseError + 'static)) -> Option<Class> {
    let code: i32 = answer.try_downcast_ref::<SqliteError>()?.code()?.parse().ok()?;
    Some(class_of_code(code & 0xff))
}

/// The result code without its extension.
pub(super) fn primary_code(error: &sqlx::Error) -> Option<i32> {
    let code: i32 = error.as_database_error()?.code()?.parse().ok()?;
    Some(code & 0xff)
}

/// `SQLITE_ERROR`: what a statement meets that names no savepoint, or ends no transaction.
pub(super) const GENERIC: i32 = 1;

/// SQLITE_LOCKED: another connection of the same shared cache is in the way.
pub(super) const LOCKED: i32 = 6;

const NO_MEMORY: i32 = 7;
const IO_ERROR: i32 = 10;
const FULL: i32 = 13;

/// Whether COMMIT says so only of a transaction that it has rolled back: it says this before it has written the commit.
/// Memory may be short behind that, when the index of the log is to grow, and then only the next reader of the file
/// knows; as after anything else.
pub(super) fn is_undone(error: &sqlx::Error) -> bool {
    primary_code(error).is_some_and(is_undone_by)
}

fn is_undone_by(primary: i32) -> bool {
    let class = class_of_code(primary);
    primary != NO_MEMORY && matches!(class, Class::Busy | Class::Full | Class::Constraint | Class::ReadOnly)
}

/// Whether a statement that failed may have ended its transaction by itself: SQLite does that in some cases.
pub(super) fn may_have_ended(error: &StoreError) -> bool {
    let said = error.source().and_then(|source| source.downcast_ref::<sqlx::Error>());
    said.and_then(primary_code).is_some_and(may_end)
}

fn may_end(primary: i32) -> bool {
    matches!(primary, NO_MEMORY | IO_ERROR | FULL)
}

/// <https://www.sqlite.org/rescode.html>
fn class_of_code(primary: i32) -> Class {
    match primary {
        // BUSY, LOCKED; out of memory; others were always faster when the log was to be read
        5 | 6 | 7 | 15 => Class::Busy,
        // PERM, READONLY, AUTH
        3 | 8 | 23 => Class::ReadOnly,
        // IOERR
        10 => Class::Io,
        // CORRUPT, NOTADB
        11 | 26 => Class::Corrupt,
        // FULL
        13 => Class::Full,
        // CANTOPEN
        14 => Class::CannotOpen,
        // CONSTRAINT
        19 => Class::Constraint,
        _ => Class::Other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// O11: what is tried again is told by a code that never changes.
    #[test]
    fn codes_decide_and_texts_do_not() {
        assert_eq!(class_of_code(5), Class::Busy);
        assert_eq!(class_of_code(517 & 0xff), Class::Busy, "BUSY_SNAPSHOT");
        assert_eq!(class_of_code(262 & 0xff), Class::Busy, "LOCKED_SHAREDCACHE");
        assert_eq!(class_of_code(15), Class::Busy, "PROTOCOL");
        assert_eq!(class_of_code(7), Class::Busy, "NOMEM, as of the other databases");
        assert_eq!(class_of_code(2067 & 0xff), Class::Constraint, "CONSTRAINT_UNIQUE");
        assert_eq!(class_of_code(3338 & 0xff), Class::Io, "an extension of IOERR");
        assert_eq!(class_of_code(GENERIC), Class::Other);
        let text = sqlx::Error::Protocol("database is locked".to_owned());
        assert_eq!(class_of(&text), Class::Other);
        assert_eq!(class_of(&sqlx::Error::WorkerCrashed), Class::ConnectionLost);
    }

    /// Symptom: a commit that may be found in the log by the next start counted as rolled back. Cause: short memory
    /// passes as a lock does, and was taken for something that is said before the commit. Fix: nobody knows.
    #[test]
    fn a_commit_is_refused_by_what_comes_before_it() {
        for code in [5, 6, 8, 13, 15, 19] {
            assert!(is_undone_by(code), "{code}");
        }
        for code in [NO_MEMORY, IO_ERROR, GENERIC, 9, 11, 14] {
            assert!(!is_undone_by(code), "{code}");
        }
    }

    /// Symptom: a handler had failed where memory was short for what it had published. Cause: SQLite ends the
    /// transaction then, and that counted as its doing. Fix: short memory is none, as a full disk is none.
    #[test]
    fn what_ends_a_transaction_by_itself_is_known() {
        for (code, expected) in [(NO_MEMORY, true), (IO_ERROR, true), (FULL, true), (5, false), (19, false)] {
            assert_eq!(may_end(code), expected, "{code}");
        }
    }
}
