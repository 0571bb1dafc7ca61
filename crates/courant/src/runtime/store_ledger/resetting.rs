//! Setting progress elsewhere, and what gives way to that.

use courant_sql::limits::LISTED_MAX;
use courant_sql::{Delivery, Lease, ParkedEvent, Progress, ResetError, Source, Store};
use tracing::warn;

use super::StoreLedger;
use crate::channel::CONSUMER_PREFIX;
use crate::runtime::passing::Bad;

impl<D: Store, T: Send + Sync + 'static> StoreLedger<D, T> {
    /// Sets progress elsewhere. What waits is in the way for a person to decide about, except for requests of the
    /// operations channel: their consumer has no settings, and whoever sent them looks for an answer in the log so far.
    pub(super) async fn set_progress(&self, lease: &Lease, progress: &Progress) -> Result<(), Bad> {
        let set = self.store.reset_progress(lease, Some(progress), self.now_ms()).await;
        let is_of_channel = self.consumer.name.as_str().starts_with(CONSUMER_PREFIX);
        if is_of_channel && matches!(set, Err(ResetError::InTheWay { parked: 1.., .. })) {
            self.pass_waiting(lease).await?;
            let set = self.store.reset_progress(lease, Some(progress), self.now_ms()).await;
            return set.map_err(Bad::from);
        }
        set.map_err(Bad::from)
    }

    /// Passes everything that waits in a partition. Each one that is passed waits no more, so this ends.
    async fn pass_waiting(&self, lease: &Lease) -> Result<(), Bad> {
        loop {
            let waiting = self.store.due(&lease.assignment, i64::MAX, LISTED_MAX).await?;
            if waiting.is_empty() {
                return Ok(());
            }
            for ParkedEvent { event, .. } in &waiting {
                let (id, offset, key) = (&event.id, event.offset, event.key.as_deref());
                let delivery = Delivery { id, offset, key, source: Source::Parked };
                self.store.skip(lease, &delivery, self.now_ms()).await?;
                let (consumer, partition) = (&self.consumer, &lease.assignment.partition);
                warn!(%consumer, %partition, offset, request = %id, "gave up a request of another log");
            }
        }
    }
}
