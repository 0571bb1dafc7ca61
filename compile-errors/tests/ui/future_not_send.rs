//! A handler that keeps something of its thread while it waits.

use courant::prelude::*;

#[derive(Event, Serialize, Deserialize)]
#[event(type = "shop.order-placed", topic = "shop.orders", key = order_id)]
struct OrderPlaced {
    order_id: String,
}

async fn bill(_order: OrderPlaced) {
    let bills = std::rc::Rc::new(1);
    std::future::ready(()).await;
    drop(bills);
}

fn store() -> Sqlite {
    loop {}
}

fn main() {
    let _ = App::new("billing").store(store()).subscribe(Subscription::named("billing").on(bill));
}
