//! Batches that are taken apart in memory: how many at one time, and how large each may become.

use std::fmt;
use std::sync::{Condvar, Mutex, PoisonError};

use crate::lock;

/// Places for threads that unpack a batch.
pub(crate) struct Unpacking {
    /// Bytes that one batch may grow to.
    bytes_max: usize,
    places: Mutex<usize>,
    freed: Condvar,
}

/// A place that somebody has. It is free again when this is dropped, also by a panic.
struct Place<'a>(&'a Unpacking);

impl Unpacking {
    /// So many places, at least one, each for a batch of so many bytes.
    pub(crate) fn new(bytes_max: usize, places: usize) -> Self {
        Self { bytes_max, places: Mutex::new(places.max(1)), freed: Condvar::new() }
    }

    /// Runs `unpack`, which is told how large the batch may become, when there is a place for it. It must wait for
    /// nothing itself, and unpack nothing else meanwhile: so all that wait get a place, and soon.
    pub(crate) fn one<T>(&self, unpack: impl FnOnce(usize) -> T) -> T {
        let _place = self.place();
        unpack(self.bytes_max)
    }

    fn place(&self) -> Place<'_> {
        let mut places = lock(&self.places);
        while *places == 0 {
            places = self.freed.wait(places).unwrap_or_else(PoisonError::into_inner);
        }
        *places -= 1;
        Place(self)
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        *lock(&self.0.places) += 1;
        self.0.freed.notify_one();
    }
}

impl fmt::Debug for Unpacking {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Unpacking").field("bytes_max", &self.bytes_max).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::panic::{AssertUnwindSafe, catch_unwind};
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::thread;

    #[test]
    fn no_more_are_unpacked_at_a_time_than_there_are_places() {
        let unpacking = Unpacking::new(7, 2);
        let (running, most) = (AtomicUsize::new(0), AtomicUsize::new(0));
        thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    for _ in 0..200 {
                        unpacking.one(|bytes_max| {
                            assert_eq!(bytes_max, 7);
                            most.fetch_max(running.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                            thread::yield_now();
                            running.fetch_sub(1, Ordering::SeqCst);
                        });
                    }
                });
            }
        });
        assert!((1..=2).contains(&most.load(Ordering::SeqCst)), "{most:?} at a time");
        assert_eq!(*lock(&unpacking.places), 2);
    }

    #[test]
    fn a_place_is_free_again_behind_a_panic() {
        let unpacking = Unpacking::new(7, 0);
        let panicked = catch_unwind(AssertUnwindSafe(|| unpacking.one(|_| panic!("on purpose"))));
        assert!(panicked.is_err());
        assert_eq!(unpacking.one(|_| 1), 1, "there is one place at the least, and it is free");
    }
}
