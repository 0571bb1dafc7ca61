//! Batches, acknowledged when they are on disk, while one consumer reads them.

use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result};

use super::floor::{BATCH, BATCHES_WAITING};
use super::{
    Before, Bench, CHECKPOINTS_MIN, PROBE_COLUMNS, USED_COLUMNS, Used, WARM_MAX, durable_row, progress,
    used_cells,
};
use crate::client::{Reader, Writer};
use crate::floor::{self, How, Until};
use crate::framework::median;
use crate::goal;
use crate::probe::{self, Probe};
use crate::server::Server;
use crate::table::{Cell, Column, Table};
use crate::wire;

/// Fewer rounds have no median to speak of.
const ROUNDS: u64 = 5;
/// What librdkafka puts into one batch at most.
const BATCH_BYTES_MAX: usize = 1_000_000;
/// Bytes of the largest events, and how many fewer there are of them than of 1 KiB.
const LARGEST_BYTES: usize = 64 * 1024;
const LARGEST_FEWER: u64 = 64;

/// One kind of load.
#[derive(Clone, Copy)]
struct Load {
    bytes: usize,
    events: u64,
    idempotent: bool,
}

impl Load {
    fn name(&self) -> String {
        let size = if self.bytes < 1024 {
            format!("{} B", self.bytes)
        } else {
            format!("{} KiB", self.bytes / 1024)
        };
        let idempotent = if self.idempotent { ", idempotent" } else { "" };
        format!("{} × {size}{idempotent}", self.batch())
    }

    /// Events of a batch: the client makes none of more than a megabyte.
    fn batch(&self) -> usize {
        BATCH.min(BATCH_BYTES_MAX / self.bytes)
    }

    /// What is asked of it, by the rounds that count.
    fn goal(&self, counted: &[Round]) -> [Cell; 2] {
        let of = |figure: &dyn Fn(&Round) -> f64| median(counted.iter().map(figure).collect());
        let cpu = of(&|round: &Round| round.used.server_cpu * 1e6 / self.events as f64);
        let (asked, met) = match (self.bytes, self.idempotent) {
            (100, false) => (
                "≤ 0.40 s/M, ≥ 0.70 of the limit",
                [goal::at_most(cpu, 0.4), goal::at_least(of(&Round::of_the_limit), 0.7)],
            ),
            (1024, false) => (
                "≤ 1.60 s/M, ≥ 0.60 × floor",
                [
                    goal::at_most(cpu, 1.6),
                    goal::at_least(of(&|round: &Round| round.per_floor(self.events)), 0.6),
                ],
            ),
            _ => ("", [None, None]),
        };
        let through = counted.iter().all(|round| round.used.checkpoints >= CHECKPOINTS_MIN);
        goal::durable_cells(asked, &met, through)
    }
}

/// What a load came to.
struct Outcome {
    /// To the last acknowledgement.
    acked: Duration,
    /// Until the consumer had the last event.
    read: Duration,
    used: Used,
}

pub(super) fn run(bench: &Bench) -> Result<Table> {
    let (events, large_events) = (bench.options.events, bench.options.large_events);
    let load = |bytes, events, idempotent| Load { bytes, events, idempotent };
    let loads = [
        load(100, events, false),
        load(100, events, true),
        load(1024, large_events, false),
        load(1024, large_events, true),
        load(LARGEST_BYTES, large_events / LARGEST_FEWER, false),
    ];
    // Every byte is written twice: journal and segment.
    let warm = (large_events * 1024 * 2).min(WARM_MAX);
    progress(&format!("warming {} MiB of memory", warm >> 20));
    probe::warm_memory(bench.scratch.path(), warm)?;
    let mut rounds: Vec<Vec<Round>> = loads.iter().map(|_| Vec::new()).collect();
    for round in 1..=ROUNDS {
        let mut order: Vec<_> = loads.iter().zip(&mut rounds).collect();
        // In every second round the other way round.
        if round.is_multiple_of(2) {
            order.reverse();
        }
        for (load, rounds) in order {
            progress(&format!("round {round} of {ROUNDS}, {} events, {}", load.events, load.name()));
            rounds.push(measured(bench, load, round)?);
        }
    }
    let columns = [
        Column::text("durable batches", "load"),
        goal::COLUMNS[0],
        goal::COLUMNS[1],
        Column::number("acked/s", "acked_per_s"),
        Column::number("read/s", "read_per_s"),
        Column::number("of the limit", "read_per_limit"),
        Column::number("least", "read_per_limit_least"),
        Column::number("most", "read_per_limit_most"),
        Column::number("× floor", "acked_per_floor"),
        Column::number("least", "acked_per_floor_least"),
        Column::number("most", "acked_per_floor_most"),
        Column::number("rounds", "rounds"),
    ];
    let columns = columns.into_iter().chain(USED_COLUMNS).chain(PROBE_COLUMNS);
    Ok(Table {
        key: "batch",
        title: format!(
            "Batches: {events} events of 100 B, {large_events} of 1 KiB, {} of 64 KiB",
            large_events / LARGEST_FEWER
        ),
        note: "One producer (linger 5 ms, acks=all, no compression) and one concurrent consumer \
               (assign, no group), one partition. CPU is that of producing and consuming together. The limit \
               of events read per second is the number of CPUs ÷ the CPU time of server and client per event, \
               of the same run; the floor writes every byte twice, as the log does, in the same round. Ratios \
               are medians of 5 rounds, and the other figures are those of the round whose server CPU is in \
               the middle.",
        columns: columns.collect(),
        rows: loads.iter().zip(&mut rounds).map(|(load, rounds)| row(load, rounds)).collect(),
    })
}

/// A load in one round.
#[derive(Clone, Copy, Debug)]
struct Round {
    acked: Duration,
    read: Duration,
    /// CPUs that server and client share.
    cpus: usize,
    /// Events per second of the floor.
    floor: f64,
    used: Used,
    probe: Probe,
}

impl Round {
    fn counts(&self) -> bool {
        self.used.syncs > 0 && !self.probe.is_busy()
    }

    /// Events read, of those that the CPU time of server and client lets through.
    fn of_the_limit(&self) -> f64 {
        (self.used.server_cpu + self.used.client_cpu) / self.read.as_secs_f64() / self.cpus as f64
    }

    fn per_floor(&self, events: u64) -> f64 {
        events as f64 / self.acked.as_secs_f64() / self.floor
    }
}

/// In every second round the floor comes last.
fn measured(bench: &Bench, load: &Load, round: u64) -> Result<Round> {
    let floor_first = if round.is_multiple_of(2) { None } else { Some(floor_of(bench, load)?) };
    let data = bench.fresh_dir()?;
    let probe = bench.probe()?;
    let server = bench.start(&data)?;
    let Outcome { acked, read, used } = server.blame(measure(&server, load))?;
    server.kill()?;
    let floor = match floor_first {
        Some(floor) => floor,
        None => floor_of(bench, load)?,
    };
    let cpus = thread::available_parallelism().context("the CPUs cannot be counted")?.get();
    Ok(Round { acked, read, cpus, floor, used, probe })
}

fn row(load: &Load, rounds: &mut [Round]) -> Vec<Cell> {
    rounds.sort_by(|one, other| one.used.server_cpu.total_cmp(&other.used.server_cpu));
    let counted: Vec<Round> = rounds.iter().copied().filter(Round::counts).collect();
    // Where none counts, the row is void by its own figures.
    let Some(shown) = counted.get(counted.len() / 2).or(rounds.first()) else { return Vec::new() };
    let ratios = |of: &dyn Fn(&Round) -> f64| {
        let ratios: Vec<f64> = counted.iter().map(of).collect();
        let (least, most) =
            (ratios.iter().copied().reduce(f64::min), ratios.iter().copied().reduce(f64::max));
        let middle = (!ratios.is_empty()).then(|| median(ratios));
        [middle, least, most].map(|ratio| ratio.map_or(Cell::Missing, |ratio| Cell::Number(ratio, 2)))
    };
    let rate = |time: Duration| Cell::rounded(load.events as f64 / time.as_secs_f64());
    let mut figures = vec![rate(shown.acked), rate(shown.read)];
    figures.extend(ratios(&Round::of_the_limit));
    figures.extend(ratios(&|round: &Round| round.per_floor(load.events)));
    figures.push(Cell::Count(counted.len() as u64));
    figures.append(&mut used_cells(&shown.used, load.events, shown.acked));
    let mut row = durable_row(load.name(), figures, &shown.used, &shown.probe);
    drop(row.splice(1..1, load.goal(&counted)));
    row
}

/// Events per second of a floor that writes journal and segment.
fn floor_of(bench: &Bench, load: &Load) -> Result<f64> {
    let dir = bench.fresh_dir()?;
    let message = wire::batch(load.batch(), load.bytes)?;
    let until = Until::Messages(load.events / load.batch() as u64);
    let taken = floor::measure(dir.path(), How::SyncAndSegment, &message, BATCHES_WAITING, until)?;
    Ok(taken.per_second() * load.batch() as f64)
}

fn measure(server: &Server, load: &Load) -> Result<Outcome> {
    let bootstrap = server.bootstrap();
    let mut writer = Writer::new(&bootstrap, load.bytes, load.idempotent)?;
    // One event makes the topic and the connections; it is not counted.
    writer.send(1)?;
    let mut reader = Reader::start(&bootstrap, 1 + load.events)?;
    reader.wait_for_first()?;
    let before = Before::now(server)?;
    let acked = writer.send(load.events)?;
    let read = reader.finish()?;
    Ok(Outcome {
        acked: acked.duration_since(before.at),
        read: read.duration_since(before.at),
        used: before.used(server)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOAD: Load = Load { bytes: 100, events: 1_000_000, idempotent: false };

    fn round(server_cpu: f64, probe_us: u64) -> Round {
        let used = Used {
            server_cpu,
            client_cpu: 0.9,
            written: None,
            appends: 2_000,
            syncs: 700,
            checkpoints: 3,
            journal_waits: 0,
            longest_wait_us: None,
        };
        let probe =
            Probe { p50: Duration::from_micros(probe_us), p99: Duration::from_micros(400), idle: 1.0 };
        let time = Duration::from_secs(1);
        Round { acked: time, read: time, cpus: 2, floor: 2_000_000.0, used, probe }
    }

    /// Server and client took 1.2 CPU seconds in a second of two CPUs: six tenths of what was there.
    #[test]
    fn the_round_in_the_middle_is_shown() {
        let row = row(&LOAD, &mut [round(0.5, 100), round(0.3, 100), round(0.1, 100), round(9.0, 900)]);
        assert_eq!(row.len(), 12 + USED_COLUMNS.len() + PROBE_COLUMNS.len());
        let Cell::Number(of_the_limit, _) = row[5] else { panic!("{row:?}") };
        assert!((0.599..0.601).contains(&of_the_limit), "{of_the_limit}");
        assert_eq!((&row[3], &row[8]), (&Cell::Count(1_000_000), &Cell::Number(0.5, 2)));
        assert_eq!((&row[11], &row[12]), (&Cell::Count(3), &Cell::Number(0.3, 2)));
        // The CPU time is within its bound, the rate is not.
        assert_eq!(row[2], Cell::text("no"));
    }

    #[test]
    fn a_batch_of_large_events_has_fewer_of_them() {
        assert_eq!(LOAD.name(), "500 × 100 B");
        assert_eq!(Load { bytes: 1024, idempotent: true, ..LOAD }.name(), "500 × 1 KiB, idempotent");
        assert_eq!(Load { bytes: LARGEST_BYTES, ..LOAD }.name(), "15 × 64 KiB");
    }

    #[test]
    fn without_a_round_that_counts_the_row_is_void() {
        let row = row(&LOAD, &mut [round(0.5, 900)]);
        assert_eq!(row.len(), 12 + USED_COLUMNS.len() + PROBE_COLUMNS.len());
        assert!(row[3..].iter().take(9).all(|cell| *cell == Cell::Void), "{row:?}");
        assert_eq!(row[2], Cell::text("void"));
    }
}
