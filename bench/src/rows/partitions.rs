//! The same batches to one partition and to many: what the number of partitions costs the server.

use std::time::Duration;

use anyhow::{Result, ensure};

use super::{Before, Bench, CHECKPOINTS_MIN, PROBE_COLUMNS, Used, WARM_MAX, micros, progress};
use crate::framework::median;
use crate::goal;
use crate::probe::{self, Probe};
use crate::server::Server;
use crate::table::{Cell, Column, Table};
use crate::wire::{self, Connection, Produce};

/// Compared in each round, in every second one the other way round.
const COMPARED: [u32; 3] = [1, 100, 1_000];
/// Only measured, once: that it works.
const MANY: u32 = 10_000;
/// Fewer rounds have no median to speak of.
const ROUNDS: u64 = 5;
const BATCH: usize = 500;
const EVENT_BYTES: usize = 100;
/// Batches before those that are measured, the same number for all that are compared: more than the journal ever
/// holds. Its files are made then and not in the measured time, and every partition has had eight batches at least
/// and checkpoints behind them: its segment and its sidecar are there.
const WARM_BATCHES: u64 = 8_000;

/// One measurement.
#[derive(Clone, Copy, Debug)]
struct Sample {
    partitions: u32,
    round: u64,
    events: u64,
    time: Duration,
    used: Used,
    probe: Probe,
}

impl Sample {
    fn cpu(&self) -> f64 {
        self.used.server_cpu * 1e6 / self.events as f64
    }

    fn rate(&self) -> f64 {
        self.events as f64 / self.time.as_secs_f64()
    }

    /// Whether groups are as large as with one partition, or the driver is to blame.
    fn events_per_sync(&self) -> f64 {
        self.events as f64 / self.used.syncs as f64
    }

    /// Calls of the server that write, to sockets too, where the system tells.
    fn calls_per_batch(&self) -> Option<f64> {
        Some(self.used.written?.calls as f64 * BATCH as f64 / self.events as f64)
    }

    fn counts(&self) -> bool {
        self.used.syncs > 0 && !self.probe.is_busy()
    }
}

pub(super) fn run(bench: &Bench) -> Result<Table> {
    // Four times as many as in other rows: there are to be checkpoints.
    let events = bench.options.events * 4;
    let warm = (events + WARM_BATCHES * BATCH as u64) * EVENT_BYTES as u64 * 2;
    probe::warm_memory(bench.scratch.path(), warm.min(WARM_MAX))?;
    let mut samples = Vec::new();
    for round in 1..=ROUNDS {
        let mut compared = COMPARED;
        if round.is_multiple_of(2) {
            compared.reverse();
        }
        for partitions in compared {
            progress(&format!("round {round} of {ROUNDS}, {partitions} partitions"));
            samples.push(sample(bench, partitions, round, events)?);
        }
    }
    progress(&format!("{MANY} partitions"));
    samples.push(sample(bench, MANY, 1, events)?);
    Ok(table(&samples, events))
}

fn sample(bench: &Bench, partitions: u32, round: u64, events: u64) -> Result<Sample> {
    let data = bench.fresh_dir()?;
    let probe = bench.probe()?;
    let server = bench.start(&data)?;
    let batches = (events / BATCH as u64).max(1);
    let (time, used) = server.blame(measure(&server, partitions, batches))?;
    Ok(Sample { partitions, round, events: batches * BATCH as u64, time, used, probe })
}

fn measure(server: &Server, partitions: u32, batches: u64) -> Result<(Duration, Used)> {
    let mut connection = Connection::open(&server.bootstrap())?;
    connection.create_topic("partitions", partitions, &[])?;
    let batch = wire::batch(BATCH, EVENT_BYTES)?;
    let mut request = Produce::new("partitions", &batch)?;
    connection.produce(&mut request, partitions, WARM_BATCHES.max(partitions.into()))?;
    let before = Before::now(server)?;
    connection.produce(&mut request, partitions, batches)?;
    let time = before.at.elapsed();
    let used = before.used(server)?;
    ensure!(
        used.appends == batches,
        "{batches} batches were acknowledged, and the server counts {}",
        used.appends
    );
    Ok((time, used))
}

fn table(samples: &[Sample], events: u64) -> Table {
    let columns = [
        Column::number("partitions", "partitions"),
        Column::number("acked/s", "acked_per_s"),
        Column::number("server CPU s/M", "server_cpu_s_per_million"),
        Column::number("÷ one partition", "cpu_per_one_partition"),
        Column::number("least", "cpu_per_one_partition_least"),
        Column::number("most", "cpu_per_one_partition_most"),
        goal::COLUMNS[0],
        goal::COLUMNS[1],
        Column::number("syncs/s", "syncs_per_s"),
        Column::number("checkpoints", "checkpoints"),
        Column::number("longest ms", "longest_journal_wait_ms"),
        Column::number("rounds", "rounds"),
        Column::number("events/sync", "events_per_sync"),
        Column::number("write calls/batch", "write_calls_per_batch"),
        Column::number("journal waits", "journal_waits"),
    ];
    let rows = COMPARED.into_iter().chain([MANY]).map(|partitions| row(samples, partitions));
    Table {
        key: "partitions",
        title: format!("Partitions: {events} events of 100 B, medians of {ROUNDS} rounds"),
        note: "Batches of 500 events, one in each request, to each partition in turn, 32 requests on their way \
               on one connection, by a driver of this program that makes the batch once. The ratio is that of \
               the CPU seconds of the same round. 8,000 batches come before those that are measured, and \
               10,000 where there are as many partitions: the journal has grown by then, and of those that are \
               compared every partition has its files. What the system writes back by itself, in the sync of all \
               files that checkpoints of more than 64 segments make, is not the server's CPU time. Events per \
               sync say whether groups were as large. 10,000 partitions are measured once. A round is void in \
               which the server did not sync, or in which the probe was above 250 µs.",
        rows: rows.collect(),
        columns: columns.into_iter().chain(PROBE_COLUMNS).collect(),
    }
}

fn row(samples: &[Sample], partitions: u32) -> Vec<Cell> {
    let all: Vec<&Sample> = samples.iter().filter(|sample| sample.partitions == partitions).collect();
    let counted: Vec<&Sample> = all.iter().copied().filter(|sample| sample.counts()).collect();
    let one = |round: u64| {
        let mut ones = samples.iter().filter(|sample| sample.partitions == 1 && sample.counts());
        ones.find(|sample| sample.round == round)
    };
    let ratios: Vec<f64> = match partitions {
        1 | MANY => Vec::new(),
        _ => counted.iter().filter_map(|s| one(s.round).map(|one| s.cpu() / one.cpu())).collect(),
    };
    let of = |figure: fn(&Sample) -> f64| median(counted.iter().map(|sample| figure(sample)).collect());
    let figure = |cell: Cell| if counted.is_empty() { Cell::Void } else { cell };
    let ratio = |value: f64| if ratios.is_empty() { Cell::Missing } else { Cell::Number(value, 2) };
    let checkpoints = counted.iter().map(|sample| sample.used.checkpoints).min().unwrap_or(0);
    let calls: Option<Vec<f64>> = counted.iter().map(|sample| sample.calls_per_batch()).collect();
    let calls = calls.filter(|calls| !calls.is_empty()).map(median);
    let longest = counted.iter().filter_map(|sample| sample.used.longest_wait_us).max();
    let probe = |figure: fn(&Probe) -> Duration| {
        Cell::rounded(median(all.iter().map(|sample| micros(figure(&sample.probe))).collect()))
    };
    let [asked, reached] = match partitions {
        1_000 => {
            let through = checkpoints >= CHECKPOINTS_MIN;
            goal::durable_cells("< 1.20", &[goal::below(median(ratios.clone()), 1.2)], through)
        }
        // All that was sent was acknowledged and counted, or there would be no figures.
        MANY => goal::cells("it works", &[(!all.is_empty()).then_some(true)]),
        _ => goal::cells("", &[]),
    };
    vec![
        Cell::Count(partitions.into()),
        figure(Cell::rounded(of(Sample::rate))),
        figure(Cell::Number(of(Sample::cpu), 2)),
        ratio(median(ratios.clone())),
        ratio(ratios.iter().copied().fold(f64::INFINITY, f64::min)),
        ratio(ratios.iter().copied().fold(0.0, f64::max)),
        asked,
        reached,
        figure(Cell::rounded(of(|sample| sample.used.syncs as f64 / sample.time.as_secs_f64()))),
        figure(Cell::Count(checkpoints)),
        longest.map_or(Cell::Missing, |us| Cell::Number(us as f64 / 1e3, 1)),
        Cell::Count(counted.len() as u64),
        figure(Cell::rounded(of(Sample::events_per_sync))),
        calls.map_or(Cell::Missing, |calls| Cell::Number(calls, 2)),
        figure(Cell::rounded(of(|sample| sample.used.journal_waits as f64))),
        probe(|probe| probe.p50),
        probe(|probe| probe.p99),
        Cell::text(remark(all.len(), counted.len(), checkpoints)),
    ]
}

fn remark(all: usize, counted: usize, checkpoints: u64) -> String {
    let void = (counted < all).then(|| format!("void rounds: {}", all - counted));
    let few = (counted > 0 && checkpoints < CHECKPOINTS_MIN)
        .then(|| format!("fewer than {CHECKPOINTS_MIN} checkpoints"));
    void.into_iter().chain(few).collect::<Vec<_>>().join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::process::Written;

    fn sample(partitions: u32, round: u64, server_cpu: f64, probe_us: u64) -> Sample {
        let used = Used {
            server_cpu,
            client_cpu: 0.1,
            written: Some(Written { calls: 5_000, bytes: 300_000_000 }),
            appends: 2_000,
            syncs: 700,
            checkpoints: 4,
            journal_waits: 0,
            longest_wait_us: Some(1_500),
        };
        let probe =
            Probe { p50: Duration::from_micros(probe_us), p99: Duration::from_micros(400), idle: 1.0 };
        Sample { partitions, round, events: 1_000_000, time: Duration::from_secs(1), used, probe }
    }

    /// The second round was slower for both, and the third is void for one of them.
    #[test]
    fn many_partitions_are_compared_with_one_in_the_same_round() {
        let samples = [
            sample(1, 1, 0.2, 100),
            sample(1_000, 1, 0.22, 100),
            sample(1_000, 2, 0.46, 100),
            sample(1, 2, 0.4, 100),
            sample(1, 3, 0.2, 900),
            sample(1_000, 3, 0.9, 100),
        ];
        let table = table(&samples, 1_000_000);
        assert!(table.rows.iter().all(|row| row.len() == table.columns.len()));
        let row = &table.rows[2];
        assert_eq!(row[0], Cell::Count(1_000));
        let Cell::Number(ratio, _) = row[3] else { panic!("{row:?}") };
        assert!((1.149..1.151).contains(&ratio), "{ratio}");
        assert_eq!((&row[7], &row[11]), (&Cell::text("yes"), &Cell::Count(3)));
        assert_eq!(table.rows[3][7], Cell::text("void"));
        assert_eq!(table.rows[0][17], Cell::text("void rounds: 1"));
        assert_eq!(table.rows[1][1], Cell::Void);
        // 1,000,000 events in 2,000 batches and 700 syncs.
        assert_eq!((&row[12], &row[13]), (&Cell::Count(1_429), &Cell::Number(2.5, 2)));
        assert_eq!((&row[14], &table.rows[1][13]), (&Cell::Count(0), &Cell::Missing));
    }

    #[test]
    fn too_few_checkpoints_are_said() {
        assert_eq!(remark(5, 5, 3), "");
        assert_eq!(remark(5, 5, 2), "fewer than 3 checkpoints");
        assert_eq!(remark(5, 0, 0), "void rounds: 5");
    }
}
