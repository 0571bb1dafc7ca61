//! Answers to come, on their way from the one half of a connection to the other.
//!
//! Invariant: both halves are polled by one task, and the one that takes behind the one that puts in. So
//! nobody has to be woken for what was put in: a task that is woken while it runs is run once more, and
//! another thread is woken to help with it, which for a small request took longer than the request.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{Poll, Waker};

use crate::api::Pending;
use crate::limits;

/// How many times as much room as they need those that wait may have: then it is given back. Far enough from 1 that they
/// are not moved whenever one comes and one goes.
const SPARE_MAX: usize = 8;

/// The queue of one connection.
#[derive(Debug, Default)]
pub(super) struct Queue(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    pending: VecDeque<Pending>,
    /// What all of them weigh.
    weight: usize,
    /// Nothing is put in any more.
    is_closed: bool,
    /// Who waits for room, or for the last answer.
    waits: Option<Waker>,
}

impl Queue {
    /// Waits until there is room for one more, whatever that weighs, and says how many there are.
    pub(super) async fn room(&self) -> usize {
        poll_fn(|context| {
            let mut state = self.lock();
            if state.weight < limits::SMALL_PRODUCES_IN_FLIGHT_MAX {
                return Poll::Ready(state.pending.len());
            }
            state.waits = Some(context.waker().clone());
            Poll::Pending
        })
        .await
    }

    /// Waits until nothing is `unanswered`. Whoever writes answers says so ([`Queue::written`]).
    pub(super) async fn answered(&self, unanswered: &AtomicUsize) {
        poll_fn(|context| {
            if unanswered.load(Ordering::Relaxed) == 0 {
                return Poll::Ready(());
            }
            self.lock().waits = Some(context.waker().clone());
            Poll::Pending
        })
        .await;
    }

    /// Says that answers were written.
    pub(super) fn written(&self) {
        let waits = self.lock().waits.take();
        if let Some(waker) = waits {
            waker.wake();
        }
    }

    /// Puts one in, for which there is room.
    pub(super) fn put(&self, pending: Pending) {
        let mut state = self.lock();
        state.weight += pending.weight();
        state.pending.push_back(pending);
    }

    /// Says that it was the last one.
    pub(super) fn close(&self) {
        self.lock().is_closed = true;
    }

    /// The next one, in the order in which they were put in; `None` behind the last.
    pub(super) async fn next(&self) -> Option<Pending> {
        poll_fn(|_| match self.try_next() {
            Some(pending) => Poll::Ready(Some(pending)),
            None if self.lock().is_closed => Poll::Ready(None),
            // Who puts one in is polled before this is polled again.
            None => Poll::Pending,
        })
        .await
    }

    /// The next one, if it is there.
    pub(super) fn try_next(&self) -> Option<Pending> {
        let mut state = self.lock();
        let pending = state.pending.pop_front()?;
        state.weight -= pending.weight();
        if state.pending.len() * SPARE_MAX <= state.pending.capacity() {
            // A connection is counted with room for so many, and once had it for more. Also where a few wait for
            // long: they may be requests that take minutes.
            state.pending.shrink_to(limits::REQUESTS_IN_FLIGHT_MAX);
        }
        let waits = state.waits.take();
        drop(state);
        if let Some(waker) = waits {
            waker.wake();
        }
        Some(pending)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Every change of the state is complete before anything can panic.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::pin::pin;
    use std::sync::Arc;
    use std::task::{Context, Wake};

    use crate::api::Reply;

    /// Counts how often it is woken.
    #[derive(Default)]
    struct Woken(AtomicUsize);

    impl Wake for Woken {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    impl Woken {
        fn times(&self) -> usize {
            self.0.load(Ordering::Relaxed)
        }
    }

    fn ready() -> Pending {
        Pending::Ready(Reply::default())
    }

    #[test]
    fn what_is_put_in_wakes_nobody_and_is_taken_by_the_next_poll() {
        let (queue, woken) = (Queue::default(), Arc::new(Woken::default()));
        let waker = Waker::from(Arc::clone(&woken));
        let mut context = Context::from_waker(&waker);
        let mut next = pin!(queue.next());
        assert!(next.as_mut().poll(&mut context).is_pending());
        queue.put(ready());
        assert_eq!(woken.times(), 0);
        assert!(matches!(next.poll(&mut context), Poll::Ready(Some(_))));
        assert!(queue.try_next().is_none());
        assert_eq!(woken.times(), 0, "nobody waits for room");
    }

    #[test]
    fn a_full_queue_takes_one_more_when_one_was_taken() {
        let (queue, woken) = (Queue::default(), Arc::new(Woken::default()));
        let waker = Waker::from(Arc::clone(&woken));
        let mut context = Context::from_waker(&waker);
        for _ in 0..limits::REQUESTS_IN_FLIGHT_MAX {
            assert!(pin!(queue.room()).poll(&mut context).is_ready());
            queue.put(ready());
        }
        let mut room = pin!(queue.room());
        assert!(room.as_mut().poll(&mut context).is_pending());
        assert_eq!(woken.times(), 0);
        assert!(queue.try_next().is_some());
        assert_eq!(woken.times(), 1, "who waits for room learns of it");
        assert!(room.poll(&mut context).is_ready());
    }

    /// Otherwise each of ten thousand connections that were busy once keeps some tens of kibibytes, for as long as one
    /// request waits behind another one.
    #[test]
    fn room_for_many_is_not_kept_for_one_and_not_when_all_are_answered() {
        let queue = Queue::default();
        (0..limits::SMALL_PRODUCES_IN_FLIGHT_MAX).for_each(|_| queue.put(ready()));
        for _ in 1..limits::SMALL_PRODUCES_IN_FLIGHT_MAX {
            assert!(queue.try_next().is_some());
        }
        for left in [1, 0] {
            let state = queue.lock();
            assert_eq!((state.pending.len(), state.weight), (left, left * limits::REQUEST_WEIGHT));
            assert!(state.pending.capacity() < 2 * limits::REQUESTS_IN_FLIGHT_MAX);
            drop(state);
            assert_eq!(queue.try_next().is_some(), left > 0);
        }
    }

    #[test]
    fn who_waits_for_the_last_answer_learns_when_it_is_written() {
        let (queue, woken) = (Queue::default(), Arc::new(Woken::default()));
        let waker = Waker::from(Arc::clone(&woken));
        let mut context = Context::from_waker(&waker);
        let unanswered = AtomicUsize::new(2);
        let mut answered = pin!(queue.answered(&unanswered));
        for left in [1, 0] {
            assert!(answered.as_mut().poll(&mut context).is_pending());
            unanswered.store(left, Ordering::Relaxed);
            queue.written();
            assert_eq!(woken.times(), 2 - left);
        }
        assert!(answered.poll(&mut context).is_ready());
        queue.written();
        assert_eq!(woken.times(), 2, "nobody waits");
    }

    #[test]
    fn a_closed_queue_still_gives_what_is_in_it() {
        let queue = Queue::default();
        let mut context = Context::from_waker(Waker::noop());
        queue.put(ready());
        queue.close();
        assert!(matches!(pin!(queue.next()).poll(&mut context), Poll::Ready(Some(_))));
        assert!(matches!(pin!(queue.next()).poll(&mut context), Poll::Ready(None)));
    }
}
