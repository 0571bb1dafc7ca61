//! A promise of privacy that cannot be kept.

use courant::prelude::*;

#[derive(Event, Serialize, Deserialize)]
#[event(type = "shop.order-placed", topic = "shop.orders", key = order_id)]
struct OrderPlaced {
    order_id: String,
    #[personal]
    email: String,
}

fn main() {}
