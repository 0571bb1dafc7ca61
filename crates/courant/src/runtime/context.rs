//! What all parts of a running service share.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use courant_core::entropy::Entropy;
use courant_core::trace::Tracer;
use courant_engine::Engine;
use courant_sql::Committed;
use tokio::sync::{Notify, watch};

use super::faults::Faults;
use super::forgetting::Forgetting;
use super::stalls::Stalls;
use super::status::Status;
use super::stopping::StopTimes;
use super::time::Time;
use super::timers::Timers;
use crate::Boxed;
use crate::mapping::Mappings;
use crate::outbox::Stamp;
use crate::publisher::{Publisher, Sender};

/// What all parts of a running service share.
pub(crate) struct Context {
    pub(crate) service: Arc<str>,
    /// The version of the service, for dead letters.
    pub(crate) version: String,
    /// Who this is among all that run the service, for people.
    pub(crate) owner: String,
    pub(crate) engine: Arc<dyn Engine>,
    pub(crate) time: Arc<dyn Time>,
    pub(crate) entropy: Arc<dyn Entropy>,
    pub(crate) faults: Faults,
    pub(crate) tracer: Tracer,
    pub(crate) stamp: Stamp,
    pub(crate) sender: Sender,
    /// How events of others are read.
    pub(crate) mappings: Mappings,
    pub(crate) activity: Activity,
    /// What does not go on.
    pub(crate) stalls: Arc<Stalls>,
    /// How long an orderly end may take.
    pub(crate) stop_times: StopTimes,
    /// Something was written into the outbox.
    pub(crate) outbox_filled: Notify,
    /// How often.
    pub(crate) outbox_fills: AtomicU64,
    /// The relay has published all that it saw, and nothing has come since.
    pub(crate) relay: Status,
    /// What the task that moves timers is told.
    pub(crate) timers: Timers,
    /// What closed dead letters are forgotten by. Without a store nobody does it.
    pub(crate) forgetting: Forgetting,
    /// How many events wait in the outbox; `None` without a store.
    pub(crate) backlog: Option<Backlog>,
}

/// Counts what waits in the outbox, or is a timer that is due. What does not answer counts as one.
pub(crate) type Backlog = Box<dyn Fn() -> Boxed<'static, u64> + Send + Sync>;

impl Context {
    /// Publishes past transactions.
    pub(crate) fn publisher(&self) -> Publisher {
        Publisher::new(self.sender.clone(), self.stamp.clone())
    }

    /// A number to spread times with.
    pub(crate) fn random(&self) -> u64 {
        self.entropy.uuid().as_u64_pair().1
    }

    /// Tells who waits for it what a commit has left in the store.
    pub(crate) fn committed(&self, committed: &Committed) {
        if !committed.lanes.is_empty() {
            self.outbox_has_more();
        }
        if let Some(due_ms) = committed.next_timer_ms {
            self.activity.note();
            self.timers.scheduled(due_ms);
        }
    }

    /// Something was written into the outbox.
    pub(crate) fn outbox_has_more(&self) {
        self.activity.note();
        self.outbox_fills.fetch_add(1, Ordering::Relaxed);
        self.outbox_filled.notify_one();
    }
}

/// Counts what happens in a service, so that somebody can wait until nothing does.
pub(crate) struct Activity {
    count: AtomicU64,
    changed: watch::Sender<u64>,
    failures: AtomicU64,
}

impl Activity {
    pub(crate) fn new() -> Self {
        Self { count: AtomicU64::new(0), changed: watch::Sender::new(0), failures: AtomicU64::new(0) }
    }

    /// An event was not handled.
    pub(crate) fn failed(&self) {
        self.failures.fetch_add(1, Ordering::Relaxed);
    }

    /// How many events were not handled.
    pub(crate) fn failures(&self) -> u64 {
        self.failures.load(Ordering::Relaxed)
    }

    /// Something has happened, or has come to rest.
    pub(crate) fn note(&self) {
        let count = self.count.fetch_add(1, Ordering::SeqCst) + 1;
        self.changed.send_modify(|seen| *seen = (*seen).max(count));
    }

    /// How much has happened.
    pub(crate) fn count(&self) -> u64 {
        self.count.load(Ordering::SeqCst)
    }

    /// Waits until more than `count` has happened.
    pub(crate) async fn beyond(&self, count: u64) {
        let mut changed = self.changed.subscribe();
        // The sender lives in `self`, so the wait ends only when its condition holds.
        drop(changed.wait_for(|seen| *seen > count).await);
    }
}
