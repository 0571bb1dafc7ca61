//! Readers that wait for more: woken once, by the append that completes what they asked for, and
//! never made to read in between.

use std::fmt;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex};

use super::Partition;
use crate::lock;

type Wake = Box<dyn FnOnce() + Send>;

/// One waiting reader, on the lists of all partitions that it waits for.
pub(crate) struct Waiter {
    missing_bytes: AtomicI64,
    wake: Mutex<Option<Wake>>,
}

impl fmt::Debug for Waiter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Waiter").field("missing_bytes", &self.missing_bytes).finish_non_exhaustive()
    }
}

impl Waiter {
    pub(crate) fn new(min_bytes: u64, wake: Wake) -> Self {
        let missing = i64::try_from(min_bytes.max(1)).unwrap_or(i64::MAX);
        Self { missing_bytes: AtomicI64::new(missing), wake: Mutex::new(Some(wake)) }
    }

    /// Counts new bytes and says whether they were the last ones missing.
    pub(crate) fn arrived(&self, bytes: u64) -> bool {
        let bytes = i64::try_from(bytes).unwrap_or(i64::MAX);
        self.missing_bytes.fetch_sub(bytes, Ordering::AcqRel) <= bytes
    }

    /// Wakes the reader, unless that was done before; `first` is called before it is.
    pub(crate) fn fire(&self, first: impl FnOnce()) {
        let wake = lock(&self.wake).take();
        if let Some(wake) = wake {
            first();
            wake();
        }
    }
}

/// Waiters to be woken once every lock is released and every producer answered.
pub(crate) type Wakes = Vec<Arc<Waiter>>;

/// A registration; dropping it ends the wait.
#[derive(Debug)]
pub struct Waiting {
    pub(crate) waiter: Arc<Waiter>,
    pub(crate) partitions: Vec<Arc<Partition>>,
}

impl Drop for Waiting {
    fn drop(&mut self) {
        // Whoever drops the registration no longer wants the wake, nor may it keep things alive.
        lock(&self.waiter.wake).take();
        for partition in &self.partitions {
            partition.forget_waiter(&self.waiter);
        }
    }
}
