//! Takes orders: the row and the event are one transaction, so an order is taken also while the broker is away,
//! and leaves when it is back.

use courant::prelude::*;
use courant::{BoxError, EventId, PlainTx, Running};

use super::dice::Wanted;
use super::events::{OrderPlaced, OrderShipped, PaymentDeclined};
use super::{PARTITIONS, Parts, VERSION, tables};

/// How often the partner's gateway sends an order.
const COPIES: u64 = 3;

const TABLES: [&str; 1] = ["create table if not exists orders (
    number integer primary key autoincrement,
    customer text not null, country text not null, item text not null, cents integer not null,
    state text not null default 'placed')"];

pub(super) async fn open(parts: &Parts) -> Result<Running<Sqlite>, BoxError> {
    let service = App::new("storefront")
        .engine(parts.engine.clone())
        .store(Sqlite::open(&parts.directory.join("storefront.db")).await?)
        .version(VERSION)
        .partitions(PARTITIONS)
        .subscribe(Subscription::named("storefront").on(note_shipped).on(note_declined))
        .build()
        .await?;
    tables(&service, &TABLES).await?;
    Ok(service.start().await?)
}

/// Takes an order.
pub(super) async fn place(desk: &Running<Sqlite>, wanted: Wanted) -> Result<(), BoxError> {
    let mut tx = desk.transaction().await?;
    let order = write_down(&mut tx, wanted).await?;
    tx.publish(&order)?;
    tx.commit().await?;
    Ok(())
}

/// Takes an order from the partner's gateway, which sends it several times, under one id and past the outbox.
/// Gives back how many of them are repetitions.
pub(super) async fn place_through_gateway(desk: &Running<Sqlite>, wanted: Wanted) -> Result<u64, BoxError> {
    let mut tx = desk.transaction().await?;
    let order = write_down(&mut tx, wanted).await?;
    tx.commit().await?;
    let id = EventId::new(&format!("gateway-{}", order.order))?;
    for _ in 0..COPIES {
        desk.publisher().publish_as(&id, &order).await?;
    }
    Ok(COPIES - 1)
}

async fn write_down(tx: &mut PlainTx<Sqlite>, wanted: Wanted) -> Result<OrderPlaced, BoxError> {
    let Wanted { customer, country, item, cents } = wanted;
    let (order,): (i64,) = sqlx::query_as(
        "insert into orders (customer, country, item, cents) values (?, ?, ?, ?) returning number",
    )
    .bind(customer)
    .bind(country)
    .bind(item)
    .bind(cents)
    .fetch_one(&mut **tx)
    .await?;
    let (customer, country, item) = (customer.to_owned(), country.to_owned(), item.to_owned());
    Ok(OrderPlaced { order, customer, country, item, cents })
}

async fn note_shipped(shipped: OrderShipped, tx: Tx<Sqlite>) -> Result<(), HandlerError> {
    note(tx, shipped.order, "shipped").await
}

async fn note_declined(declined: PaymentDeclined, tx: Tx<Sqlite>) -> Result<(), HandlerError> {
    note(tx, declined.order, "declined").await
}

async fn note(mut tx: Tx<Sqlite>, order: i64, state: &'static str) -> Result<(), HandlerError> {
    sqlx::query("update orders set state = ? where number = ?")
        .bind(state)
        .bind(order)
        .execute(&mut *tx)
        .await?;
    Ok(())
}
