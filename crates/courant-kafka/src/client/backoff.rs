//! Waiting longer after each failure, and not for ever.

use std::time::Duration;
use tokio::time::{Instant, sleep};

const FIRST_PAUSE: Duration = Duration::from_millis(50);
const PAUSE_MAX: Duration = Duration::from_secs(1);

/// Pauses between attempts: 50 ms, then twice as long each time up to 1 s, until the time is up.
#[derive(Clone, Copy, Debug)]
pub(super) struct Backoff {
    total: Duration,
    deadline: Instant,
    pause: Duration,
}

impl Backoff {
    /// Begins now and ends after `total`.
    pub(super) fn within(total: Duration) -> Self {
        Self { total, deadline: Instant::now() + total, pause: FIRST_PAUSE }
    }

    /// How long was allowed from the beginning.
    pub(super) fn total(&self) -> Duration {
        self.total
    }

    /// Waits before the next attempt. False: the time is up and there must be no next attempt.
    pub(super) async fn pause(&mut self) -> bool {
        if Instant::now() + self.pause > self.deadline {
            return false;
        }
        sleep(self.pause).await;
        self.pause = (self.pause * 2).min(PAUSE_MAX);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn ends_before_its_time_is_up() {
        let mut backoff = Backoff::within(Duration::from_millis(200));
        let begun = Instant::now();
        let mut pauses = 0;
        while backoff.pause().await {
            pauses += 1;
        }
        assert_eq!(pauses, 2, "50 ms and 100 ms fit, 200 ms more do not");
        assert!(begun.elapsed() < Duration::from_millis(200), "{:?}", begun.elapsed());
        assert!(!Backoff::within(Duration::ZERO).pause().await);
    }
}
