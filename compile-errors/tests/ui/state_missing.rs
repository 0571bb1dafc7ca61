//! A handler asks for a state that the service does not have.

use courant::prelude::*;

#[derive(Event, Serialize, Deserialize)]
#[event(type = "shop.order-placed", topic = "shop.orders", key = order_id)]
struct OrderPlaced {
    order_id: String,
}

#[derive(Clone)]
struct Prices;

async fn bill(_order: OrderPlaced, State(_prices): State<Prices>) {}

fn store() -> Sqlite {
    loop {}
}

fn main() {
    let _ = App::new("billing").store(store()).subscribe(Subscription::named("billing").on(bill));
}
