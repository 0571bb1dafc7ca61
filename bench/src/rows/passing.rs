//! From a producer to a consumer at a steady rate: how long an event takes, with its sync on the way.

use std::time::Duration;

use anyhow::{Context as _, Result};

use super::{Before, Bench, PROBE_COLUMNS, USED_COLUMNS, Used, durable_row, micros, progress, used_cells};
use crate::client::TOPIC;
use crate::goal;
use crate::passing::{self, PER_SECOND, Receiver, Sender};
use crate::percentile;
use crate::server::Server;
use crate::table::{Cell, Column, Table};
use crate::wire::Connection;

/// Events before those that count: a second of them.
const WARM_UP: u64 = PER_SECOND;
const ASKED: &str = "p50 ≤ 350 µs, p99 ≤ 1,200 µs";

/// Makes a producer and a consumer of a topic that is there.
type Clients = fn(&str) -> Result<(Box<dyn Sender>, Box<dyn Receiver>)>;

pub(super) fn run(bench: &Bench) -> Result<Table> {
    let events = bench.options.single_time.as_secs() * PER_SECOND;
    progress("producer to consumer");
    let asked = row(bench, events, "100 B, one by one", ASKED, passing::by_librdkafka)?;
    progress("producer to consumer, without a library");
    let lean =
        row(bench, events, "100 B, one by one, clients without a library", "", passing::without_library)?;
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
               librdkafka. The producer goes by the clock and waits for nobody. Clients without a library speak the \
               same protocol, one request for each event and one at a time to read, and no thread hands an event to \
               another.",
        columns: columns.into_iter().chain(USED_COLUMNS).chain(PROBE_COLUMNS).collect(),
        rows: vec![asked, lean],
    })
}

fn row(bench: &Bench, events: u64, name: &str, asked: &str, clients: Clients) -> Result<Vec<Cell>> {
    let data = bench.fresh_dir()?;
    let probe = bench.probe()?;
    let server = bench.start(&data)?;
    let (mut taken, time, used) = server.blame(measure(&server, events, clients))?;
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
    let mut row = durable_row(name.to_owned(), figures, &used, &probe);
    drop(row.splice(1..1, goal::cells(asked, &met)));
    Ok(row)
}

/// What each event took in nanoseconds, and how long they were sent for.
fn measure(server: &Server, events: u64, clients: Clients) -> Result<(Vec<u64>, Duration, Used)> {
    let bootstrap = server.bootstrap();
    Connection::open(&bootstrap)?.create_topic(TOPIC, 1, &[])?;
    let (sender, receiver) = clients(&bootstrap)?;
    let taken = passing::measure(sender, receiver, WARM_UP, events, || Before::now(server))?;
    let used = taken.before.used(server)?;
    Ok((taken.waits, taken.time, used))
}
