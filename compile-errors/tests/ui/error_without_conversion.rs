//! Errors that are none.

use courant::prelude::*;

#[derive(Event, Serialize, Deserialize)]
#[event(type = "shop.order-placed", topic = "shop.orders", key = order_id)]
struct OrderPlaced {
    order_id: String,
}

fn price() -> Result<i64, String> {
    Err("no price".to_owned())
}

async fn bill(_order: OrderPlaced) -> Result<(), HandlerError> {
    price()?;
    Ok(())
}

async fn bill_as_text(_order: OrderPlaced) -> Result<(), String> {
    price().map(|_| ())
}

fn store() -> Sqlite {
    loop {}
}

fn main() {
    let _ = App::new("billing").store(store()).subscribe(Subscription::named("billing").on(bill));
    let _ = App::new("billing").store(store()).subscribe(Subscription::named("billing").on(bill_as_text));
}
