//! What a relay that rests, or stands by, wakes up for.

use std::future::pending;
use std::time::Duration;

use courant_sql::{OutboxBell, Store};
use tokio::sync::watch;
use tokio::time::Instant;
use tracing::warn;

use super::{GONE, KEEP};
use crate::runtime::context::Context;

/// Who has written before the relay said that it is to be woken wakes nobody, and may commit behind the look that
/// follows. So a rest has one more look, so long after that was said.
const ONCE_MORE: Duration = Duration::from_millis(100);

/// What commits of other processes wake a relay by, where the database can tell of them. A relay that waits for no ring
/// has none: what is said would be kept for it, by the server in the end.
#[derive(Debug, Default)]
pub(super) struct Bell {
    bell: Option<OutboxBell>,
    /// When one was asked for last.
    asked: Option<Instant>,
    /// When it was last known that it can ring.
    checked: Option<Instant>,
}

impl Bell {
    /// Asks for one, now and then, if there is none that can ring. Whether this one has heard nothing yet of what was
    /// written before.
    pub(super) async fn listen<D: Store>(&mut self, store: &D) -> bool {
        self.check().await;
        if self.bell.is_some() || self.asked.is_some_and(|asked| asked.elapsed() < GONE) {
            return false;
        }
        self.asked = Some(Instant::now());
        match store.outbox_bell().await {
            Ok(bell) => {
                self.bell = Some(bell);
                self.checked = Some(Instant::now());
            }
            Err(error) => warn!(%error, "nobody can wake the relay; it looks by itself"),
        }
        self.can_ring()
    }

    /// Gives one up that leads nowhere: no word of that may ever come.
    async fn check(&mut self) {
        let Some(bell) = &mut self.bell else { return };
        if self.checked.is_some_and(|checked| checked.elapsed() < KEEP) {
            return;
        }
        self.checked = Some(Instant::now());
        if let Err(error) = bell.check().await {
            warn!(%error, "the relay can hear nobody any more, and listens anew");
            (self.bell, self.asked) = (None, None);
        }
    }

    /// Whether there is one, of a database that tells of commits.
    pub(super) fn can_ring(&self) -> bool {
        self.bell.as_ref().is_some_and(|bell| !bell.is_silent())
    }

    /// Waits for a ring, or until it cannot ring any more.
    pub(super) async fn rung(&mut self) {
        let Some(bell) = &mut self.bell else { return pending().await };
        if bell.rung().await.is_err() {
            self.bell = None;
        }
    }
}

/// How long a relay sleeps that does so for `look` at most, and has said so long ago that it is to be woken.
pub(super) fn longest_sleep(look: Duration, said: Option<Duration>) -> Duration {
    let left = said.and_then(|said| ONCE_MORE.checked_sub(said));
    left.map_or(look, |left| left.min(look))
}

/// Waits until the service has written something into the outbox.
pub(super) async fn woken(service: Option<&Context>) {
    match service {
        Some(context) => context.outbox_filled.notified().await,
        None => pending().await,
    }
}

/// Waits until somebody says so.
pub(super) async fn stopped(stop: Option<&mut watch::Receiver<bool>>) {
    let Some(stop) = stop else { return pending().await };
    // Whoever could say so is gone: nobody will.
    if stop.wait_for(|stop| *stop).await.is_err() {
        pending::<()>().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rest_has_one_more_look_at_its_beginning() {
        let [short, nearly, over, long] = [30, 70, 101, 1_000].map(Duration::from_millis);
        assert_eq!(longest_sleep(long, Some(Duration::ZERO)), ONCE_MORE);
        assert_eq!(longest_sleep(long, Some(nearly)), short);
        assert_eq!(longest_sleep(short, Some(Duration::ZERO)), short, "it is time to look before");
        assert_eq!(longest_sleep(long, Some(over)), long);
        assert_eq!(longest_sleep(long, None), long, "nobody wakes it");
    }
}
