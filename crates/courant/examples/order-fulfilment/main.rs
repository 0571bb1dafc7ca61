//! The shop of `shop/` on any engine: `order-fulfilment [ENGINE] [ORDERS]`. Its databases are in the directory
//! that it is started in.
//!
//! With a number it takes so many orders, waits until nothing is left to do, and prints what was sold; it prints
//! the same on every engine. Without one it stays open, and is told what to do by lines on stdin: `break NAME`,
//! `fix NAME`, `redrive` and `look`. It closes at the end of its input.
#![allow(clippy::print_stdout, reason = "an example shows what it does")]

mod shop;

use std::io::BufRead as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use courant::BoxError;
use courant::engine::{EngineConfig, EngineUrl};
use tokio::sync::mpsc;

use shop::{Look, Plan, Shop, Trouble};

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    let mut arguments = std::env::args().skip(1);
    let url: EngineUrl = arguments.next().unwrap_or_else(|| "memory:".to_owned()).parse()?;
    let orders = arguments.next().map(|orders| orders.parse::<u32>()).transpose()?.map(i64::from);
    let engine = courant::open_engine(&url, EngineConfig::system()).await?;
    let directory = PathBuf::from(".");
    let plan = Plan { engine: engine.clone(), directory, seed: 1, speed: 1, operations: None };
    let shop = Shop::open(plan).await?;
    match orders {
        Some(orders) => sell(&shop, orders).await?,
        None => stay_open(&shop).await?,
    }
    shop.close().await?;
    engine.close().await;
    Ok(())
}

/// Takes so many orders, and prints what has become of them.
async fn sell(shop: &Arc<Shop>, orders: i64) -> Result<(), BoxError> {
    let before = shop.look().await?.figures.placed;
    for _ in 0..orders {
        shop.place_next().await?;
    }
    let sales = loop {
        let figures = shop.look().await?.figures;
        let shipped: i64 = figures.sales.iter().map(|sale| sale.shipped).sum();
        let counted: i64 = figures.sales.iter().map(|sale| sale.orders).sum();
        let is_done = figures.shipped + figures.declined == before + orders;
        if is_done && counted == before + orders && shipped == figures.shipped {
            break figures.sales;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    for sale in sales {
        println!("{}: {} orders, {} shipped, {} cents", sale.country, sale.orders, sale.shipped, sale.cents);
    }
    Ok(())
}

/// Takes orders as they come, until the end of stdin.
async fn stay_open(shop: &Arc<Shop>) -> Result<(), BoxError> {
    shop.let_customers_in().await;
    println!("ready");
    let mut lines = lines();
    while let Some(line) = lines.recv().await {
        match line.split_once(' ').unwrap_or((line.as_str(), "")) {
            ("break", name) => turn(shop, name, true).await?,
            ("fix", name) => turn(shop, name, false).await?,
            ("redrive", "") => println!("{} sent back", shop.redrive("somebody at the keyboard").await?),
            ("look", "") => print(&shop.look().await?),
            _ => println!("{line:?}: neither break NAME, fix NAME, redrive nor look"),
        }
    }
    Ok(())
}

async fn turn(shop: &Arc<Shop>, name: &str, on: bool) -> Result<(), BoxError> {
    let Some(trouble) = Trouble::named(name) else {
        println!("{name:?} is none of {:?}", Trouble::ALL.map(Trouble::id));
        return Ok(());
    };
    shop.turn(trouble, on).await
}

fn print(look: &Look) {
    for (trouble, on) in &look.troubles {
        println!("{} {}: {}", if *on { "broken" } else { "fine" }, trouble.id(), trouble.title());
    }
    for tick in &look.ticks {
        match &tick.seen {
            Some(seen) => println!("[x] {}: {seen}", tick.title),
            None => println!("[ ] {} ({}): {}", tick.title, tick.id, tick.to_do),
        }
    }
}

/// The lines of stdin. Reading them blocks, so a thread of its own does.
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
