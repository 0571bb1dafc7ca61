//! The operations channel: services say what they are and how they are, and take signed requests.
//!
//! ```text
//!   service ──state──▶ _courant.services ──▶ `courant services`, a console
//!   service ◀─signed request── _courant.ops ◀── `courant dlq … --engine URL --service NAME`
//!   service ──answer──▶ _courant.ops.answers ──▶ whoever has asked
//! ```
//!
//! Neither state nor an answer has a payload, a key of an event or the text of an error in it. Requests are
//! taken by services with a store that were given an [`OperationsKey`], and by no other; each takes effect
//! once, by the inbox. The bytes are described in `docs/formats/services.md`, and their types stand in
//! `courant_core::operations`.

mod acting;
mod announcer;
mod deciding;
mod desk;
mod facts;
mod letters;
mod open;
mod parked;
mod readers;
mod telling;
mod topics;
mod wire;

pub use courant_core::operations::{
    ANSWERS, Action, Answer, Change, DeadState, DecidedLetter, EXPIRY_MAX_MS, FailureState, InvalidKey,
    OperationsKey, Outcome, ParkedChange, ParkedState, PartitionState, PlannedRedrive, PolicyState, REQUESTS,
    RedriveProgress, RedriveResult, Refusal, Request, RequestsState, ResultPage, SERVICES, ServiceState,
    Signed, StallState, SubscriptionState, ToldLetter, ToldNote, UnreadableState, Which, WhichParked,
    failure_name,
};

pub(crate) use self::announcer::Channel;
pub(crate) use self::desk::{CONSUMER_PREFIX, Desk};
pub use self::letters::{edited_headers, unlike_its_type};
pub(crate) use self::open::{Described, described, may_operate, prepare, without_store};
pub(crate) use self::readers::Readers;
pub(crate) use self::topics::new_topic;
