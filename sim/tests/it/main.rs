//! The log keeps its promises at every crash point, and these tests see it when it does not.
#![allow(clippy::print_stdout, reason = "how much was explored is worth reading")]

mod backup;
mod crashes;
mod damage;
mod defects;
mod determinism;
mod failures;
#[cfg(feature = "planted-defects")]
mod planted;
mod reads;
