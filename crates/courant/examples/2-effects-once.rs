//! Bills each order once, however often it is published.
#![allow(clippy::print_stdout, reason = "an example shows what it does")]

use courant::EventId;
use courant::prelude::*;

#[derive(Event, Serialize, Deserialize)]
#[event(type = "shop.order-placed", topic = "shop.orders", key = order)]
struct OrderPlaced {
    order: String,
    cents: i64,
}

#[derive(Event, Serialize, Deserialize)]
#[event(type = "shop.order-billed", topic = "shop.bills", key = order)]
struct OrderBilled {
    order: String,
}

async fn bill(placed: OrderPlaced, mut tx: Tx<Sqlite>) -> Result<OrderBilled, HandlerError> {
    sqlx::query("insert into bills (order_name, cents) values (?, ?)")
        .bind(&placed.order)
        .bind(placed.cents)
        .execute(&mut *tx)
        .await?;
    Ok(OrderBilled { order: placed.order })
}

async fn mail(billed: OrderBilled, mut tx: Tx<Sqlite>) -> Result<(), HandlerError> {
    let (cents,): (i64,) = sqlx::query_as("select sum(cents) from bills where order_name = ?")
        .bind(&billed.order)
        .fetch_one(&mut *tx)
        .await?;
    println!("{}: {cents} cents", billed.order);
    Ok(())
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let service = App::new("shop")
        .engine(std::env::args().nth(1).unwrap_or_else(|| "embedded:./events".to_owned()))
        .store(Sqlite::connect("sqlite:shop.db").await?)
        .partitions(1)
        .subscribe(Subscription::named("billing").on(bill))
        .subscribe(Subscription::named("mailing").on(mail))
        .build()
        .await?;

    let mut tx = service.transaction().await?;
    sqlx::query("create table if not exists bills (order_name text, cents integer)")
        .execute(&mut *tx)
        .await?;
    tx.commit().await?;

    let id = EventId::new("order-1-placed")?;
    let placed = OrderPlaced { order: "espresso".to_owned(), cents: 250 };
    for _ in 0..3 {
        service.publisher().publish_as(&id, &placed).await?;
    }
    service.run_until_settled().await?;
    Ok(())
}
