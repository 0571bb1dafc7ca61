//! Timers: when one is due, its event is moved into the outbox, under the relay's lease.
//!
//! What is due and what was scheduled stands in the store, and nowhere else: a service that was away
//! when a timer was due finds it when it starts.

use std::future::pending;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use courant_sql::{AdvanceError, RelayLease, Store};
use tokio::sync::{Notify, watch};
use tracing::debug;

use super::context::Context;
use super::faults::FaultPoint;
use super::ledger::Trouble;
use super::passing::{Bad, Pause};

/// Timers that are moved at once.
const FIRED_AT_ONCE: u32 = 500;

/// Bytes that are moved at once.
const BYTES_MAX: u64 = 4 * 1024 * 1024;

/// How long the task sleeps when nobody wakes it: another instance of the service may have scheduled
/// something.
const LOOK: Duration = Duration::from_secs(1);

/// What the parts of a service tell the task that moves timers.
pub(crate) struct Timers {
    /// The lease of the relay, while this instance has it.
    lease: watch::Sender<Option<RelayLease>>,
    /// Until when the task sleeps; the end of all time while it looks.
    until_ms: AtomicI64,
    earlier: Notify,
}

impl Timers {
    pub(crate) fn new() -> Self {
        Self { lease: watch::Sender::new(None), until_ms: AtomicI64::new(i64::MAX), earlier: Notify::new() }
    }

    /// This instance relays from now on, or does not any more.
    pub(crate) fn relays(&self, lease: Option<RelayLease>) {
        self.lease.send_replace(lease);
    }

    /// A timer was scheduled and committed.
    pub(crate) fn scheduled(&self, due_ms: i64) {
        if due_ms < self.until_ms.load(Ordering::SeqCst) {
            self.earlier.notify_one();
        }
    }
}

/// What a look at the timers has come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fired {
    /// Some were due and are in the outbox now.
    Some,
    /// Those that are due are just being cancelled or replaced.
    Held,
    /// None is due, and the next one is at this time.
    None { next_ms: Option<i64> },
}

/// Moves timers that are due at `now_ms` into the outbox.
pub(crate) async fn fire_due<D: Store>(store: &D, lease: &RelayLease, now_ms: i64) -> Result<Fired, Bad> {
    let next_ms = store.next_timer_ms().await?;
    if next_ms.is_none_or(|next_ms| next_ms > now_ms) {
        return Ok(Fired::None { next_ms });
    }
    match store.fire_timers(lease, FIRED_AT_ONCE, BYTES_MAX, now_ms).await {
        Ok(fired) if fired.timers == 0 => Ok(Fired::Held),
        Ok(fired) => {
            debug!(timers = fired.timers, "timers were due");
            Ok(Fired::Some)
        }
        Err(AdvanceError::Fenced { .. }) => Err(Bad::Fenced),
        Err(AdvanceError::Store(error)) => Err(Bad::from(error)),
        Err(other) => Err(Bad::Broken(other.to_string())),
    }
}

/// Moves timers into the outbox until the service ends. Comes back only with what does not pass by
/// itself.
pub(crate) async fn run<D: Store>(store: D, context: Arc<Context>) -> Trouble {
    let timers = &context.timers;
    let mut leases = timers.lease.subscribe();
    let begin = || Pause::of(context.stalls.waiting(None));
    let mut pause = begin();
    loop {
        let lease = leases.borrow_and_update().clone();
        let Some(lease) = lease else {
            changed(&mut leases).await;
            continue;
        };
        // Whatever is scheduled during the look wakes the task after it.
        timers.until_ms.store(i64::MAX, Ordering::SeqCst);
        match fire_due(&store, &lease, context.time.now_ms()).await {
            Ok(Fired::Some) => {
                pause = begin();
                context.faults.reach(FaultPoint::AfterTimers).await;
                context.outbox_has_more();
            }
            Ok(Fired::Held) => {
                pause.goes_on();
                pause.wait().await;
            }
            Ok(Fired::None { next_ms }) => {
                pause = begin();
                rest(&context, next_ms, &mut leases).await;
            }
            // The relay hears it, too, and has another lease afterwards, or none.
            Err(Bad::Fenced) => changed(&mut leases).await,
            Err(bad) => {
                if let Err(trouble) = pause.or_trouble(bad).await {
                    return trouble;
                }
            }
        }
    }
}

/// Waits until something is due, something earlier is scheduled, or it is time to look.
async fn rest(context: &Context, next_ms: Option<i64>, leases: &mut watch::Receiver<Option<RelayLease>>) {
    let timers = &context.timers;
    timers.until_ms.store(next_ms.unwrap_or(i64::MAX), Ordering::SeqCst);
    let due = async {
        match next_ms {
            Some(next_ms) => context.time.sleep_until(next_ms).await,
            None => pending().await,
        }
    };
    tokio::select! {
        () = due => {}
        () = timers.earlier.notified() => {}
        () = changed(leases) => {}
        () = tokio::time::sleep(LOOK) => {}
    }
}

/// Waits for another lease. The sender lives in the context, so it is not gone.
async fn changed(leases: &mut watch::Receiver<Option<RelayLease>>) {
    if leases.changed().await.is_err() {
        pending::<()>().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_woken(timers: &Timers) -> bool {
        let mut notified = std::pin::pin!(timers.earlier.notified());
        notified.as_mut().enable()
    }

    /// Only what is due before the task would wake by itself wakes it, and during a look everything does.
    #[test]
    fn only_something_earlier_wakes_the_task() {
        let timers = Timers::new();
        timers.scheduled(50);
        assert!(is_woken(&timers), "during the first look");
        timers.until_ms.store(100, Ordering::SeqCst);
        timers.scheduled(100);
        timers.scheduled(101);
        assert!(!is_woken(&timers));
        timers.scheduled(99);
        assert!(is_woken(&timers));
    }
}
