//! Batches in a topic of the relaxed class: acknowledged when they are written, on disk a tenth of a second later.
//!
//! The client is busier than the server then, so its own limit stands beside: librdkafka against the mock that
//! it brings along, in the same process.

use std::time::{Duration, Instant};

use anyhow::Result;

use super::{Before, Bench, PROBE_COLUMNS, USED_COLUMNS, Used, WARM_MAX, durable_row, progress, used_cells};
use crate::client::{Reader, TOPIC, Writer};
use crate::framework::median;
use crate::goal;
use crate::probe::{self, Probe};
use crate::server::Server;
use crate::table::{Cell, Column, Table};
use crate::wire::Connection;

/// Fewer rounds have no median to speak of.
const ROUNDS: u64 = 5;
const EVENT_BYTES: usize = 100;
const CLASS: [(&str, &str); 1] = [("courant.durability", "interval")];

/// One measurement.
#[derive(Clone, Copy, Debug)]
struct Taken {
    acked: Duration,
    /// Until a consumer had the last event, where there was one.
    read: Option<Duration>,
    used: Used,
    probe: Probe,
}

impl Taken {
    fn counts(&self) -> bool {
        self.used.syncs > 0 && !self.probe.is_busy()
    }
}

/// Producing alone, and the client's limit in the same round.
#[derive(Clone, Copy, Debug)]
struct Round {
    taken: Taken,
    /// Events per second against the mock.
    client: f64,
}

pub(super) fn run(bench: &Bench) -> Result<Table> {
    let events = bench.options.events;
    probe::warm_memory(bench.scratch.path(), (events * EVENT_BYTES as u64 * 2).min(WARM_MAX))?;
    let (mut rounds, mut together) = (Vec::new(), Vec::new());
    for round in 1..=ROUNDS {
        progress(&format!("relaxed, round {round} of {ROUNDS}"));
        // In every second round the mock comes first.
        rounds.push(if round.is_multiple_of(2) {
            let client = against_mock(events)?;
            Round { taken: sample(bench, false)?, client }
        } else {
            Round { taken: sample(bench, false)?, client: against_mock(events)? }
        });
        together.push(sample(bench, true)?);
    }
    let columns = [
        Column::text("relaxed batches", "load"),
        goal::COLUMNS[0],
        goal::COLUMNS[1],
        Column::number("acked/s", "acked_per_s"),
        Column::number("read/s", "read_per_s"),
        Column::number("× client", "acked_per_client"),
        Column::number("least", "acked_per_client_least"),
        Column::number("most", "acked_per_client_most"),
        Column::number("client alone/s", "client_per_s"),
    ];
    Ok(Table {
        key: "relaxed",
        title: format!("Relaxed class: {events} events of 100 B"),
        note: "`courant.durability=interval`, one partition, one producer (linger 5 ms, batches of 500, \
               acks=all, no compression). The client alone is the same producer against librdkafka's mock; the \
               ratio is the median of 5 rounds, each with both, and the other figures of the row are those of \
               the round in the middle; with a consumer, of the one whose server CPU is in the middle.",
        columns: columns.into_iter().chain(USED_COLUMNS).chain(PROBE_COLUMNS).collect(),
        rows: vec![alone(&mut rounds, events), with_consumer(&mut together, events)],
    })
}

fn sample(bench: &Bench, with_reader: bool) -> Result<Taken> {
    let data = bench.fresh_dir()?;
    let probe = bench.probe()?;
    let server = bench.start(&data)?;
    server.blame(measure(&server, bench.options.events, with_reader, probe))
}

fn measure(server: &Server, events: u64, with_reader: bool, probe: Probe) -> Result<Taken> {
    let bootstrap = server.bootstrap();
    Connection::open(&bootstrap)?.create_topic(TOPIC, 1, &CLASS)?;
    let mut writer = Writer::new(&bootstrap, EVENT_BYTES, false)?;
    writer.send(1)?;
    let mut reader = None;
    if with_reader {
        let mut started = Reader::start(&bootstrap, 1 + events)?;
        started.wait_for_first()?;
        reader = Some(started);
    }
    let before = Before::now(server)?;
    let acked = writer.send(events)?.duration_since(before.at);
    let read = match &mut reader {
        Some(reader) => Some(reader.finish()?.duration_since(before.at)),
        None => None,
    };
    Ok(Taken { acked, read, used: before.used(server)?, probe })
}

/// Events per second that the client reaches by itself.
fn against_mock(events: u64) -> Result<f64> {
    let mut writer = Writer::on_mock(EVENT_BYTES)?;
    writer.send(1)?;
    let begun = Instant::now();
    let acked = writer.send(events)?;
    Ok(events as f64 / acked.duration_since(begun).as_secs_f64())
}

/// The rounds as one row: that of the median ratio.
fn alone(rounds: &mut [Round], events: u64) -> Vec<Cell> {
    let ratio = |round: &Round| events as f64 / round.taken.acked.as_secs_f64() / round.client;
    rounds.sort_by(|one, other| ratio(one).total_cmp(&ratio(other)));
    let counted: Vec<&Round> = rounds.iter().filter(|round| round.taken.counts()).collect();
    let ratios: Vec<f64> = counted.iter().map(|round| ratio(round)).collect();
    // Where none counts, the row is void by its own figures.
    let shown = counted.get(counted.len() / 2).copied().or(rounds.first());
    let met = goal::at_least(median(ratios.clone()), 0.7);
    let asked = goal::cells("≥ 0.70 × client", &[met]);
    let (Some(first), Some(last), Some(shown)) = (ratios.first(), ratios.last(), shown) else {
        return match shown {
            Some(shown) => row("alone", asked, &shown.taken, events, None),
            None => Vec::new(),
        };
    };
    let client = (median(ratios.clone()), *first, *last, shown.client);
    row("alone", asked, &shown.taken, events, Some(client))
}

/// The rounds with a consumer as one row: that of the median CPU.
fn with_consumer(rounds: &mut [Taken], events: u64) -> Vec<Cell> {
    rounds.sort_by(|one, other| one.used.server_cpu.total_cmp(&other.used.server_cpu));
    let counted: Vec<&Taken> = rounds.iter().filter(|taken| taken.counts()).collect();
    let cpu = median(counted.iter().map(|taken| taken.used.server_cpu * 1e6 / events as f64).collect());
    let asked = goal::cells("≤ 0.30 s/M", &[goal::at_most(cpu, 0.3)]);
    // Where none counts, the row is void by its own figures.
    match counted.get(counted.len() / 2).copied().or(rounds.first()) {
        Some(shown) => row("with one consumer", asked, shown, events, None),
        None => Vec::new(),
    }
}

/// `client`: the ratio to it, the least and the most of them, and its own events per second.
fn row(
    name: &str,
    asked: [Cell; 2],
    taken: &Taken,
    events: u64,
    client: Option<(f64, f64, f64, f64)>,
) -> Vec<Cell> {
    let rate = |time: Duration| Cell::rounded(events as f64 / time.as_secs_f64());
    let ratio = |value: Option<f64>| value.map_or(Cell::Missing, |value| Cell::Number(value, 2));
    let mut figures = vec![
        rate(taken.acked),
        taken.read.map_or(Cell::Missing, rate),
        ratio(client.map(|(median, ..)| median)),
        ratio(client.map(|(_, least, ..)| least)),
        ratio(client.map(|(_, _, most, _)| most)),
        client.map_or(Cell::Missing, |(.., alone)| Cell::rounded(alone)),
    ];
    figures.append(&mut used_cells(&taken.used, events, taken.acked));
    let mut row = durable_row(name.to_owned(), figures, &taken.used, &taken.probe);
    drop(row.splice(1..1, asked));
    row
}

#[cfg(test)]
mod tests {
    use super::*;

    fn round(acked_ms: u64, client: f64, probe_us: u64) -> Round {
        let used = Used {
            server_cpu: 0.5,
            client_cpu: 0.9,
            written: None,
            appends: 4_000,
            syncs: 10,
            checkpoints: 3,
            journal_waits: 0,
            longest_wait_us: None,
        };
        let probe =
            Probe { p50: Duration::from_micros(probe_us), p99: Duration::from_micros(400), idle: 1.0 };
        Round { taken: Taken { acked: Duration::from_millis(acked_ms), read: None, used, probe }, client }
    }

    /// Of three rounds, one of them on a busy machine, two count.
    #[test]
    fn the_client_is_compared_in_the_same_round() {
        let mut rounds = [round(1_000, 2_500_000.0, 100), round(800, 2_500_000.0, 100), round(100, 1.0, 900)];
        let row = alone(&mut rounds, 2_000_000);
        assert_eq!(row.len(), 9 + USED_COLUMNS.len() + PROBE_COLUMNS.len());
        let Cell::Number(ratio, _) = row[5] else { panic!("{row:?}") };
        assert!((0.999..1.001).contains(&ratio), "{ratio}");
        assert_eq!((&row[3], &row[8]), (&Cell::Count(2_500_000), &Cell::Count(2_500_000)));
        assert_eq!(row[2], Cell::text("yes"));
    }

    /// Half a CPU second for two million events, and nothing for a round that does not count.
    #[test]
    fn with_a_consumer_the_cpu_in_the_middle_counts() {
        let taken = |server_cpu, probe_us| {
            let mut taken = round(1_000, 1.0, probe_us).taken;
            taken.used.server_cpu = server_cpu;
            taken
        };
        let row = with_consumer(&mut [taken(0.7, 100), taken(0.5, 100), taken(9.0, 900)], 2_000_000);
        assert_eq!(row.len(), 9 + USED_COLUMNS.len() + PROBE_COLUMNS.len());
        assert_eq!((&row[2], &row[9]), (&Cell::text("no"), &Cell::Number(0.35, 2)));
        let row = with_consumer(&mut [taken(0.5, 100), taken(0.5, 100), taken(9.0, 900)], 2_000_000);
        assert_eq!((&row[2], &row[9]), (&Cell::text("yes"), &Cell::Number(0.25, 2)));
    }

    #[test]
    fn without_a_round_that_counts_the_row_is_void() {
        let row = alone(&mut [round(1_000, 2_500_000.0, 900)], 2_000_000);
        assert_eq!(row.len(), 9 + USED_COLUMNS.len() + PROBE_COLUMNS.len());
        assert_eq!(row[2], Cell::text("void"));
        assert!(row[3..9].iter().all(|cell| *cell == Cell::Void), "{row:?}");
    }
}
