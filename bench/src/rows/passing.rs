//! From a producer to a consumer at a steady rate: how long an event takes, with its sync on the way.

use std::time::Duration;

use anyhow::{Context as _, Result};

use super::{Before, Bench, PROBE_COLUMNS, USED_COLUMNS, Used, durable_row, micros, progress, used_cells};
use crate::client::TOPIC;
use crate::goal;
use crate::passing::{self, PER_SECOND};
use crate::percentile;
use crate::server::Server;
use crate::table::{Cell, Column, Table};
use crate::wire::Connection;

/// Events before those that count: a second of them.
const WARM_UP: u64 = PER_SECOND;
const ASKED: &str = "p50 ≤ 350 µs, p99 ≤ 1,200 µs";

pub(super) fn run(bench: &Bench) -> Result<Table> {
    let events = bench.options.single_time.as_secs() * PER_SECOND;
    progress("producer to consumer");
    let data = bench.fresh_dir()?;
    let probe = bench.probe()?;
    let server = bench.start(&data)?;
    let (mut taken, time, used) = server.blame(measure(&server, events))?;
    let (p50, p99) = percentile::median_and_99th(&mut taken).context("nothing was read")?;
    let [p50, p99] = [p50, p99].map(Duration::from_nanos);
    let mut figures = vec![
        Cell::rounded(events as f64 / time.as_secs_f64()),
        Cell::rounded(micros(p50)),
        Cell::rounded(micros(p99)),
        Cell::Number(p50.as_secs_f64() / probe.p50.as_secs_f64(), 1),
    ];
    figures.append(&mut used_cells(&used, events, time));
    let counts = used.syncs > 0 && !probe.is_busy();
    let of = |time: Duration| if counts { micros(time) } else { f64::NAN };
    let met = [goal::at_most(of(p50), 350.0), goal::at_most(of(p99), 1_200.0)];
    let mut row = durable_row("100 B, one by one".to_owned(), figures, &used, &probe);
    drop(row.splice(1..1, goal::cells(ASKED, &met)));
    let columns = [
        Column::text("producer to consumer", "load"),
        goal::COLUMNS[0],
        goal::COLUMNS[1],
        Column::number("events/s", "events_per_s"),
        Column::number("p50 µs", "p50_us"),
        Column::number("p99 µs", "p99_us"),
        Column::number("p50 × probe", "p50_per_probe"),
    ];
    Ok(Table {
        key: "passing",
        title: format!("Producer to consumer: {events} events at {PER_SECOND} per second"),
        note: "Each event carries the moment in which the producer handed it to librdkafka (linger 0, acks=all, \
               idempotence off, without Nagle's algorithm), and is compared when the consumer has it from \
               librdkafka. The producer goes by the clock and waits for nobody.",
        columns: columns.into_iter().chain(USED_COLUMNS).chain(PROBE_COLUMNS).collect(),
        rows: vec![row],
    })
}

/// What each event took in nanoseconds, and how long they were sent for.
fn measure(server: &Server, events: u64) -> Result<(Vec<u64>, Duration, Used)> {
    let bootstrap = server.bootstrap();
    Connection::open(&bootstrap)?.create_topic(TOPIC, 1, &[])?;
    let (sender, receiver) = passing::by_librdkafka(&bootstrap)?;
    let taken = passing::measure(sender, receiver, WARM_UP, events, || Before::now(server))?;
    let used = taken.before.used(server)?;
    Ok((taken.waits, taken.time, used))
}
