//! What MariaDB's error numbers mean for the caller.

use sqlx::error::DatabaseError;
use sqlx::mysql::MySqlDatabaseError;

use crate::error::{Class, CommitError, StoreError};

/// A savepoint of this name does not exist.
const NO_SAVEPOINT: u16 = 1305;

/// A column has to have a value. Of the statements before a COMMIT one may have none to write: the position of an
/// event whose lane has no row.
const NO_POSITION: u16 = 1048;

/// COMMIT has failed, and what with stands in the text only.
const ERROR_DURING_COMMIT: u16 = 1180;

/// The system's `EMSGSIZE`, as Galera says that a transaction is larger than `wsrep_max_ws_size` or `repl.max_ws_size`:
/// it finds that out before it sends any of it.
const TOO_LONG: u32 = 90;

/// The database's answer to something, as an error of the store.
pub(super) fn failed(doing: &'static str) -> impl Fn(sqlx::Error) -> StoreError + Copy {
    move |error| StoreError::new(doing, class_of(&error), error)
}

pub(super) fn class_of(error: &sqlx::Error) -> Class {
    match error {
        sqlx::Error::Database(_) => {
            database(error).map_or(Class::Other, |error| class_of_number(error.number(), error.code()))
        }
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

/// What an answer of MariaDB means; `None`: it is another database's.
pub(crate) fn class_of_answer(answer: &(dyn DatabaseError + 'static)) -> Option<Class> {
    let answer = answer.try_downcast_ref::<MySqlDatabaseError>()?;
    Some(class_of_number(answer.number(), answer.code()))
}

fn database(error: &sqlx::Error) -> Option<&MySqlDatabaseError> {
    error.as_database_error()?.try_downcast_ref::<MySqlDatabaseError>()
}

/// The server's number of an error.
pub(super) fn number(error: &sqlx::Error) -> Option<u16> {
    database(error).map(MySqlDatabaseError::number)
}

/// <https://mariadb.com/docs/server/reference/error-codes/mariadb-error-code-reference>
fn class_of_number(number: u16, state: Option<&str>) -> Class {
    match number {
        // Lock wait timeout, deadlock; a statement that ran out of time or was interrupted, a row that
        // changed under a snapshot; out of memory, too many transactions, tables changed meanwhile
        1205 | 1213 | 1969 | 3024 | 1317 | 1020 | 1037 | 1038 | 1041 | 1615 | 1637 => Class::Busy,
        // Too many connections; the server shuts down, has ended the connection or could not be read; the
        // numbers that clients give to a server that is gone
        1040 | 1203 | 1226 | 1053 | 1079 | 1152 | 1158..=1161 | 1184 | 1927 | 2006 | 2013 | 2055 => {
            Class::ConnectionLost
        }
        // The disk is full, as the server says it and the library below it; the table is full. What the system
        // calls 28, no space left, comes as the first of them.
        1021 | 20 | 1114 => Class::Full,
        // Files cannot be opened, read, written, synced; a temporary one cannot be written
        1016..=1019 | 1024 | 1026 | 1030 | 3 => Class::Io,
        // The server may only read, as a replica does
        1290 | 1836 => Class::Standby,
        // The table or the transaction may only be read; no privilege for the table
        1036 | 1792 | 1142 | 1143 | 1227 => Class::ReadOnly,
        // No access to the database; no such database; the host may not connect
        1044 | 1045 | 1049 | 1129 | 1130 | 1698 => Class::CannotOpen,
        1034 | 1035 | 1194 | 1195 | 1712 | 1877 => Class::Corrupt,
        _ => match state.and_then(|state| state.get(..2)) {
            Some("08") => Class::ConnectionLost,
            Some("23") => Class::Constraint,
            Some("28") => Class::CannotOpen,
            Some("40") => Class::Busy,
            _ => Class::Other,
        },
    }
}

/// Why what comes before COMMIT failed: the savepoint is not there, or a lane, or something else.
pub(super) fn not_proved(doing: &'static str, error: sqlx::Error) -> CommitError {
    match number(&error) {
        Some(NO_SAVEPOINT) => CommitError::Ended,
        Some(NO_POSITION) => {
            CommitError::Store(StoreError::unreadable(doing, "lanes of the outbox are missing"))
        }
        _ => CommitError::Store(failed(doing)(error)),
    }
}

/// What a failed COMMIT means. Some things are said when everything is undone; after anything else only the tables
/// know.
pub(super) fn not_committed(doing: &'static str, error: sqlx::Error) -> CommitError {
    let is_undone = database(&error).is_some_and(|error| is_undone(error.number(), error.message()));
    let error = failed(doing)(error);
    if is_undone { CommitError::Store(error) } else { CommitError::Unknown(error) }
}

/// What a transaction was not committed for, where the server reads only since it has begun: that passes, and it is no
/// doing of a handler's. One who makes its own transaction read only hears something else (1792).
pub(super) fn not_by_handler(error: CommitError) -> CommitError {
    match error {
        CommitError::Store(error) if error.class() == Class::Standby => {
            CommitError::Store(error.of_class(Class::Busy))
        }
        error => error,
    }
}

/// Whether COMMIT says so only of a transaction that it has rolled back: it met a conflict, which a cluster finds with
/// the commit; a backup, or whoever has locked all tables, did not let it begin in time; the server reads only since the
/// transaction began; it has more to write than the server's log of changes takes, or than a cluster replicates in one
/// piece. What says that it was interrupted, or that the log or a file was not written, may come behind the commit.
fn is_undone(number: u16, text: &str) -> bool {
    match number {
        1213 | 1205 | 1290 | 1197 => true,
        // <https://mariadb.com/docs/server/reference/error-codes/mariadb-error-codes-1100-to-1199/e1180>
        ERROR_DURING_COMMIT => cause(text) == Some(TOO_LONG),
        _ => false,
    }
}

/// The number in the text of [`ERROR_DURING_COMMIT`], `Got error 90 "Message too long" during COMMIT`. It is the first
/// one in every language of the server, and stands nowhere else.
fn cause(text: &str) -> Option<u32> {
    text.split(|character: char| !character.is_ascii_digit()).find(|digits| !digits.is_empty())?.parse().ok()
}

/// Whether an error is about the connection, of which a proxy speaks as well that has lost its server.
pub(super) fn is_of_connection(error: &sqlx::Error) -> bool {
    class_of(error) == Class::ConnectionLost
}

#[cfg(test)]
mod tests {
    use super::*;

    /// O11: what is tried again is told by a code that never changes.
    #[test]
    fn numbers_decide_and_texts_do_not() {
        for (number, state, class) in [
            (1205, "HY000", Class::Busy),
            (1213, "40001", Class::Busy),
            (1969, "70100", Class::Busy),
            (2006, "HY000", Class::ConnectionLost),
            (2013, "HY000", Class::ConnectionLost),
            (1040, "08004", Class::ConnectionLost),
            (1927, "70100", Class::ConnectionLost),
            (9999, "08S01", Class::ConnectionLost),
            (1062, "23000", Class::Constraint),
            (1048, "23000", Class::Constraint),
            (4025, "23000", Class::Constraint),
            (1021, "HY000", Class::Full),
            (1114, "HY000", Class::Full),
            (20, "HY000", Class::Full),
            (3, "HY000", Class::Io),
            (1030, "HY000", Class::Io),
            (1792, "25006", Class::ReadOnly),
            (1290, "HY000", Class::Standby),
            (1836, "HY000", Class::Standby),
            (1045, "28000", Class::CannotOpen),
            (1049, "42000", Class::CannotOpen),
            (1194, "HY000", Class::Corrupt),
            (1146, "42S02", Class::Other),
            (1064, "42000", Class::Other),
        ] {
            assert_eq!(class_of_number(number, Some(state)), class, "{number}");
        }
        assert_eq!(class_of_number(9999, None), Class::Other);
        let text = sqlx::Error::Protocol("Deadlock found when trying to get lock".to_owned());
        assert_eq!(class_of(&text), Class::Other);
        let gone = sqlx::Error::Io(std::io::ErrorKind::UnexpectedEof.into());
        assert_eq!(class_of(&gone), Class::ConnectionLost);
    }

    /// Symptom: plain code heard that nobody knew whether it had committed, when a server had become a replica in the
    /// middle of a transaction, or a backup had kept the commit waiting for too long. Cause: of all answers to COMMIT
    /// only a deadlock counted as one that tells of a rollback. Fix: these do, too.
    #[test]
    fn a_commit_is_refused_by_what_comes_before_it() {
        for number in [1205, 1213, 1290, 1197] {
            assert!(is_undone(number, ""), "{number}");
        }
        // Got an error during COMMIT, interrupted, ended, shut down, not written, full, forced, out of memory.
        for number in [1180, 1317, 1969, 1927, 1053, 1026, 3, 1021, 1030, 1836, 1037, 1041, 1047] {
            assert!(!is_undone(number, ""), "{number}");
        }
    }

    /// Symptom: on a Galera cluster an event whose transaction was larger than it replicates in one piece was handled
    /// again and again without end, and was no dead letter; plain code heard that nobody knew. Cause: 1180 says of any
    /// cause that a commit has failed, and counted as one that may have been made. Fix: its number 90 says that nothing
    /// was sent.
    #[test]
    fn what_a_cluster_finds_too_large_is_undone() {
        for text in [
            "Got error 90 \"Message too long\" during COMMIT",
            "Fehler 90 \"Message too long\" beim COMMIT",
            "Got error 90 during COMMIT",
        ] {
            assert!(is_undone(1180, text), "{text}");
            assert!(!is_undone(1105, text), "{text}");
        }
        // Input/output error, as older versions say the same and the system says others; what a later number begins
        // with; no number at all.
        for text in [
            "Got error 5 \"Input/output error\" during COMMIT",
            "Got error 1 \"Operation not permitted\" during COMMIT",
            "Got error 900 \"Unknown error 900\" during COMMIT",
            "Got error 28 \"No space left on device: 90\" during COMMIT",
            "Got error 99999999999 during COMMIT",
            "Error while appending streaming replication fragment",
        ] {
            assert!(!is_undone(1180, text), "{text}");
        }
        // It is refused for good: the handler's next attempts are counted, and plain code hears of a refusal.
        assert_eq!(class_of_number(1180, Some("HY000")), Class::Other);
    }

    /// Symptom: events became dead letters when a server was made a replica while their handlers worked. Cause: what the
    /// framework writes with the commit was refused then, and that counted as an attempt of the handler. Fix: it passes.
    #[test]
    fn a_server_that_has_become_a_replica_is_no_failure_of_a_handler() {
        for (number, state, class) in [
            (1290, "HY000", Class::Busy),
            (1836, "HY000", Class::Busy),
            (1792, "25006", Class::ReadOnly),
            (1062, "23000", Class::Constraint),
        ] {
            let error =
                StoreError::new("commit", class_of_number(number, Some(state)), sqlx::Error::PoolClosed);
            match not_by_handler(CommitError::Store(error)) {
                CommitError::Store(error) => assert_eq!(error.class(), class, "{number}"),
                error => panic!("{error}"),
            }
        }
        let unknown = StoreError::new("commit", Class::Standby, sqlx::Error::PoolClosed);
        assert!(matches!(not_by_handler(CommitError::Unknown(unknown)), CommitError::Unknown(_)));
    }

    /// A connection that ends during COMMIT says nothing about the commit.
    #[test]
    fn a_lost_answer_is_not_an_attempt() {
        let gone = sqlx::Error::Io(std::io::ErrorKind::UnexpectedEof.into());
        assert!(matches!(not_committed("commit", gone), CommitError::Unknown(_)));
    }
}
