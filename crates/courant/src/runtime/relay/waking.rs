//! What a relay that rests, or stands by, wakes up for.

use std::future::pending;
use std::time::Duration;

use courant_sql::OutboxBell;
use tokio::sync::watch;

use crate::runtime::context::Context;

/// Who has written before the relay said that it is to be woken wakes nobody, and may commit behind the look that
/// follows. So a rest has one more look, so long after that was said.
const ONCE_MORE: Duration = Duration::from_millis(100);

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

/// Waits for the bell; whether it is of no more use.
pub(super) async fn rung(bell: Option<&mut OutboxBell>) -> bool {
    match bell {
        Some(bell) => bell.rung().await.is_err(),
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
