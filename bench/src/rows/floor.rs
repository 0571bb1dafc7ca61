//! This machine's limit: what `floor.rs` reaches, which does the least.

use std::time::Duration;

use anyhow::{Context as _, Result};

use super::{Bench, PROBE_COLUMNS, micros, probe_cells, progress};
use crate::floor::{self, How, Until};
use crate::percentile;
use crate::table::{Cell, Column, Table};
use crate::wire;

/// Events of a batch, and batches on their way at the same time.
pub(super) const BATCH: usize = 500;
pub(super) const BATCHES_WAITING: usize = 8;
/// The floor is so much faster than anything else that the steps of its CPU time would show.
const MORE: u64 = 5;

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
    ];
    let rows: Result<Vec<_>> = CASES.iter().map(|case| row(bench, case)).collect();
    Ok(Table {
        key: "floor",
        title: "The floor".to_owned(),
        note: "One thread that receives from one connection, checksums each message, writes all that has come \
               to a file of zeros, syncs it (fdatasync) and acknowledges; where there is a segment, writes the \
               same to a file that grows. Eight batches are on their way at any time. Nothing that promises as \
               much does less; goals are parts of it.",
        columns: columns.into_iter().chain(PROBE_COLUMNS).collect(),
        rows: rows?,
    })
}

fn row(bench: &Bench, case: &Case) -> Result<Vec<Cell>> {
    progress(&format!("floor, {}", case.name));
    let dir = bench.fresh_dir()?;
    let probe = bench.probe()?;
    let until = if case.events == 1 {
        Until::Elapsed(bench.options.single_time)
    } else {
        let events = if case.bytes == 100 { bench.options.events } else { bench.options.large_events };
        Until::Messages(events * MORE / case.events as u64)
    };
    let message = wire::batch(case.events, case.bytes)?;
    let mut taken = floor::measure(dir.path(), case.how, &message, case.waiting, until)?;
    let (p50, p99) = percentile::median_and_99th(&mut taken.waits).context("nothing was acknowledged")?;
    let [p50, p99] = [p50, p99].map(|nanos| Duration::from_nanos(nanos.into()));
    let events = taken.acks as f64 * case.events as f64;
    let mut figures = vec![
        Cell::rounded(taken.per_second() * case.events as f64),
        Cell::rounded(micros(p50)),
        Cell::rounded(micros(p99)),
        Cell::Number(p50.as_secs_f64() / probe.p50.as_secs_f64(), 1),
        Cell::Number(taken.server_cpu * 1e6 / events, 3),
    ];
    if probe.is_busy() && case.how != How::Write {
        figures.fill(Cell::Void);
    }
    let mut row = vec![Cell::text(case.name)];
    row.append(&mut figures);
    row.append(&mut probe_cells(&probe, None));
    Ok(row)
}
