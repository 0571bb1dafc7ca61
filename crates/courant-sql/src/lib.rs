//! The user's database, as the framework uses it: what a handler changes, what it was told and what
//! it publishes commit together here, or not at all.
//!
//! [`Store`] is every operation, [`Sqlite`] the one database that has them. A service is written for
//! one database; the trait keeps what the framework asks of any of them in one place, it does not
//! hide which one it is.
//!
//! One event on its way:
//!
//! 1. [`Store::begin`] under the [`Lease`] of its partition: the write lock, a savepoint, the epoch.
//! 2. [`Transaction::admit`]: its inbox row is written, or says that it was handled before.
//! 3. The handler works on [`Transaction::connection`]; [`Transaction::publish`] keeps what it returns.
//! 4. [`Transaction::commit`]: the outbox is flushed, the savepoint released, the transaction committed.
//!
//! A handler that fails rolls back, and the event is parked ([`Store::park`]) or becomes a dead letter
//! ([`Store::bury`]), each in a transaction of its own. The partition's progress moves on by itself
//! ([`Store::save_progress`]).
//!
//! The tables are described in `docs/formats/store.md` and `docs/formats/outbox.md`. Every instant
//! comes in as milliseconds since 1970; the database's clock is never asked.

mod consumer;
mod dead;
mod error;
mod event;
mod headers;
mod outbox;
mod parked;
mod redrive;
mod sqlite;
mod store;

pub mod limits;

pub use consumer::{Admission, Assignment, Consumer, Delivery, Outcome, Progress, Source};
pub use dead::{Burial, Buried, DeadFilter, DeadGroup, DeadLetter, DeadReason, DeadState, DeadSummary};
pub use error::{
    AdmitError, AdvanceError, BeginError, Class, CommitError, ConnectError, LeaseError, PublishError,
    RedriveError, SchemaError, StoreError,
};
pub use event::{Event, Failure};
pub use outbox::{LaneBatch, LanePosition, NewEvent, Pending, RelayLease, lane_of};
pub use parked::{Lease, Parked, ParkedCounts, ParkedEvent, ParkedKey};
pub use redrive::{Redrive, RedriveClaim, RedriveEvent, RedriveEventState, RedriveState};
pub use sqlite::{Reader, Sqlite, SqliteTransaction};
pub use store::{Committed, Store, Transaction};

/// The driver, in the version that [`Transaction::connection`] belongs to.
pub use sqlx;
