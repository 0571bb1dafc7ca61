//! `cargo xtask engines`: servers of others that tests and benchmarks use, each in a folder of its own below
//! `target/engines`, on loopback, with ports that were free.
//!
//! A run of the tests starts what it needs and ends what it has started. What somebody has started by
//! hand is used, and left running.

mod kafka;
mod mariadb;
mod nats;
mod postgres;
mod rabbitmq;
mod redis;
mod server;

use std::fs;
use std::path::{Path, PathBuf};
use std::process;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};

use crate::stage::Tally;

/// How long a server may take by hand, with what has to be installed; the stages have budgets of their own.
const BY_HAND: Duration = Duration::from_secs(300);

/// Names the process that has started a server for its tests.
const STARTED_BY: &str = "started-by";
/// Says how a server was set that somebody has started by hand.
const SET_TO: &str = "set-to";

/// A server that tests or benchmarks use.
struct Engine {
    name: &'static str,
    /// What tells others where it is.
    variable: &'static str,
    /// A run of the tests starts it. The others are there for benchmarks, and only by hand.
    in_tests: bool,
    /// What it can be started with.
    setting: Option<Setting>,
    /// Starts it, unless it runs, with this value of its setting, if it has one. Whether that was needed.
    up: fn(&Path, &str, Instant) -> Result<bool>,
    /// Ends it, if it runs. Whether that was needed.
    down: fn(&Path) -> Result<bool>,
    /// Its address, while it runs.
    address: fn(&Path) -> Option<String>,
}

/// What a server can be started with.
#[derive(Clone, Copy)]
struct Setting {
    /// As it is written on the command line.
    option: &'static str,
    /// All that it can be. The first one is taken where nothing is said.
    values: &'static [&'static str],
}

const ENGINES: [Engine; 6] = [
    Engine {
        name: postgres::NAME,
        variable: "COURANT_TEST_POSTGRES",
        in_tests: true,
        setting: None,
        up: |root, _, deadline| postgres::up(root, deadline),
        down: postgres::down,
        address: postgres::address,
    },
    Engine {
        name: mariadb::NAME,
        variable: "COURANT_TEST_MARIADB",
        in_tests: true,
        setting: None,
        up: |root, _, deadline| mariadb::up(root, deadline),
        down: mariadb::down,
        address: mariadb::address,
    },
    Engine {
        name: kafka::NAME,
        variable: "COURANT_TEST_KAFKA",
        in_tests: true,
        setting: Some(kafka::SETTING),
        up: kafka::up,
        down: kafka::down,
        address: kafka::address,
    },
    Engine {
        name: redis::NAME,
        variable: "COURANT_TEST_REDIS",
        in_tests: false,
        setting: Some(redis::SETTING),
        up: redis::up,
        down: redis::down,
        address: redis::address,
    },
    Engine {
        name: nats::NAME,
        variable: "COURANT_TEST_NATS",
        in_tests: false,
        setting: Some(nats::SETTING),
        up: nats::up,
        down: nats::down,
        address: nats::address,
    },
    Engine {
        name: rabbitmq::NAME,
        variable: "COURANT_TEST_RABBITMQ",
        in_tests: false,
        setting: None,
        up: |root, _, deadline| rabbitmq::up(root, deadline),
        down: rabbitmq::down,
        address: rabbitmq::address,
    },
];

/// Starts, ends or names one of them.
pub(crate) fn run(root: &Path, args: &[String]) -> Result<bool> {
    let names = ENGINES.map(|engine| engine.name).join(", ");
    let [command, name, settings @ ..] = args else {
        bail!("engines takes up, down or status, and one of: {names}");
    };
    let Some(engine) = ENGINES.iter().find(|engine| engine.name == name) else {
        bail!("no engine `{name}`; there are: {names}");
    };
    match (command.as_str(), settings) {
        ("up", settings) => by_hand(root, engine, settings)?,
        ("down", []) => {
            (engine.down)(root)?;
        }
        ("status", []) => {}
        ("down" | "status", [other, ..]) => {
            bail!("engines {command} {name} takes nothing more, got `{other}`")
        }
        (other, _) => bail!("engines takes up, down or status, got `{other}`"),
    }
    match (engine.address)(root) {
        Some(address) => println!("{name} runs: {}={address}", engine.variable),
        None => println!("{name} does not run"),
    }
    if engine.name == kafka::NAME
        && let Some(address) = kafka::login_address(root)
    {
        println!("it takes logins over TLS: {}={address}", kafka::LOGIN_VARIABLE);
    }
    Ok(true)
}

/// Starts a server as these arguments say. One that runs already has to be set so.
fn by_hand(root: &Path, engine: &Engine, args: &[String]) -> Result<()> {
    let asked = asked_for(engine, args)?;
    let value = asked.unwrap_or_else(|| engine.default());
    let file = folder(root, engine.name).join(SET_TO);
    if (engine.up)(root, value, Instant::now() + BY_HAND)? {
        return fs::write(&file, value).with_context(|| file.display().to_string());
    }
    // Where nobody has said anything it was started as it is by default.
    let is = fs::read_to_string(&file).unwrap_or_else(|_| engine.default().to_owned());
    ensure!(
        asked.is_none_or(|asked| asked == is),
        "{0} runs already, with {1} {is}: `cargo xtask engines down {0}` first",
        engine.name,
        args.first().map_or("", String::as_str),
    );
    Ok(())
}

/// The value that the arguments give to the setting of a server.
fn asked_for(engine: &Engine, args: &[String]) -> Result<Option<&'static str>> {
    let Some(first) = args.first() else { return Ok(None) };
    let Some(setting) = engine.setting else { bail!("{} takes no settings, got `{first}`", engine.name) };
    let value = match args {
        [option, value] if option == setting.option => {
            setting.values.iter().copied().find(|known| known == value)
        }
        _ => None,
    };
    let Some(value) = value else {
        bail!("{} takes {} {}", engine.name, setting.option, setting.values.join("|"));
    };
    Ok(Some(value))
}

impl Engine {
    fn default(&self) -> &'static str {
        self.setting.and_then(|setting| setting.values.first().copied()).unwrap_or("")
    }
}

/// Starts everything for the tests of this process.
pub(crate) fn start(root: &Path, deadline: Instant) -> Tally {
    let mut tally = Tally::default();
    for engine in ENGINES.iter().filter(|engine| engine.in_tests) {
        tally.merge(match for_this_process(root, engine, deadline) {
            Ok(()) => Tally::pass(),
            Err(error) => Tally::skip(format!("prepare::{}", engine.name), format!("{error:#}")),
        });
    }
    tally
}

fn for_this_process(root: &Path, engine: &Engine, deadline: Instant) -> Result<()> {
    if (engine.up)(root, engine.default(), deadline)? {
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
    let logins = (kafka::LOGIN_VARIABLE, kafka::login_address(root));
    let addresses = addresses.chain([logins]);
    addresses.filter_map(|(variable, address)| Some((variable, PathBuf::from(address?)))).collect()
}

/// Where a server has what is its own.
fn folder(root: &Path, name: &str) -> PathBuf {
    root.join("target/engines").join(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn engine(name: &str) -> &'static Engine {
        ENGINES.iter().find(|engine| engine.name == name).unwrap()
    }

    fn asked(name: &str, line: &str) -> Result<Option<&'static str>> {
        let args: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
        asked_for(engine(name), &args)
    }

    #[test]
    fn a_setting_is_one_that_the_server_has() {
        assert_eq!(asked("redis", "--appendfsync everysec").unwrap(), Some("everysec"));
        assert_eq!(asked("nats", "--sync-interval 2m").unwrap(), Some("2m"));
        assert_eq!(asked("redis", "").unwrap(), None);
        for line in
            ["--appendfsync no", "--appendfsync", "--sync-interval always", "--appendfsync always more"]
        {
            let error = asked("redis", line).unwrap_err();
            assert_eq!(error.to_string(), "redis takes --appendfsync always|everysec", "{line}");
        }
        assert!(asked("postgres", "--fsync off").is_err());
    }

    #[test]
    fn what_nobody_sets_is_on_disk_when_it_is_acknowledged() {
        assert_eq!(engine("redis").default(), "always");
        assert_eq!(engine("nats").default(), "always");
        assert_eq!(engine("rabbitmq").default(), "");
    }

    #[test]
    fn tests_get_a_small_kafka() {
        assert_eq!(engine("kafka").default(), "tests");
        assert_eq!(asked("kafka", "--for figures").unwrap(), Some("figures"));
    }

    #[test]
    fn a_run_of_the_tests_installs_no_server_of_a_benchmark() {
        let started = ENGINES.iter().filter(|engine| engine.in_tests).map(|engine| engine.name);
        assert_eq!(started.collect::<Vec<_>>(), ["postgres", "mariadb", "kafka"]);
    }
}
