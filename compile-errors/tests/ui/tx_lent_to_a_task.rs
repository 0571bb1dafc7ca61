//! A handler lends its transaction to a task that may outlive it.

use courant::prelude::*;

#[derive(Event, Serialize, Deserialize)]
#[event(type = "shop.order-placed", topic = "shop.orders", key = order_id)]
struct OrderPlaced {
    order_id: String,
}

async fn bill(_order: OrderPlaced, mut tx: Tx<Sqlite>) {
    tokio::spawn(async {
        let _ = sqlx::query("delete from bills").execute(&mut *tx).await;
    });
}

fn store() -> Sqlite {
    loop {}
}

fn main() {
    let _ = App::new("billing").store(store()).subscribe(Subscription::named("billing").on(bill));
}
