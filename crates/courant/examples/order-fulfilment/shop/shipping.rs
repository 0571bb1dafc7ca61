//! Hands parcels to a carrier. A country that the carrier does not know is a poison: the event fails at every
//! attempt, and becomes a dead letter that keeps its customer's later orders waiting, and nobody else's.

use std::error::Error;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use courant::prelude::*;
use courant::{BoxError, Running};

use super::events::{OrderShipped, StockReserved};
use super::trouble::{Trouble, Troubles};
use super::{PARTITIONS, Parts, SHIPPING, VERSION, tables};

/// The country that the carrier can forget.
const FORGOTTEN: &str = "IS";

const TABLES: [&str; 1] = ["create table if not exists shipments (
    id integer primary key, number integer not null, customer text not null, country text not null)"];

pub(super) async fn open(parts: &Parts) -> Result<Running<Sqlite>, BoxError> {
    let mut app = App::new(SHIPPING).engine(parts.engine.clone()).version(VERSION);
    if let Some(key) = &parts.operations {
        app = app.operations(key.clone());
    }
    let service = app
        .store(Sqlite::open(&parts.directory.join("shipping.db")).await?)
        .state(parts.troubles.clone())
        .partitions(PARTITIONS)
        .subscribe(
            Subscription::named(SHIPPING)
                .retry(Retry::every(Duration::from_millis(100)).attempts(3))
                .on(ship),
        )
        .build()
        .await?;
    tables(&service, &TABLES).await?;
    Ok(service.start().await?)
}

async fn ship(
    reserved: StockReserved,
    State(troubles): State<Arc<Troubles>>,
    mut tx: Tx<Sqlite>,
) -> Result<OrderShipped, HandlerError> {
    let StockReserved { order, customer, country, .. } = reserved;
    if country == FORGOTTEN && troubles.is_on(Trouble::Carrier) {
        return Err(UnknownCountry { country }.into());
    }
    sqlx::query("insert into shipments (number, customer, country) values (?, ?, ?)")
        .bind(order)
        .bind(&customer)
        .bind(&country)
        .execute(&mut *tx)
        .await?;
    Ok(OrderShipped { order, customer, country })
}

/// The carrier has no price for it.
#[derive(Debug)]
struct UnknownCountry {
    country: String,
}

impl fmt::Display for UnknownCountry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the carrier does not know the country {}", self.country)
    }
}

impl Error for UnknownCountry {}
