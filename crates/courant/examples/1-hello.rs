//! Greets whoever comes.
#![allow(clippy::print_stdout, reason = "an example shows what it does")]

use courant::prelude::*;

#[derive(Event, Serialize, Deserialize)]
#[event(type = "hotel.guest-arrived", topic = "hotel.guests", key = name)]
struct GuestArrived {
    name: String,
}

async fn greet(guest: GuestArrived) {
    println!("Welcome, {}!", guest.name);
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let greeter = Subscription::named("greeter").at_least_once().when_exhausted(Exhausted::Skip).on(greet);

    let service = App::new("hello")
        .engine(std::env::args().nth(1).unwrap_or_else(|| "memory:".to_owned()))
        .partitions(1)
        .subscribe(greeter)
        .build()
        .await?;

    for name in ["Ada", "Grace"] {
        service.publisher().publish(&GuestArrived { name: name.to_owned() }).await?;
    }
    service.run_until_settled().await?;
    Ok(())
}
