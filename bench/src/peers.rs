//! Courant beside servers of others: single events, events on their way to a consumer, and batches.
//!
//! Within a round each server is started once, with new data, by `cargo xtask engines`. All are measured one
//! after the other, in every second round in the other order, so that what happens to the machine happens to
//! all. What counts is the median of the ratios of the rounds; a round in which a sync takes too long does not
//! count.

mod amqp;
mod connection;
mod engines;
mod kafka;
mod nats;
mod options;
mod peer;
mod postgres;
mod rabbitmq;
mod redis;
mod rounds;
mod subject;
mod tables;

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};

use crate::client::{Reader, TOPIC, Writer};
use crate::machine;
use crate::passing::{self, EVENT_BYTES, PER_SECOND};
use crate::percentile;
use crate::say;
use crate::table::{Report, Table};
use crate::wire::Connection;

use engines::Engines;
use options::{Options, What};
use peer::Peer;
use rounds::{Rounds, Sample, Taken, Who};
use subject::{Bench, Subject};

/// Batches before those that count are this part of them: connections, topic, memory, compilers.
const WARM_UP: u64 = 4;
/// Events on their way before those that count: two seconds of them.
const PASSING_WARM_UP: u64 = 2 * PER_SECOND;

/// Producers of single events, each of which sends its next event when its last one was acknowledged.
trait Client {
    /// The server's name and version, and the settings that say when an event is on disk.
    fn about(&mut self) -> Result<String>;

    /// Lets so many of them wait for acknowledgements for so long; the nanoseconds that each took.
    fn wait(&mut self, waiting: usize, time: Duration) -> Result<Vec<u32>>;

    /// How many events the server has; `None` where it does not tell.
    fn stored(&mut self) -> Result<Option<u64>>;
}

/// Takes the figures, on the disk that `target` is on. Gives back the text to print.
pub(crate) fn run(args: impl Iterator<Item = String>, target: &Path) -> Result<String> {
    let Some(mut options) = options::parse(args)? else { return Ok(options::USAGE.to_owned()) };
    let bench = Bench::new(target)?;
    let mut facts = machine::facts(bench.courant())?;
    let (mut names, mut missing) = (Vec::new(), Vec::new());
    let wanted = |peer: &Peer, what: &[What]| what.iter().any(|what| what.takes(*peer));
    options.peers.retain(|peer| wanted(peer, &options.what));
    // Whatever has to be installed or built is, before anything is measured.
    options.peers.retain(|peer| match bench.about(*peer) {
        Ok(about) => {
            names.push((Who::Peer(*peer), about));
            true
        }
        Err(error) => {
            say(format_args!("SKIPPED: {}: {error:#}", peer.name()));
            missing.push(format!("{}: {error:#}", peer.name()));
            false
        }
    });
    let mut tables = Vec::new();
    for what in options.what.iter().copied() {
        tables.extend(measured(&bench, what, &options, &names, &mut missing));
    }
    if !missing.is_empty() {
        facts.push(("not measured", missing.join("; ")));
    }
    let mut report = Report::new(facts);
    for table in tables {
        report.add(table);
    }
    Ok(if options.json { report.json() } else { report.markdown() })
}

/// Starts a database for somebody else's figures, and ends it. `measure` gets its address.
pub(crate) fn with_database<T>(name: &'static str, measure: impl FnOnce(&str) -> Result<T>) -> Result<T> {
    let engines = Engines::from_environment()?;
    let running = engines.up(name, &[])?;
    let taken = measure(running.address())?;
    // What was measured is worth something also where its server does not end in order.
    if let Err(error) = running.down() {
        say(format_args!("FAILED: {error:#}"));
    }
    Ok(taken)
}

/// Which servers of others run now.
pub(crate) fn running() -> Vec<&'static str> {
    let Ok(engines) = Engines::from_environment() else { return Vec::new() };
    engines::NAMES.into_iter().filter(|name| engines.runs(name)).collect()
}

/// Ends those that run now and are not among `before`: somebody has started them and was ended himself.
pub(crate) fn end_others(before: &[&'static str]) {
    let Ok(engines) = Engines::from_environment() else { return };
    for name in engines::NAMES.into_iter().filter(|name| !before.contains(name)) {
        if let Err(error) = engines.down(name) {
            say(format_args!("FAILED: {error:#}"));
        }
    }
}

/// All rounds of one kind of load.
fn measured(
    bench: &Bench,
    what: What,
    options: &Options,
    names: &[(Who, String)],
    missing: &mut Vec<String>,
) -> [Table; 2] {
    let peers: Vec<Peer> = options.peers.iter().copied().filter(|peer| what.takes(*peer)).collect();
    let mut rounds = Rounds::new(what, names);
    if what == What::Batch
        && let Err(error) = bench.warm_memory(options.events * options.bytes as u64)
    {
        missing.push(format!("{error:#}"));
    }
    for round in 1..=options.rounds {
        say(format_args!("bench: {} beside others, round {round} of {}", what.name(), options.rounds));
        for who in order(what, &peers, round) {
            let ended = one_round(bench, what, who, options, |load, sample| {
                rounds.add(round, load, who, sample);
            });
            // What others have come to is worth something all the same.
            if let Err(error) = ended {
                let failed = format!("{}, round {round}, {}: {error:#}", what.name(), who.name());
                say(format_args!("FAILED: {failed}"));
                missing.push(failed);
            }
        }
    }
    rounds.tables(&order(what, &peers, 1), options)
}

/// Courant and its peers, in every second round the other way round. The relaxed class stands beside those who
/// promise no more, and clients without a library where that of a library is a part of what is measured.
fn order(what: What, peers: &[Peer], round: u64) -> Vec<Who> {
    let mut order = vec![Who::Courant];
    if what != What::Batch {
        order.push(Who::Lean);
    }
    if peers.iter().any(|peer| !peer.is_durable()) {
        order.push(Who::Relaxed);
    }
    order.extend(peers.iter().copied().map(Who::Peer));
    if round.is_multiple_of(2) {
        order.reverse();
    }
    order
}

/// Starts a server, and does with it what is asked for. What it has come to counts only as a whole: figures of a
/// server that has lost an event are worth nothing.
fn one_round(
    bench: &Bench,
    what: What,
    who: Who,
    options: &Options,
    mut add: impl FnMut(usize, Sample),
) -> Result<()> {
    let subject = bench.start(who)?;
    let samples = match what {
        What::Single => single(bench, &subject, options)?,
        What::Passing => {
            let probe = bench.probe()?;
            vec![(0, Sample { taken: passing(&subject, options.time)?, probe })]
        }
        What::Batch => {
            let probe = bench.probe()?;
            vec![(options.bytes, Sample { taken: batch(&subject, options)?, probe })]
        }
    };
    for (load, sample) in samples {
        add(load, sample);
    }
    subject.end()
}

fn single(bench: &Bench, subject: &Subject<'_>, options: &Options) -> Result<Vec<(usize, Sample)>> {
    let most = options.waiting.iter().copied().max().unwrap_or(1);
    let mut client = subject.connect(most)?;
    let (mut acked, mut samples) = (0, Vec::new());
    for waiting in options.waiting.iter().copied() {
        let probe = bench.probe()?;
        acked += client.wait(waiting, subject.warm_up(options.time))?.len() as u64;
        let before = subject.now()?;
        let mut acks = client.wait(waiting, options.time)?;
        let used = subject.used(&before)?;
        acked += acks.len() as u64;
        let (p50, p99) =
            percentile::median_and_99th(&mut acks).context("no event was acknowledged in time")?;
        let waits = Some([p50, p99].map(|nanos| Duration::from_nanos(nanos.into())));
        let taken = Taken { events: acks.len() as u64, time: used.time, read: None, waits, used };
        samples.push((waiting, Sample { taken, probe }));
    }
    if let Some(stored) = client.stored()? {
        ensure!(stored == acked, "{acked} events were acknowledged, and the server has {stored}");
    }
    Ok(samples)
}

/// From a producer to a consumer.
fn passing(subject: &Subject<'_>, time: Duration) -> Result<Taken> {
    let (sender, receiver) = subject.pass()?;
    let events = time.as_secs() * PER_SECOND;
    let mut taken = passing::measure(sender, receiver, PASSING_WARM_UP, events, || subject.now())?;
    let used = subject.used(&taken.before)?;
    let (p50, p99) = percentile::median_and_99th(&mut taken.waits).context("nothing was read")?;
    let waits = Some([p50, p99].map(Duration::from_nanos));
    Ok(Taken { events, time: taken.time, read: None, waits, used })
}

/// Batches, while one consumer reads them. A quarter of them before does not count.
fn batch(subject: &Subject<'_>, options: &Options) -> Result<Taken> {
    let bootstrap = subject.address();
    let topic = subject.topic().context("only who speaks the protocol takes its batches")?;
    Connection::open(bootstrap)?.create_topic(TOPIC, 1, topic)?;
    let mut writer = Writer::new(bootstrap, options.bytes, false)?;
    let warm = 1 + options.events / WARM_UP;
    writer.send(1)?;
    let mut reader = Reader::start(bootstrap, warm + options.events)?;
    reader.wait_for_first()?;
    writer.send(warm - 1)?;
    let before = subject.now()?;
    let begun = Instant::now();
    let acked = writer.send(options.events)?.duration_since(begun);
    let read = reader.finish()?.duration_since(begun);
    let used = subject.used(&before)?;
    Ok(Taken { events: options.events, time: acked, read: Some(read), waits: None, used })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_second_round_goes_the_other_way() {
        let peers = [Peer::RedisAlways, Peer::Nats];
        let first = order(What::Single, &peers, 1);
        let others = [Who::Peer(Peer::RedisAlways), Who::Peer(Peer::Nats)];
        assert_eq!(first, [Who::Courant, Who::Lean, others[0], others[1]]);
        let mut second = order(What::Single, &peers, 2);
        second.reverse();
        assert_eq!(first, second);
    }

    #[test]
    fn the_relaxed_class_stands_beside_those_who_promise_no_more() {
        let order = order(What::Batch, &[Peer::Kafka], 1);
        assert_eq!(order, [Who::Courant, Who::Relaxed, Who::Peer(Peer::Kafka)]);
    }

    #[test]
    fn clients_without_a_library_stand_beside_all_but_batches() {
        for what in What::ALL {
            let order = order(what, &[Peer::KafkaFlush], 1);
            assert_eq!(order.contains(&Who::Lean), what != What::Batch, "{}", what.name());
        }
    }
}
