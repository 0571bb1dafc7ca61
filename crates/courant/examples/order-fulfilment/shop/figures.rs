//! What can be counted: in the tables of the services, in their stores, and in the engine.

use courant::engine::{Engine, Partition, Position, Topic};
use courant::prelude::*;
use courant::store_api::{Consumer, DeadFilter, DeadState, ParkedOf, Store as _};
use courant::{BoxError, ConsumerName, TopicName};

use super::dice::ICELANDER;
use super::{ANALYTICS, PAYMENTS, SHIPPING, Services};

/// The topics that analytics reads.
const READ_BY_ANALYTICS: [&str; 2] = ["shop.orders", "shop.shipments"];

/// What was counted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Figures {
    /// Orders that the storefront has taken, and what it has heard of them.
    pub(crate) placed: i64,
    pub(crate) declined: i64,
    pub(crate) shipped: i64,
    /// Events that wait in the storefront's outbox.
    pub(crate) outbox: u64,
    /// Dead letters of shipping that nobody has decided about, and events that wait behind them.
    pub(crate) dead: u64,
    pub(crate) behind: u64,
    /// Dead letters of shipping that were sent back and handled.
    pub(crate) redriven: u64,
    /// Parcels of customers who do not live in Iceland.
    pub(crate) shipped_elsewhere: i64,
    /// Parcels to Iceland that have overtaken another one.
    pub(crate) overtaken: i64,
    /// Events that analytics has not counted yet.
    pub(crate) lag: u64,
    /// Orders that were paid more than once.
    pub(crate) paid_twice: i64,
    pub(crate) sales: Vec<Sale>,
}

/// What analytics knows of a country.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Sale {
    pub(crate) country: String,
    pub(crate) orders: i64,
    pub(crate) shipped: i64,
    pub(crate) cents: i64,
}

/// Counts everything. Databases and the engine are looked at one after the other, so that figures of one moment
/// may be some milliseconds apart.
pub(super) async fn count(services: &Services, engine: &dyn Engine) -> Result<Figures, BoxError> {
    let mut figures = Figures::default();
    storefront(services, &mut figures).await?;
    shipping(services, &mut figures).await?;
    payments(services, &mut figures).await?;
    analytics(services, &mut figures).await?;
    figures.lag = lag(engine, ANALYTICS, &READ_BY_ANALYTICS).await?;
    Ok(figures)
}

async fn storefront(services: &Services, figures: &mut Figures) -> Result<(), BoxError> {
    let store = services.storefront.store();
    let mut reader = store.read().await?;
    let (placed, declined, shipped): (i64, i64, i64) = sqlx::query_as(
        "select count(*), coalesce(sum(state = 'declined'), 0), coalesce(sum(state = 'shipped'), 0) from orders",
    )
    .fetch_one(&mut *reader)
    .await?;
    drop(reader);
    (figures.placed, figures.declined, figures.shipped) = (placed, declined, shipped);
    figures.outbox = store.outbox_backlog().await?;
    Ok(())
}

async fn shipping(services: &Services, figures: &mut Figures) -> Result<(), BoxError> {
    let store = services.shipping.store();
    let mut reader = store.read().await?;
    let (elsewhere,): (i64,) = sqlx::query_as("select count(*) from shipments where customer <> ?")
        .bind(ICELANDER)
        .fetch_one(&mut *reader)
        .await?;
    let (overtaken,): (i64,) = sqlx::query_as(
        "select count(*) from (
             select number, lag(number) over (order by id) as previous from shipments where customer = ?
         ) where number < previous",
    )
    .bind(ICELANDER)
    .fetch_one(&mut *reader)
    .await?;
    drop(reader);
    (figures.shipped_elsewhere, figures.overtaken) = (elsewhere, overtaken);
    let consumer = Consumer { name: ConsumerName::new(SHIPPING)?, generation: 1 };
    figures.behind = store.parked_counts(ParkedOf::all(&consumer)).await?.queued;
    let of_state = |state| DeadFilter { state: Some(state), ..DeadFilter::default() };
    figures.dead = store.count_dead_letters(&of_state(DeadState::Dead)).await?;
    figures.redriven = store.count_dead_letters(&of_state(DeadState::Redriven)).await?;
    Ok(())
}

async fn payments(services: &Services, figures: &mut Figures) -> Result<(), BoxError> {
    let mut reader = services.payments.store().read().await?;
    let (paid_twice,): (i64,) = sqlx::query_as("select count(*) - count(distinct number) from payments")
        .fetch_one(&mut *reader)
        .await?;
    figures.paid_twice = paid_twice;
    Ok(())
}

async fn analytics(services: &Services, figures: &mut Figures) -> Result<(), BoxError> {
    let mut reader = services.analytics.store().read().await?;
    let rows: Vec<(String, i64, i64, i64)> =
        sqlx::query_as("select country, orders, shipped, cents from sales order by country")
            .fetch_all(&mut *reader)
            .await?;
    let sale = |(country, orders, shipped, cents)| Sale { country, orders, shipped, cents };
    figures.sales = rows.into_iter().map(sale).collect();
    Ok(())
}

/// How many events of these topics a consumer has not handled yet.
async fn lag(engine: &dyn Engine, consumer: &str, topics: &[&str]) -> Result<u64, BoxError> {
    let partitions = partitions(engine, topics).await?;
    let committed = engine.committed(consumer.to_owned(), partitions.clone()).await?;
    let mut lag = 0;
    for (ends, committed) in engine.ends(partitions).await.into_iter().zip(committed) {
        let ends = ends?;
        lag += ends.end.saturating_sub(committed.unwrap_or(ends.start));
    }
    Ok(lag)
}

/// Where the orders end now.
pub(super) async fn ends_of_orders(engine: &dyn Engine) -> Result<Vec<Position>, BoxError> {
    let partitions = partitions(engine, &["shop.orders"]).await?;
    let mut positions = Vec::with_capacity(partitions.len());
    for (ends, partition) in engine.ends(partitions.clone()).await.into_iter().zip(&partitions) {
        positions.push(partition.at(ends?.end));
    }
    Ok(positions)
}

/// Whether payments has come that far.
pub(super) async fn are_charged(engine: &dyn Engine, positions: &[Position]) -> Result<bool, BoxError> {
    let partitions = positions.iter().map(|position| position.partition.clone()).collect();
    let committed = engine.committed(PAYMENTS.to_owned(), partitions).await?;
    let has_come = |(position, committed): (&Position, Option<u64>)| {
        position.offset == 0 || committed.is_some_and(|committed| committed >= position.offset)
    };
    Ok(positions.iter().zip(committed).all(has_come))
}

async fn partitions(engine: &dyn Engine, topics: &[&str]) -> Result<Vec<Partition>, BoxError> {
    let mut names = Vec::with_capacity(topics.len());
    for topic in topics {
        names.push(TopicName::new(topic)?);
    }
    let found = engine.topics(names).await?;
    Ok(found.iter().flatten().flat_map(Topic::all_partitions).collect())
}
