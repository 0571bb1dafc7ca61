//! Names and seams that every layer of Courant shares.
//!
//! Nothing here does I/O or knows a runtime: what the outside world decides (the time, random
//! numbers) comes in through traits, so that tests decide it instead.

pub mod base64;
pub mod clock;
pub mod consumer;
pub mod decisions;
pub mod entropy;
pub mod event_id;
pub mod foreign;
pub mod headers;
pub mod operations;
pub mod partitioner;
pub mod position;
pub mod topic;
pub mod trace;
