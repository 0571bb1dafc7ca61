//! What a subscription is to be settled in: the seam between the loop that drives it and its store.

use std::sync::Arc;

use bytes::Bytes;
use courant_core::position::TopicPartition;
use courant_sql::{Delivery, Event, Lease, Source};
use tokio::sync::watch;
use uuid::Uuid;

use crate::Boxed;

/// A partition that the subscription has.
#[derive(Debug)]
pub(crate) struct Assigned {
    pub(crate) partition: TopicPartition,
    /// Tells this assignment from an earlier one of the same partition.
    pub(crate) serial: u64,
    /// The right to handle its events; without a store there is none.
    pub(crate) lease: Option<Lease>,
    /// The id of its topic, where the engine has the progress and tells topics by their ids.
    pub(crate) topic_id: Option<Uuid>,
    pub(crate) given_up: GivenUp,
}

/// Whether an assignment is over, or about to be: what has failed is not tried again for it.
#[derive(Debug, Default)]
pub(crate) struct GivenUp(watch::Sender<bool>);

impl GivenUp {
    pub(crate) fn set(&self) {
        self.0.send_replace(true);
    }

    pub(crate) fn is_set(&self) -> bool {
        *self.0.borrow()
    }

    /// Waits until it is.
    pub(crate) async fn until_set(&self) {
        // The sender is here.
        drop(self.0.subscribe().wait_for(|is_set| *is_set).await);
    }
}

/// How far a partition has come, as it was kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Kept {
    /// Nothing is known of it.
    Nothing,
    /// Up to an event, of which something is known.
    Event(courant_sql::Progress),
    /// To an offset, of which nothing else is known.
    Next(u64),
}

/// A partition that was taken over.
pub(crate) struct Taken {
    pub(crate) assigned: Arc<Assigned>,
    pub(crate) kept: Kept,
    /// Keys with parked events.
    pub(crate) parked: Vec<Bytes>,
    /// When parked events are due.
    pub(crate) due_ms: Vec<i64>,
}

/// An event to be settled.
#[derive(Clone, Debug)]
pub(crate) struct Work {
    pub(crate) assigned: Arc<Assigned>,
    pub(crate) event: Event,
    pub(crate) source: Source,
    /// How often it has failed.
    pub(crate) failures: u32,
}

impl Work {
    pub(crate) fn delivery(&self) -> Delivery<'_> {
        Delivery {
            id: &self.event.id,
            offset: self.event.offset,
            key: self.event.key.as_deref(),
            source: self.source,
        }
    }
}

/// What has become of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Settled {
    /// It is done with: handled, skipped, or a dead letter that nothing waits for.
    Done {
        /// Its key had parked events, and has none any more.
        drained: bool,
    },
    /// It is parked until then, and its key with it.
    Waits {
        /// When it is tried again.
        due_ms: i64,
    },
    /// It is parked behind others of its key.
    Queued,
    /// It is a dead letter, and its key is parked until somebody decides.
    Holds,
    /// It is left to whoever has the partition next: this assignment was given up.
    Left,
}

/// What others may have done with the events of a partition.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct News {
    /// Dead letters are to be handled again, and may be taken now.
    pub(crate) redrives: bool,
    /// When the next parked event is due.
    pub(crate) due_ms: Option<i64>,
}

/// Why a subscription cannot go on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Trouble {
    /// Somebody else has the partition.
    Fenced,
    /// The engine or the store does not do it now. It passes by itself.
    Away(String),
    /// The store or the engine does not do its part, and will not by itself.
    Broken(String),
}

/// What a worker handles behind the event that it has, and whom it tells what has become of them.
pub(crate) trait Turns: Send + Sync {
    /// The next event whose turn it is, if one stands ready that is handled by itself. It is to be taken before
    /// the last one is said to be over: otherwise somebody else begins in its place.
    fn next(&self) -> Option<Work>;

    /// Gives the event back that was taken last: it is not to wait for what is before it.
    fn give_back(&self, work: Work);

    /// What has become of the first event that is not over.
    fn ended(&self, settled: Result<Settled, Trouble>);
}

/// What a subscription is settled in. Operations come back to trouble that passes by itself until it has
/// passed, except for taking a partition over.
pub(crate) trait Ledger: Send + Sync + 'static {
    /// Takes a partition over, or says at once that it cannot be had now. `serial` tells this assignment from
    /// others.
    fn take_over(&self, partition: TopicPartition, serial: u64) -> Boxed<'_, Result<Taken, Trouble>>;

    /// Handles an event, and keeps what has become of it.
    fn settle(&self, work: Work) -> Boxed<'_, Result<Settled, Trouble>>;

    /// Whether [`Ledger::settle_all`] goes on with events that stand ready, so that it is of use to have some.
    fn goes_on(&self) -> bool {
        false
    }

    /// [`Ledger::settle`], and what has become of the event is said. Where it [goes on](Ledger::goes_on), also
    /// events whose turn it is behind it.
    fn settle_all<'a>(&'a self, work: Work, turns: &'a dyn Turns) -> Boxed<'a, ()> {
        Box::pin(async move { turns.ended(self.settle(work).await) })
    }

    /// Handles events of one assignment in one transaction, those of a key in their order, and keeps what
    /// has become of each. What fails leaves them, and is handled by itself.
    fn settle_batch(&self, works: Vec<Work>) -> Boxed<'_, Result<Vec<Settled>, Trouble>>;

    /// Puts events of one assignment behind the parked ones of their keys.
    fn queue(&self, works: Vec<Work>) -> Boxed<'_, Result<(), Trouble>>;

    /// Parked events that are due now, of each key the first.
    fn due<'a>(&'a self, assigned: &'a Arc<Assigned>, limit: u32) -> Boxed<'a, Result<Vec<Work>, Trouble>>;

    /// When the next parked event is due.
    fn next_due<'a>(&'a self, assigned: &'a Assigned) -> Boxed<'a, Result<Option<i64>, Trouble>>;

    /// Keeps how far a partition has come: `progress`, and the offset to begin with.
    fn save<'a>(
        &'a self,
        assigned: &'a Assigned,
        progress: Option<courant_sql::Progress>,
        next: u64,
    ) -> Boxed<'a, Result<(), Trouble>>;

    /// [`Ledger::save`] for several partitions at once. When it says [`Trouble::Fenced`], somebody else has one of
    /// them, and which one is known when each is saved by itself.
    fn save_together<'a>(
        &'a self,
        saves: &'a [(Arc<Assigned>, courant_sql::Progress)],
    ) -> Boxed<'a, Result<(), Trouble>>;

    /// Sets progress where it has not come by itself, and keeps that.
    fn reset<'a>(
        &'a self,
        assigned: &'a Assigned,
        progress: courant_sql::Progress,
    ) -> Boxed<'a, Result<(), Trouble>>;

    /// Whether it is a store: it has the progress, of which the engine gets a copy, and others can change what is
    /// parked and dead, so that somebody has to look.
    fn is_shared(&self) -> bool;

    /// What others may have done since the last look. Only reads.
    fn news<'a>(&'a self, assigned: &'a Assigned) -> Boxed<'a, Result<News, Trouble>>;

    /// How many events of the consumer are parked, in all its partitions.
    fn parked(&self) -> Boxed<'_, Result<u64, Trouble>> {
        Box::pin(async { Ok(0) })
    }

    /// Takes dead letters that somebody wants to be handled again. Gives back their keys; nothing of the
    /// subscription may be under way.
    fn claim_redrives<'a>(&'a self, assigned: &'a Assigned)
    -> Boxed<'a, Result<Vec<Option<Bytes>>, Trouble>>;

    /// Forgets what was handled so long ago that it cannot come again.
    fn prune(&self) -> Boxed<'_, Result<(), Trouble>>;
}
