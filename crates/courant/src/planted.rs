//! Guarantees that tests break on purpose, to show that the tests see it.
//!
//! A defect is planted in the whole process until it ends, and only in builds with the feature
//! `planted-defects`; in all others nothing here can be switched on.

/// A guarantee that is broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Defect {
    /// Events of the log are handled whatever the inbox says of them, and leave no row in it.
    NoInbox,
    /// What is scheduled for a time from now comes when half of it is over.
    EarlyTimers,
    /// Nothing is scheduled under its name, so nobody can replace or cancel it.
    NamelessTimers,
    /// Only the first attempt goes through the layers.
    LayersOnce,
    /// What one call of a handler came to is taken as the answer to another one.
    AnyHandledWillDo,
    /// An envelope mapping finds no ids: an event has that of its place.
    MappedWithoutIds,
    /// What could not be read is not read again when it is sent back.
    ReadOnce,
    /// Requests are followed whoever has signed them.
    AnySignature,
    /// Requests are followed although their time is over.
    NoExpiry,
    /// A request that is repeated does not know what it has decided before.
    DecisionsForgotten,
}

#[cfg(feature = "planted-defects")]
mod switch {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::Defect;

    /// One bit for each defect.
    static PLANTED: AtomicU32 = AtomicU32::new(0);

    fn bit(defect: Defect) -> u32 {
        1 << (defect as u32)
    }

    /// Plants a defect in this process.
    pub fn plant(defect: Defect) {
        PLANTED.fetch_or(bit(defect), Ordering::SeqCst);
    }

    pub(crate) fn is_planted(defect: Defect) -> bool {
        PLANTED.load(Ordering::SeqCst) & bit(defect) != 0
    }
}

#[cfg(not(feature = "planted-defects"))]
mod switch {
    pub(crate) const fn is_planted(_: super::Defect) -> bool {
        false
    }
}

pub(crate) use switch::is_planted;
#[cfg(feature = "planted-defects")]
pub use switch::plant;
