//! Guarantees that tests break on purpose, to show that the tests see it.
//!
//! A defect is planted in the whole process until it ends, and only in builds with the feature
//! `planted-defects`; in all others nothing here can be switched on. `courant serve` plants the one that
//! `COURANT_PLANTED_DEFECT` names.

/// A guarantee that is broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Defect {
    /// Any token is as good as those of the token file.
    AnyToken,
    /// Pages of other sites may ask for changes.
    AnyOrigin,
    /// Topics are deleted although nobody has confirmed it.
    UnconfirmedDeletes,
    /// Changes are answered, and no event tells of them.
    Unaudited,
    /// The index of traces does not say that it has forgotten something.
    ForgottenInSilence,
    /// Events of a trace have no causes.
    NoCauses,
    /// Spans of requests are below nothing.
    SpansWithoutParents,
    /// What is published by HTTP is made in the span of the client, and not in that of its request.
    OutsideOfSpans,
}

impl Defect {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::AnyToken,
        Self::AnyOrigin,
        Self::UnconfirmedDeletes,
        Self::Unaudited,
        Self::ForgottenInSilence,
        Self::NoCauses,
        Self::SpansWithoutParents,
        Self::OutsideOfSpans,
    ];

    /// As the environment names it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::AnyToken => "any-token",
            Self::AnyOrigin => "any-origin",
            Self::UnconfirmedDeletes => "unconfirmed-deletes",
            Self::Unaudited => "unaudited",
            Self::ForgottenInSilence => "forgotten-in-silence",
            Self::NoCauses => "no-causes",
            Self::SpansWithoutParents => "spans-without-parents",
            Self::OutsideOfSpans => "outside-of-spans",
        }
    }
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

    /// Plants a defect in this process, and says so.
    pub fn plant(defect: Defect) {
        tracing::warn!("planted defect: {}", defect.name());
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
