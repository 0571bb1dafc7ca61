//! The user's database, as the framework uses it: what a handler changes, what it was told and what
//! it publishes commit together here, or not at all.
//!
//! [`Store`] is every operation; [`Sqlite`] has them, and with the features of these names also `Postgres`
//! and `Mariadb`. A service is written for one database; the trait keeps what the framework asks of any of them in one
//! place, it does not hide which one it is.
//!
//! One event on its way:
//!
//! 1. [`Store::begin`] under the [`Lease`] of its partition: the lock, the epoch, a savepoint or a name.
//! 2. [`Transaction::admit`]: its inbox row is written, or says that it was handled before. Both steps are one
//!    in [`Store::begin_admitted`].
//! 3. The handler works on [`Transaction::connection`]; [`Transaction::publish`] keeps what it returns.
//! 4. [`Transaction::commit`]: the outbox is flushed, the savepoint released or the name compared, the transaction
//!    committed. Where an event stands ready behind this one, 1 and 2 of that one go with it:
//!    [`Transaction::commit_and_begin`].
//!
//! A handler that fails rolls back, and the event is parked ([`Store::park`]) or becomes a dead letter
//! ([`Store::bury`]), each in a transaction of its own. The partition's progress moves on by itself
//! ([`Store::save_progress`]).
//!
//! The tables are described in `docs/formats/store.md` and `docs/formats/outbox.md`. Every instant
//! comes in as milliseconds since 1970; the database's clock is never asked.

#[cfg(not(any(feature = "mariadb", feature = "postgres", feature = "sqlite")))]
compile_error!("courant-sql needs a database: turn the feature `sqlite`, `postgres` or `mariadb` on");

mod address;
mod admission;
#[cfg(any(feature = "mariadb", feature = "postgres"))]
mod answers;
mod columns;
mod consumer;
mod dead;
mod error;
mod event;
mod giving_up;
mod headers;
#[cfg(any(feature = "mariadb", feature = "postgres"))]
mod idle;
#[cfg(feature = "mariadb")]
mod mariadb;
mod note;
mod outbox;
mod parked;
mod places;
#[cfg(feature = "postgres")]
mod postgres;
mod publishing;
mod redrive;
mod room;
#[cfg(feature = "sqlite")]
mod sqlite;
mod store;
mod submitted;
mod timer;
mod transaction;
mod version;

pub mod limits;

pub use consumer::{Admission, Assignment, Consumer, Delivery, Outcome, Progress, Source};
pub use dead::{Burial, Buried, DeadFilter, DeadGroup, DeadLetter, DeadReason, DeadState, DeadSummary};
#[cfg(any(feature = "mariadb", feature = "postgres"))]
pub use error::AttachError;
pub use error::{
    AdmitError, AdvanceError, BeginError, Class, CommitError, ConnectError, EditError, InvalidTimerName,
    LeaseError, PublishError, RedriveError, ResetError, SchemaError, StoreError,
};
pub use event::{Event, Failure};
pub use giving_up::{GiveUpError, GivenUp, GivingUp, give_up};
#[cfg(feature = "mariadb")]
pub use mariadb::{Mariadb, MariadbReader, MariadbTransaction};
pub use note::{DeadAction, DeadEdit, DeadNote, Decision, Original, Verdict};
pub use outbox::{LaneBatch, LanePosition, NewEvent, OutboxBell, Pending, RelayLease, RelayState, lane_of};
pub use parked::{Lease, Parked, ParkedCounts, ParkedEvent, ParkedKey, ParkedOf};
#[cfg(feature = "postgres")]
pub use postgres::{Postgres, PostgresReader, PostgresTransaction};
pub use redrive::{Redrive, RedriveClaim, RedriveEvent, RedriveEventState, RedriveState};
pub use room::lacks_room;
#[cfg(feature = "sqlite")]
pub use sqlite::{Reader, Sqlite, SqliteTransaction};
pub use store::{Begun, Committed, Store, Transaction};
pub use submitted::{RefusedEvent, Sequenced, Sequencing};
pub use timer::{Fired, NewTimer, TimerName};

/// The driver, in the version that [`Transaction::connection`] belongs to.
pub use sqlx;
