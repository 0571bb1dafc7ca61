//! What a relay that rests, or stands by, wakes up for.

use std::future::pending;

use courant_sql::OutboxBell;
use tokio::sync::watch;

use crate::runtime::context::Context;

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
