//! A key that has no text.

use courant::prelude::*;

#[derive(Serialize, Deserialize)]
struct OrderId(u64);

#[derive(Event, Serialize, Deserialize)]
#[event(type = "shop.order-paid", topic = "shop.bills", key = order_id)]
struct OrderPaid {
    order_id: OrderId,
}

fn main() {}
