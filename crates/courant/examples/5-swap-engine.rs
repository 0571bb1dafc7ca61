//! One service, whose engine is an argument. On an engine without earlier events it prints the same
//! wherever these are kept.
#![allow(clippy::print_stdout, reason = "an example shows what it does")]

use courant::prelude::*;

#[derive(Event, Serialize, Deserialize)]
#[event(type = "cafe.bill-changed", topic = "cafe.bills", key = guest)]
struct BillChanged {
    guest: String,
    cents: i64,
}

async fn add(changed: BillChanged, mut tx: Tx<Sqlite>) -> Result<(), HandlerError> {
    let (cents,): (i64,) = sqlx::query_as(
        "insert into bills (guest, cents) values (?, ?)
         on conflict (guest) do update set cents = cents + excluded.cents returning cents",
    )
    .bind(&changed.guest)
    .bind(changed.cents)
    .fetch_one(&mut *tx)
    .await?;
    println!("{} owes {cents}", changed.guest);
    Ok(())
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let engine = std::env::args().nth(1).unwrap_or_else(|| "memory:".to_owned());
    let service = App::new("cafe")
        .engine(engine)
        .store(Sqlite::connect("sqlite::memory:").await?)
        .subscribe(Subscription::named("billing").on(add))
        .build()
        .await?;

    let mut tx = service.transaction().await?;
    sqlx::query("create table bills (guest text primary key, cents integer)").execute(&mut *tx).await?;
    tx.commit().await?;

    for cents in [250, 150, -300] {
        service.publisher().publish(&BillChanged { guest: "Ada".to_owned(), cents }).await?;
    }
    service.run_until_settled().await?;
    Ok(())
}
