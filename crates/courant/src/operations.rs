//! What people and plain code do with a running service: decide about dead letters, publish with a
//! transaction of their own.

use std::fmt;
use std::num::NonZeroU32;
use std::ops::{Deref, DerefMut};
use std::sync::Arc;

use crate::outbox::{Outbox, PublishError, Stamp};
use crate::runtime::Context;
use crate::service::Watched;
use crate::{Due, Event};
use courant_core::event_id::EventId;
use courant_core::trace::TraceContext;
use courant_sql::{
    CommitError, DeadEdit, DeadFilter, DeadGroup, DeadLetter, DeadNote, DeadState, DeadSummary, Decision,
    EditError, Redrive, RedriveError, RedriveEvent, Store, StoreError, TimerName, Transaction as _,
};

/// The dead letters of a service.
pub struct DeadLetters<'a, D: Store> {
    store: &'a D,
    context: &'a Arc<Context>,
    watched: &'a [Watched],
}

impl<'a, D: Store> DeadLetters<'a, D> {
    pub(crate) fn new(store: &'a D, context: &'a Arc<Context>, watched: &'a [Watched]) -> Self {
        Self { store, context, watched }
    }

    /// Those that nobody has decided about, the first 1,000.
    ///
    /// # Errors
    /// Says what the database said.
    pub async fn list(&self) -> Result<Vec<DeadSummary>, StoreError> {
        let filter = DeadFilter { state: Some(DeadState::Dead), ..DeadFilter::default() };
        self.store.dead_letters(&filter, 0, courant_sql::limits::LISTED_MAX).await
    }

    /// Those that nobody has decided about, by consumer, error and place.
    ///
    /// # Errors
    /// Says what the database said.
    pub async fn groups(&self) -> Result<Vec<DeadGroup>, StoreError> {
        self.store.dead_letter_groups(courant_sql::limits::LISTED_MAX).await
    }

    /// One of them, with its bytes.
    ///
    /// # Errors
    /// Says what the database said.
    pub async fn show(&self, id: i64) -> Result<Option<DeadLetter>, StoreError> {
        self.store.dead_letter(id).await
    }

    /// Sends dead letters back to the consumer where they failed, each before the newer events of its key.
    /// `id` names the request: asking again under the same one changes nothing. `by` is for people.
    ///
    /// # Errors
    /// Says what the database said.
    pub async fn redrive(&self, id: &str, by: &str, which: &DeadFilter) -> Result<Redrive, StoreError> {
        self.redrive_at(id, by, which, None).await
    }

    /// [`DeadLetters::redrive`], of which each second at most `rate` events are taken.
    ///
    /// # Errors
    /// Says what the database said.
    pub async fn redrive_at(
        &self,
        id: &str,
        by: &str,
        which: &DeadFilter,
        rate: Option<NonZeroU32>,
    ) -> Result<Redrive, StoreError> {
        let redrive = self.store.request_redrive_at(id, by, which, rate, self.now_ms()).await?;
        self.wake();
        Ok(redrive)
    }

    /// How far a redrive is.
    ///
    /// # Errors
    /// [`RedriveError::Unknown`] for an id that nobody gave.
    pub async fn progress(&self, id: &str) -> Result<Redrive, RedriveError> {
        self.store.redrive(id).await
    }

    /// What a redrive has made of each event, the first 1,000.
    ///
    /// # Errors
    /// Says what the database said.
    pub async fn results(&self, id: &str) -> Result<Vec<RedriveEvent>, StoreError> {
        self.store.redrive_events(id, 0, courant_sql::limits::LISTED_MAX).await
    }

    /// Cancels what a redrive has not begun yet.
    ///
    /// # Errors
    /// [`RedriveError::Unknown`] for an id that nobody gave.
    pub async fn cancel(&self, id: &str) -> Result<Redrive, RedriveError> {
        self.store.cancel_redrive(id, self.now_ms()).await
    }

    /// Gives dead letters up. What waits behind them goes on.
    ///
    /// # Errors
    /// Says what the database said.
    pub async fn discard(&self, ids: &[i64]) -> Result<Vec<i64>, StoreError> {
        let discarded = self.store.discard(ids, self.now_ms()).await?;
        self.wake();
        Ok(discarded)
    }

    /// Keeps dead letters out of the way. What waits behind them goes on.
    ///
    /// # Errors
    /// Says what the database said.
    pub async fn archive(&self, ids: &[i64]) -> Result<Vec<i64>, StoreError> {
        let archived = self.store.archive(ids, self.now_ms()).await?;
        self.wake();
        Ok(archived)
    }

    /// Discards or archives dead letters, or makes archived ones undecided again, and writes down who and why.
    /// What waits behind those that are discarded or archived goes on.
    ///
    /// # Errors
    /// Says what the database said.
    pub async fn decide(&self, ids: &[i64], decision: &Decision<'_>) -> Result<Vec<i64>, StoreError> {
        let decided = self.store.decide(ids, decision, self.now_ms()).await?;
        self.wake();
        Ok(decided)
    }

    /// Gives a dead letter other bytes under another id; what it was is kept. It is not sent back by that.
    ///
    /// # Errors
    /// Says why it cannot be edited, or what the database said.
    pub async fn edit(&self, id: i64, edit: &DeadEdit) -> Result<(), EditError> {
        self.store.edit_dead_letter(id, edit, self.now_ms()).await
    }

    /// What people have done with a dead letter, the first 1,000.
    ///
    /// # Errors
    /// Says what the database said.
    pub async fn notes(&self, id: i64) -> Result<Vec<DeadNote>, StoreError> {
        self.store.dead_letter_notes(id).await
    }

    fn now_ms(&self) -> i64 {
        self.context.time.now_ms()
    }

    fn wake(&self) {
        for Watched { status, decided, .. } in self.watched {
            status.update(|state| state.decisions += 1);
            decided.notify_one();
        }
        self.context.activity.note();
    }
}

impl<D: Store> fmt::Debug for DeadLetters<'_, D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DeadLetters").field("store", &self.store).finish_non_exhaustive()
    }
}

/// A transaction of plain code: what it changes and what it publishes takes effect together, or not at
/// all. Queries run on `&mut *tx`. Dropped without [`PlainTx::commit`], it is rolled back.
#[must_use = "without `commit` nothing of it happens"]
pub struct PlainTx<D: Store> {
    transaction: D::Transaction,
    outbox: Outbox,
    context: Arc<Context>,
}

impl<D: Store> PlainTx<D> {
    /// What it publishes is made in `span`, where one is named.
    pub(crate) fn new(
        transaction: D::Transaction,
        context: Arc<Context>,
        span: Option<TraceContext>,
    ) -> Self {
        let outbox = Outbox::new(Stamp { span, ..context.stamp.clone() });
        Self { transaction, outbox, context }
    }

    /// Publishes an event if the transaction is committed. Gives back its id: of a command, what its answer has as
    /// its causation id.
    ///
    /// # Errors
    /// It cannot be written as JSON, or is larger than the engine takes.
    pub fn publish<E: Event>(&mut self, event: &E) -> Result<EventId, PublishError> {
        self.outbox.publish(event)
    }

    /// As [`Tx::publish_as`](crate::Tx::publish_as).
    ///
    /// # Errors
    /// As [`PlainTx::publish`].
    pub fn publish_as<E: Event>(&mut self, id: &EventId, event: &E) -> Result<(), PublishError> {
        self.outbox.publish_as(id, event)
    }

    /// As [`Tx::schedule`](crate::Tx::schedule).
    ///
    /// # Errors
    /// It cannot be written as JSON, is larger than the engine takes, or is due at no time of the calendar.
    pub fn schedule<E: Event>(&mut self, event: &E, due: impl Into<Due>) -> Result<(), PublishError> {
        let timer = self.outbox.timer(event, due.into(), None)?;
        Ok(self.transaction.schedule(timer)?)
    }

    /// As [`Tx::schedule_named`](crate::Tx::schedule_named).
    ///
    /// # Errors
    /// As [`PlainTx::schedule`].
    pub fn schedule_named<E: Event>(
        &mut self,
        name: &TimerName,
        event: &E,
        due: impl Into<Due>,
    ) -> Result<(), PublishError> {
        let timer = self.outbox.timer(event, due.into(), Some(name.clone()))?;
        Ok(self.transaction.schedule(timer)?)
    }

    /// As [`Tx::cancel_timer`](crate::Tx::cancel_timer).
    ///
    /// # Errors
    /// The transaction has too much to do.
    pub fn cancel_timer(&mut self, name: &TimerName) -> Result<(), PublishError> {
        Ok(self.transaction.cancel_timer(name.clone())?)
    }

    /// Commits.
    ///
    /// # Errors
    /// See [`CommitError`]; nothing is committed, except perhaps after [`CommitError::Unknown`].
    pub async fn commit(self) -> Result<(), PlainCommitError> {
        let Self { mut transaction, outbox, context } = self;
        for event in outbox.into_events() {
            transaction.publish(event)?;
        }
        let committed = transaction.commit(context.time.now_ms()).await?;
        context.committed(&committed);
        Ok(())
    }
}

/// Why a transaction of plain code was not committed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PlainCommitError {
    /// One of its events cannot be published.
    #[error(transparent)]
    Publish(#[from] courant_sql::PublishError),
    /// The store did not commit.
    #[error(transparent)]
    Commit(#[from] CommitError),
}

impl<D: Store> Deref for PlainTx<D> {
    type Target = D::Connection;

    fn deref(&self) -> &D::Connection {
        &self.transaction
    }
}

impl<D: Store> DerefMut for PlainTx<D> {
    fn deref_mut(&mut self) -> &mut D::Connection {
        &mut self.transaction
    }
}

impl<D: Store> fmt::Debug for PlainTx<D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PlainTx").field("transaction", &self.transaction).finish_non_exhaustive()
    }
}
