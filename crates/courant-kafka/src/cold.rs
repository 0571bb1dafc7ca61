//! Work that may wait for the disk, away from the runtime's workers.
//!
//! The runtime has a bounded number of threads for such work. A connection that keeps its thread, and an
//! append that is committed where it comes from, need one of them, too, and would stand behind every read
//! that a slow disk has not answered: so what clients ask for may have a part of them.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore, TryAcquireError};
use tokio::task::{JoinError, spawn_blocking};
use tokio::time::Instant;

use crate::broker::Counters;

/// Places for work that may wait for the disk, over all connections.
#[derive(Debug)]
pub(crate) struct ColdReads {
    places: Arc<Semaphore>,
}

impl ColdReads {
    /// So many places, at least one.
    pub(crate) fn new(places: usize) -> Self {
        Self { places: Arc::new(Semaphore::new(places.clamp(1, Semaphore::MAX_PERMITS))) }
    }

    /// Runs `work` on a thread of its own when there is a place for it. Whoever waits for one may give up at
    /// any time; work that has begun keeps its place until it has ended.
    ///
    /// Nobody needs a second place, or anything that others hold, to end: so all that wait get one.
    pub(crate) async fn run<T: Send + 'static>(
        &self,
        counters: &Counters,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, JoinError> {
        let place = self.place(counters).await;
        spawn_blocking(move || {
            let _place = place;
            work()
        })
        .await
    }

    async fn place(&self, counters: &Counters) -> Option<OwnedSemaphorePermit> {
        match Arc::clone(&self.places).try_acquire_owned() {
            Ok(place) => return Some(place),
            // Nobody closes it.
            Err(TryAcquireError::Closed) => return None,
            Err(TryAcquireError::NoPermits) => {}
        }
        counters.cold_read_waits();
        let begun = Instant::now();
        let place = Arc::clone(&self.places).acquire_owned().await.ok();
        counters.cold_read_waited(begun.elapsed());
        place
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Mutex;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::sync::mpsc;
    use std::time::Duration;
    use tokio::task::yield_now;
    use tokio::time::timeout;

    /// Longest wait for something that must happen.
    const SOON: Duration = Duration::from_secs(20);

    async fn waiting(counters: &Counters, count: u64) {
        let counted = async {
            while counters.snapshot().cold_read_waits < count {
                yield_now().await;
            }
        };
        timeout(SOON, counted).await.expect("what finds no place waits");
    }

    /// Symptom: with a few hundred readers far behind, the only producer stood still. Cause: their reads had
    /// every thread that may wait for the disk, and what a lone producer leaves behind needs one.
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn no_more_is_under_way_than_there_are_places() {
        let (reads, counters) = (Arc::new(ColdReads::new(2)), Arc::new(Counters::default()));
        let (go, gate) = mpsc::channel::<()>();
        let gate = Arc::new(Mutex::new(gate));
        let (running, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let mut tasks = Vec::new();
        for number in 0..8_usize {
            let (reads, counters) = (Arc::clone(&reads), Arc::clone(&counters));
            let (gate, running, most) = (Arc::clone(&gate), Arc::clone(&running), Arc::clone(&most));
            tasks.push(tokio::spawn(async move {
                let work = move || {
                    most.fetch_max(running.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                    let woken = gate.lock().expect("no panic").recv();
                    running.fetch_sub(1, Ordering::SeqCst);
                    woken.map(|()| number)
                };
                reads.run(&counters, work).await
            }));
        }
        waiting(&counters, 6).await;
        for _ in 0..8 {
            go.send(()).expect("they wait");
        }
        for (number, task) in tasks.into_iter().enumerate() {
            let done = timeout(SOON, task).await.expect("it gets a place").expect("no panic");
            assert_eq!(done.expect("no panic"), Ok(number));
        }
        assert!(most.load(Ordering::SeqCst) <= 2, "{most:?} at a time");
        assert_eq!(counters.snapshot().cold_read_waits, 6);
    }

    /// The thread is taken until the disk has answered, whether or not somebody still wants to know.
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn work_that_nobody_waits_for_any_more_keeps_its_place() {
        let (reads, counters) = (Arc::new(ColdReads::new(1)), Arc::new(Counters::default()));
        let (begun, has_begun) = tokio::sync::oneshot::channel();
        let (go, gate) = mpsc::channel::<()>();
        let first = {
            let (reads, counters) = (Arc::clone(&reads), Arc::clone(&counters));
            tokio::spawn(async move {
                let work = move || {
                    begun.send(()).expect("the test waits");
                    gate.recv()
                };
                reads.run(&counters, work).await
            })
        };
        timeout(SOON, has_begun).await.expect("there is a place").expect("it has begun");
        first.abort();
        assert!(first.await.expect_err("it was ended").is_cancelled());

        let second = {
            let (reads, counters) = (Arc::clone(&reads), Arc::clone(&counters));
            tokio::spawn(async move { reads.run(&counters, || 7).await })
        };
        waiting(&counters, 1).await;
        go.send(()).expect("the first one still waits");
        let done = timeout(SOON, second).await.expect("the place is free").expect("no panic");
        assert_eq!(done.expect("no panic"), 7);
    }

    /// A place is free again also behind a panic, and one that gives up waiting takes none.
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn places_come_back() {
        let (reads, counters) = (Arc::new(ColdReads::new(1)), Arc::new(Counters::default()));
        let panicked: Result<(), JoinError> = reads.run(&counters, || panic!("on purpose")).await;
        assert!(panicked.expect_err("it panics").is_panic());
        let held = reads.place(&counters).await;
        let mut gives_up = Box::pin(reads.run(&counters, || 1));
        assert!(timeout(Duration::ZERO, &mut gives_up).await.is_err(), "there is no place");
        drop(gives_up);
        drop(held);
        let done = timeout(SOON, reads.run(&counters, || 2)).await.expect("the place is free");
        assert_eq!(done.expect("no panic"), 2);
    }
}
