//! An order desk: its row and its event are one transaction. An order that is given up leaves neither.
#![allow(clippy::print_stdout, reason = "an example shows what it does")]

use courant::prelude::*;
use courant::{BoxError, Service};

#[derive(Event, Serialize, Deserialize)]
#[event(type = "shop.order-placed", topic = "shop.orders", key = item)]
struct OrderPlaced {
    item: String,
}

async fn place(desk: &Service<Sqlite>, item: &str, left: i64) -> Result<(), BoxError> {
    let mut tx = desk.transaction().await?;
    sqlx::query("insert into orders (item) values (?)").bind(item).execute(&mut *tx).await?;
    tx.publish(&OrderPlaced { item: item.to_owned() })?;
    if left == 0 {
        return Err(format!("{item} is sold out").into());
    }
    tx.commit().await?;
    Ok(())
}

async fn pack(placed: OrderPlaced, mut tx: Tx<Sqlite>) -> Result<(), HandlerError> {
    let (orders,): (i64,) = sqlx::query_as("select count(*) from orders where item = ?")
        .bind(&placed.item)
        .fetch_one(&mut *tx)
        .await?;
    println!("packing {}, {orders} of them", placed.item);
    Ok(())
}

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    let desk = App::new("desk")
        .engine(std::env::args().nth(1).unwrap_or_else(|| "memory:".to_owned()))
        .store(Sqlite::connect("sqlite::memory:").await?)
        .partitions(1)
        .subscribe(Subscription::named("packing").on(pack))
        .build()
        .await?;

    let mut tx = desk.transaction().await?;
    sqlx::query("create table orders (item text)").execute(&mut *tx).await?;
    tx.commit().await?;

    for (item, left) in [("espresso", 3), ("cake", 0)] {
        match place(&desk, item, left).await {
            Ok(()) => println!("{item} is ordered"),
            Err(refused) => println!("{refused}"),
        }
    }
    desk.run_until_settled().await?;
    Ok(())
}
