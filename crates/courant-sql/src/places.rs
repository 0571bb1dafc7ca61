//! Who may use a connection, and when: those who come first, and handlers only one after the other when
//! there are too many of them.
//!
//! A handler keeps its connection as long as it works, and there may be more handlers than connections. What
//! the framework does takes a moment, and must not stand in a queue behind handlers: a relay that cannot show
//! that it is there loses its lease. So handlers wait in a queue of their own first, and of those that come
//! out of it some places are always left.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Places that handlers leave to everybody else, where there are that many.
const LEFT: usize = 2;

/// Places for connections that are in use.
#[derive(Debug)]
pub(crate) struct Places {
    all: Arc<Semaphore>,
    of_handlers: Arc<Semaphore>,
    /// How many handlers wait for one.
    handlers_waiting: AtomicUsize,
    /// How many others do.
    others_waiting: AtomicUsize,
}

/// Who wants a place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum For {
    /// Something that takes a moment, or plain code.
    Anybody,
    /// The transaction of a handler.
    Handler,
}

/// A place, until it is dropped.
#[derive(Debug)]
pub(crate) struct Place {
    // Dropped first: who has waited for any place goes before the next handler.
    _place: OwnedSemaphorePermit,
    _of_handlers: Option<OwnedSemaphorePermit>,
}

impl Places {
    /// So many places, and at least one.
    pub(crate) fn new(number: usize) -> Self {
        let number = number.clamp(1, Semaphore::MAX_PERMITS);
        let of_handlers = number.saturating_sub(LEFT).max(1);
        Self {
            all: Arc::new(Semaphore::new(number)),
            of_handlers: Arc::new(Semaphore::new(of_handlers)),
            handlers_waiting: AtomicUsize::new(0),
            others_waiting: AtomicUsize::new(0),
        }
    }

    /// Waits for a place. `None` if there will never be one.
    pub(crate) async fn get(&self, wanted: For) -> Option<Place> {
        let _waiting = Waiting::new(self.waiting(wanted));
        let of_handlers = match wanted {
            For::Anybody => None,
            For::Handler => Some(Arc::clone(&self.of_handlers).acquire_owned().await.ok()?),
        };
        let place = Arc::clone(&self.all).acquire_owned().await.ok()?;
        Some(Place { _place: place, _of_handlers: of_handlers })
    }

    /// Whether somebody of this kind waits for a place: whoever has one is not to go on with it for long.
    #[cfg(any(feature = "mariadb", feature = "postgres", test))]
    pub(crate) fn is_wanted(&self, by: For) -> bool {
        self.waiting(by).load(Ordering::SeqCst) > 0
    }

    fn waiting(&self, by: For) -> &AtomicUsize {
        match by {
            For::Anybody => &self.others_waiting,
            For::Handler => &self.handlers_waiting,
        }
    }
}

/// One who waits. Dropped, nobody does: the wait is over, or was given up.
struct Waiting<'a>(&'a AtomicUsize);

impl<'a> Waiting<'a> {
    fn new(waiting: &'a AtomicUsize) -> Self {
        waiting.fetch_add(1, Ordering::SeqCst);
        Self(waiting)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use std::future::{Future, poll_fn};
    use std::pin::{Pin, pin};
    use std::task::Poll;

    use super::*;

    /// What a future says when it is asked once.
    async fn now<F: Future>(mut future: Pin<&mut F>) -> Option<F::Output> {
        poll_fn(|context| match future.as_mut().poll(context) {
            Poll::Ready(output) => Poll::Ready(Some(output)),
            Poll::Pending => Poll::Ready(None),
        })
        .await
    }

    /// However many handlers there are, two others find a place at once.
    #[tokio::test]
    async fn handlers_leave_places_to_others() {
        let places = Places::new(5);
        let mut handlers = Vec::new();
        for _ in 0..3 {
            handlers.push(now(pin!(places.get(For::Handler))).await.flatten().expect("a place"));
        }
        assert!(now(pin!(places.get(For::Handler))).await.is_none(), "a fourth handler waits");
        let others = (now(pin!(places.get(For::Anybody))).await, now(pin!(places.get(For::Anybody))).await);
        assert!(others.0.is_some() && others.1.is_some());
        assert!(now(pin!(places.get(For::Anybody))).await.is_none(), "there are five");
    }

    /// Whoever has a place hears that others wait for one, until they have it or give up.
    #[tokio::test]
    async fn a_place_is_wanted_while_somebody_waits() {
        let places = Places::new(1);
        let place = places.get(For::Handler).await.expect("a place");
        let wanted = || (places.is_wanted(For::Handler), places.is_wanted(For::Anybody));
        assert_eq!(wanted(), (false, false));
        {
            let mut given_up = pin!(places.get(For::Handler));
            assert!(now(given_up.as_mut()).await.is_none());
            assert_eq!(wanted(), (true, false));
        }
        assert_eq!(wanted(), (false, false));
        let mut other = pin!(places.get(For::Anybody));
        assert!(now(other.as_mut()).await.is_none());
        assert_eq!(wanted(), (false, true));
        drop(place);
        assert!(now(other.as_mut()).await.flatten().is_some());
        assert_eq!(wanted(), (false, false));
    }

    /// With one place, who comes behind a queue of handlers waits for one of them and not for all.
    #[tokio::test]
    async fn nobody_waits_for_a_queue_of_handlers() {
        let places = Places::new(1);
        let first = places.get(For::Handler).await.expect("a place");
        let mut second = pin!(places.get(For::Handler));
        let mut third = pin!(places.get(For::Handler));
        let mut other = pin!(places.get(For::Anybody));
        assert!(now(second.as_mut()).await.is_none());
        assert!(now(third.as_mut()).await.is_none());
        assert!(now(other.as_mut()).await.is_none());
        drop(first);
        assert!(now(second.as_mut()).await.is_none(), "the other one is before it");
        drop(now(other.as_mut()).await.flatten().expect("its turn"));
        assert!(now(second.as_mut()).await.flatten().is_some());
        assert!(now(third.as_mut()).await.flatten().is_some(), "when the second has gone");
    }
}
