//! The client's own limit: librdkafka against the mock that it brings along, in the same process. What a server
//! reaches with this client is a part of it.

use std::time::Instant;

use anyhow::Result;

use super::{Bench, progress};
use crate::client::Writer;
use crate::framework::median;
use crate::process;
use crate::table::{Cell, Column, Table};

/// Fewer rounds have no median to speak of.
const ROUNDS: u64 = 5;

/// Events per second, and CPU seconds of client and mock for a million of them.
type Taken = (f64, f64);

pub(super) fn run(bench: &Bench) -> Result<Table> {
    let loads =
        [("500 × 100 B", 100, bench.options.events), ("500 × 1 KiB", 1024, bench.options.large_events)];
    let mut rows = Vec::new();
    for (name, bytes, events) in loads {
        progress(&format!("the client alone, {name}"));
        let rounds: Result<Vec<Taken>> = (0..ROUNDS).map(|_| measure(bytes, events)).collect();
        rows.push(row(name, &rounds?));
    }
    Ok(Table {
        key: "client",
        title: "The client".to_owned(),
        note: "One producer (linger 5 ms, batches of 500, acks=all, no compression) against librdkafka's mock, \
               which keeps little and stores nothing; medians of 5 rounds. CPU is that of both.",
        columns: vec![
            Column::text("the client alone", "load"),
            Column::number("acked/s", "acked_per_s"),
            Column::number("least", "acked_per_s_least"),
            Column::number("most", "acked_per_s_most"),
            Column::number("CPU s/M", "cpu_s_per_million"),
        ],
        rows,
    })
}

fn measure(bytes: usize, events: u64) -> Result<Taken> {
    let mut writer = Writer::on_mock(bytes)?;
    writer.send(1)?;
    let cpu = process::cpu_seconds(std::process::id())?;
    let begun = Instant::now();
    let acked = writer.send(events)?.duration_since(begun);
    let cpu = process::cpu_seconds(std::process::id())? - cpu;
    Ok((events as f64 / acked.as_secs_f64(), cpu * 1e6 / events as f64))
}

fn row(name: &str, rounds: &[Taken]) -> Vec<Cell> {
    let rates = || rounds.iter().map(|(rate, _)| *rate);
    vec![
        Cell::text(name),
        Cell::rounded(median(rates().collect())),
        Cell::rounded(rates().fold(f64::INFINITY, f64::min)),
        Cell::rounded(rates().fold(0.0, f64::max)),
        Cell::Number(median(rounds.iter().map(|(_, cpu)| *cpu).collect()), 2),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rate_and_cpu_are_medians_of_their_own() {
        let row = row("load", &[(3e6, 0.3), (1e6, 0.5), (2e6, 0.4)]);
        let shown = [Cell::Count(2_000_000), Cell::Count(1_000_000), Cell::Count(3_000_000)];
        assert_eq!(row[1..4], shown);
        assert_eq!(row[4], Cell::Number(0.4, 2));
    }
}
