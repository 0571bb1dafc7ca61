//! What the channel asks of a service's store, and how it sends what it has to say.

use std::sync::Arc;

use courant_core::topic::TopicName;
use courant_sql::{
    Consumer, DeadGroup, NewEvent, ParkedCounts, ParkedOf, Store, StoreError, Transaction as _,
};

use crate::Boxed;
use crate::runtime::Context;

/// Failures of which one look tells.
const FAILURES_MAX: u32 = 100;

/// A consumer, and the topics that it reads.
#[derive(Debug)]
pub(super) struct Reading {
    pub(super) consumer: Consumer,
    pub(super) topics: Vec<TopicName>,
}

/// What a look into the store has found.
#[derive(Debug, Default)]
pub(super) struct Looked {
    /// Events that wait in the outbox.
    pub(super) outbox: Option<u64>,
    /// What is parked, for each consumer that was asked about.
    pub(super) parked: Vec<Option<ParkedCounts>>,
    /// Dead letters that nobody has decided about, of all consumers; `None` without a store.
    pub(super) failures: Option<Vec<DeadGroup>>,
}

/// The side of the store, whichever it is.
pub(super) trait Facts: Send + Sync + 'static {
    /// The kind of store.
    fn store(&self) -> Option<&'static str>;

    /// Looks. What does not answer is not there.
    fn look<'a>(&'a self, consumers: &'a [Reading]) -> Boxed<'a, Looked>;

    /// Whether nothing waits where the event would wait.
    fn has_left<'a>(&'a self, event: &'a NewEvent) -> Boxed<'a, bool>;

    /// Sends an event behind those that were sent before.
    fn send(&self, event: NewEvent) -> Boxed<'_, Result<(), String>>;

    /// Comes back when everything that was sent has left.
    fn until_left(&self) -> Boxed<'_, ()>;
}

/// A service with a store: everything leaves through its outbox.
pub(super) struct InStore<D> {
    pub(super) store: D,
    pub(super) context: Arc<Context>,
}

/// A service without one.
pub(super) struct Direct {
    pub(super) context: Arc<Context>,
}

impl<D: Store> InStore<D> {
    async fn write(&self, event: NewEvent) -> Result<(), String> {
        let mut transaction = self.store.begin(None).await.map_err(|error| error.to_string())?;
        transaction.publish(event).map_err(|error| error.to_string())?;
        let now_ms = self.context.time.now_ms();
        transaction.commit(now_ms).await.map_err(|error| error.to_string())?;
        self.context.outbox_has_more();
        Ok(())
    }

    async fn waits(&self, event: &NewEvent) -> Result<bool, StoreError> {
        let lane = event.lane();
        let first = self.store.pending(lane, 1, 1).await?;
        Ok(first.first().is_some_and(|batch| batch.lane == lane))
    }
}

impl<D: Store> Facts for InStore<D> {
    fn store(&self) -> Option<&'static str> {
        Some(D::NAME)
    }

    fn look<'a>(&'a self, consumers: &'a [Reading]) -> Boxed<'a, Looked> {
        Box::pin(async move {
            let mut parked = Vec::with_capacity(consumers.len());
            for Reading { consumer, topics } in consumers {
                let of = ParkedOf::topics(consumer, topics);
                parked.push(self.store.parked_counts(of).await.ok());
            }
            let failures = self.store.dead_letter_groups(FAILURES_MAX).await.ok();
            Looked { outbox: self.store.outbox_backlog().await.ok(), parked, failures }
        })
    }

    fn has_left<'a>(&'a self, event: &'a NewEvent) -> Boxed<'a, bool> {
        Box::pin(async move { matches!(self.waits(event).await, Ok(false)) })
    }

    fn send(&self, event: NewEvent) -> Boxed<'_, Result<(), String>> {
        Box::pin(self.write(event))
    }

    fn until_left(&self) -> Boxed<'_, ()> {
        Box::pin(async move {
            loop {
                let count = self.context.activity.count();
                if matches!(self.store.outbox_backlog().await, Ok(0)) {
                    return;
                }
                self.context.activity.beyond(count).await;
            }
        })
    }
}

impl Facts for Direct {
    fn store(&self) -> Option<&'static str> {
        None
    }

    fn look<'a>(&'a self, consumers: &'a [Reading]) -> Boxed<'a, Looked> {
        Box::pin(async move { Looked { parked: vec![None; consumers.len()], ..Looked::default() } })
    }

    fn has_left<'a>(&'a self, _: &'a NewEvent) -> Boxed<'a, bool> {
        Box::pin(async { true })
    }

    fn send(&self, event: NewEvent) -> Boxed<'_, Result<(), String>> {
        Box::pin(async move {
            let answers = self.context.sender.send(vec![event]).await.map_err(|error| error.to_string())?;
            self.context.activity.note();
            match answers.into_iter().next() {
                Some(Ok(_)) => Ok(()),
                Some(Err(error)) => Err(error.to_string()),
                None => Err("the engine gave no answer".to_owned()),
            }
        })
    }

    fn until_left(&self) -> Boxed<'_, ()> {
        Box::pin(async {})
    }
}
