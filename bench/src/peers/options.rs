//! What is measured beside others.

use std::time::Duration;

use anyhow::{Context as _, Result, bail};

use super::peer::Peer;

pub(super) const USAGE: &str = "\
cargo xtask bench peers [OPTIONS]

  --what LIST    of single,passing,batch [default: all]
                 single: producers that wait for their acknowledgement before they send again
                 passing: from a producer to a consumer at 5,000 events a second
                 batch: batches of 500 with a consumer, of Courant and Apache Kafka
  --rounds N     rounds, each once with every server [5]
  --seconds N    of one measurement [5]
  --events N     events of one measurement of batches [2000000]
  --bytes N      bytes of an event in batches [100]
  --waiting LIST producers that wait at the same time [1,64,256]
  --only LIST    of redis-always,nats,postgres,kafka-flush,rabbitmq-quorum, which sync before they answer, and
                 redis-everysec,kafka,rabbitmq-stream, which do not [default: all]
  --quick        one round of one second and a tenth of the events, to see that it works
  --json         JSON instead of Markdown tables

The servers are started and ended by `cargo xtask engines`, which installs what is missing. One that runs
already is in the way: each measurement begins with new data.
";

/// Fewer rounds have no median to speak of.
const ROUNDS_MIN: u64 = 5;
/// More connections than this one of the servers does not take.
const WAITING_MAX: usize = 256;
/// Fewer events than this say nothing, and `--quick` leaves a tenth.
const EVENTS_MIN: u64 = 100_000;
const QUICK: u64 = 10;
/// An event has room for its number, and a batch of 500 for the events.
const BYTES: std::ops::RangeInclusive<u64> = 8..=1_024;

/// A kind of load.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum What {
    Single,
    Passing,
    Batch,
}

impl What {
    pub(super) const ALL: [What; 3] = [What::Single, What::Passing, What::Batch];

    /// As it is written on the command line.
    pub(super) fn name(self) -> &'static str {
        match self {
            What::Single => "single",
            What::Passing => "passing",
            What::Batch => "batch",
        }
    }

    /// Batches are those of one client, which not everybody speaks with.
    pub(super) fn takes(self, peer: Peer) -> bool {
        self != What::Batch || peer.topic().is_some()
    }
}

/// How much is measured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Options {
    pub(super) what: Vec<What>,
    pub(super) rounds: u64,
    pub(super) time: Duration,
    pub(super) events: u64,
    pub(super) bytes: usize,
    pub(super) waiting: Vec<usize>,
    pub(super) peers: Vec<Peer>,
    pub(super) json: bool,
}

/// `None`: help was asked for.
pub(super) fn parse(mut args: impl Iterator<Item = String>) -> Result<Option<Options>> {
    let mut options = Options {
        what: What::ALL.to_vec(),
        rounds: ROUNDS_MIN,
        time: Duration::from_secs(5),
        events: 2_000_000,
        bytes: 100,
        waiting: vec![1, 64, 256],
        peers: Peer::ALL.to_vec(),
        json: false,
    };
    let mut quick = false;
    while let Some(arg) = args.next() {
        match arg.as_str() {
            "--what" => options.what = some_of(&arg, args.next(), &What::ALL, What::name)?,
            "--rounds" => options.rounds = number(&arg, args.next(), ROUNDS_MIN)?,
            "--seconds" => options.time = Duration::from_secs(number(&arg, args.next(), 1)?),
            "--events" => options.events = number(&arg, args.next(), EVENTS_MIN)?,
            "--bytes" => options.bytes = bytes_of(&arg, args.next())?,
            "--waiting" => options.waiting = waiting_of(&value(&arg, args.next())?)?,
            "--only" => options.peers = some_of(&arg, args.next(), &Peer::ALL, Peer::name)?,
            "--quick" => quick = true,
            "--json" => options.json = true,
            "-h" | "--help" => return Ok(None),
            other => bail!("there is no option `{other}`\n\n{USAGE}"),
        }
    }
    if quick {
        options.rounds = 1;
        options.time = Duration::from_secs(1);
        options.events /= QUICK;
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

fn bytes_of(option: &str, given: Option<String>) -> Result<usize> {
    let bytes = number(option, given, *BYTES.start())?;
    if !BYTES.contains(&bytes) {
        bail!("{option} takes a number up to {}, not {bytes}", BYTES.end());
    }
    usize::try_from(bytes).context("too many bytes")
}

fn waiting_of(list: &str) -> Result<Vec<usize>> {
    let parsed = list.split(',').map(|number| number.trim().parse::<usize>().ok());
    let waiting = parsed.map(|number| number.filter(|number| (1..=WAITING_MAX).contains(number)));
    waiting
        .collect::<Option<Vec<usize>>>()
        .with_context(|| format!("--waiting takes numbers from 1 to {WAITING_MAX}, not `{list}`"))
}

/// Those of `all` that a list names, in the order of `all`.
fn some_of<T: Copy>(
    option: &str,
    list: Option<String>,
    all: &[T],
    name: fn(T) -> &'static str,
) -> Result<Vec<T>> {
    let list = value(option, list)?;
    let named: Vec<&str> = list.split(',').map(str::trim).collect();
    if let Some(unknown) = named.iter().find(|named| all.iter().all(|one| name(*one) != **named)) {
        let known: Vec<&str> = all.iter().map(|one| name(*one)).collect();
        bail!("there is no `{unknown}`; {option} takes some of {}", known.join(","));
    }
    Ok(all.iter().copied().filter(|one| named.contains(&name(*one))).collect())
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
        assert_eq!((all.peers.as_slice(), all.what.as_slice()), (Peer::ALL.as_slice(), What::ALL.as_slice()));
        let some = options("--only nats,redis-always --waiting 8 --rounds 7 --what batch,single --json");
        let some = some.unwrap().unwrap();
        assert_eq!(some.peers, [Peer::RedisAlways, Peer::Nats]);
        assert_eq!((some.rounds, some.waiting, some.json), (7, vec![8], true));
        assert_eq!(some.what, [What::Single, What::Batch]);
        assert_eq!(options("--help").unwrap(), None);
    }

    #[test]
    fn a_quick_run_is_one_round() {
        let quick = options("--quick --events 500000").unwrap().unwrap();
        assert_eq!((quick.rounds, quick.time, quick.events), (1, Duration::from_secs(1), 50_000));
    }

    #[test]
    fn what_cannot_be_meant_is_refused() {
        for line in [
            "--rounds 4",
            "--only rabbitmq",
            "--what throughput",
            "--waiting 0",
            "--waiting 64,many",
            "--waiting 257",
            "--bytes 4",
            "--bytes 2000",
            "fast",
        ] {
            assert!(options(line).is_err(), "{line}");
        }
    }

    #[test]
    fn batches_are_for_those_who_speak_the_protocol() {
        let taken: Vec<Peer> = Peer::ALL.into_iter().filter(|peer| What::Batch.takes(*peer)).collect();
        assert_eq!(taken, [Peer::KafkaFlush, Peer::Kafka]);
        assert!(What::Single.takes(Peer::Nats) && What::Passing.takes(Peer::Postgres));
    }
}
