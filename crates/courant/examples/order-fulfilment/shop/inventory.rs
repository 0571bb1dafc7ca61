//! Puts things aside, and orders more of what has run out.

use courant::prelude::*;
use courant::{BoxError, Running};

use super::events::{PaymentTaken, StockReserved};
use super::{PARTITIONS, Parts, VERSION, tables};

const TABLES: [&str; 1] =
    ["create table if not exists stock (item text primary key, pieces integer not null)"];

pub(super) async fn open(parts: &Parts) -> Result<Running<Sqlite>, BoxError> {
    let service = App::new("inventory")
        .engine(parts.engine.clone())
        .store(Sqlite::open(&parts.directory.join("inventory.db")).await?)
        .version(VERSION)
        .partitions(PARTITIONS)
        .subscribe(Subscription::named("inventory").on(reserve))
        .build()
        .await?;
    tables(&service, &TABLES).await?;
    Ok(service.start().await?)
}

async fn reserve(paid: PaymentTaken, mut tx: Tx<Sqlite>) -> Result<StockReserved, HandlerError> {
    let PaymentTaken { order, customer, country, item, .. } = paid;
    // A pallet has 100 pieces.
    sqlx::query(
        "insert into stock (item, pieces) values (?, 99)
         on conflict (item) do update set pieces = iif(pieces > 0, pieces - 1, 99)",
    )
    .bind(&item)
    .execute(&mut *tx)
    .await?;
    Ok(StockReserved { order, customer, country, item })
}
