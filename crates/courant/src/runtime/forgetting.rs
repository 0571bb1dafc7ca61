//! Forgetting dead letters that are closed: they were handled after all, or somebody has given them up.
//!
//! It is done beside the handlers, a few letters in a transaction, and by one instance: that which has a certain
//! partition. Two may believe to have it while it goes from one to the other; the store lets them forget in turn.

use std::future::pending;
use std::sync::Arc;
use std::time::Duration;

use courant_core::position::TopicPartition;
use courant_sql::{Store, StoreError};
use tracing::{info, warn};

use super::context::Context;
use super::status::Status;
use super::time::after;

/// How often the instance looks for letters that are old enough.
const LOOK_EVERY: Duration = Duration::from_secs(3_600);

/// When an instance looks again that does not have the partition, or whose store did not do it.
const ASK_EVERY: Duration = Duration::from_secs(60);

/// Letters that are forgotten in one transaction. Whoever decides about letters waits for it, in SQLite whoever
/// writes.
const AT_ONCE: u32 = 100;

/// How long others have between two of these.
const PAUSE: Duration = Duration::from_millis(20);

/// How long closed letters stay, and what the task that forgets them is doing.
pub(crate) struct Forgetting {
    /// `None`: for ever.
    kept_ms: Option<i64>,
    status: Status,
}

impl Forgetting {
    pub(crate) fn new(kept_ms: Option<i64>) -> Self {
        Self { kept_ms, status: Status::default() }
    }

    /// Nothing is to be forgotten before the clock moves on.
    pub(crate) fn is_quiet(&self, now_ms: i64) -> bool {
        self.kept_ms.is_none() || self.status.get().is_quiet(now_ms)
    }
}

/// The partition whose owner forgets, and what the subscription that reads it is doing.
pub(crate) struct Turn {
    pub(crate) partition: TopicPartition,
    pub(crate) status: Arc<Status>,
}

impl Turn {
    fn is_mine(&self) -> bool {
        self.status.get().next.contains_key(&self.partition)
    }
}

/// Forgets until the service ends. Never comes back: a store that does not do it is asked again.
pub(crate) async fn run<D: Store, R>(store: D, context: Arc<Context>, turn: Option<Turn>) -> R {
    let Forgetting { kept_ms, status } = &context.forgetting;
    let Some(kept_ms) = *kept_ms else { return pending().await };
    let mut forgotten = 0;
    loop {
        status.update(|state| state.is_resting = false);
        // Before the look: the clock may move on meanwhile.
        let now_ms = context.time.now_ms();
        let is_mine = turn.as_ref().is_some_and(Turn::is_mine);
        let looked = if is_mine {
            store.prune_dead_letters(now_ms.saturating_sub(kept_ms), AT_ONCE).await.map(Some)
        } else {
            Ok(None)
        };
        forgotten += looked.as_ref().map_or(0, |letters| letters.unwrap_or_default());
        let Some(wait) = wait(&looked) else {
            // What it costs others is the machine's time, whatever a test's clock says.
            tokio::time::sleep(PAUSE).await;
            continue;
        };
        if forgotten > 0 {
            info!(letters = forgotten, "closed dead letters were old enough to be forgotten");
            forgotten = 0;
        }
        status.update(|state| {
            state.is_resting = true;
            state.due_ms = Some(after(now_ms, wait));
        });
        context.activity.note();
        context.time.sleep_until(after(now_ms, wait)).await;
    }
}

/// How long nothing is to be forgotten; `None`: there may be more.
fn wait(looked: &Result<Option<u64>, StoreError>) -> Option<Duration> {
    match looked {
        Ok(Some(letters)) if *letters >= u64::from(AT_ONCE) => None,
        Ok(Some(_)) => Some(LOOK_EVERY),
        Ok(None) => Some(ASK_EVERY),
        Err(error) => {
            warn!(%error, "closed dead letters are not forgotten; it is tried again");
            Some(ASK_EVERY)
        }
    }
}

#[cfg(test)]
mod tests {
    use courant_core::topic::TopicName;

    use super::*;

    /// A full step is followed by the next one; who has nothing more to do looks seldom, and who is not the one
    /// asks soon whether it has become so.
    #[test]
    fn a_full_step_is_followed_by_the_next() {
        assert_eq!(wait(&Ok(Some(u64::from(AT_ONCE)))), None);
        assert_eq!(wait(&Ok(Some(u64::from(AT_ONCE) - 1))), Some(LOOK_EVERY));
        assert_eq!(wait(&Ok(Some(0))), Some(LOOK_EVERY));
        assert_eq!(wait(&Ok(None)), Some(ASK_EVERY));
    }

    /// Whoever reads the partition forgets, and nobody else.
    #[test]
    fn it_is_the_turn_of_whoever_has_the_partition() {
        let of =
            |partition| TopicPartition { topic: TopicName::new("shop.orders").expect("legal"), partition };
        let turn = Turn { partition: of(0), status: Arc::default() };
        assert!(!turn.is_mine(), "nothing is assigned yet");
        turn.status.update(|state| state.next = [(of(1), 7)].into());
        assert!(!turn.is_mine());
        turn.status.update(|state| state.next = [(of(0), 7), (of(1), 7)].into());
        assert!(turn.is_mine());
        turn.status.update(|state| state.next = [(of(1), 7)].into());
        assert!(!turn.is_mine(), "it was taken away");
    }

    /// Where letters stay for ever there is no task to wait for.
    #[test]
    fn for_ever_is_quiet() {
        assert!(Forgetting::new(None).is_quiet(7));
        assert!(!Forgetting::new(Some(1)).is_quiet(7), "it has not looked yet");
    }
}
