//! Whether a run against a real log or broker kept the log's promises.
//!
//! A run writes values that are [`Stamp`]s, and tells a [`History`] what was sent, what was answered
//! and what readers saw. [`History::check`] then says what does not agree: each [`Finding`] is one
//! sentence about one event. The crate does no I/O, starts nothing and reads no clock, and what it
//! finds follows from the calls alone.
//!
//! ```
//! use courant_history::{Finding, History, Stamp};
//!
//! let stamp = Stamp { topic: "orders".to_owned(), partition: 0, producer: 1, sequence: 0 };
//! let mut history = History::new();
//! history.sent(&stamp);
//! history.acknowledged(&stamp, Some(0));
//! history.read("tail", "orders", 0, 0, &stamp.to_value(100));
//! history.complete("tail", "orders", 0, 0, 1);
//! assert!(history.check().is_empty());
//!
//! history.reader_seeks("tail", "orders", 0);
//! history.complete("tail", "orders", 0, 0, 1);
//! assert!(matches!(history.check()[..], [Finding::Lost { .. }]));
//! ```

mod check;
mod event;
mod finding;
mod findings;
mod history;
mod partition;
mod pass;
mod spans;
mod stamp;
mod table;

pub use finding::{Finding, FindingKind};
pub use findings::FINDINGS_OF_A_KIND_MAX;
pub use history::{Counts, History};
pub use stamp::{NotAStamp, Stamp};
