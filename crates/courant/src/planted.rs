//! Guarantees that tests break on purpose, to show that the tests see it.
//!
//! A defect is planted in the whole process until it ends, and only in builds with the feature
//! `planted-defects`; in all others nothing here can be switched on.

/// A guarantee that is broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Defect {
    /// Events of the log are handled whatever the inbox says of them, and leave no row in it.
    NoInbox,
}

#[cfg(feature = "planted-defects")]
mod switch {
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::Defect;

    static NO_INBOX: AtomicBool = AtomicBool::new(false);

    fn switch(defect: Defect) -> &'static AtomicBool {
        match defect {
            Defect::NoInbox => &NO_INBOX,
        }
    }

    /// Plants a defect in this process.
    pub fn plant(defect: Defect) {
        switch(defect).store(true, Ordering::SeqCst);
    }

    pub(crate) fn is_planted(defect: Defect) -> bool {
        switch(defect).load(Ordering::SeqCst)
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
