//! Takes money. An order that comes twice would be paid twice: nothing in the table forbids it, and nothing has
//! to, because the inbox knows the event.

use courant::prelude::*;
use courant::{BoxError, Running};

use super::dice::DECLINED;
use super::events::{OrderPlaced, PaymentDeclined, PaymentTaken};
use super::{PARTITIONS, PAYMENTS, Parts, VERSION, tables};

const TABLES: [&str; 1] = ["create table if not exists payments (
    id integer primary key, number integer not null, customer text not null, cents integer not null)"];

pub(super) async fn open(parts: &Parts) -> Result<Running<Sqlite>, BoxError> {
    let service = App::new("payments")
        .engine(parts.engine.clone())
        .store(Sqlite::open(&parts.directory.join("payments.db")).await?)
        .version(VERSION)
        .partitions(PARTITIONS)
        .subscribe(Subscription::named(PAYMENTS).on(charge))
        .build()
        .await?;
    tables(&service, &TABLES).await?;
    Ok(service.start().await?)
}

/// What an order can lead to.
type Charged = (Option<PaymentTaken>, Option<PaymentDeclined>);

async fn charge(placed: OrderPlaced, mut tx: Tx<Sqlite>) -> Result<Charged, HandlerError> {
    let OrderPlaced { order, customer, country, item, cents } = placed;
    if customer == DECLINED {
        return Ok((None, Some(PaymentDeclined { order, customer })));
    }
    sqlx::query("insert into payments (number, customer, cents) values (?, ?, ?)")
        .bind(order)
        .bind(&customer)
        .bind(cents)
        .execute(&mut *tx)
        .await?;
    Ok((Some(PaymentTaken { order, customer, country, item, cents }), None))
}
