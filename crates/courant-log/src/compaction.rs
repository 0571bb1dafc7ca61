//! Compaction: of the events with one key, the newest stays, at its offset.
//!
//! This is what compaction decides; nothing here reads a file or a clock. A round goes so:
//!
//! 1. [`plan()`] says whether a partition is due, and which of its sealed segments become which new ones.
//! 2. [`Survivors::learn`] is shown the batches of the plan's dirty segments. Where its memory ends,
//!    [`Plan::within`] cuts the plan.
//! 3. [`Survivors::rewrite`] is shown the batches of all segments of the plan, in the order of offsets.
//!
//! New segments take the place of old ones group by group, the oldest group first, and a round may end
//! behind any of them. So whatever an event supersedes goes before the event can: a deleted key does not
//! come back.
//!
//! The invariant: for every key, the newest event is in the log, unless it is a tombstone that may go,
//! and then no older event of the key is. Offsets and the order of events never change.

mod config;
mod key_map;
#[cfg(test)]
mod model_tests;
mod plan;
mod siphash;
mod survivors;

pub use config::CompactionConfig;
pub use key_map::{Full, KeyMap};
pub use plan::{Group, Plan, SegmentInfo, plan};
pub use survivors::{LearnError, Survivors};
