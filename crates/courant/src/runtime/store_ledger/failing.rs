//! What becomes of an event that has failed: in a transaction of its own, after that of its handler.

use courant_sql::{Burial, DeadReason, Parked, Store};
use tracing::warn;

use super::{StoreLedger, lease};
use crate::channel::CONSUMER_PREFIX;
use crate::runtime::dead;
use crate::runtime::faults::FaultPoint;
use crate::runtime::ledger::{Settled, Work};
use crate::runtime::passing::Bad;
use crate::runtime::policy::{Failed, Fate, fate};
use crate::runtime::time::after;

impl<D: Store, T: Send + Sync + 'static> StoreLedger<D, T> {
    /// Keeps what becomes of an event that has failed.
    pub(super) async fn keep(&self, work: &Work, failed: &Failed) -> Result<Settled, Bad> {
        if failed.is_undecodable && self.consumer.name.as_str().starts_with(CONSUMER_PREFIX) {
            return self.pass_by(work, failed).await;
        }
        let context = &self.caller.context;
        let now_ms = self.now_ms();
        let lease = lease(&work.assigned)?;
        let attempt = work.failures.saturating_add(1);
        let random = context.random();
        let fate = fate(failed, attempt, &self.rules.retry, self.rules.exhausted, random);
        let (topic, consumer) = (&work.assigned.partition.topic, &self.consumer.name);
        let _span = context.tracer.settle(
            topic.as_str(),
            consumer.as_str(),
            fate.outcome(),
            failed.span.as_deref().copied(),
        );
        let settled = match fate {
            Fate::Again(delay) => {
                let due_ms = after(now_ms, delay);
                let (event, failures) = (&work.event, work.failures);
                match self.store.park(lease, event, &failed.failure, failures, due_ms, now_ms).await? {
                    Parked::Waiting { .. } => Settled::Waits { due_ms },
                    Parked::Settled => Settled::Done { drained: false },
                }
            }
            Fate::Dead { reason, keeps_key } => self.bury(work, failed, reason, keeps_key).await?,
            Fate::Skipped => {
                let committed = self.store.skip(lease, &work.delivery(), now_ms).await?;
                self.done(work, &committed)
            }
        };
        warn!(
            consumer = %self.consumer, event = %work.event.id, partition = %work.assigned.partition,
            offset = work.event.offset, attempt, kind = failed.failure.kind, place = failed.failure.place,
            error = failed.failure.message, ?settled, "an event was not handled"
        );
        context.activity.failed();
        context.faults.reach(FaultPoint::AfterPark).await;
        Ok(settled)
    }

    /// An event of the framework's own topics that says nothing. Whoever can write into them can write as
    /// many as they like, so it leaves no dead letter and no copy, and a line in the log once a minute.
    async fn pass_by(&self, work: &Work, failed: &Failed) -> Result<Settled, Bad> {
        let context = &self.caller.context;
        let committed = self.store.skip(lease(&work.assigned)?, &work.delivery(), self.now_ms()).await?;
        if let Some(events) = self.passed_by.again(context.time.elapsed_ms()) {
            warn!(
                consumer = %self.consumer, partition = %work.assigned.partition, offset = work.event.offset,
                error = failed.failure.message, events, "passed by what is no request"
            );
        }
        context.faults.reach(FaultPoint::AfterPark).await;
        Ok(self.done(work, &committed))
    }

    async fn bury(
        &self,
        work: &Work,
        failed: &Failed,
        reason: DeadReason,
        keeps_key: bool,
    ) -> Result<Settled, Bad> {
        let context = &self.caller.context;
        let copy = dead::copy(context, &self.consumer.name, work, &failed.failure);
        let burial = Burial {
            event: &work.event,
            failure: &failed.failure,
            reason,
            keep_key_parked: keeps_key,
            code_version: &context.version,
            copies: copy.into_iter().collect(),
        };
        let buried = self.store.bury(lease(&work.assigned)?, burial, self.now_ms()).await?;
        if !buried.lanes.is_empty() {
            context.outbox_has_more();
        }
        if buried.id.is_some() && keeps_key && work.event.key.is_some() {
            return Ok(Settled::Holds);
        }
        Ok(Settled::Done { drained: buried.drained })
    }
}
