//! The time that the runtime goes by, and waits for.

use std::sync::Arc;
use std::time::Duration;

use courant_core::clock::Clock;

use crate::Boxed;

/// A clock that can be waited for.
pub(crate) trait Time: Clock + 'static {
    /// Waits until the clock shows `at_ms`.
    fn sleep_until(&self, at_ms: i64) -> Boxed<'_, ()>;
}

/// The time of a clock that goes as the runtime's timers go.
pub(crate) struct Passing(pub(crate) Arc<dyn Clock>);

/// Longest wait in one piece: a clock that is set meanwhile is noticed.
const LOOK_MS: i64 = 60_000;

impl Clock for Passing {
    fn now_ms(&self) -> i64 {
        self.0.now_ms()
    }

    fn elapsed_ms(&self) -> u64 {
        self.0.elapsed_ms()
    }
}

impl Time for Passing {
    fn sleep_until(&self, at_ms: i64) -> Boxed<'_, ()> {
        Box::pin(async move {
            loop {
                let left_ms = at_ms.saturating_sub(self.now_ms());
                if left_ms <= 0 {
                    return;
                }
                let wait_ms = u64::try_from(left_ms.min(LOOK_MS)).unwrap_or_default();
                tokio::time::sleep(Duration::from_millis(wait_ms)).await;
            }
        })
    }
}

/// So much later.
pub(crate) fn after(now_ms: i64, delay: Duration) -> i64 {
    now_ms.saturating_add(i64::try_from(delay.as_millis()).unwrap_or(i64::MAX))
}
