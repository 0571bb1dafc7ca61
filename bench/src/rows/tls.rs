//! The same batches with TLS and without: what it costs the server to decrypt what comes and to encrypt what goes.

use std::time::Duration;

use anyhow::{Result, ensure};

use super::{Before, Bench, PROBE_COLUMNS, USED_COLUMNS, Used, durable_row, progress, used_cells};
use crate::framework::median;
use crate::probe::Probe;
use crate::server::Server;
use crate::table::{Cell, Column, Table};
use crate::tls::Identity;
use crate::wire::{self, Connection, Produce};

/// Fewer rounds have no median to speak of.
const ROUNDS: u64 = 5;
const BATCH: usize = 500;
const EVENT_BYTES: usize = 100;
/// Batches before those that are measured.
const WARM_BATCHES: u64 = 100;
/// What a fetch asks for.
const FETCH_BYTES: u32 = 1 << 20;
const TOPIC: &str = "tls";

/// One measurement.
#[derive(Clone, Copy, Debug)]
struct Sample {
    tls: bool,
    round: u64,
    acked: Duration,
    read: Duration,
    used: Used,
    probe: Probe,
}

impl Sample {
    fn counts(&self) -> bool {
        self.used.syncs > 0 && !self.probe.is_busy()
    }
}

pub(super) fn run(bench: &Bench) -> Result<Table> {
    let batches = bench.options.events / BATCH as u64;
    let events = batches * BATCH as u64;
    let files = bench.fresh_dir()?;
    let identity = Identity::in_directory(files.path())?;
    let mut samples = Vec::new();
    for round in 1..=ROUNDS {
        let mut both = [false, true];
        if round.is_multiple_of(2) {
            both.reverse();
        }
        for tls in both {
            progress(&format!("round {round} of {ROUNDS}, TLS {}", name(tls)));
            samples.push(sample(bench, tls.then_some(&identity), round, batches)?);
        }
    }
    let columns = [
        Column::text("TLS", "tls"),
        Column::number("acked/s", "acked_per_s"),
        Column::number("read/s", "read_per_s"),
        Column::number("server CPU ÷ off", "cpu_per_off"),
        Column::number("rounds", "rounds"),
    ];
    Ok(Table {
        key: "tls",
        title: format!("TLS: {events} events of 100 B"),
        note: "Batches of 500 events, one in each request, 32 requests on their way on one connection, by a driver \
               of this program that makes the batch once; then all of it is read on another connection, a mebibyte \
               at a time. With TLS 1.3 and a key of ECDSA on P-256, by rustls and ring on both sides; the rows with \
               librdkafka have none, because theirs is built without OpenSSL. The server's CPU is that of both \
               halves. The ratio is the median of 5 rounds, and the other figures are those of the round whose \
               server CPU is in the middle.",
        columns: columns.into_iter().chain(USED_COLUMNS).chain(PROBE_COLUMNS).collect(),
        rows: [false, true].into_iter().map(|tls| row(&samples, tls, events)).collect(),
    })
}

fn name(tls: bool) -> &'static str {
    if tls { "on" } else { "off" }
}

fn sample(bench: &Bench, tls: Option<&Identity>, round: u64, batches: u64) -> Result<Sample> {
    let data = bench.fresh_dir()?;
    let probe = bench.probe()?;
    let server = bench.start_with(&data, tls)?;
    let (acked, read, used) = server.blame(measure(&server, batches))?;
    Ok(Sample { tls: tls.is_some(), round, acked, read, used, probe })
}

fn measure(server: &Server, batches: u64) -> Result<(Duration, Duration, Used)> {
    let bootstrap = server.bootstrap();
    let mut writer = Connection::open_with(&bootstrap, server.tls())?;
    writer.create_topic(TOPIC, 1, &[])?;
    let batch = wire::batch(BATCH, EVENT_BYTES)?;
    let mut request = Produce::new(TOPIC, &batch)?;
    writer.produce(&mut request, 1, WARM_BATCHES)?;
    let mut reader = Connection::open_with(&bootstrap, server.tls())?;
    reader.greet()?;
    let first = i64::try_from(WARM_BATCHES * BATCH as u64)?;
    let end = first + i64::try_from(batches * BATCH as u64)?;
    let before = Before::now(server)?;
    writer.produce(&mut request, 1, batches)?;
    let acked = before.at.elapsed();
    let mut offset = first;
    while offset < end {
        let (_, behind) = reader.fetch(TOPIC, offset, FETCH_BYTES)?;
        ensure!(behind > offset, "nothing comes behind offset {offset} of {end}");
        offset = behind;
    }
    let read = before.at.elapsed().saturating_sub(acked);
    let used = before.used(server)?;
    ensure!(
        used.appends == batches,
        "{batches} batches were acknowledged, and the server counts {}",
        used.appends
    );
    Ok((acked, read, used))
}

fn row(samples: &[Sample], tls: bool, events: u64) -> Vec<Cell> {
    let mut all: Vec<&Sample> = samples.iter().filter(|sample| sample.tls == tls).collect();
    all.sort_by(|one, other| one.used.server_cpu.total_cmp(&other.used.server_cpu));
    let counted: Vec<&Sample> = all.iter().copied().filter(|sample| sample.counts()).collect();
    // Where none counts, the row is void by its own figures.
    let Some(shown) = counted.get(counted.len() / 2).or(all.first()) else { return Vec::new() };
    let off = |round: u64| {
        let mut off = samples.iter().filter(|sample| !sample.tls && sample.counts());
        off.find(|sample| sample.round == round)
    };
    let ratios: Vec<f64> = counted
        .iter()
        .filter_map(|sample| Some(sample.used.server_cpu / off(sample.round)?.used.server_cpu))
        .collect();
    let rate = |time: Duration| Cell::rounded(events as f64 / time.as_secs_f64());
    let ratio = if ratios.is_empty() { Cell::Missing } else { Cell::Number(median(ratios), 2) };
    let mut figures = vec![rate(shown.acked), rate(shown.read), ratio, Cell::Count(counted.len() as u64)];
    figures.append(&mut used_cells(&shown.used, events, shown.acked));
    durable_row(name(tls).to_owned(), figures, &shown.used, &shown.probe)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(tls: bool, round: u64, server_cpu: f64, probe_us: u64) -> Sample {
        let used = Used {
            server_cpu,
            client_cpu: 0.9,
            written: None,
            appends: 4_000,
            syncs: 700,
            checkpoints: 3,
            journal_waits: 0,
            longest_wait_us: None,
        };
        let probe =
            Probe { p50: Duration::from_micros(probe_us), p99: Duration::from_micros(400), idle: 1.0 };
        let time = Duration::from_secs(1);
        Sample { tls, round, acked: time, read: time, used, probe }
    }

    /// The second round was slower for both, and the third is void for one of them.
    #[test]
    fn on_is_compared_with_off_in_the_same_round() {
        let samples = [
            sample(false, 1, 0.2, 100),
            sample(true, 1, 0.4, 100),
            sample(true, 2, 0.8, 100),
            sample(false, 2, 0.4, 100),
            sample(false, 3, 0.1, 900),
            sample(true, 3, 9.0, 100),
        ];
        let on = row(&samples, true, 1_000_000);
        assert_eq!(on.len(), 5 + USED_COLUMNS.len() + PROBE_COLUMNS.len());
        assert_eq!((&on[0], &on[3], &on[4]), (&Cell::text("on"), &Cell::Number(2.0, 2), &Cell::Count(3)));
        let off = row(&samples, false, 1_000_000);
        assert_eq!((&off[0], &off[3], &off[4]), (&Cell::text("off"), &Cell::Number(1.0, 2), &Cell::Count(2)));
    }
}
