//! Every bound of the store, in one place.

#[cfg(any(feature = "mariadb", feature = "postgres"))]
use std::time::Duration;

/// Lanes of the outbox: how many sequences of events are given positions independently. Fixed when
/// the tables are installed.
pub const LANES: u16 = 256;

/// Events that one transaction may publish.
pub const PUBLISHED_EVENTS_MAX: usize = 10_000;

/// Bytes that one transaction may publish, headers and keys included.
pub const PUBLISHED_BYTES_MAX: usize = 64 * 1024 * 1024;

/// Bytes of one event in the outbox, headers and key included.
pub const EVENT_BYTES_MAX: usize = 16 * 1024 * 1024;

/// Bytes of a timer's name, and of its scope.
pub const TIMER_NAME_BYTES_MAX: usize = 255;

/// Deliveries that one transaction may admit.
pub const ADMITTED_MAX: usize = 1000;

/// Rows that one call lists at most, whatever it is asked for.
pub const LISTED_MAX: u32 = 1000;

/// Dead letters that one redrive takes at most; another one takes the rest.
pub const REDRIVE_EVENTS_MAX: u32 = 100_000;

/// Parked events that are given up by one call, and that are in memory at one time with their bytes.
pub const GIVEN_UP_AT_ONCE: u32 = 100;

/// Bytes of an error's text that are kept with a parked event or a dead letter.
pub const FAILURE_TEXT_BYTES_MAX: usize = 16 * 1024;

/// Rows of the outbox, of parked events and of the inbox that one statement writes at most. SQLite
/// takes 32,766 parameters.
pub(crate) const ROWS_PER_STATEMENT: usize = 500;

/// How long SQLite waits for another process to give the write lock back, and a takeover in Postgres or
/// MariaDB for the transactions of the owner so far.
pub(crate) const BUSY_TIMEOUT_MS: u64 = 5_000;

/// How long a server may take for a statement, and for each operation of the store, which takes a moment when
/// the server is well. The statements of handlers have the time of their handler.
#[cfg(any(feature = "mariadb", feature = "postgres"))]
pub(crate) const ANSWER_MAX: Duration = Duration::from_secs(60);

/// How long a connection may take that nobody has used for a while. It is asked for nothing that could be
/// slow, and if it leads nowhere a new one may lead somewhere.
#[cfg(any(feature = "mariadb", feature = "postgres"))]
pub(crate) const REUSED_MAX: Duration = Duration::from_secs(10);

/// Connections to a server, unless somebody asks for another number.
#[cfg(any(feature = "mariadb", feature = "postgres"))]
pub(crate) const CONNECTIONS_DEFAULT: u32 = 16;

/// Connections to a server that one store has at most.
#[cfg(any(feature = "mariadb", feature = "postgres"))]
pub(crate) const CONNECTIONS_MAX: u32 = 1000;

const _: () = assert!(LANES == 256, "lane_of takes the lowest eight bits of a hash");
