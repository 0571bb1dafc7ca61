//! A database that has no room while handlers work: nothing that they have done.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use courant::prelude::*;

use super::common::{Counted, Db, Site, counted, effect, effects, publish};
use super::support::{NO_ROOM, ROOM};

/// How often there is no room, and how often the handler was called.
#[derive(Clone)]
struct Disk {
    refusals: Arc<AtomicU32>,
    calls: Arc<AtomicU32>,
}

#[derive(Debug, thiserror::Error)]
#[error("an effect could not be written")]
struct NotWritten(#[source] sqlx::Error);

async fn fill(event: Counted, State(disk): State<Disk>, mut tx: Tx<Db>) -> Result<(), HandlerError> {
    disk.calls.fetch_add(1, Ordering::Relaxed);
    effect(&mut tx, format!("{}:{}", event.key, event.n)).await?;
    let left = disk.refusals.load(Ordering::Relaxed);
    if left > 0 {
        disk.refusals.store(left - 1, Ordering::Relaxed);
        let refused = sqlx::raw_sql(NO_ROOM).execute(&mut *tx).await;
        // Refused too where an error aborts the transaction, and not needed there.
        let _ = sqlx::raw_sql(ROOM).execute(&mut *tx).await;
        refused.map_err(NotWritten)?;
    }
    Ok(())
}

/// Each event gets one attempt. While there is no room its handler is called again and again, and that is no
/// attempt: then each takes effect once, in order, and none is dead.
#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_under_a_handler_is_no_attempt() {
    let Some(site) = Site::on_memory().await else { return };
    let disk = Disk { refusals: Arc::new(AtomicU32::new(3)), calls: Arc::default() };
    let filling = Subscription::named("filling").retry(Retry::never()).on(fill);
    let service = site.app().await.state(disk.clone()).subscribe(filling).build().await;
    let mut service = service.expect("fits together").start().await.expect("starts");
    publish(&service, [counted("a", 1), counted("a", 2)]).await;
    service.settle().await.expect("settles");
    assert_eq!(effects(service.store()).await, ["a:1", "a:2"]);
    assert_eq!(disk.calls.load(Ordering::Relaxed), 5, "three that found no room, and one for each event");
    let letters = service.dead_letters().list().await.expect("lists");
    assert!(letters.is_empty(), "{letters:?}");
    service.stop().await.expect("stops");
}
