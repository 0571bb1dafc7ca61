//! The transaction of a handler: lent to it, and given back when it is dropped.
//!
//! ```text
//!   runtime ──begin──▶ slot ──lend──▶ Tx ──drop──▶ slot ──take──▶ commit, or roll back
//!                                     │
//!                                     └─ moved into a task that outlives the handler:
//!                                        the slot is empty, nothing is committed
//! ```

use std::fmt;
use std::ops::{Deref, DerefMut};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use courant_core::event_id::EventId;
use courant_sql::{Store, TimerName, Transaction as _};

use crate::outbox::{Outbox, PublishError};
use crate::{Due, Event};

/// The transaction that the event is handled in. Queries run on `&mut *tx`.
///
/// It commits when the handler has succeeded, together with the note that the event was handled and
/// with everything that was published; so it has no `commit`. To undo a part, begin a savepoint with
/// the driver (`tx.begin()`), and publish what belongs to the part when the savepoint was committed: while
/// it is open it has the transaction, so that nothing can be published which is then undone.
pub struct Tx<D: Store> {
    lent: Option<Lent<D>>,
    slot: Slot<D>,
}

/// What is lent.
pub(crate) struct Lent<D: Store> {
    pub(crate) transaction: D::Transaction,
    pub(crate) outbox: Outbox,
}

impl<D: Store> Tx<D> {
    /// Publishes an event if the transaction is committed. Gives back its id: of a command, what its answer has as
    /// its causation id.
    ///
    /// # Errors
    /// It cannot be written as JSON, or is larger than the engine takes.
    pub fn publish<E: Event>(&mut self, event: &E) -> Result<EventId, PublishError> {
        self.lent_mut().outbox.publish(event)
    }

    /// As [`Tx::publish`], under an id of the caller's: one that says which fact it is, such as
    /// `month-closed/2026-10`. Whoever publishes that fact again, from wherever, does so under the same id, and
    /// consumers with a store handle it once. It must be the id of nothing else that they get.
    ///
    /// # Errors
    /// As [`Tx::publish`].
    pub fn publish_as<E: Event>(&mut self, id: &EventId, event: &E) -> Result<(), PublishError> {
        self.lent_mut().outbox.publish_as(id, event)
    }

    /// Publishes an event later, if the transaction is committed: after a [`Duration`](std::time::Duration),
    /// or at a [`jiff::Timestamp`]. It is then an event like every other one, caused by the one that is
    /// handled now, and its time is the time at which it was due. While no service is there that relays
    /// the outbox it waits.
    ///
    /// # Errors
    /// It cannot be written as JSON, is larger than the engine takes, or is due at no time of the calendar.
    pub fn schedule<E: Event>(&mut self, event: &E, due: impl Into<Due>) -> Result<(), PublishError> {
        let lent = self.lent_mut();
        let timer = lent.outbox.timer(event, due.into(), None)?;
        Ok(lent.transaction.schedule(timer)?)
    }

    /// As [`Tx::schedule`], under a name by which it can be cancelled. What was scheduled under the same
    /// name before, and has not come yet, does not come any more.
    ///
    /// # Errors
    /// As [`Tx::schedule`].
    pub fn schedule_named<E: Event>(
        &mut self,
        name: &TimerName,
        event: &E,
        due: impl Into<Due>,
    ) -> Result<(), PublishError> {
        let lent = self.lent_mut();
        let timer = lent.outbox.timer(event, due.into(), Some(name.clone()))?;
        Ok(lent.transaction.schedule(timer)?)
    }

    /// What was scheduled under this name does not come any more, if the transaction is committed. An
    /// event that was due before may be under way already: whoever handles it should look whether it
    /// still matters.
    ///
    /// # Errors
    /// The transaction has too much to do.
    pub fn cancel_timer(&mut self, name: &TimerName) -> Result<(), PublishError> {
        Ok(self.lent_mut().transaction.cancel_timer(name.clone())?)
    }

    fn lent(&self) -> &Lent<D> {
        match &self.lent {
            Some(lent) => lent,
            None => unreachable!("a Tx has its transaction until it is dropped"),
        }
    }

    fn lent_mut(&mut self) -> &mut Lent<D> {
        match &mut self.lent {
            Some(lent) => lent,
            None => unreachable!("a Tx has its transaction until it is dropped"),
        }
    }
}

impl<D: Store> Deref for Tx<D> {
    type Target = D::Connection;

    fn deref(&self) -> &D::Connection {
        &self.lent().transaction
    }
}

impl<D: Store> DerefMut for Tx<D> {
    fn deref_mut(&mut self) -> &mut D::Connection {
        &mut self.lent_mut().transaction
    }
}

impl<D: Store> Drop for Tx<D> {
    fn drop(&mut self) {
        if let Some(lent) = self.lent.take() {
            self.slot.give_back(lent);
        }
    }
}

impl<D: Store> fmt::Debug for Tx<D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tx").field("transaction", &self.lent().transaction).finish_non_exhaustive()
    }
}

/// Where the transaction of one call is when nobody has it.
#[doc(hidden)]
pub struct Slot<D: Store>(Arc<Mutex<Place<D>>>);

enum Place<D: Store> {
    Here(Box<Lent<D>>),
    Lent,
    /// The call is over. What comes back now is rolled back.
    Closed,
}

impl<D: Store> Slot<D> {
    pub(crate) fn new(lent: Lent<D>) -> Self {
        Self(Arc::new(Mutex::new(Place::Here(Box::new(lent)))))
    }

    /// A slot without a transaction.
    pub(crate) fn empty() -> Self {
        Self(Arc::new(Mutex::new(Place::Closed)))
    }

    pub(crate) fn lend(&self) -> Option<Tx<D>> {
        let mut place = self.lock();
        match std::mem::replace(&mut *place, Place::Lent) {
            Place::Here(lent) => Some(Tx { lent: Some(*lent), slot: self.clone() }),
            Place::Lent => None,
            Place::Closed => {
                *place = Place::Closed;
                None
            }
        }
    }

    /// Ends the call. `None`: the transaction is still lent, to something that has outlived the handler.
    pub(crate) fn close(&self) -> Option<Lent<D>> {
        match std::mem::replace(&mut *self.lock(), Place::Closed) {
            Place::Here(lent) => Some(*lent),
            Place::Lent | Place::Closed => None,
        }
    }

    fn give_back(&self, lent: Lent<D>) {
        let mut place = self.lock();
        if matches!(*place, Place::Lent) {
            *place = Place::Here(Box::new(lent));
        }
        // Otherwise `lent` is dropped here, which rolls it back.
    }

    fn lock(&self) -> MutexGuard<'_, Place<D>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<D: Store> Clone for Slot<D> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<D: Store> fmt::Debug for Slot<D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Slot")
    }
}
