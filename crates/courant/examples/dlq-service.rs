//! A service for people who look after dead letters, and for the tests of `courant dlq`: it bills orders, and
//! some of them cannot be billed. It is told what to do by lines on stdin, `CUSTOMER NUMBER TEXT`, and keeps
//! everything in the directory that it is started in; it says which order it bills, at every attempt. SIGTERM
//! ends it.
//!
//! An order whose text has `poison` in it fails while there is no file `repaired`; one with `wait` in it is
//! not done while there is a file `hold`.
#![allow(clippy::print_stdout, reason = "an example shows what it does")]

use std::io::BufRead as _;
use std::path::Path;
use std::time::Duration;

use courant::channel::OperationsKey;
use courant::prelude::*;
use courant::until_signal;
use tokio::sync::mpsc;

#[derive(Event, Serialize, Deserialize)]
#[event(type = "shop.order-placed", topic = "shop.orders", key = customer)]
struct OrderPlaced {
    customer: String,
    number: u32,
    text: String,
}

#[derive(Debug, thiserror::Error)]
#[error("the order cannot be billed")]
struct NotBilled(#[source] Declined);

#[derive(Debug, thiserror::Error)]
#[error("the card of {0} was declined")]
struct Declined(String);

async fn bill(order: OrderPlaced, meta: Meta, mut tx: Tx<Sqlite>) -> Result<(), HandlerError> {
    println!("billing {} {}", order.customer, order.number);
    let cause = meta.causation_id().unwrap_or_default().to_owned();
    sqlx::query("insert into bills (customer, number, text, event, cause) values (?, ?, ?, ?, ?)")
        .bind(&order.customer)
        .bind(order.number)
        .bind(&order.text)
        .bind(meta.id().as_str())
        .bind(cause)
        .execute(&mut *tx)
        .await?;
    if order.text.contains("poison") && !Path::new("repaired").exists() {
        return Err(NotBilled(Declined(order.customer)).into());
    }
    while order.text.contains("wait") && Path::new("hold").exists() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    Ok(())
}

/// Lines of stdin, read by a thread of its own.
fn lines() -> mpsc::UnboundedReceiver<String> {
    let (sender, receiver) = mpsc::unbounded_channel();
    std::thread::spawn(move || {
        for line in std::io::stdin().lock().lines().map_while(Result::ok) {
            if sender.send(line).is_err() {
                return;
            }
        }
    });
    receiver
}

fn order(line: &str) -> Option<OrderPlaced> {
    let mut words = line.splitn(3, ' ');
    let (customer, number, text) = (words.next()?, words.next()?, words.next()?);
    Some(OrderPlaced { customer: customer.to_owned(), number: number.parse().ok()?, text: text.to_owned() })
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    // An order that has to wait may wait for long.
    let billing = Subscription::named("billing").concurrency(1).timeout(Duration::from_secs(3600));
    // Its engine, and the key that requests to it are signed with: `dlq-service courant://HOST:PORT KEY`.
    let mut arguments = std::env::args().skip(1);
    let mut app = App::new("billing").engine(arguments.next().unwrap_or("embedded:./events".to_owned()));
    if let Some(key) = arguments.next() {
        app = app.operations(OperationsKey::new(&key)?.signature_is_enough());
    }
    let service = app
        .store(Sqlite::connect("sqlite:billing.db").await?)
        .version("2.1")
        .partitions(1)
        .subscribe(billing.retry(Retry::never()).on(bill))
        .build()
        .await?;

    let mut tx = service.transaction().await?;
    sqlx::query(
        "create table if not exists bills (customer text, number integer, text text, event text, cause text)",
    )
    .execute(&mut *tx)
    .await?;
    tx.commit().await?;

    let publisher = service.publisher();
    let mut orders = lines();
    let taking = tokio::spawn(async move {
        while let Some(line) = orders.recv().await {
            let Some(order) = order(&line) else { continue };
            if let Err(error) = publisher.publish(&order).await {
                println!("not placed {line}: {error}");
                return;
            }
            println!("placed {line}");
        }
    });
    let ended = until_signal(|told| {
        // Signals are heard from here on, so whoever reads this may send one.
        println!("ready");
        service.run_until(told)
    });
    ended.await??;
    taking.abort();
    Ok(())
}
