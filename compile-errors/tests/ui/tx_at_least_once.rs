//! A handler whose effects may repeat asks for a transaction.

use courant::prelude::*;

#[derive(Event, Serialize, Deserialize)]
#[event(type = "shop.order-placed", topic = "shop.orders", key = order_id)]
struct OrderPlaced {
    order_id: String,
}

async fn bill(_order: OrderPlaced, _tx: Tx<Sqlite>) {}

fn store() -> Sqlite {
    loop {}
}

fn main() {
    let subscription = Subscription::named("billing").at_least_once().on(bill);
    let _ = App::new("billing").store(store()).subscribe(subscription);
}
