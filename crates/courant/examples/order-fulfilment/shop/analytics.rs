//! Counts what is sold, by country: a table that is made of events alone.

use std::sync::Arc;
use std::time::Duration;

use courant::prelude::*;
use courant::{BoxError, Running};
use tokio::time::timeout;

use super::events::{OrderPlaced, OrderShipped};
use super::trouble::{Trouble, Troubles};
use super::{ANALYTICS, PARTITIONS, Parts, VERSION, tables};

/// How long an event takes while it is slow. One follows the other: SQLite has one writer.
const NAP: Duration = Duration::from_millis(250);

const TABLES: [&str; 1] = ["create table if not exists sales (
    country text primary key, orders integer not null, shipped integer not null, cents integer not null)"];

pub(super) async fn open(parts: &Parts) -> Result<Running<Sqlite>, BoxError> {
    let service = App::new("analytics")
        .engine(parts.engine.clone())
        .store(Sqlite::open(&parts.directory.join("analytics.db")).await?)
        .version(VERSION)
        .state(parts.troubles.clone())
        .partitions(PARTITIONS)
        .subscribe(Subscription::named(ANALYTICS).on(count_placed).on(count_shipped))
        .build()
        .await?;
    tables(&service, &TABLES).await?;
    Ok(service.start().await?)
}

async fn count_placed(
    placed: OrderPlaced,
    State(troubles): State<Arc<Troubles>>,
    tx: Tx<Sqlite>,
) -> Result<(), HandlerError> {
    nap(&troubles).await;
    add(tx, placed.country, [1, 0, placed.cents]).await
}

async fn count_shipped(
    shipped: OrderShipped,
    State(troubles): State<Arc<Troubles>>,
    tx: Tx<Sqlite>,
) -> Result<(), HandlerError> {
    nap(&troubles).await;
    add(tx, shipped.country, [0, 1, 0]).await
}

/// While it is slow it takes its time. It is awake at once when it is not any more.
async fn nap(troubles: &Troubles) {
    if troubles.is_on(Trouble::Analytics) {
        // When the nap is over, it is.
        let _ = timeout(NAP, troubles.until(Trouble::Analytics, false)).await;
    }
}

/// Adds orders, parcels and money to what is known of a country.
async fn add(
    mut tx: Tx<Sqlite>,
    country: String,
    [orders, shipped, cents]: [i64; 3],
) -> Result<(), HandlerError> {
    sqlx::query(
        "insert into sales (country, orders, shipped, cents) values (?, ?, ?, ?)
         on conflict (country) do update set orders = orders + excluded.orders,
             shipped = shipped + excluded.shipped, cents = cents + excluded.cents",
    )
    .bind(country)
    .bind(orders)
    .bind(shipped)
    .bind(cents)
    .execute(&mut *tx)
    .await?;
    Ok(())
}
