//! Settling events in a store: what a handler does commits with the note that it was done.
//!
//! An event that fails is rolled back first, and parked or made a dead letter in a transaction after
//! that. A crash between the two brings the event again, as if it had not been tried.

mod batch;
mod failing;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use courant_core::position::TopicPartition;
use courant_sql::{
    Admission, Assignment, CommitError, Committed, Consumer, Event, Lease, NewEvent, Source, Store,
    StoreError, Transaction as _,
};
use tracing::warn;

use super::call::{Begun, Caller};
use super::faults::FaultPoint;
use super::ledger::{Assigned, Kept, Ledger, News, Settled, Taken, Trouble, Work};
use super::passing::{Bad, Pause};
use super::policy::Failed;
use super::seldom::Seldom;
use crate::outbox::PublishError;
use crate::planted::{Defect, is_planted};
use crate::subscription::Registered;
use crate::tx::{Lent, Slot};
use crate::{Boxed, Exhausted, HandlerError, Retry};

/// A subscription that is settled in a store.
pub(crate) struct StoreLedger<D: Store, T> {
    pub(crate) store: D,
    pub(crate) consumer: Consumer,
    pub(crate) caller: Caller<D, T>,
    pub(crate) rules: Rules,
    /// Events of the framework's own topics that were passed by because they say nothing.
    pub(crate) passed_by: Seldom,
}

/// What happens to events of a subscription that fail, and how long it remembers those that did not.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rules {
    pub(crate) retry: Retry,
    pub(crate) exhausted: Exhausted,
    /// Handlers run outside of the transaction.
    pub(crate) at_least_once: bool,
    /// `None`: for ever.
    pub(crate) remembered_ms: Option<i64>,
}

/// Rows that are forgotten at once.
const PRUNED_MAX: u32 = 1_000;

/// How long a rollback may take.
const UNDONE_MAX: Duration = Duration::from_secs(5);

/// How much longer than its handler may take a transaction may stand still.
const IDLE_BEYOND: Duration = Duration::from_secs(10);

/// What an attempt has come to.
enum Attempted {
    Settled(Settled),
    Failed(Failed),
    /// Whether it was committed is not known. The inbox will say.
    InDoubt,
}

/// Whether an event may be handled now.
enum Admitted<X> {
    New(X),
    Settled(Settled),
}

impl<D: Store, T: Send + Sync + 'static> StoreLedger<D, T> {
    async fn attempt(&self, work: &Work) -> Result<Attempted, Bad> {
        let handler = match self.caller.handler(work) {
            Ok(handler) => handler,
            Err(failed) => return Ok(Attempted::Failed(failed)),
        };
        let transaction = match self.admit(work).await? {
            Admitted::New(transaction) => transaction,
            Admitted::Settled(settled) => return Ok(Attempted::Settled(settled)),
        };
        let mut begun = self.caller.begin(work);
        let mut attempted = if self.rules.at_least_once {
            self.undo(transaction).await;
            self.attempt_outside(handler, work, &begun).await
        } else {
            self.attempt_inside(handler, work, &begun, transaction).await
        };
        if let Ok(Attempted::Failed(failed)) = &mut attempted {
            begun.failed(failed);
        }
        attempted
    }

    /// Calls the handler in a transaction, and commits it.
    async fn attempt_inside(
        &self,
        handler: &Registered<D, T>,
        work: &Work,
        begun: &Begun,
        transaction: D::Transaction,
    ) -> Result<Attempted, Bad> {
        self.caller.context.faults.reach(FaultPoint::AfterBegin).await;
        let slot = Slot::new(Lent { transaction, outbox: self.caller.outbox(begun) });
        let called = self.caller.call(handler, work, begun, slot.clone()).await;
        match (called, slot.close()) {
            (Ok(returned), Some(lent)) => {
                let (transaction, published) = keep_published(lent, returned);
                self.commit(handler, work, transaction, published).await
            }
            (Ok(_), None) => {
                let error = HandlerError::from(TransactionEscaped);
                Ok(Attempted::Failed(Failed::from_handler(&error, handler.place)))
            }
            (Err(failed), Some(lent)) if !failed.was_cancelled => {
                self.undo(lent.transaction).await;
                if failed.lacks_room {
                    // As when there is none for the commit: the store is waited for, and that is no attempt.
                    return Err(Bad::Passing(failed.failure.message));
                }
                Ok(Attempted::Failed(failed))
            }
            // Dropped: what may be in the middle of a query is closed, and not used again.
            (Err(failed), _) => Ok(Attempted::Failed(failed)),
        }
    }

    /// Calls the handler without a transaction, then notes that it was done.
    async fn attempt_outside(
        &self,
        handler: &Registered<D, T>,
        work: &Work,
        begun: &Begun,
    ) -> Result<Attempted, Bad> {
        let returned = match self.caller.call(handler, work, begun, Slot::empty()).await {
            Ok(returned) => returned,
            Err(failed) => return Ok(Attempted::Failed(failed)),
        };
        let mut pause = Pause::new();
        loop {
            let committed = match self.admit(work).await {
                Ok(Admitted::New(transaction)) => {
                    let lent: Lent<D> = Lent { transaction, outbox: self.caller.outbox(begun) };
                    let (transaction, published) = keep_published(lent, returned.clone());
                    self.commit(handler, work, transaction, published).await
                }
                Ok(Admitted::Settled(settled)) => return Ok(Attempted::Settled(settled)),
                Err(bad) => Err(bad),
            };
            match committed {
                Ok(Attempted::InDoubt) => pause.wait().await,
                Ok(attempted) => return Ok(attempted),
                // The handler is done; only the note is written again.
                Err(bad) => pause.after(bad).await?,
            }
        }
    }

    async fn admit(&self, work: &Work) -> Result<Admitted<D::Transaction>, Bad> {
        let now_ms = self.now_ms();
        let lease = lease(&work.assigned)?;
        let is_parked = work.source == Source::Parked;
        if !is_parked && is_planted(Defect::NoInbox) {
            return Ok(Admitted::New(self.store.begin(Some(lease)).await?));
        }
        let (transaction, admissions) = self.store.begin_admitted(lease, &[work.delivery()], now_ms).await?;
        match admissions.first() {
            Some(Admission::New) => Ok(Admitted::New(transaction)),
            Some(Admission::Seen(_)) if is_parked => match transaction.commit(now_ms).await {
                Ok(committed) => Ok(Admitted::Settled(self.done(work, &committed))),
                Err(error) => Err(Bad::from(error)),
            },
            Some(Admission::Seen(_)) => {
                self.undo(transaction).await;
                Ok(Admitted::Settled(Settled::Done { drained: false }))
            }
            Some(Admission::Behind) => {
                self.undo(transaction).await;
                self.store.queue(lease, std::slice::from_ref(&work.event), now_ms).await?;
                Ok(Admitted::Settled(Settled::Queued))
            }
            Some(Admission::Gone) => {
                self.undo(transaction).await;
                let rest = self.store.parked(&lease.assignment, work.event.key.as_deref(), 1).await?;
                Ok(Admitted::Settled(Settled::Done { drained: rest.is_empty() }))
            }
            None => Err(Bad::Broken("the store did not say whether an event may be handled".to_owned())),
        }
    }

    async fn commit(
        &self,
        handler: &Registered<D, T>,
        work: &Work,
        transaction: D::Transaction,
        published: Result<(), PublishError>,
    ) -> Result<Attempted, Bad> {
        let context = &self.caller.context;
        let failed = |error: HandlerError| Attempted::Failed(Failed::from_handler(&error, handler.place));
        if let Err(error) = published {
            self.undo(transaction).await;
            return Ok(failed(HandlerError::from(error)));
        }
        context.faults.reach(FaultPoint::AfterHandler).await;
        match transaction.commit(self.now_ms()).await {
            Ok(committed) => {
                context.faults.reach(FaultPoint::AfterCommit).await;
                Ok(Attempted::Settled(self.done(work, &committed)))
            }
            Err(CommitError::Unknown(error)) => {
                warn!(consumer = %self.consumer, event = %work.event.id, %error, "a commit without an answer");
                Ok(Attempted::InDoubt)
            }
            Err(CommitError::Store(error)) => match Bad::from(error) {
                // A handler may have made its transaction one that only reads.
                Bad::Broken(said) | Bad::Standby(said) => Ok(failed(HandlerError::retry(said))),
                bad => Err(bad),
            },
            Err(error) => Ok(failed(HandlerError::from(error))),
        }
    }

    fn done(&self, work: &Work, committed: &Committed) -> Settled {
        self.caller.context.committed(committed);
        let is_drained = |key: &Bytes| committed.drained.contains(key);
        Settled::Done { drained: work.event.key.as_ref().is_some_and(is_drained) }
    }

    /// Rolls back. Where that fails, or waits for a statement that the handler has given up, the connection
    /// is closed, which rolls back as well.
    async fn undo(&self, transaction: D::Transaction) {
        match tokio::time::timeout(UNDONE_MAX, transaction.rollback()).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                warn!(consumer = %self.consumer, %error, "a rollback failed; its connection is closed");
            }
            Err(_) => warn!(consumer = %self.consumer, "a rollback takes too long; its connection is closed"),
        }
    }

    async fn taken(&self, partition: &TopicPartition, serial: u64) -> Result<Taken, Bad> {
        let assignment = Assignment { consumer: self.consumer.clone(), partition: partition.clone() };
        let mut lease = self.store.take_over(&assignment, &self.caller.context.owner, self.now_ms()).await?;
        lease.idle_max = Some(self.caller.timeout.saturating_add(IDLE_BEYOND));
        let kept = match self.store.progress(&assignment).await? {
            Some(progress) => Kept::Event(progress),
            None => Kept::Nothing,
        };
        let mut parked: Vec<Bytes> = Vec::new();
        loop {
            let after = parked.last().cloned();
            let page = self
                .store
                .parked_keys(&assignment, after.as_deref(), courant_sql::limits::LISTED_MAX)
                .await?;
            if page.is_empty() {
                break;
            }
            parked.extend(page.into_iter().map(|key| key.key));
        }
        let waiting = self.store.due(&assignment, i64::MAX, courant_sql::limits::LISTED_MAX).await?;
        let due_ms = waiting.iter().filter_map(|event| event.due_ms).collect();
        let assigned = Arc::new(Assigned { partition: partition.clone(), serial, lease: Some(lease) });
        Ok(Taken { assigned, kept, parked, due_ms })
    }

    async fn look(&self, assignment: &Assignment) -> Result<News, StoreError> {
        let redrives = self.store.redrives_waiting(assignment, self.now_ms()).await?;
        Ok(News { redrives, due_ms: self.store.next_due(assignment).await? })
    }

    fn now_ms(&self) -> i64 {
        self.caller.context.time.now_ms()
    }
}

/// What a handler has published and returned, for its transaction to keep.
fn keep_published<D: Store>(
    lent: Lent<D>,
    returned: Vec<NewEvent>,
) -> (D::Transaction, Result<(), PublishError>) {
    let Lent { mut transaction, outbox } = lent;
    let mut events = outbox.into_events().into_iter().chain(returned);
    let published = events.try_for_each(|event| transaction.publish(event));
    (transaction, published.map_err(PublishError::from))
}

/// The transaction went on in something that outlived the handler.
#[derive(Debug, thiserror::Error)]
#[error(
    "TransactionEscaped: the handler returned while its Tx was still in use, so nothing was committed; do \
     not move a Tx into a task, or await the task before the handler returns"
)]
struct TransactionEscaped;

fn lease(assigned: &Assigned) -> Result<&Lease, Bad> {
    assigned
        .lease
        .as_ref()
        .ok_or_else(|| Bad::Broken("a partition was taken over without a lease".to_owned()))
}

impl<D: Store, T: Send + Sync + 'static> Ledger for StoreLedger<D, T> {
    fn take_over(&self, partition: TopicPartition, serial: u64) -> Boxed<'_, Result<Taken, Trouble>> {
        Box::pin(async move {
            self.taken(&partition, serial).await.map_err(|bad| match bad {
                // An owner that hangs may keep it for long, and the loop has other partitions.
                Bad::Passing(said) | Bad::Standby(said) => Trouble::Away(said),
                bad => Trouble::from(bad),
            })
        })
    }

    fn settle(&self, work: Work) -> Boxed<'_, Result<Settled, Trouble>> {
        Box::pin(async move {
            let mut pause = Pause::new();
            let failed = loop {
                match self.attempt(&work).await {
                    Ok(Attempted::Settled(settled)) => return Ok(settled),
                    Ok(Attempted::Failed(failed)) => break failed,
                    Ok(Attempted::InDoubt) => pause.wait().await,
                    Err(bad) => pause.or_trouble(bad).await?,
                }
            };
            loop {
                match self.keep(&work, &failed).await {
                    Ok(settled) => return Ok(settled),
                    Err(bad) => pause.or_trouble(bad).await?,
                }
            }
        })
    }

    fn settle_batch(&self, works: Vec<Work>) -> Boxed<'_, Result<Vec<Settled>, Trouble>> {
        Box::pin(self.settle_together(works))
    }

    fn queue(&self, works: Vec<Work>) -> Boxed<'_, Result<(), Trouble>> {
        Box::pin(async move {
            let Some(assigned) = works.first().map(|work| work.assigned.clone()) else { return Ok(()) };
            let events: Vec<Event> = works.into_iter().map(|work| work.event).collect();
            let lease = lease(&assigned).map_err(Trouble::from)?;
            let mut pause = Pause::new();
            loop {
                match self.store.queue(lease, &events, self.now_ms()).await {
                    Ok(()) => return Ok(()),
                    Err(error) => pause.or_trouble(Bad::from(error)).await?,
                }
            }
        })
    }

    fn due<'a>(&'a self, assigned: &'a Arc<Assigned>, limit: u32) -> Boxed<'a, Result<Vec<Work>, Trouble>> {
        Box::pin(async move {
            let lease = lease(assigned).map_err(Trouble::from)?;
            let mut pause = Pause::new();
            loop {
                match self.store.due(&lease.assignment, self.now_ms(), limit).await {
                    Ok(parked) => {
                        let topic = assigned.partition.topic.as_str();
                        let work = parked.into_iter().map(|parked| Work {
                            assigned: assigned.clone(),
                            event: self.caller.context.mappings.read_parked(topic, parked.event),
                            source: Source::Parked,
                            failures: parked.attempts,
                        });
                        return Ok(work.collect());
                    }
                    Err(error) => pause.or_trouble(Bad::from(error)).await?,
                }
            }
        })
    }

    fn next_due<'a>(&'a self, assigned: &'a Assigned) -> Boxed<'a, Result<Option<i64>, Trouble>> {
        Box::pin(async move {
            let lease = lease(assigned).map_err(Trouble::from)?;
            let mut pause = Pause::new();
            loop {
                match self.store.next_due(&lease.assignment).await {
                    Ok(due_ms) => return Ok(due_ms),
                    Err(error) => pause.or_trouble(Bad::from(error)).await?,
                }
            }
        })
    }

    fn save<'a>(
        &'a self,
        assigned: &'a Assigned,
        progress: Option<courant_sql::Progress>,
        _: u64,
    ) -> Boxed<'a, Result<(), Trouble>> {
        Box::pin(async move {
            let Some(progress) = progress else { return Ok(()) };
            let lease = lease(assigned).map_err(Trouble::from)?;
            let mut pause = Pause::new();
            loop {
                match self.store.save_progress(&[(lease, &progress)], self.now_ms()).await {
                    Ok(()) => return Ok(()),
                    Err(error) => pause.or_trouble(Bad::from(error)).await?,
                }
            }
        })
    }

    fn save_together<'a>(
        &'a self,
        saves: &'a [(Arc<Assigned>, courant_sql::Progress)],
    ) -> Boxed<'a, Result<(), Trouble>> {
        Box::pin(async move {
            let mut leased = Vec::with_capacity(saves.len());
            for (assigned, progress) in saves {
                leased.push((lease(assigned).map_err(Trouble::from)?, progress));
            }
            let mut pause = Pause::new();
            loop {
                match self.store.save_progress(&leased, self.now_ms()).await {
                    Ok(()) => return Ok(()),
                    Err(error) => pause.or_trouble(Bad::from(error)).await?,
                }
            }
        })
    }

    fn reset<'a>(
        &'a self,
        assigned: &'a Assigned,
        progress: Option<courant_sql::Progress>,
    ) -> Boxed<'a, Result<(), Trouble>> {
        Box::pin(async move {
            let lease = lease(assigned).map_err(Trouble::from)?;
            let mut pause = Pause::new();
            loop {
                match self.store.reset_progress(lease, progress.as_ref(), self.now_ms()).await {
                    Ok(()) => return Ok(()),
                    Err(error) => pause.or_trouble(Bad::from(error)).await?,
                }
            }
        })
    }

    fn is_shared(&self) -> bool {
        true
    }

    fn news<'a>(&'a self, assigned: &'a Assigned) -> Boxed<'a, Result<News, Trouble>> {
        Box::pin(async move {
            let lease = lease(assigned).map_err(Trouble::from)?;
            let mut pause = Pause::new();
            loop {
                match self.look(&lease.assignment).await {
                    Ok(news) => return Ok(news),
                    Err(error) => pause.or_trouble(Bad::from(error)).await?,
                }
            }
        })
    }

    fn claim_redrives<'a>(
        &'a self,
        assigned: &'a Assigned,
    ) -> Boxed<'a, Result<Vec<Option<Bytes>>, Trouble>> {
        Box::pin(async move {
            let lease = lease(assigned).map_err(Trouble::from)?;
            let limit = courant_sql::limits::LISTED_MAX;
            let mut keys = Vec::new();
            let mut pause = Pause::new();
            loop {
                match self.store.claim_redrives(lease, limit, self.now_ms()).await {
                    Ok(claims) if claims.is_empty() => return Ok(keys),
                    Ok(claims) => keys.extend(claims.into_iter().map(|claim| claim.key)),
                    Err(error) => pause.or_trouble(Bad::from(error)).await?,
                }
            }
        })
    }

    fn prune(&self) -> Boxed<'_, Result<(), Trouble>> {
        Box::pin(async move {
            let Some(remembered_ms) = self.rules.remembered_ms else { return Ok(()) };
            let before_ms = self.now_ms().saturating_sub(remembered_ms);
            let mut pause = Pause::new();
            loop {
                match self.store.prune_inbox(&self.consumer, before_ms, PRUNED_MAX).await {
                    Ok(pruned) if pruned < u64::from(PRUNED_MAX) => return Ok(()),
                    Ok(_) => {}
                    Err(error) => pause.or_trouble(Bad::from(error)).await?,
                }
            }
        })
    }
}
