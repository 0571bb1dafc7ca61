//! Batches, acknowledged when they are on disk, while one consumer reads them.

use std::time::Duration;

use anyhow::Result;

use super::{Before, Bench, PROBE_COLUMNS, USED_COLUMNS, Used, durable_row, progress, used_cells};
use crate::client::{Reader, Writer};
use crate::probe;
use crate::server::Server;
use crate::table::{Cell, Column, Table};

/// Data of a run that memory is warmed for at most.
const WARM_MAX: u64 = 2 << 30;

/// One kind of load.
#[derive(Clone, Copy)]
struct Load {
    bytes: usize,
    events: u64,
    idempotent: bool,
}

impl Load {
    fn name(&self) -> String {
        let size = if self.bytes == 1024 { "1 KiB".to_owned() } else { format!("{} B", self.bytes) };
        let idempotent = if self.idempotent { ", idempotent" } else { "" };
        format!("500 × {size}{idempotent}")
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
    let loads = [(100, events), (1024, large_events)]
        .map(|(bytes, events)| [false, true].map(|idempotent| Load { bytes, events, idempotent }));
    let mut rows = Vec::new();
    // Every byte is written twice: journal and segment.
    let warm = (large_events * 1024 * 2).min(WARM_MAX);
    progress(&format!("warming {} MiB of memory", warm >> 20));
    probe::warm_memory(bench.scratch.path(), warm)?;
    for load in loads.as_flattened() {
        progress(&format!("{} events, {}", load.events, load.name()));
        rows.push(row(bench, load)?);
    }
    let columns = [
        Column::text("durable batches", "load"),
        Column::number("acked/s", "acked_per_s"),
        Column::number("read/s", "read_per_s"),
    ];
    let columns = columns.into_iter().chain(USED_COLUMNS).chain(PROBE_COLUMNS);
    Ok(Table {
        key: "batch",
        title: format!("Batches: {events} events of 100 B, {large_events} of 1 KiB"),
        note: "One producer (linger 5 ms, acks=all, no compression) and one concurrent consumer \
               (assign, no group), one partition. CPU is that of producing and consuming together.",
        columns: columns.collect(),
        rows,
    })
}

fn row(bench: &Bench, load: &Load) -> Result<Vec<Cell>> {
    let data = bench.fresh_dir()?;
    let probe = bench.probe()?;
    let server = bench.start(&data)?;
    let outcome = server.blame(measure(&server, load))?;
    let events = load.events;
    let mut figures = vec![
        Cell::rounded(events as f64 / outcome.acked.as_secs_f64()),
        Cell::rounded(events as f64 / outcome.read.as_secs_f64()),
    ];
    figures.append(&mut used_cells(&outcome.used, events, outcome.acked));
    Ok(durable_row(load.name(), figures, &outcome.used, &probe))
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
