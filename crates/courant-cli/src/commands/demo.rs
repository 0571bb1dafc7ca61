//! `courant demo`: the shop of `examples/order-fulfilment` on a server in the same process.
//!
//! The shop is the example itself, compiled in: it uses nothing of the crate `courant` that others cannot.

mod desk;
mod house;
mod script;
#[path = "../../../courant/examples/order-fulfilment/shop/mod.rs"]
mod shop;

use self::desk::Desk;
use self::house::House;
use self::shop::{ORDERS_PER_SECOND, Plan, SHIPPING, Shop};
use super::serve::{Signals, exit_of, log_to_stderr};
use crate::cli::{Demo, Global, Script};
use crate::exit::{Exit, Failure, note};
use courant::channel::OperationsKey;
use courant::engine::{EngineConfig, beside_server};
use courant_server::{Server, ServerConfig, ServiceKeys};
use std::fmt::Write as _;
use std::net::SocketAddr;
use std::sync::Arc;
use tokio::task::JoinHandle;

/// What is logged if nobody says more: the shop is in trouble on purpose.
const LOG: &str = "error";

/// Runs the demo until SIGTERM or SIGINT. The first one ends it in order, the second one at once.
pub(super) fn run(global: &Global, args: &Demo) -> Result<Exit, Failure> {
    log_to_stderr(global, (global.verbose == 0).then_some(LOG))?;
    let house = House::open(args.data.as_deref())?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::new(Exit::Failed, format!("no runtime: {error}")))?;
    let ended = runtime.block_on(Box::pin(demo(global, args, &house)));
    // After a second signal something may still be busy, and the process ends without it.
    runtime.shutdown_background();
    ended
}

async fn demo(global: &Global, args: &Demo, house: &House) -> Result<Exit, Failure> {
    let mut signals = Signals::listen()?;
    let mut config = ServerConfig::local(house.log());
    config.kafka.clone_from(&args.kafka);
    config.http.clone_from(&args.http);
    let running = tokio::select! {
        running = Box::pin(Running::start(config, args, house)) => running?,
        () = signals.next() => {
            note(format_args!("Stopped before it was ready."));
            return Ok(Exit::Ok);
        }
    };
    running.greet(global, args, house);
    signals.next().await;
    if !global.quiet {
        note(format_args!("Closing the shop; a second signal stops at once."));
    }
    tokio::select! {
        closed = Box::pin(running.stop()) => closed,
        () = signals.next() => Ok(Exit::Interrupted),
    }
}

/// The server, the shop beside it, and what breaks it.
struct Running {
    server: Server,
    shop: Arc<Shop>,
    script: Option<JoinHandle<()>>,
}

impl Running {
    async fn start(mut config: ServerConfig, args: &Demo, house: &House) -> Result<Self, Failure> {
        let failed = |what: &str, error: &dyn std::fmt::Display| {
            Failure::new(Exit::Failed, format!("{what}: {error}"))
        };
        let text = House::new_key();
        config.api.service_keys = ServiceKeys::parse(&format!("{SHIPPING} {text}"))
            .map_err(|error| failed("the key of shipping", &error))?;
        let key = OperationsKey::new(&text).map_err(|error| failed("the key of shipping", &error))?;
        let server = Box::pin(Server::start(config)).await;
        let server = server.map_err(|error| Failure::new(exit_of(&error), error.to_string()))?;
        if let Err(failure) = house.keep_key(&text) {
            server.stop().await;
            return Err(failure);
        }
        let plan = Plan {
            engine: beside_server(server.log().clone(), EngineConfig::system()),
            directory: house.databases(),
            seed: args.seed,
            speed: args.speed,
            // It is on loopback, and whoever can read the file of the key may.
            operations: Some(key.signature_is_enough()),
        };
        let shop = match Box::pin(Shop::open(plan)).await {
            Ok(shop) => shop,
            Err(error) => {
                server.stop().await;
                return Err(failed("the shop does not open", &error));
            }
        };
        let is_scripted = args.script == Script::On;
        server.show_demo(Arc::new(Desk::new(shop.clone(), args, is_scripted)));
        shop.let_customers_in().await;
        let script = is_scripted.then(|| tokio::spawn(script::play(server.demo_desk(), args.speed)));
        Ok(Self { server, shop, script })
    }

    /// The banner, and `ready` as the last line of all.
    fn greet(&self, global: &Global, args: &Demo, house: &House) {
        let addresses = (self.server.kafka_addresses().first(), self.server.http_addresses().first());
        if let (Some(&kafka), Some(&http)) = addresses {
            note(format_args!("{}ready", banner(kafka, http, args, house, !global.quiet)));
        }
    }

    async fn stop(self) -> Result<Exit, Failure> {
        if let Some(script) = self.script {
            script.abort();
        }
        let closed = self.shop.close().await;
        self.server.stop().await;
        closed.map_err(|error| {
            Failure::new(Exit::Failed, format!("the shop did not close in order: {error}"))
        })?;
        Ok(Exit::Ok)
    }
}

/// Programs read the lines `kafka` and `http`: they have the form that those of `courant serve` have.
fn banner(kafka: SocketAddr, http: SocketAddr, args: &Demo, house: &House, with_examples: bool) -> String {
    let mut text = String::new();
    // Writing to a string does not fail.
    let _ = writeln!(text, "courant {} demo: loopback only, no login", env!("CARGO_PKG_VERSION"));
    let _ = writeln!(text, "  demo     http://{http}/demo");
    let _ = writeln!(text, "  kafka    {kafka}");
    let _ = writeln!(text, "  http     http://{http}");
    let _ = writeln!(text, "  data     {}", house.said());
    if with_examples {
        let orders = ORDERS_PER_SECOND * args.speed;
        let _ = writeln!(text, "A shop of 5 services is open, and {orders} orders come in a second.");
        let _ = writeln!(
            text,
            "{}",
            match args.script {
                Script::On => "It breaks and heals by itself; --script off leaves that to you.",
                Script::Off => "Nothing breaks by itself; the switches are at /demo.",
            }
        );
        let _ = writeln!(text, "Try, in another terminal:");
        let _ = writeln!(text, "  courant tail shop.orders --follow --server {kafka}");
        let _ = writeln!(text, "  courant services --server {kafka}");
        let _ = writeln!(text, "  courant dlq list --store sqlite:{}", house.shipping().display());
        let _ = writeln!(text, "Ctrl-C closes the shop.");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::{Cli, Command};
    use clap::Parser as _;

    fn args(line: &str) -> Demo {
        match Cli::try_parse_from(line.split(' ')).expect(line).command {
            Command::Demo(demo) => demo,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_banner_fits_on_a_screen_and_says_where_everything_is() {
        let directory = tempfile::tempdir().expect("a directory");
        let house = House::open(Some(directory.path())).expect("opens");
        let (kafka, http) = (([127, 0, 0, 1], 41233).into(), ([127, 0, 0, 1], 43211).into());
        let text = banner(kafka, http, &args("courant demo --speed 3"), &house, true);
        let lines: Vec<&str> = text.lines().collect();
        assert!(lines.contains(&"  kafka    127.0.0.1:41233"), "{text}");
        assert!(lines.contains(&"  http     http://127.0.0.1:43211"), "{text}");
        assert!(text.contains("15 orders come in a second"), "{text}");
        assert!(lines.len() <= 14, "{text}");
        let quiet = banner(kafka, http, &args("courant demo --script off"), &house, false);
        assert_eq!(quiet.lines().count(), 5, "{quiet}");
    }

    #[test]
    fn the_speed_has_a_bound() {
        assert_eq!(args("courant demo").speed, 1);
        for speed in ["0", "11", "fast"] {
            assert!(Cli::try_parse_from(["courant", "demo", "--speed", speed]).is_err(), "{speed}");
        }
    }
}
