//! Settling events in a store: what a handler does commits with the note that it was done.
//!
//! An event that fails is rolled back first, and parked or made a dead letter in a transaction after
//! that. A crash between the two brings the event again, as if it had not been tried.

mod batch;
mod failing;
mod one;
mod resetting;
mod under_way;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use courant_core::position::TopicPartition;
use courant_core::topic::TopicName;
use courant_sql::{
    Assignment, Committed, Consumer, Event, Lease, NewEvent, ParkedOf, Source, Store, StoreError,
    Transaction as _,
};
use tracing::warn;

pub(crate) use self::under_way::UnderWay;
use super::call::Caller;
use super::ledger::{Assigned, GivenUp, Kept, Ledger, News, Settled, Taken, Trouble, Turns, Work};
use super::passing::{Bad, Pause};
use super::seldom::Seldom;
use crate::outbox::PublishError;
use crate::tx::Lent;
use crate::{Boxed, Exhausted, Retry};

/// A subscription that is settled in a store.
pub(crate) struct StoreLedger<D: Store, T> {
    pub(crate) store: D,
    pub(crate) consumer: Consumer,
    /// The consumer's name, for those who wait.
    pub(crate) named: Arc<str>,
    /// What the subscription reads. What is parked of others takes no room from it.
    pub(crate) topics: Vec<TopicName>,
    pub(crate) caller: Caller<D, T>,
    pub(crate) rules: Rules,
    /// Events of the framework's own topics that were passed by because they say nothing.
    pub(crate) passed_by: Seldom,
    pub(crate) under_way: UnderWay,
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

impl<D: Store, T: Send + Sync + 'static> StoreLedger<D, T> {
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
        let assigned = Arc::new(Assigned {
            partition: partition.clone(),
            serial,
            lease: Some(lease),
            topic_id: None,
            given_up: GivenUp::default(),
        });
        Ok(Taken { assigned, kept, parked, due_ms })
    }

    async fn look(&self, assignment: &Assignment) -> Result<News, StoreError> {
        let redrives = self.store.redrives_waiting(assignment, self.now_ms()).await?;
        Ok(News { redrives, due_ms: self.store.next_due(assignment).await? })
    }

    fn now_ms(&self) -> i64 {
        self.caller.context.time.now_ms()
    }

    /// Says that the consumer waits for the store, while it does.
    fn pause(&self) -> Pause {
        Pause::of(self.caller.context.stalls.waiting(Some(Arc::clone(&self.named))))
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
                Bad::Passing(_, said) | Bad::Standby(said) => Trouble::Away(said),
                bad => Trouble::from(bad),
            })
        })
    }

    fn settle(&self, work: Work) -> Boxed<'_, Result<Settled, Trouble>> {
        Box::pin(async move { self.settle_one(&work, None, None).await })
    }

    fn goes_on(&self) -> bool {
        true
    }

    fn settle_all<'a>(&'a self, work: Work, turns: &'a dyn Turns) -> Boxed<'a, ()> {
        Box::pin(self.go_on(work, turns))
    }

    fn settle_batch(&self, works: Vec<Work>) -> Boxed<'_, Result<Vec<Settled>, Trouble>> {
        Box::pin(self.settle_together(works))
    }

    fn queue(&self, works: Vec<Work>) -> Boxed<'_, Result<(), Trouble>> {
        Box::pin(async move {
            let Some(assigned) = works.first().map(|work| work.assigned.clone()) else { return Ok(()) };
            let events: Vec<Event> = works.into_iter().map(|work| work.event).collect();
            let lease = lease(&assigned).map_err(Trouble::from)?;
            let mut pause = self.pause();
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
            let mut pause = self.pause();
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
            let mut pause = self.pause();
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
            let mut pause = self.pause();
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
            let mut pause = self.pause();
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
        progress: courant_sql::Progress,
    ) -> Boxed<'a, Result<(), Trouble>> {
        Box::pin(async move {
            let lease = lease(assigned).map_err(Trouble::from)?;
            let mut pause = self.pause();
            loop {
                match self.set_progress(lease, &progress).await {
                    Ok(()) => return Ok(()),
                    Err(bad) => pause.or_trouble(bad).await?,
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
            let mut pause = self.pause();
            loop {
                match self.look(&lease.assignment).await {
                    Ok(news) => return Ok(news),
                    Err(error) => pause.or_trouble(Bad::from(error)).await?,
                }
            }
        })
    }

    fn parked(&self) -> Boxed<'_, Result<u64, Trouble>> {
        Box::pin(async move {
            let mut pause = self.pause();
            loop {
                match self.store.parked_counts(ParkedOf::topics(&self.consumer, &self.topics)).await {
                    Ok(counts) => {
                        let failed = counts.waiting.saturating_add(counts.blocking);
                        return Ok(failed.saturating_add(counts.queued));
                    }
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
            let mut pause = self.pause();
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
            let mut pause = self.pause();
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
