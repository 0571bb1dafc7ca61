//! A handler asks for a transaction of a store that the service does not have.

use courant::prelude::*;

#[derive(Event, Serialize, Deserialize)]
#[event(type = "shop.order-placed", topic = "shop.orders", key = order_id)]
struct OrderPlaced {
    order_id: String,
}

async fn bill(_order: OrderPlaced, _tx: Tx<Sqlite>) {}

fn main() {
    let _ = App::new("billing").subscribe(Subscription::named("billing").on(bill));
}
