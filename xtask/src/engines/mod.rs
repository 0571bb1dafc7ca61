//! `cargo xtask engines`: servers of others that tests use, each in a folder of its own below
//! `target/engines`, on loopback, with a port that was free.
//!
//! A run of the tests starts what it needs and ends what it has started. What somebody has started by
//! hand is used, and left running.

mod kafka;
mod mariadb;
mod postgres;

use std::fs;
use std::path::{Path, PathBuf};
use std::process;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};

use crate::stage::Tally;

/// How long a server may take by hand; the stages have budgets of their own.
const BY_HAND: Duration = Duration::from_secs(120);

/// Names the process that has started a server for its tests.
const STARTED_BY: &str = "started-by";

/// A server that tests use.
struct Engine {
    name: &'static str,
    /// What tells the tests where it is.
    variable: &'static str,
    /// Starts it, unless it runs. Whether that was needed.
    up: fn(&Path, Instant) -> Result<bool>,
    /// Ends it, if it runs. Whether that was needed.
    down: fn(&Path) -> Result<bool>,
    /// Its address, while it runs.
    address: fn(&Path) -> Option<String>,
}

const ENGINES: [Engine; 3] = [
    Engine {
        name: postgres::NAME,
        variable: "COURANT_TEST_POSTGRES",
        up: postgres::up,
        down: postgres::down,
        address: postgres::address,
    },
    Engine {
        name: mariadb::NAME,
        variable: "COURANT_TEST_MARIADB",
        up: mariadb::up,
        down: mariadb::down,
        address: mariadb::address,
    },
    Engine {
        name: kafka::NAME,
        variable: "COURANT_TEST_KAFKA",
        up: kafka::up,
        down: kafka::down,
        address: kafka::address,
    },
];

/// Starts, ends or names one of them.
pub(crate) fn run(root: &Path, args: &[String]) -> Result<bool> {
    let names = ENGINES.map(|engine| engine.name).join(", ");
    let [command, name] = args else { bail!("engines takes up, down or status, and one of: {names}") };
    let Some(engine) = ENGINES.iter().find(|engine| engine.name == name) else {
        bail!("no engine `{name}`; there are: {names}");
    };
    match command.as_str() {
        "up" => {
            (engine.up)(root, Instant::now() + BY_HAND)?;
        }
        "down" => {
            (engine.down)(root)?;
        }
        "status" => {}
        other => bail!("engines takes up, down or status, got `{other}`"),
    }
    match (engine.address)(root) {
        Some(address) => println!("{name} runs: {}={address}", engine.variable),
        None => println!("{name} does not run"),
    }
    Ok(true)
}

/// Starts everything for the tests of this process.
pub(crate) fn start(root: &Path, deadline: Instant) -> Tally {
    let mut tally = Tally::default();
    for engine in &ENGINES {
        tally.merge(match for_this_process(root, engine, deadline) {
            Ok(()) => Tally::pass(),
            Err(error) => Tally::skip(format!("prepare::{}", engine.name), format!("{error:#}")),
        });
    }
    tally
}

fn for_this_process(root: &Path, engine: &Engine, deadline: Instant) -> Result<()> {
    if (engine.up)(root, deadline)? {
        let mark = folder(root, engine.name).join(STARTED_BY);
        fs::write(&mark, process::id().to_string()).with_context(|| mark.display().to_string())?;
    }
    Ok(())
}

/// Ends what this process has started.
pub(crate) fn stop(root: &Path) {
    for engine in &ENGINES {
        let mark = folder(root, engine.name).join(STARTED_BY);
        if !fs::read_to_string(&mark).is_ok_and(|pid| pid == process::id().to_string()) {
            continue;
        }
        match (engine.down)(root) {
            Ok(_) => {
                // A mark that stays names a process that has ended.
                let _ = fs::remove_file(&mark);
            }
            Err(error) => eprintln!("{} does not end: {error:#}", engine.name),
        }
    }
}

/// The variables that tell the tests where the servers are.
pub(crate) fn environment(root: &Path) -> Vec<(&'static str, PathBuf)> {
    let addresses = ENGINES.iter().map(|engine| (engine.variable, (engine.address)(root)));
    addresses.filter_map(|(variable, address)| Some((variable, PathBuf::from(address?)))).collect()
}

/// Where a server has what is its own.
fn folder(root: &Path, name: &str) -> PathBuf {
    root.join("target/engines").join(name)
}
