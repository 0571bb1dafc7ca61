//! Batches, acknowledged when they are on disk, while one consumer reads them.

use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result};

use super::floor::{BATCH, BATCHES_WAITING};
use super::{Before, Bench, PROBE_COLUMNS, USED_COLUMNS, Used, WARM_MAX, durable_row, progress, used_cells};
use crate::client::{Reader, Writer};
use crate::floor::{self, How, Until};
use crate::probe;
use crate::server::Server;
use crate::table::{Cell, Column, Table};
use crate::wire;

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

    fn wanted(&self) -> &'static str {
        match (self.bytes, self.idempotent) {
            (100, false) => "≤ 0.40 s/M, ≥ 0.70 of the limit",
            (1024, false) => "≤ 1.60 s/M, ≥ 0.60 × floor",
            _ => "",
        }
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
        Column::text("wanted", "wanted"),
        Column::number("acked/s", "acked_per_s"),
        Column::number("read/s", "read_per_s"),
        Column::number("of the limit", "read_per_limit"),
        Column::number("× floor", "acked_per_floor"),
    ];
    let columns = columns.into_iter().chain(USED_COLUMNS).chain(PROBE_COLUMNS);
    Ok(Table {
        key: "batch",
        title: format!("Batches: {events} events of 100 B, {large_events} of 1 KiB"),
        note: "One producer (linger 5 ms, acks=all, no compression) and one concurrent consumer \
               (assign, no group), one partition. CPU is that of producing and consuming together. The limit \
               of events read per second is the number of CPUs ÷ the CPU time of server and client per event, \
               of the same run; the floor writes every byte twice, as the log does, and was measured just \
               before.",
        columns: columns.collect(),
        rows,
    })
}

fn row(bench: &Bench, load: &Load) -> Result<Vec<Cell>> {
    let floor = floor_of(bench, load)?;
    let data = bench.fresh_dir()?;
    let probe = bench.probe()?;
    let server = bench.start(&data)?;
    let outcome = server.blame(measure(&server, load))?;
    let events = load.events as f64;
    let (acked, read) = (events / outcome.acked.as_secs_f64(), events / outcome.read.as_secs_f64());
    let cpus = thread::available_parallelism().context("the CPUs cannot be counted")?.get();
    let limit = cpus as f64 * events / (outcome.used.server_cpu + outcome.used.client_cpu);
    let mut figures = vec![
        Cell::rounded(acked),
        Cell::rounded(read),
        Cell::Number(read / limit, 2),
        Cell::Number(acked / floor, 2),
    ];
    figures.append(&mut used_cells(&outcome.used, load.events, outcome.acked));
    let mut row = durable_row(load.name(), figures, &outcome.used, &probe);
    row.insert(1, Cell::text(load.wanted()));
    Ok(row)
}

/// Events per second of a floor that writes journal and segment.
fn floor_of(bench: &Bench, load: &Load) -> Result<f64> {
    let dir = bench.fresh_dir()?;
    let message = wire::batch(BATCH, load.bytes)?;
    let until = Until::Messages(load.events / BATCH as u64);
    let taken = floor::measure(dir.path(), How::SyncAndSegment, &message, BATCHES_WAITING, until)?;
    Ok(taken.per_second() * BATCH as f64)
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
