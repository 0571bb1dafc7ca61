//! What services say of themselves, what they are asked, and what they answer: the conventions of the
//! topics `_courant.services`, `_courant.ops` and `_courant.ops.answers`.
//!
//! A service writes and reads them with the framework, the server and the command line from outside. The
//! bytes are described in `docs/formats/services.md`.

mod key;
mod letters;
mod parked;
mod state;
mod wire;

pub use self::key::{InvalidKey, OperationsKey, hex, unhex};
pub use self::letters::{ToldLetter, ToldNote};
pub use self::parked::{ParkedChange, WhichParked};
pub use self::state::{
    DeadState, FailureState, ParkedState, PartitionState, PolicyState, RequestsState, STALL_REASONS,
    STATE_VERSION, ServiceState, StallState, SubscriptionState, UnreadableState,
};
pub use self::wire::{
    Action, Answer, Change, DecidedLetter, EXPIRY_MAX_MS, Envelope, Outcome, PlannedRedrive, REQUEST_TYPE,
    RedriveProgress, RedriveResult, Refusal, Request, ResultPage, Signed, VERSION, Which,
};

/// Where services say how they are: compacted, one event for each instance.
pub const SERVICES: &str = "_courant.services";

/// Where requests are sent to.
pub const REQUESTS: &str = "_courant.ops";

/// Where they are answered.
pub const ANSWERS: &str = "_courant.ops.answers";

/// How long requests and answers are kept, in milliseconds: a day, which is more than any request is valid.
pub const KEPT_MS: &str = "86400000";

/// The short name of a failure: FNV-1a with 64 bits over consumer, error and place, folded to 32. It is the
/// same as long as these are.
#[must_use]
pub fn failure_name(consumer: &str, kind: &str, place: &str) -> String {
    let bytes = [consumer, kind, place].into_iter().flat_map(|part| part.bytes().chain([0]));
    let hash = bytes.fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    });
    format!("{:08x}", (hash ^ (hash >> 32)) & 0xffff_ffff)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The command line has given these names for as long as there are failures.
    #[test]
    fn a_failure_has_the_name_that_it_always_had() {
        let name = failure_name("billing", "dlq_service::NotBilled", "dlq_service::bill");
        assert_eq!(name, "56804b16");
    }
}
