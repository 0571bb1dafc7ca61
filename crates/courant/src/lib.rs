//! Event-driven services whose effects happen once.
//!
//! > Your database changes and the events you publish take effect once per event and consumer; calls
//! > you make to other systems may repeat, with a stable idempotency key.
//!
//! A service is an [`App`]: an engine, by its URL; a store, which is a database of the user's own; and
//! [`Subscription`]s, whose handlers are plain `async fn`s.
//!
//! ```no_run
//! use courant::prelude::*;
//!
//! #[derive(Event, Serialize, Deserialize)]
//! #[event(type = "shop.order-placed", topic = "shop.orders", key = order_id)]
//! struct OrderPlaced {
//!     order_id: String,
//!     cents: i64,
//! }
//!
//! #[derive(Event, Serialize, Deserialize)]
//! #[event(type = "shop.order-billed", topic = "shop.bills", key = order_id)]
//! struct OrderBilled {
//!     order_id: String,
//! }
//!
//! async fn bill(order: OrderPlaced, mut tx: Tx<Sqlite>) -> Result<OrderBilled, HandlerError> {
//!     sqlx::query("insert into bills (order_id, cents) values (?, ?)")
//!         .bind(&order.order_id)
//!         .bind(order.cents)
//!         .execute(&mut *tx)
//!         .await?;
//!     Ok(OrderBilled { order_id: order.order_id })
//! }
//!
//! # async fn shown() -> Result<(), Box<dyn std::error::Error>> {
//! let service = App::new("billing")
//!     .engine("embedded:./events")
//!     .store(Sqlite::connect("sqlite:billing.db").await?)
//!     .subscribe(Subscription::named("billing").on(bill))
//!     .build()
//!     .await?;
//! service.run_until_signal().await?;
//! # Ok(())
//! # }
//! ```
//!
//! The row, the event and the note that the order was billed are one transaction. If it fails, the
//! order is parked and its key with it, the others go on, and it is tried again; see [`HandlerError`],
//! [`Retry`] and [`Exhausted`].

pub mod prelude;

mod anew;
mod app;
pub mod channel;
mod engines;
mod envelope;
mod error;
mod event;
mod handler;
pub mod layer;
#[cfg(feature = "listen")]
pub mod listen;
mod mapping;
mod operations;
mod outbox;
pub mod planted;
mod publisher;
mod relay;
mod retry;
mod runtime;
mod service;
mod signal;
mod stall;
mod store;
mod subscription;
#[cfg(feature = "testkit")]
pub mod testkit;
mod timers;
mod transactions;
mod tx;

pub use anew::Anew;
pub use app::{App, BuildError, EngineChoice, Need, Problem, ProblemCode};
pub use courant_core::consumer::ConsumerName;
pub use courant_core::event_id::EventId;
pub use courant_core::position::{Position, TopicPartition};
pub use courant_core::topic::TopicName;
pub use courant_core::trace;
pub use courant_macros::{Command, Event};
pub use courant_sql::{InvalidTimerName, TimerName};
pub use engines::open as open_engine;
pub use envelope::{Envelope, Meta};
pub use error::{BoxError, HandlerError, Verdict};
pub use event::{Command, Event, Key};
pub use handler::{
    Arguments, Direct, Extract, FirstArgument, Free, Given, Handler, InTransaction, IntoOutbox, IntoOutcome,
    OneTransaction, Provides, State, StoreOf, Taken, WithoutTransaction,
};
pub use mapping::Mapping;
pub use operations::{DeadLetters, PlainCommitError, PlainTx};
pub use outbox::{Outbox, PublishError};
pub use publisher::Publisher;
pub use relay::{Relay, RelayError, Relayed};
pub use retry::Retry;
pub use service::{RunError, Running, Service};
pub use signal::{SignalError, Told, until_signal};
pub use stall::{Stall, StallReason};
pub use store::{Backing, NoStore};
pub use subscription::{AtLeastOnce, Exhausted, Mode, Once, OtherLog, StartFrom, Subscription};
pub use timers::Due;
pub use transactions::Transactions;
#[doc(hidden)]
pub use tx::Slot;
pub use tx::Tx;

/// A future in a box.
pub(crate) use courant_engine::Boxed;

/// What identifies logs and topics, in the version that [`engine::Engine`] is written with.
pub use uuid;

/// Instants, in the version that [`Due`] is made from.
pub use jiff;

/// Engines, for those who need more of one than its URL.
pub use courant_engine as engine;
/// The store's own operations: dead letters, parked events, redrives.
pub use courant_sql as store_api;
