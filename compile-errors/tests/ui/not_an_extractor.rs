//! An argument that is neither an event nor an extractor.

use courant::prelude::*;

#[derive(Event, Serialize, Deserialize)]
#[event(type = "shop.order-placed", topic = "shop.orders", key = order_id)]
struct OrderPlaced {
    order_id: String,
}

async fn bill(_order: OrderPlaced, _cents: i64) {}

fn store() -> Sqlite {
    loop {}
}

fn main() {
    let _ = App::new("billing").store(store()).subscribe(Subscription::named("billing").on(bill));
}
