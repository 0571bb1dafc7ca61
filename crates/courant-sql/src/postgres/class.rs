//! What Postgres' error codes mean for the caller.

use sqlx::error::DatabaseError;
use sqlx::postgres::{PgDatabaseError, PgSeverity};

use crate::error::{Class, CommitError, StoreError};

/// Raised by `courant_hold`: somebody takes the partition over.
const TAKEN_OVER: &str = "CO001";

/// Raised by `courant_hold`: the lease is over. The detail is the epoch of the one who has it now.
pub(super) const FENCED: &str = "CO002";

/// A column that may not be empty would be.
pub(super) const NOT_NULL: &str = "23502";

/// Said by the proof of a handler's transaction that it does not have its name: it is another one, or none.
pub(super) const NOT_NAMED: &str = "22012";

/// Whether a statement was carried out is not known.
const COMPLETION_UNKNOWN: &str = "40003";

/// Nothing more fits into memory. The server may still say it of a commit that is written, when it wakes those who
/// listen or counts what was done.
const OUT_OF_MEMORY: &str = "53200";

/// Something is larger than the server is made for.
const LIMIT: &str = "54000";

/// Where the server keeps what NOTIFY says. The code of a full queue is that of many other limits.
const OF_NOTIFY: &str = "async.c";

/// What was prepared under a name is not there any more.
pub(super) const FORGOTTEN: &str = "26000";

/// The database's answer to something, as an error of the store.
pub(super) fn failed(doing: &'static str) -> impl Fn(sqlx::Error) -> StoreError + Copy {
    move |error| StoreError::new(doing, class_of(&error), error)
}

pub(super) fn class_of(error: &sqlx::Error) -> Class {
    match error {
        sqlx::Error::Database(_) => sqlstate(error).map_or(Class::Other, |code| class_of_state(&code)),
        // What is read and written is the connection: files are the server's.
        sqlx::Error::Io(_)
        | sqlx::Error::WorkerCrashed
        | sqlx::Error::PoolClosed
        | sqlx::Error::PoolTimedOut => Class::ConnectionLost,
        sqlx::Error::Tls(_) => Class::CannotOpen,
        sqlx::Error::ColumnDecode { .. } | sqlx::Error::Decode(_) => Class::Corrupt,
        _ => Class::Other,
    }
}

/// What an answer of Postgres means; `None`: it is another database's.
pub(crate) fn class_of_answer(answer: &(dyn DatabaseError + 'static)) -> Option<Class> {
    answer.try_downcast_ref::<PgDatabaseError>().map(|answer| class_of_state(answer.code()))
}

/// Why a transaction was not begun. A server in recovery says of one that is to write that this is a feature
/// which it does not have, and BEGIN asks for no other.
pub(super) fn not_begun(doing: &'static str) -> impl Fn(sqlx::Error) -> StoreError + Copy {
    move |error| StoreError::new(doing, class_of_begin(&error), error)
}

pub(super) fn class_of_begin(error: &sqlx::Error) -> Class {
    sqlstate(error).map_or_else(|| class_of(error), |code| class_of_begin_state(&code))
}

fn class_of_begin_state(code: &str) -> Class {
    if code == "0A000" { Class::Standby } else { class_of_state(code) }
}

/// The five characters that say what has happened.
pub(super) fn sqlstate(error: &sqlx::Error) -> Option<String> {
    Some(error.as_database_error()?.code()?.into_owned())
}

/// <https://www.postgresql.org/docs/current/errcodes-appendix.html>
fn class_of_state(code: &str) -> Class {
    match code {
        // Serialization failure, deadlock, lock timeout; a statement that was cancelled or ran out of
        // time; out of memory; a partition that is being taken over
        "40001" | "40P01" | "55P03" | "57014" | "53000" | "53200" | TAKEN_OVER => Class::Busy,
        // Too many connections; a session that was idle in its transaction for too long, or that a handler has
        // made forget what it was told: another connection will do
        "53300" | "25P03" | FORGOTTEN => Class::ConnectionLost,
        "53100" => Class::Full,
        // The database was dropped; there is none of this name
        "57P04" | "3D000" => Class::CannotOpen,
        // A transaction that only reads: those of the store are begun to write, so the server is a standby
        "25006" => Class::Standby,
        // No privilege
        "42501" => Class::ReadOnly,
        "XX001" | "XX002" => Class::Corrupt,
        _ => match code.get(..2) {
            Some("08") => Class::ConnectionLost,
            Some("57") if code.starts_with("57P") => Class::ConnectionLost,
            Some("23") => Class::Constraint,
            Some("28") => Class::CannotOpen,
            Some("58") => Class::Io,
            _ => Class::Other,
        },
    }
}

/// Why the proof of a transaction failed, or a statement directly before it: there is no transaction,
/// it is aborted, or it has no such savepoint.
pub(super) fn not_proved(doing: &'static str, error: sqlx::Error) -> CommitError {
    match sqlstate(&error).as_deref() {
        Some("25P01" | "25P02" | "3B001") => CommitError::Ended,
        _ => CommitError::Store(failed(doing)(error)),
    }
}

/// What a failed COMMIT means. What refuses it says so before the commit is written: a constraint or a trigger that
/// was deferred, a conflict, a lack of room. After anything else only the tables know.
pub(super) fn not_committed(doing: &'static str, error: sqlx::Error) -> CommitError {
    let said = error.as_database_error().and_then(|error| error.try_downcast_ref::<PgDatabaseError>());
    let is_refused = said.is_some_and(|said| is_refusal(said.severity(), said.code()));
    let is_queue_full = said.is_some_and(|said| is_queue_full(said.code(), said.file()));
    let error = if is_queue_full { StoreError::new(doing, Class::Busy, error) } else { failed(doing)(error) };
    if is_refused { CommitError::Store(error) } else { CommitError::Unknown(error) }
}

/// Whether an answer to COMMIT is about the transaction, and not about the connection, an operator or the system. A
/// trigger may raise any code.
fn is_refusal(severity: PgSeverity, code: &str) -> bool {
    let is_about_others = matches!(code.get(..2), None | Some("08" | "57" | "58" | "XX"));
    let is_unknown = is_about_others || matches!(code, COMPLETION_UNKNOWN | OUT_OF_MEMORY);
    severity == PgSeverity::Error && !is_unknown
}

/// Whether COMMIT was refused because somebody in the server listens and does not hear. No handler can help it, and it
/// passes.
fn is_queue_full(code: &str, file: Option<&str>) -> bool {
    code == LIMIT && file == Some(OF_NOTIFY)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// O11: what is tried again is told by a code that never changes.
    #[test]
    fn codes_decide_and_texts_do_not() {
        for (code, class) in [
            ("40001", Class::Busy),
            ("40P01", Class::Busy),
            ("55P03", Class::Busy),
            ("CO001", Class::Busy),
            ("08006", Class::ConnectionLost),
            ("08P01", Class::ConnectionLost),
            ("57P01", Class::ConnectionLost),
            ("57P03", Class::ConnectionLost),
            ("53300", Class::ConnectionLost),
            ("26000", Class::ConnectionLost),
            ("53100", Class::Full),
            ("23505", Class::Constraint),
            ("25006", Class::Standby),
            ("42501", Class::ReadOnly),
            ("0A000", Class::Other),
            ("28P01", Class::CannotOpen),
            ("3D000", Class::CannotOpen),
            ("58030", Class::Io),
            ("XX001", Class::Corrupt),
            ("42P01", Class::Other),
            ("57000", Class::Other),
            ("", Class::Other),
        ] {
            assert_eq!(class_of_state(code), class, "{code}");
        }
        let text = sqlx::Error::Protocol("deadlock detected".to_owned());
        assert_eq!(class_of(&text), Class::Other);
        let gone = sqlx::Error::Io(std::io::ErrorKind::UnexpectedEof.into());
        assert_eq!(class_of(&gone), Class::ConnectionLost);
    }

    /// What a standby says to BEGIN … READ WRITE is told from what it says to any other statement.
    #[test]
    fn a_standby_is_told_at_begin() {
        assert_eq!(class_of_begin_state("0A000"), Class::Standby);
        assert_eq!(class_of_begin_state("25006"), Class::Standby);
        assert_eq!(class_of_begin_state("CO001"), Class::Busy);
        assert_eq!(class_of_begin_state("42501"), Class::ReadOnly);
    }

    /// A deferred trigger of the service raises what it likes, and the end of a connection is no such thing.
    #[test]
    fn a_commit_is_refused_by_what_is_about_it() {
        for code in ["P0001", "22012", "23505", "40001", "40P01", "53100", "ACC01", "42501"] {
            assert!(is_refusal(PgSeverity::Error, code), "{code}");
            assert!(!is_refusal(PgSeverity::Fatal, code), "{code}");
        }
        for code in ["08006", "57014", "57P01", "58030", "XX000", "40003", "53200", ""] {
            assert!(!is_refusal(PgSeverity::Error, code), "{code}");
        }
    }

    /// Symptom: where the server had no room for what NOTIFY says, handlers were blamed for it. Cause: what a COMMIT is
    /// refused with counts as their failure, and this has the code of other limits. Fix: it passes, as a conflict does.
    #[test]
    fn a_full_queue_of_notify_is_no_failure_of_a_handler() {
        assert!(is_refusal(PgSeverity::Error, LIMIT));
        assert!(is_queue_full("54000", Some("async.c")));
        assert!(!is_queue_full("54000", Some("nbtutils.c")), "a row that is too large is one");
        assert!(!is_queue_full("54000", None));
        assert!(!is_queue_full("P0001", Some("async.c")));
    }

    /// A connection that ends during COMMIT says nothing about the commit.
    #[test]
    fn a_lost_answer_is_not_an_attempt() {
        let gone = sqlx::Error::Io(std::io::ErrorKind::UnexpectedEof.into());
        assert!(matches!(not_committed("commit", gone), CommitError::Unknown(_)));
    }
}
