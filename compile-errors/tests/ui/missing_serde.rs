//! An event that serde does not know.

use courant::prelude::*;

#[derive(Event)]
#[event(type = "shop.order-placed", topic = "shop.orders", no_key)]
struct OrderPlaced;

fn main() {}
