//! A handler publishes inside a savepoint, which may be rolled back.

use courant::prelude::sqlx::Connection as _;
use courant::prelude::*;

#[derive(Event, Serialize, Deserialize)]
#[event(type = "shop.order-placed", topic = "shop.orders", key = order_id)]
struct OrderPlaced {
    order_id: String,
}

async fn bill(order: OrderPlaced, mut tx: Tx<Sqlite>) -> Result<(), HandlerError> {
    let savepoint = tx.begin().await?;
    tx.publish(&order)?;
    savepoint.rollback().await?;
    Ok(())
}

fn store() -> Sqlite {
    loop {}
}

fn main() {
    let _ = App::new("billing").store(store()).subscribe(Subscription::named("billing").on(bill));
}
