//! An order that is not paid within a day is cancelled: one handler by itself, and the whole service.

use std::sync::Arc;
use std::time::Duration;

use courant::engine::Engine;
use courant::prelude::*;
use courant::testkit::{FaultPoint, Given, World, published};
use courant::{BoxError, Running, TimerName};

#[derive(Event, Serialize, Deserialize)]
#[event(type = "shop.order-placed", topic = "shop.orders", key = order)]
struct OrderPlaced {
    order: String,
}

#[derive(Event, Serialize, Deserialize)]
#[event(type = "shop.order-paid", topic = "shop.orders", key = order)]
struct OrderPaid {
    order: String,
}

#[derive(Event, Serialize, Deserialize, Debug, PartialEq)]
#[event(type = "shop.payment-missed", topic = "shop.orders", key = order)]
struct PaymentMissed {
    order: String,
}

const A_DAY: Duration = Duration::from_secs(86_400);

fn payment_of(order: &str) -> Result<TimerName, HandlerError> {
    Ok(TimerName::new("payment", order)?)
}

async fn place(placed: OrderPlaced, mut tx: Tx<Sqlite>) -> Result<(), HandlerError> {
    sqlx::query("insert into orders (name, state) values (?, 'placed')")
        .bind(&placed.order)
        .execute(&mut *tx)
        .await?;
    let name = payment_of(&placed.order)?;
    tx.schedule_named(&name, &PaymentMissed { order: placed.order }, A_DAY)?;
    Ok(())
}

async fn pay(paid: OrderPaid, mut tx: Tx<Sqlite>) -> Result<(), HandlerError> {
    sqlx::query("update orders set state = 'paid' where name = ?")
        .bind(&paid.order)
        .execute(&mut *tx)
        .await?;
    tx.cancel_timer(&payment_of(&paid.order)?)?;
    Ok(())
}

/// It may have been paid while this event was under way.
async fn cancel(missed: PaymentMissed, mut tx: Tx<Sqlite>) -> Result<(), HandlerError> {
    sqlx::query("update orders set state = 'cancelled' where name = ? and state = 'placed'")
        .bind(&missed.order)
        .execute(&mut *tx)
        .await?;
    Ok(())
}

const ORDERS: &str = "create table orders (name text not null primary key, state text not null)";

#[tokio::test(flavor = "multi_thread")]
async fn a_placed_order_is_asked_after() -> Result<(), BoxError> {
    let then = Given::store(Sqlite::connect("sqlite::memory:").await?)
        .await?
        .rows(async |db: &mut sqlx::SqliteConnection| {
            sqlx::query(ORDERS).execute(db).await?;
            Ok(())
        })
        .await?
        .when(place, &OrderPlaced { order: "tea".to_owned() })
        .await?;

    assert_eq!(then.failure(), None);
    let scheduled = then.scheduled::<PaymentMissed>()?;
    assert_eq!(scheduled.len(), 1);
    assert_eq!(scheduled[0].1, PaymentMissed { order: "tea".to_owned() });
    Ok(())
}

/// A service on an engine and a store that outlive it.
async fn shop(world: &World, log: &Arc<dyn Engine>, store: &Sqlite) -> Result<Running<Sqlite>, BoxError> {
    let orders = Subscription::named("orders").on(place).on(pay).on(cancel);
    let app = App::new("shop").engine(log.clone()).in_world(world).store(store.clone());
    Ok(app.subscribe(orders).build().await?.start().await?)
}

async fn state_of(store: &Sqlite, order: &str) -> Result<String, BoxError> {
    let mut reader = store.read().await?;
    let (state,): (String,) =
        sqlx::query_as("select state from orders where name = ?").bind(order).fetch_one(&mut *reader).await?;
    Ok(state)
}

#[tokio::test(flavor = "multi_thread")]
async fn only_an_order_that_is_not_paid_is_cancelled() -> Result<(), BoxError> {
    let world = World::new(7);
    let log = world.engine("memory:").await?;
    let store = Sqlite::connect("sqlite::memory:").await?;
    let mut service = shop(&world, &log, &store).await?;
    let mut tx = service.transaction().await?;
    sqlx::query(ORDERS).execute(&mut *tx).await?;
    tx.publish(&OrderPlaced { order: "tea".to_owned() })?;
    tx.publish(&OrderPlaced { order: "cake".to_owned() })?;
    tx.commit().await?;
    service.settle().await?;

    service.publisher().publish(&OrderPaid { order: "tea".to_owned() }).await?;
    service.settle().await?;
    world.advance(A_DAY);
    service.settle().await?;

    assert_eq!(state_of(&store, "tea").await?, "paid");
    assert_eq!(state_of(&store, "cake").await?, "cancelled");
    let missed = published::<PaymentMissed>(&*log).await?;
    assert_eq!(missed.len(), 1);
    service.stop().await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_power_cut_loses_no_timer() -> Result<(), BoxError> {
    let world = World::new(7);
    let log = world.engine("memory:").await?;
    let store = Sqlite::connect("sqlite::memory:").await?;
    let service = shop(&world, &log, &store).await?;
    let mut tx = service.transaction().await?;
    sqlx::query(ORDERS).execute(&mut *tx).await?;
    tx.commit().await?;
    world.crash_at(FaultPoint::AfterCommit, 0);
    service.publisher().publish(&OrderPlaced { order: "tea".to_owned() }).await?;
    world.crashed(1).await;
    service.kill().await;

    world.advance(A_DAY);
    let mut service = shop(&world, &log, &store).await?;
    service.settle().await?;
    assert_eq!(state_of(&store, "tea").await?, "cancelled");
    service.stop().await?;
    Ok(())
}
