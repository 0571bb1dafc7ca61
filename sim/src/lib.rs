//! The real log on a storage that loses, tears and fails.
//!
//! A [`script::Script`] does what clients do, by a seed; the [`ledger::Ledger`] knows what they were
//! promised. [`crash`] cuts the power in every storage call of it, and again in every recovery;
//! [`sweep`] has every call fail once, those of a start too; [`damage`] has bits go bad, and
//! [`every_byte`] all of them. The log here has no threads and reads no clock, so that the same seed makes the
//! same bytes; beside it, a watchdog tells which case does not end.

pub mod crash;
pub mod damage;
pub mod every_byte;
pub mod ledger;
pub mod random;
pub mod readable;
pub mod reads;
pub mod script;
pub mod sweep;
pub mod tiny;
pub mod workload;

mod compacted;
mod versions;
mod watchdog;

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// Bytes that a script's storage has.
pub const CAP_BYTES: u64 = 256 * 1024 * 1024;

/// Runs a check; what it panics with is what is wrong.
fn caught(check: impl FnOnce()) -> Result<(), String> {
    catch_unwind(AssertUnwindSafe(check)).map_err(|panic| message(&*panic))
}

fn message(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().cloned();
    text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned())).unwrap_or_default()
}
