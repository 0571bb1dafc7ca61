//! A transaction of the service's own pool publishes events of the service.

use courant::prelude::*;
use sqlx::postgres::PgPool;

use super::common::{Script, Site, count, counted, effects};
use super::support::INSERT_EFFECT;

/// What was written before and the event are committed together and the event is handled, or neither is there. One at
/// a stronger level would give positions from what was committed before it began, and is refused.
#[tokio::test(flavor = "multi_thread")]
async fn a_transaction_of_ones_own_publishes() {
    let Some(site) = Site::on_memory().await else { return };
    let counting = Subscription::named("counting").on(count);
    let service = site.app().await.state(Script::default()).subscribe(counting).build().await;
    let mut service = service.expect("fits together").start().await.expect("starts");
    let transactions = service.transactions();
    let pool = PgPool::connect(&site.home.url()).await.expect("a pool");
    for (n, is_kept) in [(1, false), (2, true)] {
        let mut own = pool.begin().await.expect("begins");
        sqlx::query(INSERT_EFFECT).bind(format!("own:{n}")).execute(&mut *own).await.expect("inserts");
        let mut tx = transactions.attach(own).await.expect("is taken over");
        tx.publish(&counted("a", n)).expect("is taken");
        if is_kept {
            tx.commit().await.expect("commits");
        }
    }
    service.settle().await.expect("settles");
    assert_eq!(effects(service.store()).await, ["own:2", "a:2"]);

    let strong = pool.begin_with("BEGIN ISOLATION LEVEL SERIALIZABLE").await.expect("begins");
    let refused = transactions.attach(strong).await.expect_err("is too strong");
    assert!(refused.to_string().contains("READ COMMITTED"), "{refused}");
    pool.close().await;
    service.stop().await.expect("stops");
}
