//! Single events that are on disk when they are acknowledged, beside servers of others that promise the same.
//!
//! Each server is started anew for each measurement, with new data, by `cargo xtask engines`. Within a round
//! all are measured one after the other, in every second round in the other order, so that what happens to
//! the machine happens to all. What counts is the median of the ratios of the rounds; a round in which a
//! sync takes too long does not count.

mod connection;
mod engines;
mod nats;
mod postgres;
mod redis;
mod rounds;

use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use tempfile::TempDir;

use crate::machine;
use crate::percentile;
use crate::probe::Probe;
use crate::process;
use crate::rows;
use crate::say;
use crate::server::Server;
use crate::table::Report;

use engines::Engines;
use rounds::{Rounds, Sample, Who};

const USAGE: &str = "\
cargo xtask bench peers [OPTIONS]

  --rounds N     rounds, each once with every server [5]
  --seconds N    of one measurement [5]
  --waiting LIST producers that wait at the same time [1,64,256]
  --only LIST    of redis-always,redis-everysec,nats,postgres [default: all]
  --quick        one second each, to see that it works
  --json         JSON instead of Markdown tables

The servers are started and ended by `cargo xtask engines`, which installs what is missing. One that runs
already is in the way: each measurement begins with new data.
";

/// Fewer rounds have no median to speak of.
const ROUNDS_MIN: u64 = 5;
/// More connections than this one of the servers does not take.
const WAITING_MAX: usize = 256;
/// A run before the run is this part of it: connections, topic, memory.
const WARM_UP: u32 = 10;
/// Bytes of an event.
const EVENT_BYTES: usize = 100;

/// How much is measured.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Options {
    rounds: u64,
    time: Duration,
    waiting: Vec<usize>,
    peers: Vec<Peer>,
    json: bool,
}

/// Somebody else's server, and how it is set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Peer {
    RedisAlways,
    RedisEverysec,
    Nats,
    Postgres,
}

impl Peer {
    const ALL: [Peer; 4] = [Peer::RedisAlways, Peer::RedisEverysec, Peer::Nats, Peer::Postgres];

    /// As it is written on the command line.
    fn name(self) -> &'static str {
        match self {
            Peer::RedisAlways => "redis-always",
            Peer::RedisEverysec => "redis-everysec",
            Peer::Nats => "nats",
            Peer::Postgres => "postgres",
        }
    }

    /// What `cargo xtask engines` takes, and what it starts it with.
    fn engine(self) -> (&'static str, &'static [&'static str]) {
        match self {
            Peer::RedisAlways => ("redis", &["--appendfsync", "always"]),
            Peer::RedisEverysec => ("redis", &["--appendfsync", "everysec"]),
            Peer::Nats => ("nats", &["--sync-interval", "always"]),
            Peer::Postgres => ("postgres", &[]),
        }
    }

    /// When an event is on disk.
    fn durable(self) -> &'static str {
        match self {
            Peer::RedisEverysec => "within 1 s",
            Peer::RedisAlways | Peer::Nats | Peer::Postgres => "before the answer",
        }
    }

    fn connect(self, address: &str, waiting: usize) -> Result<Box<dyn Client>> {
        Ok(match self {
            Peer::RedisAlways | Peer::RedisEverysec => Box::new(redis::Redis::connect(address, waiting)?),
            Peer::Nats => Box::new(nats::Nats::connect(address, waiting)?),
            Peer::Postgres => Box::new(postgres::Postgres::connect(address, waiting)?),
        })
    }
}

/// Producers of a peer, each of which sends its next event when its last one was acknowledged.
trait Client {
    /// The server's name and version, and the settings that say when an event is on disk.
    fn about(&mut self) -> Result<String>;

    /// Waits for acknowledgements for so long; the nanoseconds that each took.
    fn wait(&mut self, time: Duration) -> Result<Vec<u32>>;

    /// How many events the server has.
    fn stored(&mut self) -> Result<u64>;
}

/// What one measurement has come to.
#[derive(Clone, Copy, Debug)]
struct Taken {
    acks: u64,
    time: Duration,
    p50: Duration,
    p99: Duration,
    server_cpu: f64,
    client_cpu: f64,
    /// Syncs that the server has counted, where it does.
    syncs: Option<u64>,
}

/// Takes the figures, on the disk that `target` is on. Gives back the text to print.
pub(crate) fn run(args: impl Iterator<Item = String>, target: &Path) -> Result<String> {
    let Some(mut options) = parse(args)? else { return Ok(USAGE.to_owned()) };
    let bench = Bench::new(target, options.time)?;
    let mut rounds = Rounds::default();
    // Whatever has to be installed or built is, before anything is measured.
    options.peers.retain(|peer| match bench.about(*peer) {
        Ok(about) => {
            rounds.name(Who::Peer(*peer), about);
            true
        }
        Err(error) => {
            say(format_args!("SKIPPED: {}: {error:#}", peer.name()));
            rounds.without(format!("{}: {error:#}", peer.name()));
            false
        }
    });
    let mut facts = machine::facts(&bench.courant)?;
    for round in 1..=options.rounds {
        for waiting in options.waiting.iter().copied() {
            say(format_args!("bench: peers, round {round} of {}, {waiting} waiting", options.rounds));
            for who in order(&options.peers, round) {
                match bench.sample(who, waiting) {
                    Ok(sample) => rounds.add(round, waiting, who, sample),
                    // What others have come to is worth something all the same.
                    Err(error) => {
                        say(format_args!("FAILED: {error:#}"));
                        rounds.without(format!("round {round}: {error:#}"));
                    }
                }
            }
        }
    }
    facts.extend(rounds.missing().map(|missing| ("not measured", missing)));
    let mut report = Report::new(facts);
    for table in rounds.tables(&options) {
        report.add(table);
    }
    Ok(if options.json { report.json() } else { report.markdown() })
}

/// Courant and its peers, in every second round the other way round.
fn order(peers: &[Peer], round: u64) -> Vec<Who> {
    let mut order = vec![Who::Courant];
    order.extend(peers.iter().copied().map(Who::Peer));
    if round.is_multiple_of(2) {
        order.reverse();
    }
    order
}

/// Where it is measured.
struct Bench {
    courant: PathBuf,
    engines: Engines,
    /// Data of Courant and the file of the probe, on the disk that the peers' data are on.
    scratch: TempDir,
    time: Duration,
}

impl Bench {
    fn new(target: &Path, time: Duration) -> Result<Bench> {
        let scratch = tempfile::Builder::new()
            .prefix("bench-peers-")
            .tempdir_in(target)
            .with_context(|| format!("no directory can be made in {}", target.display()))?;
        let courant = target.join("release").join("courant");
        Ok(Bench { courant, engines: Engines::from_environment(target)?, scratch, time })
    }

    /// Starts a peer once, to see that it can be had.
    fn about(&self, peer: Peer) -> Result<String> {
        let (name, settings) = peer.engine();
        let running = self.engines.up(name, settings)?;
        let about = peer.connect(running.address(), 1)?.about()?;
        running.down()?;
        Ok(about)
    }

    fn sample(&self, who: Who, waiting: usize) -> Result<Sample> {
        match who {
            Who::Courant => self.of_courant(waiting).with_context(|| format!("courant, {waiting} waiting")),
            Who::Peer(peer) => {
                self.of_peer(peer, waiting).with_context(|| format!("{}, {waiting} waiting", peer.name()))
            }
        }
    }

    fn of_courant(&self, waiting: usize) -> Result<Sample> {
        let data = tempfile::tempdir_in(self.scratch.path()).context("no directory for the data")?;
        let probe = self.probe()?;
        let server = Server::start(&self.courant, data.path())?;
        let outcome = server.blame(rows::wait_for_single_events(&server, waiting, self.time))?;
        let taken = Taken {
            acks: outcome.acks,
            time: outcome.time,
            p50: outcome.p50,
            p99: outcome.p99,
            server_cpu: outcome.used.server_cpu,
            client_cpu: outcome.used.client_cpu,
            syncs: Some(outcome.used.syncs),
        };
        Ok(Sample { taken, probe })
    }

    fn of_peer(&self, peer: Peer, waiting: usize) -> Result<Sample> {
        let (name, settings) = peer.engine();
        let running = self.engines.up(name, settings)?;
        let probe = self.probe()?;
        let mut client = peer.connect(running.address(), waiting)?;
        let warm = client.wait(self.time / WARM_UP)?.len();
        let server_cpu = process::tree_cpu_seconds(running.pid())?;
        let client_cpu = process::cpu_seconds(std::process::id())?;
        let begun = Instant::now();
        let mut acks = client.wait(self.time)?;
        let time = begun.elapsed();
        let server_cpu = process::tree_cpu_seconds(running.pid())? - server_cpu;
        let client_cpu = process::cpu_seconds(std::process::id())? - client_cpu;
        let (stored, expected) = (client.stored()?, (warm + acks.len()) as u64);
        ensure!(stored == expected, "{expected} events were acknowledged, and the server has {stored}");
        drop(client);
        running.down()?;
        let (p50, p99) =
            percentile::median_and_99th(&mut acks).context("no event was acknowledged in time")?;
        let taken = Taken {
            acks: acks.len() as u64,
            time,
            p50: Duration::from_nanos(p50.into()),
            p99: Duration::from_nanos(p99.into()),
            server_cpu,
            client_cpu,
            syncs: None,
        };
        Ok(Sample { taken, probe })
    }

    /// What the last measurement left to the file system is done before.
    fn probe(&self) -> Result<Probe> {
        let dir = self.scratch.path();
        File::open(dir).and_then(|dir| dir.sync_all()).with_context(|| dir.display().to_string())?;
        Probe::take(dir)
    }
}

fn parse(mut args: impl Iterator<Item = String>) -> Result<Option<Options>> {
    let mut options = Options {
        rounds: ROUNDS_MIN,
        time: Duration::from_secs(5),
        waiting: vec![1, 64, 256],
        peers: Peer::ALL.to_vec(),
        json: false,
    };
    while let Some(arg) = args.next() {
        match arg.as_str() {
            "--rounds" => options.rounds = number(&arg, args.next(), ROUNDS_MIN)?,
            "--seconds" => options.time = Duration::from_secs(number(&arg, args.next(), 1)?),
            "--waiting" => options.waiting = waiting_of(&value(&arg, args.next())?)?,
            "--only" => options.peers = peers_of(&value(&arg, args.next())?)?,
            "--quick" => options.time = Duration::from_secs(1),
            "--json" => options.json = true,
            "-h" | "--help" => return Ok(None),
            other => bail!("there is no option `{other}`\n\n{USAGE}"),
        }
    }
    Ok(Some(options))
}

fn value(option: &str, value: Option<String>) -> Result<String> {
    value.with_context(|| format!("{option} needs a value"))
}

fn number(option: &str, given: Option<String>, least: u64) -> Result<u64> {
    let given = value(option, given)?;
    match given.parse() {
        Ok(number) if number >= least => Ok(number),
        _ => bail!("{option} takes a whole number from {least} on, not `{given}`"),
    }
}

fn waiting_of(list: &str) -> Result<Vec<usize>> {
    let parsed = list.split(',').map(|number| number.trim().parse::<usize>().ok());
    let waiting = parsed.map(|number| number.filter(|number| (1..=WAITING_MAX).contains(number)));
    waiting
        .collect::<Option<Vec<usize>>>()
        .with_context(|| format!("--waiting takes numbers from 1 to {WAITING_MAX}, not `{list}`"))
}

fn peers_of(list: &str) -> Result<Vec<Peer>> {
    let named: Vec<&str> = list.split(',').map(str::trim).collect();
    if let Some(unknown) = named.iter().find(|name| Peer::ALL.iter().all(|peer| peer.name() != **name)) {
        let known: Vec<&str> = Peer::ALL.iter().map(|peer| peer.name()).collect();
        bail!("there is no peer `{unknown}`; --only takes some of {}", known.join(","));
    }
    Ok(Peer::ALL.into_iter().filter(|peer| named.contains(&peer.name())).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(line: &str) -> Result<Option<Options>> {
        parse(line.split_whitespace().map(str::to_owned))
    }

    #[test]
    fn what_is_asked_for_is_measured() {
        let all = options("").unwrap().unwrap();
        assert_eq!((all.rounds, all.waiting.as_slice()), (5, [1, 64, 256].as_slice()));
        assert_eq!(all.peers, Peer::ALL);
        let some =
            options("--only nats,redis-always --waiting 8 --rounds 7 --quick --json").unwrap().unwrap();
        assert_eq!(some.peers, [Peer::RedisAlways, Peer::Nats]);
        assert_eq!((some.rounds, some.waiting, some.time), (7, vec![8], Duration::from_secs(1)));
        assert_eq!(options("--help").unwrap(), None);
    }

    #[test]
    fn what_cannot_be_meant_is_refused() {
        for line in
            ["--rounds 4", "--only kafka", "--waiting 0", "--waiting 64,many", "--waiting 257", "fast"]
        {
            assert!(options(line).is_err(), "{line}");
        }
    }

    #[test]
    fn every_second_round_goes_the_other_way() {
        let peers = [Peer::RedisAlways, Peer::Nats];
        let first = order(&peers, 1);
        assert_eq!(first, [Who::Courant, Who::Peer(Peer::RedisAlways), Who::Peer(Peer::Nats)]);
        let mut second = order(&peers, 2);
        second.reverse();
        assert_eq!(first, second);
    }
}
