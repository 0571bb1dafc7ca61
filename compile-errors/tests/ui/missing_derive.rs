//! An event without its derive.

use courant::prelude::*;

struct OrderPlaced;

async fn bill(_order: OrderPlaced) {}

fn main() {
    let _ = App::new("billing").subscribe(Subscription::named("billing").at_least_once().on(bill));
}
