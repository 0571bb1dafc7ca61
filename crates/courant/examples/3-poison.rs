//! One customer's orders cannot be billed; the others' are. Then somebody repairs it.
#![allow(clippy::print_stdout, reason = "an example shows what it does")]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use courant::prelude::*;
use courant::store_api::DeadFilter;

#[derive(Event, Serialize, Deserialize)]
#[event(type = "shop.order-placed", topic = "shop.orders", key = customer)]
struct OrderPlaced {
    customer: String,
    item: String,
}

type TillIsOpen = Arc<AtomicBool>;

async fn bill(order: OrderPlaced, State(open): State<TillIsOpen>) -> Result<(), HandlerError> {
    if order.customer == "Ada" && !open.load(Ordering::SeqCst) {
        return Err(HandlerError::retry("the till for Ada is closed"));
    }
    println!("billed {} to {}", order.item, order.customer);
    Ok(())
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let till = TillIsOpen::default();

    let mut service = App::new("shop")
        .engine(std::env::args().nth(1).unwrap_or_else(|| "memory:".to_owned()))
        .store(Sqlite::connect("sqlite::memory:").await?)
        .state(till.clone())
        .partitions(1)
        .subscribe(Subscription::named("billing").concurrency(1).retry(Retry::never()).on(bill))
        .build()
        .await?
        .start()
        .await?;

    for (customer, item) in [("Ada", "espresso"), ("Grace", "filter"), ("Ada", "cake"), ("Grace", "tea")] {
        let order = OrderPlaced { customer: customer.to_owned(), item: item.to_owned() };
        service.publisher().publish(&order).await?;
    }
    service.settle().await?;

    for letter in service.dead_letters().list().await? {
        println!("parked {}: {}", letter.position, letter.failure.message);
    }

    till.store(true, Ordering::SeqCst);
    service.dead_letters().redrive("till-repaired", "Grace", &DeadFilter::default()).await?;
    service.settle().await?;

    service.stop().await?;
    Ok(())
}
