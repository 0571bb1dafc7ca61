//! The thread that compacts, and how fast it may.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::product::aside;
use super::source::SourceError;
use crate::inner::Inner;
use crate::lock;
use crate::segment::FileKind;
use crate::storage::Storage;

/// Paces compaction and ends it.
#[derive(Debug)]
pub(crate) struct Compactor {
    state: Mutex<State>,
    stopped: Condvar,
    bytes_per_second: Option<u64>,
}

#[derive(Debug, Default)]
struct State {
    stop: bool,
    is_abandoned: bool,
    /// When what was spent will have been earned.
    paid_until: Option<Instant>,
}

impl Compactor {
    /// `bytes_per_second`: bytes that it may read and write in a second; 0: as many as it can.
    pub(crate) fn new(bytes_per_second: u64) -> Self {
        let bytes_per_second = (bytes_per_second > 0).then_some(bytes_per_second);
        Self { state: Mutex::default(), stopped: Condvar::new(), bytes_per_second }
    }

    pub(crate) fn stop(&self) {
        lock(&self.state).stop = true;
        self.stopped.notify_all();
    }

    /// Lets go of an answer that is waited for: it may stand behind the callback that stops the log, which waits until
    /// the thread has ended.
    pub(crate) fn abandon(&self) {
        lock(&self.state).is_abandoned = true;
    }

    /// Whether an answer may not come any more.
    pub(super) fn is_abandoned(&self) -> bool {
        lock(&self.state).is_abandoned
    }

    pub(super) fn is_stopping(&self) -> bool {
        lock(&self.state).stop
    }

    /// Accounts for bytes, and waits where they come too fast.
    pub(super) fn spend(&self, bytes: usize) -> Result<(), SourceError> {
        let mut state = lock(&self.state);
        if let Some(bytes_per_second) = self.bytes_per_second {
            let now = Instant::now();
            let cost = Duration::from_secs_f64(bytes as f64 / bytes_per_second as f64);
            let paid_until = state.paid_until.unwrap_or(now).max(now) + cost;
            state.paid_until = Some(paid_until);
            // Short debts are carried on: a wait for each batch would cost more than it spares.
            if paid_until > now + DEBT_MAX {
                state = self.wait(state, paid_until - now);
            }
        }
        if state.stop { Err(SourceError::Stopping) } else { Ok(()) }
    }

    /// Waits, unless it is time to stop.
    fn wait<'a>(
        &'a self,
        state: std::sync::MutexGuard<'a, State>,
        time: Duration,
    ) -> std::sync::MutexGuard<'a, State> {
        let waited = self.stopped.wait_timeout_while(state, time, |state| !state.stop);
        waited.unwrap_or_else(PoisonError::into_inner).0
    }
}

/// How far compaction may be ahead of its pace.
const DEBT_MAX: Duration = Duration::from_millis(50);

impl Inner {
    /// The compaction thread.
    pub(crate) fn run_compaction(&self) {
        let interval = Duration::from_millis(self.config.compaction_interval_ms);
        loop {
            let state = lock(&self.compactor.state);
            if self.compactor.wait(state, interval).stop {
                return;
            }
            if catch_unwind(AssertUnwindSafe(|| self.compact())).is_err() {
                self.end_because("the compaction thread panicked, which is a defect");
                return;
            }
        }
    }
}

/// Removes what an interrupted compaction left on its way. It never counted; where it cannot be removed,
/// it only takes room.
pub(crate) fn remove_leftovers(storage: &dyn Storage) {
    for kind in [FileKind::Segment, FileKind::Sidecar] {
        let path = aside(kind);
        match storage.remove_file(&path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                tracing::warn!(path, %error, "what a compaction left stays for now");
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[test]
    fn who_goes_too_fast_waits_and_can_be_stopped_meanwhile() {
        let compactor = Arc::new(Compactor::new(1));
        let waiting = compactor.clone();
        // A million seconds, if nobody stops it.
        let spent = std::thread::spawn(move || waiting.spend(1_000_000));
        while lock(&compactor.state).paid_until.is_none() {
            std::thread::yield_now();
        }
        compactor.stop();
        assert!(matches!(spent.join().expect("no panic"), Err(SourceError::Stopping)));
    }

    #[test]
    fn without_a_limit_nobody_waits() {
        let compactor = Compactor::new(0);
        for _ in 0..1_000 {
            compactor.spend(usize::MAX).expect("goes on");
        }
        compactor.stop();
        assert!(compactor.spend(0).is_err());
    }
}
