//! Places three orders, then bills them: guide [SERVER].
#![allow(clippy::print_stdout, reason = "it speaks to who started it")]

use std::time::Duration;

use anyhow::{Context as _, Result};
use rdkafka::ClientConfig;
use rdkafka::consumer::{CommitMode, Consumer as _, StreamConsumer};
use rdkafka::message::Message as _;
use rdkafka::producer::{FutureProducer, FutureRecord};

const TOPIC: &str = "orders.placed";
const ORDERS: [&str; 3] = ["espresso", "flat white", "filter"];

#[tokio::main]
async fn main() -> Result<()> {
    let server = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:9092".to_owned());
    place(&server).await?;
    bill(&server).await
}

async fn place(server: &str) -> Result<()> {
    let producer: FutureProducer = ClientConfig::new()
        .set("bootstrap.servers", server)
        // A retry after a lost answer stores nothing twice.
        .set("enable.idempotence", "true")
        .create()?;
    for order in ORDERS {
        let record = FutureRecord::to(TOPIC).key("customer-1").payload(order);
        let placed = producer.send(record, Duration::from_secs(30)).await.map_err(|(error, _)| error)?;
        // Acknowledged means that it is on disk.
        println!("placed at {}/{}", placed.partition, placed.offset);
    }
    Ok(())
}

async fn bill(server: &str) -> Result<()> {
    let consumer: StreamConsumer = ClientConfig::new()
        .set("bootstrap.servers", server)
        .set("group.id", "billing")
        .set("auto.offset.reset", "earliest")
        .set("enable.auto.commit", "false")
        .create()?;
    consumer.subscribe(&[TOPIC])?;
    for _ in ORDERS {
        let event = consumer.recv().await?;
        let customer = event.key_view::<str>().context("an order without a customer")??;
        let order = event.payload_view::<str>().context("an order without contents")??;
        println!("billed {customer}: {order}");
        // Only what has been dealt with is committed: a crash repeats, and skips nothing.
        consumer.commit_message(&event, CommitMode::Sync)?;
    }
    Ok(())
}
