//! A row of Postgres knows the transaction that has written it.

use courant::prelude::*;

use super::batching::{events, noting, ready};
use super::common::{Script, Site, effects};

/// Four events of the key that fails are in one batch. The first one is tried by itself and parked; the three behind
/// it are put there in one transaction, and no handler is called for them.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_behind_a_failing_event_of_a_batch_is_queued_at_once() {
    let Some(site) = Site::on_memory().await else { return };
    let script = Script::default();
    script.fail("key-3");
    let mut service = ready(&site, &script, noting(), &events(5, 4)).await;
    service.settle().await.expect("settles");
    let mut reader = service.store().read().await.expect("reads");
    let sql = "select count(*), count(distinct xmin::text) from courant_parked where state = 'queued'";
    let (rows, transactions): (i64, i64) = sqlx::query_as(sql).fetch_one(&mut *reader).await.expect("counts");
    drop(reader);
    assert_eq!((rows, transactions), (3, 1));
    assert_eq!(effects(service.store()).await.len(), 16);
    let of_key = script.called().into_iter().filter(|called| called.starts_with("key-3:"));
    assert_eq!(of_key.collect::<Vec<_>>(), ["key-3:1", "key-3:1"], "in the batch, and by itself");
    service.stop().await.expect("stops");
}
