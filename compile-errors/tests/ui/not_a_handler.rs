//! A function that is not asynchronous, and one without arguments.

use courant::prelude::*;

#[derive(Event, Serialize, Deserialize)]
#[event(type = "shop.order-placed", topic = "shop.orders", key = order_id)]
struct OrderPlaced {
    order_id: String,
}

fn bill(_order: OrderPlaced) {}

async fn nothing() {}

fn store() -> Sqlite {
    loop {}
}

fn main() {
    let _ = App::new("billing").store(store()).subscribe(Subscription::named("billing").on(bill));
    let _ = App::new("billing").store(store()).subscribe(Subscription::named("billing").on(nothing));
}
