//! Guarantees that tests break on purpose, one at a time, to show that the simulation sees it.
//!
//! A defect is planted in the thread that plants it, and only in builds with the feature
//! `planted-defects`; in all others nothing here can be switched on.

/// A guarantee that is broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Defect {
    /// A start does not ask what later groups vouch for: damage is always a torn tail.
    NoDurableMark,
    /// Groups and entries of the journal are taken for whole whatever their checksums say.
    NoChecksums,
    /// A sync of the journal that fails is tried once more, and believed then.
    RetryAfterFailedSync,
    /// Answers are given before the journal is synced.
    AnswerBeforeSync,
    /// Readers see what is not on disk yet.
    PublishBeforeSync,
    /// Checksums have no seed: what an earlier use of a file has left passes.
    NoSeed,
    /// What stands in a segment behind its checkpointed end is kept.
    SegmentTailTrusted,
    /// A repetition is answered before what it repeats is on disk.
    DuplicateBeforeOriginal,
    /// A compacted segment takes the place of others before it is on disk.
    CompactedNotSynced,
    /// An append that commits itself goes before those that wait.
    LoneOvertakes,
    /// A checkpoint frees the journal of what segments have grown by since they were synced ahead of it.
    SyncedAheadIsEnough,
    /// An error of a sync ahead of a checkpoint is passed over.
    ErrorAheadPassedOver,
    /// What is read from memory alone is given to readers as it is.
    CachedNotCompared,
    /// Where something is not in memory, the file is taken to end.
    NotInMemoryIsTheEnd,
}

#[cfg(feature = "planted-defects")]
mod switch {
    use std::cell::Cell;

    use super::Defect;

    thread_local! {
        static PLANTED: Cell<Option<Defect>> = const { Cell::new(None) };
    }

    /// A defect, for as long as this lives.
    #[derive(Debug)]
    pub struct Planted(());

    /// Plants a defect in this thread.
    #[must_use]
    pub fn plant(defect: Defect) -> Planted {
        PLANTED.set(Some(defect));
        Planted(())
    }

    impl Drop for Planted {
        fn drop(&mut self) {
            PLANTED.set(None);
        }
    }

    pub(crate) fn is_planted(defect: Defect) -> bool {
        PLANTED.get() == Some(defect)
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
pub use switch::{Planted, plant};
