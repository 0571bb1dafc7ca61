//! Attributes that cannot be kept.

use courant::prelude::*;

#[derive(Event, Serialize, Deserialize)]
struct NoAttribute;

#[derive(Event, Serialize, Deserialize)]
#[event(type = "Shop.OrderPlaced", topic = "shop.orders", no_key)]
struct CapitalLetters;

#[derive(Event, Serialize, Deserialize)]
#[event(type = "shop.order-placed", topic = "shop/orders", no_key)]
struct NoTopic;

#[derive(Command, Serialize, Deserialize)]
#[command(type = "shop.take-payment", topic = "shop.payments", no_key)]
struct NoOwner;

fn main() {}
