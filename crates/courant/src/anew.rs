//! What is said before a subscription handles events that it has handled before.

use std::fmt;

/// A subscription of a new generation that has not come anywhere yet: once its service starts, it handles events
/// that the generation before has handled, too.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Anew {
    /// The name of the subscription.
    pub consumer: String,
    /// Its generation.
    pub generation: u32,
    /// The types that it handles.
    pub event_types: Vec<&'static str>,
}

impl fmt::Display for Anew {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "subscription {:?} begins anew, as generation {}: it handles {} from where it begins, whether it was \
             handled before or not, so rows are written, events are published and other systems are called once \
             more, these with the idempotency keys of the first time",
            self.consumer,
            self.generation,
            self.event_types.join(", ")
        )
    }
}
