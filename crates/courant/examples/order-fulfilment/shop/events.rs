//! What the services tell each other. Everything is about a customer, so that the events of one customer keep
//! their order, and nobody waits for another one.

use courant::prelude::*;

/// A customer has ordered something.
#[derive(Clone, Debug, Event, Serialize, Deserialize)]
#[event(type = "shop.order-placed", topic = "shop.orders", key = customer)]
pub(super) struct OrderPlaced {
    pub(super) order: i64,
    pub(super) customer: String,
    pub(super) country: String,
    pub(super) item: String,
    pub(super) cents: i64,
}

/// The customer has paid.
#[derive(Clone, Debug, Event, Serialize, Deserialize)]
#[event(type = "shop.payment-taken", topic = "shop.payments", key = customer)]
pub(super) struct PaymentTaken {
    pub(super) order: i64,
    pub(super) customer: String,
    pub(super) country: String,
    pub(super) item: String,
    pub(super) cents: i64,
}

/// The customer's bank has said no, and the order ends here.
#[derive(Clone, Debug, Event, Serialize, Deserialize)]
#[event(type = "shop.payment-declined", topic = "shop.payments", key = customer)]
pub(super) struct PaymentDeclined {
    pub(super) order: i64,
    pub(super) customer: String,
}

/// What was ordered has been put aside.
#[derive(Clone, Debug, Event, Serialize, Deserialize)]
#[event(type = "shop.stock-reserved", topic = "shop.stock", key = customer)]
pub(super) struct StockReserved {
    pub(super) order: i64,
    pub(super) customer: String,
    pub(super) country: String,
    pub(super) item: String,
}

/// The carrier has it.
#[derive(Clone, Debug, Event, Serialize, Deserialize)]
#[event(type = "shop.order-shipped", topic = "shop.shipments", key = customer)]
pub(super) struct OrderShipped {
    pub(super) order: i64,
    pub(super) customer: String,
    pub(super) country: String,
}
