//! This machine's limit: what `floor.rs` reaches, which does the least.

use std::time::Duration;

use anyhow::{Context as _, Result};

use super::{Bench, PROBE_COLUMNS, micros, progress};
use crate::floor::{self, How, Until};
use crate::framework::median;
use crate::percentile;
use crate::probe::Probe;
use crate::table::{Cell, Column, Table};
use crate::wire;

/// Events of a batch, and batches on their way at the same time.
pub(super) const BATCH: usize = 500;
pub(super) const BATCHES_WAITING: usize = 8;
/// Fewer rounds have no median to speak of.
const ROUNDS: u32 = 5;
/// Events of a round beside those of other rows: the floor is so much faster that the steps of its CPU time show.
const MORE: u64 = 2;
/// Bytes of a round at most: a file that grows further is written at the pace of the disk and not of the floor.
const BYTES_MAX: u64 = 1 << 30;

/// What is sent and what becomes of it.
struct Case {
    name: &'static str,
    events: usize,
    bytes: usize,
    waiting: usize,
    how: How,
}

const fn batches(name: &'static str, bytes: usize, how: How) -> Case {
    Case { name, events: BATCH, bytes, waiting: BATCHES_WAITING, how }
}

const fn single(name: &'static str, waiting: usize) -> Case {
    Case { name, events: 1, bytes: 100, waiting, how: How::Sync }
}

const CASES: [Case; 8] = [
    batches("500 × 100 B, written", 100, How::Write),
    batches("500 × 100 B, synced", 100, How::Sync),
    batches("500 × 100 B, synced, and a segment", 100, How::SyncAndSegment),
    batches("500 × 1 KiB, synced", 1024, How::Sync),
    batches("500 × 1 KiB, synced, and a segment", 1024, How::SyncAndSegment),
    single("single events, 1 waiting", 1),
    single("single events, 64 waiting", 64),
    single("single events, 256 waiting", 256),
];

pub(super) fn run(bench: &Bench) -> Result<Table> {
    let columns = [
        Column::text("floor", "case"),
        Column::number("events/s", "events_per_s"),
        Column::number("p50 µs", "p50_us"),
        Column::number("p99 µs", "p99_us"),
        Column::number("p50 × probe", "p50_per_probe"),
        Column::number("server CPU s/M", "server_cpu_s_per_million"),
        Column::number("rounds", "rounds"),
    ];
    let mut rounds: Vec<Vec<Round>> = CASES.iter().map(|_| Vec::new()).collect();
    for round in 1..=ROUNDS {
        progress(&format!("the floor, round {round} of {ROUNDS}"));
        let mut order: Vec<_> = CASES.iter().zip(&mut rounds).collect();
        // In every second round the other way round.
        if round.is_multiple_of(2) {
            order.reverse();
        }
        for (case, rounds) in order {
            rounds.push(measured(bench, case)?);
        }
    }
    Ok(Table {
        key: "floor",
        title: format!("The floor: medians of {ROUNDS} rounds"),
        note: "One thread that receives from one connection, checksums each message, writes all that has come \
               to a file of zeros, syncs it (fdatasync) and acknowledges; where there is a segment, writes the \
               same to a file that grows. Eight batches are on their way at any time. Nothing that promises as \
               much does less; goals are parts of it. A round that syncs is void where the probe was above 250 µs.",
        columns: columns.into_iter().chain(PROBE_COLUMNS).collect(),
        rows: CASES.iter().zip(&rounds).map(|(case, rounds)| row(case, rounds)).collect(),
    })
}

/// A case in one round.
#[derive(Clone, Copy, Debug)]
struct Round {
    rate: f64,
    p50: Duration,
    p99: Duration,
    cpu: f64,
    probe: Probe,
}

fn measured(bench: &Bench, case: &Case) -> Result<Round> {
    let dir = bench.fresh_dir()?;
    let probe = bench.probe()?;
    let until = if case.events == 1 {
        Until::Elapsed(bench.options.single_time / ROUNDS)
    } else {
        let events = if case.bytes == 100 { bench.options.events } else { bench.options.large_events };
        Until::Messages((events * MORE).min(BYTES_MAX / case.bytes as u64) / case.events as u64)
    };
    let message = wire::batch(case.events, case.bytes)?;
    let mut taken = floor::measure(dir.path(), case.how, &message, case.waiting, until)?;
    let (p50, p99) = percentile::median_and_99th(&mut taken.waits).context("nothing was acknowledged")?;
    let [p50, p99] = [p50, p99].map(|nanos| Duration::from_nanos(nanos.into()));
    let events = taken.acks as f64 * case.events as f64;
    let (rate, cpu) = (taken.per_second() * case.events as f64, taken.server_cpu * 1e6 / events);
    Ok(Round { rate, p50, p99, cpu, probe })
}

/// The rounds of a case as one row. Where none counts, its figures are void.
fn row(case: &Case, rounds: &[Round]) -> Vec<Cell> {
    let counts = |round: &&Round| case.how == How::Write || !round.probe.is_busy();
    let counted: Vec<&Round> = rounds.iter().filter(counts).collect();
    let of = |figure: fn(&Round) -> f64| median(counted.iter().map(|round| figure(round)).collect());
    let figure = |cell: Cell| if counted.is_empty() { Cell::Void } else { cell };
    let probe = |figure: fn(&Probe) -> Duration| {
        Cell::rounded(median(rounds.iter().map(|round| micros(figure(&round.probe))).collect()))
    };
    let void = rounds.len() - counted.len();
    vec![
        Cell::text(case.name),
        figure(Cell::rounded(of(|round| round.rate))),
        figure(Cell::rounded(of(|round| micros(round.p50)))),
        figure(Cell::rounded(of(|round| micros(round.p99)))),
        figure(Cell::Number(of(|round| round.p50.as_secs_f64() / round.probe.p50.as_secs_f64()), 1)),
        figure(Cell::Number(of(|round| round.cpu), 3)),
        Cell::Count(counted.len() as u64),
        probe(|probe| probe.p50),
        probe(|probe| probe.p99),
        Cell::text(if void == 0 { String::new() } else { format!("void rounds: {void}") }),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn round(rate: f64, probe_us: u64) -> Round {
        let probe =
            Probe { p50: Duration::from_micros(probe_us), p99: Duration::from_micros(400), idle: 1.0 };
        Round { rate, p50: Duration::from_micros(200), p99: Duration::from_micros(300), cpu: 0.05, probe }
    }

    #[test]
    fn what_syncs_counts_only_where_the_disk_is_free() {
        let rounds = [round(1e6, 100), round(3e6, 100), round(2e6, 100), round(9e6, 300)];
        let synced = row(&CASES[1], &rounds);
        assert_eq!((&synced[1], &synced[6]), (&Cell::Count(2_000_000), &Cell::Count(3)));
        assert_eq!((&synced[4], &synced[9]), (&Cell::Number(2.0, 1), &Cell::text("void rounds: 1")));
        assert_eq!(row(&CASES[0], &rounds)[6], Cell::Count(4));
        assert_eq!(row(&CASES[1], &rounds[3..])[1], Cell::Void);
    }
}
