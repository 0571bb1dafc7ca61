//! What SQLite's result codes mean for the caller.

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
}
