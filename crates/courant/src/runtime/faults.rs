//! Places where a test can end the service as a power cut would: nothing after them happens.

use std::collections::BTreeMap;
use std::future::pending;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::watch;

/// A place in the way of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
#[cfg_attr(not(feature = "testkit"), allow(unreachable_pub, reason = "only the test kit shows it"))]
pub enum FaultPoint {
    /// The handler's transaction is begun, and the handler not called yet.
    AfterBegin,
    /// The handler has succeeded, and nothing is committed.
    AfterHandler,
    /// The handler's transaction is committed, and nobody knows yet.
    AfterCommit,
    /// A failed event is parked or a dead letter, and nobody knows yet.
    AfterPark,
    /// Progress is about to be saved.
    BeforeProgress,
    /// The relay has published, and what it published is still in the outbox.
    AfterPublish,
    /// Timers that were due are in the outbox, and the relay does not know yet.
    AfterTimers,
}

/// Which place ends the service, if any.
#[derive(Clone, Default)]
pub(crate) struct Faults(Option<Arc<Plan>>);

#[cfg_attr(not(feature = "testkit"), allow(dead_code, reason = "only the test kit arms places"))]
struct Plan {
    /// At each place: how many more times it is passed before it ends the service.
    armed: Mutex<BTreeMap<FaultPoint, u64>>,
    fired: watch::Sender<u64>,
}

impl Faults {
    /// Places that can be armed.
    #[cfg(feature = "testkit")]
    pub(crate) fn armable() -> Self {
        Self(Some(Arc::new(Plan { armed: Mutex::default(), fired: watch::Sender::new(0) })))
    }

    /// Whether this is a service in the process of its test.
    pub(crate) fn is_armable(&self) -> bool {
        self.0.is_some()
    }

    /// Ends the service when `point` is reached, after it was passed `passes` times.
    #[cfg(feature = "testkit")]
    pub(crate) fn arm(&self, point: FaultPoint, passes: u64) {
        if let Some(plan) = &self.0 {
            plan.armed.lock().unwrap_or_else(PoisonError::into_inner).insert(point, passes);
        }
    }

    /// Waits until an armed place was reached, `times` times in all.
    #[cfg(feature = "testkit")]
    pub(crate) async fn fired(&self, times: u64) {
        match &self.0 {
            // The sender lives in `self`, so the wait ends only when its condition holds.
            Some(plan) => drop(plan.fired.subscribe().wait_for(|fired| *fired >= times).await),
            None => pending().await,
        }
    }

    /// A place is reached. When it is armed, nothing after it happens.
    pub(crate) async fn reach(&self, point: FaultPoint) {
        let Some(plan) = &self.0 else { return };
        if plan.is_hit(point) {
            plan.fired.send_modify(|fired| *fired += 1);
            pending::<()>().await;
        }
    }
}

impl Plan {
    fn is_hit(&self, point: FaultPoint) -> bool {
        let mut armed = self.armed.lock().unwrap_or_else(PoisonError::into_inner);
        match armed.get_mut(&point) {
            Some(0) => armed.remove(&point).is_some(),
            Some(passes) => {
                *passes -= 1;
                false
            }
            None => false,
        }
    }
}
