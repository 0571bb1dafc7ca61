//! What can go wrong, by operation. What the database said is classified by its code, never by its
//! text: texts change between versions and languages.

use std::fmt;

use courant_core::event_id::EventId;

use crate::consumer::Assignment;
use crate::dead::DeadState;
use crate::limits::{
    ADMITTED_MAX, EVENT_BYTES_MAX, PUBLISHED_BYTES_MAX, PUBLISHED_EVENTS_MAX, TIMER_NAME_BYTES_MAX,
};
use crate::version::RAISED;

/// What kind of trouble a database is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Class {
    /// Somebody else holds a lock. The same again will do.
    Busy,
    /// The connection is gone. The same again, on a new one, will do.
    ConnectionLost,
    /// The server only reads: it is a standby, or becomes one. Another one is about to take its place.
    Standby,
    /// The disk or the database's quota is full.
    Full,
    /// Reading or writing its files failed.
    Io,
    /// The file or the database may not be written.
    ReadOnly,
    /// The database cannot be opened: no such directory or database, or no right to it.
    CannotOpen,
    /// A constraint of the tables is against it.
    Constraint,
    /// Its files are damaged or no database, or it has rows that this version cannot read.
    Corrupt,
    /// Anything else: a statement that is wrong, a table that is missing.
    Other,
}

impl Class {
    /// Whether the same again may succeed without anybody's help.
    #[must_use]
    pub fn is_retriable(self) -> bool {
        matches!(self, Self::Busy | Self::ConnectionLost | Self::Standby)
    }

    fn advice(self) -> &'static str {
        match self {
            Self::Busy => {
                "another connection holds the lock: try again, and keep transactions of other programs short"
            }
            Self::ConnectionLost => "the connection is lost: try again",
            Self::Standby => {
                "the server is a standby, which only reads: try again when the address leads to the one that \
                 writes"
            }
            Self::Full => "the disk is full: make room, then go on",
            Self::Io => "reading or writing failed: look at the disk",
            Self::ReadOnly => "it may not be written: give the process the right to write it",
            Self::CannotOpen => "it cannot be opened: create it, or give the process the right to it",
            Self::Constraint => "a constraint is against it",
            Self::Corrupt => "it is no database of this kind, is damaged, or was written by another version",
            Self::Other => "the database refused",
        }
    }
}

impl fmt::Display for Class {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.advice())
    }
}

/// The database did not do what it was asked for.
#[derive(Debug, thiserror::Error)]
#[error("the store could not {doing}; {class} ({source})")]
pub struct StoreError {
    doing: &'static str,
    class: Class,
    source: sqlx::Error,
}

impl StoreError {
    pub(crate) fn new(doing: &'static str, class: Class, source: sqlx::Error) -> Self {
        Self { doing, class, source }
    }

    /// A value of the tables that this version cannot read.
    pub(crate) fn unreadable(doing: &'static str, what: impl fmt::Display) -> Self {
        Self { doing, class: Class::Corrupt, source: sqlx::Error::Decode(what.to_string().into()) }
    }

    /// The same, as another kind of trouble.
    #[cfg(feature = "mariadb")]
    pub(crate) fn of_class(self, class: Class) -> Self {
        Self { class, ..self }
    }

    /// What kind of trouble it is.
    #[must_use]
    pub fn class(&self) -> Class {
        self.class
    }

    /// The same again may succeed without anybody's help.
    #[must_use]
    pub fn is_retriable(&self) -> bool {
        self.class.is_retriable()
    }
}

/// A store could not be connected to.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConnectError {
    /// The address is not one of this database.
    #[error("{url:?} is no address of {expected}")]
    Url {
        /// The address, without its password.
        url: String,
        /// What it has to be the address of, and how that is written.
        expected: &'static str,
    },
    /// What answers is another server, or an older one.
    #[error("the server says that it is {found:?}, and the store needs {needed}")]
    Server {
        /// What it says of itself.
        found: String,
        /// What it has to be.
        needed: &'static str,
    },
    /// The database did not open.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// The framework's tables are not what this version needs.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SchemaError {
    /// They were never installed.
    #[error("the database has no tables of Courant yet: install them once, with `Store::install`")]
    Missing,
    /// They are of another version.
    #[error(
        "the tables of Courant in this database are of version {found}, and this program knows version \
         {known}: {advice}", advice = other_version(.found, .known)
    )]
    OtherVersion {
        /// What the database has.
        found: i64,
        /// What this program knows.
        known: i64,
    },
    /// They have another number of lanes.
    #[error(
        "the outbox of this database has {found} lanes, and this program knows {known}: use the version \
         of Courant that installed it"
    )]
    OtherLanes {
        /// What the database has.
        found: i64,
        /// What this program knows.
        known: i64,
    },
    /// The database did not answer.
    #[error(transparent)]
    Store(#[from] StoreError),
}

fn other_version(found: &i64, known: &i64) -> &'static str {
    if found > known {
        "use the newer version of the program; this one would not understand what the tables hold"
    } else if *found == RAISED {
        "start the service with this version, or `courant relay --install`: that raises the tables, and \
         keeps what is in them"
    } else {
        "there is no migration from it; finish what is in the tables with the older program, drop the \
         tables whose names begin with courant_, and install them anew"
    }
}

/// A transaction could not be begun.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BeginError {
    /// Somebody else has taken the partition over.
    #[error("{assignment} has another owner: epoch {held} was given up for {current}")]
    Fenced {
        /// Which partition, and for whom.
        assignment: Box<Assignment>,
        /// The lease's epoch.
        held: u64,
        /// The epoch of today; 0 when nobody has ever taken it.
        current: u64,
    },
    /// The database did not do it.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Something that only a partition's owner may do was not done.
pub type LeaseError = BeginError;

/// A consumer was not set back, or anywhere else.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ResetError {
    /// Events that are not done with have offsets which come again. An offset has room for one parked event
    /// and one dead letter: whatever came there would not be kept.
    #[error(
        "{assignment} would go on at offset {next}, and events that are not done with have offsets from there \
         on ({parked} parked, {letters} dead letters): what comes there could not be kept beside them. Let what \
         is parked be handled on the log that it came from, or discard it with `courant dlq discard-parked`, and \
         discard the dead letters, archived ones after they were restored; or begin a new generation, which \
         leaves both where they are"
    )]
    InTheWay {
        /// Which partition, and for whom.
        assignment: Box<Assignment>,
        /// The offset that would come next.
        next: u64,
        /// Events that wait from there on.
        parked: u64,
        /// Dead letters from there on that are neither handled nor discarded.
        letters: u64,
    },
    /// Somebody else has the partition.
    #[error(transparent)]
    Begin(#[from] BeginError),
    /// The database did not do it.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// A transaction of the service's own could not be taken over.
#[cfg(any(feature = "mariadb", feature = "postgres"))]
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AttachError {
    /// It sees what was committed before it began, and not what was committed since.
    #[error("the transaction is at isolation level {found}, and the outbox needs READ COMMITTED: {remedy}")]
    Isolation {
        /// Its level, in the words of the database.
        found: String,
        /// How one is begun that is not.
        remedy: &'static str,
    },
    /// There is no transaction, it has failed, or one inside it is open.
    #[error(
        "only an open transaction that has not failed can be taken over, and none that is inside another"
    )]
    NoTransaction,
    /// The database did not do it.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Deliveries could not be admitted.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AdmitError {
    /// More than a transaction takes.
    #[error("a transaction takes at most {max} events; here are {events}", max = ADMITTED_MAX)]
    TooMany {
        /// How many there are.
        events: usize,
    },
    /// The transaction was begun without a lease.
    #[error("only a transaction that was begun with a lease takes deliveries")]
    NoLease,
    /// The transaction that was to admit them was not begun.
    #[error(transparent)]
    Begin(#[from] BeginError),
    /// The database did not do it.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// An event cannot be published in this transaction.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PublishError {
    /// More events than a transaction takes.
    #[error(
        "a transaction publishes at most {max} events: split the work over several events",
        max = PUBLISHED_EVENTS_MAX
    )]
    TooMany,
    /// More bytes than a transaction takes.
    #[error(
        "a transaction publishes at most {max} bytes: split the work over several events",
        max = PUBLISHED_BYTES_MAX
    )]
    TooManyBytes,
    /// One event is too large.
    #[error(
        "an event has at most {max} bytes with its headers; {id} has {bytes}: store the large part \
         elsewhere and publish where it is",
        max = EVENT_BYTES_MAX
    )]
    TooLarge {
        /// The event.
        id: EventId,
        /// Its size.
        bytes: usize,
    },
    /// One event is too large for the server as it is set.
    #[error(
        "the database server takes events of at most {max} bytes; {id} has {bytes}: let it take larger \
         packets (max_allowed_packet), or store the large part elsewhere and publish where it is"
    )]
    TooLargeForServer {
        /// The event.
        id: EventId,
        /// Its size.
        bytes: usize,
        /// What the server takes.
        max: usize,
    },
}

/// A text is no name for a timer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidTimerName {
    /// There is nothing in it.
    #[error("the {part} of a timer is empty: say what it is for, and for which thing")]
    Empty {
        /// `scope` or `name`.
        part: &'static str,
    },
    /// It has more bytes than one may have.
    #[error("the {part} of a timer has at most {max} bytes; this one has {bytes}", max = TIMER_NAME_BYTES_MAX)]
    TooLong {
        /// `scope` or `name`.
        part: &'static str,
        /// How many it has.
        bytes: usize,
    },
}

/// A transaction was not committed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CommitError {
    /// The transaction had ended before the handler was done: nothing of it is certain, and none of it
    /// is committed as a whole.
    #[error(
        "the transaction had already ended: a statement inside it committed or rolled it back, or an \
         error that was not passed on has; neither may happen in a handler, use savepoints instead"
    )]
    Ended,
    /// A transaction that was begun inside it is still open.
    #[error("a nested transaction was neither committed nor rolled back; end it before the handler returns")]
    NestedOpen,
    /// The database refused, and has rolled back.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Nobody knows. It is not an attempt: whether the event was handled, its inbox row says.
    #[error("whether the transaction was committed is not known, its inbox rows will say: {0}")]
    Unknown(#[source] StoreError),
}

/// The outbox was not moved on.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AdvanceError {
    /// Another relay has taken it over.
    #[error("the outbox {shard:?} has another relay: epoch {held} was given up for {current}")]
    Fenced {
        /// What it relays.
        shard: String,
        /// The lease's epoch.
        held: u64,
        /// The epoch of today.
        current: u64,
    },
    /// A lane cannot have come that far.
    #[error("lane {lane} of the outbox has no event {position} that waits")]
    NoSuchEvent {
        /// The lane.
        lane: u16,
        /// The position that was named.
        position: u64,
    },
    /// The database did not do it.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// A redrive was not changed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RedriveError {
    /// There is none with this id.
    #[error("there is no redrive {id:?}: use the id that the request was made with")]
    Unknown {
        /// The id.
        id: String,
    },
    /// The database did not do it.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// A dead letter was not edited.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EditError {
    /// There is none with this number.
    #[error("there is no dead letter {id}: use a number of the list")]
    Unknown {
        /// The number.
        id: i64,
    },
    /// Somebody has decided about it.
    #[error("dead letter {id} is {stands}: only one that nobody has decided about can be edited", stands = .state.as_str())]
    Decided {
        /// The number.
        id: i64,
        /// Where it stands.
        state: DeadState,
    },
    /// Somebody else has edited it.
    #[error(
        "dead letter {id} has the event {found} by now: somebody has edited it meanwhile, so look at it again"
    )]
    Changed {
        /// The number.
        id: i64,
        /// The id of its event.
        found: EventId,
    },
    /// The database did not do it.
    #[error(transparent)]
    Store(#[from] StoreError),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_passes_by_itself_is_tried_again() {
        let retriable: Vec<Class> = [
            Class::Busy,
            Class::ConnectionLost,
            Class::Standby,
            Class::Full,
            Class::Io,
            Class::ReadOnly,
            Class::CannotOpen,
            Class::Constraint,
            Class::Corrupt,
            Class::Other,
        ]
        .into_iter()
        .filter(|class| class.is_retriable())
        .collect();
        assert_eq!(retriable, [Class::Busy, Class::ConnectionLost, Class::Standby]);
    }

    #[test]
    fn a_schema_of_another_version_says_what_to_do() {
        let newer = SchemaError::OtherVersion { found: 9, known: 1 }.to_string();
        assert!(newer.contains("version 9") && newer.contains("newer version of the program"), "{newer}");
        let older = SchemaError::OtherVersion { found: 0, known: 1 }.to_string();
        assert!(older.contains("courant_"), "{older}");
        let raised = SchemaError::OtherVersion { found: RAISED, known: 3 }.to_string();
        assert!(raised.contains("raises the tables") && !raised.contains("drop"), "{raised}");
    }
}
