//! The lock of a data directory that lives in one process.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Says whether somebody holds the data directory.
#[derive(Clone, Debug, Default)]
pub(super) struct HoldFlag(Arc<AtomicBool>);

impl HoldFlag {
    /// Takes the directory until the guard is dropped.
    ///
    /// # Errors
    /// `WouldBlock` when it is held.
    pub(super) fn take(&self) -> io::Result<Held> {
        if self.0.swap(true, Ordering::AcqRel) {
            return Err(io::Error::new(
                io::ErrorKind::WouldBlock,
                "the data directory is held by another log of this process",
            ));
        }
        Ok(Held(Arc::clone(&self.0)))
    }
}

/// Gives the data directory back when dropped.
#[derive(Debug)]
pub(super) struct Held(Arc<AtomicBool>);

impl Drop for Held {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Release);
    }
}
