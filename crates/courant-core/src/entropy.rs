//! Random identities, as something a test can repeat.

use uuid::Uuid;

/// Where new identities come from.
pub trait Entropy: Send + Sync {
    /// An identity that nothing else has.
    fn uuid(&self) -> Uuid;
}
