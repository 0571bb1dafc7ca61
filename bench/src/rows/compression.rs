//! Compressed batches: the server stores and serves them as they came, so it has fewer bytes and the client more
//! to do.

use std::time::Duration;

use anyhow::Result;

use super::{Before, Bench, PROBE_COLUMNS, USED_COLUMNS, Used, WARM_MAX, durable_row, progress, used_cells};
use crate::client::{Codec, Reader, Writer};
use crate::framework::median;
use crate::probe::{self, Probe};
use crate::server::Server;
use crate::table::{Cell, Column, Table};

/// Fewer rounds have no median to speak of.
const ROUNDS: u64 = 5;
const EVENT_BYTES: usize = 100;
/// What all are compared with, and comes first.
const PLAIN: Codec = Codec::None;

/// One codec in one round.
#[derive(Clone, Copy, Debug)]
struct Sample {
    codec: Codec,
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
    // Half of the usual number: what counts here is CPU.
    let events = bench.options.events / 2;
    probe::warm_memory(bench.scratch.path(), (events * EVENT_BYTES as u64 * 2).min(WARM_MAX))?;
    let mut samples = Vec::new();
    for round in 1..=ROUNDS {
        let mut codecs = Codec::ALL;
        if round.is_multiple_of(2) {
            codecs.reverse();
        }
        for codec in codecs {
            progress(&format!("round {round} of {ROUNDS}, compression {}", codec.name()));
            samples.push(sample(bench, codec, round, events)?);
        }
    }
    let columns = [
        Column::text("compression", "compression"),
        Column::number("acked/s", "acked_per_s"),
        Column::number("read/s", "read_per_s"),
        Column::number("server CPU ÷ none", "cpu_per_none"),
        Column::number("rounds", "rounds"),
    ];
    Ok(Table {
        key: "compression",
        title: format!("Compression: {events} events of 100 B"),
        note: "Batches of 500 of one producer (linger 5 ms, acks=all), compressed by it, and one concurrent \
               consumer; events are JSON with numbers that change. The topic takes what comes \
               (`compression.type=producer`). The ratio is the median of 5 rounds, and the other figures are \
               those of the round whose server CPU is in the middle.",
        columns: columns.into_iter().chain(USED_COLUMNS).chain(PROBE_COLUMNS).collect(),
        rows: Codec::ALL.into_iter().map(|codec| row(&samples, codec, events)).collect(),
    })
}

fn sample(bench: &Bench, codec: Codec, round: u64, events: u64) -> Result<Sample> {
    let data = bench.fresh_dir()?;
    let probe = bench.probe()?;
    let server = bench.start(&data)?;
    let (acked, read, used) = server.blame(measure(&server, codec, events))?;
    Ok(Sample { codec, round, acked, read, used, probe })
}

fn measure(server: &Server, codec: Codec, events: u64) -> Result<(Duration, Duration, Used)> {
    let bootstrap = server.bootstrap();
    let mut writer = Writer::compressed(&bootstrap, EVENT_BYTES, codec)?;
    writer.send(1)?;
    let mut reader = Reader::start(&bootstrap, 1 + events)?;
    reader.wait_for_first()?;
    let before = Before::now(server)?;
    let acked = writer.send(events)?.duration_since(before.at);
    let read = reader.finish()?.duration_since(before.at);
    Ok((acked, read, before.used(server)?))
}

fn row(samples: &[Sample], codec: Codec, events: u64) -> Vec<Cell> {
    let mut all: Vec<&Sample> = samples.iter().filter(|sample| sample.codec == codec).collect();
    all.sort_by(|one, other| one.used.server_cpu.total_cmp(&other.used.server_cpu));
    let counted: Vec<&Sample> = all.iter().copied().filter(|sample| sample.counts()).collect();
    // Where none counts, the row is void by its own figures.
    let Some(shown) = counted.get(counted.len() / 2).or(all.first()) else { return Vec::new() };
    let plain = |round: u64| {
        let mut plain = samples.iter().filter(|sample| sample.codec == PLAIN && sample.counts());
        plain.find(|sample| sample.round == round)
    };
    let ratios: Vec<f64> = counted
        .iter()
        .filter_map(|sample| Some(sample.used.server_cpu / plain(sample.round)?.used.server_cpu))
        .collect();
    let rate = |time: Duration| Cell::rounded(events as f64 / time.as_secs_f64());
    let ratio = if ratios.is_empty() { Cell::Missing } else { Cell::Number(median(ratios), 2) };
    let mut figures = vec![rate(shown.acked), rate(shown.read), ratio, Cell::Count(counted.len() as u64)];
    figures.append(&mut used_cells(&shown.used, events, shown.acked));
    durable_row(codec.name().to_owned(), figures, &shown.used, &shown.probe)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(codec: Codec, round: u64, server_cpu: f64, probe_us: u64) -> Sample {
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
        Sample { codec, round, acked: time, read: time, used, probe }
    }

    /// The second round was slower for both, and the third is void for one of them.
    #[test]
    fn a_codec_is_compared_with_none_in_the_same_round() {
        let samples = [
            sample(Codec::None, 1, 0.4, 100),
            sample(Codec::Zstd, 1, 0.2, 100),
            sample(Codec::Zstd, 2, 0.4, 100),
            sample(Codec::None, 2, 0.8, 100),
            sample(Codec::None, 3, 0.1, 900),
            sample(Codec::Zstd, 3, 9.0, 100),
        ];
        let row = row(&samples, Codec::Zstd, 1_000_000);
        assert_eq!(row.len(), 5 + USED_COLUMNS.len() + PROBE_COLUMNS.len());
        assert_eq!((&row[0], &row[3]), (&Cell::text("zstd"), &Cell::Number(0.5, 2)));
        assert_eq!((&row[4], &row[5]), (&Cell::Count(3), &Cell::Number(0.4, 2)));
    }

    #[test]
    fn without_a_round_that_counts_the_row_is_void() {
        let row = row(&[sample(Codec::Lz4, 1, 0.4, 900)], Codec::Lz4, 1_000_000);
        assert_eq!(row.len(), 5 + USED_COLUMNS.len() + PROBE_COLUMNS.len());
        assert!(row[1..5].iter().all(|cell| *cell == Cell::Void), "{row:?}");
    }
}
