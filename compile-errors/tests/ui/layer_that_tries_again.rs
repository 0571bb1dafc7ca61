//! A layer wants to try again what has failed, inside of the transaction that it has failed in.

use courant::layer::{Call, Handled, Next, from_fn};
use courant::prelude::*;

async fn twice(call: Call, next: Next) -> Result<Handled, HandlerError> {
    match next.clone().run(call.clone()).await {
        Ok(handled) => Ok(handled),
        Err(_) => next.run(call).await,
    }
}

fn main() {
    let _ = App::new("billing").layer(from_fn(twice));
}
