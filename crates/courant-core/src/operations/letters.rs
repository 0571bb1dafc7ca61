//! On disk: dead letters as an answer in `_courant.ops.answers` tells of them, as JSON; the page is
//! `docs/formats/services.md`.
//!
//! No payload, no key of an event, no header and no text of an error is in it: those may be somebody's data.

use serde::{Deserialize, Serialize};

/// A dead letter, without what its event says.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ToldLetter {
    /// Its number.
    pub letter: i64,
    /// Whose it is.
    pub consumer: String,
    /// Which generation of that.
    pub generation: u32,
    /// The topic of its event.
    pub topic: String,
    /// The partition of its event.
    pub partition: u32,
    /// The offset of its event.
    pub offset: u64,
    /// The id of its event.
    pub event_id: String,
    /// Where it stands: `dead`, `redriving`, `redriven`, `discarded` or `archived`.
    pub state: String,
    /// Why it is one: `exhausted`, `undecodable` or `refused`.
    pub reason: String,
    /// Later events of its key wait for it.
    pub blocks_key: bool,
    /// How often it was tried, redrives included.
    pub attempts: u32,
    /// Its first failure, in milliseconds since 1970.
    pub first_failed_ms: i64,
    /// Its last one.
    pub last_failed_ms: i64,
    /// The error's type.
    pub error: String,
    /// Where it came from.
    pub place: String,
    /// The version of the service that gave up.
    pub code_version: String,
    /// What people have done with it, where that was asked for.
    pub notes: Option<Vec<ToldNote>>,
}

/// What somebody has done with a dead letter.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ToldNote {
    /// `edited`, `discarded`, `archived` or `restored`.
    pub action: String,
    /// Who.
    pub by: String,
    /// Why.
    pub reason: String,
    /// When, in milliseconds since 1970.
    pub at_ms: i64,
}
