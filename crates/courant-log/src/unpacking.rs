//! Batches that are taken apart in memory: how many at one time, and how large each may become.

use std::fmt;
use std::sync::{Condvar, Mutex, PoisonError};

use crate::{Log, lock};

impl Log {
    /// Runs `unpack`, which takes one batch apart and is told how many bytes that may become, when fewer than
    /// [`LogConfig::unpacked_at_once`](crate::LogConfig::unpacked_at_once) are unpacked. It must wait for nothing, and
    /// unpack nothing else meanwhile.
    pub fn unpack<T>(&self, unpack: impl FnOnce(usize) -> T) -> T {
        self.inner.unpacking.one(unpack)
    }

    /// As [`Log::unpack`] where nobody has to wait for that.
    ///
    /// # Errors
    /// `unpack`, which was not called.
    pub fn try_unpack<T, F: FnOnce(usize) -> T>(&self, unpack: F) -> Result<T, F> {
        self.inner.unpacking.try_one(unpack)
    }
}

/// Places for threads that unpack a batch.
pub(crate) struct Unpacking {
    /// Bytes that one batch may grow to.
    bytes_max: usize,
    queue: Mutex<Queue>,
    moved: Condvar,
}

/// Who is in, and who comes next: whoever gives a place back and wants it again stands behind those who wait.
#[derive(Debug)]
struct Queue {
    free: usize,
    /// The number of the next one who comes, and of the next one who gets a place.
    comes: u64,
    served: u64,
}

/// A place that somebody has. It is free again when this is dropped, also by a panic.
struct Place<'a>(&'a Unpacking);

impl Unpacking {
    /// So many places, at least one, each for a batch of so many bytes.
    pub(crate) fn new(bytes_max: usize, places: usize) -> Self {
        let queue = Queue { free: places.max(1), comes: 0, served: 0 };
        Self { bytes_max, queue: Mutex::new(queue), moved: Condvar::new() }
    }

    /// Runs `unpack`, which is told how large the batch may become, when there is a place for it. It must wait for
    /// nothing itself, and unpack nothing else meanwhile: so all that wait get a place, and soon, in the order in which
    /// they came.
    pub(crate) fn one<T>(&self, unpack: impl FnOnce(usize) -> T) -> T {
        let _place = self.place();
        unpack(self.bytes_max)
    }

    /// As [`Unpacking::one`] where there is a place now; else gives `unpack` back.
    pub(crate) fn try_one<T, F: FnOnce(usize) -> T>(&self, unpack: F) -> Result<T, F> {
        match self.free_place() {
            Some(_place) => Ok(unpack(self.bytes_max)),
            None => Err(unpack),
        }
    }

    fn free_place(&self) -> Option<Place<'_>> {
        let mut queue = lock(&self.queue);
        // Those who wait came before.
        if queue.free == 0 || queue.served < queue.comes {
            return None;
        }
        queue.comes += 1;
        queue.served += 1;
        queue.free -= 1;
        Some(Place(self))
    }

    fn place(&self) -> Place<'_> {
        let mut queue = lock(&self.queue);
        let number = queue.comes;
        queue.comes += 1;
        while queue.free == 0 || queue.served != number {
            queue = self.moved.wait(queue).unwrap_or_else(PoisonError::into_inner);
        }
        queue.served += 1;
        queue.free -= 1;
        // Where there are more places, the next one has waited for its turn alone.
        let others_wait = queue.free > 0 && queue.served < queue.comes;
        drop(queue);
        if others_wait {
            self.moved.notify_all();
        }
        Place(self)
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let mut queue = lock(&self.0.queue);
        queue.free += 1;
        let others_wait = queue.served < queue.comes;
        drop(queue);
        if others_wait {
            // Only the first of them goes on, and nobody knows which thread that is.
            self.0.moved.notify_all();
        }
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
        assert_eq!(lock(&unpacking.queue).free, 2);
    }

    /// Otherwise one that unpacks batch after batch, as compaction does, would keep others out.
    #[test]
    fn who_gives_a_place_back_does_not_get_it_again_before_those_who_wait() {
        let unpacking = Unpacking::new(7, 1);
        let order = Mutex::new(Vec::new());
        let held = unpacking.place();
        thread::scope(|scope| {
            scope.spawn(|| unpacking.one(|_| lock(&order).push("waited")));
            while lock(&unpacking.queue).comes < 2 {
                thread::yield_now();
            }
            drop(held);
            unpacking.one(|_| lock(&order).push("came again"));
        });
        assert_eq!(*lock(&order), ["waited", "came again"]);
    }

    #[test]
    fn nobody_waits_who_does_not_want_to() {
        let unpacking = Unpacking::new(7, 1);
        let place = unpacking.place();
        let unpack = unpacking.try_one(|bytes_max| bytes_max).expect_err("the only place is taken");
        drop(place);
        assert_eq!(unpacking.try_one(unpack).ok(), Some(7));
        assert_eq!(unpacking.one(|bytes_max| bytes_max), 7);
    }

    #[test]
    fn a_place_is_free_again_behind_a_panic() {
        let unpacking = Unpacking::new(7, 0);
        let panicked = catch_unwind(AssertUnwindSafe(|| unpacking.one(|_| panic!("on purpose"))));
        assert!(panicked.is_err());
        assert_eq!(unpacking.one(|_| 1), 1, "there is one place at the least, and it is free");
    }
}
