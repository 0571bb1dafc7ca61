//! Events that do not say what they are about.

use courant::prelude::*;

#[derive(Event, Serialize, Deserialize)]
#[event(type = "shop.order-placed", topic = "shop.orders")]
struct OrderPlaced {
    order_id: String,
}

#[derive(Event, Serialize, Deserialize)]
#[event(type = "shop.order-billed", topic = "shop.bills", key = order)]
struct OrderBilled {
    order_id: String,
    cents: i64,
}

fn main() {}
