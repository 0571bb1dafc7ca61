//! What runs a service: a loop for each subscription, workers for their events, and the relay.
//!
//! ```text
//!   engine ──records──▶ driver ──lanes──▶ worker ──▶ ledger ──▶ handler
//!     ▲                   ▲                            │
//!     │                   └── progress ◀── settled ────┤ one transaction: inbox, effects, outbox
//!     └──────── relay ◀──────────── outbox ◀───────────┘
//! ```

mod begin;
mod call;
mod context;
mod dead;
mod direct_ledger;
mod driver;
mod faults;
mod forgetting;
mod incoming;
mod lanes;
mod ledger;
mod looking;
mod missed;
mod passing;
mod policy;
mod progress;
mod relay;
mod seldom;
mod stalls;
mod status;
mod stopping;
mod store_ledger;
mod time;
mod timers;

pub(crate) use self::begin::{Begin, begin};
pub(crate) use self::call::Caller;
pub(crate) use self::context::{Activity, Backlog, Context};
pub(crate) use self::dead::{origin as dead_letter_origin, topic as dead_letter_topic};
pub(crate) use self::direct_ledger::DirectLedger;
pub(crate) use self::driver::{Driver, Orders};
#[cfg(feature = "testkit")]
pub use self::faults::FaultPoint;
pub(crate) use self::faults::Faults;
pub(crate) use self::forgetting::{Forgetting, Turn, run as run_forgetting};
#[cfg(feature = "testkit")]
pub(crate) use self::incoming::event as event_of;
pub(crate) use self::ledger::{Kept, Ledger, Trouble};
pub(crate) use self::looking::{look, refused};
pub(crate) use self::relay::{Parts as RelayParts, Relay, run as run_relay};
pub(crate) use self::seldom::Seldom;
pub(crate) use self::stalls::Stalls;
pub(crate) use self::status::{State, Status};
pub(crate) use self::stopping::StopTimes;
pub(crate) use self::store_ledger::{Rules, StoreLedger, UnderWay};
pub(crate) use self::time::{Passing, Time, after};
pub(crate) use self::timers::{Timers, run as run_timers};
