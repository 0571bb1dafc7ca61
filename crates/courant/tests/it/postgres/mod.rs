//! Whole services on Postgres.

mod attaching;
mod behind;
mod pool;
mod private;
mod progress_beside;
mod queued_at_once;
mod ringing;
pub(crate) mod support;

#[path = "../cases/asked_from_outside.rs"]
mod asked_from_outside;
#[path = "../cases/bank.rs"]
mod bank;
#[path = "../cases/batching.rs"]
mod batching;
#[path = "../cases/broker_down.rs"]
mod broker_down;
#[path = "../cases/common.rs"]
mod common;
#[path = "../cases/dead_letters.rs"]
mod dead_letters;
#[path = "../cases/effects.rs"]
mod effects;
#[path = "../cases/facts.rs"]
mod facts;
#[path = "../cases/forgetting.rs"]
mod forgetting;
#[path = "../cases/frozen.rs"]
mod frozen;
#[path = "../cases/killed_relays.rs"]
mod killed_relays;
#[path = "../cases/ordering.rs"]
mod ordering;
#[path = "../cases/parked_max.rs"]
mod parked_max;
#[path = "../cases/progress.rs"]
mod progress;
#[path = "../cases/publishing.rs"]
mod publishing;
#[path = "../cases/rolling.rs"]
mod rolling;
#[path = "../cases/savepoints.rs"]
mod savepoints;
#[path = "../cases/stopping.rs"]
mod stopping;
#[path = "../cases/timers.rs"]
mod timers;
#[path = "../cases/waking.rs"]
mod waking;
#[path = "../cases/without_room.rs"]
mod without_room;
