//! Where one scenario takes place: a store with the framework's tables, and nothing else in it.

use courant_sql::{Admission, Committed, Event, Lease, NewEvent, Pending, Source, Store, Transaction as _};

use super::given::{NOW, assignment, of};
use super::{EndingTransaction, StoreSubject};
use crate::Failure;
use crate::failure::ensure;

/// A store for one scenario.
pub(crate) struct StoreStage<S: Store> {
    subject: StoreSubject<S>,
    place: u32,
    pub(crate) store: S,
}

impl<S: Store> StoreStage<S> {
    pub(crate) async fn new(subject: StoreSubject<S>, place: u32) -> Result<Self, Failure> {
        let store = subject.open(place).await?;
        store.install(NOW).await?;
        Ok(Self { subject, place, store })
    }

    /// The process is killed, and the next one opens the same database.
    pub(crate) async fn restart(&mut self) -> Result<(), Failure> {
        self.store = self.another().await?;
        Ok(())
    }

    /// The same database, as another process opens it.
    pub(crate) async fn another(&self) -> Result<S, Failure> {
        let store = self.subject.open(self.place).await?;
        store.check().await?;
        Ok(store)
    }

    /// How a handler can end its transaction.
    pub(crate) fn ending(&self) -> Result<EndingTransaction<S>, Failure> {
        self.subject.ending_of().cloned().ok_or_else(|| Failure::new("nobody has said how to end one"))
    }

    /// Takes the one partition of a consumer over.
    pub(crate) async fn lease(&self, consumer: &str) -> Result<Lease, Failure> {
        Ok(self.store.take_over(&assignment(consumer)?, "conformance", NOW).await?)
    }

    /// Begins a transaction and admits one event.
    pub(crate) async fn admit(
        &self,
        lease: &Lease,
        event: &Event,
        source: Source,
    ) -> Result<(S::Transaction, Admission), Failure> {
        let mut transaction = self.store.begin(Some(lease)).await?;
        let admissions = transaction.admit(&[of(event, source)], NOW).await?;
        let [admission] = admissions[..] else {
            return Err(Failure::new(format!("one delivery, and these answers: {admissions:?}")));
        };
        Ok((transaction, admission))
    }

    /// What admitting an event answers; nothing is kept.
    pub(crate) async fn admission(
        &self,
        lease: &Lease,
        event: &Event,
        source: Source,
    ) -> Result<Admission, Failure> {
        let (transaction, admission) = self.admit(lease, event, source).await?;
        transaction.rollback().await?;
        Ok(admission)
    }

    /// Handles an event, which must be new.
    pub(crate) async fn handle(
        &self,
        lease: &Lease,
        event: &Event,
        source: Source,
    ) -> Result<Committed, Failure> {
        let (transaction, admission) = self.admit(lease, event, source).await?;
        ensure!(admission == Admission::New, "{} is to be handled, and it is {admission:?}", event.id);
        Ok(transaction.commit(NOW).await?)
    }

    /// Publishes events in one transaction.
    pub(crate) async fn publish(&self, events: &[NewEvent]) -> Result<Committed, Failure> {
        let mut transaction = self.store.begin(None).await?;
        for event in events {
            transaction.publish(event.clone())?;
        }
        Ok(transaction.commit(NOW).await?)
    }

    /// Everything that waits in the outbox, lane by lane.
    pub(crate) async fn waiting(&self) -> Result<Vec<Pending>, Failure> {
        let lanes = self.store.pending(0, 100, u64::MAX).await?;
        Ok(lanes.into_iter().flat_map(|lane| lane.events).collect())
    }

    /// Offsets of what is due, the longest due first.
    pub(crate) async fn due(&self, lease: &Lease, now_ms: i64) -> Result<Vec<u64>, Failure> {
        let due = self.store.due(&lease.assignment, now_ms, 100).await?;
        Ok(due.iter().map(|parked| parked.event.offset).collect())
    }
}
