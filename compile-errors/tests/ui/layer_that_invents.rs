//! A layer wants to say that something was handled which was not.

use courant::layer::{Call, Handled, Next, from_fn};
use courant::prelude::*;

async fn soothe(call: Call, next: Next) -> Result<Handled, HandlerError> {
    match next.run(call).await {
        Ok(handled) => Ok(handled),
        Err(_) => Ok(Handled::default()),
    }
}

fn main() {
    let _ = App::new("billing").layer(from_fn(soothe));
}
