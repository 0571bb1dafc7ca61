//! The operations channel: services say what they are and how they are, and take signed requests.
//!
//! ```text
//!   service ──state──▶ _courant.services ──▶ `courant services`, a console
//!   service ◀─signed request── _courant.ops ◀── `courant dlq … --engine URL --service NAME`
//!   service ──answer──▶ _courant.ops.answers ──▶ whoever has asked
//! ```
//!
//! State never has a payload, a key or the text of an error in it. Requests are taken by services with a
//! store that were given an [`OperationsKey`], and by no other; each takes effect once, by the inbox. The
//! bytes are described in `docs/formats/services.md`.

mod acting;
mod announcer;
mod deciding;
mod desk;
mod facts;
mod key;
mod letters;
mod open;
mod state;
mod topics;
mod wire;

pub use self::key::{InvalidKey, OperationsKey};
pub use self::letters::{edited_headers, failure_name, unlike_its_type};
pub use self::state::{
    DeadState, FailureState, ParkedState, PartitionState, PolicyState, RequestsState, ServiceState,
    SubscriptionState, UnreadableState,
};
pub use self::topics::{ANSWERS, REQUESTS, SERVICES};
pub use self::wire::{
    Action, Answer, Change, DecidedLetter, EXPIRY_MAX_MS, Outcome, PlannedRedrive, RedriveProgress,
    RedriveResult, Refusal, Request, Signed, Which,
};

pub(crate) use self::announcer::Channel;
pub(crate) use self::desk::{CONSUMER_PREFIX, Desk};
pub(crate) use self::open::{Described, described, may_operate, prepare, without_store};
pub(crate) use self::topics::new_topic;
